"""itstrace beside its peers, in one run: `make bench-peers`, which also writes docs/performance.md.

Contestants take turns, a round after the other, each measurement in a process of its own; what they saw is
held against what they must have seen. `--quick` does a hundredth of the work once, to try all of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.bench.peers import machine, page
from tests.bench.peers.aims import key
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

ROOT: Final = Path(__file__).parents[3]
FOLDER: Final = ROOT / ".cache" / "bench-peers"
PAGE: Final = ROOT / "docs" / "performance.md"
ROUNDS: Final = 5
QUICK: Final = 100  # of how much a quick run is one
MEASURES: Final = tuple(
    each.MEASURE
    for each in (append, read, replay, travel, killed, size, reduce, group, memory, startup)
)


class Failed(Exception):
    """A measurement did not come to its end."""


def measured(row: Row, task: str, *, check_too: bool, profile: int = 0) -> tuple[Sample, str]:
    """Return what one process found, and what it said beside."""
    options = {**row.options, "check": check_too, "profile": profile}
    if task != "append":
        options.pop("kill", None)
    asked = {
        "module": row.module, "task": task, "count": row.count, "folder": str(FOLDER), "options": options,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.bench.peers.worker", json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if options.get("kill") and done.returncode == -9:
        return {}, ""
    if done.returncode:
        raise Failed(f"{row.name}, {task}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


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
                measured(row, task, check_too=False)
                self._made.add(file)

    def take(self, measure: Measure) -> None:
        """Measure all rows of a measure, in turns."""
        found: dict[str, list[Sample]] = {key(row): [] for row in measure.rows}
        for turn in range(self._rounds):
            for row in measure.rows:
                if turn >= rounds_of(row, self._rounds):
                    continue
                self._prepare(row)
                sample, _ = measured(row, row.task, check_too=turn == 0)
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
        measured(row, task, check_too=False)
    return measured(row, row.task, check_too=False, profile=page.PROFILE_LINES)[1]


if __name__ == "__main__":
    sys.exit(main())
