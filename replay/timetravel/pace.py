"""How often a replay leaves a stop: often enough to be near any state, seldom enough to be cheap.

A stop costs as much as its state is large. What one costs is taken from all before it, byte by byte:
a single one that took long, because the machine did something else, must not space out those behind.
"""

from __future__ import annotations

from typing import Final

SPACING_SECONDS: Final = 0.008  # of a replay from one stop to the next, where stops cost little
# The same where a verifier looks on: a stop costs more, and only segments begin there.
WATCHED_SPACING_SECONDS: Final = 0.1
COST_SHARE: Final = 7  # a stop costs at most a seventh of the replay that leads to it


class Pace:
    """The time to wait for the next stop; a clock of any kind measures it."""

    def __init__(self, spacing_seconds: float = SPACING_SECONDS) -> None:
        self._spacing = spacing_seconds
        self._cost = 0.0
        self._size_bytes = 0
        self._last_bytes = 0

    def wait(self) -> float:
        """Return the seconds of replay that must pass from the last stop to the next."""
        if not self._size_bytes:
            return self._spacing
        expected = self._cost * self._last_bytes / self._size_bytes
        return max(self._spacing, COST_SHARE * expected)

    def paid(self, cost: float, size_bytes: int) -> None:
        """Note the seconds that a stop of that size took."""
        self._cost += cost
        self._size_bytes += size_bytes
        self._last_bytes = size_bytes

    def slower(self) -> None:
        """There are too many: leave half as many from here on."""
        self._spacing *= 2
