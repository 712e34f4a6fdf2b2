"""Other numbers for devices, events, LPIs, collections and CPUs, everywhere at once.

Numbers are changed in commands, in MSIs, in what names a CPU, and in guest RAM where a byte is the
configuration of one LPI. What stands in RAM otherwise (a table that a guest wrote by hand) is not
understood: the oracle refuses such a script. Counterpart: `speaks`, which says who names what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from replay.minimize import speaks
from replay.minimize.items import COMMAND, Item
from replay.minimize.script import Script
from tracer.events import NUMBER, Event
from tracer.its.commands import join, split

FIRST_LPI: Final = 8192
_MSI: Final = NUMBER["msi"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_MEM_WRITE: Final = NUMBER["mem.write"]
_OF_CPU: Final = frozenset(NUMBER[name] for name in ("gicr.write", "gicr.read", "vcpu"))
_PROPBASER: Final = 0x70
_ADDRESS: Final = 0xFFFF_F000
_BYTES_OF_LPIS: Final = 0x1_0000

Edit = Callable[[Script], Script | None]
Map = Mapping[object, int]  # an identifier, or a pair for an event -> its new number


def renumbered(script: Script, what: str, numbers: Map) -> Script:
    """Return a script with other numbers in one class."""
    tables = _configuration_tables(script) if what == speaks.LPI else ()
    return script.but(
        Item(_event(item.event, what, numbers, tables), item.outputs) for item in script.items
    )


def _event(event: Event, what: str, numbers: Map, tables: tuple[int, ...]) -> Event:
    kind = event[0]
    if kind == COMMAND:
        return _command(event, what, numbers)
    if kind == _MSI and what == speaks.DEVICE:
        return (*event[:2], numbers.get(event[2], event[2]), *event[3:])
    if kind == _MSI and what == speaks.EVENT:
        return (*event[:3], numbers.get((event[2], event[3]), event[3]), *event[4:])
    if kind in _OF_CPU and what == speaks.CPU:
        return (*event[:2], numbers.get(event[2], event[2]), *event[3:])
    if kind == _MEM_WRITE and len(event[3]) == 1:
        return _configuration(event, numbers, tables)
    return event


def _command(event: Event, what: str, numbers: Map) -> Event:
    raw = join(*event[2:6])
    named = speaks.FIELDS.get(raw & 0xFF, ())
    device = next((field.get(raw) for each, field in named if each == speaks.DEVICE), None)
    for each, field in named:
        old: object = field.get(raw)
        if each == speaks.EVENT:
            old = (device, old)
        if each == what and old in numbers:
            raw = raw & ~field.mask | field.put(numbers[old])
    return (COMMAND, 0, *split(raw))


def _configuration(event: Event, numbers: Map, tables: tuple[int, ...]) -> Event:
    for base in tables:
        intid = event[2] - base + FIRST_LPI
        if intid in numbers and base <= event[2] < base + _BYTES_OF_LPIS:
            return (*event[:2], base + numbers[intid] - FIRST_LPI, *event[3:])
    return event


def _configuration_tables(script: Script) -> tuple[int, ...]:
    """Return where PROPBASER points, as far as its lower half says."""
    found = {
        item.event[4] & _ADDRESS: None
        for item in script.items
        if item.event[0] == _GICR_WRITE and item.event[3] == _PROPBASER
    }
    return tuple(found)


def used(script: Script, what: str) -> list[object]:
    """Return the identifiers of a class in the order in which they are first named."""
    found: dict[object, None] = {}
    for item in script.items:
        found |= dict.fromkeys(speaks.of_class(item.event, what))
    return list(found)


def smallest(script: Script, what: str) -> Iterator[Edit]:
    """Yield edits that give all of a class the smallest numbers, then each one alone."""
    names = used(script, what)
    yield lambda now: _all(now, what)
    for name in names:
        yield lambda now, name=name: _one(now, what, name)  # type: ignore[misc]


def united(script: Script, what: str) -> Iterator[Edit]:
    """Yield edits that make one of two identifiers: what is then done twice can go."""
    names = used(script, what)
    for at, name in enumerate(names):
        for other in names[at + 1 :]:
            yield lambda now, one=name, two=other: _one_of_two(now, what, one, two)  # type: ignore[misc]


def _one_of_two(script: Script, what: str, one: object, two: object) -> Script | None:
    names = used(script, what)
    same_owner = not isinstance(one, tuple) or not isinstance(two, tuple) or one[0] == two[0]
    if one not in names or two not in names or not same_owner:
        return None
    least = min(_number(one), _number(two))
    return _fitting(script, what, {one: least, two: least})


def _first(what: str) -> int:
    return FIRST_LPI if what == speaks.LPI else 0


def least(script: Script, what: str) -> Script | None:
    """Return a script with the smallest numbers in a class; None where they are."""
    return _all(script, what)


def _all(script: Script, what: str) -> Script | None:
    numbers: dict[object, int] = {}
    counts: dict[object, int] = {}
    for name in used(script, what):
        of = name[0] if isinstance(name, tuple) else None
        numbers[name] = counts.setdefault(of, _first(what))
        counts[of] += 1
    if all(_number(name) == number for name, number in numbers.items()):
        return None
    return _fitting(script, what, numbers)


def _one(script: Script, what: str, name: object) -> Script | None:
    """Give one identifier the smallest number that is free."""
    names = used(script, what)
    of = name[0] if isinstance(name, tuple) else None
    taken = {_number(each) for each in names if not isinstance(each, tuple) or each[0] == of}
    free = next(number for number in range(_first(what), 1 << 32) if number not in taken)
    if name not in names or free >= _number(name):
        return None
    return _fitting(script, what, {name: free})


def _number(name: object) -> int:
    number = name[1] if isinstance(name, tuple) else name
    assert isinstance(number, int)
    return number


def _fitting(script: Script, what: str, numbers: Map) -> Script | None:
    try:
        return renumbered(script, what, numbers)
    except ValueError:  # a number is too large for a field: never a smaller script
        return None


CLASSES: Final = (speaks.DEVICE, speaks.EVENT, speaks.COLLECTION, speaks.LPI, speaks.CPU)
