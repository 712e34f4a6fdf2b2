"""Numbers of KVM's ITS: register offsets, masks, table entry formats, error codes.

Table entries are those of ABI revision 0, 8 bytes each (its.md 3.8).
"""

from __future__ import annotations

from typing import Final

from tracer.its.command_errors import COMMAND_ERRORS
from tracer.its.commands import COMMAND_SIZE_BYTES
from tracer.its.lpi import FIRST_LPI
from tracer.its.registers import Baser, Cbaser, Cwriter, Level1, Pendbaser, Propbaser

GUEST: Final = 0
VMM: Final = 1

EBUSY: Final = -16
EEXIST: Final = -17
EFAULT: Final = -14
EINVAL: Final = -22
ENODEV: Final = -19
ENXIO: Final = -6

U32: Final = 0xFFFF_FFFF
U64: Final = 0xFFFF_FFFF_FFFF_FFFF
VALID: Final = Baser.valid.mask
INDIRECT: Final = Baser.indirect.mask
PTZ: Final = Pendbaser.ptz.mask

MIN_LPI: Final = FIRST_LPI
LPI_ID_BITS: Final = 16
EVENT_ID_BITS: Final = 16
DEVICE_ID_BITS: Final = 16
PAGE_64K: Final = 1 << 16
ENTRY_BYTES: Final = 8
ENTRIES_PER_PAGE: Final = PAGE_64K // ENTRY_BYTES
NOT_MAPPED: Final = U32

MAX_NEXT_DEVICE: Final = (1 << 14) - 1
MAX_NEXT_EVENT: Final = (1 << 16) - 1

PENDBASER_ADDRESS: Final = Pendbaser.physical_address.mask
PROPBASER_ADDRESS: Final = Propbaser.physical_address.mask
# KVM takes level-1 entries to name 64 KiB pages.
L1_ADDRESS: Final = Level1.physical_address.mask & ~0xFFFF
COMMAND_BYTES: Final = COMMAND_SIZE_BYTES
COMMAND_OFFSET: Final = Cwriter.offset.mask

CTRL_INIT: Final = 0
CTRL_SAVE_TABLES: Final = 1
CTRL_RESTORE_TABLES: Final = 2
CTRL_RESET: Final = 4

# What GITS_TYPER says: Physical, 8-byte ITT entries, 16 EventID and DeviceID bits, PTA=0.
GITS_TYPER: Final = 0x1EF71
GITS_IIDR: Final = 0x4B00_043B
BASER_RESET: Final = 3 << 59 | 0x600
PAGE_SIZE_64K: Final = Baser.page_size.put(2)
PAGE_SIZE_MASK: Final = Baser.page_size.mask
DEVICE_BASER_FIXED: Final = 1 << 56 | 7 << 48
COLLECTION_BASER_FIXED: Final = 4 << 56 | 7 << 48
BASER_FIXED_MASK: Final = Baser.table_type.mask | Baser.entry_size.mask
LPI_BASER_RESET: Final = 0x580
OUTER_NC: Final = 1

# The 24-bit codes that Linux names E_ITS_*. KVM computes and then drops them.
E_MOVI_UNMAPPED_INTERRUPT: Final = COMMAND_ERRORS["MOVI_UNMAPPED_INTERRUPT"]
E_MOVI_UNMAPPED_COLLECTION: Final = COMMAND_ERRORS["MOVI_UNMAPPED_COLLECTION"]
E_INT_UNMAPPED_INTERRUPT: Final = COMMAND_ERRORS["INT_UNMAPPED_INTERRUPT"]
E_CLEAR_UNMAPPED_INTERRUPT: Final = COMMAND_ERRORS["CLEAR_UNMAPPED_INTERRUPT"]
E_MAPD_DEVICE_OOR: Final = COMMAND_ERRORS["MAPD_DEVICE_OOR"]
E_MAPD_ITTSIZE_OOR: Final = COMMAND_ERRORS["MAPD_ITTSIZE_OOR"]
E_MAPC_PROCNUM_OOR: Final = COMMAND_ERRORS["MAPC_PROCNUM_OOR"]
E_MAPC_COLLECTION_OOR: Final = COMMAND_ERRORS["MAPC_COLLECTION_OOR"]
E_MAPTI_UNMAPPED_DEVICE: Final = COMMAND_ERRORS["MAPTI_UNMAPPED_DEVICE"]
E_MAPTI_ID_OOR: Final = COMMAND_ERRORS["MAPTI_ID_OOR"]
E_MAPTI_PHYSICALID_OOR: Final = COMMAND_ERRORS["MAPTI_PHYSICALID_OOR"]
E_INV_UNMAPPED_INTERRUPT: Final = COMMAND_ERRORS["INV_UNMAPPED_INTERRUPT"]
E_INVALL_UNMAPPED_COLLECTION: Final = COMMAND_ERRORS["INVALL_UNMAPPED_COLLECTION"]
E_MOVALL_PROCNUM_OOR: Final = COMMAND_ERRORS["MOVALL_PROCNUM_OOR"]
E_DISCARD_UNMAPPED_INTERRUPT: Final = COMMAND_ERRORS["DISCARD_UNMAPPED_INTERRUPT"]


_BASER_LOW: Final = Baser.physical_address_low_64k.mask


def baser_address(baser: int) -> int:
    """Return a table's address: bits [47:16] in place, [51:48] in bits [15:12] (64K pages)."""
    return baser & _BASER_LOW | (baser >> 12 & 0xF) << 48


def baser_bytes(baser: int) -> int:
    """Return the size of a table in bytes."""
    return ((baser & Baser.size.mask) + 1) * PAGE_64K


def queue_bytes(cbaser: int) -> int:
    """Return the size of the command queue in bytes."""
    return ((cbaser & Cbaser.size.mask) + 1) << 12


def signed32(value: int) -> int:
    """Return what a C `int` makes of a value."""
    value &= U32
    return value - (1 << 32) if value >> 31 else value
