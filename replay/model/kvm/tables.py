"""Devices, events and collections: where an entry would stand in guest RAM, and the kernel lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model.kvm.cache import invalidate
from replay.model.kvm.layout import (
    DEVICE_ID_BITS,
    ENTRIES_PER_PAGE,
    ENTRY_BYTES,
    INDIRECT,
    NOT_MAPPED,
    baser_address,
    baser_bytes,
)
from replay.model.kvm.lpi import put_lpi
from replay.model.kvm.state import (
    BLIND_COLLECTIONS,
    BLIND_DEVICES,
    UNKNOWN_TARGET,
    UNSEEN_SHIFT,
    Collection,
    Device,
    Ite,
)

if TYPE_CHECKING:
    from replay.model.kvm.state import State, VgicIrq


def device_gpa(state: State, device_id: int) -> int | None:
    """Return where a device's entry stands, or None when it cannot."""
    if state.unknown.of("GITS_BASER0"):
        return None if device_id >> DEVICE_ID_BITS else 1 << UNSEEN_SHIFT
    return _entry_gpa(state, state.device_baser, device_id)


def collection_gpa(state: State, icid: int) -> int | None:
    """Return where a collection's entry would stand in a table that is indexed, or None."""
    if state.unknown.of("GITS_BASER1"):
        return 1 << UNSEEN_SHIFT
    return _entry_gpa(state, state.coll_baser, icid)


def _entry_gpa(state: State, baser: int, identifier: int) -> int | None:
    """Return where a table entry stands, or None when it cannot (`vgic_its_check_id`).

    The level-1 entry of a two-level table is read from guest RAM each time: the guest can change
    what this answers at any moment.
    """
    if identifier >> DEVICE_ID_BITS:
        return None
    base = baser_address(baser)
    if not state.flags.addresses_have_52_bits:
        base &= 0xFFFF_FFFF_FFFF
    if not baser & INDIRECT:
        gpa = base + identifier * ENTRY_BYTES
        if identifier * ENTRY_BYTES >= baser_bytes(baser):
            return None
    else:
        page, index = divmod(identifier, ENTRIES_PER_PAGE)
        if page * ENTRY_BYTES >= baser_bytes(baser):
            return None
        level2 = state.level1(base + page * ENTRY_BYTES)
        if level2 is None:
            return None
        gpa = level2 + index * ENTRY_BYTES
    return gpa if state.backed(gpa, 1) else None


def event_fits(state: State, device: Device, event_id: int, *, check_ram: bool) -> bool:
    """Say whether an EventID is one of the device's (`vgic_its_check_event_id`)."""
    if event_id >> device.event_bits:
        return False
    return not check_ram or state.backed(device.itt + event_id * ENTRY_BYTES, 1)


def vcpu_of(state: State, target: int) -> int:
    """Return the index of the vCPU that a target number names, -1 for none.

    The number is an index, and since Linux d455d366c451 ("vgic-its: Treat the collection target
    address as a vcpu_id") (in v6.7) a vcpu_id.
    """
    if target == UNKNOWN_TARGET:
        return UNKNOWN_TARGET
    if state.flags.target_is_vcpu_id:
        return state.index_of_id.get(target, -1)
    return target if target < len(state.vcpu_ids) else -1


def find_ite(state: State, device_id: int, event_id: int) -> Ite | None:
    """Find an event (`find_ite`)."""
    device = state.by_id.get(device_id)
    return None if device is None else device.events.get(event_id)


def add_device(state: State, device_id: int, itt: int, event_bits: int) -> Device:
    """Append a device to the list; nothing checks whether it is there already."""
    device = Device(device_id, itt, event_bits)
    state.devices.append(device)
    state.by_id.setdefault(device_id, device)
    if state.touched is not None:
        state.touched.devices.add(device_id)
    return device


def devices_of(state: State, device_id: int) -> list[Device]:
    """Return every device of that DeviceID: a kernel that restores twice may have two."""
    if len(state.by_id) == len(state.devices):
        one = state.by_id.get(device_id)
        return [] if one is None else [one]
    return [device for device in state.devices if device.device_id == device_id]


def put_event(
    state: State, device: Device, event_id: int, collection: Collection, irq: VgicIrq
) -> None:
    """Have a device map an event to an LPI, of which the caller has the reference."""
    device.events[event_id] = Ite(collection, irq)
    if state.touched is not None:
        state.touched.events.add((device.device_id, event_id))


def move_event(
    state: State, device_id: int, event_id: int, ite: Ite, collection: Collection | None
) -> None:
    """Give an event another collection, or none."""
    ite.collection = collection
    if state.touched is not None:
        state.touched.events.add((device_id, event_id))


def free_event(state: State, device: Device, event_id: int) -> None:
    """Drop an event and its reference on the LPI (`its_free_ite`)."""
    put_lpi(state, device.events.pop(event_id).irq)
    if state.touched is not None:
        state.touched.events.add((device.device_id, event_id))


def free_device(state: State, device: Device) -> None:
    """Drop a device with its events and the whole cache (`vgic_its_free_device`)."""
    for event_id in list(device.events):
        free_event(state, device, event_id)
    invalidate(state)
    state.devices.remove(device)
    reindex_devices(state)
    if state.touched is not None:
        state.touched.devices.add(device.device_id)


def reindex_devices(state: State) -> None:
    """Make `by_id` name the first device of each DeviceID again."""
    state.by_id = {device.device_id: device for device in reversed(state.devices)}


def free_devices(state: State) -> None:
    """Drop all devices (`vgic_its_free_device_list`)."""
    for device in list(state.devices):
        free_device(state, device)
    if state.blind & BLIND_DEVICES:
        invalidate(state)  # with a device that nothing showed
        for irq in [each for each in state.lpis.values() if each.unseen]:
            irq.unseen = False
            put_lpi(state, irq)
        state.blind &= ~BLIND_DEVICES


def free_collection(state: State, icid: int) -> None:
    """Drop a collection; its events stay, without one (`vgic_its_free_collection`)."""
    collection = state.collections.pop(icid, None)
    if collection is None:
        return
    if state.touched is not None:
        state.touched.collections.add(icid)
    for device in state.devices:
        for event_id, ite in device.events.items():
            if ite.collection is collection:
                move_event(state, device.device_id, event_id, ite, None)


def free_collections(state: State) -> None:
    """Drop all collections (`vgic_its_free_collection_list`). The cache stays."""
    for icid in list(state.collections):
        free_collection(state, icid)
    state.blind &= ~BLIND_COLLECTIONS


def add_collection(state: State, icid: int, target: int = NOT_MAPPED) -> Collection:
    """Append a collection, mapped nowhere without a target (`vgic_its_alloc_collection`)."""
    collection = state.collections[icid] = Collection(icid)
    point_collection(state, collection, target)
    return collection


def point_collection(state: State, collection: Collection, target: int) -> None:
    """Give a collection its target, as the guest or the table has it."""
    collection.target = target
    if state.touched is not None:
        state.touched.collections.add(collection.icid)


def is_mapped(collection: Collection | None) -> bool:
    """Say whether a collection exists and has a target."""
    return collection is not None and collection.target != NOT_MAPPED
