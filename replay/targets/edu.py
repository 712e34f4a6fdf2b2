"""MSIs with a chosen DeviceID: QEMU's teaching device, one for each DeviceID, driven over qtest.

Facts: QEMU hw/misc/edu.c (a write to 0x60 raises its interrupt, one to 0x64 lowers it), PCI's
MSI capability with a 64-bit address, and where QEMU's virt machine has its ECAM and PCI memory.
A DeviceID on bus 0 is the device's slot and function; slot 0 belongs to the host bridge.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ECAM: Final = 0x40_1000_0000
PCI_MEMORY: Final = 0x1000_0000
BAR_BYTES: Final = 1 << 20
MAX_DEVICE_ID: Final = 0xFF
_FIRST_DEVICE_ID: Final = 8
_FUNCTIONS: Final = 8

_COMMAND, _BAR0, _CAPABILITIES = 0x04, 0x10, 0x34
_MEMORY_AND_MASTER: Final = 0x6
_MSI_CAPABILITY: Final = 0x40  # where edu has its only capability; `probe` checks it
_MSI_ID, _MSI_ENABLE = 0x05, 0x1
_RAISE, _LOWER = 0x60, 0x64


def deliverable(device_id: int, event_id: int) -> bool:
    """Return whether an MSI of this DeviceID and EventID can be sent: MSI data has 16 bits."""
    return _FIRST_DEVICE_ID <= device_id <= MAX_DEVICE_ID and event_id <= 0xFFFF


def options(device_ids: Iterable[int]) -> list[str]:
    """Return the command line's part: each device, and function 0 of each slot."""
    wanted = {each for each in device_ids if deliverable(each, 0)}
    wanted |= {each - each % _FUNCTIONS for each in wanted}
    return [
        word
        for each in sorted(wanted)
        for word in (
            "-device",
            f"edu,addr={each // _FUNCTIONS:x}.{each % _FUNCTIONS},multifunction=on",
        )
    ]


def _config(device_id: int, offset: int) -> int:
    return ECAM + (device_id << 12) + offset


def _bar(device_id: int) -> int:
    return PCI_MEMORY + device_id * BAR_BYTES


def probe(device_id: int) -> str:
    """Return the question whose answer is 0x05 in its low byte if there is such a device."""
    return f"readl {_config(device_id, _MSI_CAPABILITY):#x}"


def set_up(device_id: int, doorbell: int) -> list[str]:
    """Return the lines that make a device ready to send to `doorbell`; a reset undoes them."""
    msi = _config(device_id, _MSI_CAPABILITY)
    return [
        f"writel {_config(device_id, _BAR0):#x} {_bar(device_id):#x}",
        f"writel {msi + 4:#x} {doorbell & 0xFFFF_FFFF:#x}",
        f"writel {msi + 8:#x} {doorbell >> 32:#x}",
        f"writew {msi + 2:#x} {_MSI_ENABLE:#x}",
        f"writew {_config(device_id, _COMMAND):#x} {_MEMORY_AND_MASTER:#x}",
    ]


def send(device_id: int, event_id: int) -> list[str]:
    """Return the lines that send one MSI."""
    return [
        f"writew {_config(device_id, _MSI_CAPABILITY) + 12:#x} {event_id:#x}",
        f"writel {_bar(device_id) + _RAISE:#x} 0x1",
        f"writel {_bar(device_id) + _LOWER:#x} 0x1",
    ]
