"""What can be left out of a script together, coarse before fine: pure functions, and their table.

A cut is a set of places in the script that it was made for; `halved` tries units of a script by
the half, the quarter, and so on, later ones first, since what is early is what later things need.
Counterpart: `replay.minimize.search`, which tries them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from replay.minimize import speaks
from replay.minimize.items import COMMAND, KICK, Item
from replay.minimize.oracle import Candidate
from replay.minimize.script import QUESTIONS, Script
from tracer.events import FIRST_NOTE, NUMBER

Cut = frozenset[int]
Key = Callable[[Item], Hashable]

_RESET: Final = NUMBER["reset"]
_MEM_WRITE: Final = NUMBER["mem.write"]
_REG_WRITE: Final = NUMBER["reg.write"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_IDLE: Final = frozenset((*QUESTIONS, NUMBER["probe"], NUMBER["context"], NUMBER["vcpu"]))

_LAST_BOOTS: Final = 4
_SHORTEST_END: Final = 32


@dataclass(frozen=True, slots=True)
class Grouped:
    """A pass that drops groups of items: all that have a key in common."""

    name: str
    units: Callable[[Script], list[Cut]]


def idle(script: Script, keep: int) -> Cut:
    """Return what only looks, but for the item at `keep`."""
    return frozenset(
        at
        for at, item in enumerate(script.items)
        if at != keep and (item.event[0] in _IDLE or item.event[0] >= FIRST_NOTE)
    )


def unconcerned(script: Script, about: Sequence[speaks.Thing]) -> Iterator[Cut]:
    """Yield what has nothing to do with what the signature speaks of, strictly and less so."""
    found = speaks.concerned(script.items, about)
    for classes in (
        (speaks.DEVICE, speaks.EVENT, speaks.LPI, speaks.COLLECTION, speaks.CPU),
        (speaks.DEVICE, speaks.EVENT, speaks.LPI, speaks.COLLECTION),
        (speaks.DEVICE, speaks.EVENT),
        (speaks.DEVICE,),
    ):
        yield frozenset(speaks.strangers(script.items, found, classes))


def boots(script: Script) -> list[Cut]:
    """Return the stretches from each reset up to the next one."""
    found: list[list[int]] = [[]]
    for at, item in enumerate(script.items):
        if item.event[0] == _RESET:
            found.append([])
        found[-1].append(at)
    return [frozenset(each) for each in found if each]


def ends(script: Script) -> Iterator[Cut]:
    """Yield what stands before the last boot, before the last two, before the last few items.

    Small scripts first: a candidate costs what is left of it, so that all of these together cost
    no more than two that leave nothing out.
    """
    count = len(script.items)
    sizes = {count - min(each) for each in boots(script)[::-1][:_LAST_BOOTS]}
    sizes |= {_SHORTEST_END << step for step in range(count.bit_length())}
    for size in sorted(each for each in sizes if each < count):
        yield frozenset(range(count - size))


def boots_up_to(candidate: Candidate, places: Iterable[int]) -> list[Candidate]:
    """Return the boots that have one of these events in them, each up to the first; shortest first.

    A boot begins with a reset, or where the trace does.
    """
    starts = [0, *(at for at, event in enumerate(candidate.events) if event[0] == _RESET)]
    ends: dict[int, int] = {}
    for place in places:
        ends.setdefault(starts[bisect_right(starts, place) - 1], place + 1)
    order = sorted(ends, key=lambda start: ends[start] - start)
    return [candidate._replace(events=candidate.events[at : ends[at]]) for at in order]


def by_thing(what: str) -> Callable[[Script], list[Cut]]:
    """Return a function that groups items by what they name of one class."""

    def units(script: Script) -> list[Cut]:
        found: dict[object, list[int]] = {}
        for at, item in enumerate(script.items):
            for number in speaks.of_class(item.event, what):
                found.setdefault(number, []).append(at)
        return [frozenset(each) for each in found.values()]

    return units


def by_key(key: Key) -> Callable[[Script], list[Cut]]:
    """Return a function that groups items by a key; None is in no group."""

    def units(script: Script) -> list[Cut]:
        found: dict[Hashable, list[int]] = {}
        for at, item in enumerate(script.items):
            if (value := key(item)) is not None:
                found.setdefault(value, []).append(at)
        return [frozenset(each) for each in found.values()]

    return units


def kind_of(item: Item) -> Hashable:
    """Return what an item does: its kind, with the command's opcode or the register."""
    event = item.event
    if event[0] == COMMAND:
        return COMMAND, event[2] & 0xFF
    if event[0] in (_REG_WRITE, _GICR_WRITE):
        return event[0], event[2 if event[0] == _REG_WRITE else 3]
    return int(event[0])


def ram_of(item: Item) -> Hashable:
    """Return where an item writes guest RAM."""
    gpa: int | None = item.event[2] if item.event[0] == _MEM_WRITE else None
    return gpa


def single(script: Script) -> list[Cut]:
    """Return every item alone."""
    return [frozenset((at,)) for at in range(len(script.items))]


def pairs(script: Script) -> Iterator[Cut]:
    """Yield every two items, near ones first: what is done and undone needs the other one."""
    count = len(script.items)
    for apart in range(1, count):
        for at in range(count - apart):
            yield frozenset((at, at + apart))


def kicks(script: Script) -> list[Cut]:
    """Return the writes to CWRITER that are followed by more commands: one does for all."""
    found = []
    held: int | None = None
    for at, item in enumerate(script.items):
        if item.event[0] == KICK:
            if held is not None:
                found.append(frozenset((held,)))
            held = at
        elif item.event[0] != COMMAND:
            held = None
    return found


GROUPS: Final = (
    Grouped("boots", boots),
    Grouped("devices", by_thing(speaks.DEVICE)),
    Grouped("collections", by_thing(speaks.COLLECTION)),
    Grouped("CPUs", by_thing(speaks.CPU)),
    Grouped("LPIs", by_thing(speaks.LPI)),
    Grouped("events", by_thing(speaks.EVENT)),
    Grouped("kinds", by_key(kind_of)),
    Grouped("stretches of RAM", by_key(ram_of)),
    Grouped("queue writes", kicks),
)


def halved(units: Sequence[Cut]) -> Iterator[Cut]:
    """Yield unions of neighbouring units: all, halves, quarters, down to single ones."""
    size = len(units)
    while size >= 1:
        for end in range(len(units), 0, -size):
            yield frozenset().union(*units[max(end - size, 0) : end])
        size //= 2
