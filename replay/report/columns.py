"""Columns of values as few bytes: what is written here is read by assets/columns.js.

A block is a JSON header, then its columns behind one another, deflated as one. Numbers are stored
as multiples from their lowest, or as differences, byte plane by byte plane: what hardly changes then
stands together. All else is a number of an atom: a table of JSON values that is kept once.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import Any, Final

_SAFE: Final = 1 << 53  # JavaScript's numbers are exact below
_FAST: Final = 1  # zlib's level for comparing, and the one for keeping
_BEST: Final = 9
MAX_TEXT_CHARS: Final = 4096  # of one text of an event, in a report
MAX_DATA_BYTES: Final = 64  # of guest RAM in one event, in a report


class Atoms:
    """Values that are no plain numbers, each kept once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._ids: dict[Any, int] = {}

    def id_of(self, value: Any) -> int:
        """Return the number of a value."""
        key = (type(value), value if value.__hash__ else repr(value))
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.values)
            self.values.append(_plain(value))
        return found


def _plain(value: Any) -> Any:
    """Return a value as the page gets it; an array says what JSON has no form for."""
    if value is None or isinstance(value, str):
        return _whole(value) if value else value
    if isinstance(value, bytes):
        return ["y", value.hex()]
    if isinstance(value, int) and not isinstance(value, bool):
        return ["i", str(value)]
    return ["r", _whole(str(value))]


def _whole(text: str) -> str:
    """Return a text as UTF-8 can have it, and no longer than a page shows."""
    return text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()


class Block:
    """Columns that are kept, and read, together."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def numbers(self, values: Sequence[int]) -> list[Any]:
        """Keep a column of integers (`fits`); return what the header must say of it."""
        if not values:
            return ["k", 0]
        low, high = min(values), max(values)
        if low == high:
            return ["k", low if low < _SAFE else str(low)]
        if high >= _SAFE:
            return ["b", *self._add(_planes(values))]
        offsets = [value - low for value in values]
        step = gcd(*offsets)
        plain = _planes([value // step for value in offsets] if step > 1 else offsets)
        differences = [b - a for a, b in pairwise(values)]
        zigzag = _planes([0, *(d << 1 if d >= 0 else ~(d << 1) for d in differences)])
        if _cost(zigzag) < _cost(plain):
            return ["d", *self._add(zigzag), values[0]]
        return ["f", *self._add(plain), low, step]

    def column(self, values: Sequence[Any], atoms: Atoms) -> list[Any]:
        """Keep a column of anything."""
        kinds = set(map(type, values))
        if kinds == {int} and fits(values):
            return self.numbers(values)
        if kinds == {int, type(None)} and fits([value or 0 for value in values]):
            missing = self.numbers([value is None for value in values])
            return ["n", missing, self.numbers([value or 0 for value in values])]
        return ["a", self.numbers([atoms.id_of(value) for value in values])]

    def _add(self, planes: bytes) -> tuple[int, int]:
        """Keep bytes; return where, and how many bytes a value has (the count says the rest)."""
        at = self._size
        self._parts.append(planes)
        self._size += len(planes)
        return at, len(planes)

    def packed(self, header: Any) -> bytes:
        """Return the block as bytes."""
        told = json.dumps(header, separators=(",", ":")).encode()
        body = len(told).to_bytes(4, "little") + told + b"".join(self._parts)
        return zlib.compress(body, _BEST)


def fits(values: Sequence[int]) -> bool:
    """Return whether a column can hold these: unsigned 64-bit ones, or what JavaScript has exactly."""
    low, high = min(values), max(values)
    return (low >= 0 and high < 1 << 64) or (low > -_SAFE and high < _SAFE)


def _planes(values: Sequence[int]) -> bytes:
    """Return unsigned values below 2^64: all lowest bytes, then all next ones."""
    raw = array("Q", values).tobytes()
    width = (max(values).bit_length() + 7) // 8
    return b"".join(raw[at::8] for at in range(width))


def _cost(planes: bytes) -> int:
    return len(zlib.compress(planes, _FAST))


def document(value: Any) -> bytes:
    """Return a JSON document as bytes of a page."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), _BEST)
