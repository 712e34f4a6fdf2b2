"""What is not known of a VM that a recording joined in the middle of its life, and of its registers.

Registers are named as components are; GICR_PROPBASER is one for the whole VM. A CTRL_RESET defines
the ITS again (`reset`), writes do what they set, and a read shows what it shows (`learn`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.model.kvm.layout import U64
from replay.model.kvm.state import BLIND

if TYPE_CHECKING:
    from replay.model.kvm.state import State

_ITS: Final = {
    "GITS_CTLR": 1,
    "GITS_CBASER": U64,
    "GITS_CWRITER": U64,
    "GITS_CREADR": U64,
    "GITS_BASER0": U64,
    "GITS_BASER1": U64,
}
_ATTRIBUTE: Final = {
    "GITS_CBASER": "cbaser",
    "GITS_CWRITER": "cwriter",
    "GITS_CREADR": "creadr",
    "GITS_BASER0": "device_baser",
    "GITS_BASER1": "coll_baser",
    "GICR_PROPBASER": "propbaser",
}
GICD_IIDR_REVISION: Final = 0xF000
GICD_TYPER_LINES: Final = 0x1F
_GROUP1: Final = 2
_QUIESCENT: Final = 1 << 31
_CES_IR: Final = 0b110


def join(state: State) -> None:
    """Take everything that only a VM's past tells as unknown."""
    registers = _ITS | {
        "GICR_PROPBASER": U64,
        "GICD_CTLR": _GROUP1,
        "GICD_IIDR": GICD_IIDR_REVISION,
    }
    for cpu in range(len(state.vcpu_ids)):
        registers |= {f"GICR_CTLR[{cpu}]": 1, f"GICR_PENDBASER[{cpu}]": U64}
    for name, bits in registers.items():
        state.unknown.doubt(name, bits)
    state.blind = BLIND
    state.strays = True


def unknown_of(state: State, name: str) -> int:
    """Return the unknown bits of a register as it reads, by its component's name."""
    unknown = state.unknown
    if not unknown:
        return 0
    if name == "GITS_CTLR" and (unknown.of("GITS_CREADR") or unknown.of("GITS_CWRITER")):
        return unknown.of(name) | _QUIESCENT
    if name.startswith("GICR_CTLR["):
        return unknown.of(name) | (_CES_IR if unknown.of("GICD_IIDR") else 0)
    return unknown.of("GICR_PROPBASER" if name.startswith("GICR_PROPBASER[") else name)


def learn(state: State, name: str, value: int, mask: int) -> None:
    """Take what a read showed: `value`, of which the bits of `mask` were read, in their place."""
    name = "GICR_PROPBASER" if name.startswith("GICR_PROPBASER[") else name
    mask &= unknown_of(state, name)
    register, _, cpu = name.removesuffix("]").partition("[")
    if register == "GITS_CTLR" and mask & 1:
        state.enabled = bool(value & 1)
    elif register == "GICR_CTLR":
        _learn_gicr_ctlr(state, int(cpu), value, mask)
    elif register == "GICR_PENDBASER":
        state.pendbasers[int(cpu)] = _merged(state.pendbasers[int(cpu)], value, mask)
    elif register == "GICD_CTLR" and mask:
        state.gicd_enabled = bool(value & _GROUP1)
    elif register == "GICD_IIDR" and mask:
        state.implementation_revision = (value & GICD_IIDR_REVISION) >> 12
    elif register == "GICD_TYPER" and mask:
        state.irqs = ((value & GICD_TYPER_LINES) + 1) << 5
    elif register in _ATTRIBUTE:
        attribute = _ATTRIBUTE[register]
        setattr(state, attribute, _merged(getattr(state, attribute), value, mask))
    state.unknown.know(name, mask)


def _learn_gicr_ctlr(state: State, cpu: int, value: int, mask: int) -> None:
    if mask & 1:
        state.lpis_enabled[cpu] = bool(value & 1)
    if mask & _CES_IR:  # shown from implementation revision 3 on; KVM offers 2 and 3
        state.implementation_revision = 3 if value & _CES_IR else 2
        state.unknown.know("GICD_IIDR")


def _merged(old: int, value: int, mask: int) -> int:
    return old & ~mask | value & mask
