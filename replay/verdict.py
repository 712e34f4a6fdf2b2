"""A verdict as data: the words, a component with its evidence, a reset, a round trip.

Counterpart: `replay.verify`, which gathers them from a replay. What each word rests on is in
docs/verdicts.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from replay.contracts import ALL_BITS, KEPT, Clause

# Words for a component and for the whole, worst first.
STALE: Final = "stale"
SUSPECTED: Final = "suspected"
UNSPECIFIED: Final = "unspecified"
KEPT_WORD: Final = "kept"
VERIFIED: Final = "verified"
UNPROVEN: Final = "unproven"
EQUAL: Final = "equal"
FINDINGS: Final = (STALE, SUSPECTED)


@dataclass(frozen=True, slots=True)
class Observation:
    """A value seen at `seq`; only the bits of `mask` were shown."""

    seq: int
    value: int
    mask: int


@dataclass(slots=True)
class Component:
    """One register or structure, as it came out of a reset."""

    name: str
    fresh: Any
    replayed: Any
    before: Any
    width: int
    clause: Clause | None
    writer: tuple[int, Any] | None  # the last event that wrote it before the reset, and what
    observed: list[Observation] = field(default_factory=list)
    shown: int = 0  # bits observed and equal to a fresh device
    wrong: Observation | None = None
    reason: str | None = None  # of what was seen or is missing, where neither is plain

    def forget(self) -> None:
        """What was observed of it was not of this reset."""
        self.observed.clear()
        self.shown, self.wrong, self.reason = 0, None, None

    @property
    def mask(self) -> int:
        """The bits that count: the clause's, within the register."""
        return (self.clause.mask if self.clause else ALL_BITS) & (1 << self.width) - 1

    def replayed_differs(self) -> bool:
        """Return whether the model came out of the reset different from fresh."""
        if self.replayed is None:
            return False  # nobody knows what it was
        if isinstance(self.fresh, int) and isinstance(self.replayed, int):
            return bool((self.fresh ^ self.replayed) & self.mask)
        return bool(self.fresh != self.replayed)

    def unspoken(self) -> bool:
        """Return whether bits differ, replayed or observed, that the clause does not bind."""
        if not isinstance(self.fresh, int):
            return False
        seen = any((each.value ^ self.fresh) & each.mask & ~self.mask for each in self.observed)
        known = isinstance(self.replayed, int)
        return seen or (known and bool((self.replayed ^ self.fresh) & ~self.mask))

    def bound_is_verified(self) -> bool:
        """Return whether what the contract binds was observed, and is equal."""
        return self.wrong is None and self._seen() == VERIFIED

    @property
    def blame(self) -> int | None:
        """The event that planted what is stale; None when nothing is, or no event wrote that."""
        if self.writer is None:
            return None
        seq, value = self.writer
        if self.wrong and isinstance(self.fresh, int):
            same = isinstance(value, int) and not (value ^ self.wrong.value) & self.wrong.mask
            return seq if same else None
        if self.wrong:
            return seq  # of a list: whoever saw it wrong has said who wrote that key
        return seq if self.replayed_differs() else None

    def status(self, *, strict: bool) -> str:
        """Return this component's word."""
        if self.clause is not None and self.clause.word == KEPT:
            return KEPT_WORD if self.wrong or self.replayed_differs() else self._seen()
        if self.wrong:
            return STALE if self.clause or strict else UNSPECIFIED
        if self.replayed_differs() and self._seen() != VERIFIED:
            if self.clause:
                return SUSPECTED
            return STALE if strict else UNSPECIFIED
        if self.unspoken():
            return STALE if strict else UNSPECIFIED
        return self._seen()

    def _seen(self) -> str:
        return VERIFIED if self.observed and not self.mask & ~self.shown else UNPROVEN


@dataclass(slots=True)
class ResetVerdict:
    """One reset: its components, and what is to be said of the whole."""

    seq: int
    how: str
    unit: str
    components: list[Component]
    perturbed: bool = False  # a probe that stopped the VM gave some of the evidence
    lossy: bool = False
    strict: bool = False
    joined: bool = False  # the trace begins in the middle of the VM's life
    since: int | None = None  # where a reinit began: the ITS was disabled
    left_in_ram: dict[str, int] = field(default_factory=dict)  # component -> valid entries

    def statuses(self) -> dict[str, str]:
        """Return component name -> word."""
        return {each.name: each.status(strict=self.strict) for each in self.components}

    @property
    def spoken_of(self) -> list[Component]:
        """The components that the contract binds."""
        return [each for each in self.components if each.clause and each.clause.word != KEPT]

    @property
    def observed(self) -> int:
        """How many of those were observed whole, and equal."""
        return sum(1 for each in self.spoken_of if each.bound_is_verified())

    def planted_before(self, component: Component) -> bool:
        """Return whether what is stale was there before the recording began."""
        status = component.status(strict=self.strict)
        return self.joined and status == STALE and component.blame is None

    @property
    def word(self) -> str:
        """The whole: stale, suspected, verified, equal or unproven."""
        statuses = set(self.statuses().values())
        for word in FINDINGS:
            if word in statuses:
                return word
        if not self.observed:
            return UNPROVEN
        return VERIFIED if self.observed == len(self.spoken_of) else EQUAL


@dataclass(slots=True)
class RoundTrip:
    """One save and restore: what came back, against what was saved and not unmapped since."""

    seq: int
    saved_seq: int
    came_back: dict[str, list[Any]]  # component -> keys that nobody expects
    lost: dict[str, list[Any]]
    errno: int
    witness: int | None = None  # the event whose output showed it
    blame: int | None = None

    @property
    def word(self) -> str:
        """stale, suspected or equal."""
        if self.witness is not None:
            return STALE
        return SUSPECTED if self.came_back or self.lost or self.errno else EQUAL
