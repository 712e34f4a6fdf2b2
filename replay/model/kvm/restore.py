"""KVM_DEV_ARM_ITS_RESTORE_TABLES: the lists, rebuilt from guest RAM in ABI revision 0.

Nothing is dropped first: restoring onto a used ITS adds to what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from replay.model.kvm.layout import (
    EEXIST,
    EFAULT,
    EINVAL,
    ENTRIES_PER_PAGE,
    ENTRY_BYTES,
    EVENT_ID_BITS,
    INDIRECT,
    L1_ADDRESS,
    MIN_LPI,
    NOT_MAPPED,
    PAGE_64K,
    U32,
    U64,
    VALID,
    baser_address,
    baser_bytes,
    signed32,
)
from replay.model.kvm.lpi import add_lpi
from replay.model.kvm.tables import (
    add_collection,
    add_device,
    collection_gpa,
    device_gpa,
    event_fits,
    free_collections,
    free_device,
    free_devices,
    put_event,
    vcpu_of,
)

if TYPE_CHECKING:
    from replay.model.kvm.state import Device, State

EntryReader = Callable[[int, int], int]
"""Takes an ID and its entry; returns the distance to the next ID, 0 for the last, or -errno."""


def restore_tables(state: State) -> int:
    """Read collections, then devices with their events (`vgic_its_restore_tables_v0`).

    Linux 8c5e74c90bb5 ("vgic: Undo work in failed ITS restores") (in v5.19): a failure frees
    everything of that kind, what was live before included. Before, all of it stayed.

    Returns:
        0 or -errno.
    """
    error = _restore_collections(state)
    if error:
        return error
    error = _restore_devices(state)
    if error and state.flags.failed_restore_frees_state:
        free_collections(state)
    return error


def _table_address(state: State, baser: int) -> int:
    gpa = baser_address(baser)
    return gpa if state.flags.addresses_have_52_bits else gpa & 0xFFFF_FFFF_FFFF


def _restore_collections(state: State) -> int:
    """`vgic_its_restore_collection_table`: until an entry without Valid, or the table's end."""
    if not state.coll_baser & VALID:
        return 0
    gpa = _table_address(state, state.coll_baser)
    for _ in range(baser_bytes(state.coll_baser) // ENTRY_BYTES):
        entry = state.read64("cte", gpa)
        error = EFAULT if entry is None else 0
        if entry is not None:
            if not entry & VALID:
                break
            error = _restore_collection(state, entry)
        if error:
            if state.flags.failed_restore_frees_state:
                free_collections(state)
            return error
        gpa += ENTRY_BYTES
    else:
        # Before v4.15 the "one more was read" of the last entry became the result.
        return 0 if state.flags.restore_accepts_empty_and_full_tables else 1
    return 0


def _restore_collection(state: State, entry: int) -> int:
    """`vgic_its_restore_cte`."""
    icid = entry & 0xFFFF
    target = entry >> 16 & U32
    accepts_unmapped = state.flags.restore_accepts_unmapped_collections
    if not (target == NOT_MAPPED and accepts_unmapped) and vcpu_of(state, target) < 0:
        return EINVAL
    if icid in state.collections:
        return EEXIST
    if collection_gpa(state, icid) is None:
        # Linux a1ccfd6f6e06 ("vgic: Do not ignore vgic_its_restore_cte failures") (in v5.19):
        # before, the error was a positive number, which the caller took for success.
        return EINVAL if state.flags.restore_rejects_unreachable_collections else 0
    add_collection(state, icid, target)
    return 0


def _scan(state: State, what: str, gpa: int, size: int, first: int, read: EntryReader) -> int:
    """Walk a table as its entries say (`scan_its_table`).

    A zero entry always means "try the next ID", so a run of them is taken in one step.

    Returns:
        -errno, 0 when an entry said that it is the last, 1 at the end of the table.
    """
    identifier = first
    # The size is a C int there, which then becomes an unsigned long.
    left = signed32(size) & U64
    stops = state.flags.restore_scan_stops_at_table_end
    while left or stops:
        entry = state.read64(what, gpa)
        if entry is None:
            return EFAULT
        step = read(identifier, entry) if entry else _zeroes(state, what, gpa, left)
        if step <= 0:
            return step
        if step * ENTRY_BYTES >= left and stops:
            return 1
        identifier += step
        gpa += step * ENTRY_BYTES
        # Linux c000a2607145 ("vgic: Fix exit condition in scan_its_table()") (in v6.1): before, an
        # entry that pointed past the end made this wrap, and the walk ran on through RAM.
        left = left - step * ENTRY_BYTES & U64
    return 1


def _zeroes(state: State, what: str, gpa: int, left: int) -> int:
    """Return how many entries from `gpa` on are zero, up to what can be read, at least 1.

    What nothing showed is taken as zero too, and named in one effect for the whole run.
    """
    end = min(gpa + left, state.ram.backed_until(gpa))
    found = state.ram.next_word(gpa, end)
    if found is not None:
        end = found
    if not state.ram.complete and end - gpa > ENTRY_BYTES:
        state.assume(what)
    # At the end of a memory slot the walk goes on, to fail at the entry that is not there.
    return max(1, (end - gpa) // ENTRY_BYTES)


def _restore_devices(state: State) -> int:
    """`vgic_its_restore_device_tables`, flat or two-level."""
    baser = state.device_baser
    if not baser & VALID:
        return 0
    gpa = _table_address(state, baser)
    size = baser_bytes(baser)

    def read_device(device_id: int, entry: int) -> int:
        return _restore_device(state, device_id, entry)

    def read_page(page: int, entry: int) -> int:
        """Read a level-2 page (`handle_l1_dte`): the walk starts at its first entry."""
        if not entry & VALID:
            return 1
        first = page * ENTRIES_PER_PAGE
        return _scan(state, "dte", entry & L1_ADDRESS, PAGE_64K, first, read_device)

    if baser & INDIRECT:
        error = _scan(state, "l1", gpa, size, 0, read_page)
    else:
        error = _scan(state, "dte", gpa, size, 0, read_device)
    if error > 0 and not state.flags.restore_accepts_empty_and_full_tables:
        error = EINVAL
    if error >= 0:
        return 0
    if state.flags.failed_restore_frees_state:
        free_devices(state)
    return error


def _restore_device(state: State, device_id: int, entry: int) -> int:
    """`vgic_its_restore_dte`: no check whether the device is there already."""
    if not entry & VALID:
        return 1
    following = entry >> 49 & 0x3FFF
    event_bits = (entry & 0x1F) + 1
    itt = (entry >> 5 & (1 << 44) - 1) << 8
    # Linux 9ce754ed8e7a ("vgic-its: Reject restored DTE with out-of-range num_eventid_bits").
    if event_bits > EVENT_ID_BITS and state.flags.restore_rejects_wide_devices:
        return EINVAL
    if state.flags.restore_requires_reachable_entries and device_gpa(state, device_id) is None:
        return EINVAL
    device = add_device(state, device_id, itt, event_bits)
    error = _restore_events(state, device)
    if not error:
        return following
    # Linux a2b19e6e2d4b ("vgic-its: Cleanup after failed ITT restore") (in v4.12).
    if state.flags.failed_itt_restore_frees_device:
        free_device(state, device)
    return error


def _restore_events(state: State, device: Device) -> int:
    """`vgic_its_restore_itt`."""

    def read_event(event_id: int, entry: int) -> int:
        return _restore_event(state, device, event_id, entry)

    size = (1 << device.event_bits) * ENTRY_BYTES
    result = _scan(state, "ite", device.itt, size, 0, read_event)
    # Before v4.15 a device without events was dropped, and the walk went on behind it.
    return min(result, 0) if state.flags.restore_accepts_empty_and_full_tables else result


def _restore_event(state: State, device: Device, event_id: int, entry: int) -> int:
    """`vgic_its_restore_ite`: the LPI's configuration and pending bit are read anew."""
    intid = entry >> 16 & U32
    following = entry >> 48
    if not intid:
        return 1
    if intid < MIN_LPI or (event_id + following & U32) >> device.event_bits:
        return EINVAL
    collection = state.collections.get(entry & 0xFFFF)
    if collection is None:
        return EINVAL
    check_ram = state.flags.restore_requires_reachable_entries
    if check_ram and not event_fits(state, device, event_id, check_ram=True):
        return EINVAL
    vcpu = -1 if collection.target == NOT_MAPPED else vcpu_of(state, collection.target)
    irq = add_lpi(state, intid, vcpu)
    if isinstance(irq, int):
        return irq
    put_event(state, device, event_id, collection, irq)
    return following
