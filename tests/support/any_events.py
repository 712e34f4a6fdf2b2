"""Hypothesis strategies of events whose values nobody checked: what a hostile trace may hold."""

from __future__ import annotations

from hypothesis import strategies as st

from tracer.events import KINDS, REQUIRED

NUMBERS = st.sampled_from(
    (0, 1, 2, 4, 8, 31, 63, 64, 0x70, 0x78, 0x80, 0x88, 0x100, 0x108, 8192, 0x4010_0000,
     0x8000_0000_4010_0000, 0x8000_0000_4030_0000, 1 << 32, (1 << 64) - 1)
)  # fmt: skip
OPCODES = st.sampled_from((1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 0x22, 0x29, 0x2A, 0x7F))
COMMANDS = st.tuples(OPCODES, NUMBERS, NUMBERS, NUMBERS)


def _data(words):
    return b"".join(word.to_bytes(8, "little") for word in words)


def _value(field):
    if isinstance(field.form, tuple):
        values = st.integers(0, len(field.form) - 1)
    elif field.form == "bytes":
        values = st.binary(max_size=40) | COMMANDS.map(_data)
    elif field.form == "text":
        values = st.text(max_size=5)
    elif field.form == "int":
        values = st.sampled_from((-(1 << 31), -22, -1, 0, 1, 2))
    else:
        values = NUMBERS
    return values | st.none() if field.default is None else values


def _event(number):
    fields = KINDS[number].fields
    required = sum(field.default is REQUIRED for field in fields)
    return st.tuples(st.integers(required, len(fields)), *map(_value, fields)).map(
        lambda drawn: (number, 0, *drawn[1 : 1 + drawn[0]])
    )


EVENTS = st.lists(st.sampled_from(sorted(KINDS)).flatmap(_event), max_size=25)
