"""One event as lines of QEMU's qtest protocol: what a VM's guest, or its devices, would do.

Facts: QEMU's docs/devel/testing/qtest.rst, and where its virt machine has its GIC. Counterparts:
`qemu`, which sends them to a QEMU of its own, and `replay.export.qtest_shell`, which prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from replay.targets import edu
from replay.targets.handover import Store
from tracer.events import NUMBER, Event, fields_of

ITS_BASE: Final = 0x0808_0000  # of QEMU's virt machine, as the others
GICD_BASE: Final = 0x0800_0000
GICR_BASE: Final = 0x080A_0000
DOORBELL: Final = ITS_BASE + 0x1_0040
MAX_GICRS: Final = 123  # in the machine's first region
_GICR_BYTES: Final = {False: 0x2_0000, True: 0x4_0000}  # by GICv4
_LETTER: Final = {1: "b", 2: "w", 4: "l", 8: "q"}


class QtestLines:
    """Turns events into lines; remembers which edu devices are ready to send."""

    def __init__(self, cpus: int, *, virtual: bool) -> None:
        self._gicrs = min(cpus, MAX_GICRS)
        self._virtual = virtual
        self._ready: set[int] = set()  # edu devices that were set up since the last reset

    def reset(self) -> None:
        """Devices must be set up again."""
        self._ready.clear()

    def of(self, event: Event) -> list[str] | None:
        """Return what carries an event out: no lines if nothing can, None if nothing need."""
        add = _PLANS.get(event[0])
        return None if add is None else add(self, fields_of(event))

    # -- one function a kind; `f` are the event's fields

    def _frame(self, f: dict[str, Any]) -> int:
        frame: int = GICR_BASE + f["cpu"] * _GICR_BYTES[self._virtual]
        return frame + int(f["offset"])

    def reg_write(self, f: dict[str, Any]) -> list[str]:
        """A register of the ITS; narrower than 4 bytes nothing reaches it."""
        return _write(ITS_BASE + f["offset"], f["value"], f["size"])

    def reg_read(self, f: dict[str, Any]) -> list[str]:
        """A register of the ITS."""
        return read(ITS_BASE + f["offset"], f["size"])

    def gicr_write(self, f: dict[str, Any]) -> list[str]:
        """A redistributor's register; none for a CPU that is not there."""
        return _write(self._frame(f), f["value"], f["size"]) if f["cpu"] < self._gicrs else []

    def gicr_read(self, f: dict[str, Any]) -> list[str]:
        """A redistributor's register."""
        return read(self._frame(f), f["size"]) if f["cpu"] < self._gicrs else []

    def gicd_write(self, f: dict[str, Any]) -> list[str]:
        """A register of the distributor."""
        return _write(GICD_BASE + f["offset"], f["value"], f["size"])

    def gicd_read(self, f: dict[str, Any]) -> list[str]:
        """A register of the distributor."""
        return read(GICD_BASE + f["offset"], f["size"])

    def mem_write(self, f: dict[str, Any]) -> list[str]:
        """Guest RAM."""
        data: bytes = f["data"]
        return [f"write {f['gpa']:#x} {len(data):#x} 0x{data.hex()}"] if data else []

    def mem_read(self, f: dict[str, Any]) -> list[str]:
        """Guest RAM."""
        return [f"read {f['gpa']:#x} {len(f['data']):#x}"] if f["data"] else []

    def msi(self, f: dict[str, Any]) -> list[str]:
        """An MSI, by the edu device that has this DeviceID."""
        device_id = f["device_id"]
        if not edu.deliverable(device_id, f["event_id"]):
            return []
        ready = device_id in self._ready
        self._ready.add(device_id)
        return [
            *([] if ready else edu.set_up(device_id, DOORBELL)),
            *edu.send(device_id, f["event_id"]),
        ]


def stored(store: Store) -> str:
    """Return the line that puts bytes, or zeroes, into guest RAM."""
    if store.data is None:
        return f"memset {store.gpa:#x} {store.size:#x} 0x0"
    return f"write {store.gpa:#x} {store.size:#x} 0x{store.data.hex()}"


def _write(address: int, value: int, size: int) -> list[str]:
    if size not in (4, 8):
        return []
    return [f"write{_LETTER[size]} {address:#x} {value & (1 << 8 * size) - 1:#x}"]


def read(address: int, size: int) -> list[str]:
    """Return the line that reads a register; none for a size that reaches none."""
    return [f"read{_LETTER[size]} {address:#x}"] if size in (4, 8) else []


_PLANS: Final[dict[int, Callable[[QtestLines, dict[str, Any]], list[str]]]] = {
    NUMBER["reg.write"]: QtestLines.reg_write,
    NUMBER["reg.read"]: QtestLines.reg_read,
    NUMBER["gicr.write"]: QtestLines.gicr_write,
    NUMBER["gicr.read"]: QtestLines.gicr_read,
    NUMBER["gicd.write"]: QtestLines.gicd_write,
    NUMBER["gicd.read"]: QtestLines.gicd_read,
    NUMBER["mem.write"]: QtestLines.mem_write,
    NUMBER["mem.read"]: QtestLines.mem_read,
    NUMBER["msi"]: QtestLines.msi,
}
