"""The entry point: one VM with KVM's in-kernel GICv3 and one ITS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model.effects import Effect
from replay.model.kvm import invariants, lpi, msi, redist, registers
from replay.model.kvm.layout import (
    CTRL_INIT,
    CTRL_RESET,
    CTRL_RESTORE_TABLES,
    CTRL_SAVE_TABLES,
    ENXIO,
    LPI_ID_BITS,
)
from replay.model.kvm.reset import reset
from replay.model.kvm.restore import restore_tables
from replay.model.kvm.save import save_tables
from replay.model.kvm.state import Snapshot, State, VgicIrq, restore_state, snapshot_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from replay.model.kvm.flags import KvmFlags
    from replay.model.memory import GuestRam

LpiRow = tuple[int, int, str, int, int]


class KvmVm:
    """A pure state machine that answers as a Linux kernel with these flags answers.

    `origin` is 0 for the guest and 1 for the VMM (a device attribute). Sizes are in bytes; the
    VMM's accesses have the register's own size. Errors come back as negative errno values.

    Attributes:
        effects: when it is a list, what an observer could have seen is appended to it, as in
            `replay.model.effects`.
    """

    __slots__ = ("state",)

    def __init__(self, flags: KvmFlags, cpus: int | Sequence[int], ram: GuestRam) -> None:
        """Create a VM whose GIC and ITS are initialised.

        Args:
            flags: the behaviour of the kernel.
            cpus: number of vCPUs, or their vcpu_ids in order of creation.
            ram: guest memory; the caller stores the guest's writes into it.
        """
        vcpu_ids = range(cpus) if isinstance(cpus, int) else cpus
        self.state = State(flags, vcpu_ids, ram)

    @property
    def flags(self) -> KvmFlags:
        """The behaviour of the kernel."""
        return self.state.flags

    @property
    def ram(self) -> GuestRam:
        """Guest memory."""
        return self.state.ram

    @property
    def effects(self) -> list[Effect] | None:
        """Where effects are appended, None for nowhere."""
        return self.state.effects

    @effects.setter
    def effects(self, value: list[Effect] | None) -> None:
        self.state.effects = value

    def reg_write(self, origin: int, offset: int, size: int, value: int) -> int:
        """Write an ITS register; returns 0 or -errno."""
        return registers.reg_write(self.state, origin, offset, size, value)

    def reg_read(self, origin: int, offset: int, size: int) -> tuple[int, int]:
        """Read an ITS register; returns (value, 0 or -errno)."""
        return registers.reg_read(self.state, origin, offset, size)

    def gicr_write(self, origin: int, cpu: int, offset: int, size: int, value: int) -> int:
        """Write a redistributor register of the vCPU with this index; returns 0 or -errno."""
        return redist.gicr_write(self.state, origin, cpu, offset, size, value)

    def gicr_read(self, origin: int, cpu: int, offset: int, size: int) -> tuple[int, int]:
        """Read a redistributor register; returns (value, 0 or -errno)."""
        return redist.gicr_read(self.state, origin, cpu, offset, size)

    def gicd_write(self, origin: int, offset: int, size: int, value: int) -> int:
        """Write a distributor register; returns 0 or -errno."""
        return redist.gicd_write(self.state, origin, offset, size, value)

    def gicd_read(self, origin: int, offset: int, size: int) -> tuple[int, int]:
        """Read a distributor register; returns (value, 0 or -errno)."""
        return redist.gicd_read(self.state, origin, offset, size)

    def signal_msi(self, device_id: int, event_id: int) -> int:
        """Send an MSI to the ITS's doorbell; returns 1 delivered, 0 blocked, or -errno."""
        return msi.signal_msi(self.state, device_id, event_id)

    def ctrl(self, attr: int) -> int:
        """Set an attribute of KVM_DEV_ARM_VGIC_GRP_CTRL on the ITS; returns 0 or -errno.

        Raises:
            HostCrash: the kernel dies of it.
        """
        if attr == CTRL_SAVE_TABLES:
            return save_tables(self.state)
        if attr == CTRL_RESTORE_TABLES:
            return restore_tables(self.state)
        if attr == CTRL_RESET and self.state.flags.ctrl_reset_supported:
            reset(self.state)
            return 0
        if attr == CTRL_INIT:
            return 0
        # Linux 4530256f3699 (in v6.17): before, an unknown attribute was a success.
        return ENXIO if self.state.flags.unknown_ctrl_attr_fails else 0

    def save_pending(self) -> int:
        """Write the pending tables (KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES); returns 0 or -errno."""
        return lpi.save_pending_tables(self.state)

    def live_lpis(self) -> list[LpiRow]:
        """Return a row of debugfs vgic-state for each live LPI, in the kernel's order.

        A row is (intid, target, flags, priority, queued). vCPUs are named as that kernel names them
        there, by index or by vcpu_id, -1 for none; flags are the digits pending, level, active,
        enabled, hw, config, group.
        """
        return [self._row(irq) for irq in self.state.walk_lpis() if self._is_listed(irq)]

    def live_lpi(self, intid: int) -> LpiRow | None:
        """Return one of these rows, or None."""
        irq = self.state.lpis.get(intid)
        return self._row(irq) if irq is not None and self._is_listed(irq) else None

    def _is_listed(self, irq: VgicIrq) -> bool:
        # A restored table can name any 32-bit INTID; the xarray walk of debugfs ends at 65535.
        hides = self.state.flags.debugfs_hides_intids_above_16_bits
        return not (hides and irq.intid >> LPI_ID_BITS)

    def _row(self, irq: VgicIrq) -> LpiRow:
        state, flags = self.state, self.state.flags
        names = range(len(state.vcpu_ids)) if flags.debugfs_names_vcpu_index else state.vcpu_ids
        return (
            irq.intid,
            names[irq.target] if irq.target >= 0 else -1,
            f"{irq.pending:d}00{irq.enabled:d}00{flags.lpis_are_group1:d}",
            irq.priority,
            names[irq.queued] if irq.queued >= 0 else -1,
        )

    def violations(self) -> Iterator[str]:
        """Yield the name of each invariant that does not hold."""
        return invariants.violations(self.state)

    def snapshot(self) -> Snapshot:
        """Return the whole state, RAM included, as plain values in a deterministic order."""
        return snapshot_state(self.state)

    def restore(self, snapshot: Snapshot) -> None:
        """Take a snapshot of a VM with the same flags, vCPUs and memory slots."""
        restore_state(self.state, snapshot)
