"""The command queue and what each command does (vgic_its_handle_cmds, its_handle_*).

A handler takes the VM and the four doublewords. Every error is logged by Xen and the command is
consumed, so that a handler that cannot go on just returns; only the fetch of a command ends the
loop, with CREADR where it was and no Stalled bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from replay.model import effects
from replay.model.effects import HostCrash
from replay.model.xen import entries, host, lpi, tables
from replay.model.xen.state import PendingIrq
from tracer.its.commands import Opcode
from tracer.its.registers import Cbaser

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_MASK32: Final = 0xFFFF_FFFF
_MASK44: Final = (1 << 44) - 1
_COMMAND_SIZE_BYTES: Final = 32


def queue_bytes(cbaser: int) -> int:
    """Return the size of the queue; CBASER need not be valid."""
    return (Cbaser.size.get(cbaser) + 1) * 4096


def process_queue(vm: XenVm) -> None:
    """Run commands from CREADR to CWRITER."""
    state = vm.state
    size_bytes = queue_bytes(state.cbaser)
    if state.cwriter >= size_bytes:
        return
    base = Cbaser.physical_address.get(state.cbaser)
    while state.creadr != state.cwriter:
        fetched = _fetch(vm, base + state.creadr, state.creadr)
        if fetched is None:
            return
        vm.effects.append((effects.COMMAND, state.creadr, *fetched))
        handler = HANDLERS.get(fetched[0] & 0xFF)
        if handler is not None:
            handler(vm, *fetched)
        state.creadr = (state.creadr + _COMMAND_SIZE_BYTES) % size_bytes


def _fetch(vm: XenVm, gpa: int, queue_offset: int) -> tuple[int, int, int, int] | None:
    """Return the four doublewords at `gpa`, or None where there is no RAM."""
    ram = vm.ram
    if not ram.complete and vm.witness is not None:
        seen = vm.witness.command(len(vm.effects), queue_offset)
        if seen is not None:
            return seen
    if not ram.backed(gpa, _COMMAND_SIZE_BYTES):
        return None
    # A command that nobody saw and nobody wrote: opcode 0 does nothing.
    return (
        ram.load64(gpa) or 0,
        ram.load64(gpa + 8) or 0,
        ram.load64(gpa + 16) or 0,
        ram.load64(gpa + 24) or 0,
    )


# -- mappings


def _mapd(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    """A device that is mapped must be unmapped before it can be mapped again."""
    device_id, size = dw0 >> 32, dw1 & 0x1F
    if not dw2 >> 63:
        _unmap_device(vm, device_id, size + 1)
    elif size < vm.profile.host_event_id_bits and host.map_device(vm, device_id, size + 1):
        # Where the device table has no such entry the host's device stays all the same.
        tables.write_dte(vm, device_id, entries.pack_dte(size, dw2 & _MASK44 << 8))


def _unmap_device(vm: XenVm, device_id: int, event_bits: int) -> None:
    """Discard what can be discarded; the entries of the ITT stay as they are."""
    for event_id in tables.mapped_events(vm, device_id):
        _discard_event(vm, device_id, event_id)
    host.unmap_device(vm, device_id, event_bits)
    tables.write_dte(vm, device_id, entries.DTE_UNMAPPED)


def _mapc(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    """The target is checked even when the collection is unmapped."""
    icid, target = dw2 & 0xFFFF, dw2 >> 16 & _MASK44
    if target < vm.cpus:
        tables.write_target(vm, icid, target if dw2 >> 63 else entries.UNMAPPED)


def _mapti(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    _map_event(vm, dw0 >> 32, dw1 & _MASK32, dw1 >> 32, dw2 & 0xFFFF)


def _mapi(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    event_id = dw1 & _MASK32
    _map_event(vm, dw0 >> 32, event_id, event_id, dw2 & 0xFFFF)


def _map_event(vm: XenVm, device_id: int, event_id: int, intid: int, icid: int) -> None:
    """An event that is mapped stays as it is, if its collection is mapped too.

    Xen compares the INTID with the number of LPIs: the last 8192 INTIDs are refused, those below
    8192 are not.
    """
    found = tables.read_itte(vm, device_id, event_id)
    if found is not None and found[1] != entries.NO_LPI:
        return
    vcpu = tables.read_target(vm, icid)
    if vcpu is None or intid >= lpi.count(vm):
        return
    if tables.write_itte(vm, device_id, event_id, icid, intid) and not lpi.connect(
        vm, device_id, event_id, intid, vcpu
    ):
        tables.write_itte(vm, device_id, event_id, entries.UNMAPPED, entries.NO_LPI)


def _movi(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    """The next interrupt goes to the new target; one that is pending stays where it is."""
    device_id, event_id, icid = dw0 >> 32, dw1 & _MASK32, dw2 & 0xFFFF
    found = _mapped(vm, device_id, event_id)
    vcpu = tables.read_target(vm, icid)
    irq = _event_irq(vm, device_id, event_id) if found else None
    if found is None or vcpu is None or irq is None:
        return
    irq.vcpu = vcpu
    tables.write_itte(vm, device_id, event_id, icid, found[1])


def _discard(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    device_id, event_id = dw0 >> 32, dw1 & _MASK32
    if _discard_event(vm, device_id, event_id):
        tables.write_itte(vm, device_id, event_id, entries.UNMAPPED, entries.NO_LPI)


def _discard_event(vm: XenVm, device_id: int, event_id: int) -> bool:
    """Let an event's LPI die; False when its collection is unmapped or its LPI is not live."""
    found = _mapped(vm, device_id, event_id)
    return (
        found is not None
        and lpi.disconnect(vm, found[1])
        and host.remove_event(vm, device_id, event_id)
    )


def _mapped(vm: XenVm, device_id: int, event_id: int) -> tuple[int, int] | None:
    """Return (vCPU, vLPI) of an event that has one, or None."""
    found = tables.read_itte(vm, device_id, event_id)
    return found if found is not None and found[1] != entries.NO_LPI else None


def _event_irq(vm: XenVm, device_id: int, event_id: int) -> PendingIrq | None:
    number = host.irq_number(vm, device_id, event_id)
    return None if number is None else vm.state.irqs[number]


# -- interrupts


def _int(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    found = _mapped(vm, dw0 >> 32, dw1 & _MASK32)
    if found is not None:
        lpi.inject(vm, found[1])


def _clear(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    device_id, event_id = dw0 >> 32, dw1 & _MASK32
    if tables.read_itte(vm, device_id, event_id) is not None:
        irq = _event_irq(vm, device_id, event_id)
        if irq is not None:
            lpi.clear(irq)


def _inv(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    device_id, event_id = dw0 >> 32, dw1 & _MASK32
    if lpi.enabled_somewhere(vm) and _mapped(vm, device_id, event_id) is not None:
        irq = _event_irq(vm, device_id, event_id)
        if irq is not None:
            lpi.update_config(vm, irq)


def _invall(vm: XenVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    """Re-read the configuration of every live LPI of the collection's vCPU.

    Raises:
        HostCrash: the collection is unmapped, and Xen takes its vCPU's lock all the same.
    """
    if not lpi.enabled_somewhere(vm):
        return
    vcpu = tables.read_target(vm, dw2 & 0xFFFF)
    if vcpu is None:
        raise HostCrash("its_handle_invall")
    for _, number in sorted(vm.state.tree.items()):
        irq = vm.state.irqs[number]
        if irq.vcpu == vcpu:
            lpi.update_config(vm, irq)


# SYNC does nothing, MOVALL is logged and ignored, and so is every other opcode.
HANDLERS: Final[dict[int, Callable[[XenVm, int, int, int, int], None]]] = {
    Opcode.MOVI: _movi,
    Opcode.INT: _int,
    Opcode.CLEAR: _clear,
    Opcode.MAPD: _mapd,
    Opcode.MAPC: _mapc,
    Opcode.MAPTI: _mapti,
    Opcode.MAPI: _mapi,
    Opcode.INV: _inv,
    Opcode.INVALL: _invall,
    Opcode.DISCARD: _discard,
}
