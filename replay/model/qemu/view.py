"""How a QEMU VM's state is told: registers by name, mappings by identifier, and a digest.

Only what can be reached is listed: tables of a valid BASER, ITTs of a valid DTE. `confirmed` says
whether an entry was seen since its table last changed hands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replay.model.qemu import entries, pending
from replay.model.qemu.joined import stand_in
from replay.model.qemu.registers import READ, table_desc
from replay.model.qemu.state import TableDesc
from replay.model.qemu.tables import unseen_page

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

_LEVEL1_ADDRESS = (1 << 51) - 1
_TABLES = {"devices": "GITS_BASER0", "collections": "GITS_BASER1", "vpes": "GITS_BASER2"}


def registers(vm: QemuVm) -> dict[str, int | None]:
    """Return the ITS registers that a reset or a guest can change, and the constant ones.

    None stands for one of which not every bit is known.
    """
    its = vm.its
    values: dict[str, int | None] = {
        "GITS_CTLR": its.ctlr,
        "GITS_IIDR": vm.profile.iidr,
        "GITS_TYPER": vm.profile.typer,
        "GITS_CBASER": its.cbaser,
        "GITS_CWRITER": its.cwriter,
        "GITS_CREADR": its.creadr,
        **{f"GITS_BASER{index}": value for index, value in enumerate(its.baser)},
        "GITS_PIDR2": READ[4][0xFFE8](vm),
    }
    return known(vm, values) if vm.unknown else values


def known(vm: QemuVm, values: dict[str, Any]) -> dict[str, Any]:
    """Return register values by name, None for those of which not every bit is known."""
    return {name: None if vm.unknown.of(name) else value for name, value in values.items()}


def redistributors(vm: QemuVm) -> dict[int, dict[str, int | None]]:
    """Return the LPI registers of each CPU; None where the trace does not show them."""
    names = {"GICR_CTLR": "ctlr", "GICR_PROPBASER": "propbaser", "GICR_PENDBASER": "pendbaser"}
    if vm.profile.virtual:
        names |= {"GICR_VPROPBASER": "vpropbaser", "GICR_VPENDBASER": "vpendbaser"}
    return {
        index: {
            name: None
            if not vm.gicr_known or vm.unknown.of(f"{name}[{index}]")
            else getattr(cpu, attr)
            for name, attr in names.items()
        }
        for index, cpu in enumerate(vm.cpus)
    }


def table_of(vm: QemuVm, index: int) -> TableDesc:
    """Return the table that BASER<index> names, or a stand-in where nobody knows it."""
    if vm.unknown.of(f"GITS_BASER{index}"):
        return stand_in(index)
    return table_desc(vm.its.baser[index])


def _entries(vm: QemuVm, desc: TableDesc) -> list[tuple[int, int, int]]:
    """Return (index, address, doubleword) of the non-zero entries of a table."""
    found = []
    for first, start, count in pages_of(vm, desc):
        for at in vm.ram.touched(start, start + count * desc.entry_size):
            if (at - start) % desc.entry_size == 0:
                raw = vm.ram.load64(at)
                if raw:
                    found.append((first + (at - start) // desc.entry_size, at, raw))
    return found


def pages_of(vm: QemuVm, desc: TableDesc) -> list[tuple[int, int, int]]:
    """Return (first index, address, entries) of each stretch of a table whose place is known."""
    if not desc.entries:
        return []
    if not desc.indirect:
        return [(0, desc.base, desc.entries)]
    per_page = desc.page_size // desc.entry_size
    step = desc.page_size // 8  # as QEMU divides: by the size of a level-1 entry
    pages = []
    end = desc.base + desc.entries // per_page * 8
    for at in vm.ram.touched(desc.base, end):
        raw = vm.ram.load64(at) if at % 8 == 0 else None
        if raw and raw >> 63:
            pages.append(((at - desc.base) // 8 * step, raw & _LEVEL1_ADDRESS, per_page))
    for at in sorted(vm.assumed_level1):
        if desc.base <= at < end and vm.ram.load64(at) is None:
            index = (at - desc.base) // 8
            pages.append((index * step, unseen_page(desc, index), per_page))
    return pages


def _entry(vm: QemuVm, desc: TableDesc, index: int) -> tuple[int, int | None]:
    """Return (address, doubleword) of one entry: 0 where there is none, None if it is not known."""
    if index >= desc.entries:
        return 0, 0
    start, at = desc.base, index
    if desc.indirect:
        level1, per_page = index // (desc.page_size // 8), desc.page_size // desc.entry_size
        page = _level2(vm, desc, level1)
        if not page:
            return 0, page
        start, at = page, index % per_page
    start += at * desc.entry_size
    return start, vm.ram.load64(start)


def _level2(vm: QemuVm, desc: TableDesc, index: int) -> int | None:
    """Return the address of a level-2 page: 0 where there is none, None if it is not known."""
    at = desc.base + index * 8
    raw = vm.ram.load64(at)
    if raw is None:
        return unseen_page(desc, index) if at in vm.assumed_level1 else None
    return raw & _LEVEL1_ADDRESS if raw >> 63 else 0


def device(vm: QemuVm, device_id: int) -> dict[str, Any] | None:
    """Return one device without its events; nothing where there is none, None if it is not known."""
    at, raw = _entry(vm, table_of(vm, 0), device_id)
    if raw is None:
        return None
    valid, size, itt_addr = entries.unpack_dte(raw)
    if not valid:
        return {}
    confirmed = _confirmed(vm, at, vm.since[0])
    return {"itt_addr": itt_addr, "eventid_bits": size + 1, "confirmed": confirmed}


def event(vm: QemuVm, device_id: int, event_id: int) -> dict[str, Any] | None:
    """Return one event of a device, as `device` does."""
    found = device(vm, device_id)
    if not found or event_id >> found["eventid_bits"]:
        return None if found is None else {}
    return event_at(vm, found["itt_addr"], found["itt_addr"] + event_id * entries.ITE_SIZE_BYTES)


def collection(vm: QemuVm, icid: int) -> dict[str, Any] | None:
    """Return one collection, as `device` does."""
    at, raw = _entry(vm, table_of(vm, 1), icid)
    if raw is None:
        return None
    valid, rdbase = entries.unpack_cte(raw)
    return {"rdbase": rdbase, "confirmed": _confirmed(vm, at, vm.since[1])} if valid else {}


def devices(vm: QemuVm) -> dict[int, dict[str, Any]]:
    """Return DeviceID -> ITT and events, of every valid device table entry."""
    found = {}
    for device_id, at, _ in _entries(vm, table_of(vm, 0)):
        device = device_at(vm, at)
        if device:
            events = events_at(vm, device["itt_addr"], 1 << device["eventid_bits"])
            found[device_id] = device | {"events": events}
    return found


def addresses(vm: QemuVm) -> list[tuple[int, int]]:
    """Return DeviceID and address of each entry of the device table that is not zero, in the order of a walk."""
    return [(device_id, at) for device_id, at, _ in _entries(vm, table_of(vm, 0))]


def device_at(vm: QemuVm, at: int) -> dict[str, Any]:
    """Return the device whose entry is at `at`, without its events; nothing where there is none."""
    valid, size, itt_addr = entries.unpack_dte(_raw(vm, at))
    if not valid:
        return {}
    confirmed = _confirmed(vm, at, vm.since[0])
    return {"itt_addr": itt_addr, "eventid_bits": size + 1, "confirmed": confirmed}


def collection_at(vm: QemuVm, at: int) -> dict[str, Any]:
    """Return a collection in the same way."""
    valid, rdbase = entries.unpack_cte(_raw(vm, at))
    return {"rdbase": rdbase, "confirmed": _confirmed(vm, at, vm.since[1])} if valid else {}


def vpe_at(vm: QemuVm, at: int) -> dict[str, Any]:
    """Return a vPE in the same way."""
    valid, vpt_size, vpt_addr, rdbase = entries.unpack_vte(_raw(vm, at))
    if not valid:
        return {}
    confirmed = _confirmed(vm, at, vm.since[2])
    return {
        "vpt_size": vpt_size, "vpt_addr": vpt_addr, "rdbase": rdbase, "confirmed": confirmed
    }  # fmt: skip


def _raw(vm: QemuVm, at: int) -> int:
    """Return a doubleword of a table, 0 where it is not known or the address is not a word's."""
    return 0 if at & 3 else vm.ram.load64(at) or 0


def events_at(vm: QemuVm, itt_addr: int, count: int) -> dict[int, dict[str, Any]]:
    """Return EventID -> event of an ITT."""
    found = {}
    size = entries.ITE_SIZE_BYTES
    for at in vm.ram.touched(itt_addr, itt_addr + count * size):
        if (at - itt_addr) % size == 0:
            shown = event_at(vm, itt_addr, at)
            if shown:
                found[(at - itt_addr) // size] = shown
    return found


def event_at(vm: QemuVm, itt_addr: int, at: int) -> dict[str, Any] | None:
    """Return the event whose entry is at `at`, as `device` does."""
    low, high = vm.ram.load64(at), vm.ram.load32(at + 8)
    if low is None or high is None:
        return None
    valid, inttype, intid, icid, vpe_id, doorbell = entries.unpack_ite(low | high << 64)
    if not valid:
        return {}
    shown: dict[str, Any] = {"intid": intid}
    if inttype == entries.PHYSICAL:
        shown["icid"] = icid
    else:
        shown |= {"vpe_id": vpe_id, "doorbell": doorbell}
    since = max(vm.since[0], vm.since_itt.get(itt_addr, 0))
    return shown | {"confirmed": _confirmed(vm, at, since)}


def collections(vm: QemuVm) -> dict[int, dict[str, Any]]:
    """Return ICID -> target, of every valid collection table entry."""
    found = {}
    for icid, at, _ in _entries(vm, table_of(vm, 1)):
        collection = collection_at(vm, at)
        if collection:
            found[icid] = collection
    return found


def vpes(vm: QemuVm) -> dict[int, dict[str, Any]]:
    """Return vPEID -> entry, of every valid vPE table entry."""
    if not vm.profile.virtual:
        return {}
    found = {}
    for vpe_id, at, _ in _entries(vm, table_of(vm, 2)):
        vpe = vpe_at(vm, at)
        if vpe:
            found[vpe_id] = vpe
    return found


def left_in_ram(
    vm: QemuVm, basers: Mapping[str, int | None], pages: list[tuple[int, int]]
) -> dict[str, int]:
    """Return component -> valid entries of the tables that `basers` name, within `pages`."""
    read = sorted(pages)
    starts = [start for start, _ in read]

    def is_read(at: int) -> bool:
        index = bisect_right(starts, at) - 1
        return index >= 0 and at < read[index][0] + read[index][1]

    return {
        component: sum(
            raw & 1 and is_read(at)
            for _, at, raw in _entries(vm, table_desc(basers.get(baser) or 0))
        )
        for component, baser in _TABLES.items()
    }


def _confirmed(vm: QemuVm, at: int, since: int) -> bool:
    return vm.ram.complete or vm.confirmed.get(at, -1) >= since


def lpis(vm: QemuVm) -> dict[int, dict[str, Any]]:
    """Return INTID -> pending state of every LPI that an event maps to a collection."""
    return lpis_of(vm, devices(vm), collections(vm))


def lpis_of(
    vm: QemuVm, devices: Mapping[int, dict[str, Any]], collections: Mapping[int, dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    """Return INTID -> pending state of every LPI that an event of these devices maps."""
    targets = {icid: entry["rdbase"] for icid, entry in collections.items()}
    found = {}
    for device in devices.values():
        for event in device["events"].values():
            if "icid" in event:
                found[event["intid"]] = lpi_of(vm, event["intid"], targets.get(event["icid"]))
    return found


def lpi_of(vm: QemuVm, intid: int, target: int | None) -> dict[str, Any]:
    """Return an LPI that goes to a CPU."""
    return {"pending": pending.word(vm, target, intid), "target": target, "queued": None}


def hidden(vm: QemuVm) -> dict[str, Any]:
    """Return what no register shows: the descriptors derived on enabling."""
    its = vm.its
    shown = {"dt": its.dt, "ct": its.ct, "vpet": its.vpet}
    return {
        name: [desc.base, desc.entries, desc.page_size, desc.entry_size, desc.indirect]
        for name, desc in shown.items()
    } | {"queue": [its.queue.base, its.queue.entries], **_unsure(vm)}


def _unsure(vm: QemuVm) -> dict[str, Any]:
    """Return what is known, and unknown, of a VM of which not everything was seen."""
    bits = {hex(key): bit for key, bit in sorted(vm.pending.bits.items())}
    found: dict[str, Any] = {"pending": bits, "acks_seen": vm.pending.acks_seen} if bits else {}
    return found | ({"unknown": vm.unknown.snapshot()} if vm.unknown else {})
