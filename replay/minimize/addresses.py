"""Moves tables, queue and ITTs in guest RAM, with all that is written and read there.

A stretch of RAM is moved with the registers and commands that name it, the writes and reads within
it, and the words in RAM that look like a pointer into it (a level-1 entry, a device table entry of
KVM's layout). Where something points otherwise the oracle refuses. Counterpart: `rewrites`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from replay.minimize.items import Item
from replay.minimize.numbers import closed, opened
from replay.minimize.script import Script
from tracer.events import NUMBER, Event
from tracer.its.layout import Field

_MEM_WRITE: Final = NUMBER["mem.write"]
_MEM_READ: Final = NUMBER["mem.read"]
_GPA_AT: Final = {_MEM_WRITE: 2, _MEM_READ: 3}
ADDRESSES: Final = frozenset(("physical_address", "itt_addr", "vpt_addr"))
_VALID: Final = 1 << 63
_LEVEL1: Final = (1 << 52) - (1 << 12)
_DTE_ITT: Final = (1 << 49) - (1 << 5)  # KVM: address bits 51:8 in 48:5
_DTE_SHIFT: Final = 3
_ALIGN: Final = 0x1_0000
_PAGES: Final = {0: 0x1000, 1: 0x4000, 2: 0x1_0000, 3: 0x1_0000}


class Stretch(NamedTuple):
    """Guest RAM from `low` up to `high`."""

    low: int
    high: int


def moved(script: Script, stretch: Stretch, to: int) -> Script:
    """Return a script in which `stretch` begins at `to`."""
    by = to - stretch.low
    return script.but(Item(_event(item.event, stretch, by), item.outputs) for item in script.items)


def _event(event: Event, stretch: Stretch, by: int) -> Event:
    if event[0] in _GPA_AT:
        at = _GPA_AT[event[0]]
        if _within(stretch, event[at]):
            event = (*event[:at], event[at] + by, *event[at + 1 :])
        if event[0] == _MEM_WRITE:
            event = (*event[:3], _words(event[3], event[2], stretch, by))
        return event
    number = opened(event)
    for field in number.fields if number else ():
        if number and field.attr in ADDRESSES and _within(stretch, number.get(field)):
            raw = number.put(field, number.get(field) + by)
            return event if raw is None else closed(event, raw)
    return event


def _within(stretch: Stretch, address: int) -> bool:
    return stretch.low <= address < stretch.high


def _words(data: bytes, gpa: int, stretch: Stretch, by: int) -> bytes:
    """Return bytes of RAM with the pointers among their doublewords moved."""
    if gpa % 8 or len(data) % 8:
        return data
    words = (int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8))
    return b"".join(_word(word, stretch, by).to_bytes(8, "little") for word in words)


def _word(word: int, stretch: Stretch, by: int) -> int:
    if not word & _VALID:
        return word
    if _within(stretch, word & _LEVEL1):
        return word & ~_LEVEL1 | (word & _LEVEL1) + by & _LEVEL1
    itt = (word & _DTE_ITT) << _DTE_SHIFT
    if _within(stretch, itt):
        return word & ~_DTE_ITT | itt + by >> _DTE_SHIFT & _DTE_ITT
    return word


def stretches(script: Script) -> list[Stretch]:
    """Return the stretches that registers and commands name, in the order of their naming."""
    found: dict[int, int] = {}
    for item in script.items:
        number = opened(item.event)
        if number is None:
            continue
        fields = {field.attr: field for field in number.fields}
        for attr in ADDRESSES & fields.keys():
            low = number.get(fields[attr])
            if low:
                size = _size(number.get, fields)
                found[low] = max(found.get(low, 0), size)
    return [Stretch(low, low + size) for low, size in found.items()]


def _size(get: object, fields: dict[str, Field]) -> int:
    """Return how much RAM a table takes, as far as the fields beside its address say."""
    assert callable(get)
    if "page_size" in fields:
        return int((get(fields["size"]) + 1) * _PAGES[get(fields["page_size"])])
    if "id_bits" in fields:
        return int(1 << min(get(fields["id_bits"]) + 1, 32))
    if "itt_addr" in fields:
        return int(16 << min(get(fields["size"]) + 1, 32))
    if "valid" in fields and "size" in fields:
        return int(get(fields["size"]) + 1 << 12)
    return _ALIGN


def places(script: Script, stretch: Stretch) -> Iterator[int]:
    """Yield round addresses in the VM's RAM where a stretch could be, roundest first."""
    others = [each for each in stretches(script) if each.low != stretch.low]
    size = stretch.high - stretch.low
    for base, bytes_ in script.header.ram_ranges or ():
        if not base <= stretch.low < base + bytes_:
            continue  # the other ranges may be flash
        found = []
        for bit in range(16, max(bytes_.bit_length() - 1, 16)):
            found += [1 << bit, 3 << bit, 5 << bit, 7 << bit]
        for offset in sorted(set(found), key=lambda each: (each.bit_count(), each)):
            low = base + offset
            if offset + size <= bytes_ and not any(
                low < other.high and other.low < low + size for other in others
            ):
                yield low
                break
