"""Edits that make a script simpler and leave nothing out; and their table.

An edit is made of the script as it is by then, so it looks again whether its item is still there.
The search takes it only where the script becomes smaller by its `cost`. Counterpart: `search`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from replay.addresses import ADDRESSES
from replay.minimize import addresses, renumber, speaks
from replay.minimize.items import COMMAND, Item, command
from replay.minimize.numbers import closed, opened
from replay.minimize.script import Script
from replay.minimize.search import Edit
from tracer.events import NUMBER, Event
from tracer.its.layout import Field
from tracer.its.registers import Baser

_MEM_WRITE: Final = NUMBER["mem.write"]
_MEM_READ: Final = NUMBER["mem.read"]
_REG_WRITE: Final = NUMBER["reg.write"]
_DATA_AT: Final = {_MEM_WRITE: 3, _MEM_READ: 4}
_BASERS: Final = range(0x100, 0x140, 8)
_LEVEL1_ADDRESS: Final = Baser.physical_address.mask
_LEVEL1_BYTES: Final = 0x1_0000
MACHINE: Final = "a smaller VM"
_MOST_SPLITS: Final = 16
MOST_UNITED: Final = 200  # items of a script in which every two identifiers are tried as one
# What is renumbered, moved, or names what a command or register is.
_NOT_ZEROED: Final = frozenset((*speaks.CLASS_OF, "opcode", *ADDRESSES))


def _replaced(script: Script, at: int, was: Item, *events: Event) -> Script | None:
    """Return a script with other events for item `at`, if that is still what it was."""
    if at >= len(script.items) or script.items[at] != was:
        return None
    new = tuple(Item(event, was.outputs) for event in events)
    return script.but(script.items[:at] + new + script.items[at + 1 :])


# -- guest RAM


def trimmed(script: Script) -> Iterator[Edit]:
    """Write and read fewer bytes of RAM: halves, first or last."""
    for at, item in enumerate(script.items):
        if item.event[0] in _DATA_AT:
            for step in range(_MOST_SPLITS):
                for keep_last in (False, True):
                    yield partial(_half, at=at, step=step, keep_last=keep_last)


def _half(script: Script, at: int, step: int, *, keep_last: bool) -> Script | None:
    """Keep one half of what item `at` writes or reads."""
    del step  # the item is what earlier steps left of it
    if at >= len(script.items) or script.items[at].event[0] not in _DATA_AT:
        return None
    item = script.items[at]
    event, where = item.event, _DATA_AT[item.event[0]]
    data, gpa = event[where], event[where - 1]
    half = len(data) // 2
    if not half:
        return None
    kept = (gpa + half, data[half:]) if keep_last else (gpa, data[:half])
    return _replaced(script, at, item, (*event[: where - 1], *kept))


def merged(script: Script) -> Iterator[Edit]:
    """Make one write of RAM of two that touch."""
    for at in range(len(script.items) - 1, 0, -1):
        yield partial(_joined, at=at)


def _joined(script: Script, at: int) -> Script | None:
    if at >= len(script.items):
        return None
    first, second = script.items[at - 1].event, script.items[at].event
    if first[0] == second[0] == _MEM_WRITE and first[2] + len(first[3]) == second[2]:
        one = Item((_MEM_WRITE, 0, first[2], first[3] + second[3]))
        return script.but((*script.items[: at - 1], one, *script.items[at + 1 :]))
    return None


def whole(script: Script) -> Iterator[Edit]:
    """Make one write of the two halves of a register, where a guest wrote them in a row."""
    for at in range(len(script.items) - 1, 0, -1):
        yield partial(_both_halves, at=at)


def _both_halves(script: Script, at: int) -> Script | None:
    if at >= len(script.items):
        return None
    first, second = script.items[at - 1].event, script.items[at].event
    if not all(each[0] == _REG_WRITE and each[4:5] == (4,) for each in (first, second)):
        return None
    if second[2] != first[2] + 4 or first[2] % 8 or first[5:] or second[5:]:
        return None
    one = Item((_REG_WRITE, 0, first[2], first[3] | second[3] << 32))
    return script.but((*script.items[: at - 1], one, *script.items[at + 1 :]))


# -- fields


def silenced(script: Script) -> Iterator[Edit]:
    """Put nothing where a command is: the queue goes on past it as before."""
    for at, item in enumerate(script.items):
        if item.event[0] == COMMAND and any(item.event[2:6]):
            yield partial(_replaced_by, at=at, was=item, event=command(0, 0, 0, 0))


def _replaced_by(script: Script, at: int, was: Item, event: Event) -> Script | None:
    return _replaced(script, at, was, event)


def zeroed(script: Script) -> Iterator[Edit]:
    """Make every field of what is written zero, and every bit that no field names."""
    for at, item in enumerate(script.items):
        number = opened(item.event)
        for field in number.fields if number else ():
            if field.attr not in _NOT_ZEROED and number and number.raw & number.mask(field):
                yield partial(_field_zeroed, at=at, field=field)
        if number:
            yield partial(_rest_zeroed, at=at)


def _field_zeroed(script: Script, at: int, field: Field) -> Script | None:
    if at >= len(script.items):
        return None
    item = script.items[at]
    number = opened(item.event)
    if number is None or field not in number.fields:
        return None
    return _replaced(script, at, item, closed(item.event, number.raw & ~number.mask(field)))


def _rest_zeroed(script: Script, at: int) -> Script | None:
    if at >= len(script.items):
        return None
    item = script.items[at]
    number = opened(item.event)
    if number is None or not number.fields:
        return None
    named = 0
    for field in number.fields:
        named |= number.mask(field)
    return _replaced(script, at, item, closed(item.event, number.raw & named))


# -- identifiers, addresses, the VM


def flat(script: Script) -> Iterator[Edit]:
    """Have tables of one level: DeviceIDs get small, so that nothing but the first page is used."""
    if any(_is_indirect(item.event) for item in script.items):
        yield _flat


def _flat(script: Script) -> Script | None:
    two_levels = [item.event for item in script.items if _is_indirect(item.event)]
    low = {event[3] & _LEVEL1_ADDRESS for event in two_levels}
    items = []
    for item in script.items:
        event = item.event
        if event[0] == _MEM_WRITE and any(0 <= event[2] - each < _LEVEL1_BYTES for each in low):
            continue
        if _is_indirect(event):
            item = Item((*event[:3], event[3] & ~Baser.indirect.mask, *event[4:]), item.outputs)
        items.append(item)
    made = script.but(items)
    return renumber.least(made, speaks.DEVICE) or made if low else None


def _is_indirect(event: Event) -> bool:
    """Return whether it is a whole write of a BASER of two levels."""
    return event[0] == _REG_WRITE and event[2] in _BASERS and bool(event[3] & Baser.indirect.mask)


def renumbered(script: Script) -> Iterator[Edit]:
    """Give everything that has a number the smallest one."""
    if any(item.outputs for item in script.items):
        return  # recorded answers name what they name
    for what in renumber.CLASSES:
        yield from renumber.smallest(script, what)


def united(script: Script) -> Iterator[Edit]:
    """Make one of two devices, of two collections, and so on."""
    if len(script.items) > MOST_UNITED or any(item.outputs for item in script.items):
        return
    for what in renumber.CLASSES:
        yield from renumber.united(script, what)


def relocated(script: Script) -> Iterator[Edit]:
    """Move every table to a round address."""
    if any(item.outputs for item in script.items):
        return
    for stretch in addresses.stretches(script):
        yield partial(_moved, stretch=stretch)


def _moved(script: Script, stretch: addresses.Stretch) -> Script | None:
    to = next(addresses.places(script, stretch), None)
    return None if to is None else addresses.moved(script, stretch, to)


def machine(script: Script) -> Iterator[Edit]:
    """Take CPUs and RAM away from the VM."""
    yield from (partial(_cpus, count=count) for count in (1, 2, 4, 8))
    ranges = script.header.ram_ranges or []
    yield from (partial(_without_range, at=at) for at in range(len(ranges) - 1, -1, -1))
    for at, (_, size) in enumerate(ranges):
        for bit in range(21, max(size.bit_length(), 21)):
            yield partial(_smaller_range, at=at, size=1 << bit)


def _cpus(script: Script, count: int) -> Script | None:
    header = script.header
    if header.cpus is None or header.cpus <= count:
        return None
    mpidrs = header.mpidrs and header.mpidrs[:count]
    return script._replace(header=replace(header, cpus=count, mpidrs=mpidrs))


def _without_range(script: Script, at: int) -> Script | None:
    ranges = script.header.ram_ranges or []
    if len(ranges) < 2 or at >= len(ranges):
        return None
    return script._replace(header=replace(script.header, ram_ranges=ranges[:at] + ranges[at + 1 :]))


def _smaller_range(script: Script, at: int, size: int) -> Script | None:
    ranges = script.header.ram_ranges or []
    if at >= len(ranges) or ranges[at][1] <= size:
        return None
    new = [*ranges[:at], [ranges[at][0], size], *ranges[at + 1 :]]
    return script._replace(header=replace(script.header, ram_ranges=new))


REWRITES: Final[tuple[tuple[str, Callable[[Script], Iterator[Edit]]], ...]] = (
    ("fewer bytes of RAM", trimmed),
    ("commands to none", silenced),
    ("fields to zero", zeroed),
    ("one level", flat),
    ("small numbers", renumbered),
    ("one thing for two", united),
    ("round addresses", relocated),
    ("one write for two", merged),
    ("halves into one", whole),
    (MACHINE, machine),
)
