"""Dice that fall alike on every machine and every Python: SplitMix64.

`random.Random` promises that of `random()` alone. Source: Steele, Lea, Flood, "Fast splittable
pseudorandom number generators" (2014), the constants of its 64-bit finaliser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E37_79B9_7F4A_7C15
T = TypeVar("T")


class Dice:
    """One sequence of numbers, told by its seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def number(self) -> int:
        """Return 64 bits."""
        self._state = value = (self._state + _STEP) & _MASK
        value = (value ^ value >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK
        value = (value ^ value >> 27) * 0x94D0_49BB_1331_11EB & _MASK
        return value ^ value >> 31

    def below(self, limit: int) -> int:
        """Return a number from 0 up to `limit`, which is left out."""
        return self.number() * limit >> 64

    def chance(self, percent: int) -> bool:
        """Return True in so many of 100 cases."""
        return self.below(100) < percent

    def pick(self, items: Sequence[T]) -> T:
        """Return one of `items`, all alike."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[tuple[int, T]]) -> T:
        """Return one of `(weight, item)`; the weights are whole numbers."""
        at = self.below(sum(weight for weight, _ in items))
        for weight, item in items:
            at -= weight
            if at < 0:
                return item
        raise AssertionError("the weights are not negative")
