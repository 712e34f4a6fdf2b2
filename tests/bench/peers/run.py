"""itstrace beside its peers, in one run: `make bench-peers`, which also writes docs/performance.md.

Contestants take turns, a round after the other, each measurement in a process of its own; what they saw is
held against what they must have seen. `--quick` does a hundredth of the work once, to try all of it. What was
measured last is kept in .cache, measure by measure: `--again` writes the page from it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from tests.bench.peers import machine, page
from tests.bench.peers.aims import key
from tests.bench.peers.asking import ROOT, Failed, ask
from tests.bench.peers.expected import Disagreement, check
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
KEPT: Final = ROOT / ".cache" / "bench-peers.json"
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

    def __init__(self, rounds: int, compiled: str | None) -> None:
        self._rounds = rounds
        self._compiled = compiled
        self._made: set[tuple[str, ...]] = set()
        self.failed: set[str] = set()
        self.results: dict[str, dict[str, list[Sample]]] = {}

    def _prepare(self, row: Row) -> None:
        for task in row.before:
            file = (row.module, task, str(row.options.get("variant")), str(row.count))
            if file not in self._made or row.options.get("kill"):
                ask(row, task, FOLDER, self._compiled)
                self._made.add(file)

    def take(self, measure: Measure) -> None:
        """Measure all rows of a measure, in turns."""
        rows = [row for row in measure.rows if self._compiled or not row.compiled]
        found: dict[str, list[Sample]] = {key(row): [] for row in rows}
        for turn in range(self._rounds):
            for row in rows:
                if turn >= rounds_of(row, self._rounds):
                    continue
                print(f"({measure.letter}) round {turn + 1}: {row.name}", file=sys.stderr)
                found[key(row)] += self._measured(row, check_too=turn == 0)
        self.results[measure.name] = found

    def _measured(self, row: Row, *, check_too: bool) -> list[Sample]:
        """Return a sample, or none where a contestant fails: the others go on.

        Raises:
            Disagreement: it did other work than the others.
        """
        if key(row) in self.failed:
            return []
        try:
            self._prepare(row)
            sample, _ = ask(row, row.task, FOLDER, self._compiled, check=check_too, kill=False)
        except Failed as failed:
            self.failed.add(key(row))
            print(failed, file=sys.stderr)
            return []
        check(row, sample)
        return [_brief(sample)]


def _brief(sample: Sample) -> Sample:
    """Return a sample without what was only told to be checked."""
    return {
        name: value
        for name, value in sample.items()
        if name not in ("final", "groups", "registers")
    }


def scaled(measures: Sequence[Measure], quick: int) -> Iterator[Measure]:
    """Yield measures with a fraction of their events, and of what a minimiser must find its way through."""
    for measure in measures:
        rows = tuple(
            replace(
                row,
                count=max(row.count // quick, 604),
                options={**row.options, "noise": 1} if "noise" in row.options else row.options,
            )
            for row in measure.rows
        )
        yield replace(measure, rows=rows)


def _forget() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="a hundredth of the events, one round, no page"
    )
    parser.add_argument("--only", default="", help="letters of measures; no page")
    parser.add_argument(
        "--again", action="store_true", help="only the page, of what was measured last"
    )
    parser.add_argument(
        "--compiled", metavar="PYTHON", help="one whose itstrace is compiled, for two rows"
    )
    parser.add_argument("--profile", metavar="ROW", help="only this: where the time of a row goes")
    return parser.parse_args()


def main() -> int:
    """Run, print, write the page; 1 when a contestant failed."""
    options = _options()
    _forget()
    failed: set[str] = set()
    if options.profile:
        print(_profile(next(row for row in _rows() if row.name == options.profile)))
    elif options.again:
        _write_page(json.loads(KEPT.read_text()))
    else:
        try:
            failed = _measure(options)
        except Disagreement as wrong:
            print(f"other work than the others did: {wrong}", file=sys.stderr)
            return 1
    _forget()
    return int(bool(failed))


def _measure(options: argparse.Namespace) -> set[str]:
    """Measure what is asked for; return who failed."""
    chosen = [each for each in MEASURES if not options.only or each.letter in options.only]
    if options.quick:
        chosen = list(scaled(chosen, QUICK))
    rounds = 1 if options.quick else options.rounds
    run = Run(rounds, options.compiled)
    about = machine.described() | {"load before": machine.load()}
    began = time.monotonic()
    for measure in chosen:
        run.take(measure)
        print(page.table(measure, run.results), flush=True)
    minutes = (time.monotonic() - began) / 60
    about |= {"load after": machine.load(), "took": f"{minutes:.0f} minutes, {rounds} rounds"}
    print(
        f"\n{page.aims_table(run.results)}\n\nall that was read were the same events; {minutes:.1f} minutes"
    )
    if not options.quick:
        kept = _kept(about, run.results, add=bool(options.only))
        if not options.only:
            _write_page(kept)
    return run.failed


def _kept(about: dict[str, str], results: dict[str, Any], *, add: bool) -> dict[str, Any]:
    """Keep what was measured, beside what other measures gave before where it is a part only."""
    if add and KEPT.exists():
        results = json.loads(KEPT.read_text())["results"] | results
        about["took"] = "put together from several runs; `make bench-peers` is one"
    kept = {"about": about, "results": results}
    KEPT.write_text(json.dumps(kept, indent=1))
    return kept


def _write_page(kept: dict[str, Any]) -> None:
    PAGE.write_text(page.written(MEASURES, kept["results"], kept["about"], _profile))


def _rows() -> Iterator[Row]:
    for measure in MEASURES:
        yield from measure.rows


def _profile(row: Row) -> str:
    """Return the lines in which a row's time goes."""
    for task in row.before:
        ask(row, task, FOLDER)
    return ask(row, row.task, FOLDER, profile=page.PROFILE_LINES)[1]


if __name__ == "__main__":
    sys.exit(main())
