"""Pending bits of LPIs in guest RAM: set, clear, or maybe.

Where all of guest RAM is known a bit is what its byte says. Elsewhere each bit is known by itself:
an MSI sets it, CLEAR, a move and a CPU that acknowledges the LPI clear it, and of all others
nobody knows. A guest may rewrite its pending tables while LPIs are off. Counterparts:
set_pending_table_bit and gicv3_redist_lpi_pending in QEMU's arm_gicv3_redist.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tracer.its.lpi import pending_bit
from tracer.its.registers import Pendbaser

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

SET: Final = "set"
CLEAR: Final = "clear"
MAYBE: Final = "maybe"


class PendingBits:
    """The bits that are known where guest RAM is not; a key is address * 8 + bit number.

    Attributes:
        acks_seen: whether the trace shows what CPUs acknowledge. Until it does, a bit that was
            set may have been cleared unseen.
        since: the tick from which on what was seen of guest RAM counts.
    """

    __slots__ = ("acks_seen", "bits", "since")

    def __init__(self) -> None:
        self.acks_seen = False
        self.bits: dict[int, int] = {}
        self.since = 0

    def rewritten(self, clock: int) -> None:
        """The guest may have rewritten its tables."""
        self.bits.clear()
        self.since = clock

    def overwritten(self, gpa: int, size: int) -> None:
        """Guest RAM was shown there: its bytes say from now on."""
        for key in [key for key in self.bits if gpa <= key >> 3 < gpa + size]:
            del self.bits[key]


def table_of(vm: QemuVm, cpu: int) -> int:
    """Return the address of a CPU's pending table."""
    return Pendbaser.physical_address.get(vm.cpus[cpu].pendbaser)


def load(vm: QemuVm, pendbase: int, intid: int) -> int | None:
    """Return a pending bit, or None where nobody knows it."""
    gpa, shift = pending_bit(pendbase, intid)
    if not vm.ram.complete:
        known = vm.pending.bits.get(gpa << 3 | shift)
        if known is not None or vm.confirmed.get(gpa & ~3, -1) < vm.pending.since:
            return known
    byte = vm.ram.load8(gpa)
    return None if byte is None else byte >> shift & 1


def store(vm: QemuVm, pendbase: int, intid: int, level: int | None) -> int | None:
    """Set a pending bit, or forget it; return what it was. A bit in no RAM is not stored."""
    gpa, shift = pending_bit(pendbase, intid)
    if not vm.ram.backed(gpa):
        return level
    old = load(vm, pendbase, intid)
    if not vm.ram.complete:
        if vm.ram.stored is not None:
            vm.ram.stored.words.add(gpa >> 2)
        if level is None:
            vm.pending.bits.pop(gpa << 3 | shift, None)
        else:
            vm.pending.bits[gpa << 3 | shift] = level
    elif old != level:
        vm.ram.store8(gpa, (vm.ram.load8(gpa) or 0) ^ 1 << shift)
    return old


def word(vm: QemuVm, cpu: int | None, intid: int) -> str:
    """Return whether an LPI is pending on a CPU: `set`, `clear` or `maybe`."""
    if cpu is None or cpu >= len(vm.cpus) or not vm.knows_gicr(cpu):
        return MAYBE
    bit = load(vm, table_of(vm, cpu), intid)
    if bit is None or (bit and not vm.ram.complete and not vm.pending.acks_seen):
        return MAYBE
    return SET if bit else CLEAR


def acknowledge(vm: QemuVm, cpu: int, intid: int) -> None:
    """A CPU took an LPI, which is pending no longer (icc_activate_irq)."""
    vm.pending.acks_seen = True
    if cpu < len(vm.cpus) and vm.knows_gicr(cpu):
        store(vm, table_of(vm, cpu), intid, 0)
