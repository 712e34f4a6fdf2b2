"""What lies where in guest RAM, as a trace's registers and commands name it: for people to read.

Counterparts: `kvm_calls` and `qtest_shell`, which put it into comments and names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tracer.events import NUMBER, Event, fields_of
from tracer.its.commands import COMMAND_SIZE_BYTES, Mapd, Opcode
from tracer.its.lpi import FIRST_LPI
from tracer.its.registers import Baser, Cbaser, Pendbaser, Propbaser

_REG_WRITE, _GICR_WRITE, _MEM_WRITE = (
    NUMBER[each] for each in ("reg.write", "gicr.write", "mem.write")
)
_CBASER, _BASER0, _BASER1, _PROPBASER, _PENDBASER = 0x80, 0x100, 0x108, 0x70, 0x78
_PAGE_BYTES: Final = (0x1000, 0x4000, 0x1_0000, 0x1_0000)
_LPI_TABLE_BYTES: Final = 0x1_0000
MAX_PLACES: Final = 256  # of each sort; a guest chooses how many it names
_ITE_BYTES: Final = 8  # of KVM's
_TABLES: Final = {_BASER0: "device table", _BASER1: "collection table"}


class Place(NamedTuple):
    """A range of guest RAM; `name` of a queue is empty."""

    start: int
    end: int
    name: str


class Places:
    """All that a trace names; the last one named counts."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.queues = [Place(*each, "") for each in _queues(events)][-MAX_PLACES:]
        named = dict.fromkeys([*_tables(events), *self._itts(events)])
        self._places = list(named)[:-MAX_PLACES:-1]

    def in_queue(self, gpa: int, size: int) -> bool:
        """Return whether these bytes are commands in a queue."""
        return any(
            each.start <= gpa and gpa + size <= each.end
            for each in self.queues
            if size
            and not size % COMMAND_SIZE_BYTES
            and not (gpa - each.start) % COMMAND_SIZE_BYTES
        )

    def at(self, gpa: int) -> str:
        """Return what an address is: a table by name and offset, or guest RAM."""
        for each in self._places:
            if each.start <= gpa < each.end:
                if each.name == "configuration":
                    return f"configuration of LPI {FIRST_LPI + gpa - each.start}"
                return f"{each.name} +{gpa - each.start:#x}"
        return f"guest RAM at {gpa:#x}"

    def _itts(self, events: Sequence[Event]) -> Iterator[Place]:
        for event in events:
            if event[0] != _MEM_WRITE or not self.in_queue(event[2], len(event[3])):
                continue
            for at in range(0, len(event[3]), COMMAND_SIZE_BYTES):
                whole = int.from_bytes(event[3][at : at + COMMAND_SIZE_BYTES], "little")
                if Mapd.opcode.get(whole) == Opcode.MAPD and Mapd.v.get(whole):
                    start = Mapd.itt_addr.get(whole)
                    end = start + (_ITE_BYTES << Mapd.size.get(whole) + 1)
                    yield Place(start, end, f"ITT of device {Mapd.device_id.get(whole):#x}")


def _written(events: Sequence[Event], kind: int) -> Iterator[tuple[int, int, int]]:
    """Yield (vCPU, offset, value) of each 64-bit register that is written, halves put together."""
    values: dict[tuple[int, int], int] = defaultdict(int)
    for event in events:
        if event[0] != kind:
            continue
        f = fields_of(event)
        cpu, offset, size = f.get("cpu", 0), f["offset"] & ~7, min(f["size"], 8)
        shift = 8 * (f["offset"] & 7)
        mask = ((1 << 8 * size) - 1) << shift
        values[cpu, offset] = values[cpu, offset] & ~mask | f["value"] << shift & mask
        yield cpu, offset, values[cpu, offset]


def _queues(events: Sequence[Event]) -> list[tuple[int, int]]:
    found: dict[tuple[int, int], None] = {}
    for _, offset, value in _written(events, _REG_WRITE):
        if offset == _CBASER and Cbaser.valid.get(value):
            start = Cbaser.physical_address.get(value)
            found[start, start + (Cbaser.size.get(value) + 1) * _PAGE_BYTES[0]] = None
    return list(found)


def _tables(events: Sequence[Event]) -> Iterator[Place]:
    for _, offset, value in _written(events, _REG_WRITE):
        if offset in _TABLES and Baser.valid.get(value):
            start = Baser.physical_address.get(value)
            size = (Baser.size.get(value) + 1) * _PAGE_BYTES[Baser.page_size.get(value)]
            yield Place(start, start + size, _TABLES[offset])
    for cpu, offset, value in _written(events, _GICR_WRITE):
        if offset == _PROPBASER and Propbaser.physical_address.get(value):
            start = Propbaser.physical_address.get(value)
            yield Place(start, start + _LPI_TABLE_BYTES, "configuration")
        elif offset == _PENDBASER and Pendbaser.physical_address.get(value):
            start = Pendbaser.physical_address.get(value)
            yield Place(start, start + _LPI_TABLE_BYTES, f"pending table of vCPU {cpu}")
