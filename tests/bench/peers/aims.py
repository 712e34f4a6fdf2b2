"""The issue's aims as a table: what of what must be at least, or at most, how much; and what a miss calls for.

`Figures` gives what an aim compares; a missed aim names what to profile, and what the next step would cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.bench.peers.measure import Row, Samples, best, times_as_long
from tests.bench.peers.measures import append, killed, memory, read, replay, size

Results = Mapping[str, Mapping[str, Samples]]  # measure's name -> row's key -> its samples


def key(row: Row) -> str:
    """Return what a row is called in results: the same name may stand there with two sizes."""
    return f"{row.name} @ {row.count}"


def _times_as_long(ours: tuple[str, Row], theirs: tuple[str, Row]) -> Callable[[Results], float]:
    def ratio(results: Results) -> float:
        (our_name, our), (their_name, their) = ours, theirs
        return times_as_long(
            our, results[our_name][key(our)], their, results[their_name][key(their)]
        )

    return ratio


def _times_as_fast(measure: str, ours: Row, theirs: Row) -> Callable[[Results], float]:
    return _times_as_long((measure, theirs), (measure, ours))


def _growth(rows: tuple[Row, ...]) -> Callable[[Results], float]:
    small, large = rows

    def ratio(results: Results) -> float:
        peaks = [best(results["memory"][key(row)], "peak_kib") for row in (small, large)]
        return peaks[1] / peaks[0]

    return ratio


def _readable(results: Results) -> float:
    return float(min(sample["told"][0] for sample in results["killed"][key(killed.OURS)]))


def _bytes(results: Results) -> float:
    return float(results["size"][key(size.OURS)][0]["bytes"]) / size.OURS.count


@dataclass(frozen=True)
class Aim:
    """One aim: a figure, and the bound it must keep."""

    letter: str
    what: str
    figure: Callable[[Results], float]
    least: float | None = None
    most: float | None = None
    unit: str = "x"
    profile: Row | None = None

    def is_reached(self, figure: float) -> bool:
        """Return whether a figure keeps the bound."""
        return (self.least is None or figure >= self.least) and (
            self.most is None or figure <= self.most
        )

    @property
    def bound(self) -> str:
        """The bound in words."""
        word, value = ("at least", self.least) if self.most is None else ("at most", self.most)
        return f"{word} {value:,g}{self.unit}"


AIMS: Final = (
    Aim("A", "append, buffered: times mcap's speed",
        _times_as_fast("append", append.OURS, append.MCAP), least=3, profile=append.OURS),
    Aim("A", "append, a write an event: times mcap's speed",
        _times_as_fast("append", append.OURS_ONE, append.MCAP_ONE), least=3, profile=append.OURS_ONE),
    Aim("B", "read: times mcap's speed",
        _times_as_fast("read", read.OURS, read.MCAP), least=10, profile=read.OURS),
    Aim("B", "read: times the speed of mcap's streaming reader",
        _times_as_fast("read", read.OURS, read.STREAMING), least=10, profile=read.OURS),
    Aim("C", "replay: times QEMU's speed, write, wait, read",
        _times_as_fast("replay", replay.OURS, replay.QEMU), least=10, profile=replay.OURS),
    Aim("C", "replay: times eventsourcing's speed",
        _times_as_fast("replay", replay.OURS, replay.EVENTSOURCING), least=20, profile=replay.OURS),
    Aim("E", "events readable after SIGKILL, a write an event",
        _readable, least=killed.COUNT, unit=""),
    Aim("F", "bytes an event, zstd, its own times", _bytes, most=5, unit=""),
    *(Aim("I", f"memory at ten million events beside one million, {what}", _growth(rows), most=1.1)
      for what, rows in (("append", memory.APPEND), ("read", memory.READ), ("replay", memory.REPLAY))),
    Aim("B", "the limit: read without type checks, times the bare Unpacker's time",
        _times_as_long(("read", read.UNTYPED), ("read", read.LIMIT)), most=1.5, profile=read.UNTYPED),
    Aim("B", "the limit: read, times the bare Unpacker's time",
        _times_as_long(("read", read.OURS), ("read", read.LIMIT)), most=2.5, profile=read.OURS),
    Aim("C", "the limit: replay, times read's time, pure Python",
        _times_as_long(("replay", replay.OURS), ("read", read.OURS)), most=3, profile=replay.OURS),
    Aim("C", "the limit: replay, times read's time, compiled",
        _times_as_long(("replay", replay.COMPILED), ("read", read.COMPILED)), most=1.7),
)  # fmt: skip
