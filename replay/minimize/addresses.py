"""Moves tables, queue and ITTs in guest RAM, with all that is written and read there.

A stretch of RAM is moved with the registers and commands that name it, the writes and reads within
it, and the words in RAM that look like a pointer into it (a level-1 entry, a device table entry of
KVM's layout). Where something points otherwise the oracle refuses. Counterpart: `rewrites`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from replay.addresses import ADDRESSES, POINTERS, Place, number_at, size_of, words_at
from replay.minimize.items import Item
from replay.minimize.numbers import closed, opened
from replay.minimize.script import Script
from tracer.events import NUMBER, Event

_MEM_WRITE: Final = NUMBER["mem.write"]
_MEM_READ: Final = NUMBER["mem.read"]
_GPA_AT: Final = {_MEM_WRITE: 2, _MEM_READ: 3}


class Stretch(NamedTuple):
    """Guest RAM from `low` up to `high`."""

    low: int
    high: int


def moved(script: Script, stretch: Stretch, to: int) -> Script:
    """Return a script in which `stretch` begins at `to`."""
    by = to - stretch.low

    def place(address: int, size: int) -> int:
        return address + by if stretch.low <= address < stretch.high else address

    return script.but(Item(_event(item.event, place), item.outputs) for item in script.items)


def _event(event: Event, place: Place) -> Event:
    if event[0] in _GPA_AT:
        at = _GPA_AT[event[0]]
        here = event[at]
        event = (*event[:at], place(here, 0), *event[at + 1 :])
        if event[0] == _MEM_WRITE:
            event = (*event[:3], words_at(event[3], here, POINTERS["kvm"], place))
        return event
    number = opened(event)
    raw = number_at(number, place) if number else None
    return event if number is None or raw in (None, number.raw) else closed(event, raw)


def stretches(script: Script) -> list[Stretch]:
    """Return the stretches that registers and commands name, in the order of their naming."""
    found: dict[int, int] = {}
    for item in script.items:
        number = opened(item.event)
        for field in number.fields if number else ():
            if number and field.attr in ADDRESSES and (low := number.get(field)):
                found[low] = max(found.get(low, 0), size_of(number))
    return [Stretch(low, low + size) for low, size in found.items()]


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
