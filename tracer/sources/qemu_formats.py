"""What QEMU's trace prints of its ITS: every event's text, as a table.

Source: QEMU hw/intc/trace-events @04f398b2a25d, the same in 7.2 and 10.0. `%x` stands for a
64-bit hexadecimal number, `%w` for a 32-bit one, `%a` for address bits [51:8], `%v` for address
bits [51:16], `%d` for a decimal number. Counterpart: `qemu_log`, which says what each means.
"""

from __future__ import annotations

import re
from typing import Final

_PREFIX: Final = "gicv3_its_"

FORMATS: Final = {
    "read": "GICv3 ITS read: offset %x data %x size %d",
    "badread": "GICv3 ITS read: offset %x size %d: error",
    "write": "GICv3 ITS write: offset %x data %x size %d",
    "badwrite": "GICv3 ITS write: offset %x data %x size %d: error",
    "translation_write": "GICv3 ITS TRANSLATER write: offset %x data %x size %d requester_id %w",
    "process_command": "GICv3 ITS: processing command at offset %w: %w",
    "cmd_int": "GICv3 ITS: command INT DeviceID %w EventID %w",
    "cmd_clear": "GICv3 ITS: command CLEAR DeviceID %w EventID %w",
    "cmd_discard": "GICv3 ITS: command DISCARD DeviceID %w EventID %w",
    "cmd_inv": "GICv3 ITS: command INV DeviceID %w EventID %w",
    "cmd_sync": "GICv3 ITS: command SYNC",
    "cmd_invall": "GICv3 ITS: command INVALL",
    "cmd_vsync": "GICv3 ITS: command VSYNC",
    "cmd_mapd": "GICv3 ITS: command MAPD DeviceID %w Size %w ITT_addr %a V %d",
    "cmd_mapc": "GICv3 ITS: command MAPC ICID %w RDbase %x V %d",
    "cmd_mapi": "GICv3 ITS: command MAPI DeviceID %w EventID %w ICID %w",
    "cmd_mapti": "GICv3 ITS: command MAPTI DeviceID %w EventID %w ICID %w pINTID %w",
    "cmd_movi": "GICv3 ITS: command MOVI DeviceID %w EventID %w ICID %w",
    "cmd_movall": "GICv3 ITS: command MOVALL RDbase1 %x RDbase2 %x",
    "cmd_vmapi": "GICv3 ITS: command VMAPI DeviceID %w EventID %w vPEID %w Dbell_pINTID %w",
    # The text of VMAPTI says VMAPI; only the event's name and the vINTID tell them apart.
    "cmd_vmapti": (
        "GICv3 ITS: command VMAPI DeviceID %w EventID %w vPEID %w vINTID %w Dbell_pINTID %w"
    ),
    "cmd_vmapp": "GICv3 ITS: command VMAPP vPEID %w RDbase %x V %d VPT_addr %v VPT_size %w",
    "cmd_vmovp": "GICv3 ITS: command VMOVP vPEID %w RDbase %x",
    "cmd_vmovi": ("GICv3 ITS: command VMOVI DeviceID %w EventID %w vPEID %w D %d Dbell_pINTID %w"),
    "cmd_vinvall": "GICv3 ITS: command VINVALL vPEID %w",
    "cmd_unknown": "GICv3 ITS: unknown command %w",
    "cte_read": "GICv3 ITS: Collection Table read for ICID %w: valid %d RDBase %w",
    "cte_write": "GICv3 ITS: Collection Table write for ICID %w: valid %d RDBase %w",
    "cte_read_fault": "GICv3 ITS: Collection Table read for ICID %w: faulted",
    "ite_read": (
        "GICv3 ITS: Interrupt Table read for ITTaddr %x EventID %w: valid %d inttype %d intid %w "
        "ICID %w vPEID %w doorbell %w"
    ),
    "ite_write": (
        "GICv3 ITS: Interrupt Table write for ITTaddr %x EventID %w: valid %d inttype %d intid %w "
        "ICID %w vPEID %w doorbell %w"
    ),
    "ite_read_fault": "GICv3 ITS: Interrupt Table read for ITTaddr %x EventID %w: faulted",
    "dte_read": "GICv3 ITS: Device Table read for DeviceID %w: valid %d size %w ITTaddr %x",
    "dte_write": "GICv3 ITS: Device Table write for DeviceID %w: valid %d size %w ITTaddr %a",
    "dte_read_fault": "GICv3 ITS: Device Table read for DeviceID %w: faulted",
    "vte_read": (
        "GICv3 ITS: vPE Table read for vPEID %w: valid %d VPTsize %w VPTaddr %v RDbase %w"
    ),
    "vte_write": (
        "GICv3 ITS: vPE Table write for vPEID %w: valid %d VPTsize %w VPTaddr %v RDbase %w"
    ),
    "vte_read_fault": "GICv3 ITS: vPE Table read for vPEID %w: faulted",
}

GICR_FORMATS: Final = {
    "gicv3_redist_read": "GICv3 redistributor %w read: offset %x data %x size %d secure %d",
    "gicv3_redist_badread": "GICv3 redistributor %w read: offset %x size %d secure %d: error",
    "gicv3_redist_write": "GICv3 redistributor %w write: offset %x data %x size %d secure %d",
    "gicv3_redist_badwrite": (
        "GICv3 redistributor %w write: offset %x data %x size %d secure %d: error"
    ),
}

ICC_FORMATS: Final = {
    "gicv3_icc_iar1_read": "GICv3 ICC_IAR1 read cpu %w value %x",
}

_DIGITS: Final = {"x": 16, "w": 8, "a": 11, "v": 9}


def _compiled(text: str) -> re.Pattern[bytes]:
    pattern = re.escape(text).replace(r"\ ", " ").replace("%d", "([0-9]{1,10})")
    for letter, digits in _DIGITS.items():
        pattern = pattern.replace(f"%{letter}", f"(?:0x)?([0-9a-f]{{1,{digits}}})")
    return re.compile(pattern.encode())


def _bases(text: str) -> tuple[int, ...]:
    return tuple(10 if what == "d" else 16 for what in re.findall("%([a-z])", text))


_ALL: Final = {
    **{_PREFIX + name: text for name, text in FORMATS.items()},
    **GICR_FORMATS,
    **ICC_FORMATS,
}
# event name -> (pattern of the whole text behind it, base of each number)
PATTERNS: Final = {name.encode(): (_compiled(text), _bases(text)) for name, text in _ALL.items()}
