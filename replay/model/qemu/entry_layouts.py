"""The bits of QEMU's table entries (QEMU hw/intc/gicv3_internal.h @83baec642a13).

There they are called DTE, CTE, ITE_L and ITE_H, and VTE. Counterpart: `replay.model.qemu.entries`.
"""

from __future__ import annotations

from tracer.its.layout import Layout, address, bit, bits


class Dte(Layout, width=64):
    """Device table entry."""

    valid = bit(0, "VALID")
    size = bits(5, 1, "SIZE")  # EventID bits - 1
    itt_addr = address(49, 6, "ITTADDR", place=8)


class Cte(Layout, width=64):
    """Collection table entry."""

    valid = bit(0, "VALID")
    rdbase = bits(16, 1, "RDBASE")


class Ite(Layout, width=96):
    """Interrupt translation entry: ITE_L, and ITE_H from bit 64."""

    valid = bit(0, "VALID")
    inttype = bit(1, "INTTYPE")
    intid = bits(25, 2, "INTID")
    icid = bits(47, 32, "ICID")
    vpe_id = bits(63, 48, "VPEID")
    doorbell = bits(87, 64, "DOORBELL")


class Vte(Layout, width=64):
    """vPE table entry."""

    valid = bit(0, "VALID")
    vpt_size = bits(5, 1, "VPTSIZE")
    vpt_addr = address(41, 6, "VPTADDR", place=16)
    rdbase = bits(57, 42, "RDBASE")
