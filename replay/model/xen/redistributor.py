"""The LPI registers of the redistributors (vgic-v3.c).

PROPBASER is one for the domain and is fixed once any vCPU has LPIs enabled; a vCPU's PENDBASER is
fixed once that vCPU has. LPIs are enabled once and never disabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.xen.attributes import sanitise
from replay.model.xen.lpi import lpis_of_bits
from replay.model.xen.registers import merged, part
from tracer.its.registers import Pendbaser, Propbaser

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm

_CTLR: Final = 0x0
_PROPBASER: Final = 0x70
_PENDBASER: Final = 0x78
_ALL: Final = (1 << 64) - 1
_PROPBASER_KEPT: Final = _ALL & ~Propbaser.reserved_
_PENDBASER_KEPT: Final = _ALL & ~Pendbaser.reserved_


def read(vm: XenVm, cpu: int, offset: int, size: int) -> int | None:
    """Return an LPI register's value, or None for what is not modelled or faults."""
    if offset == _CTLR and size == 4:
        return int(vm.state.lpis_enabled[cpu])
    wide = {
        _PROPBASER: vm.state.propbaser,
        _PENDBASER: vm.state.pendbasers[cpu] & ~Pendbaser.ptz.mask,
    }
    whole = wide.get(offset & ~4)
    return None if whole is None else part(whole, offset, size)


def write(vm: XenVm, cpu: int, offset: int, value: int, size: int) -> None:
    """Carry out a write to an LPI register; others are not modelled and are ignored."""
    if offset == _CTLR and size == 4:
        if value & 1 and not vm.state.lpis_enabled[cpu]:
            _enable(vm, cpu)
        return
    writer = {_PROPBASER: _write_propbaser, _PENDBASER: _write_pendbaser}.get(offset & ~4)
    if writer and part(0, offset, size) is not None:
        writer(vm, cpu, offset, value, size)


def _enable(vm: XenVm, cpu: int) -> None:
    """Enable LPIs (vgic_vcpu_enable_lpis); the first vCPU decides how many there are."""
    state = vm.state
    if not state.rdists_enabled:
        state.rdists_enabled = True
        state.lpi_count = lpis_of_bits(Propbaser.id_bits.get(state.propbaser) + 1)
    state.lpis_enabled[cpu] = True


def _write_propbaser(vm: XenVm, cpu: int, offset: int, value: int, size: int) -> None:
    state = vm.state
    if not state.rdists_enabled:
        new = merged(state.propbaser, offset, size, value)
        state.propbaser = sanitise(new, 7, 56) & _PROPBASER_KEPT


def _write_pendbaser(vm: XenVm, cpu: int, offset: int, value: int, size: int) -> None:
    state = vm.state
    if not state.lpis_enabled[cpu]:
        new = merged(state.pendbasers[cpu], offset, size, value)
        state.pendbasers[cpu] = sanitise(new, 7, 56) & _PENDBASER_KEPT
