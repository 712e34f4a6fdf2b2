"""A QEMU VM's state as `itstrace.state/1` has it: the whole of it, and the entries that stored words change.

Counterparts: `replay.model.qemu.reach`, which says of what a word is part, and `replay.report.follow`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from replay.model.qemu import view
from replay.model.qemu.reach import Reach, basis, places

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

Path = tuple[str, ...]
ITS: Final = ("its", "0")
Pair = tuple[int, int]
Entry = tuple[str, Any, dict[str, Any] | None]  # component, key, what is mapped there now


def shown(vm: QemuVm) -> dict[str, Any]:
    """Return the state without its digest."""
    devices, collections = view.devices(vm), view.collections(vm)
    lpis = view.lpis_of(vm, devices, collections)
    its = registers(vm) | {
        "devices": {hex(k): _device(v) for k, v in sorted(devices.items())},
        "collections": {str(k): v for k, v in sorted(collections.items())},
        "vpes": {str(k): _vpe(v) for k, v in sorted(view.vpes(vm).items())},
        "translation_cache": [],
    }
    return {
        "its": {"0": its},
        "redistributors": {
            str(cpu): {name: _hex(value) for name, value in found.items()}
            for cpu, found in view.redistributors(vm).items()
        },
        "lpis": {str(intid): entry for intid, entry in sorted(lpis.items())},
    }


def registers(vm: QemuVm) -> dict[str, Any]:
    """Return the registers of the ITS."""
    return {"registers": {name: _hex(value) for name, value in view.registers(vm).items()}}


def _device(device: dict[str, Any]) -> dict[str, Any]:
    events = {hex(key): event for key, event in sorted(device["events"].items())}
    return device | {"itt_addr": hex(device["itt_addr"]), "events": events}


def _vpe(vpe: dict[str, Any]) -> dict[str, Any]:
    return vpe | {"vpt_addr": hex(vpe["vpt_addr"])}


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)


def _put(component: str, key: Any, entry: dict[str, Any] | None) -> tuple[Path, Any]:
    """Return the place of an entry in the state, and the entry as it is told there."""
    if component == "events":
        return (*ITS, "devices", hex(key[0]), "events", hex(key[1])), entry
    if component == "devices":
        return (*ITS, "devices", hex(key)), entry and _device(entry)
    return (*ITS, component, str(key)), entry and _vpe(entry) if component == "vpes" else entry


class Entries:
    """What is mapped, as of the last walk and what stored words changed since."""

    def __init__(self, vm: QemuVm) -> None:
        self._vm = vm
        self._reach = Reach(vm)
        self._registers = self._behind()
        self._at: dict[int, int] = {}  # DeviceID -> address of its entry
        self._events: dict[Pair, dict[str, Any]] = {}
        self._of_device: dict[int, set[int]] = {}
        self._of_icid: dict[int, set[Pair]] = {}
        self._of_intid: dict[int, set[Pair]] = {}
        for device_id, at in view.addresses(vm):
            self._device_at(device_id, at, set())
        self._targets = {icid: each["rdbase"] for icid, each in view.collections(vm).items()}

    def puts(self, keys: Mapping[str, Iterable[int]]) -> list[tuple[Path, Any]] | None:
        """Return (place, entry) of all that may be otherwise, None for no entry; None: look at everything."""
        if basis(self._vm) != self._reach.basis:
            return None
        intids: set[int] = set()
        found = self.changed(keys, intids)
        return None if found is None else list(self._puts(found, intids))

    def _puts(self, found: Iterable[Entry], intids: Iterable[int]) -> Iterator[tuple[Path, Any]]:
        now = self._behind()
        if now != self._registers:
            self._registers = now
            yield (*ITS, "registers"), registers(self._vm)["registers"]
        yield from (_put(*each) for each in found)
        yield from ((("lpis", str(intid)), self._lpi(intid)) for intid in sorted(intids))

    def changed(self, keys: Mapping[str, Iterable[int]], intids: set[int]) -> list[Entry] | None:
        """Return each mapping that may be another, None for one that is none now; None: look at everything.

        A device comes with all its events. `intids` gets the LPIs that may be told otherwise.
        """
        if places(self._vm) != self._reach.places:
            return None
        found = self._reach.keys(keys.get("words", ()))
        return None if found is None else list(self._changed(found, keys.get("itts", ()), intids))

    def _changed(
        self, found: dict[str, dict[Any, int]], itts: Iterable[int], intids: set[int]
    ) -> Iterator[Entry]:
        intids.update(each for each in found["lpis"] if each in self._of_intid)
        devices = found["devices"] | {each: self._at[each] for each in self._reach.of_itts(itts)}
        for device_id, at in devices.items():
            yield "devices", device_id, self._device_at(device_id, at, intids) or None
        for pair, at in found["events"].items():
            if pair[0] not in devices:
                event = view.event_at(self._vm, self._reach.itt(pair[0]), at)
                self._event(pair, event or {}, intids)
                yield "events", pair, event or None
        yield from self._others(found, intids)

    def _others(self, found: dict[str, dict[Any, int]], intids: set[int]) -> Iterator[Entry]:
        for icid, at in found["collections"].items():
            collection = view.collection_at(self._vm, at)
            self._targets.pop(icid, None)
            if collection:
                self._targets[icid] = collection["rdbase"]
            intids.update(self._events[pair]["intid"] for pair in self._of_icid.get(icid, ()))
            yield "collections", icid, collection or None
        for vpe_id, at in found["vpes"].items():
            yield "vpes", vpe_id, view.vpe_at(self._vm, at) or None

    def _behind(self) -> tuple[Any, ...]:
        its = self._vm.its
        return its.ctlr, its.cbaser, its.cwriter, its.creadr, tuple(its.baser)

    def _device_at(self, device_id: int, at: int, intids: set[int]) -> dict[str, Any]:
        """Take a device as it stands there now; return it with its events."""
        for event_id in self._of_device.pop(device_id, set()):
            self._forget((device_id, event_id), intids)
        self._at.pop(device_id, None)
        device = view.device_at(self._vm, at)
        self._reach.device(device_id, device)
        if not device:
            return {}
        self._at[device_id] = at
        events = view.events_at(self._vm, device["itt_addr"], 1 << device["eventid_bits"])
        for event_id, event in events.items():
            self._event((device_id, event_id), event, intids)
        return device | {"events": events}

    def _event(self, pair: Pair, event: dict[str, Any], intids: set[int]) -> None:
        """Take an event as it is now; nothing for none."""
        if pair in self._events:
            self._of_device[pair[0]].discard(pair[1])
            self._forget(pair, intids)
        if "icid" in event:  # a virtual one is no LPI of these
            self._events[pair] = event
            self._of_device.setdefault(pair[0], set()).add(pair[1])
            self._of_icid.setdefault(event["icid"], set()).add(pair)
            self._of_intid.setdefault(event["intid"], set()).add(pair)
            self._reach.top = max(self._reach.top, event["intid"])
            intids.add(event["intid"])

    def _forget(self, pair: Pair, intids: set[int]) -> None:
        event = self._events.pop(pair)
        for index, key in ((self._of_icid, event["icid"]), (self._of_intid, event["intid"])):
            index[key].discard(pair)
            if not index[key]:
                del index[key]
        intids.add(event["intid"])

    def _lpi(self, intid: int) -> dict[str, Any] | None:
        """Return an LPI, by the last of the events that are mapped to it, as a walk meets them."""
        pairs = self._of_intid.get(intid)
        if not pairs:
            return None
        if len(pairs) == 1:
            (last,) = pairs
        else:
            last = max(pairs, key=lambda pair: (*self._reach.rank(pair[0]), pair[1]))
        return view.lpi_of(self._vm, intid, self._targets.get(self._events[last]["icid"]))
