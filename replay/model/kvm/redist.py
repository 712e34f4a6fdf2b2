"""GICR_* registers of each vCPU, and the few GICD_* that matter to LPIs.

The VMM's accesses (KVM_DEV_ARM_VGIC_GRP_REDIST_REGS and DIST_REGS) are 32 bits wide and reach the
guest's handlers, except where said. Registers of SGIs, PPIs and SPIs are not modelled: they read as
zero and ignore writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.kvm.cache import invalidate
from replay.model.kvm.layout import (
    EBUSY,
    EINVAL,
    GUEST,
    MIN_LPI,
    OUTER_NC,
    PROPBASER_ADDRESS,
    PTZ,
    U32,
    U64,
)
from replay.model.kvm.lpi import (
    ANY_VCPU,
    enable_lpis,
    flush_queue,
    invalidate_all_config,
    update_config,
)
from replay.model.kvm.registers import sanitise
from replay.model.kvm.state import HostCrash

if TYPE_CHECKING:
    from replay.model.kvm.state import State

_CTLR: Final = 0x0
_IIDR: Final = 0x4
_TYPER: Final = 0x8
_PROPBASER: Final = 0x70
_PENDBASER: Final = 0x78
_INVLPIR: Final = 0xA0
_INVALLR: Final = 0xB0
_PIDR2: Final = 0xFFE8

_PROPBASER_RES0: Final = 0xF8F0_0000_0000_0060
_PENDBASER_RES0: Final = 0xB8F0_0000_0000_F07F
_CTLR_CES_IR: Final = 0b110
_WIDE: Final = frozenset({_TYPER, _PROPBASER, _PENDBASER, _INVLPIR, _INVALLR})

_GICD_TYPER: Final = 15 << 19 | 1 << 17  # 16 bits of INTID, LPIs; the number of INTIDs is the VMM's
_GICD_STATUSR: Final = 0x10
_IIDR_REVISION: Final = 0xF000
_IIDR_KVM: Final = 0x4B00_043B
_PRIVATE_INTIDS: Final = 32


def _sanitise(state: State, value: int, reserved: int) -> int:
    default = 0 if state.flags.outer_cacheability_same_as_inner else OUTER_NC
    if not state.flags.addresses_have_52_bits:
        reserved |= 0xF << 48
    return sanitise(value, 7, 56, outer_default=default) & ~reserved


def _merge(old: int, offset: int, size: int, value: int) -> int:
    if size == 8:
        return value
    shift = 32 if offset & 4 else 0
    return old & ~(U32 << shift) | (value & U32) << shift


def _write_ctlr(state: State, cpu: int, value: int) -> None:
    """`vgic_mmio_write_v3r_ctlr`: only EnableLPIs, and only its edges do something."""
    enable = bool(value & 1)
    name = f"GICR_CTLR[{cpu}]"
    if enable == state.lpis_enabled[cpu] and not state.unknown.of(name) & 1:
        return
    state.unknown.know(name, 1)
    state.lpis_enabled[cpu] = enable
    if enable:
        enable_lpis(state, cpu)
        return
    # Linux 96085b949672 ("vgic-v3: Retire pending interrupts on disabling LPIs") (in v5.1).
    if state.flags.disable_lpis_retires_queued:
        flush_queue(state, cpu)
    invalidate(state)


def _write_invlpir(state: State, intid: int) -> None:
    """`vgic_mmio_write_invlpi`: the INV command without an ITS, for one INTID."""
    if intid < MIN_LPI:
        # Linux d561491ba927 ("vgic-v3: Sanitise guest writes to GICR_INVLPIR") (in v6.13): before,
        # a private INTID was looked up in no vCPU at all.
        if intid < _PRIVATE_INTIDS and not state.flags.invlpir_ignores_other_intids:
            gpa = (state.propbaser & PROPBASER_ADDRESS) + intid - MIN_LPI
            readable = state.ram.backed(gpa)
            raise HostCrash("update_lpi_config" if readable else "vgic_put_irq")
        return
    irq = state.lpis.get(intid)
    if irq is not None:
        update_config(state, irq, ANY_VCPU)


def _reaches(offset: int, size: int) -> bool:
    """Say whether an access is aligned and no wider than its register."""
    if size == 8:
        return offset in _WIDE
    return size == 4 and not offset & 3


def gicr_write(state: State, origin: int, cpu: int, offset: int, size: int, value: int) -> int:
    """Write a redistributor register of a vCPU (by index); returns 0 or -EINVAL for no vCPU."""
    if not 0 <= cpu < len(state.vcpu_ids):
        return EINVAL
    if origin != GUEST:
        size, value = 4, value & U32
    if not _reaches(offset, size):
        return 0
    register = offset & ~4 if offset & ~4 in _WIDE else offset
    if register == _CTLR:
        _write_ctlr(state, cpu, value)
    elif register in (_PROPBASER, _PENDBASER):
        _write_baser(state, cpu, offset, size, value)
    elif register in (_INVLPIR, _INVALLR):
        _write_invalidation(state, cpu, offset, value & U32)
    return 0


def _write_baser(state: State, cpu: int, offset: int, size: int, value: int) -> None:
    """Write PROPBASER or PENDBASER; ignored while the vCPU's LPIs are enabled.

    PROPBASER is one for the whole VM, but guarded by the writing vCPU alone.
    """
    name = "GICR_PROPBASER" if offset & ~4 == _PROPBASER else f"GICR_PENDBASER[{cpu}]"
    if state.unknown.of(f"GICR_CTLR[{cpu}]") & 1:
        state.unknown.doubt(name)  # whether it was ignored is not known
        return
    if state.lpis_enabled[cpu]:
        return
    state.unknown.know(name, _merge(0, offset, size, U64))
    if offset & ~4 == _PROPBASER:
        merged = _merge(state.propbaser, offset, size, value)
        state.propbaser = _sanitise(state, merged, _PROPBASER_RES0)
    else:
        merged = _merge(state.pendbasers[cpu], offset, size, value)
        state.pendbasers[cpu] = _sanitise(state, merged, _PENDBASER_RES0)


def _write_invalidation(state: State, cpu: int, offset: int, intid: int) -> None:
    """Write INVLPIR or INVALLR; a write of the upper half alone is for vPEs and ignored.

    Linux 4645d11f4a55 ("vgic-v3: Implement MMIO-based LPI invalidation") (in v5.19).
    """
    off = not state.lpis_enabled[cpu] and not state.unknown.of(f"GICR_CTLR[{cpu}]") & 1
    if not state.flags.lpi_invalidation_registers or off:
        return
    if offset == _INVLPIR:
        _write_invlpir(state, intid)
    elif offset == _INVALLR:
        invalidate_all_config(state, cpu)


def gicr_read(state: State, origin: int, cpu: int, offset: int, size: int) -> tuple[int, int]:
    """Read a redistributor register of a vCPU (by index); returns (value, 0 or -EINVAL)."""
    if not 0 <= cpu < len(state.vcpu_ids):
        return 0, EINVAL
    if origin != GUEST:
        size = 4
    if not _reaches(offset, size):
        return 0, 0
    register = offset & ~4 if offset & ~4 in _WIDE else offset
    value = _gicr_value(state, origin, cpu, register)
    if size == 4 and offset & 4 and register in _WIDE:
        value >>= 32
    return value & (U32 if size == 4 else ~0), 0


def _gicr_value(state: State, origin: int, cpu: int, register: int) -> int:
    """Return a whole redistributor register."""
    if register == _CTLR:
        shows = _CTLR_CES_IR if state.implementation_revision >= 3 else 0
        return state.lpis_enabled[cpu] | shows
    if register == _PROPBASER:
        return state.propbaser
    if register == _PENDBASER:
        hidden = PTZ if state.flags.pendbaser_ptz_reads_zero else 0
        return state.pendbasers[cpu] & ~hidden
    if register == _TYPER:
        return _typer(state, origin, cpu)
    if register == _IIDR:
        return _IIDR_KVM
    return 0x3B if register == _PIDR2 else 0


def _typer(state: State, origin: int, cpu: int) -> int:
    """Return GICR_TYPER: affinity, processor number, Last, PLPIS."""
    vcpu_id = state.vcpu_ids[cpu]
    affinity = vcpu_id & 0xF | (vcpu_id >> 4 & 0xFF) << 8 | (vcpu_id >> 12 & 0xFF) << 16
    last = cpu == len(state.vcpu_ids) - 1
    if origin != GUEST and not state.flags.vmm_sees_gicr_typer_last:
        last = False
    return affinity << 32 | (vcpu_id & 0xFFFF) << 8 | last << 4 | 1


def gicd_write(state: State, origin: int, offset: int, size: int, value: int) -> int:
    """Write a distributor register; returns 0 or -errno.

    Enabling group 1 queues nothing by itself: an LPI that became pending before waits for whatever
    looks at it next.
    """
    if origin != GUEST:
        size, value = 4, value & U32
    if size != 4 or offset & 3 or offset > 0xC:
        return 0
    if offset == 0x0:
        state.unknown.know("GICD_CTLR")
        state.gicd_enabled = bool(value & 2)
    elif origin == GUEST:
        return 0
    elif offset == 0x8:
        return _vmm_write_iidr(state, value)
    elif offset == 0xC and value:
        return EBUSY if state.flags.gicd_typer2_fixed_once_initialised else EINVAL
    return 0


def _vmm_write_iidr(state: State, value: int) -> int:
    """Select the GIC's implementation revision (`vgic_mmio_uaccess_write_v3_misc`)."""
    old = _IIDR_KVM | state.implementation_revision << 12
    if not state.flags.gic_implementation_revision:
        return 0  # the field did not exist, and the write was the guest's, ignored
    if state.flags.gic_implementation_revision < 3:
        return EINVAL if value != old else 0
    if (old ^ value) & ~_IIDR_REVISION:
        return EINVAL
    # "vgic: Fix IIDR revision field extracted from wrong value": before, the new revision was
    # taken from the old value.
    revision = (value if state.flags.gicd_iidr_takes_new_revision else old) >> 12 & 0xF
    if revision not in (2, 3):
        return EINVAL
    state.implementation_revision = revision
    state.unknown.know("GICD_IIDR")
    return 0


def gicd_read(state: State, origin: int, offset: int, size: int) -> tuple[int, int]:
    """Read a distributor register; returns (value, 0)."""
    if origin != GUEST:
        size = 4
    if size != 4 or offset & 3:
        return 0, 0
    if offset == 0x0:
        return state.gicd_enabled << 1 | 0x50, 0
    if offset == 0x4:
        return _GICD_TYPER | (state.irqs >> 5) - 1, 0
    if offset == 0x8:
        return _IIDR_KVM | state.implementation_revision << 12, 0
    if offset == _GICD_STATUSR:
        return U32, 0
    return 0x3B if offset == _PIDR2 else 0, 0
