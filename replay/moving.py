"""All guest addresses of a trace, moved by one distance within the RAM in which they lie.

What the addresses say of a guest (where its kernel lies, that its RAM began there) goes; distances
stay, so that whatever overlapped or followed something does so still. `Walk` is where addresses
stand in events, `Survey` looks at them, `Move` moves them, and whoever calls judges both traces:
a pointer that nobody recognised would show there. Counterpart: `replay.minimize.addresses`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from replay.addresses import ALIGN, POINTERS, Place, has_address, number_at, words_at
from replay.minimize.queue import Cursor, Region
from replay.numbers import Number, of_command, of_register
from tracer.errors import UsageError
from tracer.events import ENTRY_FIELDS, KINDS, NUMBER, Event, kind_name
from tracer.its.commands import COMMAND_SIZE_BYTES, join, split
from tracer.its.layout import address

_REGISTERS: Final = {
    NUMBER["reg.write"]: (3, True),
    NUMBER["reg.read"]: (3, True),
    NUMBER["gicr.write"]: (4, False),
    NUMBER["gicr.read"]: (4, False),
}  # kind -> (where its value stands, whether it is the ITS's)
_CONTENTS: Final = {NUMBER["mem.write"]: 2, NUMBER["mem.read"]: 3}  # the address; then the bytes
_TABLES: Final = frozenset(NUMBER[name] for name in ("table.read", "table.write", "table.fault"))
_TABLE, _BASE, _FIRST_ENTRY_FIELD, _GPA = 3, 5, 7, 12
_ENTRY_ADDRESSES: Final = {
    table: tuple(at for at, name in enumerate(names) if name.endswith(("_addr", "address")))
    for table, names in ENTRY_FIELDS.items()
}
_COMMAND: Final = NUMBER["command"]
_DIGEST: Final = NUMBER["digest"]
_FIRST_WORD, _FIRST_MASK = 4, 8
_ALL: Final = (1 << 64) - 1
_HALVES_BELOW: Final = 1 << 32
_ITT_AT: Final = 16  # of a command in the queue: the doubleword in which MAPD has its address
_ITT: Final = ((0, address(51, 8, "ITT_addr")),)


class Unmovable(UsageError):
    """A trace in which not every address can be moved, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"addresses cannot be moved: {why}")


class Walk:
    """Puts every guest address of an event where `place` says."""

    def __init__(
        self, family: str, queues: Iterable[Region], place: Place, *, halves: bool
    ) -> None:
        self._pointers = POINTERS[family]
        self._queues = tuple(queues)
        self._place = place
        self._halves = halves  # whether half a register tells an address

    def __call__(self, event: Event) -> Event:
        """Return the event with its addresses elsewhere.

        Raises:
            Unmovable: it may hold one that nobody can tell.
        """
        kind = event[0]
        if kind not in KINDS or kind == _DIGEST:
            raise Unmovable(f"nobody knows those of a {kind_name(kind)} event")
        if kind in _REGISTERS:
            return self._register(event, *_REGISTERS[kind])
        if kind in _CONTENTS:
            return self._contents(event, _CONTENTS[kind])
        if kind == _COMMAND:
            return self._command(event)
        return self._entry(event) if kind in _TABLES else event

    def _register(self, event: Event, at: int, its: bool) -> Event:  # noqa: FBT001 (a row of a table)
        size = event[at + 1] if len(event) > at + 1 else 8
        number = of_register(event[at - 1], event[at], size, its=its)
        if number is None:
            return event
        if 8 * size < 64 and not self._halves and has_address(number):
            raise Unmovable("half of a register that holds one was accessed, and RAM passes 4 GiB")
        raw = self._number(number)
        return (*event[:at], raw, *event[at + 1 :])

    def _number(self, number: Number) -> int:
        raw = number_at(number, self._place)
        if raw is None:
            raise Unmovable("one has no place in its register")
        return raw

    def _command(self, event: Event) -> Event:
        words = event[_FIRST_WORD : _FIRST_WORD + 4]
        masks = event[_FIRST_MASK : _FIRST_MASK + 4]
        known = (*masks, *(_ALL,) * (4 - len(masks)))
        number = of_command(join(*words))
        if number is None:
            return event
        made = split(self._number(number))
        moved = zip(words, made, known, strict=True)
        if any((was ^ now) & ~mask for was, now, mask in moved):
            raise Unmovable("of a command's only a part is known")
        return (*event[:_FIRST_WORD], *made, *event[_FIRST_WORD + 4 :])

    def _entry(self, event: Event) -> Event:
        values = list(event)
        ats = [_FIRST_ENTRY_FIELD + at for at in _ENTRY_ADDRESSES[event[_TABLE]]]
        for at in (_BASE, *ats, _GPA):
            if at < len(values) and values[at] is not None:
                values[at] = self._place(values[at], 0)
        return tuple(values)

    def _contents(self, event: Event, at: int) -> Event:
        gpa, data = event[at : at + 2]
        made = b"".join(self._stretch(gpa + begin, part) for begin, part in self._parts(gpa, data))
        return (*event[:at], self._place(gpa, len(data)), made, *event[at + 2 :])

    def _parts(self, gpa: int, data: bytes) -> Iterable[tuple[int, bytes]]:
        """Yield (distance from the start, bytes): whole commands, doublewords of the queue, the rest."""
        begin = 0
        while begin < len(data):
            step = len(data) - begin
            if self._in_queue(gpa + begin):
                step = COMMAND_SIZE_BYTES - (gpa + begin) % COMMAND_SIZE_BYTES
                step = step if step <= len(data) - begin and step == COMMAND_SIZE_BYTES else 8
            yield begin, data[begin : begin + step]
            begin += step

    def _in_queue(self, gpa: int) -> bool:
        return any(low <= gpa < high for low, high in self._queues)

    def _stretch(self, gpa: int, data: bytes) -> bytes:
        if not self._in_queue(gpa):
            return words_at(data, gpa, self._pointers, self._place)
        if len(data) == COMMAND_SIZE_BYTES:
            number = of_command(int.from_bytes(data, "little"))
            return self._number(number).to_bytes(32, "little") if number else data
        here = gpa % COMMAND_SIZE_BYTES == _ITT_AT
        return words_at(data, gpa, _ITT, self._place) if here else data


class Survey:
    """What of each range of RAM is used."""

    def __init__(self, ranges: Sequence[Sequence[int]], family: str) -> None:
        # What begins at 0 is QEMU's flash, and small numbers would pass for addresses in it.
        self.ranges = [(base, base + size) for base, size in ranges if base]
        if not self.ranges:
            raise Unmovable("the header does not say where guest RAM is: give --ram")
        self._family = family
        self._used: dict[int, tuple[int, int]] = {}
        self.queues: dict[Region, None] = {}
        self._cursor = Cursor()

    @property
    def _halves(self) -> bool:
        return all(high <= _HALVES_BELOW for _, high in self.ranges)

    def find_queues(self, events: Iterable[Event]) -> None:
        """Look where the queue lies; of the whole trace, before anything else."""
        for event in events:
            self._cursor.see(event)
            if region := self._cursor.region:
                self.queues[region] = None

    def walk(self, place: Place | None = None) -> Walk:
        """Return a walk that puts addresses somewhere, or only looks at them."""
        return Walk(self._family, self.queues, place or self._look, halves=self._halves)

    def _look(self, address: int, size: int) -> int:
        for low, high in self.ranges:
            if low <= address < high:
                first, last = self._used.get(low, (address, address))
                self._used[low] = min(first, address), max(last, address + size)
        return address

    def distances(self) -> dict[int, int]:
        """Return the start of each range that is used, and how far its addresses are to be moved.

        Raises:
            Unmovable: there is no room.
        """
        found = {}
        for low, high in self.ranges:
            if low in self._used:
                first, last = self._used[low]
                down, up = (first - low) // ALIGN, (high - last) // ALIGN
                if last > high or not down + up:
                    raise Unmovable("all of a stretch of RAM is used")
                step = secrets.randbelow(down + up) - down
                found[low] = (step + 1 if step >= 0 else step) * ALIGN
        return found

    def move(self, distances: dict[int, int]) -> Walk:
        """Return the walk that moves them."""

        def place(address: int, size: int) -> int:
            for low, high in self.ranges:
                if low <= address < high:
                    return address + distances.get(low, 0)
            return address

        return self.walk(place)
