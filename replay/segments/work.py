"""One segment: from a checkpoint's state to the next one's, with what was found on the way as data.

Counterpart: `replay.segments.run`, which says where they begin and puts what they found together.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, BinaryIO, Final, cast

from replay import graph
from replay.checkpoints import Standing
from replay.engine import Engine
from replay.judge import AnyModel
from replay.model.effects import HostCrash
from replay.segments.question import Question
from replay.tally import Divergence, Tally
from replay.timetravel import identity
from replay.timetravel.stops import Stop, unpacked
from replay.timetravel.timeline import Onwards, resumed
from replay.verify import Verifier
from replay.watched import VERDICTS, kind_of, packed
from tracer.errors import TracerError, UsageError
from tracer.events import Event
from tracer.log import files
from tracer.log.checks import PayloadError
from tracer.log.opening import AnyReader, reader_of
from tracer.log.source import Ending, Place, Problem
from tracer.log.stream import Reader

_DIGEST_BYTES: Final = 16


class WrongStart(TracerError):
    """A kept state is not what the events before it lead to."""


@dataclass(slots=True)
class Segment:
    """What one is: from `start`, or the beginning, to before event `end`, or to the trace's end.

    Where the file cannot be opened, `head` and `body` are its bytes up to its first event and from
    `start` on.
    """

    name: str
    question: Question
    key: bytes
    start: Stop | None
    end: int | None
    head: bytes | None = None
    body: bytes = b""


@dataclass(slots=True)
class Piece:
    """What was found in one; its start and its end are those of its neighbours, or all is wrong."""

    begins: bytes  # the digest of the state that it began with
    ends: bytes  # and of the one that it left
    place: Place  # where the events behind it begin
    joined: bool
    lost: int
    unknown_inputs: dict[int, int]
    seq: int
    tally: Tally
    violated: list[tuple[int, str]]
    crash: tuple[int, str] | None
    recent: list[tuple[int, Event]]
    closed_resets: int  # verdicts that were closed before it
    resets: list[Any]
    closed_trips: int
    trips: list[Any]
    ending: Ending | None
    digest: str


CLASSES: Final[graph.Classes] = {
    **VERDICTS,
    **{
        each: tuple(field.name for field in fields(each))
        for each in (Segment, Piece, Question, Stop, Place, Problem, Tally, Divergence, Ending)
    },
}


def replayed(asked: bytes) -> bytes:
    """Replay a segment: what a task asks for."""
    segment = cast(Segment, graph.unpacked(asked, CLASSES))
    try:
        return graph.packed(_replayed(segment), CLASSES)
    except PayloadError as error:
        raise WrongStart(f"{segment.name}: a checkpoint cannot be used: {error}") from error


def _replayed(segment: Segment) -> Piece:
    start, question = segment.start, segment.question
    raw = unpacked(start, start.stored or b"") if start else b""
    with _opened(segment) as stream:
        reader = reader_of(cast(io.BufferedReader, stream), segment.name)
        model = question.model_for(reader.header)
        engine, verifier = _begun(reader, model, segment, raw)
        closed = [max(len(each) - 1, 0) for each in _verdicts(verifier)]
        place, standing = _run(engine, reader, segment.end)
        resets, trips = _verdicts(verifier)
        last = segment.end is None
        state = (
            packed(model, segment.end or 0, standing, verifier) if standing and not last else b""
        )
        return Piece(
            begins=digest_of(raw), ends=digest_of(state), place=place,
            joined=bool(standing and standing.joined), lost=engine.lost,
            unknown_inputs=engine.unknown_inputs, seq=engine.seq, tally=engine.tally,
            violated=engine.violated, crash=engine.crash, recent=engine.recent,
            closed_resets=closed[0], resets=resets[closed[0] :],
            closed_trips=closed[1], trips=trips[closed[1] :],
            ending=reader.ending if last and isinstance(reader, Reader) else None,
            digest=str(model.state()["digest"]) if last else "",
        )  # fmt: skip


def digest_of(raw: bytes) -> bytes:
    """Return the digest of a state as it is packed."""
    return blake2b(raw, digest_size=_DIGEST_BYTES).digest()


def _verdicts(verifier: Verifier | None) -> tuple[list[Any], list[Any]]:
    return (verifier.resets, verifier.round_trips) if verifier else ([], [])


def _begun(
    reader: AnyReader, model: AnyModel, segment: Segment, raw: bytes
) -> tuple[Engine, Verifier | None]:
    """Return an engine where the segment begins."""
    question, start = segment.question, segment.start
    verifier = question.verifier_for(model, reader.header) if question.verify else None
    kind = kind_of(verifier) if verifier else ""
    if identity.key_of(model, reader.header, kind) != segment.key:
        raise UsageError(f"{segment.name}: this is not the trace that was asked about")
    if start is None:
        frames = Onwards(reader, reader.here.seq, reader.checkpoint)
        engine = Engine(frames, model, verifier)
    else:
        engine = resumed(reader, model, start, raw, watched=question.verify)
        verifier = cast("Verifier | None", engine.watcher)
    engine.invariants = question.invariants
    return engine, verifier


def _run(engine: Engine, reader: AnyReader, end: int | None) -> tuple[Place, Standing | None]:
    """Replay up to before event `end`, or all; return where the block with that event begins.

    And how the replay stands; None where the host died.
    """
    place = reader.here
    with suppress(HostCrash):
        for first_seq, events in engine.reader:
            if reader.status == "damaged":
                break  # what stands behind damage follows from a state that nobody knows
            behind = first_seq + len(events)
            if end is not None and behind >= end:
                engine.feed(first_seq, events[: end - first_seq])
                return (reader.here if behind == end else place), engine.standing
            engine.feed(first_seq, events)
            place = reader.here
        engine.settle()
        return place, engine.standing
    return place, None


def _opened(segment: Segment) -> BinaryIO:
    if segment.head is None:
        stream = files.opened(segment.name)
    else:
        offset = segment.start.place.offset if segment.start else len(segment.head)
        stream = cast(BinaryIO, _Parts(segment.head, segment.body, offset))
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16))


class _Parts(io.RawIOBase):
    """A file of which there is the beginning, and a part from an offset on: between them is nothing."""

    def __init__(self, head: bytes, body: bytes, offset: int) -> None:
        self._head, self._body, self._offset = head, body, offset
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise OSError(0, "only from the beginning")
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at < len(self._head):
            data = self._head[self._at : self._at + len(buffer)]
        else:
            at = max(self._at - self._offset, 0)
            data = self._body[at : at + len(buffer)] if self._at >= self._offset else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
