"""The command queue and its handlers, with KVM's checks in KVM's order.

A handler takes the VM and the command's doublewords and returns 0, one of the E_* codes, or -errno;
KVM drops the result. What a command leaves undone it leaves undone silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from replay.model import effects
from replay.model.kvm.cache import invalidate
from replay.model.kvm.layout import (
    COMMAND_BYTES,
    E_CLEAR_UNMAPPED_INTERRUPT,
    E_DISCARD_UNMAPPED_INTERRUPT,
    E_INV_UNMAPPED_INTERRUPT,
    E_INVALL_UNMAPPED_COLLECTION,
    E_MAPC_COLLECTION_OOR,
    E_MAPC_PROCNUM_OOR,
    E_MAPD_DEVICE_OOR,
    E_MAPD_ITTSIZE_OOR,
    E_MAPTI_ID_OOR,
    E_MAPTI_PHYSICALID_OOR,
    E_MAPTI_UNMAPPED_DEVICE,
    E_MOVALL_PROCNUM_OOR,
    E_MOVI_UNMAPPED_COLLECTION,
    E_MOVI_UNMAPPED_INTERRUPT,
    EFAULT,
    ENODEV,
    ENTRY_BYTES,
    EVENT_ID_BITS,
    LPI_ID_BITS,
    MIN_LPI,
    NOT_MAPPED,
    PROPBASER_ADDRESS,
    U32,
    queue_bytes,
)
from replay.model.kvm.lpi import (
    ANY_VCPU,
    add_lpi,
    clear_pending,
    invalidate_all_config,
    retarget,
    update_config,
)
from replay.model.kvm.msi import trigger_msi
from replay.model.kvm.state import (
    BLIND,
    BLIND_COLLECTIONS,
    BLIND_DEVICES,
    UNKNOWN_TARGET,
    UNSEEN_ITT,
    State,
)
from replay.model.kvm.tables import (
    add_collection,
    add_device,
    collection_gpa,
    device_gpa,
    event_fits,
    find_ite,
    free_collection,
    free_device,
    free_event,
    is_mapped,
    move_event,
    point_collection,
    put_event,
    vcpu_of,
)

if TYPE_CHECKING:
    from replay.model.kvm.state import Collection, Device

Handler = Callable[[State, int, int, int, int], int]

_ITT_ADDRESS: Final = 0x000F_FFFF_FFFF_FF00
_MAPTI: Final = 0x0A
_QUEUE_REGISTERS: Final = ("GITS_CTLR", "GITS_CBASER", "GITS_CREADR", "GITS_CWRITER")


def process_commands(state: State) -> None:
    """Run the queue up to CWRITER (`vgic_its_process_commands`). It never stalls.

    A command that cannot be read is skipped.
    """
    if state.unknown and _run_as_shown(state):
        return
    if not state.enabled:
        return
    base = state.cbaser & PROPBASER_ADDRESS
    if not state.flags.addresses_have_52_bits:
        base &= 0xFFFF_FFFF_FFFF
    size = queue_bytes(state.cbaser)
    if max(state.creadr, state.cwriter) >= size or (state.creadr | state.cwriter) % COMMAND_BYTES:
        return  # no KVM has such a queue: only a trace that was made up shows it to who joined
    while state.creadr != state.cwriter:
        offset = state.creadr
        if state.ram.backed(base + offset, COMMAND_BYTES):
            _run(state, base + offset, offset)
        offset += COMMAND_BYTES
        state.creadr = 0 if offset == size else offset


def _run_as_shown(state: State) -> bool:
    """Run what was fetched, of a queue of which not all is known; return whether it is that.

    KVM always runs up to CWRITER: what it ran tells that the ITS is enabled, and where CREADR is.
    """
    if not any(map(state.unknown.of, _QUEUE_REGISTERS)):
        return False
    shown = [] if state.witness is None else state.witness.commands()
    if shown:
        state.enabled = True
        state.unknown.know("GITS_CTLR", 1)
    for offset, *words in shown:
        _execute(state, offset, *words)
    if state.unknown.of("GITS_CTLR") or state.unknown.of("GITS_CWRITER"):
        state.unknown.doubt("GITS_CREADR")
    elif state.enabled:
        state.creadr = state.cwriter
        state.unknown.know("GITS_CREADR")
    return True


def _run(state: State, gpa: int, offset: int) -> None:
    """Fetch and run one command (`vgic_its_handle_command`)."""
    if state.ram.complete:
        load = state.ram.load64
        dw0, dw1, dw2, dw3 = (
            load(gpa) or 0,
            load(gpa + 8) or 0,
            load(gpa + 16) or 0,
            load(gpa + 24) or 0,
        )
    else:
        known, (dw0, dw1, dw2, dw3) = _fetch(state, gpa, offset)
        if not known:
            if state.blind:
                return  # which of them were not shown is not known any more
            state.blind = BLIND
    _execute(state, offset, dw0, dw1, dw2, dw3)


def _execute(state: State, offset: int, dw0: int, dw1: int, dw2: int, dw3: int) -> None:
    handler = HANDLERS.get(dw0 & 0xFF)
    if state.effects is not None:
        state.effects.append((effects.COMMAND, offset, dw0, dw1, dw2, dw3))
    state.last_error = ENODEV if handler is None else handler(state, dw0, dw1, dw2, dw3)


def _fetch(state: State, gpa: int, offset: int) -> tuple[bool, tuple[int, int, int, int]]:
    """Return whether it is known what stands at `gpa`, and the doublewords: as seen, or from RAM.

    A command that nothing showed is given as zeros, which do nothing.
    """
    if state.witness is not None:
        count = 0 if state.effects is None else len(state.effects)
        seen = state.witness.command(count, offset)
        if seen is not None:
            return True, seen
    words = [state.ram.load64(at) for at in range(gpa, gpa + COMMAND_BYTES, 8)]
    dw0, dw1, dw2, dw3 = (word or 0 for word in words)
    return None not in words, (dw0, dw1, dw2, dw3)


def _mapd(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """MAPD (`vgic_its_cmd_handle_mapd`): an existing device is dropped first, whatever V says."""
    device_id = dw0 >> 32
    valid = dw2 >> 63
    event_bits = (dw1 & 0x1F) + 1
    gpa = device_gpa(state, device_id)
    if gpa is None:
        return E_MAPD_DEVICE_OOR
    if valid and event_bits > EVENT_ID_BITS:
        return E_MAPD_ITTSIZE_OOR
    device = state.by_id.get(device_id)
    if device is not None:
        free_device(state, device)
    if valid:
        add_device(state, device_id, dw2 & _ITT_ADDRESS, event_bits)
        return 0
    # Linux e9649129d33d ("vgic-its: Clear DTE when MAPD unmaps a device") (in v6.13).
    if state.flags.mapd_unmap_clears_dte:
        return 0 if state.write_entry(effects.DTE, device_id, 0, gpa) else EFAULT
    return 0


def _mapc(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """MAPC (`vgic_its_cmd_handle_mapc`)."""
    icid = dw2 & 0xFFFF
    valid = dw2 >> 63
    vcpu = vcpu_of(state, dw2 >> 16 & U32)
    if vcpu < 0 and (valid or not state.flags.mapc_unmap_ignores_target):
        return E_MAPC_PROCNUM_OOR
    if not valid:
        free_collection(state, icid)
        invalidate(state)
        return 0
    collection = state.collections.get(icid)
    if collection is None:
        if collection_gpa(state, icid) is None:
            return E_MAPC_COLLECTION_OOR
        add_collection(state, icid, dw2 >> 16 & U32)
        return 0
    point_collection(state, collection, dw2 >> 16 & U32)
    _retarget(state, collection, vcpu)
    return 0


def _retarget(state: State, collection: Collection, vcpu: int) -> None:
    """Point the LPIs of a collection's events at its vCPU (`update_affinity_collection`)."""
    for device in state.devices:
        for ite in device.events.values():
            if ite.collection is collection:
                retarget(state, ite.irq, vcpu)


def _mapti(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """MAPTI and MAPI (`vgic_its_cmd_handle_mapi`). A mapped event stays as it is."""
    event_id = dw1 & U32
    intid = dw1 >> 32 if dw0 & 0xFF == _MAPTI else event_id
    device = _device_of(state, dw0 >> 32)
    if device is None:
        return E_MAPTI_UNMAPPED_DEVICE
    check_ram = state.flags.mapti_requires_backed_ite
    if not event_fits(state, device, event_id, check_ram=check_ram):
        return E_MAPTI_ID_OOR
    known = not state.unknown.of("GICR_PROPBASER")
    id_bits = min((state.propbaser & 0x1F) + 1, LPI_ID_BITS) if known else LPI_ID_BITS
    if intid < MIN_LPI or intid >> id_bits:
        return E_MAPTI_PHYSICALID_OOR
    if event_id in device.events:
        return 0
    icid = dw2 & 0xFFFF
    collection = state.collections.get(icid)
    if collection is not None:
        return _map_event(state, device, event_id, collection, intid)
    if collection_gpa(state, icid) is None:
        return E_MAPC_COLLECTION_OOR
    unsure = state.blind & BLIND_COLLECTIONS  # it may have been there
    collection = add_collection(state, icid, UNKNOWN_TARGET if unsure else NOT_MAPPED)
    error = _map_event(state, device, event_id, collection, intid)
    if error:
        free_collection(state, icid)
    return error


def _device_of(state: State, device_id: int) -> Device | None:
    """Return a device; where not all were shown, one that is used is taken to be mapped."""
    device = state.by_id.get(device_id)
    if device is None and state.blind & BLIND_DEVICES:
        return add_device(state, device_id, UNSEEN_ITT, EVENT_ID_BITS)
    return device


def _map_event(
    state: State, device: Device, event_id: int, collection: Collection, intid: int
) -> int:
    """Add an event to a device; returns 0 or -EFAULT."""
    vcpu = -1 if collection.target == NOT_MAPPED else vcpu_of(state, collection.target)
    irq = add_lpi(state, intid, vcpu)
    if isinstance(irq, int):
        return irq
    put_event(state, device, event_id, collection, irq)
    return 0


def _movi(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """MOVI (`vgic_its_cmd_handle_movi`)."""
    ite = find_ite(state, dw0 >> 32, dw1 & U32)
    if ite is None:
        return E_MOVI_UNMAPPED_INTERRUPT
    if not is_mapped(ite.collection):
        return E_MOVI_UNMAPPED_COLLECTION
    collection = state.collections.get(dw2 & 0xFFFF)
    if collection is None or collection.target == NOT_MAPPED:
        return E_MOVI_UNMAPPED_COLLECTION
    move_event(state, dw0 >> 32, dw1 & U32, ite, collection)
    invalidate(state)
    retarget(state, ite.irq, vcpu_of(state, collection.target))
    return 0


def _movall(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """MOVALL (`vgic_its_cmd_handle_movall`): re-targets LPIs; the collections stay.

    Linux 751f4641560b ("vgic-its: Fix MOVALL handling of source redistributor") (in v7.3): from
    v6.10 on it moved the LPIs of every vCPU.
    """
    source = vcpu_of(state, dw2 >> 16 & U32)
    target = vcpu_of(state, dw3 >> 16 & U32)
    if source < 0 or target < 0:
        return E_MOVALL_PROCNUM_OOR
    if source == target:
        return 0
    every = not state.flags.movall_moves_source_only
    for irq in state.lpis.values():
        if every or irq.target == source:
            retarget(state, irq, target)
    invalidate(state)
    return 0


def _discard(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """DISCARD (`vgic_its_cmd_handle_discard`). The pending state of a queued LPI survives it."""
    event_id = dw1 & U32
    device = state.by_id.get(dw0 >> 32)
    ite = None if device is None else device.events.get(event_id)
    if device is None or ite is None or ite.collection is None:
        return E_DISCARD_UNMAPPED_INTERRUPT
    if state.flags.discard_requires_mapped_collection and not is_mapped(ite.collection):
        return E_DISCARD_UNMAPPED_INTERRUPT
    invalidate(state)
    free_event(state, device, event_id)
    # Linux 7602ffd1d5e8 ("vgic-its: Clear ITE when DISCARD frees an ITE") (in v6.13).
    if state.flags.discard_clears_ite:
        gpa = device.itt + event_id * ENTRY_BYTES
        return 0 if state.write_entry(effects.ITE, event_id, 0, gpa) else EFAULT
    return 0


def _clear(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """CLEAR (`vgic_its_cmd_handle_clear`). A queued LPI stays queued."""
    ite = find_ite(state, dw0 >> 32, dw1 & U32)
    if ite is None:
        return E_CLEAR_UNMAPPED_INTERRUPT
    clear_pending(state, ite.irq)
    return 0


def _int(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """INT (`vgic_its_cmd_handle_int`)."""
    return trigger_msi(state, dw0 >> 32, dw1 & U32)


def _inv(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """INV (`vgic_its_cmd_handle_inv`)."""
    ite = find_ite(state, dw0 >> 32, dw1 & U32)
    if ite is None:
        return E_INV_UNMAPPED_INTERRUPT
    return update_config(state, ite.irq, ANY_VCPU)


def _invall(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """INVALL (`vgic_its_cmd_handle_invall`): all LPIs of the collection's vCPU."""
    collection = state.collections.get(dw2 & 0xFFFF)
    if collection is None or collection.target == NOT_MAPPED:
        return E_INVALL_UNMAPPED_COLLECTION
    invalidate_all_config(state, vcpu_of(state, collection.target))
    return 0


def _sync(state: State, dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """SYNC: nothing to wait for."""
    return 0


HANDLERS: Final[dict[int, Handler]] = {
    0x01: _movi,
    0x03: _int,
    0x04: _clear,
    0x05: _sync,
    0x08: _mapd,
    0x09: _mapc,
    0x0A: _mapti,
    0x0B: _mapti,
    0x0C: _inv,
    0x0D: _invall,
    0x0E: _movall,
    0x0F: _discard,
}
