"""One value of a model's state, by its path, as `itstrace.state/1` names it.

A predicate is asked after every event of a trace: only what its path leads to is looked at, never the
whole document. A value is a number, a truth, a word, None where it is not known, or ABSENT where the
model has no such entry. Counterparts: `predicate`, and the models' `state()`, which must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from replay.judge import AnyModel
from replay.model.kvm.state import UNSEEN_ITT
from replay.model.kvm.tables import devices_of
from replay.model.qemu import view
from replay.targets.kvm_model import KvmModel
from replay.targets.kvm_shown import target_of
from replay.targets.qemu_model import QemuModel


class Absent:
    """There is no such entry."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = Absent()
Entry = dict[str, Any] | Absent | None  # without what lies below it; None: it may be there


class Kvm:
    """KVM keeps everything in lists of its own. Where one may hold what nothing showed, so it says."""

    @staticmethod
    def register(model: KvmModel, name: str) -> int | None:
        """Return a register of the ITS."""
        return model.register(name)

    @staticmethod
    def redistributor(model: KvmModel, cpu: int) -> dict[str, int | None] | Absent:
        """Return the LPI registers of a CPU."""
        if cpu >= len(model.vm.state.vcpu_ids):
            return ABSENT
        return model.redistributor(cpu)

    @staticmethod
    def device(model: KvmModel, device_id: int) -> Entry:
        """Return a device."""
        found = devices_of(model.vm.state, device_id)
        if not found:
            return _missing(model)
        if found[-1].itt == UNSEEN_ITT:
            return {"itt_addr": None, "eventid_bits": None, "confirmed": _sure(model)}
        device = found[-1]
        return {
            "itt_addr": device.itt, "eventid_bits": device.event_bits, "confirmed": _sure(model)
        }  # fmt: skip

    @staticmethod
    def event(model: KvmModel, device_id: int, event_id: int) -> Entry:
        """Return an event of a device."""
        for device in reversed(devices_of(model.vm.state, device_id)):
            ite = device.events.get(event_id)
            if ite is not None:
                icid = ite.collection.icid if ite.collection else None
                return {"intid": ite.irq.intid, "icid": icid, "confirmed": _sure(model)}
        return _missing(model)

    @staticmethod
    def collection(model: KvmModel, icid: int) -> Entry:
        """Return a collection."""
        found = model.vm.state.collections.get(icid)
        if found is None:
            return _missing(model)
        return {"rdbase": target_of(found.target), "confirmed": _sure(model)}

    @staticmethod
    def vpe(model: KvmModel, vpe_id: int) -> Entry:
        """There are none."""
        return ABSENT

    @staticmethod
    def translation(model: KvmModel, device_id: int, event_id: int) -> Entry:
        """Return a cached translation."""
        state = model.vm.state
        if event_id >> state.cache_shift:
            return ABSENT
        irq = state.cache.get(device_id << state.cache_shift | event_id)
        return _missing(model) if irq is None else {"intid": irq.intid}

    @staticmethod
    def lpi(model: KvmModel, intid: int) -> Entry:
        """Return a live LPI."""
        found = model.lpi(intid)
        return _missing(model) if found is None else found

    @staticmethod
    def count(model: KvmModel, part: str) -> int:
        """Return how many entries a list has."""
        state = model.vm.state
        if part == "devices":
            return len(state.by_id)
        if part == "collections":
            return len(state.collections)
        if part == "translation_cache":
            return len(state.cache)
        return len(model.structures()["lpis"]) if part == "lpis" else 0

    @staticmethod
    def count_events(model: KvmModel, device_id: int) -> int:
        """Return how many events a device has."""
        found = devices_of(model.vm.state, device_id)
        return len({event_id for device in found for event_id in device.events})


def _sure(model: KvmModel) -> bool:
    return not model.vm.state.blind


def _missing(model: KvmModel) -> Entry:
    return None if model.vm.state.blind else ABSENT


class Qemu:
    """QEMU keeps mappings in guest RAM, where an entry that nothing showed is not known."""

    @staticmethod
    def register(model: QemuModel, name: str) -> int | None:
        """Return a register of the ITS."""
        return view.registers(model.vm).get(name)

    @staticmethod
    def redistributor(model: QemuModel, cpu: int) -> dict[str, int | None] | Absent:
        """Return the LPI registers of a CPU."""
        return view.redistributors(model.vm).get(cpu, ABSENT)

    @staticmethod
    def device(model: QemuModel, device_id: int) -> Entry:
        """Return a device."""
        return _told(view.device(model.vm, device_id))

    @staticmethod
    def event(model: QemuModel, device_id: int, event_id: int) -> Entry:
        """Return an event of a device."""
        return _told(view.event(model.vm, device_id, event_id))

    @staticmethod
    def collection(model: QemuModel, icid: int) -> Entry:
        """Return a collection."""
        return _told(view.collection(model.vm, icid))

    @staticmethod
    def vpe(model: QemuModel, vpe_id: int) -> Entry:
        """Return a vPE."""
        return view.vpes(model.vm).get(vpe_id, ABSENT)

    @staticmethod
    def translation(model: QemuModel, device_id: int, event_id: int) -> Entry:
        """QEMU caches none."""
        return ABSENT

    @staticmethod
    def lpi(model: QemuModel, intid: int) -> Entry:
        """Return an LPI that an event maps; all events are looked through."""
        return view.lpis(model.vm).get(intid, ABSENT)

    @staticmethod
    def count(model: QemuModel, part: str) -> int:
        """Return how many entries are known to be valid."""
        found = _QEMU_PARTS.get(part)
        return len(found(model.vm)) if found else 0

    @staticmethod
    def count_events(model: QemuModel, device_id: int) -> int:
        """Return how many events of a device are known to be valid."""
        device = view.devices(model.vm).get(device_id)
        return len(device["events"]) if device else 0


_QEMU_PARTS: Final[dict[str, Callable[[Any], dict[int, Any]]]] = {
    "devices": view.devices, "collections": view.collections, "vpes": view.vpes, "lpis": view.lpis,
}  # fmt: skip


def _told(found: dict[str, Any] | None) -> Entry:
    """Return an entry of a table; nothing in it is no entry."""
    return ABSENT if found is not None and not found else found


class Document:
    """Any other model: its whole document is made, each time."""

    @staticmethod
    def _its(model: AnyModel) -> dict[str, Any]:
        its: dict[str, Any] = model.state()["its"]["0"]
        return its

    @staticmethod
    def register(model: AnyModel, name: str) -> int | None:
        """Return a register of the ITS."""
        found: int | None = _number(Document._its(model)["registers"].get(name))
        return found

    @staticmethod
    def redistributor(model: AnyModel, cpu: int) -> dict[str, int | None] | Absent:
        """Return the LPI registers of a CPU."""
        found = model.state()["redistributors"].get(str(cpu))
        return ABSENT if found is None else _numbers(found)

    @staticmethod
    def device(model: AnyModel, device_id: int) -> Entry:
        """Return a device."""
        return _plain(Document._its(model)["devices"].get(hex(device_id)))

    @staticmethod
    def event(model: AnyModel, device_id: int, event_id: int) -> Entry:
        """Return an event of a device."""
        device = Document._its(model)["devices"].get(hex(device_id), {"events": {}})
        return _plain(device["events"].get(hex(event_id)))

    @staticmethod
    def collection(model: AnyModel, icid: int) -> Entry:
        """Return a collection."""
        return _plain(Document._its(model)["collections"].get(str(icid)))

    @staticmethod
    def vpe(model: AnyModel, vpe_id: int) -> Entry:
        """Return a vPE."""
        return _plain(Document._its(model)["vpes"].get(str(vpe_id)))

    @staticmethod
    def translation(model: AnyModel, device_id: int, event_id: int) -> Entry:
        """Return a cached translation."""
        for device, event, intid in Document._its(model)["translation_cache"]:
            if (int(device, 16), int(event, 16)) == (device_id, event_id):
                return {"intid": intid}
        return ABSENT

    @staticmethod
    def lpi(model: AnyModel, intid: int) -> Entry:
        """Return an LPI."""
        return _plain(model.state()["lpis"].get(str(intid)))

    @staticmethod
    def count(model: AnyModel, part: str) -> int:
        """Return how many entries there are."""
        if part == "lpis":
            return len(model.state()["lpis"])
        return len(Document._its(model)[part])

    @staticmethod
    def count_events(model: AnyModel, device_id: int) -> int:
        """Return how many events a device has."""
        device = Document._its(model)["devices"].get(hex(device_id))
        return len(device["events"]) if device else 0


def _plain(entry: dict[str, Any] | None) -> Entry:
    if entry is None:
        return ABSENT
    return _numbers({name: value for name, value in entry.items() if name != "events"})


def _numbers(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in entry.items()}


def _number(value: Any) -> Any:
    """Return a number for the text that a document has of it."""
    return int(value, 16) if isinstance(value, str) and value.startswith("0x") else value


FAMILIES: Final[dict[type, Any]] = {KvmModel: Kvm, QemuModel: Qemu}


def family_of(model: AnyModel) -> Any:
    """Return the class whose functions look at such a model."""
    return FAMILIES.get(type(model), Document)
