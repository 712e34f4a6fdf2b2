"""The word for each difference between two instances, with its clause, its blame and its place.

`stale` rests on what the target itself answered. What no clause speaks of is `unspecified`, and so
is what the guest made ambiguous. Words: docs/verdicts.md; clauses: `replay.contracts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from replay.comparison import Row, Told
from replay.contracts import CHANGED, KEPT, Clause, clause_for
from replay.inventory import Inventory
from replay.probe_builder import Probe
from replay.targets.ahead import Inspectable
from replay.verdict import KEPT_WORD, STALE, UNSPECIFIED
from tracer import events as ev
from tracer.events import Event
from tracer.its.registers import Baser

if TYPE_CHECKING:
    from replay.whence import Written

CARRIED: Final = "carried in RAM"
CRASHED: Final = "crashed"
EQUAL: Final = "equal"
# Worst first; the first two are findings, `carried in RAM` is one unless a guest wrote it.
WORDS: Final = (STALE, CARRIED, UNSPECIFIED, KEPT_WORD, EQUAL)
_BUSY: Final = -16
_MAX_LEVEL1: Final = 1024
# What an attribute that fails on one side only speaks of.
_LISTS: Final = frozenset(("SAVE_TABLES", "RESTORE_TABLES", "SAVE_PENDING_TABLES", "CTRL_RESET"))


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

    def is_finding(self) -> bool:
        """Return whether it makes the exit code 1."""
        if self.word == CARRIED:
            return self.written is None or self.written.who == "device"
        return self.word == STALE


@dataclass(slots=True)
class _Place:
    start: int
    end: int
    component: str
    key: Callable[[int], Any]


class Places:
    """Where in RAM the tables of a life are."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._dte: dict[int, int] = {}  # DeviceID -> address of its entry
        self.itts: dict[int, int] = {}

    @classmethod
    def of(cls, target: Inspectable, inventory: Inventory, cpus: int) -> Places:
        """Return where they are, as the registers say now."""
        places = cls()
        registers = target.registers()
        places._devices(target, registers.get("GITS_BASER0", 0), inventory)
        baser1 = registers.get("GITS_BASER1", 0)
        start = Baser.physical_address.get(baser1)
        end = start + (Baser.size.get(baser1) + 1 << 16)
        places._add(start, end, "collections", partial(_entry_at, 0, start))
        for device, (itt, bits) in inventory.devices.items():
            places.itts[device] = itt
            places._add(itt, itt + (8 << bits), "events", partial(_event_at, device, itt))
        return places

    def _devices(self, target: Inspectable, baser: int, inventory: Inventory) -> None:
        start = Baser.physical_address.get(baser)
        size = Baser.size.get(baser) + 1 << 16
        pages = [(0, start, size)]
        if Baser.indirect.get(baser):
            level1 = target.load(start, 8 * _MAX_LEVEL1) or b""
            words = [int.from_bytes(level1[at : at + 8], "little") for at in range(0, size, 8)]
            pages = [
                (at << 13, word & ~0xFFFF & (1 << 52) - 1, 1 << 16)
                for at, word in enumerate(words)
                if word & Baser.valid.mask
            ]
        for first, page, bytes_ in pages:
            self._add(page, page + bytes_, "devices", partial(_entry_at, first, page))
            for device in inventory.devices:
                if first <= device < first + bytes_ // 8:
                    self._dte[device] = page + 8 * (device - first)

    def _add(self, start: int, end: int, component: str, key: Callable[[int], Any]) -> None:
        self._places.append(_Place(start, end, component, key))

    def at(self, gpa: int, changed: int, probe: Probe) -> tuple[str, Any]:
        """Return the component and the key of a doubleword of which these bits differ."""
        found = probe.place(gpa, changed)
        if found is not None:
            return found
        for place in self._places:
            if place.start <= gpa < place.end:
                return place.component, place.key(gpa)
        return "RAM", gpa

    def entry(self, component: str, key: Any) -> int | None:
        """Return where a device's or an event's entry is in the tables."""
        if component == "devices":
            return self._dte.get(key)
        if component == "events" and key[0] in self.itts:
            itt, event_id = self.itts[key[0]], int(key[1])
            return itt + 8 * event_id
        return None


def _entry_at(first: int, start: int, gpa: int) -> int:
    return first + (gpa - start) // 8


def _event_at(device: int, itt: int, gpa: int) -> tuple[int, int]:
    return device, (gpa - itt) // 8


class Judge:
    """Gives words; `strict` calls what no clause speaks of stale."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict

    def word(self, told: Told, chapter: str, run: Any) -> Difference:
        """Return a difference with its word."""
        found = Difference(*_of(told), chapter, told.event, told.one, told.other, UNSPECIFIED)
        found.blame = run.inventory.planted_by(found.component, _blamed(found))
        if run.question.what == "round trip":
            _trip(found, run)
        else:
            _reset(found, told, run)
        if self._strict and found.word == UNSPECIFIED and found.reason is None:
            found.word = STALE
        return found


def _of(told: Told) -> tuple[str, Any]:
    return told.component, told.key


def _blamed(found: Difference) -> Any:
    """Return the key that blame goes by; registers have none."""
    return None if found.component.startswith("GI") else found.key


def _reset(found: Difference, told: Told, run: Any) -> None:
    question = run.question
    how = ev.RESET_KINDS[question.how]
    component = "devices" if found.component in _LISTS | {"RAM"} else found.component
    tables = CHANGED if question.how == ev.REINIT else ""
    clause = found.clause = clause_for(run.inventory.profile, how, component, tables)
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


def _trip(found: Difference, run: Any) -> None:
    """A round trip should have changed nothing that was saved."""
    found.word = STALE
    found.reason = _ambiguous(found, run.inventory)
    if found.reason is not None:
        found.word = UNSPECIFIED
        return
    if found.event is None and isinstance(found.one, tuple):
        found.gpa = found.one[0]
    elif found.component in ("devices", "events"):
        found.gpa = run.known_places.entry(found.component, found.key)
    if found.gpa is not None:
        found.word = CARRIED


def _ambiguous(found: Difference, inventory: Inventory) -> str | None:
    """Return why nobody can say what was right, or None."""
    one, other = found.one, found.other
    if found.component == "lpis" and _elsewhere(one, other):
        if found.key in inventory.shared:
            return "two events were mapped to this INTID: which one's vCPU counts is not said"
        if inventory.moved_all:
            return "MOVALL moves an LPI whose collection stays where it was"
    if found.component == "events" and _BUSY in (one, other) and 1 in (one, other):
        return "a cached translation answers without a look at the vCPU's LPIs"
    return None


def _elsewhere(one: Any, other: Any) -> bool:
    """Return whether two rows of an LPI differ in nothing but its vCPU."""
    if not isinstance(one, Row) or not isinstance(other, Row):
        return False
    return one._replace(target=0, queued=0) == other._replace(target=0, queued=0)
