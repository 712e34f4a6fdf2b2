"""Xen's table entries: their bits, and fast packing and unpacking.

The layouts are the facts (vgic-v3-its.c: dev_table_entry_t, coll_table_entry_t, struct vits_itte);
a test holds the functions to them. A device table entry has no valid bit, a collection table entry
is a vCPU number and nothing else.
"""

from __future__ import annotations

from typing import Final

from tracer.its.layout import Layout, address, bits

DTE_SIZE_BYTES: Final = 8
CTE_SIZE_BYTES: Final = 2
ITTE_SIZE_BYTES: Final = 8

ITT_ADDRESS_MASK: Final = (1 << 52) - (1 << 8)
UNMAPPED: Final = 0xFFFF  # the collection table entry of an unmapped collection
NO_LPI: Final = 0  # the vLPI of an event that is not mapped


class Dte(Layout, width=64):
    """Device table entry."""

    size = bits(4, 0, "SIZE")  # EventID bits - 1
    itt_addr = address(51, 8, "ITTADDR")


class Cte(Layout, width=16):
    """Collection table entry."""

    vcpu = bits(15, 0, "VCPU")


class Itte(Layout, width=64):
    """Interrupt translation table entry. Xen never sets the upper 16 bits: see `pack_itte`."""

    vlpi = bits(31, 0, "VLPI")
    collection = bits(47, 32, "COLLECTION")


def unpack_dte(raw: int) -> tuple[int, int]:
    """Return (size, itt_addr)."""
    return raw & 0x1F, raw & ITT_ADDRESS_MASK


def pack_dte(size: int, itt_addr: int) -> int:
    """Return the doubleword; what is wider than its place is cut."""
    return size & 0x1F | itt_addr & ITT_ADDRESS_MASK


# MAPD with V=0 stores the entry of an all-ones address. Masked, it equals no "invalid address".
DTE_UNMAPPED: Final = pack_dte(0, (1 << 64) - 1)


def unpack_itte(raw: int) -> tuple[int, int]:
    """Return (vlpi, collection)."""
    return raw & 0xFFFF_FFFF, raw >> 32 & 0xFFFF


def pack_itte(vlpi: int, collection: int) -> int:
    """Return the doubleword. The padding is whatever was on Xen's stack; it is 0 here."""
    return vlpi & 0xFFFF_FFFF | (collection & 0xFFFF) << 32
