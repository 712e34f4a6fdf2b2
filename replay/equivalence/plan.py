"""What is to be asked of a life, and where: resets, round trips, pending tables.

Counterpart: `replay.equivalence.bench`, which asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of

RESET: Final = "reset"
ROUND: Final = "round trip"
PENDING: Final = "pending tables"
KINDS: Final = (*ev.RESET_KINDS[1:], ROUND, PENDING)
_RESET, _REG_WRITE = NUMBER["reset"], NUMBER["reg.write"]
_CWRITER: Final = 0x88
_CREADR: Final = 0x90


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: of the life up to event `at` (not with it), and which reset."""

    what: str
    at: int
    how: int | None = None
    recorded: bool = False  # the reset stands in the trace, at `at`
    resumed: int | None = None  # where a recorded round trip was over

    @property
    def kind(self) -> str | None:
        """The kind of the reset; None for a round trip."""
        return None if self.how is None else ev.RESET_KINDS[self.how]

    @property
    def unit(self) -> str:
        """What the reset is of: the ITS alone, or all LPIs, the redistributors' part with them."""
        return "lpi" if self.how == ev.SYSTEM else "its"


def plan(
    events: Sequence[Event], kinds: Sequence[str], *, probe: bool, places: Sequence[int] = ()
) -> list[Question]:
    """Return what is to be asked of a life: at each reset of it, and (probing) at its end.

    `kinds` are resets by name, `round trip` and `pending tables`; a reset that stands in the trace
    is asked about whatever its kind. With `places`, it is asked there, before those events.
    """
    if places:
        return [_question(kind, min(at, len(events))) for at in places for kind in kinds]
    found: list[Question] = []
    for at, event in enumerate(events):
        if event[0] == _RESET and event[2] != ev.POWER_ON:
            found.append(Question(RESET, at, event[2], recorded=True))
            if probe:
                others = [kind for kind in kinds if kind != ev.RESET_KINDS[event[2]]]
                found += [_question(kind, at) for kind in others]
    if not probe:
        return found + _recorded_trips(events)
    return found + [_question(kind, len(events)) for kind in kinds]


def _question(kind: str, at: int) -> Question:
    if kind in ev.RESET_KINDS:
        return Question(RESET, at, ev.RESET_KINDS.index(kind))
    return Question(kind, at)


def is_fair(question: Question, events: Sequence[Event]) -> bool:
    """Return whether a recorded round trip means the same to a side that was never reset.

    Commands behind it do only if the VMM gave GITS_CREADR back: without, the trace's queue begins
    anew, and the other side's goes on where it was.
    """
    if question.resumed is None or _writes(events[question.at : question.resumed], _CREADR):
        return True
    behind = takewhile(lambda event: event[0] != _RESET, events[question.resumed :])
    return not _writes(behind, _CWRITER)


def _writes(events: Iterable[Event], offset: int) -> bool:
    return any(event[0] == _REG_WRITE and event[2] & ~7 == offset for event in events)


def _recorded_trips(events: Sequence[Event]) -> list[Question]:
    """Return the round trips of a life: a save, a reset and a restore behind it."""
    found = []
    saved: int | None = None
    reset = False
    for at, event in enumerate(events):
        if event[0] == NUMBER["save"]:
            saved, reset = at, False
        reset |= event[0] == _RESET
        if event[0] == NUMBER["restore"] and reset and saved is not None:
            found.append(Question(ROUND, saved, resumed=at + 1 + _enables(events[at + 1 :])))
    return found


def _enables(events: Sequence[Event]) -> int:
    """Return how many events behind a restore belong to it: up to where a VMM writes GITS_CTLR."""
    for at, event in enumerate(events):
        if event[0] == _REG_WRITE and fields_of(event)["origin"] == ev.VMM:
            return at + 1 if event[2] == 0 else 0
        if event[0] < ev.FIRST_OUTPUT:
            return 0
    return 0
