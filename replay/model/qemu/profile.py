"""What QEMU's ITS chooses where the architecture leaves a choice, and the flags of its bugs.

Values after reset as measured on 7.2.22 and 10.0.13 (the vectors); code asks a profile for its
fields and never for its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class QemuProfile:
    """Constants first, then one flag for each historical difference, true where it is fixed."""

    typer: int = 0x1F0001EFB1
    iidr: int = 0x43B
    ctlr_reset: int = 0x8000_0000
    baser_reset: tuple[int, ...] = (0x0107_0000_0000_0200, 0x0407_0000_0000_0200, 0, 0, 0, 0, 0, 0)
    pidr0: int = 0x94
    pidr2: int = 0x3B
    gicr_ctlr_reset: int = 0x2  # CES
    creadr_writable: bool = True  # GICD_CTLR.DS is 1 on a machine without EL3
    virtual: bool = False
    intid_bits: int = 16
    creadr_kept_on_enable: bool = True
    cwriter_kept_on_cbaser_write: bool = True
    unimplemented_baser_ignores_writes: bool = True
    movi_implemented: bool = True
    movall_implemented: bool = True
    ite_high_word_stored_apart: bool = True
    vpe_level1_fault_stalls: bool = True


class FlagRow(NamedTuple):
    """One behaviour flag of QEMU's ITS: where it comes from, as `replay.model.kvm.flags` has it."""

    name: str
    bug: str
    commit: str
    subject: str
    first: str


_SERIES: Final = "series of January 2022, Message-ID 20220122182444.724087"

FLAGS: Final[tuple[FlagRow, ...]] = (
    FlagRow(
        "creadr_kept_on_enable", "Q2", "unknown",
        f"Don't clear GITS_CREADR when GITS_CTLR.ENABLED is set ({_SERIES})", "v7.0",
    ),
    FlagRow(
        "cwriter_kept_on_cbaser_write", "Q3", "unknown",
        f"Don't clear GITS_CWRITER on writes to GITS_CBASER ({_SERIES})", "v7.0",
    ),
    FlagRow(
        "unimplemented_baser_ignores_writes", "Q4", "unknown",
        f"Make GITS_BASER<n> RAZ/WI for unimplemented registers ({_SERIES})", "v7.0",
    ),
    FlagRow("movi_implemented", "Q7", "unknown", f"Implement MOVI ({_SERIES})", "v7.0"),
    FlagRow("movall_implemented", "Q7", "unknown", f"Implement MOVALL ({_SERIES})", "v7.0"),
    FlagRow(
        "ite_high_word_stored_apart", "Q10", "unknown",
        "the high word of an ITE is stored at +8; before, at +4 over the low doubleword", "v7.0",
    ),
    FlagRow(
        "vpe_level1_fault_stalls", "-", "unknown",
        "a fault in the level-1 vPE table stalls the queue; no longer in 10.0 (read, not run)",
        "v7.0 (false since v10.0 or earlier)",
    ),
)  # fmt: skip

QEMU_V3: Final[QemuProfile] = QemuProfile()
QEMU_V4: Final[QemuProfile] = QemuProfile(
    typer=0x3F0001EFB3,
    baser_reset=(
        0x0107_0000_0000_0200, 0x0407_0000_0000_0200, 0x0207_0000_0000_0200, 0, 0, 0, 0, 0,
    ),
    pidr2=0x4B,
    virtual=True,
)  # fmt: skip
QEMU_V4_10: Final[QemuProfile] = replace(QEMU_V4, vpe_level1_fault_stalls=False)
# As read at 00d46e72e97d, before the series.
QEMU_6_2: Final[QemuProfile] = replace(
    QEMU_V3,
    creadr_kept_on_enable=False,
    cwriter_kept_on_cbaser_write=False,
    unimplemented_baser_ignores_writes=False,
    movi_implemented=False,
    movall_implemented=False,
    ite_high_word_stored_apart=False,
    gicr_ctlr_reset=0,
    pidr0=0x92,
)
