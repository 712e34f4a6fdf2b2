"""The wire format of protocol buffers, as far as a writer of messages needs it.

A message is its fields one after another; each of these functions returns one field, tag included.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_U64: Final = (1 << 64) - 1
_QUAD: Final = Struct("<Q")
_DOUBLE: Final = Struct("<d")


def varint(value: int) -> bytes:
    """Return a number of at most 64 bits, seven bits a byte, the low ones first."""
    if value < 0x80:
        return _SHORT[value]
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


_SHORT: Final = tuple(bytes((value,)) for value in range(0x80))


def number(field: int, value: int) -> bytes:
    """Return an integer; a negative one as the 64 bits that it is (int32, int64, not sint64)."""
    return varint(field << 3 | _VARINT) + varint(value & _U64)


def fixed64(field: int, value: int) -> bytes:
    """Return a number that always takes eight bytes."""
    return varint(field << 3 | _FIXED64) + _QUAD.pack(value)


def double(field: int, value: float) -> bytes:
    """Return a floating-point number."""
    return varint(field << 3 | _FIXED64) + _DOUBLE.pack(value)


def message(field: int, *parts: bytes) -> bytes:
    """Return a message within a message; `parts` are its fields."""
    data = b"".join(parts)
    return varint(field << 3 | _BYTES) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    """Return a text."""
    return message(field, value.encode())
