"""What travelling costs beside a replay, and that it arrives where a replay does: `make bench-travel`.

For each kind of trace: a replay, a replay that leaves checkpoints, states at random places, and one
replay that passes through all of these places and compares. CPU seconds; only ratios of one run mean
anything on another machine.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import chain, islice, repeat
from pathlib import Path
from time import process_time
from typing import Any

from replay import checkpoints
from replay.checkpoints import Standing
from replay.engine import Engine
from replay.generator.answers import generate, header_of
from replay.profiles import find
from replay.timetravel.timeline import Timeline
from tests.support.busy_lives import busy_life
from tests.support.captures import TWO_BOOTS, open_capture
from tests.support.linear import model_for, passed
from tracer.events import Event
from tracer.log.header import Header
from tracer.log.opening import open_trace
from tracer.log.stream import Writer

Made = tuple[Header, Iterable[Event]]


def busy(profile: str, devices: int) -> Callable[[int], Made]:
    """A VM with so many devices of 8 events each, all in use."""
    return lambda events: busy_life(profile, devices, events)


def generated(profile: str) -> Callable[[int], Made]:
    """Small states: lives of 20,000 events one behind the other, each from power-on."""

    def make(events: int) -> Made:
        lives = (generate(seed, find(profile)[0], 20_000) for seed in range(1 << 30))
        return header_of(1, find(profile)[0], events), chain.from_iterable(lives)

    return make


def boots(events: int) -> Made:
    """A real QEMU's two boots of Linux, over and over; of its RAM only what was seen is known."""
    reader = open_capture(TWO_BOOTS)
    once = [event for _, block in reader for event in block]
    return reader.header, chain.from_iterable(repeat(once))


KINDS = {
    "kvm-300-devices": busy("linux-6.1.192", 300),
    "qemu-300-devices": busy("qemu-7.2.22", 300),
    "kvm-1000-devices": busy("linux-6.1.192", 1000),
    "kvm-generated": generated("linux-6.1.192"),
    "qemu-generated": generated("qemu-7.2.22"),
    "qemu-two-boots": boots,
}


BEYOND = ("kvm-1000-devices",)  # larger than what a state's cost is promised for; by name only


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds and what came of it."""
    start = process_time()
    result = action()
    return process_time() - start, result


def replay(path: Path) -> int:
    """Replay a trace as `check` does."""
    with open_trace(str(path)) as reader:
        engine = Engine(reader, model_for(reader.header))
        engine.run()
        assert engine.crash is None
        return engine.seq


def build(path: Path) -> int:
    """Replay it and leave checkpoints."""
    for cache in path.parent.glob(f"{path.name}.*.states"):
        cache.unlink()
    with Timeline(str(path), model_for, tell=print) as line:
        line.last()
        return len(line.course.stops)


def told(model: Any) -> bytes:
    """Return a digest of everything that a model keeps."""
    return blake2b(checkpoints.snapshot(model, 0, Standing())).digest()


def measure(name: str, path: Path, places: int) -> bool:
    """Print the ratios of one trace; return whether all is as it must be."""
    plain, last = min(timed(lambda: replay(path)) for _ in range(2))
    built, stops = min(timed(lambda: build(path)) for _ in range(2))
    rng = random.Random(name)
    wanted = [rng.randrange(last) for _ in range(places)]
    found: dict[int, bytes] = {}
    costs = []
    opening, line = timed(lambda: Timeline(str(path), model_for, tell=print))
    with line:
        for seq in wanted:
            cost, model = timed(lambda seq=seq: line.model_at(seq))
            costs.append(cost)
            found[seq] = told(model)
        documents = [timed(lambda seq=seq: line.state_at(seq))[0] for seq in wanted[:20]]
    equal = sum(found[seq] == told(model) for seq, model in passed(str(path), found))
    mean, document = sum(costs) / len(costs), sum(documents) / len(documents)
    size = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}.*.states"))
    print(
        f"{name}: {last + 1:,} events, {path.stat().st_size:,} bytes; {stops} stops, {size:,} bytes\n"
        f"  replay with checkpoints / replay      {built / plain:7.3f}  ({plain:.2f} s)\n"
        f"  replay / opening a timeline           {plain / opening:7.0f}\n"
        f"  replay / state at a random event      {plain / mean:7.0f}  (mean {mean * 1e3:.1f} ms,"
        f" median {sorted(costs)[len(costs) // 2] * 1e3:.1f}, worst {max(costs) * 1e3:.1f})\n"
        f"  replay / the same as a JSON document  {plain / document:7.0f}\n"
        f"  equal to one replay                   {equal} of {len(found)} places",
        flush=True,
    )
    return equal == len(found) and mean * 200 <= plain and built <= 1.25 * plain


def write(path: Path, made: Made, events: int) -> None:
    """Write a trace of so many events."""
    header, lived = made
    with path.open("wb") as out:
        writer = Writer(out, header, bound_ms=0)
        for event in islice(lived, events):
            writer.add(event)
        writer.close()


def main() -> int:
    """Measure each kind; 1 when one is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--places", type=int, default=1000)
    usual = [name for name in KINDS if name not in BEYOND]
    parser.add_argument("kinds", nargs="*", default=usual, help=", ".join(KINDS))
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name in options.kinds:
            path = Path(folder) / f"{name}.itstrace"
            write(path, KINDS[name](options.events), options.events)
            good &= measure(name, path, options.places)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
