"""The word for each difference between two instances, with its clause, its blame and its place.

`stale` rests on what the target itself answered. What no clause speaks of is `unspecified`, and so
is what the guest made ambiguous. Words: docs/verdicts.md; clauses: `replay.contracts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from replay.contracts import CHANGED, KEPT, Clause, clause_for
from replay.equivalence.comparison import Row, Told
from replay.equivalence.inventory import Inventory
from replay.verdict import KEPT_WORD, STALE, UNSPECIFIED
from tracer import events as ev
from tracer.events import Event
from tracer.its.registers import gicr_register, its_register

if TYPE_CHECKING:
    from replay.equivalence.whence import Written

CARRIED: Final = "carried in RAM"
CRASHED: Final = "crashed"
EQUAL: Final = "equal"
_BUSY: Final = -16
# What is spoken of where a contract has no clause with its name; attributes and RAM show lists, too.
_SPOKEN_OF_AS: Final = {"translation_cache": "events", "lpis": "events"}
_ATTRIBUTES: Final = ("inner_cache", "outer_cache", "shareability")


@dataclass(slots=True)
class Difference:
    """One difference: what was told, and the word for it."""

    component: str
    key: Any
    chapter: str
    event: Event | None
    one: Any
    other: Any
    word: str
    clause: Clause | None = None
    reason: str | None = None
    blame: int | None = None
    gpa: int | None = None  # where it sits in RAM
    written: Written | None = None  # by whom, and when
    handed_over: int | None = None  # the event at which a guest named the table, unzeroed
    intid: int | None = None  # that the entry in RAM maps to
    missing: bool = False  # the restored side's table lacks the entry

    def is_finding(self) -> bool:
        """Return whether it makes the exit code 1."""
        if self.word != CARRIED:
            return self.word == STALE
        guests = self.written is not None and self.written.who == "guest"
        return not guests and self.handed_over is None

    @property
    def excused(self) -> bool:
        """Whether the guest made it so, or nobody can say what is right."""
        return self.handed_over is not None or (
            self.word == UNSPECIFIED and self.reason is not None
        )

    def lost(self) -> bool:
        """Return whether it is the restored side that lacks something."""
        return self.one in (None, 0) or self.missing

    def follow(self, cause: Difference, reason: str | None) -> None:
        """Take over the word of what caused this, and where that sits."""
        self.word, self.gpa, self.written = cause.word, cause.gpa, cause.written
        self.handed_over, self.reason = cause.handed_over, reason

    def in_old_tables(self, inventory: Inventory) -> None:
        """The device stumbles over what lies in its tables: not, once they are zeroed."""
        self.word, self.handed_over = CARRIED, inventory.reused
        self.reason = "with the tables zeroed before the save it does not happen"

    def settle(self, written: Written | None, inventory: Inventory) -> None:
        """Take in who wrote it; what a guest handed over in a table is not the device's doing."""
        self.written = written
        handed = inventory.handed_over(self.component, self.key)
        if written is None or written.seq is None:
            return
        if self.component == "events":
            self.intid = written.value >> 16 & 0xFFFF_FFFF
        if handed is not None and written.seq < handed:
            self.handed_over = handed


class Judge:
    """Gives words; `strict` calls what no clause speaks of stale."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict

    def word(self, told: Told, chapter: str, run: Any) -> Difference:
        """Return a difference with its word."""
        found = Difference(
            told.component, told.key, chapter, told.event, told.one, told.other, UNSPECIFIED
        )
        found.blame = run.inventory.planted_by(found.component, _blamed(found))
        _WORDS[run.question.what](found, told, run)
        if self._strict and found.word == UNSPECIFIED and found.reason is None:
            found.word = STALE
        return found


def _blamed(found: Difference) -> Any:
    """Return the key that blame goes by; registers have none."""
    return None if found.component.startswith("GI") else found.key


def _reset(found: Difference, told: Told, run: Any) -> None:
    question = run.question
    how = ev.RESET_KINDS[question.how]
    tables = CHANGED if question.how == ev.REINIT else ""
    names = [found.component, _SPOKEN_OF_AS.get(found.component, "devices")]
    if found.component.startswith("GI"):
        del names[1]
    clauses = [clause_for(run.inventory.profile, how, name, tables) for name in names]
    clause = found.clause = next(filter(None, clauses), None)
    if clause is None:
        found.reason = None
    elif clause.word == KEPT:
        found.word = KEPT_WORD
    elif not _bound_bits_differ(told, clause):
        found.clause = None
    else:
        found.word = STALE


def _bound_bits_differ(told: Told, clause: Clause) -> bool:
    if not (isinstance(told.one, int) and isinstance(told.other, int)):
        return True
    if not told.component.startswith("GI"):
        return True
    shift = 8 * (told.key or 0)
    return bool((told.one ^ told.other) << shift & clause.mask & told.mask)


def _pending_table(found: Difference, told: Told, run: Any) -> None:
    """An LPI that is pending as it is mapped, because a bit of the past stood in RAM."""
    if isinstance(found.one, Row):
        found.word = CARRIED
        found.gpa = run.probe.pending_word(found.one.target, found.key)
    else:
        found.word = STALE


def _trip(found: Difference, told: Told, run: Any) -> None:
    """A round trip should have changed nothing that was saved."""
    found.word = STALE
    _as_its_device(found, run.inventory)
    found.reason = _ambiguous(found, run.inventory)
    if found.component in run.not_given_back:
        found.reason = "the VMM did not write it back"
    if found.reason is not None:
        found.word = UNSPECIFIED
        return
    if found.event is None and isinstance(found.one, tuple):
        found.gpa = found.one[0]
        if _chains(found):
            found.gpa = run.known_places.entry(found.component, found.key)
            if found.missing and found.component == "events":
                found.word, found.reason = (
                    UNSPECIFIED,
                    "no MSI reached it before, and none does now",
                )
                return
    elif found.component in ("devices", "events"):
        if found.component == "events" and found.key[0] in run.inventory.unmapped:
            found.intid = run.inventory.events.get(found.key)
            found.component, found.key = "devices", found.key[0]
            found.blame = run.inventory.planted_by("devices", found.key)
        found.gpa = run.known_places.entry(found.component, found.key)
    if found.gpa is not None:
        found.word = CARRIED


def _as_its_device(found: Difference, inventory: Inventory) -> None:
    """A live LPI that is back, and whose only event was an unmapped device's, is that device."""
    if found.component != "lpis" or not isinstance(found.one, Row) or found.other is not None:
        return
    devices = {pair[0] for pair, intid in inventory.events.items() if intid == found.key}
    if len(devices) == 1 and devices <= inventory.unmapped:
        found.component, found.intid, found.key = "devices", found.key, devices.pop()
        found.blame = inventory.planted_by("devices", found.key)


def _chains(found: Difference) -> bool:
    """Blame an entry whose distance to the next differs on the one that only one side has."""
    shift, first = {"devices": (49, 0x3FFF), "events": (48, 0xFFFF)}.get(found.component, (0, 0))
    a, b = (word >> shift & first for word in (found.one[1], found.other[1]))
    if not first or a == b:
        return False
    distance = min(each for each in (a, b) if each)
    found.missing = distance == b
    if isinstance(found.key, tuple):
        found.key = (found.key[0], found.key[1] + distance)
    else:
        found.key += distance
    return True


def inherit(differences: Sequence[Difference]) -> None:
    """Let what follows from another difference of a round trip have its word.

    A live LPI that one side has is there as the event that is mapped to it. A restore that came
    upon an entry of the past goes on from there, and loses what lies behind it.
    """
    carried = [each for each in differences if each.word == CARRIED]
    by_intid = {each.intid: each for each in carried if each.intid}
    for each in differences:
        cause = by_intid.get(each.key)
        if each.component == "lpis" and each.word == STALE and cause is not None:
            each.follow(cause, "as the event that is mapped to it")
    old = [each for each in carried if each.handed_over is not None]
    for each in carried:
        if not each.is_finding():
            continue
        hides = _in_front if each.lost() else _leads_to
        cause = next((past for past in old if hides(past, each)), None)
        if cause is not None:
            how = "lost behind" if each.lost() else "reached through"
            each.follow(cause, f"{how} an entry of the past")
    excused = {each.key: each for each in differences if each.component == "lpis" and each.excused}
    for each in differences:
        if each.component == "lpis" and each.is_finding() and each.key in excused:
            each.follow(excused[each.key], excused[each.key].reason)


def _in_front(past: Difference, lost: Difference) -> bool:
    """Return whether an entry of the past may have hidden another: same ITT, or a device's."""
    if past.component == "devices":
        return True
    return past.component == lost.component == "events" and past.key[0] == lost.key[0]


def _leads_to(past: Difference, back: Difference) -> bool:
    """Return whether an event came back because its device did."""
    return past.component == "devices" and back.component == "events" and back.key[0] == past.key


def _ambiguous(found: Difference, inventory: Inventory) -> str | None:
    """Return why nobody can say what was right, or None."""
    one, other = found.one, found.other
    if found.component.startswith("GI") and _only_attributes(found):
        return "memory attributes are sanitised as they are written back"
    if found.component == "lpis" and _elsewhere(one, other):
        if found.key in inventory.shared:
            return "two events were mapped to this INTID: which one's vCPU counts is not said"
        if inventory.moved_all:
            return "MOVALL moves an LPI whose collection stays where it was"
    if found.component == "lpis" and one is None and isinstance(other, Row):
        return "it is gone, and no event that was asked about reached it"
    if found.component == "events" and _BUSY in (one, other) and 1 in (one, other):
        return "a cached translation answers without a look at the vCPU's LPIs"
    return None


def _only_attributes(found: Difference) -> bool:
    """Return whether two values of a register differ in nothing but memory attributes."""
    find = gicr_register if found.component.startswith("GICR") else its_register
    register = found.event and find(found.event[3 if find is gicr_register else 2])
    if not register or not isinstance(found.one, int) or not isinstance(found.other, int):
        return False
    fields = register[1].layout.fields_
    mask = sum(field.mask for field in fields if field.attr in _ATTRIBUTES)
    return not (found.one ^ found.other) << 8 * (found.key or 0) & ~mask


def _elsewhere(one: Any, other: Any) -> bool:
    """Return whether two rows have an LPI on different vCPUs."""
    return isinstance(one, Row) and isinstance(other, Row) and one.target != other.target


_WORDS: Final = {"reset": _reset, "round trip": _trip, "pending tables": _pending_table}
