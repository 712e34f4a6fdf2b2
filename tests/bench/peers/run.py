"""itstrace beside its peers, in one run: `make bench-peers`, which also writes docs/performance.md.

Contestants take turns, a round after the other, each measurement in a process of its own; what they saw is
held against what they must have seen. `--quick` does a hundredth of the work once, to try all of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from tests.bench.peers import machine, page
from tests.bench.peers.aims import key
from tests.bench.peers.asking import ROOT, ask
from tests.bench.peers.expected import check
from tests.bench.peers.measure import Measure, Row, Sample
from tests.bench.peers.measures import (
    append,
    group,
    killed,
    memory,
    read,
    reduce,
    replay,
    size,
    startup,
    travel,
)  # fmt: skip

FOLDER: Final = ROOT / ".cache" / "bench-peers"
PAGE: Final = ROOT / "docs" / "performance.md"
ROUNDS: Final = 5
QUICK: Final = 100  # of how much a quick run is one
MEASURES: Final = tuple(
    each.MEASURE
    for each in (append, read, replay, travel, killed, size, reduce, group, memory, startup)
)


def rounds_of(row: Row, rounds: int) -> int:
    """Return how often a row is measured."""
    return rounds if row.rounds is None else min(row.rounds, rounds)


class Run:
    """One run: the files that were made so far, and all samples."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._made: set[tuple[str, ...]] = set()
        self.results: dict[str, dict[str, list[Sample]]] = {}

    def _prepare(self, row: Row) -> None:
        for task in row.before:
            file = (row.module, task, str(row.options.get("variant")), str(row.count))
            if file not in self._made or row.options.get("kill"):
                ask(row, task, FOLDER)
                self._made.add(file)

    def take(self, measure: Measure) -> None:
        """Measure all rows of a measure, in turns."""
        found: dict[str, list[Sample]] = {key(row): [] for row in measure.rows}
        for turn in range(self._rounds):
            for row in measure.rows:
                if turn >= rounds_of(row, self._rounds):
                    continue
                print(f"({measure.letter}) round {turn + 1}: {row.name}", file=sys.stderr)
                self._prepare(row)
                sample, _ = ask(row, row.task, FOLDER, check=turn == 0, kill=False)
                check(row, sample)
                found[key(row)].append(_brief(sample))
        self.results[measure.name] = found


def _brief(sample: Sample) -> Sample:
    """Return a sample without what was only told to be checked."""
    return {
        name: value
        for name, value in sample.items()
        if name not in ("final", "groups", "registers")
    }


def scaled(measures: Sequence[Measure], quick: int) -> Iterator[Measure]:
    """Yield measures with a fraction of their events."""
    for measure in measures:
        rows = tuple(replace(row, count=max(row.count // quick, 604)) for row in measure.rows)
        yield replace(measure, rows=rows)


def _forget() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)


def main() -> int:
    """Run, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="a hundredth of the events, one round, no page"
    )
    parser.add_argument("--only", default="", help="letters of measures; no page")
    options = parser.parse_args()
    chosen = [each for each in MEASURES if not options.only or each.letter in options.only]
    if options.quick:
        chosen = list(scaled(chosen, QUICK))
    _forget()
    run = Run(1 if options.quick else options.rounds)
    about = machine.described() | {"load before": machine.load()}
    began = time.monotonic()
    for measure in chosen:
        run.take(measure)
        print(page.table(measure, run.results), flush=True)
    minutes = (time.monotonic() - began) / 60
    about |= {
        "load after": machine.load(),
        "took": f"{minutes:.0f} minutes, {options.rounds} rounds",
    }
    if options.quick or options.only:
        print(f"all contestants saw the same events; {minutes:.1f} minutes")
    else:
        text = page.written(chosen, run.results, about, _profile)
        PAGE.write_text(text)
        print(page.aims_table(run.results))
    results = {"about": about, "results": run.results}
    _forget()
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1))
    return 0


def _profile(row: Row) -> str:
    """Return the lines in which a row's time goes."""
    for task in row.before:
        ask(row, task, FOLDER)
    return ask(row, row.task, FOLDER, profile=page.PROFILE_LINES)[1]


if __name__ == "__main__":
    sys.exit(main())
