"""A system reset that a VMM makes of pieces: CTRL_RESET, and redistributors' registers written anew.

QEMU on KVM resets its devices one by one with every vCPU stopped: the ITS by CTRL_RESET, and each
redistributor by setting its registers (kvm_arm_gicv3_put in hw/intc/arm_gicv3_kvm.c), milliseconds
before or after it. So what a VMM sets to its reset value while nothing shows a vCPU running belongs
to the CTRL_RESET in the same pause: it is one reset of the unit `lpi`, and what it left is judged
as of the last such write. Other values are no reset's: a VMM that restores a VM writes them.

Counterpart: `replay.verify`, which keeps the verdict.
"""

from __future__ import annotations

from typing import Any, Final

from tracer import events as ev
from tracer.events import NUMBER, Event

_GUESTS: Final = {
    NUMBER["reg.write"]: 5,
    NUMBER["gicr.write"]: 6,
    NUMBER["gicd.write"]: 5,
    NUMBER["reg.read"]: 5,
    NUMBER["gicr.read"]: 6,
    NUMBER["gicd.read"]: 5,
}


def origin_of(event: Event) -> int | None:
    """Return who made an access of a register; None for another event."""
    at = _GUESTS.get(event[0])
    if at is None:
        return None
    return int(event[at]) if len(event) > at else ev.GUEST


class Pause:
    """What a VMM did to the redistributors since a vCPU last showed that it runs."""

    def __init__(self) -> None:
        self.reset = False  # whether a CTRL_RESET was in it
        self.before: dict[str, Any] = {}  # register set to its reset value -> what it held before

    def ran(self) -> None:
        """A vCPU did something: whatever comes is no part of that reset."""
        self.reset, self.before = False, {}

    def wrote(self, name: str, before: Any, *, as_reset: bool) -> bool:
        """Take a VMM's write of a redistributor's register; return whether it is a reset's."""
        if as_reset:
            self.before.setdefault(name, before)
        else:
            self.before.pop(name, None)
        return as_reset and self.reset
