"""How an event is called on a Perfetto track, and what is said of it when it is selected.

Counterpart: `perfetto`, which draws it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from replay.decode import ENTRIES, REGISTERS
from replay.export.columns import COMMAND, COMMAND_FIELDS, command_of, register_of, unknown_fields
from replay.export.streaming import inner
from tracer.events import ENTRY_FIELDS, KINDS, RESET_KINDS, TABLES, Event, Field, kind_name
from tracer.its.commands import BY_NAME

MAX_SHOWN: Final = 1000  # characters of a text, digits of bytes
_MAX_NAME: Final = 80
_RAW: Final = re.compile(r"(?:dw|known)[0-3]")  # of a command whose fields are told
_FIELDS: Final = [field for cls in KINDS.values() for field in cls.fields]
_DECODED: Final = [*COMMAND_FIELDS, *(name for each in ENTRY_FIELDS.values() for name in each)]

CATEGORIES: Final = [*(cls.name for cls in KINDS.values()), "unknown", "queue", "verdict"]
ANNOTATIONS: Final = [
    "seq", *(field.name for field in _FIELDS), *_DECODED, "register", "fields",
    "waited_ns", "verdict", "findings", "observed", "caveats",
]  # fmt: skip
HEXADECIMAL: Final = (
    frozenset(field.name for field in _FIELDS if field.form == "hex")
    | frozenset(name for name in _DECODED if name.endswith("addr") or name == "address")
) - {"size"}


def called(event: Event, f: dict[str, Any]) -> str:
    """Return a name of which a trace has few: what differs each time is said of the event."""
    make = _NAMES.get(kind_name(event[0]))
    return make(event, f) if make else KINDS[event[0]].name


_Make = Callable[[Event, dict[str, Any]], str]


def _access(event: Event, f: dict[str, Any]) -> str:
    name = register_of(event[0], f["offset"]) or hex(f["offset"])
    return f"{name} {KINDS[event[0]].name.partition('.')[2]}"


def _entry(event: Event, f: dict[str, Any]) -> str:
    return f"{TABLES[f['table']]} {KINDS[event[0]].name.partition('.')[2]}"


def _note(event: Event, f: dict[str, Any]) -> str:
    return f"{KINDS[event[0]].name}: {inner(f.get('text') or f.get('reason') or '')[:_MAX_NAME]}"


_NAMES: Final[dict[str, _Make]] = {
    "reg.read": _access, "reg.write": _access, "gicr.read": _access, "gicr.write": _access,
    "gicd.read": _access, "gicd.write": _access,
    "table.read": _entry, "table.write": _entry, "table.fault": _entry,
    "loss": _note, "source.gap": _note, "marker": _note,
    "command": lambda _, f: command_of(f)[0],
    "msi": lambda _, f: f"MSI {f['event_id']:#x}",
    "lpi": lambda _, f: f"LPI {f['intid']}",
    "lpi.ack": lambda _, f: f"LPI {f['intid']} acknowledged",
    "lpi.live": lambda _, f: f"LPI {f['intid']}",
    "reset": lambda _, f: RESET_KINDS[f["how"]],
    "vcpu": lambda _, f: "stops" if f["action"] else "runs",
}  # fmt: skip


def told(seq: int, event: Event, f: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of an event and is not what it mostly is."""
    found: dict[str, Any] = {"seq": seq}
    for field in KINDS[event[0]].fields:
        value = f[field.name]
        if value is None or value == field.default:
            continue
        found[field.name] = _shown(field, value)
    if event[0] == COMMAND:
        name, fields = command_of(f)
        if name in BY_NAME:
            found = {key: value for key, value in found.items() if not _RAW.fullmatch(key)}
        found |= fields
    elif event[0] in ENTRIES:
        for at, name in enumerate(ENTRY_FIELDS[event[3]], 1):
            if f"e{at}" in found:
                found[name] = found.pop(f"e{at}")
    elif event[0] in REGISTERS and (register := register_of(event[0], f["offset"])):
        found["register"] = register
    return found


def _shown(field: Field, value: Any) -> int | str:
    if isinstance(field.form, tuple):
        return str(field.form[value])
    if field.form == "text":
        return inner(value)[:MAX_SHOWN]
    if field.form == "bytes":
        return str(value[: MAX_SHOWN // 2].hex())
    return int(value)


def unknown(seq: int, event: Event) -> dict[str, Any]:
    """Return what is known of an event of a kind that is not."""
    return {"seq": seq, "fields": unknown_fields(event)[:MAX_SHOWN]}
