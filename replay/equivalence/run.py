"""One question while it is asked: both sides, what they were told apart by, and what came of it.

Counterparts: `replay.equivalence.bench`, which begins it, and `comparison`, which compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Protocol

from replay.equivalence.comparison import Comparison, Told, pending_bits, ram
from replay.equivalence.inventory import Inventory
from replay.equivalence.places import Places
from replay.equivalence.plan import Question
from replay.equivalence.probe import MAX_PAIRS, Probe, Step
from replay.equivalence.sequence import Chapter, probe_of
from replay.equivalence.side import Side
from replay.equivalence.whence import origin
from replay.equivalence.words import CARRIED, CRASHED, EQUAL, Difference, Judge, inherit
from replay.model import effects
from replay.targets.ahead import Inspectable
from replay.verdict import STALE, UNPROVEN
from tracer import events as ev
from tracer.events import NUMBER, Event, make
from tracer.its.registers import Baser, Ctlr, its_register

MAX_ORIGINS: Final = 8  # differences of a question whose writer is looked for
_RESET, _PROBE = NUMBER["reset"], NUMBER["probe"]
_TABLES: Final = ("GITS_BASER0", "GITS_BASER1")
_REG_WRITE: Final = NUMBER["reg.write"]
_SAVES: Final = (NUMBER["save"], NUMBER["save_pending"])
_TRIP: Final = (*_SAVES, NUMBER["restore"])
_ALONE: Final = (NUMBER["save"], NUMBER["restore"], _RESET)  # what a host may die of


@dataclass(slots=True)
class Outcome:
    """What came of one question."""

    question: Question
    target: str = ""
    about: str = ""  # what the target says of its version
    complaints: list[str] = field(default_factory=list)  # of a host's kernel that lives on
    differences: list[Difference] = field(default_factory=list)
    looked: dict[str, int] = field(default_factory=dict)  # component -> answers that were equal
    not_looked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chapters: list[str] = field(default_factory=list)
    crash: tuple[str, str, list[str]] | None = None  # chapter, function, lines of the oops
    tape: list[Event] = field(default_factory=list)  # the one with a past, with all answers

    def title(self) -> str:
        """Return what was asked."""
        asked = self.question
        where = f"{asked.what} at event {asked.at}"
        return where if asked.kind is None else f"{where} ({asked.kind}, unit {asked.unit})"

    @property
    def word(self) -> str:
        """The worst word of all; `equal` only if something was looked at."""
        if self.crash:
            return CRASHED
        words = {each.word for each in self.differences}
        for word in (STALE, CARRIED):
            if word in words:
                return word
        return EQUAL if self.looked else UNPROVEN


class Life(Protocol):
    """What is known of the life that is asked about, and how to start an instance for it."""

    cpus: int
    area: int
    events: Sequence[Event]
    judge: Judge

    def open(self) -> AbstractContextManager[Inspectable]:
        """Start an instance."""


def events_of(steps: Sequence[Step]) -> list[Event]:
    """Return the events of steps."""
    return [step.event for step in steps if step.event is not None]


class Run:
    """One question while it is asked."""

    def __init__(
        self, life: Life, question: Question, inventory: Inventory, outcome: Outcome, one: Side
    ) -> None:
        self.life = life
        self.question = question
        self.inventory = inventory
        self.outcome = outcome
        self.one = one
        self.other: Side | None = None
        self.chapter = ""
        self.left: list[Chapter] = []  # what comes behind it
        self.attributes = effects.ATTR_RESULT in one.target.expresses
        self.not_given_back: AbstractSet[str] = (
            frozenset()
        )  # registers that a recorded round trip lost
        self.on_alike = True  # whether the ITS is enabled on both sides, or on none
        self.known_places = Places()
        self.probe: Probe = probe_of(
            inventory, cpus=life.cpus, area=life.area,
            attributes=self.attributes, lists=_PROBE in one.target.asked,
        )  # fmt: skip
        self._comparison = Comparison()

    def complete(self) -> None:
        """From here on, everything that is put into RAM is an event."""
        for side in (self.one, self.other):
            if side is not None:
                side.target.complete()
        self.outcome.not_looked += self.probe.left_out

    def places(self, side: Side) -> None:
        """Learn where the tables of the life are."""
        self.known_places = Places.of(side.target, self.inventory)

    def old_pending_bits(self, side: Side) -> list[tuple[int, int]]:
        """Save the pending tables; return (vCPU, INTID) of bits that no pending LPI accounts for.

        Bits of LPIs that live and are not pending are as good as taken back: they were saved.
        """
        side.target.complete()
        steps = self.probe.registers()
        for step, value in zip(steps, side.ask(events_of(steps)), strict=True):
            self.probe.learn(step, value)
        self.chapter = "save_pending"
        steps = [*self.probe.look(), *self.probe.pending()]
        answers = side.ask(events_of(steps))
        live = answers[0] if self.probe.lists else None
        if live is None:
            self.outcome.not_looked.append("bits of the past: the target does not list its LPIs")
            return []
        found = [
            (step.cpu, intid)
            for step, value in zip(steps, answers, strict=True)
            if step.cpu is not None and step.event is not None and value is not None
            for intid in pending_bits(step.event, value)
            if not (intid in live and live[intid].pending)
        ]
        self._comparison.looked["pending tables"] += 1
        return found[:MAX_PAIRS]

    def save_and_restore(self, side: Side) -> bool:
        """Save, reset and restore an instance; return whether it was restored."""
        self.chapter = "save"
        values = side.target.registers()
        saved = [side.ask([make(kind, 0)])[0] for kind in ("save", "save_pending")]
        if any(saved):
            self.outcome.not_looked.append(f"the round trip: saving answers {saved}")
            return False
        self.chapter = "restore"
        errno = self._restore(side, values)
        if errno:
            self._refused(errno, values)
        return not errno

    def as_recorded(self, side: Side, other: Side, events: Sequence[Event]) -> bool:
        """Save, reset and restore an instance as it was recorded; return whether it was restored.

        The other one is saved, too, or its tables in RAM would be of another time.
        """
        self.chapter = "save"
        other.ask([event for event in events if event[0] in _SAVES])
        first = len(side.tape)
        side.live(events)
        failed = [
            ev.kind_name(one[0])
            for one, two in pairwise(side.tape[first:])
            if one[0] in _TRIP and two[0] == effects.ATTR_RESULT and two[3]
        ]
        if failed:
            self.outcome.not_looked.append(f"the round trip: {', '.join(failed)} fails")
            return False
        one, two = side.target.registers(), other.target.registers()
        written = {its_register(each[2]) for each in events if each[0] == _REG_WRITE}
        self.not_given_back = one.keys() - {found[0] for found in written if found}
        parted = {name: one.get(name, 0) ^ two.get(name, 0) for name in (*_TABLES, "GITS_CTLR")}
        lacking = [name for name in _TABLES if parted[name] & Baser.valid.mask]
        if lacking:
            named = ", ".join(lacking)
            self.outcome.not_looked.append(f"the round trip: {named} is not given back")
        self.on_alike = not parted["GITS_CTLR"] & Ctlr.enabled.mask
        return not lacking

    def _restore(self, side: Side, values: Mapping[str, int]) -> Any:
        """Reset an instance and restore it; return what RESTORE_TABLES answers."""
        order = ("CBASER", "CREADR", "CWRITER", "BASER0", "BASER1")
        side.ask([make("reset", 0, how=ev.CTRL_RESET, origin=ev.VMM)])
        side.ask([self._register(name, values[f"GITS_{name}"]) for name in order])
        errno = side.ask([make("restore", 0)])[0]
        side.ask([self._register("CTLR", values["GITS_CTLR"] & 1)])
        return errno

    def _refused(self, errno: int, values: Mapping[str, int]) -> None:
        """A restore of what was saved a moment ago failed: does something of the past lie there?"""
        self._tell(Told("RESTORE_TABLES", None, None, errno, 0))
        with self.life.open() as target:
            side = Side(target)
            side.live(self.life.events[: self.question.at])
            target.complete()
            zeroes = [
                make("mem.write", 0, gpa=gpa, data=bytes(size))
                for gpa, size in self.known_places.ranges()
            ]
            side.ask([*zeroes, make("save", 0)])
            if not self._restore(side, values):
                self.outcome.differences[-1].in_old_tables(self.inventory)

    def _register(self, name: str, value: int) -> Event:
        step = self.probe.write(_OFFSETS[name], value)
        assert step.event is not None
        return step.event

    # -- comparing

    def compare(self, other: Side, chapters: Sequence[Chapter]) -> None:
        """Ask both sides chapter by chapter."""
        self.left = list(chapters)
        while self.left:
            chapter = self.left.pop(0)
            self.chapter = chapter.name
            for steps in _runs(chapter.build(self.probe)):
                self._steps(steps, other)
            self.outcome.chapters.append(chapter.name)

    def _steps(self, steps: Sequence[Step], other: Side) -> None:
        if steps[0].event is None:
            self._ram(other)
            return
        events = events_of(steps)
        mine, theirs = self.one.ask(events), other.ask(events)
        for step, one, two in zip(steps, mine, theirs, strict=True):
            self.probe.learn(step, one)
            for told in self._comparison.step(step, one, two):
                self._tell(told)

    def _ram(self, other: Side) -> None:
        found = False
        for gpa, one, two in ram(self.one.target, other.target):
            component, key = self.known_places.at(gpa, one ^ two, self.probe)
            found = True
            if component == "lpis" and self._comparison.told_apart(key):
                continue
            self._tell(Told(component, key, None, (gpa, one), (gpa, two)))
        if not found:
            self._comparison.looked["RAM"] += 1

    def _tell(self, told: Told) -> None:
        if told.component == "translation_cache" and self._is_listed(told.key):
            told = told._replace(component="events")
        self.outcome.differences.append(self.life.judge.word(told, self.chapter, self))

    def _is_listed(self, key: Any) -> bool:
        """Return whether INT, which looks past the cache, reached the same event."""
        intid = self.inventory.events.get(key) if isinstance(key, tuple) else None
        return any(
            each.component == "events" and each.key == intid for each in self.outcome.differences
        )

    def finish(self) -> None:
        """Note what was equal and what was not looked at; find out who wrote what is in RAM."""
        self.outcome.looked = dict(self._comparison.looked)
        self.outcome.not_looked += list(self._comparison.unanswered)
        known: dict[int, Any] = {}
        for each in self.outcome.differences:
            if each.gpa is None:
                continue
            if each.gpa not in known and len(known) < MAX_ORIGINS:
                with self.life.open() as target:
                    lived = self.life.events[: self.question.at]
                    known[each.gpa] = origin(target, lived, each.gpa)
            each.settle(known.get(each.gpa), self.inventory)
        inherit(self.outcome.differences)


_OFFSETS: Final = {
    "CTLR": 0x0, "CBASER": 0x80, "CWRITER": 0x88, "CREADR": 0x90, "BASER0": 0x100, "BASER1": 0x108,
}  # fmt: skip


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    """Return the steps in runs: RAM, and what a host may die of, are alone."""
    runs: list[list[Step]] = []
    alone = True
    for step in steps:
        mine = step.event is None or step.event[0] in _ALONE
        if alone or mine:
            runs.append([])
        runs[-1].append(step)
        alone = mine
    return runs
