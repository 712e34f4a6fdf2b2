"""The command queue taken apart and laid again: commands as items, not as bytes and offsets.

`lift` makes of the bytes in guest RAM and a write to CWRITER the commands that it submits and a
`KICK`; `lay` does the reverse, densely, from wherever the queue then stands. What is no plain
submission (a CWRITER out of the queue, say) stays as it was written. Counterpart: `script`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from replay.minimize.items import COMMAND, KICK, Item, command, kick
from tracer import events as ev
from tracer.events import NUMBER, Event, make
from tracer.its.commands import COMMAND_SIZE_BYTES

_REG_WRITE: Final = NUMBER["reg.write"]
_MEM_WRITE: Final = NUMBER["mem.write"]
_RESET: Final = NUMBER["reset"]
CTLR, CBASER, CWRITER, CREADR = 0x0, 0x80, 0x88, 0x90
_ADDRESS: Final = (1 << 52) - (1 << 12)
_VALID: Final = 1 << 63
_PLACE: Final = 0xF_FFE0
_RETRY: Final = 1
_HALF: Final = 0xFFFF_FFFF
_WORD_BYTES: Final = 8

Region = tuple[int, int]  # from and up to an address


class Cursor:
    """Where the queue lies, and where the next command goes, as far as writes of registers tell."""

    def __init__(self) -> None:
        self._cbaser = 0
        self._enabled = False
        self.at = 0

    @property
    def region(self) -> Region | None:
        """The queue's RAM, or None while there is none."""
        if not self._cbaser & _VALID:
            return None
        base = self._cbaser & _ADDRESS
        return base, base + ((self._cbaser & 0xFF) + 1 << 12)

    @property
    def size(self) -> int:
        """The queue's bytes; one page while there is none."""
        region = self.region
        return region[1] - region[0] if region else 1 << 12

    def step(self) -> None:
        """Go on by a command."""
        self.at = (self.at + COMMAND_SIZE_BYTES) % self.size

    def see(self, event: Event) -> None:
        """Follow an input."""
        if event[0] == _RESET:
            self._cbaser, self._enabled, self.at = 0, False, 0
        elif event[0] == _REG_WRITE:
            offset, value = event[2], event[3]
            if offset == CTLR:
                self._enabled = bool(value & 1)
            elif offset in (CBASER, CBASER + 4) and not self._enabled:
                self._base(offset, value, event[4] if len(event) > 4 else 8)
            elif offset == CREADR and len(event) > 5 and event[5] == ev.VMM:
                self.at = value & _PLACE

    def _base(self, offset: int, value: int, size: int) -> None:
        if offset == CBASER and size == 8:
            self._cbaser = value
        else:
            shift = 8 * (offset - CBASER)
            self._cbaser = self._cbaser & ~(_HALF << shift) | (value & _HALF) << shift
        self.at = 0


def _submits(event: Event, cursor: Cursor) -> bool:
    """Return whether `event` moves CWRITER within the queue."""
    if event[0] != _REG_WRITE or event[2] != CWRITER or (len(event) > 6 and event[6]):
        return False
    return (
        cursor.region is not None
        and not event[3] & ~(_PLACE | _RETRY)
        and event[3] & _PLACE < cursor.size
    )


def regions(events: Iterable[Event]) -> list[Region]:
    """Return every stretch of RAM that is a queue at some time."""
    cursor = Cursor()
    found: dict[Region, None] = {}
    for event in events:
        cursor.see(event)
        if event[0] == _REG_WRITE and (region := cursor.region):
            found[region] = None
    return list(found)


def lift(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return items in which queue writes are commands and kicks."""
    queues = regions(item.event for item in items)
    words: dict[int, bytes] = {}
    cursor = Cursor()
    found: list[Item] = []
    for item in items:
        event = item.event
        if event[0] == _MEM_WRITE and _within(event, queues):
            _store(words, event)
        elif _submits(event, cursor):
            found += _submitted(words, cursor, event[3] & _PLACE)
            fields = ev.fields_of(event)
            written = kick(fields["size"], fields["origin"], event[3] & _RETRY)
            found.append(Item(written, item.outputs))
        else:
            cursor.see(event)
            found.append(item)
    return tuple(found)


def _within(event: Event, queues: list[Region]) -> bool:
    """Return whether a write to RAM is one of whole doublewords into a queue."""
    start, end = event[2], event[2] + len(event[3])
    whole = not (start | end) % _WORD_BYTES and end > start
    return whole and any(low <= start and end <= high for low, high in queues)


def _store(words: dict[int, bytes], event: Event) -> None:
    for at in range(0, len(event[3]), _WORD_BYTES):
        words[event[2] + at] = event[3][at : at + _WORD_BYTES]


def _submitted(words: dict[int, bytes], cursor: Cursor, end: int) -> Iterator[Item]:
    """Yield the commands from the cursor up to `end`, and move it there."""
    region = cursor.region
    assert region is not None
    if cursor.at >= cursor.size:
        cursor.at = end  # CREADR was set out of the queue
    while cursor.at != end:
        place = region[0] + cursor.at
        raw = [words.get(place + at, bytes(8)) for at in range(0, 32, _WORD_BYTES)]
        yield Item(command(*(int.from_bytes(word, "little") for word in raw)))
        cursor.step()


def lay(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items with commands laid into the queue again; one that has no queue is left out."""
    cursor = Cursor()
    for item in items:
        event = item.event
        if event[0] == COMMAND:
            if region := cursor.region:
                if any(event[2:6]):  # else it is RAM that nobody wrote
                    yield Item(_placed(region[0] + cursor.at, event))
                cursor.step()
        elif event[0] == KICK:
            size, origin, retry = event[2:5]
            value = (cursor.at if cursor.at < cursor.size else 0) | retry
            written = make(
                "reg.write", 0, offset=CWRITER, value=value, size=size, origin=origin
            )  # fmt: skip
            yield Item(written, item.outputs)
        else:
            cursor.see(event)
            yield item


def _placed(gpa: int, event: Event) -> Event:
    data = b"".join(word.to_bytes(_WORD_BYTES, "little") for word in event[2:6])
    return (_MEM_WRITE, 0, gpa, data)
