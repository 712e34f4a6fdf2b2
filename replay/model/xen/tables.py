"""Table entries in guest RAM: where they are, and reading and writing them as Xen does.

All tables are flat. An access that meets no RAM fails (None or False here) and fails the command
that made it. Where observed RAM does not tell, a named assumption is made: see `replay.model.xen.vm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.xen import entries
from tracer.its.registers import Baser

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_PAGE_SIZES: Final = (0x1000, 0x4000, 0x10000, 0x10000)
_BIG_PAGES: Final = 1 << 9  # Page_Size is 2 or 3

# Names of what is assumed of a guest, with the reason.
TABLE_ZEROED: Final = "the guest zeroed its tables before it handed them over"
ENTRY_KEPT: Final = "the guest left the entry as it was before the reset"


def table_base(baser: int) -> int:
    """Return a table's address (get_baser_phys_addr); with 64 KiB pages it has 52 bits."""
    if baser & _BIG_PAGES:
        low, high = Baser.physical_address_low_64k, Baser.physical_address_high_64k
        return low.get(baser) | high.get(baser)
    return Baser.physical_address.get(baser)


def table_entries(baser: int) -> int:
    """Return how many entries a table has (its_baser_nr_entries); one that is not valid has none."""
    if not baser & Baser.valid.mask:
        return 0
    page_size = _PAGE_SIZES[Baser.page_size.get(baser)]
    return (Baser.size.get(baser) + 1) * page_size // (Baser.entry_size.get(baser) + 1)


def device_limit(vm: XenVm) -> int:
    """Return how many DeviceIDs there are."""
    return min(table_entries(vm.state.baser[0]), 1 << vm.profile.host_device_id_bits)


# -- guest RAM


def load(vm: XenVm, at: int, size: int) -> int | None:
    """Return an entry of `size` bytes, or None where there is no RAM."""
    ram = vm.ram
    if not ram.backed(at, size):
        return None
    data = ram.load_bytes(at, size)
    if data is None:
        vm.assume(TABLE_ZEROED)
        data = bytes(ram.load8(gpa) or 0 for gpa in range(at, at + size))
        store(vm, at, size, int.from_bytes(data, "little"))
    elif not ram.complete and at not in vm.confirmed:
        vm.assume(ENTRY_KEPT)
        vm.confirmed.add(at)
    return int.from_bytes(data, "little")


def store(vm: XenVm, at: int, size: int, raw: int) -> bool:
    """Store an entry; False where there is no RAM."""
    if not vm.ram.backed(at, size):
        return False
    vm.ram.store_bytes(at, raw.to_bytes(size, "little"))
    if not vm.ram.complete:
        vm.confirmed.add(at)
    return True


# -- entries


def read_dte(vm: XenVm, device_id: int) -> tuple[int, int] | None:
    """Return (size, itt_addr) of a device, or None (its_get_itt)."""
    if device_id >= device_limit(vm):
        return None
    at = table_base(vm.state.baser[0]) + device_id * entries.DTE_SIZE_BYTES
    raw = load(vm, at, entries.DTE_SIZE_BYTES)
    return None if raw is None else entries.unpack_dte(raw)


def write_dte(vm: XenVm, device_id: int, raw: int) -> bool:
    """Store a device's entry (its_set_itt_address)."""
    if device_id >= device_limit(vm):
        return False
    at = table_base(vm.state.baser[0]) + device_id * entries.DTE_SIZE_BYTES
    return store(vm, at, entries.DTE_SIZE_BYTES, raw)


def read_target(vm: XenVm, icid: int) -> int | None:
    """Return the vCPU of a collection, or None (get_vcpu_from_collection)."""
    if icid >= table_entries(vm.state.baser[1]):
        return None
    at = table_base(vm.state.baser[1]) + icid * entries.CTE_SIZE_BYTES
    vcpu = load(vm, at, entries.CTE_SIZE_BYTES)
    if vcpu is None or vcpu == entries.UNMAPPED or vcpu >= vm.cpus:
        return None
    return vcpu


def write_target(vm: XenVm, icid: int, vcpu: int) -> bool:
    """Store a collection's entry (its_set_collection)."""
    if icid >= table_entries(vm.state.baser[1]):
        return False
    at = table_base(vm.state.baser[1]) + icid * entries.CTE_SIZE_BYTES
    return store(vm, at, entries.CTE_SIZE_BYTES, vcpu)


def _itte_address(vm: XenVm, device_id: int, event_id: int) -> int | None:
    """Return where an event's entry is (its_get_itte_address).

    An unmapped device is not recognised: its entry's address is just one where no RAM is.
    """
    dte = read_dte(vm, device_id)
    if dte is None or event_id >= 2 << dte[0]:
        return None
    return dte[1] + event_id * entries.ITTE_SIZE_BYTES


def read_itte(vm: XenVm, device_id: int, event_id: int) -> tuple[int, int] | None:
    """Return (vCPU, vLPI) of an event whose collection is mapped, or None; the vLPI may be 0."""
    at = _itte_address(vm, device_id, event_id)
    raw = None if at is None else load(vm, at, entries.ITTE_SIZE_BYTES)
    if raw is None:
        return None
    vlpi, icid = entries.unpack_itte(raw)
    vcpu = read_target(vm, icid)
    return None if vcpu is None else (vcpu, vlpi)


def write_itte(vm: XenVm, device_id: int, event_id: int, icid: int, vlpi: int) -> bool:
    """Store an event's entry."""
    at = _itte_address(vm, device_id, event_id)
    return at is not None and store(vm, at, entries.ITTE_SIZE_BYTES, entries.pack_itte(vlpi, icid))


def mapped_events(vm: XenVm, device_id: int) -> list[int]:
    """Return the EventIDs of a device whose entries name an LPI, in order.

    Xen reads every entry of the table; one that is zero maps nothing, so that they are left out.
    """
    dte = read_dte(vm, device_id)
    if dte is None or not vm.state.tree:
        return []
    found = vm.ram.nonzero64(dte[1], 2 << dte[0])
    return sorted(event_id for event_id, raw in found if raw & 0xFFFF_FFFF)
