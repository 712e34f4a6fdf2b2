"""The host's side of a device: what MAPD makes and MAPTI fills (gic-v3-its.c).

The host never runs out of LPIs or memory here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.xen.state import HostDevice, PendingIrq

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_BLOCK: Final = 32  # LPIs are allocated in chunks, and a device has at least that many events


def map_device(vm: XenVm, device_id: int, event_bits: int) -> bool:
    """Make a device with room for its events; False for one that exists or is too large."""
    limit = _events(vm, device_id, event_bits)
    if limit is None or device_id in vm.state.devices:
        return False
    vm.state.devices[device_id] = HostDevice(limit, {}, {})
    return True


def unmap_device(vm: XenVm, device_id: int, event_bits: int) -> None:
    """Free a device and its pending_irqs, unless the command gives it too many events.

    One that the tree still names is freed all the same. Using it is undefined in Xen; here it goes
    on as it was.
    """
    if _events(vm, device_id, event_bits) is None:
        return
    device = vm.state.devices.pop(device_id, None)
    for number in device.irqs.values() if device else ():
        irq = vm.state.irqs[number]
        irq.freed = 1
        if not irq.named:
            del vm.state.irqs[number]


def _events(vm: XenVm, device_id: int, event_bits: int) -> int | None:
    """Return the room for events, or None where host identifiers do not reach so far."""
    limit = max(1 << event_bits, _BLOCK)
    profile = vm.profile
    if device_id >> profile.host_device_id_bits or limit >> profile.host_event_id_bits:
        return None
    return limit


def irq_number(vm: XenVm, device_id: int, event_id: int) -> int | None:
    """Return the number of an event's pending_irq, or None (get_event_pending_irq)."""
    state = vm.state
    device = state.devices.get(device_id)
    if device is None or event_id >= device.limit:
        return None
    number = device.irqs.get(event_id)
    if number is None:
        number = device.irqs[event_id] = state.next_irq
        state.irqs[number] = PendingIrq()
        state.next_irq += 1
    return number


def assign_event(vm: XenVm, device_id: int, event_id: int, intid: int) -> int | None:
    """Let host interrupts of an event become `intid`; return the number of its pending_irq."""
    number = irq_number(vm, device_id, event_id)
    if number is not None:
        vm.state.devices[device_id].lpis[event_id] = intid
    return number


def remove_event(vm: XenVm, device_id: int, event_id: int) -> bool:
    """Let host interrupts of an event be lost; False when there is no such event."""
    if irq_number(vm, device_id, event_id) is None:
        return False
    vm.state.devices[device_id].lpis.pop(event_id, None)
    return True
