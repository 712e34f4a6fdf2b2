"""Does a target still not stand by its own reset? `verify --on TARGET` as an oracle, in two forms.

*Probed*: a candidate is a life; the reset comes at its end and the generated probe behind it, up to
the chapter that shows the bug. *Recorded*: a candidate is the whole story, and what stands behind
the reset in it is asked, nothing else. A life that was minimised in the first form is laid down as
a story (`following`) and minimised again. Counterparts: `replay.equivalence.asking`, `target_oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from replay.equivalence.asking import KINDS, Asker
from replay.equivalence.bench import RECORDED
from replay.equivalence.comparison import Row
from replay.equivalence.plan import Question, plan
from replay.equivalence.run import Outcome
from replay.equivalence.sequence import Chapter
from replay.equivalence.signatures import NAMES, signatures
from replay.equivalence.words import Difference
from replay.minimize.fresh import BATCH, answered, confirmed
from replay.minimize.oracle import Candidate
from replay.profiles import Profile
from replay.targets.errors import TargetError
from replay.targets.spec import Spec, Targets
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER, Event

MAX_QUESTIONS: Final = 32  # that are asked of the trace as it is given
_BRINGS_BACK: Final = (NUMBER["reset"], NUMBER["restore"])
_PROBE: Final = NUMBER["probe"]
_ASKED: Final = tuple(NUMBER[name] for name in ("reg.read", "gicr.read", "gicd.read", "mem.read"))


class Mark(NamedTuple):
    """What a signature leaves out: a bug with another mark is another bug.

    An event whose MSI is delivered again is none whose MSI fails for another reason, and what the
    device left in RAM is none that is nobody's.
    """

    word: str
    by: str | None
    one: str
    other: str


class VerdictOracle:
    """Whether a difference with this signature is still found, by questions of the same form."""

    at_once = BATCH

    def __init__(
        self,
        targets: Targets,
        spec: Spec,
        candidate: Candidate,
        signature: str,
        profile: Profile,
    ) -> None:
        self.signature = signature
        self._targets = targets
        self._spec = spec
        self._profile = profile
        self._until: str | None = None  # of the probed form: the chapter that shows it
        self._probed: Question | None = None
        self._marks: frozenset[Mark] | None = None  # of what the trace itself shows
        self.first = self._begin(candidate)

    # -- the two forms

    def _begin(self, candidate: Candidate) -> Candidate:
        events = candidate.events
        for outcome in self._outcomes(self._targets, candidate, MAX_QUESTIONS):
            if self._take(shown := self._shown(outcome)):
                return candidate._replace(events=events[: _index(events, shown[0]) + 1])
        asker = self._asker(self._targets, candidate, probe=True)
        kinds = [kind for kind in KINDS[self._profile.family] if self._of_kind(_kind(kind))]
        for question in plan(events, kinds, probe=True)[-MAX_QUESTIONS:]:
            shown = self._shown(asker.ask(question))
            if self._take(shown):
                self._until = shown[0].chapter
                self._probed = replace(question, at=0, recorded=False, resumed=None)
                return candidate._replace(events=events[: question.at])
        raise UsageError(f"{self._spec.text}: the trace does not show {self.signature}")

    def _take(self, shown: Sequence[Difference]) -> bool:
        """Take in what the bug is, from the trace itself; return whether it shows it."""
        if shown:
            self._marks = frozenset(map(_mark, shown))
        return bool(shown)

    def _of_kind(self, kind: str) -> bool:
        return self.signature.split(":")[1] == kind

    def following(self, least: Candidate) -> Candidate | None:
        """Return a life that was minimised with its reset and the questions as one recorded story."""
        if self._probed is None:
            return None
        asker = self._asker(self._targets, least, probe=True)
        outcome = asker.ask(replace(self._probed, at=len(least.events)), self._chosen)
        self._take([each for each in outcome.differences if self._has_signature(outcome, each)])
        probed, self._probed = self._probed, None
        for tape in (_looked_at_only(outcome.tape), outcome.tape):
            story = Candidate(asker.bench.header, _questions(tape))
            if self._shows(self._targets, story):
                return story
        self._probed = probed  # what the probe knows of its questions is not in the trace
        return None

    # -- asking

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate whether its signature is found in it."""
        return [self._shows(self._targets, each) for each in candidates]

    def _shows(self, targets: Targets, candidate: Candidate) -> bool:
        try:
            return any(map(self._shown, self._outcomes(targets, candidate)))
        except TargetError:
            return False

    def _outcomes(
        self, targets: Targets, candidate: Candidate, questions: int = 1
    ) -> list[Outcome]:
        """Return what came of so many questions, from the last on, up to one that shows it."""
        asker = self._asker(targets, candidate, probe=self._probed is not None)
        if self._probed is not None:
            return [asker.ask(replace(self._probed, at=len(candidate.events)), self._chosen)]
        found = []
        for question in self._recorded(candidate)[: -questions - 1 : -1]:
            found.append(asker.ask(question, _only_recorded))
            if self._shown(found[-1]):
                break
        return found

    def _recorded(self, candidate: Candidate) -> list[Question]:
        asked = plan(candidate.events, (), probe=False)
        return [each for each in asked if self._of_kind(_kind(each.kind or each.what))]

    def _shown(self, outcome: Outcome) -> list[Difference]:
        """Return the differences that have the signature; none where a host died."""
        if outcome.crash:
            return []
        return [
            each
            for each in outcome.differences
            if (self._marks is None or _mark(each) in self._marks)
            and self._has_signature(outcome, each)
        ]

    def _has_signature(self, outcome: Outcome, difference: Difference) -> bool:
        return self.signature in signatures(replace(outcome, differences=[difference]))

    def _chosen(self, chapters: list[Chapter]) -> list[Chapter]:
        names = [each.name for each in chapters]
        return chapters if self._until not in names else chapters[: names.index(self._until) + 1]

    def _asker(self, targets: Targets, candidate: Candidate, *, probe: bool) -> Asker:
        return Asker(
            targets, self._spec, replace(candidate.header), candidate.events, self._profile,
            probe=probe,
        )  # fmt: skip

    # -- afterwards

    def answered(self, least: Candidate) -> Candidate:
        """Return the result with what the target answers: its questions are the trace's."""
        return answered(self._targets, self._spec, least)

    def confirm(self, least: Candidate) -> str:
        """Ask fresh targets, one at a time."""
        self._targets.close()
        return confirmed(lambda targets: self._shows(targets, least), self.signature)

    def about(self, candidate: Candidate) -> int | None:
        """Return which event of a story tells it; of a life nothing can be cut."""
        if self._probed is not None:
            return None
        outcomes = self._outcomes(self._targets, candidate)
        shown = [each for outcome in outcomes for each in self._shown(outcome)]
        return _index(candidate.events, shown[0]) if shown else None

    def became(self, candidate: Candidate) -> str:
        """Return the signatures that are found instead."""
        found = [
            name for each in self._outcomes(self._targets, candidate) for name in signatures(each)
        ]
        return ", ".join(dict.fromkeys(found)) or "no difference"

    def close(self) -> None:
        """The targets are closed by who made them."""


def _mark(difference: Difference) -> Mark:
    written = difference.written
    by = written.who if written else None
    # A live LPI of the past is the same bug where nothing lives, and where another one should.
    other = "" if isinstance(difference.one, Row) else _roughly(difference.other)
    return Mark(difference.word, by, _roughly(difference.one), other)


def _roughly(answer: Any) -> str:
    """Return an answer without its particulars: delivered, blocked and refused are three things."""
    if isinstance(answer, int):
        return "below 0" if answer < 0 else "more" if answer else "0"
    return type(answer).__name__


def _kind(what: str) -> str:
    """Return what a signature calls a question."""
    return NAMES.get(what, what)


def _index(events: Sequence[Event], shown: Difference) -> int:
    """Return which event of a story told a difference; the last, if it was a look at all RAM."""
    found = (at for at, event in enumerate(events) if event is shown.event)
    return next(found, len(events) - 1)


def _only_recorded(chapters: list[Chapter]) -> list[Chapter]:
    return [each for each in chapters if each.name == RECORDED]


def _questions(tape: Sequence[Event]) -> tuple[Event, ...]:
    """Return inputs and questions, without what was answered."""
    return tuple(
        event
        for event in tape
        if event[0] < ev.FIRST_OUTPUT or event[0] in _ASKED or (event[0] == _PROBE and not event[2])
    )


def _looked_at_only(tape: Sequence[Event]) -> list[Event]:
    """Return a tape without what was done behind its last reset or restore: with questions only."""
    last = max(at for at, event in enumerate(tape) if event[0] in _BRINGS_BACK)
    return [*tape[: last + 1], *(each for each in tape[last + 1 :] if each[0] >= ev.FIRST_OUTPUT)]
