"""Minimising on a target: who can tell whether the real thing still shows a bug, by its signature.

Counterparts: `crash_oracle`, `verdict_oracle` and `lockstep_oracle`, one for each kind of
signature, and `replay.minimize.run`, which asks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from replay.equivalence.asking import profile_for
from replay.judge import CRASH, DIVERGENT
from replay.minimize.crash_oracle import CrashOracle
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
