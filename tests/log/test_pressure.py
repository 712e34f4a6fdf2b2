"""A file that is slower than the device is used: what is waited for, and what is left out and told."""

from __future__ import annotations

import errno
import io
import math
import threading
import tracemalloc
from itertools import count
from time import sleep

import pytest

from tests.support.small_its import Ram, SmallIts
from tests.support.traces import read
from tracer import Recorder
from tracer.errors import UsageError, WriteError
from tracer.events import NUMBER, fields_of, kind_name
from tracer.log.header import Header
from tracer.log.opening import open_trace
from tracer.log.stream import Writer
from tracer.tape import MAX_HELD_EVENTS, Tape

REG_WRITE, MSI, RESULT = NUMBER["reg.write"], NUMBER["msi"], NUMBER["msi.result"]
MEM_WRITE = NUMBER["mem.write"]


class Gated(io.BytesIO):
    """A file whose writes wait while its gate is closed."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, data):
        assert self.gate.wait(60)
        return super().write(data)


class Slow(io.BytesIO):
    """A file that takes a byte for each thing that was asked of the device, which makes ten."""

    asked: float = 0

    def write(self, data):
        while self.tell() + len(data) > self.asked:
            sleep(0.001)
        return super().write(data)


def dropping(out, **more):
    return Tape(Writer(out, Header(), background=True, **more), count(1).__next__, drop=True)


def ask(tape, number):
    """One MSI and its result; the result names the MSI as its cause."""
    tape.input(MSI, (number, number))
    tape.result(RESULT, number)


def held_together(events):
    """Check that each result stands behind its own MSI; return (MSIs, results, losses)."""
    msis, results, losses = [], [], []
    by_seq = dict(events)
    for seq, event in events:
        fields = fields_of(event)
        if event[0] == MSI:
            msis.append(fields["device_id"])
        elif event[0] == RESULT:
            results.append(fields["result"])
            if fields["cause"]:
                cause = by_seq[seq - fields["cause"]]
                assert (cause[0], cause[2]) == (MSI, fields["result"])
        else:
            assert kind_name(event[0]) == "loss"
            losses.append(fields["count"])
    return msis, results, losses


def test_what_a_closed_gate_keeps_out_is_counted_where_it_is_missing():
    out = Gated()
    tape = dropping(out)
    for number in range(100):
        ask(tape, number)
    out.gate.clear()
    for number in range(100, 100_000):
        ask(tape, number)
        assert tape.writer.held <= MAX_HELD_EVENTS + 2
    assert tape.lost > 150_000
    out.gate.set()
    while tape.writer.held:
        sleep(0.01)
    for number in range(100_000, 100_100):
        ask(tape, number)
    tape.close()
    assert tape.failed is None
    found = read(out.getvalue())
    assert found.status == "clean"
    msis, results, losses = held_together(found.events)
    assert len(msis) + len(results) + sum(losses) == 2 * 100_100
    assert sum(losses) == tape.lost
    assert msis[:100] == list(range(100))
    assert msis[-100:] == list(range(100_000, 100_100))
    assert len(losses) == 1
    times = [event[1] for _, event in found.events]
    assert min(times) > 0


def test_what_is_lost_at_the_end_is_told_too():
    out = Gated()
    tape = dropping(out)
    out.gate.clear()
    for number in range(20_000):
        ask(tape, number)
    out.gate.set()
    tape.close()
    events = read(out.getvalue()).events
    assert sum(held_together(events)[2]) == tape.lost > 0


def test_ten_times_what_the_file_takes_needs_little_memory():
    out = Slow()
    out.asked = 4096  # for the header
    tracemalloc.start()
    try:
        tape = dropping(out, codec=0)
        for number in range(60_000):
            ask(tape, number)
            out.asked += 1
        out.asked = math.inf
        tape.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15_000_000
    msis, results, losses = held_together(read(out.getvalue()).events)
    assert len(msis) + len(results) + sum(losses) == 120_000
    assert sum(losses) == tape.lost > 0


def test_bulky_guest_ram_is_bounded_too():
    out = Gated()
    tape = dropping(out)
    out.gate.clear()
    tracemalloc.start()
    try:
        for _ in range(100):
            tape.data(MEM_WRITE, (), 0x4000_0000, bytes(100_000))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert tape.lost > 80
    out.gate.set()
    tape.close()
    events = read(out.getvalue()).events
    kinds = [kind_name(event[0]) for _, event in events]
    assert kinds.count("mem.write") + tape.lost == 100


def test_by_default_the_device_waits_and_nothing_is_lost():
    out = Gated()
    tape = Tape(Writer(out, Header(), bound_events=64), count(1).__next__)
    out.gate.clear()
    producer = threading.Thread(target=lambda: [ask(tape, number) for number in range(5000)])
    producer.start()
    for _ in range(20):
        assert tape.writer.held <= 64 + 1
        sleep(0.005)
    assert producer.is_alive(), "it waits for the file"
    out.gate.set()
    producer.join(60)
    tape.close()
    msis, results, losses = held_together(read(out.getvalue()).events)
    assert (msis, results, losses) == (list(range(5000)), list(range(5000)), [])


class Full(io.BytesIO):
    """A disk that is full after so many bytes."""

    def write(self, data):
        if self.tell() + len(data) > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_ends_the_trace_and_not_the_device():
    out = Full()
    tape = dropping(out, bound_events=8, codec=0)
    for number in range(50_000):
        ask(tape, number)
        while number == 5 and tape.writer.held:
            sleep(0.01)
    tape.close()
    assert "No space left on device; everything up to event" in str(tape.failed)
    assert "make room and record again" in str(tape.failed)
    found = read(out.getvalue())
    assert found.status == "cut"
    assert found.events


# -- through the Recorder


def test_a_recorder_that_drops_says_how_many(tmp_path):
    device = SmallIts(Ram())
    with Recorder(device, tmp_path / "t.itstrace", when_full="drop") as its:
        for _ in range(3000):
            its.reg_read(0, 4)
        assert its.lost == 0
    with open_trace(str(tmp_path / "t.itstrace")) as reader:
        assert sum(len(events) for _, events in reader) == 3000
        assert reader.status == "clean"


def test_a_recorder_with_a_ring_keeps_the_last_events(tmp_path):
    path = tmp_path / "t.itstrace"
    with Recorder(SmallIts(Ram()), path, ring_bytes=4096, bound_events=50, bound_ms=0) as its:
        for number in range(20_000):
            its.marker(f"number {number}")
            if number == 10_000:
                its.dump("half")
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["t-0001.itstrace", "t-0002.itstrace"]
    lasts = []
    for name in names:
        with open_trace(str(tmp_path / name)) as reader:
            events = [event for _, block in reader for event in block]
            assert reader.status == "clean"
            assert 0 < len(events) < 9000
            lasts.append((reader.header.annotations["ring"], events[-1][2]))
    assert lasts[1] == ("end", "number 19999")
    assert lasts[0][0] == "half"
    assert lasts[0][1].startswith("number 100")


@pytest.mark.parametrize(
    "options", [{"when_full": "perhaps"}, {"when_full": "drop", "ring_bytes": 1}]
)
def test_options_that_mean_nothing_wrong(tmp_path, options):
    with pytest.raises(UsageError, match="when_full must be wait or drop, and wait for a ring"):
        Recorder(SmallIts(Ram()), tmp_path / "t", **options)


def test_a_ring_on_a_full_disk_is_told_at_the_end(tmp_path, monkeypatch):
    its = Recorder(SmallIts(Ram()), tmp_path / "t.itstrace", ring_bytes=4096, bound_ms=0)
    its.marker("one")
    file = its._tape.writer._writer._file
    monkeypatch.setattr(file, "_out", Full(bytes(2000)))
    file._out.seek(2000)
    its.marker("two")
    with pytest.raises(WriteError, match="No space left on device"):
        its.close()
