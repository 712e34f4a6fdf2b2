"""What an export gives back: the text, and what it could not say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Result:
    """A reproducer; `left_out` and `assumed` count what is told on stderr.

    `meaningless` says why it shows nothing of what the trace shows; None where it may.
    """

    text: str
    left_out: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    meaningless: str | None = None
