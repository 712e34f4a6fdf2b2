"""Where in guest RAM the tables of a life are, and which component and key an address belongs to.

Facts: Linux vgic-its.c, ABI revision 0 (8 bytes an entry, 64 KiB pages, level 1 for devices only).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from replay.equivalence.inventory import Inventory
from replay.equivalence.probe import Probe
from replay.targets.ahead import Inspectable
from tracer.its.registers import Baser

_MAX_LEVEL1: Final = 1024  # entries that are looked at


@dataclass(slots=True)
class _Place:
    start: int
    end: int
    component: str
    key: Callable[[int], Any]


class Places:
    """Where in RAM the tables of a life are."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._dte: dict[int, int] = {}  # DeviceID -> address of its entry
        self.itts: dict[int, int] = {}

    @classmethod
    def of(cls, target: Inspectable, inventory: Inventory) -> Places:
        """Return where they are, as the registers say now."""
        places = cls()
        registers = target.registers()
        places._devices(target, registers.get("GITS_BASER0", 0), inventory)
        baser1 = registers.get("GITS_BASER1", 0)
        start = Baser.physical_address.get(baser1)
        end = start + (Baser.size.get(baser1) + 1 << 16)
        places._add(start, end, "collections", partial(_entry_at, 0, start))
        for device, (itt, bits) in inventory.devices.items():
            places.itts[device] = itt
            places._add(itt, itt + (8 << bits), "events", partial(_event_at, device, itt))
        return places

    def _devices(self, target: Inspectable, baser: int, inventory: Inventory) -> None:
        start = Baser.physical_address.get(baser)
        size = Baser.size.get(baser) + 1 << 16
        pages = [(0, start, size)]
        if Baser.indirect.get(baser):
            level1 = target.load(start, 8 * _MAX_LEVEL1) or b""
            words = [
                int.from_bytes(level1[at : at + 8], "little") for at in range(0, len(level1), 8)
            ]
            pages = [
                (at << 13, word & ~0xFFFF & (1 << 52) - 1, 1 << 16)
                for at, word in enumerate(words)
                if word & Baser.valid.mask
            ]
        for first, page, bytes_ in pages:
            self._add(page, page + bytes_, "devices", partial(_entry_at, first, page))
            for device in inventory.devices:
                if first <= device < first + bytes_ // 8:
                    self._dte[device] = page + 8 * (device - first)

    def _add(self, start: int, end: int, component: str, key: Callable[[int], Any]) -> None:
        self._places.append(_Place(start, end, component, key))

    def at(self, gpa: int, changed: int, probe: Probe) -> tuple[str, Any]:
        """Return the component and the key of a doubleword of which these bits differ."""
        found = probe.place(gpa, changed)
        if found is not None:
            return found
        for place in self._places:
            if place.start <= gpa < place.end:
                return place.component, place.key(gpa)
        return "RAM", gpa

    def ranges(self) -> list[tuple[int, int]]:
        """Return (address, bytes) of every table."""
        return [(place.start, place.end - place.start) for place in self._places]

    def entry(self, component: str, key: Any) -> int | None:
        """Return where a device's or an event's entry is in the tables."""
        if component == "devices":
            return self._dte.get(key)
        if component == "events" and key[0] in self.itts:
            itt, event_id = self.itts[key[0]], int(key[1])
            return itt + 8 * event_id
        return None


def _entry_at(first: int, start: int, gpa: int) -> int:
    return first + (gpa - start) // 8


def _event_at(device: int, itt: int, gpa: int) -> tuple[int, int]:
    return device, (gpa - itt) // 8
