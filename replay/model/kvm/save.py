"""KVM_DEV_ARM_ITS_SAVE_TABLES: the lists, written to guest RAM in ABI revision 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model import effects
from replay.model.kvm.layout import (
    EFAULT,
    EINVAL,
    ENTRY_BYTES,
    MAX_NEXT_DEVICE,
    MAX_NEXT_EVENT,
    VALID,
    baser_address,
    baser_bytes,
)
from replay.model.kvm.state import HostCrash
from replay.model.kvm.tables import device_gpa, reindex_devices

if TYPE_CHECKING:
    from replay.model.kvm.state import Device, Ite, State


def save_tables(state: State) -> int:
    """Write devices with their events, then collections (`vgic_its_save_tables_v0`).

    A table whose GITS_BASER is invalid is skipped. What was written before an error stays.

    Returns:
        0 or -errno.

    Raises:
        HostCrash: an event has no collection, and the kernel looks for its ICID all the same.
    """
    return _save_devices(state) or _save_collections(state)


def _save_devices(state: State) -> int:
    """`vgic_its_save_device_tables`: it leaves the list sorted."""
    if state.flags.save_skips_invalid_tables and not state.device_baser & VALID:
        return 0
    # The kernel's comparison never answers "equal", so devices with one DeviceID swap.
    newest_first = state.devices[::-1]
    newest_first.sort(key=lambda device: device.device_id)
    if state.touched is not None and len(state.by_id) < len(state.devices):
        state.touched.whole = True  # of several devices with one DeviceID the last one counts
    state.devices = newest_first
    reindex_devices(state)
    for position, device in enumerate(state.devices):
        gpa = device_gpa(state, device.device_id)
        if gpa is None:
            # Linux cc5d96036e01 ("vgic-its: Skip unreachable devices ...") (in v7.3).
            if state.flags.save_skips_unreachable_devices:
                continue
            return EINVAL
        error = _save_events(state, device)
        if error:
            return error
        value = (
            VALID
            | _next_device(state, position) << 49
            | device.itt >> 8 << 5
            | (device.event_bits - 1)
        )
        if not state.write_entry(effects.DTE, device.device_id, value, gpa):
            return EFAULT
    return 0


def _next_device(state: State, position: int) -> int:
    """Return the distance to the next device that is saved, 0 for none, capped at 14 bits."""
    device_id = state.devices[position].device_id
    for device in state.devices[position + 1 :]:
        if state.flags.save_skips_unreachable_devices:
            gpa = device_gpa(state, device.device_id)
            if gpa is None:
                continue
        return min(device.device_id - device_id, MAX_NEXT_DEVICE)
    return 0


def _save_events(state: State, device: Device) -> int:
    """`vgic_its_save_itt`: entries of events that are not mapped stay as they were in RAM."""
    rows = sorted(device.events.items())
    device.events = dict(rows)
    for position, (event_id, ite) in enumerate(rows):
        value = 0
        collection = ite.collection
        if collection is not None:
            following = _next_event(state, rows, position)
            value = following << 48 | ite.irq.intid << 16 | collection.icid
        elif not state.flags.save_zeroes_ite_without_collection:
            # Linux c6c156d931c3 ("vgic-its: Don't dereference a NULL collection on ITT save").
            raise HostCrash("vgic_its_save_tables_v0")
        if not state.write_entry(effects.ITE, event_id, value, device.itt + event_id * ENTRY_BYTES):
            return EFAULT
    return 0


def _next_event(state: State, rows: list[tuple[int, Ite]], position: int) -> int:
    """Return the distance to the next event, 0 for none.

    Linux ad1e686e2378 ("vgic-its: Point saved ITEs at next valid entry") (in v7.3): the next one
    that has a collection.
    """
    event_id = rows[position][0]
    for next_id, ite in rows[position + 1 :]:
        if ite.collection is None and state.flags.save_chains_past_zeroed_ites:
            continue
        return min(next_id - event_id, MAX_NEXT_EVENT)
    return 0


def _save_collections(state: State) -> int:
    """`vgic_its_save_collection_table`: a packed list, ended by a zero unless it fills all."""
    if state.flags.save_skips_invalid_tables and not state.coll_baser & VALID:
        return 0
    gpa = baser_address(state.coll_baser)
    if not state.flags.addresses_have_52_bits:
        gpa &= 0xFFFF_FFFF_FFFF
    # Before v4.15 only a table at address 0 was skipped.
    if not state.flags.save_skips_invalid_tables and not gpa:
        return 0
    index = 0
    for collection in state.collections.values():
        value = VALID | collection.target << 16 | collection.icid
        if not state.write_entry(effects.CTE, index, value, gpa):
            return EFAULT
        gpa += ENTRY_BYTES
        index += 1
    if index * ENTRY_BYTES == baser_bytes(state.coll_baser):
        return 0
    return 0 if state.write_entry(effects.CTE, index, 0, gpa) else EFAULT
