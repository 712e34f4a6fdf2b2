"""A writer of CTF 1.8, as little of it as babeltrace2 needs: one stream, one packet for each 4,096 events.

CTF has neither CRCs nor anything else that would find a changed byte. Source: the specification at
diamon.org/ctf, v1.8.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from tracer.events import KINDS, Event

EVENTS_PER_PACKET: Final = 4096
_MAGIC: Final = 0xC1FC1FC1
_HEAD: Final = struct.Struct("<IIQQQQQ")  # magic, stream; content, packet in bits, begin, end, lost
_EVENT: Final = struct.Struct("<BQB")
_BEFORE: Final = """/* CTF 1.8 */
typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
clock { name = monotonic; freq = 1000000000; };
typealias integer { size = 64; align = 8; signed = false; map = clock.monotonic.value; } := time_t;
trace {
  major = 1; minor = 8; byte_order = le;
  packet.header := struct { uint32_t magic; uint32_t stream_id; };
};
stream {
  id = 0;
  packet.context := struct {
    uint64_t content_size; uint64_t packet_size;
    time_t timestamp_begin; time_t timestamp_end; uint64_t events_discarded;
  };
  event.header := struct { uint8_t id; time_t timestamp; };
};
"""
_CLASS: Final = """event {{
  name = "{name}"; id = {kind}; stream_id = 0;
  fields := struct {{ uint8_t count; uint64_t values[count]; }};
}};
"""


def write(folder: Path, events: Iterable[Event]) -> None:
    """Write a trace of events that have unsigned numbers only."""
    folder.mkdir(exist_ok=True)
    classes = (_CLASS.format(name=cls.name, kind=kind) for kind, cls in KINDS.items())
    (folder / "metadata").write_text(_BEFORE + "".join(classes))
    with (folder / "stream").open("wb") as out:
        out.writelines(_packets(iter(events)))


def _packets(events: Iterator[Event]) -> Iterator[bytes]:
    time_ns = latest = 0
    while some := list(islice(events, EVENTS_PER_PACKET)):
        first, parts = None, []
        for event in some:
            time_ns += event[1]
            latest = max(latest, time_ns)  # a stream's clock never goes back
            first = latest if first is None else first
            fields = event[2:]
            parts.append(_EVENT.pack(event[0], latest, len(fields)))
            parts.append(struct.pack(f"<{len(fields)}Q", *fields))
        content = b"".join(parts)
        bits = 8 * (_HEAD.size + len(content))
        yield _HEAD.pack(_MAGIC, 0, bits, bits, first or 0, latest, 0) + content
