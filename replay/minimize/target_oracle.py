"""Minimising on a target: who can tell whether the real thing still shows a bug, by its signature.

Counterparts: `crash_oracle`, `verdict_oracle` and `lockstep_oracle`, one for each kind of
signature, and `replay.minimize.run`, which asks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from replay.equivalence.asking import KINDS, Asker, profile_for
from replay.equivalence.plan import plan
from replay.equivalence.signatures import signatures
from replay.judge import CRASH, DIVERGENT
from replay.lockstep import lockstep, signature as signature_of
from replay.minimize.crash_oracle import CrashOracle, death
from replay.minimize.lockstep_oracle import LockstepOracle
from replay.minimize.oracle import Candidate, Oracle
from replay.minimize.verdict_oracle import VerdictOracle
from replay.targets.spec import Spec, Targets, parse
from replay.verdict import STALE
from tracer.errors import UsageError


class TargetOracle(Oracle, Protocol):
    """An oracle that asks a target: it may begin with less than the whole trace, and end later."""

    @property
    def first(self) -> Candidate:
        """What to begin with: the trace, or the part of it that is needed."""

    def following(self, least: Candidate) -> Candidate | None:
        """Return what to go on with when nothing can be taken from `least`; None: it is the end."""

    def confirm(self, least: Candidate) -> str:
        """Ask about the result on fresh targets, alone; return what speaks against it, or ""."""


@contextmanager
def open_oracle(
    specs: Sequence[str], candidate: Candidate, signature: str, profile: str | None = None
) -> Iterator[TargetOracle]:
    """Yield who can tell whether targets still show a bug: one target, or two that differ.

    Raises:
        UsageError: the signature is of no kind that a target can show, or the trace does not show it.
        TargetError: the target is not there.
    """
    parsed = [parse(text) for text in specs]
    with Targets(outlive=True) as targets:
        yield _made(targets, parsed, candidate, signature, profile)


def _made(
    targets: Targets, specs: list[Spec], candidate: Candidate, signature: str, profile: str | None
) -> TargetOracle:
    word = signature.partition(":")[0]
    if len(specs) == 2 and word in (CRASH, DIVERGENT):
        return LockstepOracle(targets, specs, candidate, signature)
    if word == CRASH and len(specs) == 1:
        return CrashOracle(targets, specs[0], candidate, signature)
    if word == STALE and len(specs) == 1:
        chosen = profile_for(specs[0], candidate.header, profile)
        return VerdictOracle(targets, specs[0], candidate, signature, chosen)
    raise UsageError(f"{signature!r:.80} is nothing that {len(specs)} targets can be asked about")


def signature_on(
    specs: Sequence[str], candidate: Candidate, profile: str | None = None
) -> str | None:
    """Return the first signature that a trace shows on targets, the worst kind first.

    Two targets part; one dies, or does not stand by a reset or round trip of the trace, or by one
    that comes at its end.

    Raises:
        TargetError: a target is not there.
    """
    parsed = [parse(text) for text in specs]
    with Targets(outlive=True) as targets:
        if len(parsed) == 2:
            parting = lockstep(targets, parsed, candidate.header, candidate.events).difference
            return signature_of(parting) if parting else None
        found = death(targets, parsed[0], candidate)
        if found:
            return f"{CRASH}:{found.function}"
        chosen = profile_for(parsed[0], candidate.header, profile)
        for probe in (False, True):
            asker = Asker(
                targets, parsed[0], replace(candidate.header), candidate.events, chosen, probe=probe
            )
            for question in plan(candidate.events, KINDS[chosen.family], probe=probe):
                names = signatures(asker.ask(question))
                if names:
                    return names[0]
    return None
