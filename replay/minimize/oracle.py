"""What minimising asks: does this smaller trace still show the bug, and no other one?

Protocols only. Counterparts: `replay.minimize.run`, which asks, and the oracles that answer, on
a model in this process or on a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tracer.events import Event
from tracer.log.header import Header


class Candidate(NamedTuple):
    """A trace in memory: inputs, with those outputs that the oracle needs."""

    header: Header
    events: tuple[Event, ...]


class Oracle(Protocol):
    """Whoever can tell whether a candidate shows the bug that the original trace shows."""

    @property
    def signature(self) -> str:
        """What must stay the same, as `replay.judge` spells it."""

    @property
    def at_once(self) -> int:
        """How many candidates it likes to be given in one call."""

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate, in order, whether it shows the bug."""

    def close(self) -> None:
        """Let go of what was started for it."""
