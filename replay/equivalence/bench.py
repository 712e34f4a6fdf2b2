"""Check 3: a target answers for itself. Two instances of it, alike but for their past, are asked.

*reset*: one lived and was reset, the other is fresh, its RAM a copy. *round trip*: both lived, and
one was saved, reset and restored. No model says what is right. The counterparts are
`replay.equivalence.sequence` (what is asked), `replay.equivalence.comparison` and `replay.equivalence.words`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Final

from replay.equivalence.inventory import Inventory
from replay.equivalence.plan import PENDING, RESET, ROUND, Question
from replay.equivalence.probe import AREA_BYTES, MIN_CPUS, Step
from replay.equivalence.recorded import recorded_steps
from replay.equivalence.run import Outcome, Run, events_of
from replay.equivalence.sequence import CHAPTERS, PENDING_TABLES, ROUND_TRIP, Chapter
from replay.equivalence.side import Crashed, Side
from replay.equivalence.words import Judge
from replay.targets.ahead import Inspectable
from tracer import events as ev
from tracer.events import NUMBER, Event, make
from tracer.log.header import Header

_RESET: Final = NUMBER["reset"]
# What no question reaches, on any target.
NEVER: Final = "vCPUs that run, GICv4"
# What made a VM what it is, beside its ITS: a fresh one is given the same.
_OF_THE_VM: Final = (NUMBER["ram"], NUMBER["gicd.write"])
_GICR_WRITE, _ATTR_SET, _MSI = NUMBER["gicr.write"], NUMBER["attr.set"], NUMBER["msi"]
Opener = Callable[[Header], AbstractContextManager[Inspectable]]
Choice = Callable[[list[Chapter]], list[Chapter]]
RECORDED: Final = "recorded"  # the chapter of what stands behind a reset in the trace


class Bench:
    """Asks a target about one life. `open_target` starts an instance with a VM as a header says.

    A generated probe needs CPUs and RAM of its own: with `as_given` a VM has what the header says.
    """

    def __init__(
        self,
        header: Header,
        events: Sequence[Event],
        open_target: Opener,
        judge: Judge,
        *,
        as_given: bool = False,
    ) -> None:
        self._given = header
        self.events = events
        self._open_target = open_target
        self.judge = judge
        self._fatal: dict[str, str] = {}  # chapter -> the function in which a host died of it
        self.cpus = max(header.cpus or 1, 1 if as_given and header.cpus else MIN_CPUS)
        self.area, ranges = _area(header)
        if as_given:
            ranges = header.ram_ranges
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

    def ask(
        self, question: Question, inventory: Inventory, *, probe: bool, choose: Choice = list
    ) -> Outcome:
        """Return what came of a question; `probe`: ask the generated ones, else what follows.

        `choose` is given the chapters and returns those to ask.
        """
        outcome = Outcome(question)
        if self.cpus != self._given.cpus:
            had = self._given.cpus or "no known number of"
            outcome.notes.append(f"the trace has {had} vCPUs, both sides had {self.cpus}")
        with ExitStack() as stack:
            one = Side(stack.enter_context(self.open()))
            outcome.target, outcome.about = one.target.name, one.target.about()
            run = Run(self, question, inventory, outcome, one)
            try:
                other = _BEGIN[question.what](self, run, stack)
                run.other = other
                if other is not None:
                    run.compare(other, choose(self._asked(run, probe=probe)))
            except Crashed as crash:
                outcome.crash = (run.chapter, crash.function, crash.oops)
                self._fatal[run.chapter] = crash.function
                outcome.not_looked += [f"{each.name} ({each.title})" for each in run.left]
            outcome.tape = one.tape
        run.finish()
        outcome.not_looked.append(NEVER)
        return outcome

    def _asked(self, run: Run, *, probe: bool) -> list[Chapter]:
        if not probe:
            first = CHAPTERS[0] if run.question.what == RESET else ROUND_TRIP[0]
            last = Chapter("end", "live LPIs, all RAM", lambda p: [*p.look(), Step(None)])
            return [first, self._suffix(run), last]
        run.complete()
        return self._able(run, _ASKED[run.question.what])

    def _able(self, run: Run, chapters: Sequence[Chapter]) -> list[Chapter]:
        able: list[Chapter] = []
        unable: dict[str, list[str]] = {}
        for each in chapters:
            if each.attributes and not run.attributes:
                unable.setdefault("the target cannot save and restore", []).append(each.name)
            elif each.name in self._fatal:
                died = f"a host died of it before, in {self._fatal[each.name]}"
                unable.setdefault(died, []).append(each.name)
            elif not (run.question.how == ev.REINIT and each.name in ("p0", "p1")):
                able.append(each)
        run.outcome.not_looked += [f"{', '.join(names)} ({why})" for why, names in unable.items()]
        return able

    def _suffix(self, run: Run) -> Chapter:
        """The recorded questions: what follows, up to the next reset."""
        start = run.question.resumed or run.question.at + run.question.recorded
        end = next(
            (at for at in range(start, len(self.events)) if self.events[at][0] == _RESET),
            len(self.events),
        )
        steps = recorded_steps(self.events[:start], self.events[start:end], run.one.target.asked)
        if not run.on_alike:  # what an MSI does tells then of GITS_CTLR alone
            steps = [step for step in steps if step.event and step.event[0] != _MSI]
        return Chapter(RECORDED, f"events {start} to {end - 1}", lambda _: steps)

    # -- the two questions

    def _reset(self, run: Run, stack: ExitStack) -> Side | None:
        question = run.question
        prefix = self.events[: question.at]
        run.chapter = "the life"
        run.one.live(prefix)
        run.chapter = "the reset"
        run.one.ask(reset_events(question, self.cpus, redistributors=run.attributes))
        other = Side(stack.enter_context(self.open()))
        other.live(each for each in prefix if belongs_to_the_vm(each, question.unit))
        other.target.copy_ram(run.one.target)
        return other

    def _round_trip(self, run: Run, stack: ExitStack) -> Side | None:
        other = Side(stack.enter_context(self.open()))
        for side in (run.one, other):
            run.chapter = "the life"
            side.live(self.events[: run.question.at])
            side.target.complete()
        run.places(other)
        if run.question.resumed is not None:  # its queue goes on where it was recorded to be
            trip = self.events[run.question.at : run.question.resumed]
            return other if run.as_recorded(run.one, other, trip) else None
        if run.probe.in_queue_of(other.target.registers()):
            run.chapter = "INV of every event"
            again = events_of(run.probe.each("INV", run.probe.old))
            for side in (run.one, other):
                side.ask(again)
        else:
            run.outcome.notes.append("the ITS is disabled: configurations could not be read again")
        return other if run.save_and_restore(run.one) else None

    def _pending_tables(self, run: Run, stack: ExitStack) -> Side | None:
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
        sides[1].ask(events_of(run.probe.zero_bits(old)))
        return sides[1]

    def open(self) -> AbstractContextManager[Inspectable]:
        """Start an instance."""
        return self._open_target(self.header)


def belongs_to_the_vm(event: Event, unit: str) -> bool:
    """Return whether an event made the VM what it is, beside its ITS."""
    if event[0] in _OF_THE_VM:
        return True
    gic = event[0] == _ATTR_SET and event[2] == ev.DEVICES.index("gic")
    return unit == "its" and (gic or event[0] == _GICR_WRITE)


def reset_events(question: Question, cpus: int, *, redistributors: bool) -> list[Event]:
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


_BEGIN: Final = {
    RESET: Bench._reset, ROUND: Bench._round_trip, PENDING: Bench._pending_tables,
}  # fmt: skip
_ASKED: Final = {RESET: CHAPTERS, ROUND: ROUND_TRIP, PENDING: PENDING_TABLES}
