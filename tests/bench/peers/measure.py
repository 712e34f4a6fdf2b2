"""What a measure is: rows, each a contestant's task with options, and how its samples become a table.

Facts are in `measures/*.py`, one file a measure; `run` carries them out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Sample = Mapping[str, Any]
Samples = Sequence[Sample]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    module: str
    task: str
    count: int = 0  # events
    options: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()  # tasks that make the files it needs, not measured
    rounds: int | None = None  # where once is enough, as for memory and bytes
    ours: bool = False
    compiled: bool = False  # by a Python whose itstrace is compiled, where there is one


@dataclass(frozen=True)
class Column:
    """One column: its head, and what stands there for a row's samples."""

    head: str
    show: Callable[[Row, Samples], str]


@dataclass(frozen=True)
class Measure:
    """A letter of the issue."""

    letter: str
    name: str
    title: str
    about: str  # what is measured, and what a reader must know to believe it
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    agree: tuple[str, ...] = ()  # facts that must be the same wherever a row tells them


def best(samples: Samples, fact: str = "seconds") -> float:
    """Return the least of a fact."""
    return float(min(sample[fact] for sample in samples))


def median(samples: Samples, fact: str = "seconds") -> float:
    """Return the median of a fact."""
    return float(statistics.median(sample[fact] for sample in samples))


def _rate(row: Row, seconds: float) -> str:
    return f"{row.count / seconds / 1000:,.0f}"


def _of_a_core(row: Row, samples: Samples) -> str:
    """CPU time, which another load on the machine does not lengthen; none where it is a service's."""
    if any(sample["cpu"] is None for sample in samples):
        return ""
    return f"{best(samples, 'cpu') / row.count * 1e6:.3f}"


NAME: Final = Column("contestant", lambda row, _: f"**{row.name}**" if row.ours else row.name)
EVENTS: Final = Column("events", lambda row, _: f"{row.count:,}")
RATES: Final = (
    Column("best, thousand events/s", lambda row, got: _rate(row, best(got))),
    Column("median", lambda row, got: _rate(row, median(got))),
    Column("best, µs an event", lambda row, got: f"{best(got) / row.count * 1e6:.3f}"),
    Column("of a core, µs", _of_a_core),
)


def fact(head: str, name: str, spec: str = ",", scale: float = 1) -> Column:
    """Return a column with the median of a fact, an empty cell where it was not told."""

    def show(_: Row, got: Samples) -> str:
        if any(sample.get(name) is None for sample in got):
            return ""
        return format(median(got, name) * scale, spec)

    return Column(head, show)


def seconds(head: str, scale: float = 1, spec: str = ".2f") -> tuple[Column, Column]:
    """Return columns with best and median seconds, times `scale`."""
    return (
        Column(f"best, {head}", lambda _, got: format(best(got) * scale, spec)),
        Column("median", lambda _, got: format(median(got) * scale, spec)),
    )


def times_as_long(row: Row, samples: Samples, other: Row, others: Samples) -> float:
    """Return how many times as long an event of `row` takes as one of `other`, by the best of each.

    In time of a core, which no other load lengthens, where both tell it; else in wall time.
    """
    is_told = all(sample.get("cpu") is not None for sample in (*samples, *others))
    name = "cpu" if is_told else "seconds"
    return best(samples, name) / row.count / (best(others, name) / other.count)
