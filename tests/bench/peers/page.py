"""docs/performance.md and what is printed: tables of a run, its aims, where others are faster, profiles.

The words around the tables are `performance.md.in`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.bench.peers.aims import AIMS, Aim, Results, key
from tests.bench.peers.measure import Column, Measure, Row, Samples, best, times_as_long
from tests.bench.peers.next_steps import NEXT

TEMPLATE: Final = Path(__file__).with_name("performance.md.in")
PROFILE_LINES: Final = 10
COLUMNS: Final = 118
Cost = Callable[[Row, Samples], float]
Ratio = Callable[[Row, Samples, Row, Samples], float]


def _by(cost: Cost) -> Ratio:
    return lambda row, samples, other, others: cost(row, samples) / cost(other, others)


# measure -> how many times as much a row takes as another
_RATIOS: Final[Mapping[str, Ratio]] = {
    "append": times_as_long, "read": times_as_long, "replay": times_as_long, "group": times_as_long,
    "reduce": _by(lambda _, got: best(got)),
    "startup": _by(lambda _, got: best(got)),
    "size": _by(lambda row, got: got[0]["bytes"] / row.count),
    "memory": _by(lambda _, got: best(got, "peak_kib")),
    "travel": _by(lambda _, got: best(got, "warm")),
}  # fmt: skip


def rendered(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, the first one its head, numbers to the right."""
    head, *rest = rows
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *rest))


def table(measure: Measure, results: Results) -> str:
    """Return a measure's table."""
    found = results[measure.name]
    columns = [*measure.columns, *_beside(measure, found)]
    rows = [_cells(columns, row, found[key(row)]) for row in measure.rows if key(row) in found]
    title = f"({measure.letter}) {measure.title}"
    return f"\n{title}\n\n{rendered([[column.head for column in columns], *rows])}"


def _cells(columns: Sequence[Column], row: Row, samples: Samples) -> list[str]:
    if samples:
        return [column.show(row, samples) for column in columns]
    return [row.name, "failed", *[""] * (len(columns) - 2)]


def _beside(measure: Measure, found: Mapping[str, Samples]) -> list[Column]:
    """Return the column that has every row as so many times the first of ours."""
    ratio = _RATIOS.get(measure.name)
    if ratio is None or measure.name in ("memory", "travel"):
        return []
    ours = next(row for row in measure.rows if row.ours)
    if not found[key(ours)]:
        return []
    unit = found[key(ours)]
    return [Column("beside the first", lambda row, got: f"{ratio(row, got, ours, unit):.2f}x")]


def figures(results: Results) -> Iterator[tuple[Aim, float]]:
    """Yield the aims with what was measured, as far as it was."""
    for aim in AIMS:
        with suppress(KeyError, ValueError, IndexError):  # it was not measured, or failed
            yield aim, aim.figure(results)


def aims_table(results: Results) -> str:
    """Return which aims were reached."""
    rows = [["aim", "bound", "measured", ""]]
    for aim, figure in figures(results):
        word = "reached" if aim.is_reached(figure) else "**missed**"
        shown = f"{figure:,.0f}" if figure.is_integer() else f"{figure:,.2f}"
        rows.append([f"({aim.letter}) {aim.what}", aim.bound, f"{shown}{aim.unit}", word])
    return rendered(rows)


def _counterpart(measure: Measure, row: Row) -> Row:
    """Return our row that does what `row` does: as often a write, the same task, as many events."""

    def alike(ours: Row) -> tuple[bool, bool, bool]:
        same_bound = ours.options.get("bound") == row.options.get("bound")
        return same_bound, ours.task == row.task, ours.count == row.count

    return max((each for each in measure.rows if each.ours), key=alike)  # the first of equals


def _faster(measures: Sequence[Measure], results: Results) -> Iterator[str]:
    """Yield who needs less than ours that does the same, measure by measure."""
    for measure in measures:
        ratio = _RATIOS.get(measure.name)
        if ratio is None or measure.name not in results:
            continue
        found = results[measure.name]
        less = []
        for row in measure.rows:
            ours = _counterpart(measure, row)
            if not found.get(key(ours)) or not found.get(key(row)):
                continue
            times = ratio(ours, found[key(ours)], row, found[key(row)])
            if not row.ours and times > 1:
                size = f", {row.count:,} events" if measure.name == "memory" else ""
                less.append(f"{row.name}{size} ({times:.1f}x)")
        if less:
            yield f"- ({measure.letter}) {measure.title}: {', '.join(less)}."


def _misses(results: Results, profile: Callable[[Row], str]) -> Iterator[str]:
    """Yield, for each missed aim, its profile and the next step."""
    shown: set[str] = set()
    missed = [aim for aim, figure in figures(results) if not aim.is_reached(figure)]
    for aim in missed:
        yield f"### ({aim.letter}) {aim.what}"
        if aim.profile is not None and (name := aim.profile.name) not in shown:
            shown.add(name)
            yield (
                f"Where the time of *{name}* goes, by cProfile, which makes calls look dearer than they are "
                f"(`python -m tests.bench.peers.run --profile '{name}'`):"
            )
            yield "\n".join(f"    {line}" for line in _lines(profile(aim.profile)))
        step = NEXT.get((aim.letter, aim.what), "No next step is known.")
        yield "The same step as above." if step in shown else step
        shown.add(step)
    if not missed:
        yield "None."


def _lines(said: str) -> Iterator[str]:
    """Yield a profile's lines without what is empty, with paths below the root only."""
    for line in said.splitlines():
        if line.strip() and not line.lstrip().startswith(("Ordered", "List")):
            yield re.sub(
                r"/\S*/((?:tests|tracer|replay|site-packages|python3)[^\s(]*)", r"\1", line
            )[:COLUMNS]


def written(
    measures: Sequence[Measure],
    results: Results,
    about: Mapping[str, str],
    profile: Callable[[Row], str],
) -> str:
    """Return the page."""
    tables = [
        f"## ({each.letter}) {each.title}\n\n{each.about}\n\n{table(each, results).split(chr(10), 3)[3]}"
        for each in measures
        if each.name in results
    ]
    parts = {
        "about": rendered([["what", "which"], *([name, value] for name, value in about.items())]),
        "aims": aims_table(results),
        "faster": "\n".join(_faster(measures, results)) or "Nobody.",
        "tables": "\n\n".join(tables),
        "misses": "\n\n".join(_misses(results, profile)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text())
