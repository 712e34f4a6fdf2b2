"""What an implementation promises of its reset, clause by clause, as data with citations.

Paraphrased, never quoted. A component that no clause speaks of is `unspecified` when it differs
from a fresh device. `mask` names the bits that a clause binds; `word` is `must` (equal to a fresh
device) or `kept` (allowed to survive). What no access can read may be `shown` by registers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

ALL_BITS: Final = (1 << 64) - 1
MUST: Final = "must"
KEPT: Final = "kept"


@dataclass(frozen=True, slots=True)
class Shown:
    """What shows a component that nothing can read: bits of registers, seen as a fresh device has.

    `by` are (whole names of registers, bits); all of them must have been seen.
    """

    by: tuple[tuple[str, int], ...]
    because: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise about the components whose whole name matches `component`.

    `tables` limits it to what became of the component's table in a reinit (see `Repointed`), and
    `needs` to implementations with this behaviour flag.
    """

    component: str
    says: str
    source: str
    mask: int = ALL_BITS
    word: str = MUST
    shown: Shown | None = None
    tables: str = ""
    needs: str = ""


_VALID: Final = 1 << 63
_ENABLED: Final = 1
_UNREACHABLE: Final = Shown(
    (("GITS_CTLR", _ENABLED), ("GITS_CBASER", _VALID), ("GITS_BASER[0-7]", _VALID)),
    "Enabled 0, and Valid 0 in CBASER and in every BASER, were seen: QEMU keeps no mapping outside "
    "the tables that the BASERs name, so none can be reached",
)
_NOT_RESIDENT: Final = Shown(
    ((r"GICR_VPENDBASER\[\d+\]", _VALID),),
    "Valid 0 was seen in every VPENDBASER: no vPE is resident, and one that becomes so has its "
    "pending table looked through anew",
)

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
        shown=_UNREACHABLE,
    ),
    Clause(r"GICR_CTLR\[\d+\]", "GICR_CTLR is zeroed, then CES is set", _GIC),
    Clause(r"GICR_V?PROPBASER\[\d+\]", "PROPBASER and VPROPBASER are zeroed", _GIC),
    Clause(r"GICR_V?PENDBASER\[\d+\]", "PENDBASER and VPENDBASER are zeroed", _GIC),
    Clause(r"best vLPI\[\d+\]", "no vLPI is the best pending one", _GIC, shown=_NOT_RESIDENT),
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

# -- reinit: a guest disables an ITS, gives it other tables and enables it again, without a reset

# What became of a component's table between disabling and enabling.
INVALIDATED: Final = "invalidated"  # its BASER had Valid 0 in between
CHANGED: Final = "changed"  # its BASER names another table, and was valid all the time
SAME: Final = "same"
# The register that names the table of a component, of every implementation here.
TABLE_OF: Final = {
    "devices": "GITS_BASER0",
    "events": "GITS_BASER0",
    "collections": "GITS_BASER1",
    "vpes": "GITS_BASER2",
}

_BASER_DOES: Final = "Linux vgic-its.c, vgic_mmio_write_its_baser"
_GUESTS_OWN: Final = (
    Clause(
        "|".join(TABLE_OF), "its table is the same", "the guest's writes", word=KEPT, tables=SAME
    ),
    Clause(
        r"GICR_.*\[\d+\]",
        "a kernel takes its predecessor's LPI tables over, or disables LPIs and names its own",
        "Linux drivers/irqchip/irq-gic-v3-its.c, enabled_lpis_allowed, redist_disable_lpis",
        word=KEPT,
    ),
)

KVM_REINIT: Final = (
    *_GUESTS_OWN,
    Clause(
        "devices|events|collections",
        "a BASER that becomes invalid frees the list of its table",
        f"36d6961c2b48 (in v4.15), {_BASER_DOES}",
        tables=INVALIDATED,
        needs="baser_invalid_frees_list",
    ),
    Clause(
        "devices|events|collections",
        "a BASER that changes frees the list of its table",
        f"8cd92f77ae4f (v7.3-rc), {_BASER_DOES}",
        needs="baser_change_frees_list",
    ),
    Clause(
        "translation_cache", "clearing Enabled drops the cache", "Linux vgic-its.c (since v5.4)"
    ),
    Clause(
        "lpis",
        "a pending LPI is its redistributor's until EnableLPIs is cleared",
        "Linux 96085b949672, vgic_flush_pending_lpis",
        word=KEPT,
    ),
)

QEMU_REINIT: Final = (
    *_GUESTS_OWN,
    *(
        Clause(
            component,
            "enabling takes the tables from the BASERs, and nothing is cached",
            "QEMU hw/intc/arm_gicv3_its.c @ad0c954dd948, extract_table_params",
            shown=Shown(
                ((baser, ALL_BITS),),
                f"{baser} was read back as it was written: QEMU keeps no mapping outside the "
                "tables that the BASERs name",
            ),
        )
        for component, baser in TABLE_OF.items()
    ),
)

# Why no clause speaks of a list that outlives its table, for whoever wonders.
NOT_FREED: Final = (
    "this kernel frees a list when its BASER becomes invalid, not when it names another table "
    "(Linux 8cd92f77ae4f does, since v7.3-rc): SAVE_TABLES would write what is left into the new tables"
)

# (family, how) -> clauses; how None is every other reset of that family
CONTRACTS: Final = {
    ("qemu", None): QEMU_RESET,
    ("qemu", "reinit"): QEMU_REINIT,
    ("kvm", None): KVM_CTRL_RESET,
    ("kvm", "register_fallback"): KVM_REGISTER_FALLBACK,
    ("kvm", "reinit"): KVM_REINIT,
    ("xen", None): XEN_RESET,
}


def clause_for(profile: Any, how: str, component: str, tables: str = "") -> Clause | None:
    """Return the clause of a profile's contract for a reset that speaks of `component`, or None.

    `tables` says of a reinit what became of the component's table.
    """
    clauses = CONTRACTS.get((profile.family, how)) or CONTRACTS[profile.family, None]
    for clause in clauses:
        if (
            re.fullmatch(clause.component, component)
            and clause.tables in ("", tables)
            and (not clause.needs or getattr(profile.choices, clause.needs))
        ):
            return clause
    return None
