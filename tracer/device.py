"""What a recorder can wrap: any object that answers register accesses, MSIs and resets.

Counterpart: `tracer.recorder`, which calls it and notes what it did. Nobody has to inherit from
these: an object with such methods is a device. Offsets are bytes from the frame's base, sizes are
bytes, addresses are guest physical.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class GuestMemory(Protocol):
    """Guest RAM, as the guest and the device both reach it."""

    @property
    def ranges(self) -> Sequence[tuple[int, int]]:
        """Return (address, size in bytes) of each stretch that there is."""

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes from `gpa` on."""

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` from `gpa` on."""


class Device(Protocol):
    """An ITS. It must reach guest RAM through `memory` at every access, and keep no part of it."""

    memory: GuestMemory

    def reg_read(self, offset: int, size: int) -> int | None:
        """Return a register of the control frame; None for an access it does not have."""

    def reg_write(self, offset: int, value: int, size: int) -> object:
        """Carry out a write to the control frame."""

    def msi(self, device_id: int, event_id: int) -> int | None:
        """Take an MSI; return 1 delivered, 0 blocked, -errno, or None if the device cannot say."""

    def reset(self, how: int) -> int | None:
        """Reset; `how` is one of `tracer.events.RESET_KINDS` by index. Return an errno or None."""


class Redistributors(Protocol):
    """A device that has the redistributors too; offsets are from a CPU's RD_base."""

    def gicr_read(self, cpu: int, offset: int, size: int) -> int | None:
        """Return a register of a redistributor; None for an access it does not have."""

    def gicr_write(self, cpu: int, offset: int, value: int, size: int) -> object:
        """Carry out a write to a redistributor."""


class Saveable(Protocol):
    """A device that keeps its tables outside guest RAM and carries them there when it is asked.

    Each returns an errno, negative or 0, or None if the device cannot fail.
    """

    def save(self) -> int | None:
        """Write the tables to guest RAM."""

    def save_pending(self) -> int | None:
        """Write the pending bits to guest RAM."""

    def restore(self) -> int | None:
        """Read the tables from guest RAM."""
