"""`export --to perfetto`, read by hand: the wire format, and every event once.

The descriptors that Perfetto publishes read it in tests/consumers, which `make test-consumers` runs.
"""

from __future__ import annotations

from collections import Counter

import pytest

from replay.export.protobuf import double, fixed64, message, number, text, varint
from tests.support.exported import LIVES, export, written
from tracer.events import KINDS, kind_name


def fields(data):
    """Yield (field number, value) of a message: a number, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            size = 8 if tag & 7 == 1 else varint()
            assert at + size <= len(data)
            yield tag >> 3, data[at : at + size]
            at += size
    assert at == len(data)


@pytest.mark.parametrize("life", LIVES)
def test_every_event_is_drawn_once_in_the_category_of_its_kind(life, tmp_path):
    events = written(tmp_path / "a.itstrace", life)
    assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b") == 0
    packets = [dict(fields(data)) for _, data in fields((tmp_path / "b").read_bytes())]
    told = [dict(fields(entry)) for field, entry in fields(packets[0][12]) if field == 1]
    names = {entry[1]: entry[2].decode() for entry in told}
    drawn = [dict(fields(packet[11])) for packet in packets if 11 in packet]
    counted = Counter(names[each[3]] for each in drawn if each[9] in (1, 3))
    wanted = Counter(kind_name(e[0]) if e[0] in KINDS else "unknown" for e in events)
    for each in ("context", "queue", "verdict"):  # not drawn, and drawn beside the events
        del wanted[each], counted[each]
    assert counted == wanted
    assert sum(each[9] == 1 for each in drawn) == sum(each[9] == 2 for each in drawn)


def test_a_trace_goes_to_standard_output(tmp_path, capfdbinary):
    written(tmp_path / "a.itstrace", "small")
    assert export(tmp_path / "a.itstrace", "perfetto", "-") == 0
    assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b") == 0
    assert capfdbinary.readouterr().out == (tmp_path / "b").read_bytes()


def test_nothing_of_the_recorders_machine_is_told(tmp_path):
    written(tmp_path / "a.itstrace", "small", annotations={"note": "secret"})
    assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b") == 0
    data = (tmp_path / "b").read_bytes()
    assert b"secret" not in data
    assert b"qemu-tcg 7.2.22" in data


def test_fields_are_as_the_wire_format_has_them():
    # From the examples of the format's own description.
    assert varint(150) == b"\x96\x01"
    assert number(1, 150) == b"\x08\x96\x01"
    assert text(2, "testing") == b"\x12\x07testing"
    assert message(3, number(1, 150)) == b"\x1a\x03\x08\x96\x01"
    assert number(1, -2) == b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    assert fixed64(1, 2**64 - 1) == b"\x09" + b"\xff" * 8
    assert double(1, 1.0) == b"\x09\x00\x00\x00\x00\x00\x00\xf0\x3f"
    assert varint(2**64 - 1) == b"\xff" * 9 + b"\x01"
