"""What a verdict and a report cost beside a replay, for 10 to 1000 devices: `make bench-watchers`.

CPU time of an event in the second half of a life, where all is mapped and each input changes little; digests, of which
a report makes a bounded number, are left out. In each round the three follow one another, each in a device of its
own; a row has the median of the rounds. Only ratios mean anything on another machine.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any, Final

from replay.engine import Engine
from replay.judge import model_of
from replay.profiles import find
from replay.report import states
from replay.report.states import StateTable
from replay.verify import Verifier
from tests.support.busy_lives import busy_life
from tests.support.whole_states import Frames
from tracer.events import Event
from tracer.log.header import Header

DEVICES: Final = (10, 100, 300, 1000)
PROFILES: Final = ("linux-6.12.117", "qemu-7.2.22")
WATCHERS: Final[dict[str, Callable[[Any], Any]]] = {
    "replay": lambda model: None,
    "verify": Verifier,
    "report": lambda model: StateTable(model, 0),
}


def cost(profile: str, header: Header, events: list[Event], watcher: str) -> float:
    """Return the CPU seconds of an event in the second half of a replay under a watcher."""
    half = len(events) // 2
    model = model_of(header, find(profile)[0])
    engine = Engine(Frames(header, []), model, WATCHERS[watcher](model))
    engine.feed(0, tuple(events[:half]))
    second = tuple(events[half:])
    gc.collect()
    start = process_time()
    engine.feed(half, second)
    engine.settle()
    return (process_time() - start) / len(second)


def rows(profile: str, devices: int, events: int, rounds: int) -> dict[str, list[float]]:
    """Return watcher -> seconds of an event, one for each round."""
    header, life = busy_life(profile, devices, events)
    whole = list(life)
    found: dict[str, list[float]] = {name: [] for name in WATCHERS}
    for _ in range(rounds):
        for name, each in found.items():
            each.append(cost(profile, header, whole, name))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="append", help="(default: a KVM and a QEMU)")
    options = parser.parse_args()
    states.MAX_DIGESTS = -1  # type: ignore[misc]
    print("profile         devices  replay us  verify us  report us  verify/replay  report/replay")
    for profile in options.profile or PROFILES:
        for devices in DEVICES:
            found = rows(profile, devices, options.events, options.rounds)
            us = {name: median(each) * 1e6 for name, each in found.items()}
            ratios = [
                median(a / b for a, b in zip(found[name], found["replay"], strict=True))
                for name in ("verify", "report")
            ]
            print(
                f"{profile:14}  {devices:7}  {us['replay']:9.2f}  {us['verify']:9.2f}  "
                f"{us['report']:9.2f}  {ratios[0]:13.2f}  {ratios[1]:13.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
