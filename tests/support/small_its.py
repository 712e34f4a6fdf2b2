"""A small ITS in Python that behaves as QEMU's does: what docs/recorder.md records.

Flat tables and one CPU. It shares nothing with `replay.model`, so that the two can differ.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

VALID = 1 << 63
ADDRESS = 0xFFFF_FFFF_F000
MAPD, MAPC, MAPTI = 0x08, 0x09, 0x0A
CTLR, IIDR, TYPER, CBASER, CWRITER, CREADR, BASER0, BASER1, PIDR2 = (
    0x00, 0x04, 0x08, 0x80, 0x88, 0x90, 0x100, 0x108, 0xFFE8,
)  # fmt: skip
GICR_CTLR, PROPBASER, PENDBASER = 0x00, 0x70, 0x78


class Ram:
    """A stretch of guest RAM."""

    def __init__(self, base: int = 0x4000_0000, size: int = 1 << 20) -> None:
        self.ranges = [(base, size)]
        self._base = base
        self._bytes = bytearray(size)

    def read(self, gpa: int, size: int) -> bytes:
        return bytes(self._bytes[self._at(gpa, size)])

    def write(self, gpa: int, data: bytes) -> None:
        self._bytes[self._at(gpa, len(data))] = data

    def _at(self, gpa: int, size: int) -> slice:
        at = gpa - self._base
        if not 0 <= at <= len(self._bytes) - size:
            raise ValueError(f"there is no memory at {gpa:#x}")
        return slice(at, at + size)


class SmallIts:
    """Registers, three commands, tables in guest RAM, and a cache of translations."""

    def __init__(self, memory: Ram) -> None:
        self.memory = memory
        self.constant = {IIDR: 0x43B, TYPER: 0x1F_0001_EFB1, PIDR2: 0x3B}
        self.reset(0)

    def reset(self, how: int) -> None:
        self.ctlr = 0x8000_0000
        self.cbaser = 0
        self.cwriter = 0
        self.creadr = 0
        self.baser0 = 0x0107_0000_0000_0200
        self.baser1 = 0x0407_0000_0000_0200
        self.gicr_ctlr = 2
        self.propbaser = 0
        self.pendbaser = 0
        self.cached: dict[tuple[int, int], int] = {}  # what it remembers of the tables

    def reg_read(self, offset: int, size: int) -> int | None:
        name = REGISTERS.get(offset)
        return getattr(self, name) if name else self.constant.get(offset, 0)

    def reg_write(self, offset: int, value: int, size: int) -> None:
        if offset == CTLR:
            self.ctlr = 0x8000_0000 | value & 1
        elif offset == CWRITER:
            self.cwriter = value & ~1
        elif self.ctlr & 1 or offset not in REGISTERS:
            return
        elif offset == CBASER:
            self.cbaser, self.creadr = value, 0
        elif offset == CREADR:
            self.creadr = value & ~1
        else:
            kept = 0x071F << 48
            old = getattr(self, REGISTERS[offset])
            setattr(self, REGISTERS[offset], old & kept | value & ~kept)
        self._run()

    def gicr_read(self, cpu: int, offset: int, size: int) -> int:
        return int(getattr(self, GICR_REGISTERS[offset]))

    def gicr_write(self, cpu: int, offset: int, value: int, size: int) -> None:
        setattr(self, GICR_REGISTERS[offset], 2 | value & 1 if offset == GICR_CTLR else value)

    def msi(self, device_id: int, event_id: int) -> None:
        if self.ctlr & 1:
            self._translate(device_id, event_id)

    def _run(self) -> None:
        size = ((self.cbaser & 0xFF) + 1) * 4096
        while self.ctlr & 1 and self.cwriter < size and self.creadr != self.cwriter:
            at = (self.cbaser & ADDRESS) + self.creadr
            dw0, dw1, dw2, _ = struct.unpack("<4Q", self.memory.read(at, 32))
            handler = COMMANDS.get(dw0 & 0xFF)
            if handler:
                handler(self, dw0 >> 32, dw1, dw2)
            self.creadr = (self.creadr + 32) % size

    def _load(self, gpa: int) -> int:
        return int.from_bytes(self.memory.read(gpa, 8), "little")

    def _store(self, gpa: int, value: int, size: int = 8) -> None:
        self.memory.write(gpa, value.to_bytes(size, "little"))

    def _mapd(self, device_id: int, dw1: int, dw2: int) -> None:
        self.cached.clear()
        itt = (dw2 & 0xF_FFFF_FFFF_FF00) >> 8
        dte = 1 | (dw1 & 0x1F) << 1 | itt << 6 if dw2 & VALID else 0
        self._store((self.baser0 & ADDRESS) + 8 * device_id, dte)

    def _mapc(self, device_id: int, dw1: int, dw2: int) -> None:
        cte = 1 | (dw2 >> 16 & 0xFFFF) << 1 if dw2 & VALID else 0
        self._store((self.baser1 & ADDRESS) + 8 * (dw2 & 0xFFFF), cte)

    def _mapti(self, device_id: int, dw1: int, dw2: int) -> None:
        event_id, ite = dw1 & 0xFFFF_FFFF, 3 | dw1 >> 32 << 2 | (dw2 & 0xFFFF) << 32 | 1023 << 64
        self.cached.pop((device_id, event_id), None)
        gpa = self._ite_address(device_id, event_id)
        if gpa is not None:
            self._store(gpa, ite, 12)

    def _entry(self, baser: int, index: int) -> int:
        return self._load((baser & ADDRESS) + 8 * index) if baser & VALID else 0

    def _ite_address(self, device_id: int, event_id: int) -> int | None:
        dte = self._entry(self.baser0, device_id)
        return (dte >> 6 << 8) + 12 * event_id if dte & 1 else None

    def _look_up(self, device_id: int, event_id: int) -> int | None:
        """Return the INTID of an event whose collection is mapped."""
        gpa = self._ite_address(device_id, event_id)
        ite = 0 if gpa is None else self._load(gpa)
        mapped = ite & 1 and self._entry(self.baser1, ite >> 32 & 0xFFFF) & 1
        return ite >> 2 & 0xFF_FFFF if mapped else None

    def _translate(self, device_id: int, event_id: int) -> None:
        intid = self.cached.get((device_id, event_id)) or self._look_up(device_id, event_id)
        if intid is not None and self.gicr_ctlr & 1:
            self.cached[device_id, event_id] = intid
            gpa = (self.pendbaser & ADDRESS) + intid // 8
            self._store(gpa, self.memory.read(gpa, 1)[0] | 1 << intid % 8, 1)


REGISTERS = {
    CTLR: "ctlr", CBASER: "cbaser", CWRITER: "cwriter", CREADR: "creadr",
    BASER0: "baser0", BASER1: "baser1",
}  # fmt: skip
GICR_REGISTERS = {GICR_CTLR: "gicr_ctlr", PROPBASER: "propbaser", PENDBASER: "pendbaser"}
COMMANDS: dict[int, Callable[[SmallIts, int, int, int], None]] = {
    MAPD: SmallIts._mapd,
    MAPC: SmallIts._mapc,
    MAPTI: SmallIts._mapti,
}
