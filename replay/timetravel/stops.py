"""Stops along a trace: a checkpoint, and where in the file its events go on.

Shapes say what a kept stop and what is kept beside them may be; counterpart: `cache_file`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from replay.kept import FLAG, INT, U32, U64
from replay.shapes import Each, Keyed, Maybe, Number, Record, Room, Row, Shape, Text
from tracer.events import LAST_KIND
from tracer.log import format as fmt
from tracer.log.checks import PayloadError, brief
from tracer.log.codec import compress, decompress
from tracer.log.source import Place

MAX_STOPS: Final = 8192
MAX_WATCHED_STOPS: Final = 512
MAX_STOP_BYTES: Final = 16 << 20  # of a checkpoint, with its verifier's state
MAX_RESETS: Final = 1 << 20
_MAX_NAMES: Final = 1000


@dataclass(slots=True)
class Stop:
    """The state before event `seq`, and what the replay had met by then."""

    seq: int
    place: Place  # of the block that holds event `seq`
    joined: bool
    lost: int
    unknown_inputs: dict[int, int]
    size_bytes: int  # of the checkpoint
    stored: bytes | None  # compressed; None while it is in the cache's file alone
    at: int = 0  # where it is there, behind the index
    stored_bytes: int = 0
    seal: bytes = b""


@dataclass(slots=True)
class Course:
    """What is known of a trace from its first event up to `until`."""

    stops: list[Stop] = field(default_factory=list)
    until: int = -1  # the last event that was replayed
    complete: bool = False  # whether it is the trace's last
    resets: list[int] = field(default_factory=list)
    crash: tuple[int, str] | None = None
    # (kind, field) -> the first event that diverged so
    divergent: dict[tuple[str, str], int] = field(default_factory=dict)

    def stop_before(self, seq: int) -> Stop | None:
        """Return the last stop from which event `seq` can be reached, or its end is there."""
        at = bisect_right(self.stops, seq + 1, key=attrgetter("seq"))
        return self.stops[at - 1] if at else None


class Digest(Shape):
    """16 bytes, or nothing."""

    def pack(self, value: bytes) -> bytes:
        """Return it."""
        return value

    def take(self, plain: object, room: Room) -> bytes:
        """Take it when it is as long as one."""
        if type(plain) is not bytes or len(plain) not in (0, fmt.CHAIN_SIZE_BYTES):
            raise PayloadError(f"a digest must not be {brief(plain)}")
        return plain


_SEQ: Final = Number(0, fmt.MAX_SEQ)
_PLACE: Final = Record(Place, {"offset": U64, "seq": _SEQ, "chain": Digest(), "line": U64})
_STOP: Final = Record(Stop, {
    "seq": _SEQ, "place": _PLACE, "joined": FLAG, "lost": U64,
    "unknown_inputs": Keyed(Number(0, LAST_KIND), U64),
    "size_bytes": Number(0, MAX_STOP_BYTES), "at": U64, "stored_bytes": U32,
    "seal": Digest(),
}, anew=frozenset(("stored",)))  # fmt: skip
_NAME: Final = Text(_MAX_NAMES)
COURSE: Final = Record(Course, {
    "stops": Each(list, _STOP), "until": INT, "complete": FLAG, "resets": Each(list, _SEQ),
    "crash": Maybe(Row((_SEQ, _NAME))), "divergent": Keyed(Row((_NAME, _NAME)), _SEQ),
})  # fmt: skip


def check(course: Course, size_bytes: int) -> None:
    """Check what no single shape can; all that is stored has `size_bytes`.

    Raises:
        PayloadError: stops are out of order, or outside the file.
    """
    if len(course.stops) > MAX_STOPS or len(course.resets) > MAX_RESETS:
        raise PayloadError("there must not be so many stops or resets")
    before, at = -1, 0
    for stop in course.stops:
        if not before < stop.seq <= course.until + 1 or stop.place.seq > stop.seq:
            raise PayloadError("a stop must stand behind the one before")
        if stop.at != at:
            raise PayloadError("checkpoints must stand behind one another")
        before, at = stop.seq, at + stop.stored_bytes
        stop.stored = None
    if at != size_bytes:
        raise PayloadError("checkpoints must fill the rest of the file")


def stored(raw: bytes) -> bytes:
    """Return a checkpoint as it is kept."""
    return compress(raw, fmt.CODEC_ZSTD)


def unpacked(stop: Stop, data: bytes) -> bytes:
    """Return the checkpoint of a stop; PayloadError when `data` is none of that size."""
    return decompress(data, fmt.CODEC_ZSTD, stop.size_bytes)
