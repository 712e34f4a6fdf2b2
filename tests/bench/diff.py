"""What `diff` costs, in memory above all: `make bench-diff`, or this file by itself.

The events are those of a real guest's two boots, repeated; the other side has its tables elsewhere
and other INTIDs. Each comparison is a process of its own, whose peak of resident memory is told.
Twice as many events may not need more than the same memory: that is checked, and exits 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.bench import CAPTURE, import_log
from tracer.events import NUMBER, Event
from tracer.its.commands import BY_NAME, decode, encode
from tracer.log.header import Header
from tracer.log.stream import Reader, Writer

COMMAND = NUMBER["command"]
MOVED, RENUMBERED = 0x0100_0000, 100
MAY_GROW = 1.1  # the interpreter's own noise
ATTRS = {each.name: {f.name: f.attr for f in each.layout.fields_} for each in BY_NAME.values()}


def captured() -> list[Event]:
    """Return the events of the capture."""
    import io

    reader = Reader(io.BytesIO(import_log(CAPTURE.read_bytes())))
    return [event for _, block in reader for event in block]


def elsewhere(event: Event) -> Event:
    """Return the same event of a guest whose ITTs and INTIDs are others."""
    if event[0] != COMMAND:
        return event
    name, pairs = decode(*event[4:8])
    if name not in ("MAPD", "MAPTI"):
        return event
    fields = {ATTRS[name][field]: value for field, value in pairs}
    if fields.get("itt_addr"):
        fields["itt_addr"] += MOVED
    if "pintid" in fields:
        fields["pintid"] += RENUMBERED
    return (*event[:4], *encode(name, **fields), *event[8:])


def write(path: Path, events: list[Event], count: int) -> None:
    """Write `count` events, over and over the same ones."""
    with path.open("wb", buffering=0) as out:
        writer = Writer(out, Header(source="bench"), bound_ms=0)
        for event in repeated(events, count):
            writer.add(event)
        writer.close()


def repeated(events: list[Event], count: int) -> Iterator[Event]:
    """Yield so many events."""
    for at in range(count):
        yield events[at % len(events)]


def compared(a: Path, b: Path) -> tuple[int, float, float]:
    """Return (exit code, peak MiB, CPU seconds) of one comparison."""
    command = [sys.executable, "-m", "replay.cli", "diff", "--all", str(a), str(b)]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main() -> int:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="of each side")
    options = parser.parse_args()
    events = captured()
    others = [elsewhere(event) for event in events]
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder) / "a.itstrace", Path(folder) / "b.itstrace"
        for count in (options.events, 2 * options.events):
            started = time.perf_counter()
            write(a, events, count)
            write(b, others, count)
            print(f"{count:,} events written twice in {time.perf_counter() - started:.0f} s")
            code, peak, seconds = compared(a, b)
            print(
                f"{count:,} against {count:,}: exit {code}, peak {peak:.1f} MiB, {seconds:.1f} s "
                f"of CPU, {2 * count / seconds:,.0f} events a second"
            )
            if code:
                return 1
            peaks.append(peak)
    print(f"twice as many events: {peaks[1] / peaks[0]:.3f} of the memory")
    return int(peaks[1] > MAY_GROW * peaks[0])


if __name__ == "__main__":
    sys.exit(main())
