"""The translation cache: (DeviceID, EventID) to a live LPI, past every check of the ITS.

One list for the VM, least recently used entry out first, from Linux 89489ee9ced8 ("vgic-its: Cache
successful MSI->LPI translation") (in v5.4) on; one unbounded xarray for each ITS since Linux
8201d1028caa ("vgic-its: Maintain a translation cache per ITS") (in v6.10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model.kvm.layout import DEVICE_ID_BITS, EVENT_ID_BITS
from replay.model.kvm.lpi import hold, put_lpi

if TYPE_CHECKING:
    from replay.model.kvm.state import State, VgicIrq


def lookup(state: State, device_id: int, event_id: int) -> VgicIrq | None:
    """Find a cached LPI (`vgic_its_check_cache`) and make it the most recently used one."""
    if state.flags.translation_cache_per_its and (
        device_id >> DEVICE_ID_BITS or event_id >> EVENT_ID_BITS
    ):
        return None
    cache = state.cache
    key = device_id << state.cache_shift | event_id
    irq = cache.get(key)
    if irq is not None and state.cache_limit > 0:
        del cache[key]
        cache[key] = irq
    return irq


def contains(state: State, device_id: int, event_id: int) -> bool:
    """Return whether a pair is cached, without using it."""
    return device_id << state.cache_shift | event_id in state.cache


def insert(state: State, device_id: int, event_id: int, irq: VgicIrq) -> None:
    """Remember a translation (`vgic_its_cache_translation`); it holds a reference.

    The list keeps what it has for a pair, the xarray takes the newer one.
    """
    limit = state.cache_limit
    if not limit:
        return
    cache = state.cache
    if not state.flags.translation_cache_per_its and lookup(state, device_id, event_id) is not None:
        return
    key = device_id << state.cache_shift | event_id
    hold(state, irq)
    gone = key
    old = cache.pop(key, None)
    if old is None and len(cache) == limit:
        gone = next(iter(cache))
        old = cache.pop(gone)
    if old is not None:
        put_lpi(state, old)
    cache[key] = irq
    if state.touched is not None:
        state.touched.translation_cache |= {state.pair(gone), state.pair(key)}


def invalidate(state: State) -> None:
    """Forget all translations (`vgic_its_invalidate_cache`)."""
    cache = state.cache
    if cache:
        state.cache = {}
        if state.touched is not None:
            state.touched.translation_cache.update(map(state.pair, cache))
        for irq in cache.values():
            put_lpi(state, irq)
