"""A VM of KVM's as `itstrace.state/1` has it: the whole of it, and the entry of one key.

The whole is made of the entries, so that who follows a state entry by entry has what the whole has.
Counterparts: `replay.model.kvm.view`, which has the values, and `replay.report.follow`, which follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replay.model.kvm import view
from replay.model.kvm.state import UNKNOWN_TARGET
from replay.targets.common import canonical, digest

if TYPE_CHECKING:
    from replay.targets.kvm_model import KvmModel

Path = tuple[str, ...]
ITS: Final = ("its", "0")
_NO_TARGET: Final = (0xFFFF_FFFF, UNKNOWN_TARGET)


def shown(model: KvmModel) -> dict[str, Any]:
    """Return the state without its digest."""
    parts = model.structures()
    sure = not model.vm.state.blind
    events: dict[int, dict[str, Any]] = {device_id: {} for device_id in parts["devices"]}
    for (device_id, event_id), event in sorted(parts["events"].items()):
        events[device_id][hex(event_id)] = event | {"confirmed": sure}
    its = registers(model) | {
        "devices": {
            hex(device_id): _device(device, events[device_id], sure=sure)
            for device_id, device in sorted(parts["devices"].items())
        },
        "collections": {
            str(icid): _collection(target, sure=sure)
            for icid, target in sorted(parts["collections"].items())
        },
        "vpes": {},
        "translation_cache": [
            [hex(device), hex(event), intid]
            for (device, event), intid in sorted(parts["translation_cache"].items())
        ],
    }
    return {
        "its": {"0": its},
        "redistributors": redistributors(model),
        "lpis": {
            str(intid): _lpi(model, intid, lpi) for intid, lpi in sorted(parts["lpis"].items())
        },
    }


def digest_of(model: KvmModel) -> str:
    """Return the BLAKE2b over sorted msgpack of everything that decides future answers."""
    state = model.vm.state
    unseen = {
        "blind": state.blind,
        "retired": sorted(state.retired),
        "strays": int(state.strays),
        "unknown": state.unknown.snapshot(),
    }
    whole = dict(model.vm.snapshot()) | {name: value for name, value in unseen.items() if value}
    return digest(canonical(whole))


def registers(model: KvmModel) -> dict[str, Any]:
    """Return the registers of the ITS."""
    return {"registers": {name: _hex(value) for name, value in model.registers().items()}}


def redistributors(model: KvmModel) -> dict[str, Any]:
    """Return those of every redistributor."""
    return {
        str(cpu): {name: _hex(value) for name, value in model.redistributor(cpu).items()}
        for cpu in range(len(model.vm.state.vcpu_ids))
    }


def place(component: str, key: Any) -> Path:
    """Return where a key's entry stands; a translation cache is one of names here."""
    if component == "events":
        return (*ITS, "devices", hex(key[0]), "events", hex(key[1]))
    if component == "translation_cache":
        return (*ITS, component, f"{hex(key[0])}/{hex(key[1])}")
    if component == "lpis":
        return component, str(key)
    return (*ITS, component, hex(key) if component == "devices" else str(key))


def entry(model: KvmModel, component: str, key: Any) -> Any:
    """Return what stands there, a device with its events; None for nothing."""
    value = model.value(component, key)
    sure = not model.vm.state.blind
    if value is None or component == "translation_cache":
        return value
    if component == "lpis":
        return _lpi(model, key, value)
    if component == "events":
        return value | {"confirmed": sure}
    if component == "collections":
        return _collection(value, sure=sure)
    events = view.events_of(model.vm.state, key)
    told = {hex(each): event | {"confirmed": sure} for each, event in sorted(events.items())}
    return _device(value, told, sure=sure)


def lpi(model: KvmModel, intid: int) -> dict[str, Any] | None:
    """Return one LPI, or None where none lives for certain."""
    found = view.lpi(model.vm, intid)
    return None if found is None else _lpi(model, intid, found)


def target_of(target: int) -> int | None:
    """Return a collection's target as `state` tells it."""
    return None if target in _NO_TARGET else target


def behind_registers(model: KvmModel) -> tuple[Any, ...]:
    """Return all that what registers read as follows from: equal, where they read as before."""
    state = model.vm.state
    return (
        state.enabled, state.cbaser, state.creadr, state.cwriter, state.device_baser,
        state.coll_baser, state.propbaser, state.implementation_revision,
        tuple(state.lpis_enabled), tuple(state.pendbasers), state.unknown.snapshot(),
    )  # fmt: skip


def _device(device: dict[str, Any], events: dict[str, Any], *, sure: bool) -> dict[str, Any]:
    return {
        "itt_addr": _hex(device["itt_addr"]),
        "eventid_bits": device["eventid_bits"],
        "confirmed": sure,
        "events": events,
    }


def _collection(target: int, *, sure: bool) -> dict[str, Any]:
    return {"rdbase": target_of(target), "confirmed": sure}


def _lpi(model: KvmModel, intid: int, found: dict[str, int]) -> dict[str, Any]:
    return {
        "pending": view.pending(model.vm.state, intid, found["pending"]),
        "target": None if found["target"] < 0 else found["target"],
        "queued": None if found["queued"] < 0 else found["queued"],
    }


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)
