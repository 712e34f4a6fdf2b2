"""How a trace shows its signature: who answered it, which way outputs are had, and what cures it.

A trace of complete RAM needs its inputs only: what was answered, the model of whoever answered
answers again. What cures it is the behaviour that its recorder, its manifest or one flag of the
family has otherwise. Counterpart: `replay.minimize.model_oracle`, which holds candidates to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from replay.engine import Engine
from replay.judge import DIVERGENT, WORDS, judge, model_of, with_flags
from replay.minimize.model_oracle import ANSWERS, INPUTS, RECORDED, Case, Frames, ModelOracle, Run
from replay.minimize.oracle import Candidate
from replay.minimize.script import lift, lower
from replay.model.effects import Effect, HostCrash
from replay.profiles import FLAGS, Profile
from replay.verdict import STALE
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.log.header import POWER_ON

# Other values of a flag that is a number.
_NUMBERS: Final = {
    "translation_cache_entries_per_vcpu": (16, -1),
    "gic_implementation_revision": (2, 3),
}
MAX_GUESSED: Final = 100_000  # events of a trace on which every flag is tried
_PROBE: Final = NUMBER["probe"]
_REG_READ: Final = NUMBER["reg.read"]


@dataclass(frozen=True, slots=True)
class Told:
    """What the trace's surroundings say: its manifest, and what recorded it."""

    signature: str | None = None  # to be kept; None: the worst that is found
    others: tuple[Profile, ...] = ()  # under which the signature may be absent, likely ones first
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A case with its oracle and the candidate to begin with."""

    case: Case
    oracle: ModelOracle
    candidate: Candidate
    beside: tuple[str, ...]  # other signatures that the original shows


def open_case(original: Candidate, profile: Profile, told: Told) -> Opened:
    """Return how `original` shows a signature under `profile`.

    Raises:
        UsageError: it shows none, or not the one that is asked for.
    """
    signature = told.signature
    found: tuple[str, ...] = ()
    if signature is None:
        found = tuple(_found(original, profile, told))
        if not found:
            raise UsageError(
                "this trace shows no fault that could be kept: `itstrace verify` finds none in it"
            )
        signature = min(found, key=_rank)
    case = Case(signature, profile, RECORDED, strict=told.strict)
    beside = tuple(each for each in found if each != signature)
    for way in _ways(original, case, told):
        oracle = ModelOracle(way)
        candidate = _prepared(original, way)
        if way.answering in told.others and oracle.take_recorded(candidate, original):
            return Opened(way, oracle, candidate, beside)
        run = oracle.take(candidate)
        if run is not None and (_as_recorded(run, original) or _fits(original, way, told)):
            return _with_cure(Opened(way, oracle, candidate, beside), told)
    raise UsageError(f"this trace does not show {signature}{_instead(original, profile, told)}")


def _found(original: Candidate, profile: Profile, told: Told) -> list[str]:
    return judge(Frames(original), profile, strict=told.strict).signatures


def _instead(original: Candidate, profile: Profile, told: Told) -> str:
    found = _found(original, profile, told)
    return f": it shows {', '.join(found)}" if found else ": nothing is found in it"


def _rank(signature: str) -> int:
    return WORDS.index(signature.partition(":")[0])


def _ways(original: Candidate, case: Case, told: Told) -> Iterator[Case]:
    """Yield ways to have the outputs, the one that leaves most freedom first."""
    header, word = original.header, case.signature.partition(":")[0]
    shown = frozenset(event[0] for event in original.events)
    if header.guest_ram == "complete" and header.starts == POWER_ON:
        if word == STALE:
            yield replace(case, way=ANSWERS, answering=case.profile, shown=shown)
        elif word == DIVERGENT:
            for other in _others(case, told):
                yield replace(case, way=ANSWERS, answering=other, cure=other, shown=shown)
        else:
            yield replace(case, way=INPUTS)
    yield case


def _others(case: Case, told: Told, *, fixes: bool = False) -> Iterator[Profile]:
    """Yield behaviours beside the case's: those that were told of, then one flag otherwise.

    `fixes`: only flags that are set, as a fix does; one that is cleared may cure by doing less.
    """
    for other in told.others:
        if other.choices != case.profile.choices:
            yield other
    for row in FLAGS[case.profile.family]:
        value = getattr(case.profile.choices, row.name)
        values = _NUMBERS.get(row.name, (not value,) if isinstance(value, bool) else ())
        for each in values:
            if each != value and not (fixes and each is False):
                yield with_flags(case.profile, {row.name: each})


def _as_recorded(run: Run, original: Candidate) -> bool:
    """Return whether the answers that were made anew, as far as they were, are the recorded ones."""
    return tuple(run.events) == original.events[: len(run.events)]


def _fits(original: Candidate, case: Case, told: Told) -> bool:
    """Return whether the recorded answers are those of whoever is to answer in a divergence.

    One that was told of may have differences of its own; a guessed one must have none.
    """
    if case.answering is None or case.cure is None:
        return True
    tally = Engine(Frames(original), model_of(original.header, case.answering)).run()
    if case.answering not in told.others:
        return not tally.divergent
    found = {f"{DIVERGENT}:{each.kind}:{each.field}" for each in tally.divergences}
    return case.signature not in found


def _prepared(original: Candidate, case: Case) -> Candidate:
    """Return the original as the way of its case has it, without what its model cannot answer."""
    if case.way == RECORDED:
        return lower(lift(original, outputs=True, commands=False))
    script = lift(original, outputs=False, commands=False)
    model = model_of(original.header, case.profile)
    asked = {_REG_READ, *model.asks, *(() if model.live_rows() is None else (_PROBE,))}
    kept = (
        item for item in script.items if item.event[0] < ev.FIRST_OUTPUT or item.event[0] in asked
    )
    return lower(script.but(kept))


def _with_cure(opened: Opened, told: Told) -> Opened:
    """Return a case with what cures it: what was told of, or the fix that parts ways last.

    One that parts ways early makes another life of it, in which the bug may be missing by chance.
    """
    case, candidate = opened.case, opened.candidate
    if case.cure is not None or case.way == RECORDED:
        return opened
    at = opened.oracle.about(candidate)
    head = candidate._replace(events=candidate.events[: None if at is None else at + 1])
    for cure in _likely(head, case, told):
        if opened.oracle.is_cure(head, cure):
            oracle = opened.oracle.cured_by(cure)
            return replace(opened, case=oracle.case, oracle=oracle)
    return opened


def _likely(head: Candidate, case: Case, told: Told) -> Iterator[Profile]:
    """Yield behaviours that may cure it: those that were told of, then fixes, the latest first."""
    others = list(_others(case, told, fixes=True))
    yield from (each for each in others if each in told.others)
    if len(head.events) > MAX_GUESSED:
        return
    guessed = [each for each in others if each not in told.others]
    own = list(_done(head, case.profile))
    partings = [_parting(own, _done(head, each)) for each in guessed]
    for at in sorted(range(len(guessed)), key=lambda each: -partings[each]):
        if partings[at] < len(own):
            yield guessed[at]


def _done(candidate: Candidate, profile: Profile) -> Iterator[tuple[Effect, ...] | None]:
    """Yield what a behaviour makes of each event, None for nothing; at last, what it leaves."""
    model = model_of(candidate.header, profile)
    for event in candidate.events:
        if event[0] >= ev.FIRST_OUTPUT:
            yield None
            continue
        try:
            yield tuple(model.apply(event, ()))
        except HostCrash as crash:
            yield ((0, crash.function),)
            return
    yield ((0, model.components()),)


def _parting(own: Sequence[object], other: Iterator[object]) -> int:
    """Return the first place at which two behaviours part; one behind the last if nowhere."""
    for at, (one, two) in enumerate(zip(own, other, strict=False)):
        if one != two:
            return at
    return len(own)
