"""What minimising on targets has in common: how many at once, and a last look on fresh ones.

Counterparts: `crash_oracle`, `verdict_oracle` and `lockstep_oracle`, which ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from replay.equivalence.side import Side
from replay.minimize.oracle import Candidate
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets

BATCH: Final = 1
CONFIRMATIONS: Final = 2


def confirmed(shows: Callable[[Targets], bool], signature: str) -> str:
    """Return what speaks against a result: on how many fresh targets it does not show."""
    seen = 0
    for _ in range(CONFIRMATIONS):
        with Targets() as fresh:
            seen += shows(fresh)
    if seen == CONFIRMATIONS:
        return ""
    return f"{signature} is flaky: {seen} of {CONFIRMATIONS} fresh targets show it"


def answered(
    targets: Targets, spec: Spec, candidate: Candidate, fatal: int | None = None
) -> Candidate:
    """Return a candidate with what the target answers; behind event `fatal` nobody answers."""
    events = candidate.events
    with targets.opened(spec, candidate.header, Needs.of(events)) as target:
        side = Side(target)
        side.live(events[:fatal])
    return candidate._replace(events=(*side.tape, *(events[fatal:] if fatal is not None else ())))
