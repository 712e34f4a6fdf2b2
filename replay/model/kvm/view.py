"""What a VM's kernel keeps in lists, as told by key: mappings, cached translations, live LPIs.

`structures` tells all of it and `value` one key; a test holds them together. Where guest RAM is not wholly
known a vCPU takes LPIs unseen, so that only those that live for certain are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replay.model.kvm.state import UNSEEN_ITT
from replay.model.kvm.tables import devices_of

if TYPE_CHECKING:
    from replay.model.kvm.state import Device, Ite, State
    from replay.model.kvm.vm import KvmVm, LpiRow


def structures(vm: KvmVm) -> dict[str, dict[Any, Any]]:
    """Return list -> key -> value."""
    state = vm.state
    return {
        "devices": {device.device_id: _device(device) for device in state.devices},
        "events": {
            (device.device_id, event_id): _event(ite)
            for device in state.devices
            for event_id, ite in device.events.items()
        },
        "collections": {each.icid: each.target for each in state.collections.values()},
        "translation_cache": {state.pair(key): irq.intid for key, irq in state.cache.items()},
        "lpis": {row[0]: _lpi(row) for row in vm.live_lpis() if _lives(state, row[0])},
    }


def value(vm: KvmVm, component: str, key: Any) -> Any:
    """Return what a list has for a key; None for nothing."""
    state = vm.state
    if component == "lpis":
        return lpi(vm, key)
    if component == "events":
        return _event_of(state, *key)
    if component == "devices":
        found = devices_of(state, key)
        return _device(found[-1]) if found else None
    if component == "collections":
        collection = state.collections.get(key)
        return None if collection is None else collection.target
    if component == "translation_cache":
        irq = state.cache.get(key[0] << state.cache_shift | key[1])
        return None if irq is None else irq.intid
    return None


def lpi(vm: KvmVm, intid: int) -> dict[str, int] | None:
    """Return one LPI, None where none lives for certain."""
    row = vm.live_lpi(intid)
    return _lpi(row) if row is not None and _lives(vm.state, intid) else None


def pending(state: State, intid: int, bit: int) -> str:
    """Return the word for a pending bit: a running vCPU takes LPIs, which no capture shows."""
    irq = state.lpis.get(intid)
    if not state.ram.complete and (irq is None or irq.shown != state.steps):
        return "maybe"
    return "set" if bit else "clear"


def shown_just_now(state: State) -> set[int]:
    """Return the INTIDs of LPIs that are told otherwise once a vCPU ran."""
    return {intid for intid, irq in state.lpis.items() if irq.shown == state.steps}


def _device(device: Device) -> dict[str, int | None]:
    if device.itt == UNSEEN_ITT:
        return {"itt_addr": None, "eventid_bits": None}
    return {"itt_addr": device.itt, "eventid_bits": device.event_bits}


def events_of(state: State, device_id: int) -> dict[int, dict[str, int | None]]:
    """Return EventID -> event of a device."""
    return {
        event_id: _event(ite)
        for device in devices_of(state, device_id)
        for event_id, ite in device.events.items()
    }


def _event_of(state: State, device_id: int, event_id: int) -> dict[str, int | None] | None:
    for device in reversed(devices_of(state, device_id)):
        ite = device.events.get(event_id)
        if ite is not None:
            return _event(ite)
    return None


def _event(ite: Ite) -> dict[str, int | None]:
    return {"intid": ite.irq.intid, "icid": ite.collection.icid if ite.collection else None}


def _lpi(row: LpiRow) -> dict[str, int]:
    return {"pending": int(row[2][0]), "target": row[1], "queued": row[4]}


def _lives(state: State, intid: int) -> bool:
    """Return whether an LPI lives for certain: a running vCPU takes one that only it holds."""
    if state.ram.complete:
        return True
    irq = state.lpis[intid]
    return irq.queued < 0 or irq.refs > 1 or irq.shown == state.steps
