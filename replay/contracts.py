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

CONTRACTS: Final = {"qemu": QEMU_RESET}


def clause_for(family: str, component: str) -> Clause | None:
    """Return the clause of `family`'s contract that speaks of `component`, or None."""
    for clause in CONTRACTS[family]:
        if re.fullmatch(clause.component, component):
            return clause
    return None
