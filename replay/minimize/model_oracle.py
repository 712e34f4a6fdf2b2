"""An oracle that replays candidates on models in this process.

Where outputs are needed they are made anew for every candidate, by the model of whoever answered
the original: so what is compared stays true of what was asked. A candidate that shows the
signature must also be free of it under the behaviour that cures the original, where one is known.
Counterparts: `replay.minimize.case`, which finds out how a trace shows its signature, and
`replay.judge`, whose words these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any, Final

from replay.engine import Engine, Stopped
from replay.generator.answers import answered
from replay.judge import (
    CRASH,
    DIVERGENT,
    INVARIANT,
    AnyModel,
    model_of,
    of_reset,
    of_round_trip,
    signatures_of,
)
from replay.minimize.agreement import agree
from replay.minimize.cuts import boots_up_to
from replay.minimize.oracle import Candidate
from replay.minimize.script import QUESTIONS
from replay.minimize.speaks import Thing, things
from replay.model.effects import HostCrash
from replay.profiles import Profile
from replay.tally import Divergence
from replay.verdict import FINDINGS
from replay.verify import Verifier
from tracer.events import FIRST_NOTE, FIRST_OUTPUT, NUMBER, Event, kind_name
from tracer.log.header import IN_PROCESS, Header

# How a candidate gets the outputs that it is judged by.
INPUTS: Final = "inputs"  # none: the model alone says it
ANSWERS: Final = "answers"  # a model gives them anew
RECORDED: Final = "recorded"  # those of the original, which nobody can ask again
_PROBE: Final = NUMBER["probe"]
_FRAME_EVENTS: Final = 256
_TRIED_BOOTS: Final = 4
_EXACT: Final = ("msi.result", "attr.result")  # their numbers are no identifiers


class Frames:
    """A candidate as the engine's reader."""

    name = "a candidate"
    status = "clean"
    open_end = False
    checkpoint = None

    def __init__(self, candidate: Candidate) -> None:
        self.header: Header = candidate.header
        self._events = candidate.events

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        yield 0, self._events


@dataclass(frozen=True, slots=True)
class Case:
    """What must stay: under which behaviour a signature shows, who answers, what cures it."""

    signature: str
    profile: Profile
    way: str
    answering: Profile | None = None  # whose model gives the outputs, where the way is ANSWERS
    cure: Profile | None = None  # under which the signature must be absent
    shown: frozenset[int] = frozenset()  # kinds of output that the original shows
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a candidate shows of the signature: the event, and what must be the same elsewhere."""

    seq: int
    mark: tuple[object, ...] = ()
    names: tuple[Thing, ...] = ()  # what its event speaks of
    found: frozenset[str] = frozenset()  # what its verdicts speak of, stale or suspected


class Seeker(Engine):
    """An engine that looks for divergences of one signature, and passes others by."""

    def __init__(
        self, reader: Frames, model: AnyModel, signature: str, *, every: bool = False
    ) -> None:
        """`every`: it does not stop at the first one."""
        super().__init__(reader, model)
        self._signature = signature
        self._every = every
        self.found: list[Divergence] = []

    def _diverge(self, seq: int, event: Event, what: str, expected: Any, got: Any) -> None:
        kind = kind_name(event[0])
        if f"{DIVERGENT}:{kind}:{what}" != self._signature:
            super()._diverge(seq, event, what, expected, got)
            return
        self.found.append(Divergence(seq, kind, what, expected, got, []))
        if not self._every:
            self.seq = seq
            raise Stopped


@dataclass(slots=True)
class Run:
    """One replay of a candidate."""

    events: list[Event]  # as far as they were needed
    engine: Engine
    verifier: Verifier | None


class ModelOracle:
    """Says of candidates whether they show a case."""

    at_once = 1

    def __init__(self, case: Case) -> None:
        self.case = case
        self.signature = case.signature
        self._word = case.signature.partition(":")[0]
        self._original: Seen | None = None
        self._last: tuple[Candidate, Seen | None] | None = None  # that showed it, and where
        self._places: tuple[Candidate, tuple[int, ...]] | None = None  # where it shows, of all
        self._divergent = 0  # how many outputs of the original diverge

    def take(self, original: Candidate) -> Run | None:
        """Note what the original shows; None when it does not show the signature."""
        return self._taken(original, self._run_all(original, original.events, answered=False))

    def take_recorded(self, original: Candidate, recorded: Candidate) -> bool:
        """Do the same by the answers that were recorded; return whether the model gives them, too.

        That it does is tried on the shortest boot that shows the signature, not on the whole.
        """
        asked = sum(not _is_answer(event) for event in recorded.events)
        if self._word != DIVERGENT or asked != len(original.events):
            return False
        if self._taken(original, self._run_all(original, recorded.events, answered=True)) is None:
            return False
        boots = boots_up_to(original, self.places(original))
        return any(self._shows(boot) for boot in boots[:_TRIED_BOOTS])

    def _run_all(self, original: Candidate, events: tuple[Event, ...], *, answered: bool) -> Run:
        answering = None if answered else self.case.answering
        candidate = original._replace(events=events)
        return self._run(candidate, self.case.profile, answering, every=True)

    def _taken(self, original: Candidate, run: Run) -> Run | None:
        seen = self._find(run)
        self._original = seen
        self._places = (original, self._all_places(run))
        self._divergent = run.engine.tally.divergent
        self._last = (original, seen and self._placed(seen, run))
        return run if seen else None

    def cured_by(self, cure: Profile) -> ModelOracle:
        """Return the same oracle, which asks for this cure as well."""
        other = ModelOracle(replace(self.case, cure=cure))
        other._original, other._divergent = self._original, self._divergent
        other._last, other._places = self._last, self._places
        return other

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate whether it shows the case's bug."""
        return [self._shows(each) for each in candidates]

    def close(self) -> None:
        """Nothing was started."""

    def _shows(self, candidate: Candidate) -> bool:
        original = self._original
        assert original is not None, "what the original shows must be known first"
        if self._last and self._last[0] == candidate:
            return True
        answering = self.case.answering
        if answering and self._word == DIVERGENT and agree(candidate, self.case.profile, answering):
            return False
        run = self._run(candidate, self.case.profile, answering)
        seen = self._find(run)
        if seen is None or seen.mark != original.mark or not seen.found <= original.found:
            return False
        if self.case.way == RECORDED and run.engine.tally.divergent > self._divergent:
            return False
        if self._outlives_cure(candidate):
            return False
        self._last = (candidate, self._placed(seen, run))
        return True

    def _outlives_cure(self, candidate: Candidate) -> bool:
        """Return whether the signature shows even under what cures the original."""
        cure = self.case.cure
        if cure is None or (self._word == DIVERGENT and self.case.way == ANSWERS):
            return False  # whose answers they are agrees with itself
        return not self.is_cure(candidate, cure)

    def is_cure(self, candidate: Candidate, other: Profile) -> bool:
        """Return whether a candidate does not show the signature under another behaviour."""
        return self._find(self._run(candidate, other, other)) is None

    def about(self, candidate: Candidate) -> int | None:
        """Return the index of the event at which the signature shows."""
        seen = self._seen(candidate)
        return None if seen is None else seen.seq

    def places(self, candidate: Candidate) -> tuple[int, ...]:
        """Return all events at which the original shows the signature; of others, nothing."""
        if self._places is None or self._places[0] != candidate:
            return ()
        return self._places[1]

    def _all_places(self, run: Run) -> tuple[int, ...]:
        """Return the places in the candidate of a run where the signature shows."""
        if isinstance(run.engine, Seeker):
            seqs = [each.seq for each in run.engine.found]
        elif self._word == INVARIANT:
            seqs = [seq for seq, name in run.engine.violated if self.signature.endswith(name)]
        elif self._word == CRASH:
            seqs = [run.engine.crash[0]] if run.engine.crash else []
        else:
            seqs = [each.seq for each in self._findings(run)]
        if self.case.way != ANSWERS:
            return tuple(sorted(seqs))
        before = [0, *accumulate(not _is_answer(each) for each in run.events)]
        return tuple(sorted(before[seq + 1] - 1 for seq in seqs))

    def concerns(self, candidate: Candidate) -> tuple[Thing, ...]:
        """Return what the event speaks of at which the signature shows."""
        seen = self._seen(candidate)
        return () if seen is None else seen.names

    def _seen(self, candidate: Candidate) -> Seen | None:
        if not self._last or self._last[0] != candidate:
            run = self._run(candidate, self.case.profile, self.case.answering)
            seen = self._find(run)
            self._last = (candidate, None if seen is None else self._placed(seen, run))
        return self._last[1]

    def _placed(self, seen: Seen, run: Run) -> Seen:
        """Return what was seen with its place in the candidate, which has no answers yet."""
        seen = replace(seen, names=tuple(things(run.events[seen.seq])))
        if self.case.way != ANSWERS:
            return seen
        before = sum(not _is_answer(each) for each in run.events[: seen.seq + 1])
        return replace(seen, seq=before - 1)

    def answered(self, candidate: Candidate) -> Candidate:
        """Return a candidate with the outputs that it is judged by."""
        return candidate._replace(events=tuple(self._events(candidate, self.case.answering)))

    def became(self, candidate: Candidate) -> str:
        """Return what a candidate shows instead, in a few words."""
        run = self._run(candidate, self.case.profile, self.case.answering)
        if self._find(run) is not None:
            return "the same signature, of another making"
        return ", ".join(signatures_of(run.verifier, run.engine)) or "nothing is found"

    # -- replaying

    def _events(self, candidate: Candidate, answering: Profile | None) -> Iterator[Event]:
        if self.case.way != ANSWERS or answering is None:
            return iter(candidate.events)
        model = model_of(candidate.header, answering)
        return answered(candidate.events, model, self.case.shown)

    def _run(
        self,
        candidate: Candidate,
        profile: Profile,
        answering: Profile | None,
        *,
        every: bool = False,
    ) -> Run:
        source = self._events(candidate, answering)
        model = model_of(candidate.header, profile)
        verifier = None
        if self._word in FINDINGS:
            under_test = candidate.header.source == IN_PROCESS
            verifier = Verifier(model, strict=self.case.strict, under_test=under_test)
        reader, invariants = Frames(candidate), self._word == INVARIANT
        if self._word == DIVERGENT and self.case.way == ANSWERS:
            engine: Engine = Seeker(reader, model, self.signature, every=every)
        else:
            engine = Engine(reader, model, verifier, invariants=invariants)
        events: list[Event] = []
        with suppress(HostCrash, Stopped):
            while frame := tuple(islice(source, _FRAME_EVENTS)):
                events += frame  # what is behind the end of the replay is never made
                engine.feed(len(events) - len(frame), frame)
            engine.settle()
        return Run(events, engine, verifier)

    # -- finding the signature

    def _find(self, run: Run) -> Seen | None:
        match self._word:
            case "crash":
                return self._crash(run)
            case "invariant":
                return self._invariant(run)
            case "divergent":
                return self._divergence(run)
        return self._finding(run)

    def _crash(self, run: Run) -> Seen | None:
        crash = run.engine.crash
        if crash is None or f"{CRASH}:{crash[1]}" != self.signature:
            return None
        return Seen(crash[0], (kind_name(run.events[crash[0]][0]),))

    def _invariant(self, run: Run) -> Seen | None:
        for seq, name in run.engine.violated:
            if f"{INVARIANT}:{name}" == self.signature:
                return Seen(seq)
        return None

    def _divergence(self, run: Run) -> Seen | None:
        if isinstance(run.engine, Seeker):
            for found in run.engine.found:
                return Seen(found.seq, _mark(found, exact=False))
            return None
        for each in run.engine.tally.divergences[:1]:  # others may follow from the first
            if f"{DIVERGENT}:{each.kind}:{each.field}" == self.signature:
                return Seen(each.seq, _mark(each, exact=True))
        return None

    def _finding(self, run: Run) -> Seen | None:
        """Return a verdict's component; of several the first, which is where the bug is met."""
        return next(self._findings(run), None)

    def _findings(self, run: Run) -> Iterator[Seen]:
        """Yield every verdict's component, and round trip, with the signature."""
        verifier = run.verifier
        if verifier is None:
            return
        signatures = signatures_of(verifier, run.engine)
        found = frozenset(each.partition(":")[2] for each in signatures)
        for reset in verifier.resets:
            for signature, component in of_reset(reset):
                if signature == self.signature:
                    wrong = component.wrong
                    mark = (kind_name(run.events[wrong.seq][0]),) if wrong else ()
                    yield Seen(wrong.seq if wrong else reset.seq, mark, found=found)
        for trip in verifier.round_trips:
            if self.signature in of_round_trip(trip):
                yield Seen(trip.seq if trip.witness is None else trip.witness, found=found)


def _mark(each: Divergence, *, exact: bool) -> tuple[object, ...]:
    """Return what must be the same of a divergence elsewhere."""
    if exact or each.kind in _EXACT:
        return each.expected, each.got
    return each.expected is None, each.got is None


def _is_answer(event: Event) -> bool:
    """Return whether `answered` put it in."""
    kind = event[0]
    if kind >= FIRST_NOTE:
        return bool(kind == _PROBE and event[2])
    return kind >= FIRST_OUTPUT and kind not in QUESTIONS
