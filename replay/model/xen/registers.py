"""Reads and writes of the control frame (vgic_v3_its_mmio_read, vgic_v3_its_mmio_write).

Tables map (offset, size) to a function. What is in none is either a reserved or implementation
defined range, which any width reads as zero, or a fault that Xen injects into the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from replay.model.xen.attributes import sanitise
from replay.model.xen.commands import process_queue
from replay.model.xen.state import BASER_FIXED
from tracer.its.registers import Baser, Ctlr, Cwriter

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_MASK32: Final = 0xFFFF_FFFF
_MASK64: Final = (1 << 64) - 1
_VALID: Final = Baser.valid.mask
_NOT_WRITTEN: Final = Baser.table_type.mask | Baser.entry_size.mask | Baser.indirect.mask
_READ_AS_ZERO: Final = ((0x18, 0x80), (0x98, 0x100), (0x140, 0xFFE8), (0xFFEC, 0x10000))

Reader = Callable[["XenVm"], int]
Writer = Callable[["XenVm", int, int, int], None]
"""Takes offset, size and value."""


def read(vm: XenVm, offset: int, size: int) -> int | None:
    """Return the register's value, or None for an access that faults."""
    reader = READ.get((offset, size))
    if reader is None:
        return 0 if _is_hole(offset) else None
    return reader(vm)


def write(vm: XenVm, offset: int, value: int, size: int) -> bool:
    """Carry out a write; False for one that faults."""
    writer = WRITE.get((offset, size))
    if writer is None:
        return _is_hole(offset)
    writer(vm, offset, size, value)
    return True


def _is_hole(offset: int) -> bool:
    return any(first <= offset < end for first, end in _READ_AS_ZERO)


def merged(old: int, offset: int, size: int, value: int) -> int:
    """Return a 64-bit register with a value put into its half, or into the whole."""
    if size == 8:
        return value & _MASK64
    shift = 32 if offset & 4 else 0
    return old & ~(_MASK32 << shift) | (value & _MASK32) << shift


def part(whole: int, offset: int, size: int) -> int | None:
    """Return what an access reads of a 64-bit register; None for one that is not aligned."""
    if size == 8 and not offset & 7:
        return whole
    if size == 4 and not offset & 3:
        return whole >> (32 if offset & 4 else 0) & _MASK32
    return None


# -- writes


def _write_ctlr(vm: XenVm, offset: int, size: int, value: int) -> None:
    """Enable if every table is valid; the queue is not looked at."""
    state = vm.state
    tables = state.cbaser & state.baser[0] & state.baser[1]
    state.enabled = bool(value & Ctlr.enabled.mask and tables & _VALID)


def _write_cbaser(vm: XenVm, offset: int, size: int, value: int) -> None:
    """CREADR goes to 0, CWRITER stays."""
    state = vm.state
    if not state.enabled:
        state.cbaser = sanitise(merged(state.cbaser, offset, size, value), 59, 53)
        state.creadr = 0


def _write_cwriter(vm: XenVm, offset: int, size: int, value: int) -> None:
    """The offset is stored whatever it is; either half starts the queue."""
    state = vm.state
    state.cwriter = merged(state.cwriter, offset, size, value) & Cwriter.offset.mask
    if state.enabled:
        process_queue(vm)


def _write_baser(vm: XenVm, offset: int, size: int, value: int) -> None:
    """Flat tables only, of fixed type and entry size; the page size is as written."""
    state = vm.state
    if state.enabled:
        return
    index = offset >> 3 & 7
    new = merged(state.baser[index], offset, size, value) & ~_NOT_WRITTEN
    state.baser[index] = sanitise(new | BASER_FIXED[index], 59, 53)
    vm.hand_over()


def _ignore(vm: XenVm, offset: int, size: int, value: int) -> None:
    """A write to a read-only register."""


def _write_table() -> dict[tuple[int, int], Writer]:
    wide: dict[int, Writer] = {
        0x80: _write_cbaser,
        0x88: _write_cwriter,
        0x90: _ignore,
        0x100: _write_baser,
        0x108: _write_baser,
        **dict.fromkeys(range(0x110, 0x140, 8), _ignore),
    }
    narrow: dict[int, Writer] = {0x0: _write_ctlr, **dict.fromkeys((0x4, 0x8, 0xFFE8), _ignore)}
    table = {(at, 4): writer for at, writer in narrow.items()}
    for at, writer in wide.items():
        table[at, 8] = table[at, 4] = table[at + 4, 4] = writer
    return table


# -- reads


def _read_ctlr(vm: XenVm) -> int:
    """Quiescent is told by the pointers; that the queue's lock is free, by there being one vCPU."""
    state = vm.state
    return state.enabled | (Ctlr.quiescent.mask if state.creadr == state.cwriter else 0)


def _half(whole: Reader, shift: int) -> Reader:
    return lambda vm: whole(vm) >> shift & _MASK32


def _read_table() -> dict[tuple[int, int], Reader]:
    wide: dict[int, Reader] = {
        0x08: lambda vm: vm.profile.typer,
        0x80: lambda vm: vm.state.cbaser,
        0x88: lambda vm: vm.state.cwriter,
        0x90: lambda vm: vm.state.creadr,
        0x100: lambda vm: vm.state.baser[0],
        0x108: lambda vm: vm.state.baser[1],
        **dict.fromkeys(range(0x110, 0x140, 8), lambda vm: 0),
    }
    table: dict[tuple[int, int], Reader] = {
        (0x0, 4): _read_ctlr,
        (0x4, 4): lambda vm: vm.profile.iidr,
        (0xFFE8, 4): lambda vm: vm.profile.pidr2,
    }
    for at, whole in wide.items():
        table[at, 8] = whole
        table[at, 4], table[at + 4, 4] = _half(whole, 0), _half(whole, 32)
    return table


READ: Final = _read_table()
WRITE: Final = _write_table()
