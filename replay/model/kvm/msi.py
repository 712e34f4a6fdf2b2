"""MSIs: KVM_SIGNAL_MSI (and irqfds), and the INT command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model import effects
from replay.model.kvm import cache
from replay.model.kvm.layout import E_INT_UNMAPPED_INTERRUPT, EBUSY, NOT_MAPPED
from replay.model.kvm.lpi import make_pending
from replay.model.kvm.tables import find_ite, vcpu_of

if TYPE_CHECKING:
    from replay.model.kvm.state import State


def signal_msi(state: State, device_id: int, event_id: int) -> int:
    """Send an MSI (`vgic_its_inject_msi`): 1 delivered, 0 blocked, or -errno.

    A cache hit asks neither whether the ITS is enabled nor whether the target's LPIs are.
    """
    irq = cache.lookup(state, device_id, event_id)
    if state.effects is not None and state.cache_limit:
        answer = effects.XLAT_MISS if irq is None else effects.XLAT_HIT
        state.effects.append((answer, device_id, event_id))
    if irq is not None:
        make_pending(state, irq)
        return 1
    error = trigger_msi(state, device_id, event_id)
    if error < 0:
        return error
    return 0 if error else 1


def trigger_msi(state: State, device_id: int, event_id: int) -> int:
    """Translate and make pending (`vgic_its_trigger_msi`): 0, -EBUSY or an ITS error code.

    It fills the cache and never looks it up; the INT command enters here.
    """
    if not state.enabled:
        return EBUSY
    ite = find_ite(state, device_id, event_id)
    if ite is None or ite.collection is None or ite.collection.target == NOT_MAPPED:
        return E_INT_UNMAPPED_INTERRUPT
    vcpu = vcpu_of(state, ite.collection.target)
    if vcpu < 0:
        return E_INT_UNMAPPED_INTERRUPT
    if not state.lpis_enabled[vcpu]:
        return EBUSY
    irq = ite.irq
    cache.insert(state, device_id, event_id, irq)
    make_pending(state, irq)
    return 0
