"""GITS_* registers, for the guest (MMIO) and for the VMM (KVM_DEV_ARM_VGIC_GRP_ITS_REGS).

Both reach the same handlers, except that the VMM may also write IIDR and CREADR. The VMM's accesses
are as wide as the register; the guest's have a size, and one that does not fit reads as zero and
writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from replay.model.kvm.cache import invalidate
from replay.model.kvm.commands import process_commands
from replay.model.kvm.layout import (
    BASER_FIXED_MASK,
    COLLECTION_BASER_FIXED,
    COMMAND_OFFSET,
    DEVICE_BASER_FIXED,
    EBUSY,
    EINVAL,
    ENXIO,
    GITS_IIDR,
    GITS_TYPER,
    GUEST,
    INDIRECT,
    OUTER_NC,
    PAGE_SIZE_64K,
    PAGE_SIZE_MASK,
    U32,
    U64,
    VALID,
    queue_bytes,
)
from replay.model.kvm.state import BLIND_COLLECTIONS, BLIND_DEVICES, State
from replay.model.kvm.tables import free_collections, free_devices

Reader = Callable[[State, int], int]
"""Takes the offset (8-byte aligned for a 64-bit register); returns the whole register."""
Writer = Callable[[State, int, int, int], int]
"""Takes offset, size and value; returns 0 or -errno."""

_BASER: Final = 0x100
_ID_REGISTERS: Final = 0xFFD0
_VALID_TABLES: Final = ("GITS_CBASER", "GITS_BASER0", "GITS_BASER1")
_ID_VALUES: Final = {
    0xFFD0: 0x40,
    0xFFE0: 0x92,
    0xFFE4: 0xB4,
    0xFFE8: 0x3B,
    0xFFF0: 0x0D,
    0xFFF4: 0xF0,
    0xFFF8: 0x05,
    0xFFFC: 0xB1,
}


def sanitise(value: int, inner: int, outer: int, *, outer_default: int = 0) -> int:
    """Take away the memory attributes that KVM does not want (`vgic_sanitise_field`).

    Args:
        value: a register.
        inner: shift of its inner cacheability field.
        outer: shift of its outer cacheability field.
        outer_default: what an unwanted outer cacheability becomes.
    """
    if value >> 10 & 3 == 2:  # outer shareable becomes inner shareable
        value ^= 3 << 10
    if value >> inner & 7 < 2:  # nCnB and nC become RaWb
        value = value & ~(7 << inner) | 3 << inner
    if value >> outer & 7 > OUTER_NC:
        value = value & ~(7 << outer) | outer_default << outer
    return value


def _merge(old: int, offset: int, size: int, value: int) -> int:
    """Put a value into the half (or the whole) of a 64-bit register (`update_64bit_reg`)."""
    if size == 8:
        return value & U64
    if offset & 4:
        return old & U32 | (value & U32) << 32
    return old & ~U32 | value & U32


def _outer_default(state: State) -> int:
    return 0 if state.flags.outer_cacheability_same_as_inner else OUTER_NC


def _write_ignored(state: State, offset: int, size: int, value: int) -> int:
    return 0


def _read_ctlr(state: State, offset: int) -> int:
    quiescent = 1 << 31 if state.creadr == state.cwriter else 0
    return quiescent | state.enabled


def _write_ctlr(state: State, offset: int, size: int, value: int) -> int:
    """`vgic_mmio_write_its_ctlr`: a refused enable is silent; disabling keeps all lists."""
    enable = bool(value & 1)
    if enable and not state.enabled and not _may_enable(state):
        return 0
    unsure = enable and not (_tables_known(state) and _may_enable(state))
    if not unsure:
        state.unknown.know("GITS_CTLR", 1)
    elif not state.enabled:
        state.unknown.doubt("GITS_CTLR", 1)
    state.enabled = enable
    if not state.enabled:
        invalidate(state)
    process_commands(state)
    return 0


def _may_enable(state: State) -> bool:
    """Linux c9b51bb60d94 ("vgic-its: Check CBASER/BASER validity ...") (in v4.15)."""
    if not state.flags.enable_requires_valid_tables or not _tables_known(state):
        return True
    return bool(state.device_baser & state.coll_baser & state.cbaser & VALID)


def _tables_known(state: State) -> bool:
    """Return whether it is known which tables are valid; else the guest is taken to know."""
    return not any(state.unknown.of(name) & VALID for name in _VALID_TABLES)


def _refused(state: State, *names: str) -> bool:
    """Return whether a write is ignored because the ITS is enabled.

    When nobody knows that, nobody knows what these registers hold from here on.
    """
    if _is_unsure(state):
        for name in names:
            state.unknown.doubt(name)
        return True
    return state.enabled


def _is_unsure(state: State) -> bool:
    return bool(state.unknown.of("GITS_CTLR") & 1)


def _half(offset: int, size: int) -> int:
    """Return the bits of a 64-bit register that an access reaches."""
    return U64 if size == 8 else U32 << (32 if offset & 4 else 0)


def _read_iidr(state: State, offset: int) -> int:
    return GITS_IIDR


def _vmm_write_iidr(state: State, offset: int, size: int, value: int) -> int:
    """Select the ABI revision of the tables; only 0 exists."""
    return EINVAL if value >> 12 & 0xF else 0


def _read_typer(state: State, offset: int) -> int:
    return GITS_TYPER


def _read_cbaser(state: State, offset: int) -> int:
    return state.cbaser


def _write_cbaser(state: State, offset: int, size: int, value: int) -> int:
    """`vgic_mmio_write_its_cbaser`: CWRITER goes to 0 with CREADR."""
    if _refused(state, "GITS_CBASER", "GITS_CREADR", "GITS_CWRITER"):
        return 0
    state.unknown.know("GITS_CBASER", _half(offset, size))
    state.unknown.know("GITS_CREADR")
    state.unknown.know("GITS_CWRITER")
    cbaser = _merge(state.cbaser, offset, size, value)
    state.cbaser = sanitise(cbaser, 59, 53, outer_default=_outer_default(state)) & ~0xF000
    state.creadr = state.cwriter = 0
    return 0


def _read_cwriter(state: State, offset: int) -> int:
    return state.cwriter


def _write_cwriter(state: State, offset: int, size: int, value: int) -> int:
    """`vgic_mmio_write_its_cwriter`: an offset outside the queue is ignored."""
    cwriter = _merge(state.cwriter, offset, size, value) & COMMAND_OFFSET
    if cwriter < queue_bytes(state.cbaser) or state.unknown.of("GITS_CBASER") & U32:
        state.cwriter = cwriter
        if size == 8 or not offset & 4:
            state.unknown.know("GITS_CWRITER")
        process_commands(state)
    return 0


def _read_creadr(state: State, offset: int) -> int:
    return state.creadr


def _vmm_write_creadr(state: State, offset: int, size: int, value: int) -> int:
    """`vgic_mmio_uaccess_write_its_creadr`."""
    if state.enabled:
        return EBUSY
    state.unknown.know("GITS_CREADR")
    creadr = value & COMMAND_OFFSET
    if creadr >= queue_bytes(state.cbaser):
        return EINVAL
    state.creadr = creadr
    return 0


def _read_baser(state: State, offset: int) -> int:
    index = offset >> 3 & 7
    if index == 0:
        return state.device_baser
    return state.coll_baser if index == 1 else 0


def _write_baser(state: State, offset: int, size: int, value: int) -> int:
    """`vgic_mmio_write_its_baser`: only BASER0 (devices) and BASER1 (collections) exist."""
    index = offset >> 3 & 7
    if index > 1:
        return 0
    if _refused(state, f"GITS_BASER{index}"):
        state.blind |= (BLIND_DEVICES, BLIND_COLLECTIONS)[index] if _is_unsure(state) else 0
        return 0
    known = not state.unknown.of(f"GITS_BASER{index}")
    state.unknown.know(f"GITS_BASER{index}", _half(offset, size))
    old = state.coll_baser if index else state.device_baser
    baser = _merge(old, offset, size, value) & ~(BASER_FIXED_MASK | PAGE_SIZE_MASK)
    if index:
        baser = baser & ~INDIRECT | COLLECTION_BASER_FIXED
    else:
        baser |= DEVICE_BASER_FIXED
    baser = sanitise(baser | PAGE_SIZE_64K, 59, 53, outer_default=_outer_default(state))
    if index:
        state.coll_baser = baser
    else:
        state.device_baser = baser
    if known or not baser & VALID:
        changed = baser != old or not known
        _forget_table(state, index, changed=changed, valid=bool(baser & VALID))
    elif state.flags.baser_change_frees_list:
        state.blind |= (BLIND_DEVICES, BLIND_COLLECTIONS)[index]  # if it changed, all went
    return 0


def _forget_table(state: State, index: int, *, changed: bool, valid: bool) -> None:
    """Drop what was mapped through a table that is gone.

    Linux 36d6961c2b48 (in v4.15): when it becomes invalid. Linux 8cd92f77ae4f ("vgic-its: Free the
    caches when GITS_BASER changes") (in v7.3): when anything of it changes, and the cache too.
    """
    on_change = state.flags.baser_change_frees_list
    if on_change and not changed:
        return
    if not on_change and (valid or not state.flags.baser_invalid_frees_list):
        return
    if index:
        free_collections(state)
    else:
        free_devices(state)
    if on_change:
        invalidate(state)


def _read_id(state: State, offset: int) -> int:
    return _ID_VALUES.get(offset, 0)


class _Region(NamedTuple):
    """A run of registers: who reads it, and who writes it for the guest and for the VMM."""

    offset: int
    length: int
    width: int
    read: Reader
    guest_write: Writer
    vmm_write: Writer


_REGIONS: Final = (
    _Region(0x0000, 4, 4, _read_ctlr, _write_ctlr, _write_ctlr),
    _Region(0x0004, 4, 4, _read_iidr, _write_ignored, _vmm_write_iidr),
    _Region(0x0008, 8, 8, _read_typer, _write_ignored, _write_ignored),
    _Region(0x0080, 8, 8, _read_cbaser, _write_cbaser, _write_cbaser),
    _Region(0x0088, 8, 8, _read_cwriter, _write_cwriter, _write_cwriter),
    _Region(0x0090, 8, 8, _read_creadr, _write_ignored, _vmm_write_creadr),
    _Region(_BASER, 0x40, 8, _read_baser, _write_baser, _write_baser),
    _Region(_ID_REGISTERS, 0x30, 4, _read_id, _write_ignored, _write_ignored),
)

# One entry for each address that an access of any legal kind can start at.
_GUEST_REGIONS: Final = {
    offset: region
    for region in _REGIONS
    for offset in range(region.offset, region.offset + region.length, 4)
}
_VMM_REGIONS: Final = {
    offset: region
    for region in _REGIONS
    for offset in range(region.offset, region.offset + region.length, region.width)
}


def _vmm_error(offset: int) -> int:
    """Return why the VMM has no register there (`vgic_its_attr_regs_access`)."""
    align = 3 if offset < 8 or offset >= _ID_REGISTERS else 7
    return EINVAL if offset & align else ENXIO


def _guest_region(offset: int, size: int) -> _Region | None:
    """Find what a guest's access reaches (`vgic_get_mmio_region`), or None."""
    region = _GUEST_REGIONS.get(offset)
    if region is None or size not in (4, 8) or size > region.width or offset & (size - 1):
        return None
    return region


def reg_write(state: State, origin: int, offset: int, size: int, value: int) -> int:
    """Write an ITS register; returns 0 or -errno (a guest's write never fails visibly)."""
    if origin != GUEST:
        region = _VMM_REGIONS.get(offset)
        if region is None:
            return _vmm_error(offset)
        return region.vmm_write(state, offset, region.width, value)
    found = _guest_region(offset, size)
    return 0 if found is None else found.guest_write(state, offset, size, value)


def reg_read(state: State, origin: int, offset: int, size: int) -> tuple[int, int]:
    """Read an ITS register; returns (value, 0 or -errno)."""
    if origin != GUEST:
        region = _VMM_REGIONS.get(offset)
        if region is None:
            return 0, _vmm_error(offset)
        return region.read(state, offset), 0
    found = _guest_region(offset, size)
    if found is None:
        return 0, 0
    value = found.read(state, offset)
    if found.width == 8 and size == 4:
        value = value >> (32 if offset & 4 else 0) & U32
    return value, 0
