"""Live LPIs: the tree of those that are mapped, their cached configuration, and injection.

Nothing of an LPI's pending state is in guest RAM: Xen never reads or writes a pending table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model import effects
from replay.model.xen import host
from replay.model.xen.state import NOWHERE, PendingIrq
from tracer.its.lpi import FIRST_LPI, LpiConfig, config_byte
from tracer.its.registers import Propbaser

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_MASK32: Final = (1 << 32) - 1
_MASK64: Final = (1 << 64) - 1
_ASSUMED_BITS: Final = 16

LPIS_ENABLED: Final = "the guest enabled 16-bit LPIs before it mapped any"


def enabled_somewhere(vm: XenVm) -> bool:
    """Return whether a redistributor has LPIs enabled; assumed where the trace shows none."""
    state = vm.state
    if not vm.gicr_known and not state.rdists_enabled:
        state.rdists_enabled, state.lpi_count = True, lpis_of_bits(_ASSUMED_BITS)
        vm.assume(LPIS_ENABLED)
    return state.rdists_enabled


def count(vm: XenVm) -> int:
    """Return the number of LPIs, which Xen also takes for the limit of their INTIDs."""
    return vm.state.lpi_count if enabled_somewhere(vm) else 0


def lpis_of_bits(bits: int) -> int:
    """Return how many LPIs `bits` bits of INTID leave (vgic_vcpu_enable_lpis), in 32 bits."""
    return max((1 << bits & _MASK32) - FIRST_LPI, 0)


def connect(vm: XenVm, device_id: int, event_id: int, intid: int, vcpu: int) -> bool:
    """Make an LPI live as MAPTI does; False when it cannot, or when the INTID is live already.

    The event's pending_irq starts anew even then, whatever it was before.
    """
    state = vm.state
    number = host.assign_event(vm, device_id, event_id, intid)
    if number is None:
        return False
    irq = state.irqs[number]
    _renew(irq, intid)
    if update_config(vm, irq):
        irq.vcpu = vcpu
        if intid not in state.tree:
            state.tree[intid] = number
            irq.named += 1
            return True
    host.remove_event(vm, device_id, event_id)
    return False


def disconnect(vm: XenVm, intid: int) -> bool:
    """Take an LPI from the tree and from its queue; False when it was not live."""
    number = vm.state.tree.pop(intid, None)
    if number is None:
        return False
    irq = vm.state.irqs[number]
    _renew(irq, 0)
    irq.named -= 1
    if irq.freed and not irq.named:
        del vm.state.irqs[number]
    return True


def _renew(irq: PendingIrq, intid: int) -> None:
    """vgic_init_pending_irq."""
    irq.intid, irq.vcpu, irq.queued, irq.maybe = intid, NOWHERE, NOWHERE, 0
    irq.enabled = irq.priority = 0


def update_config(vm: XenVm, irq: PendingIrq) -> bool:
    """Read an LPI's configuration byte; False where there is no RAM (update_lpi_property)."""
    if not vm.gicr_known:
        irq.enabled = irq.priority = None
        return True
    if not vm.state.rdists_enabled:
        return True
    base = Propbaser.physical_address.get(vm.state.propbaser)
    gpa = config_byte(base, irq.intid) & _MASK64
    if not vm.ram.backed(gpa):
        return False
    byte = vm.ram.load8(gpa)
    irq.enabled = None if byte is None else byte & LpiConfig.enable.mask
    irq.priority = None if byte is None else byte & LpiConfig.priority.mask
    return True


def inject(vm: XenVm, intid: int) -> None:
    """Make a live LPI pending on its vCPU (vgic_vcpu_inject_lpi); a lower INTID goes nowhere."""
    number = vm.state.tree.get(intid) if intid >= FIRST_LPI else None
    irq = None if number is None else vm.state.irqs[number]
    if irq is None or not 0 <= irq.vcpu < vm.cpus:
        return
    if vm.doubt:
        vm.bound[len(vm.effects)] = f"assumed: {vm.doubt}"
        vm.doubt = ""
    vm.effects.append((effects.LPI, intid, irq.vcpu))
    if irq.queued == NOWHERE or irq.maybe:
        irq.queued = irq.vcpu
    irq.maybe = 0


def clear(irq: PendingIrq) -> None:
    """Take an LPI from its queue, unless the guest sees it already, which is not known here."""
    if irq.queued == NOWHERE or irq.enabled == 0:
        irq.queued, irq.maybe = NOWHERE, 0
    else:
        irq.maybe = 1
