"""The LPI side of QEMU's redistributors: registers, and pending bits in guest RAM.

Counterpart: arm_gicv3_redist.c. PROPBASER and PENDBASER stay writable while LPIs are enabled and
are stored as written, PTZ included (measured on 7.2.22). Where the trace does not show the
redistributors, what is pending cannot be known (`replay.model.qemu.pending`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.qemu import pending
from replay.model.qemu.state import Redistributor
from tracer.its.commands import NO_DOORBELL
from tracer.its.lpi import FIRST_LPI, LpiConfig, config_byte
from tracer.its.registers import GicrCtlr, Pendbaser, Propbaser, Vpendbaser

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

_MASK32: Final = 0xFFFF_FFFF
_VLPI: Final = 0x20000
_WIDE: Final = {
    0x70: "propbaser",
    0x78: "pendbaser",
    _VLPI + 0x70: "vpropbaser",
    _VLPI + 0x78: "vpendbaser",
}
_ID_BITS_MAX: Final = 15  # GICD_TYPER.IDbits
_NONE: Final = 0xFF  # the priority that stands for: no pending vLPI
_VPENDBASER_STORED: Final = (
    Vpendbaser.inner_cache.mask
    | Vpendbaser.shareability.mask
    | Vpendbaser.physical_address.mask
    | Vpendbaser.outer_cache.mask
    | Vpendbaser.pending_last.mask
    | Vpendbaser.idai.mask
    | Vpendbaser.valid.mask
)


def read(cpu: Redistributor, offset: int, size: int) -> int | None:
    """Return an LPI register's value, or None for a register that is not modelled."""
    if offset == 0 and size == 4:
        return cpu.ctlr
    attr = _WIDE.get(offset & ~4)
    if attr is None:
        return None
    value: int = getattr(cpu, attr)
    if size == 8:
        return None if offset & 4 else value
    return value >> 32 if offset & 4 else value & _MASK32


def write(vm: QemuVm, cpu_index: int, offset: int, value: int, size: int) -> None:
    """Carry out a write to an LPI register; others are not modelled and are ignored."""
    cpu = vm.cpus[cpu_index]
    if offset == 0 and size == 4:
        enable = GicrCtlr.enable_lpis.mask
        if value & ~cpu.ctlr & enable:
            vm.lpis_enabled()
        cpu.ctlr = cpu.ctlr & ~enable | value & enable
        return
    attr = _WIDE.get(offset & ~4)
    if attr is None or (size == 8 and offset & 4):
        return
    old: int = getattr(cpu, attr)
    if size == 4:
        value &= _MASK32
        value = old & _MASK32 | value << 32 if offset & 4 else old & ~_MASK32 | value
    if attr == "vpendbaser":
        _write_vpendbaser(vm, cpu, value)
    else:
        setattr(cpu, attr, value)


def _in_range(cpu: Redistributor, intid: int) -> bool:
    return FIRST_LPI <= intid < 2 << min(Propbaser.id_bits.get(cpu.propbaser), _ID_BITS_MAX)


def process_lpi(vm: QemuVm, cpu_index: int, intid: int, level: int) -> None:
    """Set or clear an LPI's pending bit (gicv3_redist_process_lpi)."""
    if not vm.knows_gicr(cpu_index):
        return
    cpu = vm.cpus[cpu_index]
    if cpu.ctlr & GicrCtlr.enable_lpis.mask and _in_range(cpu, intid):
        _set_bit(vm, Pendbaser.physical_address.get(cpu.pendbaser), intid, level)


def _set_bit(vm: QemuVm, pendbase: int, intid: int, level: int) -> bool:
    """Return whether the bit is known to have changed (set_pending_table_bit)."""
    old = pending.store(vm, pendbase, intid, level)
    return old is not None and old != level


def _common_bits(one: Redistributor, other: Redistributor) -> int:
    """Return IDbits as far as both have them."""
    id_bits = Propbaser.id_bits.get
    return min(id_bits(one.propbaser), id_bits(other.propbaser), _ID_BITS_MAX)


def move_lpi(vm: QemuVm, source: int, target: int, intid: int) -> None:
    """Move one pending bit (gicv3_redist_mov_lpi)."""
    if not vm.knows_gicr(source) or not vm.knows_gicr(target):
        return
    old, new = vm.cpus[source], vm.cpus[target]
    if not old.ctlr & new.ctlr & GicrCtlr.enable_lpis.mask:
        return
    if intid // 8 >= 2 << _common_bits(old, new):  # QEMU compares bytes with a number of INTIDs
        return
    _move_bit(vm, pending.table_of(vm, source), pending.table_of(vm, target), intid)


def _move_bit(vm: QemuVm, source: int, target: int, intid: int) -> None:
    was = pending.store(vm, source, intid, 0)
    if was:
        pending.store(vm, target, intid, 1)
    elif was is None and not pending.load(vm, target, intid):
        pending.store(vm, target, intid, None)


def move_all_lpis(vm: QemuVm, source: int, target: int) -> None:
    """Move all pending bits (gicv3_redist_movall_lpis), bytes whole."""
    old, new = vm.cpus[source], vm.cpus[target]
    known = vm.knows_gicr(source) and vm.knows_gicr(target)
    if not known or not old.ctlr & new.ctlr & GicrCtlr.enable_lpis.mask:
        return
    bits = _common_bits(old, new)
    start, there = pending.table_of(vm, source), pending.table_of(vm, target)
    if not vm.ram.complete:
        _move_known_bits(vm, start, there, (2 << bits) // 8)
        return
    for word_at in list(vm.ram.touched(start + FIRST_LPI // 8, start + (2 << bits) // 8)):
        word = vm.ram.load32(word_at)
        if word:
            target_at = there + word_at - start
            vm.ram.store32(target_at, (vm.ram.load32(target_at) or 0) | word)
            if start != there:
                vm.ram.store32(word_at, 0)


def _move_known_bits(vm: QemuVm, source: int, target: int, size: int) -> None:
    """MOVALL where RAM is not known: of every bit that either table is known to have."""
    keys = vm.pending.bits
    intids = {
        key - (base << 3)
        for base in (source, target)
        for key in keys
        if 0 <= (key >> 3) - base < size
    }
    for intid in sorted(intids):
        _move_bit(vm, source, target, intid)


# -- GICv4


def _resident(cpu: Redistributor, vpt_addr: int) -> bool:
    value = cpu.vpendbaser
    return bool(value & Vpendbaser.valid.mask) and vpt_addr == Vpendbaser.physical_address.get(
        value
    )


def _write_vpendbaser(vm: QemuVm, cpu: Redistributor, value: int) -> None:
    """A vPE becomes resident or leaves (gicr_write_vpendbaser)."""
    value &= _VPENDBASER_STORED
    was, will = cpu.vpendbaser & Vpendbaser.valid.mask, value & Vpendbaser.valid.mask
    if was and will:
        return
    if was != will:
        last = will or cpu.best_priority != _NONE
        value = value & ~Vpendbaser.pending_last.mask | Vpendbaser.pending_last.put(int(bool(last)))
    cpu.vpendbaser = value
    if was != will:
        update_best_vlpi(vm, cpu)


def update_best_vlpi(vm: QemuVm, cpu: Redistributor) -> None:
    """Look for the best pending vLPI from scratch (gicv3_redist_update_vlpi_only)."""
    cpu.best_priority = _NONE
    if not cpu.vpendbaser & Vpendbaser.valid.mask:
        return
    start = Vpendbaser.physical_address.get(cpu.vpendbaser)
    end = start + (2 << Propbaser.id_bits.get(cpu.vpropbaser) & _MASK32) // 8
    for at in list(vm.ram.touched(start + FIRST_LPI // 8, end)):
        word = vm.ram.load32(at) or 0
        for shift in range(32):
            if word >> shift & 1:
                _offer_vlpi(vm, cpu, (at - start) * 8 + shift)


def _offer_vlpi(vm: QemuVm, cpu: Redistributor, intid: int) -> None:
    """Take a pending vLPI if it is enabled and better (update_for_one_lpi)."""
    config = vm.ram.load8(config_byte(Propbaser.physical_address.get(cpu.vpropbaser), intid)) or 0
    priority = config & LpiConfig.priority.mask
    if config & LpiConfig.enable.mask and (priority, intid) <= (cpu.best_priority, cpu.best_vlpi):
        cpu.best_vlpi, cpu.best_priority = intid, priority


def invalidate_vlpis(vm: QemuVm, cpu_index: int, vpt_addr: int) -> None:
    """VINVALL, and INV of a vLPI (gicv3_redist_vinvall)."""
    cpu = vm.cpus[cpu_index]
    if _resident(cpu, vpt_addr):
        update_best_vlpi(vm, cpu)


def process_vlpi(
    vm: QemuVm, cpu_index: int, intid: int, vpt_addr: int, doorbell: int, level: int
) -> None:
    """Set or clear a vLPI's pending bit, and ring the doorbell (gicv3_redist_process_vlpi)."""
    if not vm.knows_gicr(cpu_index):
        return
    cpu = vm.cpus[cpu_index]
    resident = _resident(cpu, vpt_addr)
    if resident and intid >= 2 << Propbaser.id_bits.get(cpu.vpropbaser):
        return
    changed = _set_bit(vm, vpt_addr, intid, level)
    if resident and changed:
        if level:
            _offer_vlpi(vm, cpu, intid)
        elif intid == cpu.best_vlpi:
            update_best_vlpi(vm, cpu)
    rings = not resident and level and doorbell != NO_DOORBELL
    if rings and cpu.ctlr & GicrCtlr.enable_lpis.mask:
        process_lpi(vm, cpu_index, doorbell, 1)


def move_vlpi(
    vm: QemuVm, source: tuple[int, int], target: tuple[int, int], intid: int, doorbell: int
) -> None:
    """Move a vLPI's pending bit between (cpu, vpt_addr) pairs (gicv3_redist_mov_vlpi)."""
    if _set_bit(vm, source[1], intid, 0):
        old = vm.cpus[source[0]]
        if _resident(old, source[1]) and intid == old.best_vlpi:
            update_best_vlpi(vm, old)
        # QEMU passes the INTID where the level belongs, which is a level of 1.
        process_vlpi(vm, target[0], intid, target[1], doorbell, 1)
