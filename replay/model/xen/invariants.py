"""What holds of a Xen VM after every event; each one that does not is named.

What a guest may write into its tables is not among them, nor that a live LPI belongs to a device:
Xen itself loses one when its collection is unmapped before its device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from replay.model.xen.attributes import is_sane
from replay.model.xen.commands import queue_bytes
from replay.model.xen.state import BASER_FIXED
from tracer.its.registers import Baser, Creadr

if TYPE_CHECKING:
    from replay.model.xen.state import XenState
    from replay.model.xen.vm import XenVm

_FIXED = Baser.table_type.mask | Baser.entry_size.mask | Baser.indirect.mask


def violations(vm: XenVm) -> Iterator[str]:
    """Yield the name of each invariant that does not hold."""
    state = vm.state
    if state.creadr & ~Creadr.offset.mask or state.creadr >= queue_bytes(state.cbaser):
        yield "creadr_within_the_queue"
    if state.cwriter & ~Creadr.offset.mask:
        yield "cwriter_is_an_offset"
    if not all(is_sane(each, 59, 53) for each in (state.cbaser, *state.baser)):
        yield "attributes_are_sanitised"
    for index, fixed in enumerate(BASER_FIXED):
        if state.baser[index] & _FIXED != fixed:
            yield f"baser{index}_keeps_its_type"
    if state.enabled and not state.cbaser & state.baser[0] & state.baser[1] & Baser.valid.mask:
        yield "enabled_with_valid_tables"
    if vm.ram.complete:  # else both may rest on an assumption
        if any(state.lpis_enabled) != state.rdists_enabled:
            yield "lpis_are_enabled_for_the_domain"
        if any(intid >= state.lpi_count for intid in state.tree):
            yield "live_lpis_are_in_range"
    yield from _links(state)


def _links(state: XenState) -> Iterator[str]:
    """The numbers that stand for pointers: none dangles, and none is lost."""
    named = Counter(state.tree.values())
    if any(irq.named != named[number] for number, irq in state.irqs.items()):
        yield "pending_irqs_know_who_names_them"
    reached = set(named)
    for device in state.devices.values():
        reached |= set(device.irqs.values())
        if not set(device.lpis) <= set(device.irqs):
            yield "assigned_events_have_a_pending_irq"
        if any(event_id >= device.limit for event_id in device.irqs):
            yield "events_within_their_device"
    if reached != set(state.irqs):
        yield "every_pending_irq_is_reached"
