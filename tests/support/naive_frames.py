"""What can be read of a damaged file, by a scanner that knows docs/trace-format.md and no more.

Every byte may begin a frame: it does where the sync marker stands, both CRCs are right and the
payload unpacks. It shares nothing with `tracer.log`.
"""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import dataclass, field

import msgpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEAD = struct.Struct("<4sBBHII16sI")


@dataclass
class Readable:
    header: bool = False
    checkpoint_parts: int = 0
    events: dict = field(default_factory=dict)  # sequence number -> event


def scan(data):
    """Return everything that any reader could read."""
    found = Readable()
    at = data.find(b"\xf5ITS")
    while at >= 0:
        size = _take(data, at, found)
        at = data.find(b"\xf5ITS", at + size)
    return found


def _take(data, at, found):
    """Take the frame at `at`; return its size, 1 when none is there."""
    if at + HEAD.size > len(data):
        return 1
    _, kind, codec, flags, stored_size, raw_size, _, head_crc = HEAD.unpack_from(data, at)
    if zlib.crc32(data[at : at + 32]) != head_crc or max(stored_size, raw_size) > 2 << 20:
        return 1
    payload = data[at + 36 : at + 36 + stored_size]
    end = data[at + 36 + stored_size : at + 40 + stored_size]
    if end != struct.pack("<I", zlib.crc32(payload)) or len(payload) != stored_size:
        return 1
    raw = {0: bytes, 1: zlib.decompress, 2: zstd.decompress}[codec](payload)
    assert (len(raw), flags) == (raw_size, 0)
    if kind == 1:
        found.header = True
    elif kind == 5:
        found.checkpoint_parts += 1
    elif kind == 2:
        first_seq, events = msgpack.unpackb(raw, use_list=False)
        for seq, event in enumerate(events, first_seq):
            found.events.setdefault(seq, event)
    return 40 + stored_size
