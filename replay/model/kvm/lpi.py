"""LPIs: their objects, configuration, pending state and queues.

An LPI object lives as long as something refers to it: each ITE, each cache entry, and the queue
(`ap_list`) of a vCPU. So one that is queued outlives its mapping, CTRL_RESET included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model import effects
from replay.model.kvm.layout import (
    EFAULT,
    MIN_LPI,
    PENDBASER_ADDRESS,
    PROPBASER_ADDRESS,
    PTZ,
)
from replay.model.kvm.state import VgicIrq, may_stray

if TYPE_CHECKING:
    from replay.model.kvm.state import State

ANY_VCPU = -2


def _touch(state: State, irq: VgicIrq) -> None:
    if state.touched is not None:
        state.touched.lpis.add(irq.intid)


def hold(state: State, irq: VgicIrq) -> None:
    """Take a reference."""
    irq.refs += 1
    if state.touched is not None:
        state.touched.lpis.add(irq.intid)


def retarget(state: State, irq: VgicIrq, vcpu: int) -> None:
    """Point it at another vCPU; one that is queued stays where it is."""
    irq.target = vcpu
    _touch(state, irq)


def clear_pending(state: State, irq: VgicIrq) -> None:
    """Make it pending no longer; one that is queued stays queued."""
    irq.pending = False
    _touch(state, irq)


def add_lpi(state: State, intid: int, target: int) -> VgicIrq | int:
    """Take a reference on an LPI, creating it if it is not alive (`vgic_add_lpi`).

    A live one is taken over as it is: target, pending state and configuration are the old ones.

    Returns:
        The LPI, or -EFAULT when its configuration or pending byte is not in a memory slot.
    """
    irq = state.lpis.get(intid)
    if state.touched is not None:
        state.touched.lpis.add(intid)
    if irq is not None:
        irq.refs += 1
        return irq
    irq = VgicIrq(intid, target)
    irq.doubtful = may_stray(state, intid)
    state.retired.discard(intid)
    state.lpis[intid] = irq
    error = update_config(state, irq, ANY_VCPU) or _sync_pending(state, irq)
    if not error:
        return irq
    # Linux 57bdb436ce86 ("vgic-its: Fix memory leak on the error path of vgic_add_lpi()"):
    # before, the object stayed alive, and the next MAPTI of the INTID took it.
    if state.flags.failed_lpi_mapping_frees_it:
        put_lpi(state, irq)
    return error


def put_lpi(state: State, irq: VgicIrq) -> None:
    """Drop a reference (`vgic_put_irq`)."""
    irq.refs -= 1
    if state.touched is not None:
        state.touched.lpis.add(irq.intid)
    if not irq.refs:
        del state.lpis[irq.intid]
        if irq.sent and not state.ram.complete:
            # Whether it is queued follows from its configuration, which nothing showed.
            state.retired.add(irq.intid)


def update_config(state: State, irq: VgicIrq, only_vcpu: int) -> int:
    """Read an LPI's configuration byte (`update_lpi_config`); returns 0 or -EFAULT.

    Args:
        state: the VM.
        irq: the LPI.
        only_vcpu: the LPI is left alone unless it targets this vCPU; `ANY_VCPU` for no filter.
    """
    gpa = (state.propbaser & PROPBASER_ADDRESS) + irq.intid - MIN_LPI
    config = state.read8("the configuration byte", gpa)
    if config is None:
        return EFAULT
    if only_vcpu in (ANY_VCPU, irq.target):
        irq.configured = state.ram.load8(gpa) is not None
        irq.priority = config & 0xFC
        irq.enabled = bool(config & 1)
        queue_lpi(state, irq)
    return 0


def _sync_pending(state: State, irq: VgicIrq) -> int:
    """Take the pending bit of an LPI that was just made out of guest RAM (`vgic_v3_lpi_sync_pending_status`)."""
    if irq.target < 0:
        return 0
    gpa = (state.pendbasers[irq.target] & PENDBASER_ADDRESS) + (irq.intid >> 3)
    byte = state.read8("the pending byte", gpa)
    if byte is None:
        return EFAULT
    bit = 1 << (irq.intid & 7)
    irq.pending = bool(byte & bit)
    queue_lpi(state, irq)
    if irq.pending:
        state.ram.store8(gpa, byte & ~bit)
    return 0


def queue_lpi(state: State, irq: VgicIrq) -> None:
    """Put an LPI on its target's queue if it is deliverable (`vgic_queue_irq_unlock`).

    A queued one stays where it is, whatever its target has become: only a running vCPU moves it.
    """
    target = irq.target
    if irq.queued >= 0 or target < 0 or not (irq.enabled and irq.pending):
        return
    if not state.gicd_enabled:
        return
    irq.refs, irq.queued = irq.refs + 1, target
    if state.touched is not None:
        state.touched.lpis.add(irq.intid)
    state.queues[target].append(irq)
    if state.effects is not None:
        state.effects.append((effects.LPI, irq.intid, target))


def make_pending(state: State, irq: VgicIrq) -> None:
    """An MSI or INT reached it."""
    irq.pending = irq.sent = True
    if state.touched is not None:
        state.touched.lpis.add(irq.intid)
    queue_lpi(state, irq)


def _unsure(state: State, cpu: int) -> bool:
    return bool(state.unknown.of(f"GICR_CTLR[{cpu}]") & 1)


def flush_queue(state: State, cpu: int) -> None:
    """Take every LPI off a vCPU's queue (`vgic_flush_pending_lpis`)."""
    clears = state.flags.disable_lpis_clears_pending_latch
    off = not any(
        state.lpis_enabled[each] or _unsure(state, each) for each in range(len(state.queues))
    )
    if off:
        state.retired.clear()
        state.strays = False
    queue, state.queues[cpu] = state.queues[cpu], []
    for irq in queue:
        if clears:
            irq.pending = False
        irq.queued = -1
        put_lpi(state, irq)


def sync_pending_table(state: State, cpu: int) -> None:
    """Take the pending bits of a vCPU's LPIs from guest RAM (`its_sync_lpi_pending_table`).

    An unreadable byte ends the walk; nobody is told. Since Linux 720f73b750e6 ("vgic-its: Walk LPI
    xarray in its_sync_lpi_pending_table()") (in v6.10) it reads the byte of every LPI of the VM,
    and queues the ones of other vCPUs too, when they are deliverable.
    """
    every = state.flags.enable_lpis_visits_every_lpi
    base = state.pendbasers[cpu] & PENDBASER_ADDRESS
    last_offset = -1
    byte: int | None = 0
    for irq in state.walk_lpis():
        if not every and irq.target != cpu:
            continue
        offset = irq.intid >> 3
        if offset != last_offset:
            byte = state.read8("the pending byte", base + offset)
            last_offset = offset
        if byte is None:
            return
        if irq.target == cpu:
            irq.pending = bool(byte >> (irq.intid & 7) & 1)
            _touch(state, irq)
        queue_lpi(state, irq)


def invalidate_all_config(state: State, cpu: int) -> None:
    """Read the configuration of all LPIs of a vCPU again (`vgic_its_invall`)."""
    for irq in state.walk_lpis():
        if irq.target == cpu:
            update_config(state, irq, cpu)


def save_pending_tables(state: State) -> int:
    """Write the pending bits of live LPIs to guest RAM (`vgic_v3_save_pending_tables`).

    Bits of LPIs that are not alive stay as they were in RAM.

    Returns:
        0, or -EFAULT at the first byte that is not in a memory slot; what was written stays.
    """
    last = -1
    byte: int | None = 0
    rereads = state.flags.save_pending_rereads_each_table
    for irq in state.walk_lpis():
        if irq.target < 0:
            continue
        offset = irq.intid >> 3
        gpa = (state.pendbasers[irq.target] & PENDBASER_ADDRESS) + offset
        # Linux ca185b260951 ("vgic: Don't rely on the wrong pending table") (in v5.5): before,
        # a byte read for one vCPU was used for the next LPI of another one.
        place = gpa if rereads else offset
        if place != last:
            byte = state.read8("the pending byte", gpa)
            last = place
        if byte is None:
            return EFAULT
        bit = 1 << (irq.intid & 7)
        if bool(byte & bit) == irq.pending:
            continue
        byte ^= bit
        if not state.ram.backed(gpa):
            return EFAULT
        state.ram.store8(gpa, byte)
    return 0


def enable_lpis(state: State, cpu: int) -> None:
    """What setting GICR_CTLR.EnableLPIs does (`vgic_enable_lpis`): PTZ leaves RAM unread."""
    if not state.pendbasers[cpu] & PTZ:
        sync_pending_table(state, cpu)
