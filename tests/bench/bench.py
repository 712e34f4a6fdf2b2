"""Ratios, each against something in the same run: `make bench`.

The events are those of the real two-boot capture, repeated. CPU time, best of several rounds; only
the ratios mean anything on another machine.
"""

from __future__ import annotations

import argparse
import io
import platform
import time
from collections.abc import Callable
from pathlib import Path

import msgpack

from replay import engine
from replay.engine import Engine
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from tracer.events import Event
from tracer.log import codec
from tracer.log.stream import Reader, Writer
from tracer.sources import qemu_log
from tracer.sources.lines import LineReader

CAPTURE = Path(__file__).parents[2] / "traces" / "qemu-7.2.22-linux-6.1-two-boots.log"


def best(function: Callable[[], object], rounds: int) -> float:
    """Return the least CPU seconds that `function` took."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def import_log(log: bytes) -> bytes:
    """Return the trace of a log."""
    out = io.BytesIO()
    reader = LineReader(io.BytesIO(log), "bench")
    writer = Writer(out, qemu_log.header(reader.sniff(qemu_log.enough)), bound_ms=0)
    source = qemu_log.QemuLog(reader)
    for event in source.events():
        writer.add(event)
    writer.close()
    return out.getvalue()


def split_lines(log: bytes) -> int:
    """What an import is measured against: split every line of the log and nothing else."""
    return sum(len(line.split()) for line in io.BytesIO(log))


def append(events: list[Event]) -> int:
    """Append with integrity: frames, CRCs, chain, compression."""
    out = io.BytesIO()
    writer = Writer(out, qemu_log.header(b""), bound_ms=0)
    add = writer.add
    for event in events:
        add(event)
    writer.close()
    return len(out.getvalue())


def bare_append(events: list[Event]) -> int:
    """A bare msgpack Packer, event by event."""
    packer = msgpack.Packer()
    return sum(len(packer.pack(event)) for event in events)


def read(trace: bytes) -> int:
    """Read with integrity and type checks, every event."""
    reader = Reader(io.BytesIO(trace))
    count = 0
    for _, events in reader:
        for _event in events:
            count += 1
    assert reader.status == "clean"
    return count


def read_unchecked(trace: bytes) -> int:
    """Read with integrity and believe every type, which no reader of ours does."""
    count = 0
    for _, raw in Reader(io.BytesIO(trace)).event_frames():
        for _event in codec._unpack_events(raw)[1]:
            count += 1
    return count


def bare_read(packed: bytes) -> int:
    """A bare msgpack Unpacker over the same events."""
    unpacker = msgpack.Unpacker(io.BytesIO(packed), use_list=False)
    count = 0
    for _event in unpacker:
        count += 1
    return count


def replay(trace: bytes) -> int:
    """Replay the full model from the file, every output compared."""
    reader = Reader(io.BytesIO(trace))
    tally = Engine(reader, QemuModel(reader.header, find("qemu-7.2.22")[0])).run()
    assert tally.divergent == 0
    return tally.outputs


def main() -> None:
    """Print one line a ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=120, help="copies of the capture")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    log = CAPTURE.read_bytes() * options.repeat
    trace = import_log(log)
    events = [event for _, block in Reader(io.BytesIO(trace)) for event in block]
    packed = b"".join(map(msgpack.packb, events))
    lines = log.count(b"\n")
    print(f"Python {platform.python_version()}, msgpack {msgpack.version}, {platform.machine()}")
    print("compiled" if engine.__file__.endswith(".so") else "pure Python")
    print(f"{lines:,} lines, {len(log):,} bytes; {len(events):,} events, {len(trace):,} bytes")
    pairs = (
        (
            "append with integrity / bare Packer",
            lambda: append(events),
            lambda: bare_append(events),
        ),
        (
            "read without type checks / Unpacker",
            lambda: read_unchecked(trace),
            lambda: bare_read(packed),
        ),
        ("read with integrity / bare Unpacker", lambda: read(trace), lambda: bare_read(packed)),
        ("replay of the model / our own read", lambda: replay(trace), lambda: read(trace)),
        ("import / bare loop that splits", lambda: import_log(log), lambda: split_lines(log)),
    )
    for title, ours, bare in pairs:
        rate = len(events)
        our, their = best(ours, options.rounds), best(bare, options.rounds)
        print(
            f"{title:38} {our / their:6.2f}x   "
            f"{our / rate * 1e6:6.3f} us an event against {their / rate * 1e6:6.3f}"
        )


if __name__ == "__main__":
    main()
