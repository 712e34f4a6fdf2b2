"""The events that every contestant gets: a real QEMU's two boots of Linux, over and over, with their own times.

The capture begins with a date and with power-on; each copy behind the first begins with a system reset instead.

Counterpart: `contestants`, who store them. `Told` is how a reader proves that it saw these events, and
`Fold` is the simple state that everybody can keep who has no model of an ITS.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Final, NamedTuple

import msgpack

from tests.support.captures import TWO_BOOTS_TIMED, open_capture
from tracer.events import NUMBER, SYSTEM, Event, make
from tracer.log.header import Header

PAUSE_NS: Final = 1_000_000_000  # between a copy and the next
PROFILE: Final = "qemu-7.2.22"
_REG_WRITE: Final = NUMBER["reg.write"]
_COMMAND: Final = NUMBER["command"]

pack = msgpack.Packer().pack


def header() -> Header:
    """Return the capture's header."""
    return open_capture(TWO_BOOTS_TIMED).header


def once() -> list[Event]:
    """Return the events of the capture."""
    return [event for _, block in open_capture(TWO_BOOTS_TIMED) for event in block]


def stream(count: int, *, worn: bool = False) -> Iterator[Event]:
    """Yield so many events; `worn`: no copy has the times of another, each is up to a tenth off."""
    first = once()
    again = [make("reset", PAUSE_NS, how=SYSTEM), *first[1:]]
    copies = chain(first, chain.from_iterable(repeat(again)))
    yield from islice(_worn(copies) if worn else copies, count)


def _worn(events: Iterable[Event]) -> Iterator[Event]:
    between = random.Random(1).uniform
    for event in events:
        yield (event[0], round(event[1] * between(0.9, 1.1)), *event[2:])


class Told(NamedTuple):
    """What a reader says that it saw."""

    events: int
    crc: int  # over their canonical bytes, in order


def told(events: Iterable[Event]) -> Told:
    """Return what these events are."""
    count = crc = 0
    for event in events:
        count += 1
        crc = zlib.crc32(pack(event), crc)
    return Told(count, crc)


class Fold:
    """A state without a model: the last value of each register, and how often each command came."""

    def __init__(self) -> None:
        self.registers: dict[int, int] = {}
        self.commands: Counter[int] = Counter()

    def apply(self, event: Event) -> None:
        """Take in an event."""
        kind = event[0]
        if kind == _REG_WRITE:
            self.registers[event[2]] = event[3]
        elif kind == _COMMAND:
            self.commands[event[4] & 0xFF] += 1

    @property
    def final(self) -> list[list[int]]:
        """What the state is, as JSON can say it."""
        return [
            *map(list, sorted(self.registers.items())),
            *map(list, sorted(self.commands.items())),
        ]


def folded(events: Iterable[Event]) -> Fold:
    """Return the state after these events."""
    fold = Fold()
    apply = fold.apply
    for event in events:
        apply(event)
    return fold


Group = list[list[int]]  # kind, the first field, how many, and their times in all


def grouped(events: Iterable[Event]) -> Group:
    """Return how many events there are of each kind and first field, and the sum of their times."""
    counts: Counter[tuple[int, int]] = Counter()
    times: Counter[tuple[int, int]] = Counter()
    for event in events:
        key = event[0], event[2]
        counts[key] += 1
        times[key] += event[1]
    return [[*key, counts[key], times[key]] for key in sorted(counts)]
