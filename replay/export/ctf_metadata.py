"""The metadata of a CTF 1.8 trace (TSDL): one event class a kind, from the event table.

A field that may be null is a variant beside its tag, NAME_is. Text is written as within a JSON
string: whatever a guest put into it, it is printable ASCII without a NUL, and nothing is lost.
Field names begin with _, which readers take off: the words of TSDL are then no matter.
Counterpart: `ctf`, which writes what is declared here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from replay.decode import REGISTERS
from replay.export.columns import COMMAND
from replay.export.streaming import NO_CLOCK, STEP_NS, inner, public
from tracer.events import KINDS, Field
from tracer.its.commands import Opcode
from tracer.its.registers import gicr_register, its_register
from tracer.log.header import Header

UNKNOWN: Final = 256  # the event class of kinds that a newer recorder wrote
PLAIN, OF_A_CPU = range(2)  # stream classes
SECOND_NS: Final = 1_000_000_000

_HEAD: Final = """\
/* CTF 1.8 */
typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 16; align = 8; signed = false; } := uint16_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
typealias integer { size = 64; align = 8; signed = false; base = 16; } := hex_t;
typealias integer { size = 64; align = 8; signed = true; } := int64_t;
typealias integer { size = 8; align = 8; signed = false; base = 16; } := byte_t;
trace {
	major = 1; minor = 8; byte_order = le; uuid = "%s";
	packet.header := struct { uint32_t magic; uint8_t uuid[16]; uint32_t stream_id; };
};
"""
_CLOCK: Final = """\
clock { name = itstrace; freq = %d; description = "%s"; };
typealias integer { size = 64; align = 8; signed = false; map = clock.itstrace.value; } := clock_t;
"""
_STREAM: Final = """\
stream {
	id = %d;
	packet.context := struct {
		clock_t timestamp_begin; clock_t timestamp_end; uint64_t content_size; uint64_t packet_size;
		uint64_t events_discarded;%s
	};
	event.header := struct { uint16_t id; clock_t timestamp; };
	event.context := struct { uint64_t _seq; int64_t _time_ns; };
};
"""
_SIMPLE: Final = {"hex": "hex_t", "dec": "uint64_t", "int": "int64_t", "text": "string"}
_HEADER: Final = frozenset(each.name for each in fields(Header)) - {"extra", "uuid"}


def uuid_of(header: Header) -> UUID:
    """Return the trace's UUID, or one made of what the header has instead."""
    try:
        return UUID(header.uuid)
    except ValueError:
        return UUID(bytes=blake2b(header.uuid.encode(), digest_size=16).digest())


def metadata(header: Header, streams: Iterable[int]) -> str:
    """Return the metadata of a trace with these stream classes."""
    parts = [_HEAD % uuid_of(header), _environment(header), _CLOCK % _clock(header)]
    for stream in streams:
        parts.append(_STREAM % (stream, " uint32_t cpu_id;" if stream == OF_A_CPU else ""))
        parts += [_event(number, stream) for number in KINDS]
        declared = "\t\tuint8_t _kind; string _fields;\n"
        parts.append(_EVENT % ("unknown", UNKNOWN, stream, declared))
    return "".join(parts)


def _quoted(text: str) -> str:
    return inner(text).replace("\\", "\\\\").replace('"', '\\"')


def _clock(header: Header) -> tuple[int, str]:
    if header.clock == NO_CLOCK:
        return SECOND_NS // STEP_NS, "sequence numbers, as microseconds: the trace has no times"
    return SECOND_NS, _quoted(header.clock)


def _environment(header: Header) -> str:
    told: dict[str, Any] = {"tracer_name": "itstrace", "trace_uuid": header.uuid}
    told |= {key: value for key, value in public(header).items() if key in _HEADER}
    if header.extra:
        told["extra"] = header.extra
    lines = [
        f'\t{key} = "{_quoted(value if isinstance(value, str) else json.dumps(value))}";\n'
        for key, value in told.items()
        if value is not None
    ]
    return "env {\n" + "".join(lines) + "};\n"


# -- event classes

_EVENT: Final = """\
event {
	name = "%s"; id = %d; stream_id = %d;
	fields := struct {
%s	};
};
"""


def _event(number: int, stream: int) -> str:
    cls = KINDS[number]
    declared = [_declared(number, field) for field in cls.fields]
    if number == COMMAND:
        declared.insert(0, f"{_enumeration('uint8_t', _OPCODES)} _command;")
    lines = "".join(f"\t\t{line}\n" for line in declared)
    return _EVENT % (cls.name, number, stream, lines)


def _declared(number: int, field: Field) -> str:
    name = f"_{field.name}"
    if field.form == "bytes":
        return f"uint32_t {name}_length; byte_t {name}[{name}_length];"
    type_ = _type(number, field)
    if field.default is not None:
        return f"{type_} {name};"
    tag = "enum : uint8_t { null = 0, known = 1 }"
    return f"{tag} {name}_is; variant <{name}_is> {{ struct {{ }} null; {type_} known; }} {name};"


def _type(number: int, field: Field) -> str:
    if isinstance(field.form, tuple):
        return _enumeration("uint8_t", [(name, at, at) for at, name in enumerate(field.form)])
    if field.name == "offset" and number in REGISTERS:
        return _enumeration("hex_t", _OFFSETS[REGISTERS[number]])
    return _SIMPLE[field.form]


def _enumeration(container: str, names: Iterable[tuple[str, int, int]]) -> str:
    labels = ", ".join(f'"{name}" = {first} ... {last}' for name, first, last in names)
    return f"enum : {container} {{ {labels} }}"


_Find = Callable[[int], Any]
_OPCODES: Final = [(each.name, each.value, each.value) for each in Opcode]


def _offsets(find: _Find, end: int) -> list[tuple[str, int, int]]:
    """Return (register, first offset, last offset) of each, which an access at any of them names."""
    found: dict[str, tuple[str, int, int]] = {}
    for offset in range(0, end, 4):
        if register := find(offset):
            name, row, first = register
            found[name] = (name, first, first + row.size_bytes - 1)
    return list(found.values())


_OFFSETS: Final = {
    its_register: _offsets(its_register, 0x30000),
    gicr_register: _offsets(gicr_register, 0x40000),
}
