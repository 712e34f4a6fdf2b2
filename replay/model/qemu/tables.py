"""Table entries in guest RAM: where they are, and reading and writing them as QEMU does.

Every access appends the effect that QEMU's trace would show. A `Fault` stands for a memory
transaction error, which stalls the queue. Where observed RAM does not tell, the witness does, and
otherwise a named assumption about a well-behaved guest (see `replay.model.qemu.vm`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from replay.model import effects
from replay.model.qemu import entries
from replay.model.qemu.state import TableDesc

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

_LEVEL1_SIZE_BYTES: Final = 8
_LEVEL1_VALID: Final = 1 << 63
_LEVEL1_ADDRESS: Final = (1 << 51) - 1
_OLD_DOORBELL: Final = 0x3F << 26

# Names of what is assumed of a guest, with the reason.
LEVEL1_VALID: Final = "the guest made the level-1 entry valid before it used what lies below"
TABLE_ZEROED: Final = "the guest zeroed its tables before it handed them over"
ENTRY_KEPT: Final = "the guest left the entry as it was before the reset"


class Fault(Exception):
    """A memory transaction error."""


def entry_address(vm: QemuVm, desc: TableDesc, index: int, step: int) -> int | None:
    """Return the address of entry `index`; None when its level-1 entry is not valid.

    `step` is the index of the effect that needs it.

    Raises:
        Fault: the level-1 entry cannot be read.
    """
    if not desc.indirect:
        return desc.base + index * desc.entry_size
    level1_index = index // (desc.page_size // _LEVEL1_SIZE_BYTES)
    level1 = _level1(vm, desc, level1_index, step)
    if level1 is None:
        return None
    return level1 + index % (desc.page_size // desc.entry_size) * desc.entry_size


def _level1(vm: QemuVm, desc: TableDesc, index: int, step: int) -> int | None:
    """Return the address of the level-2 page, or None when it is not valid."""
    at = desc.base + index * _LEVEL1_SIZE_BYTES
    if not vm.ram.backed(at, _LEVEL1_SIZE_BYTES):
        raise Fault
    raw = vm.ram.load64(at)
    if raw is not None:
        return raw & _LEVEL1_ADDRESS if raw & _LEVEL1_VALID else None
    if at not in vm.assumed_level1:
        vm.assumed_level1.add(at)
        vm.bound[step] = f"assumed: {LEVEL1_VALID}"
    return unseen_page(desc, index)


def unseen_page(desc: TableDesc, index: int) -> int:
    """Return a stand-in address, beyond any real one, for a page whose address was never seen."""
    return (desc.base + 1 << 64) + index * desc.page_size


def read_dte(vm: QemuVm, device_id: int) -> entries.Dte:
    """Return (valid, size, itt_addr) as get_dte does."""
    reads = vm.reads
    if reads.changes != vm.ram.changes:
        reads.forget(vm.ram.changes)
    read = reads.dtes.get(device_id)
    if read is None:
        reads.one_more()
        dte = _read_dte(vm, device_id)
        valid, size, itt_addr = dte
        read = (effects.TABLE_READ, effects.DTE, device_id, 0, valid, size, itt_addr), dte
        reads.dtes[device_id] = read
    vm.effects.append(read[0])
    found: entries.Dte = read[1]
    return found


def _read_dte(vm: QemuVm, device_id: int) -> entries.Dte:
    try:
        at = entry_address(vm, vm.its.dt, device_id, len(vm.effects))
        raw = 0 if at is None else _load(vm, at, 8, effects.DTE, device_id, 0, vm.since[0])
    except Fault:
        vm.effects.append((effects.TABLE_FAULT, effects.DTE, device_id, 0))
        raise
    return entries.unpack_dte(raw)


def write_dte(vm: QemuVm, device_id: int, valid: int, size: int, itt_addr: int) -> None:
    """Store a device table entry as update_dte does; the ITT changes hands."""
    vm.effects.append((effects.TABLE_WRITE, effects.DTE, device_id, 0, valid, size, itt_addr))
    raw = entries.pack_dte(1, size, itt_addr) if valid else 0
    _store_entry(vm, vm.its.dt, device_id, raw)
    vm.tick()
    vm.since_itt[itt_addr] = vm.clock
    if vm.ram.stored is not None:
        vm.ram.stored.itts.add(itt_addr)


def read_cte(vm: QemuVm, icid: int) -> entries.Cte:
    """Return (valid, rdbase) as get_cte does."""
    reads = vm.reads
    if reads.changes != vm.ram.changes:
        reads.forget(vm.ram.changes)
    read = reads.ctes.get(icid)
    if read is None:
        reads.one_more()
        cte = _read_cte(vm, icid)
        valid, rdbase = cte
        read = (effects.TABLE_READ, effects.CTE, icid, 0, valid, rdbase), cte
        reads.ctes[icid] = read
    vm.effects.append(read[0])
    found: entries.Cte = read[1]
    return found


def _read_cte(vm: QemuVm, icid: int) -> entries.Cte:
    try:
        at = entry_address(vm, vm.its.ct, icid, len(vm.effects))
        raw = 0 if at is None else _load(vm, at, 8, effects.CTE, icid, 0, vm.since[1])
    except Fault:
        vm.effects.append((effects.TABLE_FAULT, effects.CTE, icid, 0))
        raise
    return entries.unpack_cte(raw)


def write_cte(vm: QemuVm, icid: int, valid: int, rdbase: int) -> None:
    """Store a collection table entry as update_cte does."""
    vm.effects.append((effects.TABLE_WRITE, effects.CTE, icid, 0, valid, rdbase))
    _store_entry(vm, vm.its.ct, icid, entries.pack_cte(1, rdbase) if valid else 0)


def read_vte(vm: QemuVm, vpe_id: int) -> tuple[int, int, int, int]:
    """Return (valid, vpt_size, vpt_addr, rdbase) as get_vte does."""
    try:
        at = entry_address(vm, vm.its.vpet, vpe_id, len(vm.effects))
        raw = 0 if at is None else _load(vm, at, 8, effects.VTE, vpe_id, 0, vm.since[2])
    except Fault:
        vm.effects.append((effects.TABLE_FAULT, effects.VTE, vpe_id, 0))
        if vm.profile.vpe_level1_fault_stalls:
            raise
        return 0, 0, 0, 0
    vte = entries.unpack_vte(raw)
    vm.effects.append((effects.TABLE_READ, effects.VTE, vpe_id, 0, *vte))
    return vte


def write_vte(
    vm: QemuVm, vpe_id: int, valid: int, vpt_size: int, vpt_addr: int, rdbase: int
) -> None:
    """Store a vPE table entry as update_vte does."""
    vm.effects.append(
        (effects.TABLE_WRITE, effects.VTE, vpe_id, 0, valid, vpt_size, vpt_addr, rdbase)
    )
    raw = entries.pack_vte(1, vpt_size, vpt_addr, rdbase) if valid else 0
    _store_entry(vm, vm.its.vpet, vpe_id, raw)


def read_ite(vm: QemuVm, itt_addr: int, event_id: int) -> entries.Ite:
    """Return (valid, inttype, intid, icid, vpe_id, doorbell) as get_ite does."""
    reads = vm.reads
    if reads.changes != vm.ram.changes:
        reads.forget(vm.ram.changes)
    itt = reads.ites.get(itt_addr)
    read = None if itt is None else itt.get(event_id)
    if read is None:
        reads.one_more()
        ite = _read_ite(vm, itt_addr, event_id)
        read = _ite_effect(effects.TABLE_READ, event_id, itt_addr, ite), ite
        reads.ites.setdefault(itt_addr, {})[event_id] = read
    vm.effects.append(read[0])
    found: entries.Ite = read[1]
    return found


def _read_ite(vm: QemuVm, itt_addr: int, event_id: int) -> entries.Ite:
    at = itt_addr + event_id * entries.ITE_SIZE_BYTES
    since = max(vm.since[0], vm.since_itt.get(itt_addr, 0))
    try:
        raw = _load(vm, at, 12, effects.ITE, event_id, itt_addr, since)
    except Fault:
        vm.effects.append((effects.TABLE_FAULT, effects.ITE, event_id, itt_addr))
        raise
    return entries.unpack_ite(raw)


def _ite_effect(kind: int, event_id: int, itt_addr: int, ite: entries.Ite) -> effects.Effect:
    valid, inttype, intid, icid, vpe_id, doorbell = ite
    return (
        kind, effects.ITE, event_id, itt_addr, valid, inttype, intid, icid, vpe_id, doorbell,
    )  # fmt: skip


def write_ite(vm: QemuVm, itt_addr: int, event_id: int, ite: entries.Ite) -> None:
    """Store an interrupt translation entry as update_ite does."""
    vm.effects.append(_ite_effect(effects.TABLE_WRITE, event_id, itt_addr, ite))
    at = itt_addr + event_id * entries.ITE_SIZE_BYTES
    if not vm.ram.backed(at, entries.ITE_SIZE_BYTES):
        raise Fault
    raw = entries.pack_ite(*ite) if ite[0] else 0
    if vm.profile.ite_high_word_stored_apart:
        vm.ram.store64(at, raw & (1 << 64) - 1)
        vm.ram.store32(at + 8, raw >> 64)
    else:
        # The doorbell began at bit 26; what the high word did not cover of it stays.
        vm.ram.store64(at, raw & (1 << 64) - 1 | (_OLD_DOORBELL if ite[0] else 0))
    if not vm.ram.complete:
        vm.confirmed[at] = vm.clock


def _store_entry(vm: QemuVm, desc: TableDesc, index: int, raw: int) -> None:
    """Store 8 bytes; without a valid level-1 entry the write is dropped."""
    at = entry_address(vm, desc, index, len(vm.effects) - 1)
    if at is None:
        return
    if not _reachable(vm, at, 8):
        raise Fault
    vm.ram.store64(at, raw)
    if not vm.ram.complete:
        vm.confirmed[at] = vm.clock


def _reachable(vm: QemuVm, at: int, size: int) -> bool:
    return at >> 64 != 0 or vm.ram.backed(at, size)


def _load(vm: QemuVm, at: int, size: int, table: int, index: int, base: int, since: int) -> int:
    """Return the entry of `size` bytes at `at`, bound from the witness where RAM does not tell."""
    if vm.confirmed.get(at, -1) >= since:  # the common case in observed RAM
        words, key = vm.ram.words, at >> 2
        try:
            raw = words[key] | words[key + 1] << 32
            return raw if size == 8 else raw | words[key + 2] << 64
        except KeyError:
            pass  # a write of guest RAM showed the beginning only
    if not _reachable(vm, at, size):
        raise Fault
    known = _known(vm, at, size)
    if vm.ram.complete:
        return known or 0
    return _bind(vm, at, size, known, table, index, base)


def _known(vm: QemuVm, at: int, size: int) -> int | None:
    low = vm.ram.load64(at)
    if size == 8 or low is None:
        return low
    high = vm.ram.load32(at + 8)
    return None if high is None else low | high << 64


def _bind(
    vm: QemuVm, at: int, size: int, kept: int | None, table: int, index: int, base: int
) -> int:
    """Decide on an entry that is not confirmed: as observed, else kept, else zero."""
    step = len(vm.effects)
    witness = vm.witness
    if witness is not None and witness.fault(step, table, index):
        vm.bound[step] = "learned"
        raise Fault
    seen = witness.entry(step, table, index, base) if witness is not None else None
    if seen is not None:
        raw = _PACK[table](*seen)
        if raw != kept:
            vm.bound.setdefault(step, "learned")
    elif kept is not None:
        raw = kept
        vm.bound.setdefault(step, f"assumed: {ENTRY_KEPT}")
    else:
        raw = 0
        vm.bound.setdefault(step, f"assumed: {TABLE_ZEROED}")
    vm.ram.store64(at, raw & (1 << 64) - 1)
    if size == 12:
        vm.ram.store32(at + 8, raw >> 64)
    vm.confirmed[at] = vm.clock
    return raw


_PACK: Final[dict[int, Callable[..., int]]] = {
    effects.DTE: entries.pack_dte,
    effects.CTE: entries.pack_cte,
    effects.ITE: entries.pack_ite,
    effects.VTE: entries.pack_vte,
}
