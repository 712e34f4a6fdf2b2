"""What `blame` answers, as data: who wrote a component, and what each reset before that did to it.

Counterpart: `replay.blame`, which finds it in a replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from replay.components import Target
from replay.contracts import KEPT
from replay.history import Act, Raised, Record
from replay.verdict import FINDINGS, STALE, Component, ResetVerdict, RoundTrip
from tracer.events import NUMBER

_RESTORE: Final = NUMBER["restore"]

# What a reset did to a component that it is said to have lived through.
REWROTE: Final = "rewrote it"
LEFT: Final = "left it as it was"
REMOVED: Final = "removed it"
ABSENT: Final = "was not there"
IN_RAM: Final = "left its entry in guest RAM"

# What became of the contract's clause in a reset.
BROKE: Final = "broke"
HELD: Final = "kept"
ALLOWS: Final = "allows"
UNSPOKEN: Final = "no clause"


@dataclass(slots=True)
class Passage:
    """One reset that the component went through, and what became of the clause about it."""

    verdict: ResetVerdict
    did: str
    clause: str
    component: Component
    lived: bool  # whether the component is as it was since before this reset


@dataclass(slots=True)
class Blame:
    """The history of one component as of `seq`."""

    target: Target
    seq: int
    value: Any
    present: bool
    record: Record | None = None
    bits: list[tuple[Act, int]] = field(default_factory=list)  # of a register, last first
    raised: Raised | None = None  # of an LPI
    touched: Act | None = None  # of an LPI: what last raised, cleared or took it
    target_acts: tuple[Act, ...] = ()  # of an event: what its collection, or its vPE, is
    entry: Act | None = None  # what wrote the entry that a restore read
    joined: bool = False
    losses: list[int] = field(default_factory=list)  # since it was written
    passages: list[Passage] = field(default_factory=list)
    trips: list[RoundTrip] = field(default_factory=list)

    @property
    def writer(self) -> Act | None:
        """The act that last wrote it; None for what no event of the trace wrote."""
        if self.target.key is None:
            return self.bits[0][0] if self.bits else None
        if self.touched is not None and (
            self.record is None or self.touched.seq >= self.record.last.seq
        ):
            return self.touched
        return None if self.record is None else self.record.last

    @property
    def since(self) -> Act | None:
        """The act that gave it the value it has; the oldest where several wrote its bits."""
        if self.target.key is None:
            return self.bits[-1][0] if self.bits else None
        return None if self.record is None else self.record.since

    def chain(self) -> tuple[Act, ...]:
        """Return what is behind the last write, in the order in which it happened."""
        acts: list[Act] = [each for each, _ in self.bits]
        if self.record is not None:
            acts += self.record.chain()
        if self.raised is not None:
            acts += [*self.raised.behind, self.raised.act]
        acts += [*self.target_acts, *([self.entry] if self.entry else [])]
        return tuple(sorted({each for each in acts if each != self.writer}))


def add_verdicts(blame: Blame, resets: Sequence[ResetVerdict], trips: Sequence[RoundTrip]) -> None:
    """Put to an answer what the verdicts say of the resets and round trips before it."""
    target = blame.target
    begun = min((act.seq for act in (*blame.chain(), blame.writer) if act), default=-1)
    for verdict in resets:
        if verdict.seq <= blame.seq and (passage := _passage(verdict, blame, begun)):
            blame.passages.append(passage)
    blame.trips += [
        trip
        for trip in trips
        if begun < trip.seq <= blame.seq
        and any(
            target.key in found.get(target.component, ()) for found in (trip.came_back, trip.lost)
        )
    ]


def _passage(verdict: ResetVerdict, blame: Blame, begun: int) -> Passage | None:
    """Return what a reset did to the component; None where the reset was not about it."""
    component = next((e for e in verdict.components if e.name == blame.target.component), None)
    if component is None:
        return None
    did = _did(component, blame.target.key)
    made = blame.record and blame.record.made
    if did == ABSENT and made and made.event[0] == _RESTORE and verdict.seq < made.seq:
        did = IN_RAM
    return Passage(
        verdict, did, _clause(verdict, component, blame), component,
        lived=begun < verdict.seq and did != ABSENT,
    )  # fmt: skip


def _did(component: Component, key: Any) -> str:
    if key is None:
        return LEFT if component.before in (component.replayed, None) else REWROTE
    was = (component.before or {}).get(key)
    now = (component.replayed or {}).get(key)
    if now is None:
        return ABSENT if was is None else REMOVED
    return LEFT if was in (now, None) else REWROTE


def _clause(verdict: ResetVerdict, component: Component, blame: Blame) -> str:
    """Return what became of the clause, as far as this component is concerned."""
    if component.clause is None:
        return UNSPOKEN
    status = component.status(strict=verdict.strict)
    key = blame.target.key
    if key is not None and status in FINDINGS:
        survived = (component.replayed or {}).get(key)
        its = survived is not None and survived != (component.fresh or {}).get(key)
        seen = status == STALE and component.blame in {act.seq for act in blame.chain()}
        status = status if its or seen else HELD
    if component.clause.word == KEPT:
        return ALLOWS
    return BROKE if status in FINDINGS else HELD
