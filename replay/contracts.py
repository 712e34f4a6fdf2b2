"""What an implementation promises of its reset, clause by clause, as data with citations.

Paraphrased, never quoted. A component that no clause speaks of is `unspecified` when it differs
from a fresh device. `mask` names the bits that a clause binds; `word` is `must` (equal to a fresh
device) or `kept` (allowed to survive).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ALL_BITS: Final = (1 << 64) - 1
MUST: Final = "must"
KEPT: Final = "kept"


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise about the components whose whole name matches `component`."""

    component: str
    says: str
    source: str
    mask: int = ALL_BITS
    word: str = MUST


_ITS: Final = "QEMU hw/intc/arm_gicv3_its.c @ad0c954dd948, reset"
_COMMON: Final = "QEMU hw/intc/arm_gicv3_its_common.c @000dc91c0ef1, reset"
_GIC: Final = "QEMU hw/intc/arm_gicv3_common.c @01b5ab8c, reset"

QEMU_RESET: Final = (
    Clause("GITS_CTLR", "CTLR is zeroed, then Quiescent is set", _ITS),
    Clause("GITS_CBASER", "CBASER is zeroed", _COMMON),
    Clause("GITS_CWRITER", "CWRITER is zeroed", _COMMON),
    Clause("GITS_CREADR", "CREADR is zeroed", _COMMON),
    Clause("GITS_BASER[0-7]", "BASER is zeroed, then given its type, entry and page size", _ITS),
    Clause("GITS_(IIDR|TYPER|PIDR2)", "identification does not change", _ITS),
    Clause(
        "devices|events|collections|vpes",
        "nothing is cached: with every BASER invalid no mapping can be reached",
        "QEMU hw/intc/arm_gicv3_its.c @ad0c954dd948, get_dte, get_ite, get_cte",
    ),
    Clause(r"GICR_CTLR\[\d+\]", "GICR_CTLR is zeroed, then CES is set", _GIC),
    Clause(r"GICR_V?PROPBASER\[\d+\]", "PROPBASER and VPROPBASER are zeroed", _GIC),
    Clause(r"GICR_V?PENDBASER\[\d+\]", "PENDBASER and VPENDBASER are zeroed", _GIC),
    Clause(r"best vLPI\[\d+\]", "no vLPI is the best pending one", _GIC),
)

_KVM: Final = (
    'Linux Documentation/virt/kvm/devices/arm-vgic-its.rst @1a931707ad4a, "ITS Reset State"'
)
# KVM sanitises the attributes of what is written, so zeroes do not read as on a fresh device.
_PUT: Final = "QEMU hw/intc/arm_gicv3_kvm.c, kvm_arm_gicv3_put"
_ADDRESS_51_12: Final = (1 << 52) - (1 << 12)
_ADDRESS_51_16: Final = (1 << 52) - (1 << 16)
_CACHED: Final = "devices|events|collections|translation_cache|lpis"

KVM_CTRL_RESET: Final = (
    Clause("GITS_CTLR", "Enabled is 0 and Quiescent is 1", _KVM, 1 << 31 | 1),
    Clause("GITS_CBASER|GITS_CWRITER|GITS_CREADR", "CBASER, CWRITER and CREADR are 0", _KVM),
    Clause("GITS_BASER[01]", "the device and collection BASER have Valid 0", _KVM, 1 << 63),
    Clause("GITS_IIDR", "the ABI revision is the one of creation", _KVM),
    Clause(_CACHED, "there is no internally cached state", _KVM),
    Clause(r"GICR_CTLR\[\d+\]", "a system reset writes EnableLPIs 0", _PUT, 1),
    Clause(
        r"GICR_PROPBASER\[\d+\]",
        "a system reset writes 0: no table, of no size",
        _PUT,
        _ADDRESS_51_12 | 0x1F,
    ),
    Clause(r"GICR_PENDBASER\[\d+\]", "a system reset writes 0: no table", _PUT, _ADDRESS_51_16),
)

_FALLBACK: Final = (
    "QEMU hw/intc/arm_gicv3_its_kvm.c @06b40d250ecf, reset hold, and Linux vgic-its.c"
)

KVM_REGISTER_FALLBACK: Final = (
    Clause("GITS_CTLR", "Enabled is written 0", _FALLBACK, 1),
    Clause("GITS_CBASER", "CBASER is written 0 and sanitised: Valid is 0", _FALLBACK, 1 << 63),
    Clause("GITS_CWRITER|GITS_CREADR", "a CBASER write zeroes CREADR and CWRITER", _FALLBACK),
    Clause("GITS_BASER[01]", "BASER is written 0 and sanitised: Valid is 0", _FALLBACK, 1 << 63),
    Clause("GITS_IIDR", "IIDR is not written", _FALLBACK),
    Clause(
        "devices|events|collections|translation_cache",
        "a BASER that becomes invalid frees the list of its table, CTLR 0 the cache",
        "Linux 36d6961c2b48 (in v4.15), vgic_mmio_write_its_baser",
    ),
    Clause("lpis", "nothing is written that would retire a queued LPI", _FALLBACK, word=KEPT),
)

# Xen makes a domain's ITS with the domain and frees it with it (xen/arch/arm/vgic-v3-its.c,
# vgic_v3_its_init_domain and vgic_v3_its_free_domain, as read for its profile): it has no reset,
# and promises nothing of one.
XEN_RESET: Final[tuple[Clause, ...]] = ()

# (family, how) -> clauses; how None is every other reset of that family
CONTRACTS: Final = {
    ("qemu", None): QEMU_RESET,
    ("kvm", None): KVM_CTRL_RESET,
    ("kvm", "register_fallback"): KVM_REGISTER_FALLBACK,
    ("xen", None): XEN_RESET,
}


def clause_for(family: str, how: str, component: str) -> Clause | None:
    """Return the clause of a family's contract for a reset that speaks of `component`, or None."""
    clauses = CONTRACTS.get((family, how)) or CONTRACTS[family, None]
    for clause in clauses:
        if re.fullmatch(clause.component, component):
            return clause
    return None
