"""How a Xen VM's state is told: registers by name, mappings by identifier, hidden parts apart.

A device table entry has no valid bit: listed is each one that is neither zero nor what an unmap
leaves. A collection table entry has none either, and zero means vCPU 0: listed are the collections
that an event names or whose entry is not zero, and those with a vCPU's number, which Linux
uses. A zeroed table therefore shows them all, mapped to vCPU 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replay.model.xen import entries
from replay.model.xen.registers import READ
from replay.model.xen.state import NOWHERE, PendingIrq
from replay.model.xen.tables import device_limit, table_base, table_entries

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_REGISTERS: Final = {
    "GITS_CTLR": (0x0, 4),
    "GITS_IIDR": (0x4, 4),
    "GITS_TYPER": (0x8, 8),
    "GITS_CBASER": (0x80, 8),
    "GITS_CWRITER": (0x88, 8),
    "GITS_CREADR": (0x90, 8),
    **{f"GITS_BASER{index}": (0x100 + 8 * index, 8) for index in range(8)},
    "GITS_PIDR2": (0xFFE8, 4),
}
GICR: Final = {"GICR_CTLR": (0x0, 4), "GICR_PROPBASER": (0x70, 8), "GICR_PENDBASER": (0x78, 8)}


def registers(vm: XenVm) -> dict[str, int]:
    """Return the ITS registers that a guest can change, and the constant ones."""
    return {name: READ[place](vm) for name, place in _REGISTERS.items()}


def redistributors(vm: XenVm) -> dict[int, dict[str, int | None]]:
    """Return the LPI registers of each vCPU; None where the trace does not show them."""
    return {
        cpu: {
            name: vm.gicr_read(cpu, *place) if vm.gicr_known else None
            for name, place in GICR.items()
        }
        for cpu in range(vm.cpus)
    }


def devices(vm: XenVm) -> dict[int, dict[str, Any]]:
    """Return DeviceID -> ITT and events."""
    found = {}
    base = table_base(vm.state.baser[0])
    for device_id, raw in vm.ram.nonzero64(base, device_limit(vm)):
        if raw == entries.DTE_UNMAPPED:
            continue
        size, itt_addr = entries.unpack_dte(raw)
        found[device_id] = {
            "itt_addr": itt_addr,
            "eventid_bits": size + 1,
            "confirmed": _confirmed(vm, base + device_id * entries.DTE_SIZE_BYTES),
            "events": _events(vm, itt_addr, 2 << size),
        }
    return found


def _events(vm: XenVm, itt_addr: int, count: int) -> dict[int, dict[str, Any]]:
    found = {}
    for event_id, raw in vm.ram.nonzero64(itt_addr, count):
        vlpi, icid = entries.unpack_itte(raw)
        if vlpi != entries.NO_LPI:
            confirmed = _confirmed(vm, itt_addr + event_id * entries.ITTE_SIZE_BYTES)
            found[event_id] = {"intid": vlpi, "icid": icid, "confirmed": confirmed}
    return found


def collections(vm: XenVm, shown: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return ICID -> target; `shown` are the devices, whose events name collections."""
    count = table_entries(vm.state.baser[1])
    base = table_base(vm.state.baser[1])
    named = set(range(min(vm.cpus, count)))
    named |= {event["icid"] for device in shown.values() for event in device["events"].values()}
    for index, raw in vm.ram.nonzero64(base, count // 4):
        named.update(4 * index + lane for lane in range(4) if raw >> 16 * lane & 0xFFFF)
    found = {}
    for icid in sorted(icid for icid in named if icid < min(count, 1 << 16)):
        at = base + icid * entries.CTE_SIZE_BYTES
        data = vm.ram.load_bytes(at, entries.CTE_SIZE_BYTES)
        vcpu = entries.UNMAPPED if data is None else int.from_bytes(data, "little")
        if vcpu < vm.cpus and vm.ram.backed(at, entries.CTE_SIZE_BYTES):
            found[icid] = {"rdbase": vcpu, "confirmed": _confirmed(vm, at)}
    return found


def _confirmed(vm: XenVm, at: int) -> bool:
    return vm.ram.complete or at in vm.confirmed


# -- outside guest RAM


def host_devices(vm: XenVm) -> dict[int, dict[str, Any]]:
    """Return DeviceID -> room for events and EventID -> vLPI, as the host has them."""
    return {
        device_id: {"events": device.limit, "lpis": dict(sorted(device.lpis.items()))}
        for device_id, device in sorted(vm.state.devices.items())
    }


def lpis(vm: XenVm) -> dict[int, dict[str, Any]]:
    """Return INTID -> pending state of every live LPI."""
    found = {}
    for intid, number in sorted(vm.state.tree.items()):
        irq = vm.state.irqs[number]
        found[intid] = {
            "pending": _pending(vm, irq),
            "target": None if irq.vcpu == NOWHERE else irq.vcpu,
            "queued": None if irq.queued == NOWHERE else irq.queued,
        }
    return found


def _pending(vm: XenVm, irq: PendingIrq) -> str:
    """Where a real guest runs it takes an enabled LPI where nobody sees it."""
    if irq.queued == NOWHERE:
        return "clear"
    running = not vm.ram.complete and irq.enabled != 0
    return "maybe" if irq.maybe or running else "set"
