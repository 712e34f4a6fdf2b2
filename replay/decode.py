"""Events as people read them: registers and commands by name, fields by the manual's names.

Counterpart: `tracer.log.text`, which is lossless and decodes nothing.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tracer import events as ev
from tracer.events import ENTRY_FIELDS, NUMBER, Event, fields_of, kind_name
from tracer.its import commands
from tracer.its.registers import gicr_register, its_register
from tracer.log.text import format_value

REGISTERS: Final = {
    NUMBER["reg.read"]: its_register,
    NUMBER["reg.write"]: its_register,
    NUMBER["gicr.read"]: gicr_register,
    NUMBER["gicr.write"]: gicr_register,
}
_COMMAND: Final = NUMBER["command"]
ENTRIES: Final = (NUMBER["table.read"], NUMBER["table.write"])
# Numbers that this field's people write in decimal.
_DECIMAL: Final = frozenset(
    ("pINTID", "vINTID", "Dbell_pINTID", "Doorbell", "ICID", "RDbase", "RDbase1", "RDbase2")
)


def names() -> set[str]:
    """Return every name that `decode` can give, for checking a filter."""
    found = {"seq", "kind", "dt_ns", "time_ns", "register", "command"}
    for cls in ev.KINDS.values():
        found |= {field.name for field in cls.fields}
    for spec in commands.COMMANDS:
        found |= {field.name for field in spec.layout.fields_}
    for fields in ENTRY_FIELDS.values():
        found |= set(fields)
    return found


def decode(seq: int, time_ns: int, event: Event) -> dict[str, Any]:
    """Return name -> value of everything that is known of an event."""
    shown: dict[str, Any] = {"seq": seq, "time_ns": time_ns, "kind": kind_name(event[0])}
    cls = ev.KINDS.get(event[0])
    forms = {field.name: field.form for field in cls.fields} if cls else {}
    for name, value in fields_of(event).items():
        form = forms.get(name)
        if isinstance(form, tuple) and isinstance(value, int) and value < len(form):
            value = form[value]
        shown[name] = value
    find = REGISTERS.get(event[0])
    if find:
        found = find(shown["offset"])
        if found:
            shown["register"] = found[0]
    elif event[0] == _COMMAND:
        _decode_command(shown)
    elif event[0] in ENTRIES:
        for at, name in enumerate(ENTRY_FIELDS[event[3]], 1):
            shown[name] = shown.pop(f"e{at}")
        for at in range(len(ENTRY_FIELDS[event[3]]) + 1, 6):
            shown.pop(f"e{at}", None)
    return shown


def _decode_command(shown: dict[str, Any]) -> None:
    name, fields = commands.decode(*(shown[f"dw{at}"] for at in range(4)))
    known = commands.join(*(shown[f"known{at}"] for at in range(4)))
    shown["command"] = name
    spec = commands.BY_NAME.get(name)
    masks = {field.name: field.mask for field in spec.layout.fields_} if spec else {}
    for field, value in fields:
        shown[field] = value if known & masks[field] else None


def describe(event: Event) -> str:
    """Return one line: what happened, without sequence number and time."""
    kind = event[0]
    shown = decode(0, 0, event)
    if kind in REGISTERS:
        return _register_line(shown)
    if kind == _COMMAND:
        return _command_line(shown)
    cls = ev.KINDS.get(kind)
    if cls is None:
        return f"{kind_name(kind)} " + " ".join(map(repr, event[2:]))
    if kind in ENTRIES:
        return _entry_line(shown, event)
    parts = [cls.name]
    for field, value in zip(cls.fields, fields_of(event).values(), strict=False):
        if value != field.default:
            parts.append(f"{field.name}={format_value(field, value)}")
    return " ".join(parts)


def _register_line(shown: dict[str, Any]) -> str:
    offset, size = shown["offset"], shown["size"]
    name = shown.get("register", "")
    where = f"[{shown['cpu']}]" if "cpu" in shown else ""
    line = f"{shown['kind']:10} {offset:#08x}/{size} {name + where:16} {shown['value']:#x}"
    fields = _register_fields(shown)
    extra = [shown["origin"]] if shown["origin"] != "guest" else []
    extra += ["bad access"] if shown["bad"] else []
    return " ".join([line, *([f"({fields})"] if fields else []), *extra])


def _register_fields(shown: dict[str, Any]) -> str:
    """The fields that are not zero, when the access covers the register from its start."""
    find = gicr_register if "cpu" in shown else its_register
    found = find(shown["offset"])
    if not found or found[2] != shown["offset"]:
        return ""
    layout = found[1].layout
    raw = shown["value"] & (1 << layout.width_) - 1
    return " ".join(
        field.name if field.ones == 1 else f"{field.name}={field.get(raw):#x}"
        for field in layout.fields_
        if field.get(raw) and not field.alias
    )


def _command_line(shown: dict[str, Any]) -> str:
    spec = commands.BY_NAME.get(shown["command"])
    fields = [field.name for field in spec.layout.fields_ if field.name != "Opcode"] if spec else []
    values = " ".join(f"{name}={_number(name, shown[name])}" for name in fields)
    return f"{'command':10} {shown['queue_offset']:#07x}   {shown['command']:9} {values}".rstrip()


def _entry_line(shown: dict[str, Any], event: Event) -> str:
    names = ENTRY_FIELDS[event[3]]
    base = f" at {shown['base']:#x}" if shown["base"] else ""
    values = " ".join(f"{name}={_number(name, shown[name])}" for name in names)
    valid = "valid" if shown["valid"] else "invalid"
    return f"{shown['kind']:11} {shown['table']} {shown['index']:#x}{base}: {valid} {values}"


def _number(name: str, value: int | None) -> str:
    if value is None:
        return "?"
    return str(value) if name in _DECIMAL or name in ("intid", "icid", "rdbase") else hex(value)


def to_json(shown: dict[str, Any]) -> str:
    """Return one JSON line of a decoded event; 64-bit values are hexadecimal strings."""
    small = ("seq", "time_ns", "cause", "size", "cpu", "bad", "valid", "result", "errno", "queued")
    answer = {
        name: value if name in small or not isinstance(value, int) else hex(value)
        for name, value in shown.items()
    }
    return json.dumps(answer, default=lambda item: item.hex())
