"""Pieces of traces as one trace: a hole becomes a `loss`, and what counts over it is put right.

An event names its cause by how many events back it stands, and its time by how much later than the
one before: both are wrong behind a hole, where one event stands for those that are gone. Used for
what of a damaged file can be saved, and for files that follow each other. Counterpart:
`tracer.log.survey`, which finds the pieces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from io import BytesIO
from operator import itemgetter
from typing import BinaryIO, Final
from uuid import UUID

import msgpack

from tracer.errors import TraceError
from tracer.events import KINDS, Event, make
from tracer.log import format as fmt
from tracer.log.codec import unpack_events
from tracer.log.frames import look
from tracer.log.header import RUNNING, Header
from tracer.log.migrate import events_now, steps_from
from tracer.log.source import Problem, Source
from tracer.log.stream import Reader, Writer
from tracer.log.survey import Hole, Piece, Survey, choose

_CAUSED: Final = frozenset(
    kind for kind, cls in KINDS.items() if cls.fields and cls.fields[0].name == "cause"
)
_TIME: Final = itemgetter(1)
_NOTE: Final = {"recovered": "from a file that is damaged or was cut off"}
CUT: Final = "cut"  # in the annotations of a part of a trace: which events
OF_PARTS: Final = frozenset((CUT, "ring", "ring_time_before_ns"))
_FIRST_TIME, _LAST_TIME = -(1 << 63), (1 << 64) - 1


@dataclass(slots=True)
class Island:
    """Events that stand as they stood, under other numbers: from `first_seq` on, each + `shift`."""

    first_seq: int
    next_seq: int
    shift: int


class Splice:
    """Adds pieces to a writer."""

    def __init__(self, writer: Writer) -> None:
        self.islands: list[Island] = []
        self.count = 0
        self.time_ns = 0
        self._writer = writer
        self._next_seq = writer.next_seq
        self._holed = False
        self._digest = blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """Of every event that was written, in order."""
        return self._digest.hexdigest()

    def lost(self, reason: str, count: int | None) -> None:
        """Say that events are missing here."""
        self._holed = True
        self._put([make("loss", 0, reason=reason, count=count)])

    def add_piece(self, piece: Piece, events: Sequence[Event]) -> None:
        """Write the events of a piece that no piece before it has."""
        skipped_ns = sum(map(_TIME, events[: piece.skip]))
        at = piece.first_seq + piece.skip
        self.add(at, events[piece.skip :], piece.before_ns + skipped_ns)

    def add(self, first_seq: int, events: Sequence[Event], before_ns: int) -> None:
        """Write events whose numbers were from `first_seq` on.

        `before_ns` is the time of the event before them: of what was written last, or another.
        """
        last = self.islands[-1] if self.islands else None
        if last is None or first_seq + last.shift != self._next_seq or first_seq != last.next_seq:
            last = Island(first_seq, first_seq, self._next_seq - first_seq)
            self.islands.append(last)
        if self._holed:
            events = [self._placed(seq, event) for seq, event in enumerate(events, first_seq)]
        if before_ns != self.time_ns and events:
            kind, dt_ns, *fields = events[0]
            events = [(kind, _clamped(dt_ns + before_ns - self.time_ns), *fields), *events[1:]]
        last.next_seq = first_seq + len(events)
        self._put(events)

    def _placed(self, seq: int, event: Event) -> Event:
        """Return an event with its cause where that stands now; 0 for one that is gone."""
        if event[0] not in _CAUSED or seq - event[2] >= self.islands[-1].first_seq:
            return event
        cause = seq - event[2]
        at = bisect_right(self.islands, cause, key=lambda island: island.first_seq) - 1
        back = 0
        if at >= 0 and cause < self.islands[at].next_seq:
            back = seq + self.islands[-1].shift - (cause + self.islands[at].shift)
        return (event[0], event[1], back, *event[3:])

    def _put(self, events: Sequence[Event]) -> None:
        for event in events:
            self._writer.add(event)
        self._digest.update(msgpack.packb(list(events))[_head(len(events)) :])
        self.time_ns += sum(map(_TIME, events))
        self._next_seq += len(events)
        self.count += len(events)


def _head(count: int) -> int:
    """Return how many bytes the head of a msgpack array has."""
    return 1 if count < 16 else 3 if count < 1 << 16 else 5


def _clamped(time_ns: int) -> int:
    return min(max(time_ns, _FIRST_TIME), _LAST_TIME)


def derived_uuid(parent: str, what: str) -> str:
    """Return the identity of what was made of a trace: the same whenever the same is made."""
    if not parent:
        return ""
    return str(UUID(bytes=blake2b(f"{parent} {what}".encode(), digest_size=16).digest()))


def recover(
    stream: BinaryIO,
    found: Survey,
    out: BinaryIO,
    name: str,
    watch: Callable[[Iterable[Piece]], Iterable[Piece]] = iter,
) -> Splice:
    """Write what of a file can be read to `out`, with a `loss` for each hole.

    `watch` wraps the pieces, as that of `survey` does offsets.

    Raises:
        TraceError: the file is another than when it was looked at.
    """
    header = _header(found)
    writer = Writer(out, header, name=name, bound_ms=0, checkpoint=found.checkpoint)
    splice = Splice(writer)
    for reason in _lost_at_the_start(found):
        splice.lost(reason, None)
    holes = {hole.first_seq: hole for hole in found.holes}
    next_seq = found.first_seq
    for piece in watch(found.pieces):
        if hole := holes.pop(next_seq, None):
            splice.lost(_reason(hole), hole.count)
        splice.add_piece(piece, read_piece(stream, piece, found))
        next_seq = piece.next_seq
    for hole in holes.values():
        splice.lost(_reason(hole), hole.count)
    writer.close(goes_on=found.goes_on or found.cut_at is not None)
    return splice


def _header(found: Survey) -> Header:
    """Return the header of what is saved: nothing that is not known any more is in it."""
    if found.header is None:
        return Header(first_seq=found.first_seq, starts=RUNNING, annotations=_NOTE)
    parent = found.header.uuid or None
    header = replace(
        found.header,
        uuid=derived_uuid(found.header.uuid, "recovered"),
        parent_uuid=parent or found.header.parent_uuid,
        annotations=found.header.annotations | _NOTE,
    )
    if found.checkpoint_lost:
        header.base_digest, header.starts = None, RUNNING
    return header


def _lost_at_the_start(found: Survey) -> Iterator[str]:
    if found.header is None:
        yield "the header is lost: what wrote this, of which VM, and what stood before"
    if found.checkpoint_lost:
        yield "the state before the first event is lost"


def _reason(hole: Hole) -> str:
    what = f"events {hole.first_seq} to {hole.first_seq + hole.count - 1}" if hole.count else "what"
    where = f" in bytes {hole.start:#x} to {hole.end:#x}" if hole.start is not None else ""
    return f"{what}{where} of a damaged file could not be read"


def read_piece(stream: BinaryIO, piece: Piece, found: Survey) -> tuple[Event, ...]:
    """Return all events of a piece of a file."""
    stream.seek(piece.start)
    frame = look(Source(BytesIO(stream.read(piece.end - piece.start))))
    if isinstance(frame, Problem):
        raise TraceError(found.name, piece.start, "the file changed while it was read: try again")
    steps = steps_from(found.version or fmt.VERSION)
    return unpack_events(frame.unpack(), partial(events_now, steps=steps))[1]


@dataclass(frozen=True, slots=True)
class Part:
    """One of the files that are to be one trace."""

    stream: BinaryIO
    found: Survey
    header: Header


def lineage(header: Header) -> str:
    """Return the identity of the recording that a trace is, or is a part of."""
    return header.parent_uuid or header.uuid


def merge(parts: Sequence[Part], out: BinaryIO, name: str) -> tuple[Splice, list[str]]:
    """Write files of one recording as one trace; return it, and what is in none of them.

    They may overlap, as what a ring was written out to does: each event is taken once.
    """
    parts = sorted(parts, key=lambda part: part.header.first_seq)
    first, last = parts[0], max(parts, key=_end)
    header = _merged(first)
    writer = Writer(out, header, name=name, bound_ms=0, checkpoint=first.found.checkpoint)
    splice, missing = Splice(writer), list(_lost_at_the_start(first.found))
    for reason in missing:
        splice.lost(reason, None)
    pieces = [
        replace(piece, part=number, skip=0)
        for number, part in enumerate(parts)
        for piece in part.found.pieces
    ]
    next_seq = header.first_seq
    for piece in choose(pieces, next_seq):
        begins = piece.first_seq + piece.skip
        if begins > next_seq:
            missing.append(f"events {next_seq} to {begins - 1} are in no file that can be read")
            splice.lost(missing[-1], begins - next_seq)
        part = parts[piece.part]
        splice.add_piece(piece, read_piece(part.stream, piece, part.found))
        next_seq = piece.next_seq
    for hole in last.found.holes:
        if hole.first_seq == next_seq:
            missing.append(_reason(hole))
            splice.lost(missing[-1], hole.count)
    writer.close(goes_on=last.found.goes_on or last.found.cut_at is not None)
    return splice, missing


def _end(part: Part) -> int:
    pieces = part.found.pieces
    return pieces[-1].next_seq if pieces else part.header.first_seq


def _merged(first: Part) -> Header:
    header = replace(
        first.header,
        uuid=derived_uuid(lineage(first.header), "merged"),
        parent_uuid=lineage(first.header) or None,
        base_digest=None,
        annotations={k: v for k, v in first.header.annotations.items() if k not in OF_PARTS},
    )
    if first.found.checkpoint_lost:
        header.starts = RUNNING
    return header


def is_as_written(stream: BinaryIO, splice: Splice, name: str) -> bool:
    """Return whether a trace is clean and holds what was written into it, and nothing else."""
    reader = Reader(stream, name)
    digest = blake2b(digest_size=16)
    for _, events in reader:
        digest.update(msgpack.packb(list(events))[_head(len(events)) :])
    return reader.status == "clean" and digest.hexdigest() == splice.digest
