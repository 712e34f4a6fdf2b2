"""What an item speaks of: devices, events, LPIs, collections, CPUs, by the fields of its command.

Counterparts: `cuts`, which drops what speaks of the same thing at once, and `renumber`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from replay.minimize.items import COMMAND, Item
from tracer.events import NUMBER, Event
from tracer.its.commands import BY_OPCODE, join
from tracer.its.layout import Field

DEVICE: Final = "device"
EVENT: Final = "event"  # a pair (DeviceID, EventID)
LPI: Final = "LPI"
COLLECTION: Final = "collection"
CPU: Final = "CPU"

Thing = tuple[str, object]  # a class of identifiers, and one of them

# A field of a command -> what it identifies; EventIDs belong to their device.
CLASS_OF: Final = {
    "device_id": DEVICE,
    "event_id": EVENT,
    "pintid": LPI,
    "icid": COLLECTION,
    "rdbase": CPU,
    "rdbase1": CPU,
    "rdbase2": CPU,
}
FIELDS: Final[dict[int, tuple[tuple[str, Field], ...]]] = {
    opcode: tuple(
        (CLASS_OF[field.attr], field) for field in spec.layout.fields_ if field.attr in CLASS_OF
    )
    for opcode, spec in BY_OPCODE.items()
}
_MSI: Final = NUMBER["msi"]
_OF_CPU: Final = tuple(NUMBER[name] for name in ("gicr.write", "gicr.read", "vcpu"))
_LPI_LIVE: Final = NUMBER["lpi.live"]


def things(event: Event) -> list[Thing]:
    """Return what an item's event names."""
    kind = event[0]
    if kind == COMMAND:
        raw = join(*event[2:6])
        named = [(what, field.get(raw)) for what, field in FIELDS.get(raw & 0xFF, ())]
        device = next((number for what, number in named if what == DEVICE), None)
        return [(what, (device, number) if what == EVENT else number) for what, number in named]
    if kind == _MSI:
        return [(DEVICE, event[2]), (EVENT, (event[2], event[3]))]
    if kind in _OF_CPU:
        return [(CPU, event[2])]
    return [(LPI, event[3])] if kind == _LPI_LIVE else []


def of_class(event: Event, what: str) -> list[object]:
    """Return the identifiers of one class that an event names."""
    return [number for each, number in things(event) if each == what]


def concerned(items: Iterable[Item], about: Iterable[Thing]) -> set[Thing]:
    """Return what hangs together with `about`: the mappings of its events, and what these name."""
    named = [set(things(item.event)) for item in items if item.event[0] == COMMAND]
    found = set(about)
    found |= {(DEVICE, number[0]) for what, number in about if what == EVENT}  # type: ignore[index]
    for _ in range(2):  # an LPI's event, then that event's collection
        for each in named:
            if any(thing in found for thing in each if thing[0] in (EVENT, LPI)):
                found |= each
    for each in named:  # the CPUs of its collections
        if {what for what, _ in each} == {COLLECTION, CPU} and each & found:
            found |= each
    return found


def strangers(items: Iterable[Item], found: set[Thing], classes: Iterable[str]) -> Iterator[int]:
    """Yield which items name something of these classes that is not in `found`."""
    wanted = frozenset(classes)
    for at, item in enumerate(items):
        if any(thing[0] in wanted and thing not in found for thing in things(item.event)):
            yield at
