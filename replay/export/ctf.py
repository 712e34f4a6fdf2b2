"""`--to ctf`: a CTF 1.8 trace, a folder of metadata and streams, for Babeltrace and Trace Compass.

A source that orders the events of each CPU has a stream for each; any other has one. A reader wants
clocks that never go back: an event's own time, which may, stands beside its sequence number in its
context, and the clock waits for it. Counterparts: `ctf_metadata`, the declaration of each byte
here, and `tracer.events`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from struct import Struct
from typing import Any, Final
from uuid import UUID

from replay.export.columns import COMMAND, unknown_fields
from replay.export.ctf_metadata import OF_A_CPU, PLAIN, UNKNOWN, metadata, uuid_of
from replay.export.streaming import NO_CLOCK, STEP_NS, Frames, created, each_event, inner
from tracer.errors import UsageError
from tracer.events import KINDS, NUMBER, Event, Field, fields_of
from tracer.log.header import MAX_CPUS
from tracer.log.opening import AnyReader

PER_CPU: Final = "per_cpu"
MAX_PACKET_BYTES: Final = 32_768  # less the last event
_METADATA: Final = "metadata"
_OURS: Final = re.compile(r"metadata|stream(_[0-9]+)?")
_MAGIC: Final = 0xC1FC1FC1
_PACKET: Final = Struct("<I16sIQQQQQ")  # magic to stream_id, then the packet's context
_CPU: Final = Struct("<I")
_EVENT: Final = Struct("<HQQq")  # its header and its context
_LAST: Final = (1 << 63) - 1
_CLOCK_END: Final = (1 << 62) - 1  # as far as Babeltrace 2.0 counts nanoseconds: the year 2116
_MOST: Final = (
    2**64 - 2
)  # 2^64-1 is no number of discarded events to Babeltrace 2.0, which dies of it
_CONTEXT, _LOSS = NUMBER["context"], NUMBER["loss"]
_LENGTH: Final = Struct("<I")
_U64, _S64 = Struct("<Q"), Struct("<q")


def write(reader: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write the folder.

    Raises:
        UsageError: standard output cannot hold one, or it exists.
        WriteError: the disk is full.
    """
    folder = _folder(path, force=force)
    header = reader.header
    per_cpu = header.order == PER_CPU
    with created(str(folder / _METADATA), force=True) as out:
        out.write(metadata(header, (PLAIN, OF_A_CPU) if per_cpu else (PLAIN,)).encode("ascii"))
    timed = header.clock != NO_CLOCK
    streams: dict[int | None, _Stream] = {}
    cpu: int | None = None
    with ExitStack() as opened:
        for seq, time_ns, event in each_event(frames):
            if event[0] == _CONTEXT and per_cpu:
                cpu = fields_of(event)["cpu"]
                cpu = cpu if cpu is not None and cpu < MAX_CPUS else None
            if cpu not in streams:
                name = folder / ("stream" if cpu is None else f"stream_{cpu}")
                out = opened.enter_context(created(str(name), force=True))
                streams[cpu] = _Stream(out.write, uuid_of(header), cpu)
            now = time_ns if timed else min(seq, _CLOCK_END // STEP_NS)
            streams[cpu].add(seq, now, time_ns, event)
        for stream in streams.values():
            stream.flush()


def _folder(path: str, *, force: bool) -> Path:
    """Return a new folder; with `force` one of a CTF trace may be there, and is emptied of it."""
    if path == "-":
        raise UsageError("a CTF trace is a folder: give -o FOLDER")
    folder = Path(path)
    try:
        folder.mkdir()
    except FileExistsError as error:
        if not force:
            raise UsageError(f"{path}: exists already; --force overwrites it") from error
        if not (folder / _METADATA).is_file():
            raise UsageError(f"{path}: is no CTF trace, and nothing else is overwritten") from error
        for old in folder.iterdir():
            if _OURS.fullmatch(old.name):
                old.unlink()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return folder


class _Stream:
    """Packets of one file: events are gathered until they fill one."""

    def __init__(self, write: Callable[[bytes], object], uuid: UUID, cpu: int | None) -> None:
        self._write = write
        self._uuid = uuid.bytes
        self._stream, self._cpu = (PLAIN, b"") if cpu is None else (OF_A_CPU, _CPU.pack(cpu))
        self._events = bytearray()
        self._first = self._now = 0
        self._discarded = 0

    def add(self, seq: int, now: int, time_ns: int, event: Event) -> None:
        """Add an event at `now` on the stream's clock."""
        self._now = max(self._now, min(now, _CLOCK_END))
        if not self._events:
            self._first = self._now
        number = event[0] if event[0] in KINDS else UNKNOWN
        if number == _LOSS:
            count = fields_of(event)["count"]
            self._discarded = min(self._discarded + (1 if count is None else count), _MOST)
        at = max(-_LAST - 1, min(time_ns, _LAST))
        self._events += _EVENT.pack(number, self._now, seq, at)
        self._events += _payload(event)
        if len(self._events) >= MAX_PACKET_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the packet."""
        if not self._events:
            return
        bits = 8 * (_PACKET.size + len(self._cpu) + len(self._events))
        self._write(
            _PACKET.pack(
                _MAGIC, self._uuid, self._stream,
                self._first, self._now, bits, bits, self._discarded,
            )
        )  # fmt: skip
        self._write(self._cpu)
        self._write(bytes(self._events))
        self._events.clear()


# -- events


def _payload(event: Event) -> bytes:
    cls = KINDS.get(event[0])
    if cls is None:
        return bytes((event[0],)) + _text(unknown_fields(event))
    f = fields_of(event)
    if event[0] in _FIXED:
        return _FIXED[event[0]].pack(*(f[field.name] for field in cls.fields))
    opcode = bytes((f["dw0"] & 0xFF,)) if event[0] == COMMAND else b""
    return opcode + b"".join(_field(field, f[field.name]) for field in cls.fields)


def _field(field: Field, value: Any) -> bytes:
    tag = b""
    if field.default is None:
        if value is None:
            return b"\0"
        tag = b"\1"
    if isinstance(field.form, tuple):
        return tag + bytes((value,))
    if isinstance(value, bytes):
        return _LENGTH.pack(len(value)) + value
    if field.form == "text":
        return _text(value)
    return tag + (_S64 if field.form == "int" else _U64).pack(value)


def _text(text: str) -> bytes:
    return inner(text).encode("ascii") + b"\0"


def _letter(field: Field) -> str:
    if isinstance(field.form, tuple):
        return "B"
    return {"hex": "Q", "dec": "Q", "int": "q"}[field.form]


# Kinds whose every event is as long as any other.
_FIXED: Final = {
    number: Struct("<" + "".join(map(_letter, cls.fields)))
    for number, cls in KINDS.items()
    if number != COMMAND
    and all(
        field.default is not None and field.form not in ("bytes", "text") for field in cls.fields
    )
}
