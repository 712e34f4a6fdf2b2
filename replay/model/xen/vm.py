"""One domain with Xen's ITS: what can be done to it from outside.

The parts are in their own modules (`registers`, `commands`, `tables`, `host`, `lpi`,
`redistributor`, `reset`); this is where they meet. Pure: no clock, no I/O, no randomness.

With observed RAM a step may need a word that no event showed. Xen tells nobody what it read, so
that nothing can be learned: it is assumed, and noted in `bound` under the index of the first
effect that rests on it.
"""

from __future__ import annotations

from typing import Any, Protocol

from replay.model.effects import Effect
from replay.model.memory import GuestRam
from replay.model.xen import lpi, redistributor, registers, reset
from replay.model.xen.profile import XEN_4_20, XenProfile
from replay.model.xen.state import XenState


class Witness(Protocol):
    """What was observed of the input that is being carried out; `at` counts effects."""

    def command(self, at: int, queue_offset: int) -> tuple[int, int, int, int] | None:
        """Return the command that was fetched at this step, unknown bits zero."""


class XenVm:
    """State and the operations that change it; effects are appended to `effects`."""

    __slots__ = (
        "bound", "confirmed", "cpus", "doubt", "effects", "gicr_known", "profile", "ram", "state",
        "witness",
    )  # fmt: skip

    def __init__(
        self,
        profile: XenProfile = XEN_4_20,
        *,
        cpus: int = 1,
        ram: GuestRam | None = None,
        gicr_known: bool = True,
    ) -> None:
        """Return a VM as it comes up. `gicr_known`: redistributor accesses are in the trace."""
        self.profile = profile
        self.cpus = cpus
        self.ram = ram if ram is not None else GuestRam()
        self.state = XenState(cpus)
        self.gicr_known = gicr_known
        self.effects: list[Effect] = []
        self.witness: Witness | None = None
        self.bound: dict[int, str] = {}
        self.doubt = ""  # what was assumed since the last effect that rests on something assumed
        # Addresses of entries that were seen since their table last changed hands.
        self.confirmed: set[int] = set()

    # -- inputs

    def reg_write(self, offset: int, value: int, size: int) -> bool:
        """Carry out a write to the control frame; False when the guest gets a fault."""
        return registers.write(self, offset, value, size)

    def reg_read(self, offset: int, size: int) -> int | None:
        """Return what a read gives; None when the guest gets a fault."""
        return registers.read(self, offset, size)

    def gicr_write(self, cpu: int, offset: int, value: int, size: int) -> None:
        """Carry out a write to a redistributor; what was assumed of them is forgotten."""
        if not self.gicr_known:
            self.gicr_known = True
            self.state.rdists_enabled, self.state.lpi_count = False, 0
        if cpu < self.cpus:
            redistributor.write(self, cpu, offset, value, size)

    def gicr_read(self, cpu: int, offset: int, size: int) -> int | None:
        """Return what a read gives, or None for a register that is not modelled."""
        return redistributor.read(self, cpu, offset, size) if cpu < self.cpus else None

    def msi(self, device_id: int, event_id: int) -> None:
        """Carry out an MSI: the host's ITS takes it, so that neither tables nor CTLR matter."""
        device = self.state.devices.get(device_id)
        intid = device.lpis.get(event_id, 0) if device else 0
        if intid:
            lpi.inject(self, intid)

    def mem_write(self, gpa: int, data: bytes) -> None:
        """Store guest RAM; what it covers is then confirmed."""
        self.ram.store_bytes(gpa, data)
        if not self.ram.complete:
            self.confirmed.update(range(gpa & ~1, gpa + len(data), 2))

    def reset(self) -> None:
        """Become a new VM in the same RAM."""
        reset.run(self)

    def assume(self, reason: str) -> None:
        """Note that what follows rests on an assumption; the first reason is the one told."""
        self.doubt = self.doubt or reason

    def hand_over(self) -> None:
        """Make everything that was known of guest RAM unconfirmed: the guest may rewrite it."""
        self.confirmed.clear()

    # -- snapshots

    def snapshot(self) -> tuple[Any, ...]:
        """Return everything that decides future answers."""
        return (
            self.state.snapshot(),
            self.ram.snapshot(),
            self.gicr_known,
            self.doubt,
            tuple(sorted(self.confirmed)),
        )

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Return to `snapshot`."""
        state, ram, self.gicr_known, self.doubt, confirmed = snapshot
        self.state.restore(state)
        self.ram.restore(ram)
        self.confirmed = set(confirmed)
