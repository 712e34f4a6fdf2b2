"""The bit fields of a register that was accessed, whole or a half of it, and of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tracer.its.commands import BY_OPCODE
from tracer.its.layout import Field
from tracer.its.registers import gicr_register, its_register

_SIZES: Final = (1, 2, 4, 8)  # a sender may name any


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


def of_register(offset: int, raw: int, size: int, *, its: bool) -> Number | None:
    """Return what an access of `size` bytes carries, of the ITS or of a redistributor."""
    found = (its_register if its else gicr_register)(offset)
    if found is None or size not in _SIZES:
        return None
    _, row, start = found
    fields = tuple(field for field in row.layout.fields_ if not field.alias)
    return Number(raw, 8 * (offset - start), 8 * size, fields)


def of_command(raw: int) -> Number | None:
    """Return a command of 256 bits; None for an opcode that nobody knows."""
    spec = BY_OPCODE.get(raw & 0xFF)
    return Number(raw, 0, 256, spec.layout.fields_) if spec else None
