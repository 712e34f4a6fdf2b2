from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest

from replay import cli
from tests.support.captures import TRACES, TWO_BOOTS_TIMED, open_capture
from tracer.events import NUMBER, Event
from tracer.log import codec
from tracer.log.checks import PayloadError, check_event
from tracer.log.opening import open_trace
from tracer.log.plain import are_plain


def wire_of(events: Any) -> bytes:
    return b"".join(map(msgpack.packb, events))


def judged(*events: Any) -> bool:
    return are_plain(events, wire_of(events))


# -- what is plain: where it is not, a reader takes three times as long


def test_captures_are_plain(tmp_path: Path):
    kvm = tmp_path / "kvm.itstrace"
    assert (
        cli.main(["import", str(TRACES / "kvm-6.1.192-kexec.stream.txt.gz"), "-o", str(kvm)]) == 0
    )
    with open_trace(str(kvm)) as of_kvm:
        for reader in (open_capture(TWO_BOOTS_TIMED), of_kvm):
            events = [event for _, block in reader for event in block]
            assert judged(*events)
            assert judged(*events * 10)


def test_times_may_be_negative():
    for dt_ns in (-1, -32, -33, -128, -129, -(2**15), -(2**31), -(2**31) - 1, -(2**63)):
        assert judged((1, 5, 1, 2), (9, dt_ns), (9, dt_ns), (71, dt_ns, *[0] * 6))


# -- what is not


GOOD: tuple[Event, ...] = ((1, 0, 0, 0), (71, -5, *[0] * 6))


@pytest.mark.parametrize(
    "event",
    [
        (1, 0, -5, 0),
        (1, -5, -5, 0),
        (1, 0, 0, -(2**63)),
        (-5, 0),
        (1, 0, True, 0),
        (1, False, 0, 0),
        (1, 0, 0xC2C3, True),
        (True, 0, 0, 0),
        (1, 0, None, 0),
        (1, 0, 1.0, 0),
        (1, 0, b"", 0),
        (1, 0, "", 0),
        (1, 0, "text", 0),
        (1, 0, {}, 0),
        (1, 0, (), 0),
        (1, 0, (1, 2), 0),
        (1, 0, 0, (1, 0)),
        (1, 0, 0, msgpack.ExtType(5, b"x")),
        b"\x01\x00\x08\x08",
        (),
        (1,),
        (1, 0, 0),
        (1, 0, 0, 0, 8, 0, 0, 0),
        (1, 0, 0, 0, 8, 3),
        (8, 0, 5),
        (8, 0, 0, 3),
        (2, 0, 0, 0, 0, 4, 0, 4),
        (40, 0),
        (200, 0, 1),
        (6, 0, 0, 0),
        (129, 0, 0),
        (69, 0, 1, 2**63),
        (69, 0, 1, -11),
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_what_is_not_plain(event: Any):
    for events in ((event,), (*GOOD, event), (event, *GOOD), (*GOOD, event, *GOOD)):
        assert not judged(*events)


def test_one_limit_is_below_2_63():
    assert judged((NUMBER["msi.result"], 0, 1, 2**63 - 1))
    assert not judged((NUMBER["msi.result"], 0, 1, 2**63))


@pytest.mark.parametrize("size", [13, 15, 16, 17, 64, 127, 128, 129, 200, 255, 256, 300])
def test_an_event_is_longer_than_any_of_its_kind(size: int):
    # Lengths are compared as bytes, where those above 127 pass.
    long = (1, 0, *[0] * (size - 2))
    for events in ([long], [*GOOD, long], [long, *GOOD], [(71, *[0] * 11), long, *GOOD]):
        assert not judged(*events)


def test_a_negative_time_does_not_excuse_a_negative_field():
    # The bytes of the time stand before it, where something is negative that must not be.
    for dt_ns in (-1, -100, -40_000):
        assert not judged((1, 0, dt_ns, 0), (9, dt_ns))
        assert not judged((1, dt_ns, dt_ns, 0))
        assert not judged((9, dt_ns), (1, 0, 0, dt_ns))


def test_the_wire_is_that_of_the_events():
    # As many numbers, in other places: an array in an event is no event.
    assert not are_plain(((9, 0), (9, 0)), wire_of([(9, 0)]))
    assert not are_plain(((9, 0),), wire_of([(9, 0), (9, 0)]))
    assert not are_plain(((9, 0),), b"")


def test_numbers_may_be_longer_than_they_need():
    for head, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8), (0xD0, 1), (0xD3, 8)):
        number = bytes([head]) + (5).to_bytes(size)
        raw = b"\x92\x00\x91\x94" + b"\x01" + number * 3
        assert codec.unpack_events(raw) == (0, ((1, 5, 5, 5),))


# -- it lets through nothing that the rule does not (see also `test_the_fast_check_...` in test_codec)


def mutations(wire: bytes, random: Random) -> Iterator[bytes]:
    """Yield a wire with single bytes changed, most of them into what begins something else."""
    while True:
        mutant = bytearray(wire)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(mutant))
            if random.random() < 0.3:
                mutant[at:at] = [random.randrange(0x80, 256)]
            else:
                mutant[at] = random.choice((random.randrange(256), random.randrange(0xC0, 0xE8)))
        yield bytes(mutant)


def test_of_mutated_wires_only_right_ones_are_plain():
    random = Random(8)
    plain = 0
    events = [(1, 0xC2, 0x92D0, 2), (71, -300, 1, 0, 3, 0xD1FED4, 5, 6), (8, -3, 1), (9, 7)]
    for mutant, _ in zip(mutations(wire_of(events), random), range(20_000), strict=False):
        unpacker = msgpack.Unpacker(use_list=False, raw=False, strict_map_key=False)
        unpacker.feed(mutant)
        try:
            found = tuple(unpacker)
        except (ValueError, TypeError, msgpack.UnpackException):
            continue
        if unpacker.tell() != len(mutant) or not are_plain(found, mutant):
            continue
        plain += 1
        for event in found:
            try:
                check_event(event)
            except PayloadError as error:
                raise AssertionError(f"{mutant.hex()}: {error}") from error
    assert plain > 2000
