"""What debugfs lists of a VM that runs, against the model: what must be so, and what to learn.

A vCPU takes LPIs unseen, and their configuration stands in guest RAM that mostly nothing shows. So
of a row only some is certain, and a row may be there, or be missing, without the model being wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.kvm.layout import NOT_MAPPED
from replay.model.kvm.lpi import hold, put_lpi
from replay.model.kvm.state import (
    BLIND_DEVICES,
    UNKNOWN_TARGET,
    UNSEEN_ITT,
    VgicIrq,
    may_stray,
)
from replay.model.kvm.tables import (
    add_collection,
    add_device,
    find_ite,
    point_collection,
    put_event,
    vcpu_of,
)

if TYPE_CHECKING:
    from replay.model.kvm.state import State

LpiRow = tuple[int, ...]  # intid, target, flags, priority, queued; a vCPU by its index, -1 none

PENDING: Final = 1 << 6
ENABLED: Final = 1 << 3
# Pending, active and hw change as vCPUs run and interrupts are forwarded; level, config and group
# of an LPI do not change.
_FIXED: Final = 0b0100011


def may_differ(state: State, row: LpiRow | None, got: LpiRow | None) -> bool:
    """Return whether a listing may have `got` where the model has `row`; None is no row."""
    if got is None:
        return row is None or not _is_held(state, row[0])
    if row is None:
        return may_stray(state, got[0])
    irq = state.lpis.get(got[0])
    if irq is None:
        return False
    certain = _FIXED | (ENABLED if irq.configured else 0)
    if (row[2] ^ got[2]) & certain or (irq.configured and row[3] != got[3]):
        return False
    return row[1] == got[1] or irq.doubtful or irq.target == UNKNOWN_TARGET


def _is_held(state: State, intid: int) -> bool:
    """Return whether a mapping holds an LPI for certain, so that it must live."""
    if state.blind:
        return False
    return any(ite.irq.intid == intid for device in state.devices for ite in device.events.values())


def learn_lpi(state: State, got: LpiRow) -> None:
    """Take a row over."""
    intid, target, flags, priority, queued = got
    irq = state.lpis.get(intid)
    if irq is None:
        irq = state.lpis[intid] = VgicIrq(intid, target)
        irq.unseen = bool(state.blind & BLIND_DEVICES)
        irq.refs = int(irq.unseen)
    irq.target, irq.priority = target, priority
    irq.pending, irq.enabled = bool(flags & PENDING), bool(flags & ENABLED)
    irq.configured, irq.doubtful = True, False
    irq.shown = state.steps
    if state.touched is not None:
        state.touched.briefly.add(intid)
    _requeue(state, irq, queued)


def forget_lpi(state: State, intid: int) -> None:
    """Take over that an LPI was not listed: a vCPU took it, and nothing else held it."""
    irq = state.lpis.get(intid)
    if irq is not None:
        _requeue(state, irq, -1)
    state.retired.discard(intid)


def _requeue(state: State, irq: VgicIrq, cpu: int) -> None:
    """Put an LPI on a vCPU's queue, -1 for none; one that nothing holds any more goes."""
    if irq.queued >= 0:
        state.queues[irq.queued].remove(irq)
        irq.refs -= 1
    irq.queued = cpu
    if state.touched is not None:
        state.touched.lpis.add(irq.intid)
    if cpu >= 0:
        state.queues[cpu].append(irq)
        hold(state, irq)
    if irq.refs <= 0:
        irq.refs, irq.sent = 1, False
        put_lpi(state, irq)


def event_row(state: State, device_id: int, event_id: int) -> tuple[int, int, int] | None:
    """Return (INTID, target, ICID) of an event as vgic-its-state lists it, or None."""
    ite = find_ite(state, device_id, event_id)
    if ite is None or ite.collection is None:
        return None
    target = ite.collection.target
    return ite.irq.intid, -1 if target == NOT_MAPPED else target, ite.collection.icid


def learn_event(state: State, device_id: int, event_id: int, row: tuple[int, int, int]) -> None:
    """Take over a mapping that a listing shows: of a device that was used before."""
    intid, target, icid = row
    device = state.by_id.get(device_id) or add_device(state, device_id, UNSEEN_ITT, 16)
    collection = state.collections.get(icid) or add_collection(state, icid)
    point_collection(state, collection, NOT_MAPPED if target < 0 else target)
    old = device.events.pop(event_id, None)
    irq = state.lpis.get(intid)
    if irq is None:
        irq = state.lpis[intid] = VgicIrq(intid, vcpu_of(state, collection.target))
        irq.configured = False
        if state.touched is not None:
            state.touched.lpis.add(intid)
    elif irq.unseen:
        irq.unseen = False
    else:
        hold(state, irq)
    put_event(state, device, event_id, collection, irq)
    if old is not None:
        put_lpi(state, old.irq)
