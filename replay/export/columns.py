"""What an event's fields mean, as columns of a table: the register, the command and its fields.

Counterparts: `sqlite`, a table for each kind, and `parquet`, one for all; `ctf` and `perfetto` name
the same things.
"""

from __future__ import annotations

import json
from typing import Any, Final

from replay.decode import REGISTERS
from tracer.events import NUMBER, Event
from tracer.its import commands

COMMAND: Final = NUMBER["command"]
# What a command's doublewords say.
COMMAND_FIELDS: Final = tuple(
    dict.fromkeys(
        field.attr
        for spec in commands.COMMANDS
        for field in spec.layout.fields_
        if field.attr != "opcode"
    )
)


def register_of(number: int, offset: int) -> str | None:
    """Return the register that an access is to; None where it is no access, or to none."""
    find = REGISTERS.get(number)
    found = find(offset) if find else None
    return found[0] if found else None


def command_of(f: dict[str, Any]) -> tuple[str, dict[str, int]]:
    """Return a command's name and those of its fields that are known."""
    name = commands.decode(f["dw0"], f["dw1"], f["dw2"], f["dw3"])[0]
    spec = commands.BY_NAME.get(name)
    if spec is None:
        return name, {}
    raw = commands.join(f["dw0"], f["dw1"], f["dw2"], f["dw3"])
    known = commands.join(f["known0"], f["known1"], f["known2"], f["known3"])
    return name, {
        field.attr: field.get(raw)
        for field in spec.layout.fields_
        if field.attr != "opcode" and known & field.mask
    }


def unknown_fields(event: Event) -> str:
    """Return what a newer recorder wrote as JSON, bytes as hexadecimal digits."""
    return json.dumps(event[2:], default=lambda item: item.hex())
