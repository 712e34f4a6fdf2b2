"""The bit fields of what an item writes, registers and commands alike.

`opened` gives the number with its fields in place, `closed` puts a number back. A half of a
register has the fields that it covers. Counterpart: `rewrites`, which changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from replay.minimize.items import COMMAND
from tracer.events import NUMBER, Event
from tracer.its.commands import BY_OPCODE, join, split
from tracer.its.layout import Field
from tracer.its.registers import gicr_register, its_register

_REG_WRITE: Final = NUMBER["reg.write"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_VALUE_AT: Final = {_REG_WRITE: 3, _GICR_WRITE: 4}


@dataclass(frozen=True, slots=True)
class Number:
    """What is written, and which bits of it are which field."""

    raw: int
    shift: int  # the register's bit that stands in bit 0
    width: int
    fields: tuple[Field, ...]

    def mask(self, field: Field) -> int:
        """Return the bits of a field that are in this number."""
        return field.mask >> self.shift & (1 << self.width) - 1

    def get(self, field: Field) -> int:
        """Return a field's value, an address where it is one, as far as it is in this number."""
        return field.get(self.raw << self.shift)

    def put(self, field: Field, value: int) -> int | None:
        """Return the number with another value in a field; None where it does not fit."""
        stored = value >> field.place
        bits = stored << field.lo >> self.shift
        if stored << field.place != value or bits & ~self.mask(field):
            return None
        return self.raw & ~self.mask(field) | bits


def opened(event: Event) -> Number | None:
    """Return the number that an item's event carries, or None."""
    kind = event[0]
    if kind == COMMAND:
        raw = join(*event[2:6])
        spec = BY_OPCODE.get(raw & 0xFF)
        return Number(raw, 0, 256, spec.layout.fields_) if spec else None
    if kind not in _VALUE_AT:
        return None
    at = _VALUE_AT[kind]
    offset = event[at - 1]
    found = (its_register if kind == _REG_WRITE else gicr_register)(offset)
    if found is None or found[1].layout is None:
        return None
    size = event[at + 1] if len(event) > at + 1 else 8
    _, row, start = found
    fields = tuple(field for field in row.layout.fields_ if not field.alias)
    return Number(event[at], 8 * (offset - start), 8 * size, fields)


def closed(event: Event, raw: int) -> Event:
    """Return an event with another number in it."""
    if event[0] == COMMAND:
        return (COMMAND, 0, *split(raw))
    at = _VALUE_AT[event[0]]
    return (*event[:at], raw, *event[at + 1 :])
