"""Do two targets still part, at the same kind of event and in the same field?

No trace's output is believed, since an answer that was recorded is wrong as soon as an input before
it is gone: both are asked. Counterparts: `replay.lockstep`, `target_oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence

from replay.lockstep import lockstep, signature as signature_of
from replay.minimize.fresh import BATCH, confirmed
from replay.minimize.oracle import Candidate
from replay.targets.errors import TargetError
from replay.targets.spec import Spec, Targets
from tracer.errors import UsageError


class LockstepOracle:
    """Whether the first difference of two targets has this signature."""

    at_once = BATCH

    def __init__(
        self, targets: Targets, specs: Sequence[Spec], candidate: Candidate, signature: str
    ) -> None:
        self.signature = signature
        self._targets = targets
        self._specs = specs
        found, at = self._parting(targets, candidate)
        if found != signature:
            names = " and ".join(spec.text for spec in specs)
            raise UsageError(f"{names} part with {found or 'nothing'}, and not with {signature}")
        self.first = candidate._replace(events=candidate.events[: at + 1])

    def _parting(self, targets: Targets, candidate: Candidate) -> tuple[str, int]:
        """Return the signature of the first difference, "" for none, and the event it is at."""
        found = lockstep(targets, self._specs, candidate.header, candidate.events).difference
        return (signature_of(found), found.seq) if found else ("", 0)

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate whether the targets part as they did in the first."""
        return [self._shows(self._targets, each) for each in candidates]

    def _shows(self, targets: Targets, candidate: Candidate) -> bool:
        try:
            return self._parting(targets, candidate)[0] == self.signature
        except TargetError:  # what one of them cannot be, or hangs in
            return False

    def about(self, candidate: Candidate) -> int | None:
        """Return the event at which they part."""
        found, at = self._parting(self._targets, candidate)
        return at if found else None

    def became(self, candidate: Candidate) -> str:
        """Return how they part instead."""
        return self._parting(self._targets, candidate)[0] or "no difference"

    def following(self, least: Candidate) -> Candidate | None:
        """There is one form of it."""
        return None

    def confirm(self, least: Candidate) -> str:
        """Ask fresh targets."""
        self._targets.close()
        return confirmed(lambda targets: self._shows(targets, least), self.signature)

    def close(self) -> None:
        """The targets are closed by who made them."""
