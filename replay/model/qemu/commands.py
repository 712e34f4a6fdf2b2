"""The command queue and what each command does, as QEMU's process_cmdq and process_* functions.

A handler takes the VM and the four doublewords. Every parameter error is logged by QEMU and the
command is consumed; only a memory transaction error (`Fault`) stalls: Stalled is set and CREADR
stays on the command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from replay.model.effects import COMMAND
from replay.model.memory import GuestRam
from replay.model.qemu import redistributor, tables
from replay.model.qemu.entries import PHYSICAL, VIRTUAL
from replay.model.qemu.tables import Fault
from tracer.its.commands import NO_DOORBELL, Opcode
from tracer.its.lpi import FIRST_LPI
from tracer.its.registers import Creadr

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

_MASK32: Final = 0xFFFF_FFFF
_MASK36: Final = (1 << 36) - 1
_MASK44: Final = (1 << 44) - 1
_COMMAND_SIZE_BYTES: Final = 32
_OFFSET: Final = Creadr.offset.mask  # of CREADR and CWRITER, in bytes
_ID_BITS: Final = 15  # GITS_TYPER.ID_bits: the largest Size of MAPD and VMAPP

# What happens to the pending state of the event's LPI.
_SET: Final = 1
_CLEAR: Final = 0


def process_queue(vm: QemuVm) -> None:
    """Run commands from CREADR to CWRITER (process_cmdq)."""
    its = vm.its
    if not its.ctlr & 1:
        return
    base = its.queue.base
    stop = its.cwriter & _OFFSET
    at = its.creadr & _OFFSET
    others = its.creadr & ~_OFFSET
    size_bytes = its.queue.entries * _COMMAND_SIZE_BYTES
    if stop >= size_bytes or at >= size_bytes:
        return
    while at != stop:
        try:
            run_one(vm, base + at, at)
        except Fault:
            its.creadr |= Creadr.stalled.mask
            return
        at += _COMMAND_SIZE_BYTES
        if at >= size_bytes:
            at %= size_bytes
        its.creadr = others | at


def run_one(vm: QemuVm, gpa: int, queue_offset: int) -> None:
    """Run the command at `gpa`.

    Raises:
        Fault: it meets no memory, and the queue stalls.
    """
    command = None
    if vm.witness is not None and not vm.ram.complete:
        command = vm.witness.command(len(vm.effects), queue_offset)
    if command is None:
        command = _load(vm.ram, gpa)
    dw0, dw1, dw2, dw3 = command
    vm.effects.append((COMMAND, queue_offset, dw0, dw1, dw2, dw3))
    handler = HANDLERS.get(dw0 & 0xFF)
    if handler is not None:
        handler(vm, dw0, dw1, dw2, dw3)


def _load(ram: GuestRam, gpa: int) -> tuple[int, int, int, int]:
    """Return the four doublewords at `gpa`."""
    # Where there is no memory QEMU reads zeros (measured), and opcode 0 does nothing; so does a
    # command that nobody saw and nobody wrote.
    if not ram.backed(gpa, _COMMAND_SIZE_BYTES):
        return 0, 0, 0, 0
    return (
        ram.load64(gpa) or 0,
        ram.load64(gpa + 8) or 0,
        ram.load64(gpa + 16) or 0,
        ram.load64(gpa + 24) or 0,
    )


# -- look-ups


def _lookup_ite(
    vm: QemuVm, device_id: int, event_id: int
) -> tuple[int, tuple[int, int, int, int, int, int]] | None:
    """Return (ITT address, ITE), or None where QEMU calls an identifier invalid (lookup_ite)."""
    if device_id >= vm.its.dt.entries:
        return None
    valid, size, itt_addr = tables.read_dte(vm, device_id)
    if not valid or event_id >= 2 << size:
        return None
    ite = tables.read_ite(vm, itt_addr, event_id)
    return (itt_addr, ite) if ite[0] else None


def _lookup_cte(vm: QemuVm, icid: int) -> int | None:
    """Return the CPU of a mapped collection, or None (lookup_cte)."""
    if icid >= vm.its.ct.entries:
        return None
    valid, rdbase = tables.read_cte(vm, icid)
    return rdbase if valid and rdbase < len(vm.cpus) else None


def _lookup_vte(vm: QemuVm, vpe_id: int) -> tuple[int, int, int] | None:
    """Return (vpt_size, vpt_addr, cpu) of a mapped vPE, or None (lookup_vte)."""
    if vpe_id >= vm.its.vpet.entries:
        return None
    valid, vpt_size, vpt_addr, rdbase = tables.read_vte(vm, vpe_id)
    return (vpt_size, vpt_addr, rdbase) if valid and rdbase < len(vm.cpus) else None


def _is_lpi(vm: QemuVm, intid: int) -> bool:
    return FIRST_LPI <= intid < 1 << vm.profile.intid_bits


def _is_vlpi(vm: QemuVm, intid: int, vpt_size: int) -> bool:
    return _is_lpi(vm, intid) and intid < 2 << vpt_size


def _is_doorbell(vm: QemuVm, intid: int) -> bool:
    return intid == NO_DOORBELL or _is_lpi(vm, intid)


# -- interrupts


def translate(
    vm: QemuVm, device_id: int, event_id: int, level: int = _SET, *, discard: bool = False
) -> None:
    """MSI, INT, CLEAR and DISCARD (do_process_its_cmd)."""
    found = _lookup_ite(vm, device_id, event_id)
    if found is None:
        return
    itt_addr, ite = found
    _, inttype, intid, icid, vpe_id, doorbell = ite
    if inttype == PHYSICAL:
        done = _physical(vm, intid, icid, level)
    elif vm.profile.virtual:
        done = _virtual(vm, intid, vpe_id, doorbell, level)
    else:
        return
    if done and discard:
        tables.write_ite(vm, itt_addr, event_id, (0, 0, 0, 0, 0, 0))


def _physical(vm: QemuVm, intid: int, icid: int, level: int) -> bool:
    try:
        cpu = _lookup_cte(vm, icid)
    except Fault:
        return False  # do_process_its_cmd reports the command as consumed all the same
    if cpu is None:
        return False
    redistributor.process_lpi(vm, cpu, intid, level)
    return True


def _virtual(vm: QemuVm, intid: int, vpe_id: int, doorbell: int, level: int) -> bool:
    try:
        vte = _lookup_vte(vm, vpe_id)
    except Fault:
        return False
    if vte is None or not _is_vlpi(vm, intid, vte[0]):
        return False
    redistributor.process_vlpi(vm, vte[2], intid, vte[1], doorbell, level)
    return True


def _int(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    translate(vm, dw0 >> 32, dw1 & _MASK32, _SET)


def _clear(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    translate(vm, dw0 >> 32, dw1 & _MASK32, _CLEAR)


def _discard(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    translate(vm, dw0 >> 32, dw1 & _MASK32, _CLEAR, discard=True)


# -- mappings


def _mapd(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    device_id = dw0 >> 32
    size = dw1 & 0x1F
    if device_id < vm.its.dt.entries and size <= _ID_BITS:
        tables.write_dte(vm, device_id, dw2 >> 63, size, dw2 & _MASK44 << 8)


def _mapc(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    icid = dw2 & 0xFFFF
    valid = dw2 >> 63
    rdbase = dw2 >> 16 & 0xFFFF if valid else 0
    if icid < vm.its.ct.entries and rdbase < len(vm.cpus):
        tables.write_cte(vm, icid, valid, rdbase)


def _mapti(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    _map_event(vm, dw0 >> 32, dw1 & _MASK32, dw1 >> 32, dw2 & 0xFFFF)


def _mapi(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    event_id = dw1 & _MASK32
    _map_event(vm, dw0 >> 32, event_id, event_id, dw2 & 0xFFFF)


def _map_event(vm: QemuVm, device_id: int, event_id: int, pintid: int, icid: int) -> None:
    """process_mapti: an event that is mapped already is mapped anew."""
    if device_id >= vm.its.dt.entries:
        return
    valid, size, itt_addr = tables.read_dte(vm, device_id)
    if icid >= vm.its.ct.entries or not valid or event_id >= 2 << size or not _is_lpi(vm, pintid):
        return
    tables.write_ite(vm, itt_addr, event_id, (1, PHYSICAL, pintid, icid, 0, NO_DOORBELL))


def _movi(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    if not vm.profile.movi_implemented:
        return
    event_id = dw1 & _MASK32
    new_icid = dw2 & 0xFFFF
    found = _lookup_ite(vm, dw0 >> 32, event_id)
    if found is None or found[1][1] != PHYSICAL:
        return
    itt_addr, (_, _, intid, icid, vpe_id, doorbell) = found
    old_cpu = _lookup_cte(vm, icid)
    if old_cpu is None:
        return
    new_cpu = _lookup_cte(vm, new_icid)
    if new_cpu is None:
        return
    if old_cpu != new_cpu:
        redistributor.move_lpi(vm, old_cpu, new_cpu, intid)
    tables.write_ite(vm, itt_addr, event_id, (1, PHYSICAL, intid, new_icid, vpe_id, doorbell))


def _movall(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    if not vm.profile.movall_implemented:
        return
    source, target = dw2 >> 16 & _MASK36, dw3 >> 16 & _MASK36
    if source < len(vm.cpus) and target < len(vm.cpus) and source != target:
        redistributor.move_all_lpis(vm, source, target)


def _inv(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    """process_inv: the look-ups are all that can be seen, QEMU caches no configuration."""
    found = _lookup_ite(vm, dw0 >> 32, dw1 & _MASK32)
    if found is None:
        return
    _, inttype, _, icid, vpe_id, _ = found[1]
    if inttype == PHYSICAL:
        _lookup_cte(vm, icid)
    elif vm.profile.virtual:
        vte = _lookup_vte(vm, vpe_id)
        if vte is not None and _is_vlpi(vm, found[1][2], vte[0]):
            redistributor.invalidate_vlpis(vm, vte[2], vte[1])


# -- GICv4


def _vmapp(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    if not vm.profile.virtual:
        return
    vpe_id = dw1 >> 32 & 0xFFFF
    rdbase, valid = dw2 >> 16 & _MASK32, dw2 >> 63
    vpt_size = dw3 & 0xFF
    if vpt_size > _ID_BITS or (valid and rdbase >= len(vm.cpus)) or vpe_id >= vm.its.vpet.entries:
        return
    tables.write_vte(vm, vpe_id, valid, vpt_size, dw3 & _MASK36 << 16, rdbase)


def _vmapti(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    _map_virtual(vm, dw0 >> 32, dw1, dw2 & _MASK32, dw2 >> 32)


def _vmapi(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    _map_virtual(vm, dw0 >> 32, dw1, dw1 & _MASK32, dw2 >> 32)


def _map_virtual(vm: QemuVm, device_id: int, dw1: int, vintid: int, doorbell: int) -> None:
    event_id, vpe_id = dw1 & _MASK32, dw1 >> 32 & 0xFFFF
    if not vm.profile.virtual or device_id >= vm.its.dt.entries:
        return
    valid, size, itt_addr = tables.read_dte(vm, device_id)
    if not valid or event_id >= 2 << size or not _is_lpi(vm, vintid):
        return
    if not _is_doorbell(vm, doorbell) or vpe_id >= vm.its.vpet.entries:
        return
    tables.write_ite(vm, itt_addr, event_id, (1, VIRTUAL, vintid, 0, vpe_id, doorbell))


def _vmovp(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    vpe_id, rdbase = dw1 >> 32 & 0xFFFF, dw2 >> 16 & _MASK36
    if not vm.profile.virtual or rdbase >= len(vm.cpus):
        return
    vte = _lookup_vte(vm, vpe_id)
    if vte is not None:
        tables.write_vte(vm, vpe_id, 1, vte[0], vte[1], rdbase)


def _vmovi(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    event_id, vpe_id = dw1 & _MASK32, dw1 >> 32 & 0xFFFF
    given, new_doorbell = dw2 & 1, dw2 >> 32
    if not vm.profile.virtual or (given and not _is_doorbell(vm, new_doorbell)):
        return
    found = _lookup_ite(vm, dw0 >> 32, event_id)
    if found is None or found[1][1] != VIRTUAL:
        return
    itt_addr, (_, _, intid, icid, old_vpe_id, doorbell) = found
    old = _lookup_vte(vm, old_vpe_id)
    if old is None:
        return
    new = _lookup_vte(vm, vpe_id)
    if new is None or not _is_vlpi(vm, intid, old[0]) or not _is_vlpi(vm, intid, new[0]):
        return
    doorbell = new_doorbell if given else doorbell
    if old[1] != new[1]:
        redistributor.move_vlpi(vm, (old[2], old[1]), (new[2], new[1]), intid, doorbell)
    tables.write_ite(vm, itt_addr, event_id, (1, VIRTUAL, intid, icid, vpe_id, doorbell & 0xFFFFFF))


def _vinvall(vm: QemuVm, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    if not vm.profile.virtual:
        return
    vte = _lookup_vte(vm, dw1 >> 32 & 0xFFFF)
    if vte is not None:
        redistributor.invalidate_vlpis(vm, vte[2], vte[1])


# SYNC, VSYNC and INVALL do nothing that could be seen: QEMU is always in sync and caches only
# which pending LPI is the best one. An opcode without a handler is consumed.
HANDLERS: Final[dict[int, Callable[[QemuVm, int, int, int, int], None]]] = {
    Opcode.MOVI: _movi,
    Opcode.INT: _int,
    Opcode.CLEAR: _clear,
    Opcode.MAPD: _mapd,
    Opcode.MAPC: _mapc,
    Opcode.MAPTI: _mapti,
    Opcode.MAPI: _mapi,
    Opcode.INV: _inv,
    Opcode.MOVALL: _movall,
    Opcode.DISCARD: _discard,
    Opcode.VMOVI: _vmovi,
    Opcode.VMOVP: _vmovp,
    Opcode.VMAPP: _vmapp,
    Opcode.VMAPTI: _vmapti,
    Opcode.VMAPI: _vmapi,
    Opcode.VINVALL: _vinvall,
}
