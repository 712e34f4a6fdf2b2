"""What a candidate is made of while it is made smaller: an event with the outputs it caused.

Two kinds stand in for what a queue needs several events for: `COMMAND` is a command that goes into
the queue, `KICK` the write to CWRITER that submits those before it. They never leave this package.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tracer.events import Event

COMMAND: Final = -1  # (COMMAND, 0, dw0, dw1, dw2, dw3)
KICK: Final = -2  # (KICK, 0, size, origin, retry)


class Item(NamedTuple):
    """An event, and the outputs that it caused, whose causes are filled in when it is lowered."""

    event: Event
    outputs: tuple[Event, ...] = ()


Items = tuple[Item, ...]


def command(*words: int) -> Event:
    """Return a command of four doublewords, as an item's event."""
    return (COMMAND, 0, *words)


def kick(size: int, origin: int, retry: int = 0) -> Event:
    """Return a write to CWRITER whose value is wherever the queue then ends."""
    return (KICK, 0, size, origin, retry)
