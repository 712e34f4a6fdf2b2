"""Does the host's kernel still die of it, in the same function, at the same kind of event?

A KVM host is booted once and outlives what it dies of (`Targets(outlive=True)`), so that a death
costs milliseconds. What is left at the end is therefore asked again alone, on hosts that are fresh
and do not outlive anything. Counterparts: `replay.minimize.target_oracle`, `verdict_oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from replay.judge import CRASH
from replay.minimize.fresh import BATCH, answered, confirmed
from replay.minimize.oracle import Candidate
from replay.model.effects import HostCrash
from replay.targets.ahead import Grouper
from replay.targets.errors import TargetError
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import kind_name


class Death(NamedTuple):
    """What a host died of, and of which event. At another kind of event it is another bug."""

    function: str
    kind: str
    at: int

    def alike(self, other: Death | None) -> bool:
        """Return whether both are one bug."""
        return other is not None and self[:2] == other[:2]


def death(targets: Targets, spec: Spec, candidate: Candidate) -> Death | None:
    """Carry a candidate out on a fresh VM; return what the host died of, or None if it lives."""
    with targets.opened(spec, candidate.header, Needs.of(candidate.events)) as target:
        grouper = Grouper(target.asked)
        groups = [*grouper.take(0, candidate.events), *grouper.rest()]
        known = [g for g in groups if g.event[0] < ev.FIRST_OUTPUT or g.event[0] in target.asked]
        for group, (event, answer, _) in zip(known, target.carry_out(known), strict=True):
            if isinstance(answer, HostCrash):
                return Death(answer.function, kind_name(event[0]), group.seq)
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
        found = death(targets, spec, candidate)
        if found is None or f"{CRASH}:{found.function}" != signature:
            instead = f"its kernel dies in {found.function}" if found else "its kernel lives"
            raise UsageError(f"{spec.text}: the trace does not show {signature}: {instead}")
        self._death = found

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate whether the host dies of it as it died of the first."""
        return [self._dies(self._targets, each) for each in candidates]

    def _dies(self, targets: Targets, candidate: Candidate) -> bool:
        try:
            return self._death.alike(death(targets, self._spec, candidate))
        except TargetError:  # a hang, or what no VM can be made for
            return False

    def about(self, candidate: Candidate) -> int | None:
        """Return which event the host dies of."""
        found = death(self._targets, self._spec, candidate)
        return found.at if found else None

    def became(self, candidate: Candidate) -> str:
        """Return what a candidate does instead."""
        found = death(self._targets, self._spec, candidate)
        return f"{CRASH}:{found.function} at {found.kind}" if found else "the host lives"

    def answered(self, least: Candidate) -> Candidate:
        """Return the result with what the kernel answers while it lives."""
        return answered(self._targets, self._spec, least, self.about(least))

    def following(self, least: Candidate) -> Candidate | None:
        """There is one form of it."""
        return None

    def confirm(self, least: Candidate) -> str:
        """Kill fresh hosts with it, one boot each."""
        self._targets.close()
        return confirmed(lambda targets: self._dies(targets, least), self.signature)

    def close(self) -> None:
        """The targets are closed by who made them."""
