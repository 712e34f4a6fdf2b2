"""What a file is that is no trace, by its first bytes, and the way out.

Counterparts: `tracer.log.stream`, which refuses such a file, and `doctor`, which says what to do.
"""

from __future__ import annotations

from typing import Final

_COMPRESSED: Final = "it is compressed: unpack it with `{tool}`, and give what comes out"
_BY_START: Final = (
    (b"\x1f\x8b", _COMPRESSED.format(tool="gunzip")),
    (b"\x28\xb5\x2f\xfd", _COMPRESSED.format(tool="unzstd")),
    (b"\xfd7zXZ\x00", _COMPRESSED.format(tool="unxz")),
)


def way_out(start: bytes) -> str:
    """Return what to do with a file that begins with these bytes; of an empty one, all of none."""
    if not start:
        return "it is empty, nothing was recorded in it: record again"
    ways = (way for magic, way in _BY_START if start.startswith(magic))
    return next(ways, "`itstrace import` makes one of a log")
