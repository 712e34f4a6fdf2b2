"""What a verdict and a report cost beside a replay, for 10 to 1000 devices: `make bench-watchers`.

CPU time of an event in the second half of a life, where all is mapped and each input changes little: of two
replays, one of half the life, only the difference counts, so that what happens once does not; digests, of which a
report makes a bounded number, are left out. In each round the three follow one another; the row has the median of the rounds' ratios. Only ratios mean anything
on another machine.
"""

from __future__ import annotations

import argparse
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
    """Return the CPU seconds of a replay under a watcher."""
    model = model_of(header, find(profile)[0])
    engine = Engine(Frames(header, events), model, WATCHERS[watcher](model))
    start = process_time()
    engine.run()
    return process_time() - start


def rows(profile: str, devices: int, events: int, rounds: int) -> dict[str, list[float]]:
    """Return watcher -> seconds of an event, one for each round."""
    header, life = busy_life(profile, devices, events)
    whole = list(life)
    half = whole[: len(whole) - events // 2]
    found: dict[str, list[float]] = {name: [] for name in WATCHERS}
    for _ in range(rounds):
        for name, each in found.items():
            more = cost(profile, header, whole, name) - cost(profile, header, half, name)
            each.append(more / (len(whole) - len(half)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    states.MAX_DIGESTS = -1  # type: ignore[misc]
    print("profile         devices  replay us  verify us  report us  verify/replay  report/replay")
    for profile in PROFILES:
        for devices in DEVICES:
            found = rows(profile, devices, options.events, options.rounds)
            least = {name: min(each) * 1e6 for name, each in found.items()}
            ratios = [
                median(a / b for a, b in zip(found[name], found["replay"], strict=True))
                for name in ("verify", "report")
            ]
            print(
                f"{profile:14}  {devices:7}  {least['replay']:9.2f}  {least['verify']:9.2f}  "
                f"{least['report']:9.2f}  {ratios[0]:13.2f}  {ratios[1]:13.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
