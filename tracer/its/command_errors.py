"""The 24-bit error codes of commands, as a table: they cannot be computed from opcodes.

Source: Linux include/linux/irqchip/arm-gic-v3.h @3a32b7df (E_ITS_*). KVM returns them from its
handlers and drops them, QEMU does not use them: no guest ever sees one, only a model computes them.
"""

from __future__ import annotations

from typing import Final

COMMAND_ERRORS: Final = {
    "MOVI_UNMAPPED_INTERRUPT": 0x010107,
    "MOVI_UNMAPPED_COLLECTION": 0x010109,
    "INT_UNMAPPED_INTERRUPT": 0x010307,
    "CLEAR_UNMAPPED_INTERRUPT": 0x010507,  # 05, though the opcode of CLEAR is 04
    "MAPD_DEVICE_OOR": 0x010801,
    "MAPD_ITTSIZE_OOR": 0x010802,
    "MAPC_PROCNUM_OOR": 0x010902,
    "MAPC_COLLECTION_OOR": 0x010903,
    "MAPTI_UNMAPPED_DEVICE": 0x010A04,
    "MAPTI_ID_OOR": 0x010A05,
    "MAPTI_PHYSICALID_OOR": 0x010A06,
    "INV_UNMAPPED_INTERRUPT": 0x010C07,
    "INVALL_UNMAPPED_COLLECTION": 0x010D09,
    "MOVALL_PROCNUM_OOR": 0x010E01,
    "DISCARD_UNMAPPED_INTERRUPT": 0x010F07,
}

ERROR_NAMES: Final = {code: name for name, code in COMMAND_ERRORS.items()}
