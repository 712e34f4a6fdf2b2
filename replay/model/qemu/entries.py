"""QEMU's table entries, packed and unpacked: what the replay loop calls.

Counterpart: `replay.model.qemu.entry_layouts`, which says the same as facts; a test holds the two
together. Addresses are addresses here: the shifts by 8 and 16 that QEMU stores them with are undone.
"""

from __future__ import annotations

from typing import Final

DTE_SIZE_BYTES: Final = 8
CTE_SIZE_BYTES: Final = 8
ITE_SIZE_BYTES: Final = 12
VTE_SIZE_BYTES: Final = 8

PHYSICAL: Final = 1
VIRTUAL: Final = 0

_MASK32: Final = 0xFFFF_FFFF
_MASK36: Final = (1 << 36) - 1
_MASK44: Final = (1 << 44) - 1


Dte = tuple[int, int, int]
Cte = tuple[int, int]
Ite = tuple[int, int, int, int, int, int]


def unpack_dte(raw: int) -> Dte:
    """Return (valid, size, itt_addr)."""
    return raw & 1, raw >> 1 & 0x1F, (raw >> 6 & _MASK44) << 8


def pack_dte(valid: int, size: int, itt_addr: int) -> int:
    """Return the doubleword as stored, whatever `valid` says."""
    return valid | size << 1 | (itt_addr >> 8 & _MASK44) << 6


def unpack_cte(raw: int) -> Cte:
    """Return (valid, rdbase)."""
    return raw & 1, raw >> 1 & 0xFFFF


def pack_cte(valid: int, rdbase: int) -> int:
    """Return the doubleword."""
    return valid | (rdbase & 0xFFFF) << 1


def unpack_ite(raw: int) -> Ite:
    """Return (valid, inttype, intid, icid, vpe_id, doorbell) of the 96 bits."""
    low, middle, high = raw & _MASK32, raw >> 32 & _MASK32, raw >> 64
    return (
        low & 1,
        low >> 1 & 1,
        low >> 2 & 0xFFFFFF,
        middle & 0xFFFF,
        middle >> 16,
        high & 0xFFFFFF,
    )


def pack_ite(valid: int, inttype: int, intid: int, icid: int, vpe_id: int, doorbell: int) -> int:
    """Return the 96 bits."""
    return valid | inttype << 1 | intid << 2 | icid << 32 | vpe_id << 48 | doorbell << 64


def unpack_vte(raw: int) -> tuple[int, int, int, int]:
    """Return (valid, vpt_size, vpt_addr, rdbase)."""
    return raw & 1, raw >> 1 & 0x1F, (raw >> 6 & _MASK36) << 16, raw >> 42 & 0xFFFF


def pack_vte(valid: int, vpt_size: int, vpt_addr: int, rdbase: int) -> int:
    """Return the doubleword; fields wider than their place are cut, as FIELD_DP64 does."""
    return (
        valid | (vpt_size & 0x1F) << 1 | (vpt_addr >> 16 & _MASK36) << 6 | (rdbase & 0xFFFF) << 42
    )
