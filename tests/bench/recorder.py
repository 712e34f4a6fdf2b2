"""Events a second through a Recorder on one core: `make bench`, or this file by itself.

The accesses are those of the real two-boot capture, asked of a device that does nothing, into a
file. What the same events cost when they only go through the writer is measured in the same run,
and so is each step on the way. CPU time, best of several rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.captures import TWO_BOOTS, open_capture
from tests.support.small_its import Ram
from tracer import Recorder
from tracer.events import KINDS, NUMBER, Event, fields_of, trim
from tracer.log.header import Header
from tracer.log.stream import Reader, Writer

WANTED = {NUMBER[name] for name in ("reg.read", "reg.write", "msi", "command")}
QUEUE = 0x4000_0000
Call = tuple[Callable[..., object], tuple[int, ...]]


class Idle:
    """Does nothing but fetch the commands that it is told to."""

    def __init__(self) -> None:
        self.memory = Ram(size=0x10000)

    def reg_read(self, offset: int, size: int) -> int:
        return 0x8000_0000

    def reg_write(self, offset: int, value: int, size: int) -> None:
        """Do nothing."""

    def msi(self, device_id: int, event_id: int) -> None:
        """Do nothing."""

    def fetch(self, gpa: int) -> None:
        self.memory.read(gpa, 32)


def calls(device: Idle, its: Recorder | Idle, events: list[Event]) -> list[Call]:
    """Return what to call for each event, in order."""
    made: list[Call] = []
    for event in events:
        cls, values = KINDS[event[0]], fields_of(event)
        if cls.name == "reg.write":
            made.append((its.reg_write, (values["offset"], values["value"], values["size"])))
        elif cls.name == "reg.read":
            made.append((its.reg_read, (values["offset"], values["size"])))
        elif cls.name == "msi":
            made.append((its.msi, (values["device_id"], values["event_id"])))
        else:
            made.append((device.fetch, (QUEUE + values["queue_offset"] % 0x1000,)))
    return made


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds that one call takes, all threads together."""
    start = time.process_time()
    function()
    return time.process_time() - start


def run(made: list[Call], copies: int) -> None:
    """Call everything, `copies` times."""
    for _ in repeat(None, copies):
        for call, args in made:
            call(*args)


def recorded(folder: Path, events: list[Event], copies: int, number: int) -> tuple[float, Path]:
    """Return the seconds that recording took, from opening the file to its clean end."""
    device, path = Idle(), folder / f"{number}.itstrace"

    def record() -> None:
        with Recorder(device, path) as its:
            its.reg_write(0x80, 1 << 63 | QUEUE)
            run(calls(device, its, events), copies)

    return seconds(record), path


def appended(folder: Path, events: list[Event], number: int) -> float:
    """Return the seconds that the writer alone takes for events that are made already."""

    def append() -> None:
        with (folder / f"bare-{number}.itstrace").open("wb", buffering=0) as out:
            writer = Writer(out, Header())  # type: ignore[arg-type]
            add = writer.add
            for event in events:
                add(event)
            writer.close()

    return seconds(append)


def steps(count: int) -> dict[str, float]:
    """Return the seconds of `count` times each step of making an event."""
    row, kind = (0x88, 0x40, 8), NUMBER["reg.write"]
    cls = KINDS[kind]
    each: dict[str, Callable[[], object]] = {
        "the clock": time.monotonic_ns,
        "64-bit check": lambda: array("Q", row),
        "defaults left out": lambda: trim([kind, 0, 0x88, 0x40, 8, 0], cls),
    }
    return {name: seconds(lambda step=step: _times(step, count)) for name, step in each.items()}


def _times(step: Callable[[], object], count: int) -> None:
    for _ in repeat(None, count):
        step()


def main() -> None:
    """Print the rates, their ratio, and where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=250, help="copies of the capture")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    events = [e for _, block in open_capture(TWO_BOOTS) for e in block if e[0] in WANTED]
    device = Idle()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, bare, idle = [], [], []
        made: list[Event] = []
        for number in range(options.rounds):
            took, path = recorded(folder, events, options.repeat, number)
            ours.append(took)
            if not made:
                with path.open("rb") as stream:
                    made = [event for _, block in Reader(stream) for event in block]
            path.unlink()
            bare.append(appended(folder, made, number))
            idle.append(seconds(lambda: run(calls(device, device, events), options.repeat)))
    count = len(made)
    print(
        f"{'recorder / bare writer append':38} {min(ours) / min(bare):6.2f}x   "
        f"{count / min(ours):,.0f} events/s against {count / min(bare):,.0f}"
    )
    shares = {"the device and the loop": min(idle), "the writer": min(bare), **steps(count)}
    shares["our calls, and the rest"] = min(ours) - sum(shares.values())
    for title, took in shares.items():
        print(f"  {title:36} {took / count * 1e6:6.3f} us of {min(ours) / count * 1e6:.3f}")


if __name__ == "__main__":
    main()
