"""A build judged by one signature: a model with its flags, a QEMU, a kernel.

A death, a divergence and a complaint show when the trace is carried out; what a reset or a round
trip left shows when the target is asked about itself; a model tells all of them. Counterparts:
`replay.ruling`, which rules, and `replay.commands.git_bisect` and `bisect_over`, which tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from replay.engine import Engine
from replay.equivalence.asking import KINDS, MAX_QUESTIONS, Asker, profile_for
from replay.equivalence.plan import KINDS as ASKED_ABOUT, Question, is_fair, plan
from replay.equivalence.signatures import NAMES, signatures
from replay.judge import CRASH, INVARIANT, divergences, general, judge
from replay.lockstep import run as run_lockstep, signature
from replay.profiles import Profile
from replay.ruling import (
    BAD,
    CANNOT,
    COMPLAINT,
    OF_A_RESET,
    Ruling,
    Signature,
    blind_outcomes,
    blind_replay,
    blind_verdicts,
    spoiled,
    weigh,
)
from replay.targets.ahead import Ahead, Target
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets
from tracer.errors import UsageError
from tracer.log.header import Header
from tracer.log.opening import AnyReader, open_trace

_QUESTIONS: Final = {name: question for question, name in NAMES.items()}


def of_model(reader: AnyReader, profile: Profile, wanted: Signature, *, strict: bool) -> Ruling:
    """Rule on a model: what its states and the trace's outputs say."""
    found = judge(reader, profile, strict=strict)
    if why := spoiled(found.engine):
        return Ruling(CANNOT, tuple(found.signatures), why)
    blind = blind_replay(wanted, found.engine) or blind_verdicts(wanted, found.verifier)
    return weigh(wanted, found.signatures, blind)


def of_run(
    made: Targets, specs: Sequence[Spec], trace: str, wanted: Signature, *, cpus: int | None = None
) -> Ruling:
    """Rule on a target by carrying the trace out, to its end; several are compared with each other.

    Raises:
        UsageError: a target does not show such a signature so.
        TargetError: it cannot be had, hangs, or cannot do what the trace asks.
    """
    if wanted.word in (*OF_A_RESET, INVARIANT):
        raise UsageError(
            f"{wanted.text}: a trace that is carried out shows crash:, divergent: and complaint:; "
            "what a reset left is what `verify --on TARGET --probe` asks, an invariant is a model's"
        )
    needs = Needs.of_trace(trace)
    with open_trace(trace) as reader, ExitStack() as stack:
        if cpus is not None:
            reader.header.cpus = cpus
        targets = [stack.enter_context(made.opened(each, reader.header, needs)) for each in specs]
        if len(targets) > 1:
            return _compared(reader, targets, wanted)
        ahead = Ahead(reader, targets[0])
        engine = Engine(ahead, ahead)
        engine.run()
        found = [f"{CRASH}:{engine.crash[1]}"] if engine.crash else []
        found += divergences(engine.tally)
        found += [f"{COMPLAINT}:{general(line)}" for line in made.findings()]
    if why := spoiled(engine):
        return Ruling(CANNOT, tuple(found), why)
    return weigh(wanted, found, blind_replay(wanted, engine))


def _compared(reader: AnyReader, targets: Sequence[Target], wanted: Signature) -> Ruling:
    """Rule on targets by each other, up to the first event that they answer differently."""
    if wanted.word == COMPLAINT:
        raise UsageError(f"{wanted.text}: give one target: of two nobody knows which should not")
    lockstep = run_lockstep(reader, targets)
    if reader.status == "damaged":
        return Ruling(CANNOT, (), "the trace is damaged")
    if lockstep.difference is None:
        unjudged = lockstep.not_judged
        blind = f"{unjudged} answers could not be compared" if unjudged else None
        return weigh(wanted, (), blind)
    blind = f"they part at event {lockstep.difference.seq}, and what follows was not compared"
    return weigh(wanted, [signature(lockstep.difference)], blind)


def of_answers(
    made: Targets,
    spec: Spec,
    trace: str,
    wanted: Signature,
    *,
    probe: bool = True,
    kinds: Sequence[str] = (),
    places: Sequence[int] = (),
    profile: str | None = None,
    cpus: int | None = None,
    strict: bool = False,
) -> Ruling:
    """Rule on a target by asking it of itself; only questions that could show the signature.

    What the trace has behind its own reset is asked first: a minimised one shows its bug there.
    With `probe` the generated questions follow, at `places` or wherever `plan` says.

    Raises:
        TargetError: it cannot be had, hangs, or cannot do what the trace asks.
    """
    with open_trace(trace) as reader:
        events = [event for _, frame in reader for event in frame]
        header, status = reader.header, reader.status
    if status == "damaged":
        return Ruling(CANNOT, (), "the trace is damaged")
    if cpus is not None:
        header.cpus = cpus
    chosen = profile_for(spec, header, profile)
    asked = _asked(wanted, kinds or KINDS[chosen.family])
    ruling = Ruling(CANNOT, (), "there was nothing to ask")
    for generated in _ways(probe=probe, places=places):
        planned = plan(events, asked, probe=generated, places=places)
        questions = [each for each in planned if _shows(wanted, each) and is_fair(each, events)]
        asker = Asker(made, spec, header, events, chosen, probe=generated, strict=strict)
        ruling = _answered(asker, questions, wanted)
        if ruling.word == BAD:
            return ruling
    return ruling


def _ways(*, probe: bool, places: Sequence[int]) -> Sequence[bool]:
    """Return what to ask in turn: the recorded questions, the generated ones (True)."""
    if places:
        return (True,)
    return (False, True) if probe else (False,)


def _answered(asker: Asker, questions: Sequence[Question], wanted: Signature) -> Ruling:
    outcomes = [asker.ask(each) for each in questions[:MAX_QUESTIONS]]
    found = [name for each in outcomes for name in signatures(each)]
    found += [f"{COMPLAINT}:{general(line)}" for each in outcomes for line in each.complaints]
    return weigh(wanted, found, blind_outcomes(wanted, outcomes, len(questions) - len(outcomes)))


def _asked(wanted: Signature, usual: Sequence[str]) -> Sequence[str]:
    if wanted.word not in OF_A_RESET:
        return usual
    kind = _QUESTIONS.get(wanted.kind, wanted.kind)
    if kind not in ASKED_ABOUT:
        known = ", ".join(NAMES.get(each, each) for each in ASKED_ABOUT)
        raise UsageError(f"{wanted.text}: a target is asked about {known}, not {wanted.kind}")
    return [kind]


def _shows(wanted: Signature, question: Question) -> bool:
    """Return whether an answer could show the signature; of another reset none could."""
    kind = _QUESTIONS.get(wanted.kind, wanted.kind)
    return wanted.word not in OF_A_RESET or kind in (question.kind, question.what)


def rule(
    made: Targets, spec: Spec, trace: str, header: Header, wanted: Signature, *, strict: bool
) -> Ruling:
    """Rule on any build by whatever check shows the signature.

    Raises:
        TargetError: it cannot be had, hangs, or cannot do what the trace asks.
    """
    if spec.kind == "model":
        with open_trace(trace) as reader:
            return of_model(reader, profile_for(spec, header, None), wanted, strict=strict)
    if wanted.word in OF_A_RESET:
        return of_answers(made, spec, trace, wanted, strict=strict)
    return of_run(made, [spec], trace, wanted)
