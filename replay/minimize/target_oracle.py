"""Minimising on a target: does the real thing still show the bug when it is given less?

A KVM host is booted once and outlives what it dies of (`Targets(outlive=True)`), so that a death
costs milliseconds. What is left at the end is therefore asked again alone, on hosts that are fresh
and do not outlive anything: `confirm`. Counterparts: `verdict_oracle` and `lockstep_oracle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from replay.judge import CRASH
from replay.minimize.oracle import Candidate, Oracle
from replay.model.effects import HostCrash
from replay.targets.ahead import Grouper
from replay.targets.errors import TargetError
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets, parse
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import kind_name

BATCH: Final = 16
CONFIRMATIONS: Final = 2


class TargetOracle(Oracle, Protocol):
    """An oracle that asks a target: it may begin with less than the whole trace, and end later."""

    @property
    def first(self) -> Candidate:
        """What to begin with: the trace, or the part of it that is needed."""

    def following(self, least: Candidate) -> Candidate | None:
        """Return what to go on with when nothing can be taken from `least`; None: it is the end."""

    def confirm(self, least: Candidate) -> str:
        """Ask about the result on fresh targets, alone; return what speaks against it, or ""."""


class Death(NamedTuple):
    """What a host died of. At another kind of event it is another bug."""

    function: str
    kind: str


def death(targets: Targets, spec: Spec, candidate: Candidate) -> Death | None:
    """Carry a candidate out on a fresh VM; return what the host died of, or None if it lives."""
    needs = Needs()
    for event in candidate.events:
        needs.see(event)
    with targets.opened(spec, candidate.header, needs) as target:
        grouper = Grouper(target.asked)
        groups = [*grouper.take(0, candidate.events), *grouper.rest()]
        known = [g for g in groups if g.event[0] < ev.FIRST_OUTPUT or g.event[0] in target.asked]
        for event, answer, _ in target.carry_out(known):
            if isinstance(answer, HostCrash):
                return Death(answer.function, kind_name(event[0]))
    return None


class CrashOracle:
    """Whether the host's kernel dies in the same function, at the same kind of event."""

    at_once = BATCH

    def __init__(self, targets: Targets, spec: Spec, candidate: Candidate, signature: str) -> None:
        self.signature = signature
        self.first = candidate
        self._targets = targets
        self._spec = spec
        if spec.kind == "kvm" and not spec.rest:
            raise UsageError(f"{signature} would kill this machine: give a kernel, kvm:KERNEL")
        self._death = death(targets, spec, candidate)
        if self._death is None or f"{CRASH}:{self._death.function}" != signature:
            raise UsageError(f"{spec.text}: the trace does not show {signature}: {self._death}")

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate whether the host dies of it as it died of the first."""
        return [self._dies(self._targets, each) for each in candidates]

    def _dies(self, targets: Targets, candidate: Candidate) -> bool:
        try:
            return death(targets, self._spec, candidate) == self._death
        except TargetError:  # a hang, or what no VM can be made for
            return False

    def following(self, least: Candidate) -> Candidate | None:
        """There is one form of it."""
        return None

    def confirm(self, least: Candidate) -> str:
        """Kill fresh hosts with it, one boot each."""
        self._targets.close()
        return confirmed(lambda targets: self._dies(targets, least), self.signature)

    def close(self) -> None:
        """The targets are closed by who made them."""


def confirmed(shows: Callable[[Targets], bool], signature: str) -> str:
    """Return what speaks against a result: on how many fresh targets it does not show."""
    seen = 0
    for _ in range(CONFIRMATIONS):
        with Targets() as fresh:
            seen += shows(fresh)
    if seen == CONFIRMATIONS:
        return ""
    return f"{signature} is flaky: {seen} of {CONFIRMATIONS} fresh targets show it"


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
    if word == CRASH and len(specs) == 1:
        return CrashOracle(targets, specs[0], candidate, signature)
    raise UsageError(f"{signature!r:.80} is nothing that {len(specs)} targets can be asked about")
