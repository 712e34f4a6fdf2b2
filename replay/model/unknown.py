"""What nobody knows of registers: of a VM that is joined in the middle of its life, almost all.

Bits are unknown until a read shows them or a write sets them; unknown is not zero. Registers are
named as components are, those of a redistributor with their CPU (`GICR_CTLR[1]`). The counterpart
is `replay.engine`, which has a model learn what a read shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WHOLE: Final = (1 << 64) - 1


class Unknown:
    """Register name -> its unknown `bits`; false when everything is known."""

    __slots__ = ("bits",)

    def __init__(self, bits: Mapping[str, int] | None = None) -> None:
        self.bits = {name: mask for name, mask in (bits or {}).items() if mask}

    def __bool__(self) -> bool:
        return bool(self.bits)

    def of(self, name: str) -> int:
        """Return the unknown bits of a register."""
        return self.bits.get(name, 0)

    def know(self, name: str, mask: int = WHOLE) -> None:
        """These bits were shown or set."""
        left = self.bits.get(name, 0) & ~mask
        if left:
            self.bits[name] = left
        else:
            self.bits.pop(name, None)

    def doubt(self, name: str, mask: int = WHOLE) -> None:
        """These bits may have changed, and nobody saw to what."""
        self.bits[name] = self.bits.get(name, 0) | mask

    def clear(self) -> None:
        """All is known: a reset defines every register."""
        self.bits.clear()

    def snapshot(self) -> dict[str, int]:
        """Return a copy of what is unknown."""
        return dict(self.bits)
