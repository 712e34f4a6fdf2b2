"""Reads and writes of the control frame as QEMU's its_readl, its_readll, its_writel, its_writell.

A 64-bit register is reached whole or by halves; what happens on a half is not what happens on the
whole. Tables map size and offset to a function; what is in no table QEMU logs as bad and treats as
RAZ/WI.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from replay.model.qemu.commands import process_queue
from replay.model.qemu.state import Queue, TableDesc
from tracer.its.registers import Baser, Cbaser, Creadr, Ctlr, Cwriter

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

_MASK32: Final = 0xFFFF_FFFF
_ENABLED: Final = Ctlr.enabled.mask
_RETRY: Final = Cwriter.retry.mask
_BASER_RO: Final = Baser.entry_size.mask | Baser.table_type.mask
_TYPE_SHIFT: Final = Baser.table_type.lo
_TYPE_ONES: Final = Baser.table_type.ones
# Type of a table -> its descriptor, and its place in `since`.
_TABLES: Final = {1: ("dt", 0), 4: ("ct", 1), 2: ("vpet", 2)}
_PAGE_SIZES: Final = (0x1000, 0x4000, 0x10000, 0x10000)
_LEVEL1_SIZE_BYTES: Final = 8

Reader = Callable[["QemuVm"], int]
Writer = Callable[["QemuVm", int], None]
_T = TypeVar("_T")


def read(vm: QemuVm, offset: int, size: int) -> int | None:
    """Return the register's value, or None for an access that QEMU calls bad."""
    reader = READ[size].get(offset) if size in READ else None
    return None if reader is None else reader(vm)


def write(vm: QemuVm, offset: int, value: int, size: int) -> bool:
    """Carry out a write; False for one that QEMU calls bad."""
    writer = WRITE[size].get(offset) if size in WRITE else None
    if writer is None:
        return False
    writer(vm, value)
    return True


def _by_size(table: dict[tuple[int, int], _T]) -> dict[int, dict[int, _T]]:
    return {
        size: {offset: each for (offset, of), each in table.items() if of == size}
        for size in (4, 8)
    }


# -- writes


def _write_ctlr(vm: QemuVm, value: int) -> None:
    its = vm.its
    if value & _ENABLED:
        its.ctlr |= _ENABLED
        _extract_tables(vm)
        extract_queue(vm)
        if not vm.profile.creadr_kept_on_enable:
            its.creadr = 0
        process_queue(vm)
    else:
        its.ctlr &= ~_ENABLED


def _extract_tables(vm: QemuVm) -> None:
    """extract_table_params: a BASER that is not valid leaves a table of no entries."""
    its = vm.its
    for value in its.baser:
        place = _TABLES.get(value >> _TYPE_SHIFT & _TYPE_ONES)
        if place:
            attr, at = place
            desc = table_desc(value)
            if desc != getattr(its, attr):
                vm.tick()
                vm.since[at] = vm.clock
            setattr(its, attr, desc)


@lru_cache(64)
def table_desc(value: int) -> TableDesc:
    """Return the descriptor that QEMU derives from a BASER's value; nobody changes it."""
    if not value & Baser.valid.mask:
        return TableDesc(entry_size=0)
    page_size = _PAGE_SIZES[Baser.page_size.get(value)]
    if page_size == 0x10000:
        base = Baser.physical_address_low_64k.get(value)
        base |= Baser.physical_address_high_64k.get(value)
    else:
        base = Baser.physical_address.get(value)
    entry_size = Baser.entry_size.get(value) + 1
    size_bytes = (Baser.size.get(value) + 1) * page_size
    indirect = Baser.indirect.get(value)
    if indirect:
        entries = size_bytes // _LEVEL1_SIZE_BYTES * (page_size // entry_size)
    else:
        entries = size_bytes // entry_size
    return TableDesc(base, min(entries, 1 << 16), page_size, entry_size, indirect)


def extract_queue(vm: QemuVm) -> None:
    """Take the queue from CBASER, as QEMU does on enabling."""
    value = vm.its.cbaser
    if value & Cbaser.valid.mask:
        entries = (Cbaser.size.get(value) + 1) * 4096 // 32
        vm.its.queue = Queue(Cbaser.physical_address.get(value), entries)
    else:
        vm.its.queue = Queue()


def _write_cbaser(vm: QemuVm, value: int) -> None:
    if not vm.its.ctlr & _ENABLED:
        vm.its.cbaser = value
        vm.its.creadr = 0
        if not vm.profile.cwriter_kept_on_cbaser_write:
            vm.its.cwriter = 0


def _write_cwriter(vm: QemuVm, value: int) -> None:
    its = vm.its
    its.cwriter = value & ~_RETRY
    if its.cwriter != its.creadr:
        process_queue(vm)


def _write_cwriter_low(vm: QemuVm, value: int) -> None:
    _write_cwriter(vm, _with_low(vm.its.cwriter, value))


def _write_cwriter_high(vm: QemuVm, value: int) -> None:
    # Stored unmasked, and the queue is not processed.
    vm.its.cwriter = _with_high(vm.its.cwriter, value)


def _write_creadr(vm: QemuVm, value: int) -> None:
    if vm.profile.creadr_writable:
        vm.its.creadr = value & ~Creadr.stalled.mask


def _write_creadr_low(vm: QemuVm, value: int) -> None:
    _write_creadr(vm, vm.its.creadr & ~_MASK32 | value & _MASK32 & ~Creadr.stalled.mask)


def _write_creadr_high(vm: QemuVm, value: int) -> None:
    if vm.profile.creadr_writable:
        vm.its.creadr = _with_high(vm.its.creadr, value)


def _baser_writer(index: int, keep: int) -> Writer:
    """Return a writer of the bits outside `keep`; an unimplemented BASER reads 0 and stays so."""
    keep |= _BASER_RO

    def writer(vm: QemuVm, value: int) -> None:
        its = vm.its
        old = its.baser[index]
        if not old and vm.profile.unimplemented_baser_ignores_writes:
            return
        if not its.ctlr & _ENABLED:
            its.baser[index] = old & keep | value & ~keep

    return writer


def _ignore(vm: QemuVm, value: int) -> None:
    """A write to a read-only register."""


def _with_low(old: int, value: int) -> int:
    return old & ~_MASK32 | value & _MASK32


def _with_high(old: int, value: int) -> int:
    return old & _MASK32 | (value & _MASK32) << 32


def _shifted(writer: Writer) -> Writer:
    return lambda vm, value: writer(vm, (value & _MASK32) << 32)


def _write_table() -> dict[tuple[int, int], Writer]:
    table: dict[tuple[int, int], Writer] = {
        (0x00, 4): _write_ctlr,
        (0x04, 4): _ignore,
        (0x08, 8): _ignore,
        (0x80, 4): lambda vm, value: _write_cbaser(vm, _with_low(vm.its.cbaser, value)),
        (0x84, 4): lambda vm, value: _write_cbaser(vm, _with_high(vm.its.cbaser, value)),
        (0x80, 8): _write_cbaser,
        (0x88, 4): _write_cwriter_low,
        (0x8C, 4): _write_cwriter_high,
        (0x88, 8): _write_cwriter,
        (0x90, 4): _write_creadr_low,
        (0x94, 4): _write_creadr_high,
        (0x90, 8): _write_creadr,
    }
    for index in range(8):
        at = 0x100 + 8 * index
        high, whole = _baser_writer(index, _MASK32), _baser_writer(index, 0)
        low = _baser_writer(index, _MASK32 << 32)
        table[at, 8] = whole
        table[at, 4] = low
        table[at + 4, 4] = _shifted(high)
    for at in range(0xFFD0, 0x10000, 4):
        table[at, 4] = _ignore
    return table


# -- reads


def _id_register(offset: int) -> Reader:
    fixed = {0xFFD0: 0x44, 0xFFE4: 0xB4, 0xFFF0: 0x0D, 0xFFF4: 0xF0, 0xFFF8: 0x05, 0xFFFC: 0xB1}
    if offset == 0xFFE0:
        return lambda vm: vm.profile.pidr0
    if offset == 0xFFE8:
        return lambda vm: vm.profile.pidr2
    value = fixed.get(offset, 0)
    return lambda vm: value


def _baser_reader(index: int) -> Reader:
    return lambda vm: vm.its.baser[index]


def _half(whole: Reader, shift: int) -> Reader:
    return lambda vm: whole(vm) >> shift & _MASK32


def _read_table() -> dict[tuple[int, int], Reader]:
    wide: dict[int, Reader] = {
        0x08: lambda vm: vm.profile.typer,
        0x80: lambda vm: vm.its.cbaser,
        0x88: lambda vm: vm.its.cwriter,
        0x90: lambda vm: vm.its.creadr,
        **{0x100 + 8 * index: _baser_reader(index) for index in range(8)},
    }
    table: dict[tuple[int, int], Reader] = {
        (0x00, 4): lambda vm: vm.its.ctlr,
        (0x04, 4): lambda vm: vm.profile.iidr,
    }
    for at, whole in wide.items():
        table[at, 8] = whole
        table[at, 4] = _half(whole, 0)
        table[at + 4, 4] = _half(whole, 32)
    table[0x90, 4] = lambda vm: vm.its.creadr & _MASK32  # the same as above: drivers poll it
    for at in range(0xFFD0, 0x10000, 4):
        table[at, 4] = _id_register(at)
    return table


# Size of an access -> offset -> what it does.
READ: Final = _by_size(_read_table())
WRITE: Final = _by_size(_write_table())
