"""Check 3: a target answers for itself. Two instances of it, alike but for their past, are asked.

*reset*: one lived and was reset, the other is fresh, its RAM a copy. *round trip*: both lived, and
one was saved, reset and restored. No model says what is right. The counterparts are
`replay.probe_sequence` (what is asked), `replay.comparison` and `replay.equivalence_words`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

from replay.comparison import Comparison, Told, pending_bits, ram, value_of
from replay.equivalence_words import (
    CARRIED,
    CRASHED,
    EQUAL,
    Difference,
    Judge,
    Places,
    inherit,
)  # fmt: skip
from replay.inventory import Inventory
from replay.model import effects
from replay.model.effects import HostCrash
from replay.probe_builder import AREA_BYTES, MAX_PAIRS, MIN_CPUS, Probe, Step
from replay.probe_sequence import CHAPTERS, PENDING_TABLES, ROUND_TRIP, Chapter, probe_of
from replay.targets.ahead import Group, Grouper, Inspectable, Item
from replay.verdict import STALE, UNPROVEN
from replay.whence import origin
from tracer import events as ev
from tracer.events import NUMBER, Event, make
from tracer.log.header import Header

RESET: Final = "reset"
ROUND: Final = "round trip"
PENDING: Final = "pending tables"
KINDS: Final = (*ev.RESET_KINDS[1:], ROUND, PENDING)
MAX_ORIGINS: Final = 8  # differences of a question whose writer is looked for
_BATCH: Final = 4096
_RESET, _PROBE = NUMBER["reset"], NUMBER["probe"]
_ALONE: Final = (NUMBER["save"], NUMBER["restore"], _RESET)  # what a host may die of
# What made a VM what it is, beside its ITS: a fresh one is given the same.
_OF_THE_VM: Final = (NUMBER["ram"], NUMBER["gicd.write"])
_GICR_WRITE, _ATTR_SET = NUMBER["gicr.write"], NUMBER["attr.set"]
Opener = Callable[[Header], AbstractContextManager[Inspectable]]


class Crashed(Exception):
    """A host died of what an instance was asked."""

    def __init__(self, crash: HostCrash, oops: Sequence[str]) -> None:
        super().__init__(str(crash))
        self.function = crash.function
        self.oops = list(oops)


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


@dataclass(slots=True)
class Outcome:
    """What came of one question."""

    question: Question
    target: str = ""
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


def plan(events: Sequence[Event], kinds: Sequence[str], *, probe: bool) -> list[Question]:
    """Return what is to be asked of a life: at each reset of it, and (probing) at its end.

    `kinds` are resets by name, `round trip` and `pending tables`; a reset that stands in the trace
    is asked about whatever its kind.
    """
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
            found.append(Question(ROUND, saved, resumed=at + 1))
    return found


class Side:
    """One instance, and what it was asked and answered."""

    def __init__(self, target: Inspectable) -> None:
        self.target = target
        self.tape: list[Event] = []

    def live(self, events: Iterable[Event]) -> None:
        """Carry out a life."""
        grouper = Grouper(self.target.asked)
        groups = [*grouper.take(0, list(events)), *grouper.rest()]
        for at in range(0, len(groups), _BATCH):
            self._carry_out(groups[at : at + _BATCH])

    def ask(self, events: Sequence[Event]) -> list[Any]:
        """Carry out events, and return what each answered."""
        items = self._carry_out([Group(0, event, ()) for event in events])
        return [value_of(item) for item in items]

    def _carry_out(self, groups: Sequence[Group]) -> list[Item]:
        known = [group for group in groups if group.event[0] < ev.FIRST_OUTPUT or self._asks(group)]
        items = self.target.carry_out(known)
        for item in items:
            self.tape += _recorded(item)
        crash = next((item[1] for item in items if isinstance(item[1], HostCrash)), None)
        if crash is not None:
            raise Crashed(crash, self.target.oops)
        return items

    def _asks(self, group: Group) -> bool:
        return group.event[0] in self.target.asked


def _recorded(item: Item) -> list[Event]:
    """Return an event as it happened here, with what it answered."""
    event, value = item[0], value_of(item)
    if event[0] == _PROBE:
        rows = [
            make("lpi.live", 0, cause=0, intid=intid, **row._asdict())
            for intid, row in sorted((value or {}).items())
        ]
        return [event, *rows, make("probe", 0, edge=1, lists=1)]
    if event[0] >= ev.FIRST_OUTPUT:
        return [] if value is None or isinstance(value, HostCrash) else [_answered(event, value)]
    kind = {"msi": "msi.result"}.get(ev.kind_name(event[0]))
    if value is None or isinstance(value, HostCrash):
        return [event]
    if kind:
        return [event, make(kind, 0, cause=1, result=value)]
    return [event, make("attr.result", 0, cause=1, errno=value)]


def _answered(event: Event, value: Any) -> Event:
    fields = ev.fields_of(event)
    for name in ("value", "data"):
        if name in fields:
            fields[name] = value
    if value == "bad":
        fields |= {"value": 0, "bad": 1}
    return make(ev.kind_name(event[0]), 0, **fields)


class Bench:
    """Asks a target about one life. `open_target` starts an instance with a VM as a header says."""

    def __init__(
        self, header: Header, events: Sequence[Event], open_target: Opener, judge: Judge
    ) -> None:
        self._given = header
        self.events = events
        self._open_target = open_target
        self._judge = judge
        self._fatal: dict[str, str] = {}  # chapter -> the function in which a host died of it
        self.cpus = max(header.cpus or 1, MIN_CPUS)
        self._area, ranges = _area(header)
        self.header = replace(header, cpus=self.cpus, mpidrs=self._mpidrs(), ram_ranges=ranges)

    def _mpidrs(self) -> list[int] | None:
        known = self._given.mpidrs
        if known is None or len(known) >= self.cpus:
            return known
        used = set(known)
        spare = [cpu & 15 | cpu >> 4 << 8 for cpu in range(2 * self.cpus)]
        spare = [each for each in spare if each not in used]
        return [*known, *spare[: self.cpus - len(known)]]

    # -- one question

    def ask(self, question: Question, inventory: Inventory, *, probe: bool) -> Outcome:
        """Return what came of a question; `probe`: ask the generated ones, else what follows."""
        outcome = Outcome(question)
        if self.cpus != self._given.cpus:
            had = self._given.cpus or "no known number of"
            outcome.notes.append(f"the trace has {had} vCPUs, both sides had {self.cpus}")
        with ExitStack() as stack:
            one = Side(stack.enter_context(self.open()))
            outcome.target = one.target.name
            run = _Run(self, question, inventory, outcome, one)
            try:
                other = _BEGIN[question.what](self, run, stack)
                if other is not None:
                    run.compare(other, self._asked(run, probe=probe))
            except Crashed as crash:
                outcome.crash = (run.chapter, crash.function, crash.oops)
                self._fatal[run.chapter] = crash.function
                outcome.not_looked += [f"{each.name} ({each.title})" for each in run.left]
            outcome.tape = one.tape
        run.finish()
        return outcome

    def _asked(self, run: _Run, *, probe: bool) -> list[Chapter]:
        if not probe:
            first = CHAPTERS[0] if run.question.what == RESET else ROUND_TRIP[0]
            last = Chapter("end", "live LPIs, all RAM", lambda p: [*p.look(), Step(None)])
            return [first, self._suffix(run), last]
        run.complete()
        return self._able(run, _ASKED[run.question.what])

    def _able(self, run: _Run, chapters: Sequence[Chapter]) -> list[Chapter]:
        able = []
        for each in chapters:
            if each.attributes and not run.attributes:
                run.outcome.not_looked.append(f"{each.name} ({each.title}): the target cannot")
            elif each.name in self._fatal:
                died = f"a host died of it before, in {self._fatal[each.name]}"
                run.outcome.not_looked.append(f"{each.name} ({each.title}): {died}")
            elif not (run.question.how == ev.REINIT and each.name in ("p0", "p1")):
                able.append(each)
        return able

    def _suffix(self, run: _Run) -> Chapter:
        """The recorded questions: what follows, up to the next reset."""
        start = run.question.resumed or run.question.at + run.question.recorded
        end = next(
            (at for at in range(start, len(self.events)) if self.events[at][0] == _RESET),
            len(self.events),
        )
        steps = [
            Step(event)
            for event in self.events[start:end]
            if event[0] < ev.FIRST_OUTPUT or event[0] in run.one.target.asked
        ]
        return Chapter("recorded", f"events {start} to {end - 1}", lambda _: steps)

    # -- the two questions

    def _reset(self, run: _Run, stack: ExitStack) -> Side | None:
        question = run.question
        prefix = self.events[: question.at]
        run.chapter = "the life"
        run.one.live(prefix)
        run.chapter = "the reset"
        run.one.ask(_reset_events(question, self.cpus, redistributors=run.attributes))
        other = Side(stack.enter_context(self.open()))
        other.live(each for each in prefix if _is_the_vms(each, question.unit))
        other.target.copy_ram(run.one.target)
        return other

    def _round_trip(self, run: _Run, stack: ExitStack) -> Side | None:
        other = Side(stack.enter_context(self.open()))
        for side in (run.one, other):
            run.chapter = "the life"
            side.live(self.events[: run.question.at])
            side.target.complete()
        run.places(other)
        if run.probe.in_queue_of(other.target.registers()):
            run.chapter = "INV of every event"
            again = _events(run.probe.each("INV", run.probe.old))
            for side in (run.one, other):
                side.ask(again)
        else:
            run.outcome.notes.append("the ITS is disabled: configurations could not be read again")
        return other if run.save_and_restore(run.one) else None

    def _pending_tables(self, run: _Run, stack: ExitStack) -> Side | None:
        sides = [run.one]
        run.chapter = "the life"
        run.one.live(self.events[: run.question.at])
        old = run.old_pending_bits(run.one)
        if not old:
            return None
        sides.append(Side(stack.enter_context(self.open())))
        sides[1].live(self.events[: run.question.at])
        run.old_pending_bits(sides[1])
        run.probe.map_to(old)
        sides[1].ask(_events(run.probe.zero_bits(old)))
        return sides[1]

    def origin_of(self, gpa: int, at: int) -> Any:
        """Return who wrote a doubleword of RAM last in the life up to `at`, and when."""
        with self.open() as target:
            return origin(target, self.events[:at], gpa)

    def open(self) -> AbstractContextManager[Inspectable]:
        """Start an instance."""
        return self._open_target(self.header)

    def judge(self, run: _Run, told: Told, chapter: str) -> Difference:
        """Give a difference its word."""
        return self._judge.word(told, chapter, run)


def _is_the_vms(event: Event, unit: str) -> bool:
    """Return whether an event made the VM what it is, beside its ITS."""
    if event[0] in _OF_THE_VM:
        return True
    gic = event[0] == _ATTR_SET and event[2] == ev.DEVICES.index("gic")
    return unit == "its" and (gic or event[0] == _GICR_WRITE)


def _events(steps: Sequence[Step]) -> list[Event]:
    return [step.event for step in steps if step.event is not None]


def _reset_events(question: Question, cpus: int, *, redistributors: bool) -> list[Event]:
    """Return what a VMM does; of a system reset it does the redistributors' part itself (KVM)."""
    if question.how == ev.REINIT:
        return []
    reset = [make("reset", 0, how=question.how, origin=ev.VMM)]
    if question.how != ev.SYSTEM or not redistributors:
        return reset
    offsets = (0x0, 0x70, 0x74, 0x78, 0x7C)  # CTLR first: the others are ignored while it is on
    zeroes = [
        make("gicr.write", 0, cpu=cpu, offset=at, value=0, size=4, origin=ev.VMM)
        for cpu in range(cpus)
        for at in offsets
    ]
    return [*reset, *zeroes]


def _area(header: Header) -> tuple[int, list[list[int]] | None]:
    """Return where the probe's RAM is: behind all that the VM had, and a hole."""
    if header.ram_ranges is None:
        return 0x4000_0000 + (3 << 30), None  # both kinds of targets give such a VM 4 GiB
    ranges = [list(each) for each in header.ram_ranges]
    end = max((base + size for base, size in ranges), default=0x4000_0000)
    area = (end + 0x3F_FFFF & ~0x1F_FFFF) if end >= 0x4000_0000 else 0x4000_0000
    return area, [*ranges, [area, AREA_BYTES]]


class _Run:
    """One question while it is asked."""

    def __init__(
        self, bench: Bench, question: Question, inventory: Inventory, outcome: Outcome, one: Side
    ) -> None:
        self.bench = bench
        self.question = question
        self.inventory = inventory
        self.outcome = outcome
        self.one = one
        self.other: Side | None = None
        self.chapter = ""
        self.left: list[Chapter] = []  # what comes behind it
        self.attributes = effects.ATTR_RESULT in one.target.expresses
        self.known_places = Places()
        self.probe: Probe = probe_of(
            inventory, cpus=bench.cpus, area=bench._area,
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
        self.known_places = Places.of(side.target, self.inventory, self.bench.cpus)

    def old_pending_bits(self, side: Side) -> list[tuple[int, int]]:
        """Save the pending tables; return (vCPU, INTID) of bits that no pending LPI accounts for.

        Bits of LPIs that live and are not pending are as good as taken back: they were saved.
        """
        side.target.complete()
        steps = self.probe.registers()
        for step, value in zip(steps, side.ask(_events(steps)), strict=True):
            self.probe.learn(step, value)
        self.chapter = "save_pending"
        steps = [*self.probe.look(), *self.probe.pending()]
        answers = side.ask(_events(steps))
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
        with self.bench.open() as target:
            side = Side(target)
            side.live(self.bench.events[: self.question.at])
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
        self.other = other
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
        events = _events(steps)
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
            self._tell(Told(component, key, None, (gpa, one), (gpa, two)))
        if not found:
            self._comparison.looked["RAM"] += 1

    def _tell(self, told: Told) -> None:
        self.outcome.differences.append(self.bench.judge(self, told, self.chapter))

    def finish(self) -> None:
        """Note what was equal and what was not looked at; find out who wrote what is in RAM."""
        self.outcome.looked = dict(self._comparison.looked)
        self.outcome.not_looked += list(self._comparison.unanswered)
        known: dict[int, Any] = {}
        for each in self.outcome.differences:
            if each.gpa is None:
                continue
            if each.gpa not in known and len(known) < MAX_ORIGINS:
                known[each.gpa] = self.bench.origin_of(each.gpa, self.question.at)
            each.settle(known.get(each.gpa), self.inventory)
        inherit(self.outcome.differences)


_OFFSETS: Final = {
    "CTLR": 0x0, "CBASER": 0x80, "CWRITER": 0x88, "CREADR": 0x90, "BASER0": 0x100, "BASER1": 0x108,
}  # fmt: skip


_BEGIN: Final = {
    RESET: Bench._reset, ROUND: Bench._round_trip, PENDING: Bench._pending_tables,
}  # fmt: skip
_ASKED: Final = {RESET: CHAPTERS, ROUND: ROUND_TRIP, PENDING: PENDING_TABLES}


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
