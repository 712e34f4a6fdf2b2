"""LPIs in guest RAM: where the configuration byte and the pending bit of an INTID are.

Source: Linux arm-gic-v3.h @3a32b7df (LPI_PROP_*), the same in QEMU's arm_gicv3_redist.c.
"""

from __future__ import annotations

from typing import Final

from tracer.its.layout import Layout, bit, bits

FIRST_LPI: Final = 8192
# The first KiB of a pending table stands for INTIDs below 8192 and is not used by LPIs.
PENDING_UNUSED_BYTES: Final = FIRST_LPI // 8


class LpiConfig(Layout, width=8):
    """One byte of the LPI configuration table. The priority is used with its low bits zero."""

    enable = bit(0, "Enable")
    group1 = bit(1, "Group1")
    priority = bits(7, 2, "Priority")


def config_byte(propbase: int, intid: int) -> int:
    """Return the guest address of the configuration byte of LPI `intid`."""
    return propbase + intid - FIRST_LPI


def pending_bit(pendbase: int, intid: int) -> tuple[int, int]:
    """Return (guest address of the byte, bit number) of the pending bit of LPI `intid`."""
    return pendbase + intid // 8, intid % 8
