"""Guest RAM that a trace does not show, put in place as a well-behaved driver would.

A device reads its queue and its tables from guest RAM. Where a trace does not tell what stood
there, a target gets: the commands that the trace shows fetched, tables that are zeroed when a
register or MAPD names them, and level-1 entries that lead to zeroed pages at the end of RAM. Each
is an assumption, named once. The counterpart is `replay.model.memory`, where the model assumes the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from replay.model import effects
from tracer.events import NUMBER, Event
from tracer.its.commands import COMMAND_SIZE_BYTES, Mapd, Opcode
from tracer.its.registers import Baser, Cbaser

_REG_WRITE, _MSI, _RESET = NUMBER["reg.write"], NUMBER["msi"], NUMBER["reset"]
_CBASER, _BASER, _BASERS_END = 0x80, 0x100, 0x140
_ENTRY_BYTES: Final = 8
_PAGE_BYTES: Final = (0x1000, 0x4000, 0x1_0000, 0x1_0000)
_ITE_BYTES: Final = 12  # of QEMU's
_MAX_PAGES: Final = 1024  # level-2 pages that are given away
_ZEROED: Final = "the guest handed over zeroed tables"
_NAMES_A_DEVICE: Final = frozenset(
    (
        Opcode.MAPD, Opcode.MAPTI, Opcode.MAPI, Opcode.MOVI, Opcode.INT, Opcode.CLEAR, Opcode.INV,
        Opcode.DISCARD, Opcode.VMAPTI, Opcode.VMAPI, Opcode.VMOVI,
    )
)  # fmt: skip


class Store(NamedTuple):
    """Guest RAM to be written: these bytes, or (None) so many zeroes."""

    gpa: int
    data: bytes | None
    size: int


class HandOver:
    """What the ITS was told of RAM, and what was put there; `end` is where RAM ends."""

    def __init__(self, end: int) -> None:
        self._registers: dict[int, int] = {}
        self._free = end
        self._level1: set[int] = set()  # addresses of entries that lead somewhere
        self._pages = 0

    def reset(self) -> None:
        """The registers are as in a fresh device, and a guest will hand tables over anew."""
        self._registers.clear()
        self._level1.clear()

    def before(self, event: Event, outputs: Sequence[Event]) -> tuple[list[Store], str | None]:
        """Return what must be stored before an input, and what that assumes."""
        stores: list[Store] = []
        if event[0] == _RESET:
            self.reset()
        elif event[0] == _MSI:
            return stores, _ZEROED if self._lead_to(event[2], stores) else None
        elif event[0] == _REG_WRITE:
            stores += self._written(event)
        assumed = None
        for output in outputs:
            if output[0] == effects.COMMAND:
                assumed = self._command(output, stores) or assumed
        return stores, assumed

    def _written(self, event: Event) -> list[Store]:
        """Follow a register; of a table that becomes valid, zero it."""
        offset, value, size = event[2], event[3], min(event[4] if len(event) > 4 else 8, 8)
        start, shift = offset & ~7, 8 * (offset & 7)
        mask = (1 << 8 * size) - 1 << shift
        now = self._registers[start] = self._registers.get(start, 0) & ~mask | value << shift & mask
        if not (_BASER <= start < _BASERS_END and Baser.valid.get(now)):
            return []
        table = Baser.physical_address.get(now)
        size_bytes = (Baser.size.get(now) + 1) * _PAGE_BYTES[Baser.page_size.get(now)]
        self._level1 = {each for each in self._level1 if not table <= each < table + size_bytes}
        return [Store(table, None, size_bytes)]

    def _command(self, output: Event, stores: list[Store]) -> str | None:
        """Put a command where it was fetched, and what it leads to; return what that assumes."""
        queue_offset, words = output[3], output[4:8]
        gpa = Cbaser.physical_address.get(self._registers.get(_CBASER, 0)) + queue_offset
        data = b"".join(word.to_bytes(8, "little") for word in words)
        stores.append(Store(gpa, data, COMMAND_SIZE_BYTES))
        opcode = words[0] & 0xFF
        if opcode not in _NAMES_A_DEVICE:
            return None
        assumed = self._lead_to(words[0] >> 32, stores)
        if opcode == Opcode.MAPD:
            whole = int.from_bytes(data, "little")
            if Mapd.v.get(whole):
                itt_bytes = _ITE_BYTES << Mapd.size.get(whole) + 1
                stores.append(Store(Mapd.itt_addr.get(whole), None, min(itt_bytes, 1 << 22)))
                return _ZEROED
        return _ZEROED if assumed else None

    def _lead_to(self, device_id: int, stores: list[Store]) -> bool:
        """Make the level-1 entry of a two-level device table valid; return whether it was not."""
        baser = self._registers.get(_BASER, 0)
        if not (Baser.valid.get(baser) and Baser.indirect.get(baser)):
            return False
        page_bytes = _PAGE_BYTES[Baser.page_size.get(baser)]
        index = device_id * _ENTRY_BYTES // page_bytes
        if index >= (Baser.size.get(baser) + 1) * page_bytes // _ENTRY_BYTES:
            return False
        entry = Baser.physical_address.get(baser) + index * _ENTRY_BYTES
        if entry in self._level1 or self._pages >= _MAX_PAGES:
            return False
        self._level1.add(entry)
        self._pages += 1
        self._free = (self._free - page_bytes) & ~0xFFFF
        level1 = 1 << 63 | self._free
        stores.append(Store(entry, level1.to_bytes(8, "little"), 8))
        stores.append(Store(self._free, None, page_bytes))
        return True
