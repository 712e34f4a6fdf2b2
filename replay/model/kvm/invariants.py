"""Walks the state again and names what is inconsistent in it (its.md 9.5)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from replay.model.kvm.layout import DEVICE_ID_BITS, MIN_LPI, queue_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.model.kvm.state import State


def violations(state: State) -> Iterator[str]:
    """Yield the name of each invariant that does not hold. A name can come more than once."""
    yield from _registers(state)
    yield from _devices(state)
    yield from _cache(state)
    yield from _lpis(state)


def _registers(state: State) -> Iterator[str]:
    size = queue_bytes(state.cbaser)
    if state.creadr >= size or state.creadr & 0x1F:
        yield "creadr_in_queue"
    if state.cwriter >= size or state.cwriter & 0x1F:
        yield "cwriter_in_queue"


def _devices(state: State) -> Iterator[str]:
    seen: set[int] = set()
    for device in state.devices:
        if device.device_id in seen:
            yield "device_id_unique"
        elif state.by_id.get(device.device_id) is not device:
            yield "device_index_names_first"
        seen.add(device.device_id)
        if device.device_id >> DEVICE_ID_BITS:
            yield "device_id_in_range"
        for event_id, ite in device.events.items():
            if event_id >> device.event_bits:
                yield "event_id_in_range"
            if ite.collection and state.collections.get(ite.collection.icid) is not ite.collection:
                yield "collection_of_event_exists"
            if state.lpis.get(ite.irq.intid) is not ite.irq:
                yield "lpi_of_event_lives"
    if seen != state.by_id.keys():
        yield "device_index_complete"


def _cache(state: State) -> Iterator[str]:
    if state.cache and not state.enabled:
        yield "cache_empty_when_disabled"
    if state.cache_limit >= 0 and len(state.cache) > state.cache_limit:
        yield "cache_within_limit"
    mask = (1 << state.cache_shift) - 1
    for key, irq in state.cache.items():
        if state.lpis.get(irq.intid) is not irq:
            yield "lpi_of_cache_lives"
        device = state.by_id.get(key >> state.cache_shift)
        ite = device.events.get(key & mask) if device else None
        if ite is None or ite.irq is not irq:
            yield "cache_entry_is_mapped"


def _lpis(state: State) -> Iterator[str]:
    refs: Counter[int] = Counter()
    for device in state.devices:
        refs.update(ite.irq.intid for ite in device.events.values())
    refs.update(irq.intid for irq in state.cache.values())
    for cpu, queue in enumerate(state.queues):
        refs.update(irq.intid for irq in queue)
        for irq in queue:
            if irq.queued != cpu:
                yield "queued_lpi_names_vcpu"
            if state.lpis.get(irq.intid) is not irq:
                yield "queued_lpi_lives"
    for intid, irq in state.lpis.items():
        if intid != irq.intid or intid < MIN_LPI:
            yield "intid_in_range"
        # An LPI leaked by a failed mapping is held by nobody: see failed_lpi_mapping_frees_it.
        if irq.refs != refs[intid]:
            yield "lpi_references_counted"
        if irq.queued >= 0 and irq not in state.queues[irq.queued]:
            yield "queue_holds_lpi"
