"""What QEMU's ITS chooses where the architecture leaves a choice, and the flags of its bugs.

Values after reset as measured on 7.2.22 and 10.0.13 (the vectors); code asks a profile for its
fields and never for its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class QemuProfile:
    """Constants first, then one flag for each historical difference."""

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


QEMU_V3: Final = QemuProfile()
QEMU_V4: Final = QemuProfile(
    typer=0x3F0001EFB3,
    baser_reset=(
        0x0107_0000_0000_0200, 0x0407_0000_0000_0200, 0x0207_0000_0000_0200, 0, 0, 0, 0, 0,
    ),
    pidr2=0x4B,
    virtual=True,
)  # fmt: skip
