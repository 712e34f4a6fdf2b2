"""The bit fields of what an item writes, registers and commands alike.

`opened` gives the number with its fields in place, `closed` puts a number back. A half of a
register has the fields that it covers. Counterpart: `rewrites`, which changes them.
"""

from __future__ import annotations

from typing import Final

from replay.minimize.items import COMMAND
from replay.numbers import Number, of_command, of_register
from tracer.events import NUMBER, Event
from tracer.its.commands import join, split

_REG_WRITE: Final = NUMBER["reg.write"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_VALUE_AT: Final = {_REG_WRITE: 3, _GICR_WRITE: 4}


def opened(event: Event) -> Number | None:
    """Return the number that an item's event carries, or None."""
    kind = event[0]
    if kind == COMMAND:
        return of_command(join(*event[2:6]))
    if kind not in _VALUE_AT:
        return None
    at = _VALUE_AT[kind]
    size = event[at + 1] if len(event) > at + 1 else 8
    return of_register(event[at - 1], event[at], size, its=kind == _REG_WRITE)


def closed(event: Event, raw: int) -> Event:
    """Return an event with another number in it."""
    if event[0] == COMMAND:
        return (COMMAND, 0, *split(raw))
    at = _VALUE_AT[event[0]]
    return (*event[:at], raw, *event[at + 1 :])
