"""`export --to ctf`, read back by Babeltrace 2: every event, every field, every time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from replay import cli
from replay.export import ctf
from tests.replay.test_export_any import HEADERS, TIMES, timed as with_times
from tests.support.any_events import EVENTS
from tests.support.captures import TRACES
from tests.support.consumers import SYSTEM_PYTHON, needs_consumers
from tests.support.exported import LIVES, TEXT, export, known_fields, timed, write, written
from tests.support.traces import small_header
from tracer.events import KINDS, NUMBER, kind_name, make
from tracer.its import commands
from tracer.its.registers import gicr_register, its_register
from tracer.log.opening import open_trace

pytestmark = needs_consumers
READER = Path(__file__).parents[1] / "support" / "ctf_reader.py"
FIND = {"reg": its_register, "gicr": gicr_register}
CAPTURES = (
    "qemu-7.2.22-linux-6.1-two-boots.timestamps.log",
    "qemu-7.2.22-linux-6.1-two-boots.log",
    "kvm-6.1.192-boot-stop-reset-boot.stream.txt.gz",
    "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz",
)


def read(folder):
    """Return (environment, uuid, frequency, ...) of the trace, its events, what it says was lost."""
    done = subprocess.run(
        [SYSTEM_PYTHON, READER, folder], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    traces = [row[1:] for row in rows if row[0] == "trace"]
    lost = [row[1] for row in rows if row[0] == "discarded"]
    events = [row for row in rows if row[0] not in ("trace", "discarded")]
    return traces[0], sorted(events, key=lambda row: row[3]), lost


def shown(event):
    """Return an event's fields as Babeltrace is to show them."""
    found = {}
    for field in KINDS[event[0]].fields:
        value = known_fields(event)[field.name]
        if isinstance(field.form, tuple) and value is not None:
            value = [value, [field.form[value]]]
        elif field.form == "bytes":
            found[f"{field.name}_length"] = len(value)
            value = value.hex()
        elif field.form == "text":
            value = json.dumps(value)[1:-1]
        elif field.name == "offset" and (find := FIND.get(kind_name(event[0]).split(".")[0])):
            register = find(value)
            value = [value, [register[0]] if register else []]
        if field.default is None:
            known = value is not None
            found[f"{field.name}_is"] = [int(known), ["known" if known else "null"]]
        found[field.name] = value
    if event[0] == NUMBER["command"]:
        opcode = event[4] & 0xFF
        names = {each.value: each.name for each in commands.Opcode}
        found["command"] = [opcode, [names[opcode]] if opcode in names else []]
    return found


def check(path, folder):
    """Compare a CTF trace with the trace that it was made of."""
    with open_trace(str(path)) as reader:
        events = [event for _, frame in reader for event in frame]
        header = reader.header
    trace, rows, _ = read(folder)
    assert len(rows) == len(events)
    clocks = {}
    for row, (seq, time_ns, event) in zip(rows, timed(events), strict=True):
        kind, clock, stream, seq_read, time_read, fields = row
        assert (seq_read, time_read) == (seq, time_ns)
        if event[0] in KINDS:
            assert kind == kind_name(event[0])
            assert (fields or {}) == shown(event)
        else:
            assert kind == "unknown"
            assert fields["kind"] == event[0]
            values = json.dumps(event[2:], default=lambda item: item.hex())
            assert fields["fields"] == json.dumps(values)[1:-1]
        now = time_ns if header.clock != "none" else seq
        clocks[stream] = max(clocks.get(stream, 0), now)
        assert clock == clocks[stream]
    return trace, rows


@pytest.mark.parametrize("name", CAPTURES)
def test_every_event_of_a_capture_is_as_the_trace_has_it(name, tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    assert cli.main(["import", str(TRACES / name), "-o", str(trace)]) == 0
    assert export(trace, "ctf", made) == 0
    check(trace, made)


@pytest.mark.parametrize("order", ["total", "per_cpu"])
@pytest.mark.parametrize("life", LIVES)
def test_the_hardest_values_come_back(life, order, tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    written(trace, life, order=order)
    assert export(trace, "ctf", made) == 0
    check(trace, made)


def test_packets_are_bounded_and_the_reader_finds_them_all(tmp_path, monkeypatch):
    monkeypatch.setattr(ctf, "MAX_PACKET_BYTES", 100)
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    written(trace, "small")
    assert export(trace, "ctf", made) == 0
    assert (made / "stream").read_bytes().count(b"\xc1\x1f\xfc\xc1") > 5
    check(trace, made)


def test_events_of_each_cpu_have_a_stream(tmp_path):
    on = [make("context", 0, cpu=cpu, thread=1) for cpu in (0, 1, 511, 512, None)]
    events = [each for context in on for each in (context, make("save", 5))]
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    write(trace, small_header(order="per_cpu"), events)
    assert export(trace, "ctf", made) == 0
    _, rows = check(trace, made)
    assert sorted({row[2] for row in rows}) == ["stream", "stream_0", "stream_1", "stream_511"]
    assert [row[2] for row in rows if row[0] == "save"] == [
        "stream_0", "stream_1", "stream_511", "stream", "stream",
    ]  # fmt: skip
    write(trace, small_header(order="total"), events)
    assert export(trace, "ctf", made, "--force") == 0
    _, rows = check(trace, made)
    assert {row[2] for row in rows} == {"stream"}


def test_a_time_that_goes_back_waits_and_one_beyond_the_clock_is_its_end(tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    events = [make("save", 9), make("save", -4), make("save", 2**63), make("save", 2**63)]
    write(trace, small_header(), events)
    assert export(trace, "ctf", made) == 0
    _, rows, _ = read(made)
    end, last = 2**62 - 1, 2**63 - 1
    assert [(row[1], row[4]) for row in rows] == [(9, 9), (9, 5), (end, last), (end, last)]


def test_without_a_clock_the_sequence_is_the_time_and_the_metadata_says_so(tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    write(trace, small_header(clock="none"), [make("save", 0)] * 3)
    assert export(trace, "ctf", made) == 0
    (_, _, frequency, description), rows, _ = read(made)
    assert [row[1] for row in rows] == [0, 1, 2]
    assert frequency == 1_000_000
    assert "no times" in description


def test_what_was_lost_is_told_as_discarded(tmp_path, monkeypatch):
    monkeypatch.setattr(ctf, "MAX_PACKET_BYTES", 1)
    events = [
        make("save", 1), make("loss", 1, reason="ring", count=3), make("save", 1),
        make("loss", 1, reason="ring", count=None), make("loss", 1, reason="ring", count=2**64 - 1),
    ]  # fmt: skip
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    write(trace, small_header(), events)
    assert export(trace, "ctf", made) == 0
    _, rows, lost = read(made)
    assert [row[5]["count"] for row in rows if row[0] == "loss"] == [3, None, 2**64 - 1]
    assert lost == [3, 1, 2**64 - 2 - 4]  # where nobody counted, one at least


def test_foreign_text_is_no_metadata(tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    hostile = dict.fromkeys(("uuid", "source", "implementation", "clock", "recorder"), TEXT)
    header = small_header(**hostile, extra={"more.or-less": TEXT}, order=TEXT)
    write(trace, header, [make("marker", 0, text=TEXT), make("source.gap", 0, reason=TEXT)])
    assert export(trace, "ctf", made) == 0
    data = (made / "metadata").read_bytes()
    assert set(data) <= {9, 10, *range(32, 127)}
    assert b"secret" not in data
    (environment, _, _, description), rows, _ = read(made)
    written_so = json.dumps(TEXT)[1:-1]
    assert environment["source"] == environment["trace_uuid"] == description == written_so
    assert [row[5].get("text", row[5].get("reason")) for row in rows] == [written_so, written_so]
    assert json.loads(f'"{written_so}"') == TEXT


@settings(max_examples=15, deadline=None)
@given(EVENTS.filter(bool), TIMES, HEADERS)
def test_any_events_come_back(events, times, header):
    with TemporaryDirectory() as name:
        trace, made = Path(name) / "a.itstrace", Path(name) / "b"
        times = [
            max(-(2**40), min(time, 2**40)) for time in times
        ]  # what is beyond the clock has a test
        write(trace, small_header(**header), with_times(events, times))
        assert export(trace, "ctf", made) == 0
        check(trace, made)
