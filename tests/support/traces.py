"""Small traces made with the real writer, and trace files taken apart and put together by hand.

The byte layout here is copied from docs/trace-format.md and shares nothing with `tracer.log`, so
that the two must agree. `python -m tests.support.traces` makes the golden files; no test runs it.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import msgpack

from tracer.events import POWER_ON, SYSTEM, Event, make
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.source import Problem
from tracer.log.stream import Reader, Writer
from tracer.log.text import TextReader, write_text

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
DIGESTS = GOLDEN / "digests.json"

PREAMBLE = b"\x89ITST\r\n\x1a" + struct.pack("<I", 1)
HEAD = struct.Struct("<4sBBHII16sI")
HEADER, EVENTS, INDEX, END = 1, 2, 3, 4


def small_header(**changes: Any) -> Header:
    """Return the header of the small golden traces."""
    header = Header(
        uuid="6f1c1f0e-2a52-4c3b-9a57-0d9f6b8a0001",
        created="2026-01-02T03:04:05Z",
        recorder_version="0.1.0",
        source="qemu-log",
        order="total",
        implementation="qemu-tcg",
        implementation_version="7.2.22",
        profile="qemu-7.2.22",
        its_bases=[0x8080000],
        cpus=2,
        mpidrs=[0, 1],
        ram_ranges=[[0x40000000, 0x80000000]],
        clock="realtime",
        guessed=["ram_ranges"],
        annotations={"note": "golden"},
    )
    return replace(header, **changes)


def small_events() -> list[Event]:
    """Return a short life of an ITS: reset, set up, one device, one MSI, reset."""
    return [
        make("reset", 1_700_000_000, how=POWER_ON),
        make("reg.write", 1000, offset=0x128, value=0xB7000000425F0F00),
        make("reg.write", 1000, offset=0x80, value=0xB80000004260000F),
        make("reg.write", 1000, offset=0x0, value=1, size=4),
        make("reg.read", 1000, offset=0x0, value=0x80000001, size=4),
        make("reg.write", 1000, offset=0x88, value=0x40),
        make(
            "command",
            1000,
            cause=1,
            queue_offset=0,
            dw0=0x800000008,
            dw1=1,
            dw2=0x800000004261A000,
            dw3=0,
        ),
        make(
            "table.write",
            0,
            cause=2,
            table=0,
            index=8,
            base=0,
            valid=1,
            e1=1,
            e2=0x4261A000,
        ),
        make("command.done", 0, cause=3, creadr=0x20),
        *[make("reg.read", 1000, offset=0x90, value=0x20)] * 9,
        make("msi", -500, device_id=8, event_id=0),
        make("lpi", 0, cause=1, intid=8192, cpu=0),
        make("msi", 500, device_id=8, event_id=0),
        make("lpi", 0, cause=1, intid=8192, cpu=0),
        make("marker", 0, text='a note, with "quotes", \\ and ## in it'),
        make("reset", 2000, how=SYSTEM),
        make("reg.read", 1000, offset=0x0, value=0x80000000, size=4),
    ]


def all_kinds() -> list[Event]:
    """Return one event of every kind, some fields at their defaults and some not."""
    entry = {"cause": 1, "table": 2, "index": 3, "base": 0x42620000}
    return [
        make("create", 0),
        make("init", 5, base=0x8080000),
        make("reset", 1, how=POWER_ON, origin=1),
        make("ram", 1, gpa=0x40000000, size=0x80000000),
        make("context", 1, its=0, cpu=1, thread=4711),
        make("reg.write", 1, offset=0x80, value=2**64 - 1, size=8, origin=1, bad=1),
        make("gicr.write", 1, cpu=1, offset=0x70, value=0x4260000F),
        make("gicd.write", 1, offset=0, value=0x37),
        make("attr.set", 1, device=0, group=4, attr=1, value=None),
        make("mem.write", 1, gpa=0x42600000, data=bytes(range(32))),
        make("msi", 1, device_id=0xFFFFFFFF, event_id=3, doorbell=0x8090040, path=2),
        make("vcpu", 1, cpu=0, action=1),
        make("save", 1),
        make("save_pending", 1),
        make("restore", 1),
        make("reg.read", 1, offset=0xFFE8, value=0x3B, size=4),
        make("gicr.read", 1, cpu=0, offset=0x78, value=0, origin=2),
        make("gicd.read", 1, offset=4, value=0x37A0008),
        make("command", 1, cause=2, queue_offset=32, dw0=1, dw1=2, dw2=3, dw3=4, known1=0xFFFF),
        make("command.done", -7, cause=2, creadr=0x40, stalled=1),
        make("msi.result", 1, cause=1, result=-22),
        make("lpi", 1, cause=1, intid=8192, cpu=0),
        make("table.read", 1, **entry, valid=1, e1=1, e2=8193, e3=0, gpa=0x42620018),
        make("table.write", 1, **entry, valid=0),
        make("table.fault", 1, **entry),
        make("mem.read", 1, cause=0, gpa=0x42600000, data=b""),
        make("attr.result", 1, cause=9, errno=-14),
        make("xlat.hit", 1, cause=1, device_id=8, event_id=1),
        make("xlat.miss", 1, cause=1, device_id=8, event_id=2),
        make("lpi.live", 1, cause=1, intid=8192, target=0, flags=0x51, priority=160, queued=-1),
        make("its.live", 1, cause=1, device_id=8, event_id=0, intid=8192, target=0, icid=0),
        make("lpi.ack", 1, cause=0, intid=8192, cpu=1),
        make("loss", 1, count=3, reason="ring full"),
        make("marker", 1, text='tab \t, nul \0, quote ", ## and \u2028'),
        make("digest", 1, state=bytes(16)),
        make("source.gap", 1, line=17, reason="cut"),
        make("probe", 1, edge=1, perturbing=1),
    ]


# -- whole traces


def build(
    events: Iterable[Event] | None = None,
    header: Header | None = None,
    *,
    codec: str = "none",
    bound_events: int = 9,
    end: bool = True,
) -> bytes:
    """Return a trace made by the writer, without any thread or clock."""
    out = io.BytesIO()
    writer = Writer(
        out,
        header or small_header(),
        codec=fmt.CODEC_NAMES[codec],
        bound_events=bound_events,
        bound_ms=0,
    )
    for event in small_events() if events is None else events:
        writer.add(event)
    if end:
        writer.close()
    else:
        writer.abandon()
    return out.getvalue()


@dataclass(frozen=True)
class Outcome:
    """All that a reader has to say about a trace."""

    header: Header
    events: list[tuple[int, Event]]
    status: str
    problems: list[Problem]
    digest: str


def numbered(reader: Reader | TextReader) -> list[tuple[int, Event]]:
    """Return [(sequence number, event), ...] of all readable frames."""
    return [(first + at, event) for first, events in reader for at, event in enumerate(events)]


def read(data: bytes, name: str = "t") -> Outcome:
    """Read all of a binary trace."""
    reader = Reader(io.BytesIO(data), name)
    events = numbered(reader)
    return Outcome(reader.header, events, reader.status, reader.problems, reader.chain.hex())


def events_of(data: bytes) -> list[Event]:
    """Return the events of a binary trace that must be clean."""
    outcome = read(data)
    assert (outcome.status, outcome.problems) == ("clean", [])
    return [event for _, event in outcome.events]


def text_of(data: bytes) -> str:
    """Return the text form of a binary trace."""
    outcome = read(data)
    out = io.StringIO()
    write_text(outcome.header, outcome.events, out)
    return out.getvalue()


def read_text(text: str, name: str = "t") -> tuple[Header, list[tuple[int, Event]]]:
    """Read all of a trace in text form."""
    reader = TextReader(io.StringIO(text), name)
    return reader.header, numbered(reader)


# -- frames by hand


@dataclass(frozen=True)
class Frame:
    """One frame of a file, as docs/trace-format.md lays it out, wrong where a test wants it."""

    kind: int
    stored: bytes
    codec: int = 0
    flags: int = 0
    chain: bytes = bytes(16)
    raw_size: int | None = None
    stored_size: int | None = None
    start: int = 0

    def pack(self) -> bytes:
        """Return the frame's bytes with both CRCs right."""
        stored_size = len(self.stored) if self.stored_size is None else self.stored_size
        raw_size = len(self.stored) if self.raw_size is None else self.raw_size
        sizes = struct.pack("<II", stored_size, raw_size)
        head = b"\xf5ITS" + bytes((self.kind, self.codec)) + struct.pack("<H", self.flags)
        head += sizes + self.chain
        crc = struct.pack("<I", zlib.crc32(head))
        return head + crc + self.stored + struct.pack("<I", zlib.crc32(self.stored))

    @property
    def end(self) -> int:
        """The offset of the first byte after the frame."""
        return self.start + len(self.pack())


def split(data: bytes) -> list[Frame]:
    """Return the frames of a good trace."""
    assert data.startswith(PREAMBLE)
    found = []
    at = len(PREAMBLE)
    while at < len(data):
        sync, kind, codec, flags, stored, raw, chain, _ = HEAD.unpack_from(data, at)
        assert sync == b"\xf5ITS"
        payload = data[at + HEAD.size : at + HEAD.size + stored]
        found.append(Frame(kind, payload, codec, flags, chain, raw, None, at))
        at += HEAD.size + stored + 4
    assert b"".join((PREAMBLE, *(frame.pack() for frame in found))) == data
    return found


def join(frames: Iterable[Frame]) -> bytes:
    """Return a trace of these frames as they are."""
    return b"".join((PREAMBLE, *(frame.pack() for frame in frames)))


def link(chain: bytes, data: bytes) -> bytes:
    """Return the chain digest that follows `data`."""
    return blake2b(chain + data, digest_size=16).digest()


def forge(frames: Iterable[Frame]) -> bytes:
    """Return a trace of these frames with every chain digest made right again."""
    out = PREAMBLE
    chain = link(b"", PREAMBLE)
    for frame in frames:
        data = replace(frame, chain=chain).pack()
        out += data
        chain = link(chain, data)
    return out


def header_frame(**keys: Any) -> Frame:
    """Return a header frame with a small valid map and these keys."""
    return Frame(HEADER, msgpack.packb({"version": 1, **keys}))


def with_events(payload: bytes, **changes: Any) -> bytes:
    """Return a trace whose only event frame has this payload."""
    return forge([header_frame(), Frame(EVENTS, payload, **changes)])


def packed(*events: Any, first_seq: int = 0) -> bytes:
    """Return the payload of an event frame with anything at all as its events."""
    payload: bytes = msgpack.packb((first_seq, events))
    return payload


# -- golden files


def _golden() -> dict[str, bytes]:
    files = {f"small-{codec}": build(codec=codec) for codec in ("none", "zlib", "zstd")}
    header = small_header(flags={"dte_zero_on_unmap": [True, "read"]}, host="build-7")
    files["all_kinds"] = build(all_kinds(), header, codec="zstd", bound_events=64)
    files["unfinished"] = build(codec="zlib", bound_events=4, end=False)
    return files


def write_golden() -> None:
    """Make the golden files of this version; those that exist are never overwritten.

    Raises:
        FileExistsError: there is one already.
    """
    digests = {}
    for name, data in _golden().items():
        outcome = read(data)
        text = text_of(data)
        assert outcome.status == ("cut" if name == "unfinished" else "clean")
        with (GOLDEN / f"{name}.itstrace").open("xb") as out:
            out.write(data)
        with (GOLDEN / f"{name}.its.txt").open("x", encoding="utf-8", newline="\n") as out:
            out.write(text)
        digests[name] = {
            "digest": outcome.digest,
            "events": len(outcome.events),
            "status": outcome.status,
            "text_sha256": sha256(text.encode()).hexdigest(),
        }
    with DIGESTS.open("x", encoding="utf-8", newline="\n") as out:
        json.dump(digests, out, indent=2, sort_keys=True)
        out.write("\n")


if __name__ == "__main__":
    write_golden()
