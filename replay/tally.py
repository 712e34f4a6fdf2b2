"""How the outputs of a trace were classed, and those that diverge.

The counterpart is `replay.engine`, which counts; docs/verdicts.md says what each class means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tracer.events import Event

CLASSES: Final = ("matched", "permitted", "learned", "assumed", "ambiguous", "not_judged")


@dataclass(slots=True)
class Divergence:
    """An output that the model answers otherwise, with what stood before it."""

    seq: int
    kind: str
    field: str
    expected: Any
    got: Any
    before: list[tuple[int, Event]]


@dataclass(slots=True)
class Tally:
    """How the outputs of a trace were classed."""

    matched: int = 0
    permitted: int = 0
    learned: int = 0
    assumed: int = 0
    ambiguous: int = 0
    not_judged: int = 0
    divergent: int = 0
    divergences: list[Divergence] = field(default_factory=list)  # the first so many
    # (event kind, field) of all that diverge, in order -> the first event that did
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    assumptions: list[tuple[int, str]] = field(default_factory=list)
    unjudged: dict[str, int] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """All of them."""
        return self.divergent + sum(int(getattr(self, name)) for name in CLASSES)
