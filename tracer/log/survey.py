"""What state a trace file is in, and what of it can be read: a map, made in one pass.

A file is clean, cut (its recorder was stopped: a state of a good file), damaged, lossy (whole, but
the recorder lost events), newer, or not a trace. Unlike a reader, which goes front to back, this
finds frames that were moved, and those of a file whose first bytes are gone. Counterparts:
`tracer.log.stream`, which reads, and `tracer.log.splice`, which writes what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from operator import itemgetter
from typing import BinaryIO, Final

from tracer.events import FIRST_OUTPUT, KINDS, LAST_KIND, NUMBER, Event, kind_name
from tracer.log import format as fmt
from tracer.log.checkpoint import Assembly
from tracer.log.checks import PayloadError, brief
from tracer.log.codec import unpack_events, unpack_map
from tracer.log.frames import Frame, is_head, kind_here, link, look, preamble, resync
from tracer.log.header import Header
from tracer.log.migrate import Step, events_now, header_now, steps_from
from tracer.log.source import Problem, Source
from tracer.log.stream import CHANGED

CLEAN: Final = "clean"
CUT: Final = "cut"
DAMAGED: Final = "damaged"
LOSSY: Final = "lossy"
NEWER: Final = "newer"
NO_TRACE: Final = "not a trace"

_KIND: Final = itemgetter(0)
_TIME: Final = itemgetter(1)
_LOSS: Final = NUMBER["loss"]
_GAP: Final = NUMBER["source.gap"]
_LOSSES: Final = frozenset((_LOSS, _GAP))
_PLAIN: Final = (
    frozenset(range(LAST_KIND + 1)) - _LOSSES - (frozenset(range(FIRST_OUTPUT)) - frozenset(KINDS))
)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are not what was written; none at all where only the order is not."""

    start: int
    end: int
    what: str


@dataclass(frozen=True, slots=True)
class Piece:
    """An event frame that is whole, and where."""

    start: int
    end: int
    first_seq: int
    next_seq: int
    before_ns: int  # the time of the event before it, as far as that is known
    lasts_ns: int
    skip: int = 0  # its first events, which another piece has too
    part: int = 0  # the number of its file, where there are several


@dataclass(frozen=True, slots=True)
class Hole:
    """Events that are in no piece, between bytes `start` and `end`, which moved frames have not."""

    first_seq: int
    count: int | None
    start: int | None
    end: int | None


@dataclass(slots=True)
class Survey:
    """What was found in a file."""

    name: str
    size_bytes: int = 0
    version: int | None = None
    is_trace: bool = False
    header: Header | None = None
    checkpoint: bytes | None = None
    checkpoint_lost: bool = False
    pieces: list[Piece] = field(default_factory=list)  # by sequence number
    holes: list[Hole] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    damage_count: int = 0
    cut_at: int | None = None  # where the last whole frame ends, of a file without a clean end
    cut_short: bool = False  # whether there are bytes behind it that may have been events
    goes_on: bool = False
    events: int = 0
    losses: int = 0  # places where the recorder or its source lost something
    lost: int = 0  # events that a recorder counted there
    unknown_inputs: dict[str, int] = field(default_factory=dict)
    unknown_frames: int = 0
    times_ns: dict[int, int] = field(default_factory=dict)  # as the index has them: piece -> before

    @property
    def state(self) -> str:
        """The word for the whole file: the worst that was found."""
        if not self.is_trace:
            return NO_TRACE
        if self.version is not None and self.version > fmt.VERSION:
            return NEWER
        if self.damage_count:
            return DAMAGED
        if self.unknown_inputs:
            return NEWER
        if self.losses:
            return LOSSY
        return CLEAN if self.cut_at is None else CUT

    @property
    def first_seq(self) -> int:
        """The number of the first event: of the first one that is left when the header is not."""
        if self.header is not None:
            return self.header.first_seq
        return self.pieces[0].first_seq if self.pieces else 0

    def note(self, events: Sequence[Event]) -> None:
        """Count events, and those that say that something is missing or newer."""
        self.events += len(events)
        if _PLAIN.issuperset(map(_KIND, events)):
            return
        for event in events:
            if event[0] in _LOSSES:
                self.losses += 1
                if event[0] == _LOSS and len(event) > 3:
                    self.lost += event[3] or 0
            elif event[0] < FIRST_OUTPUT and event[0] not in KINDS:
                name = kind_name(event[0])
                self.unknown_inputs[name] = self.unknown_inputs.get(name, 0) + 1


def choose(pieces: list[Piece], next_seq: int) -> list[Piece]:
    """Return the pieces that have each event from `next_seq` on once, in order."""
    chosen: list[Piece] = []
    for piece in sorted(pieces, key=lambda each: (each.first_seq, each.start)):
        if piece.next_seq > next_seq:
            chosen.append(replace(piece, skip=max(next_seq - piece.first_seq, 0)))
            next_seq = piece.next_seq
    return chosen


def survey(
    stream: BinaryIO, name: str, watch: Callable[[Iterable[int]], Iterable[int]] = iter
) -> Survey:
    """Return what there is in a file, which `stream` reads from its start.

    `watch` wraps the offsets that are come to, for whoever shows how far it is.
    """
    scan = _Scan(stream, name)
    for _ in watch(scan.steps()):
        pass
    return scan.found


def _versions() -> range:
    return range(1, fmt.VERSION + 1)


class _Scan:
    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.found = Survey(name)
        self._source = Source(stream)
        self._chain: bytes | None = None  # None right after damage
        self._linked = False  # whether the last whole frame follows the one before it
        self._next_seq: int | None = None  # of the event that would come next
        self._steps: tuple[Step, ...] = ()
        self._assembly = Assembly()
        self._assembly_failed = False
        self._header_raw: bytes | None = None
        self._pieces: list[Piece] = []
        self._ended = False
        self._end_counts: int | None = None
        self._complete = False  # whether no event frame can stand behind the last one
        self._tail_lost = False  # whether one may have stood there

    def steps(self) -> Iterator[int]:
        """Take the file in, frame by frame."""
        if self._preamble():
            while self._source.peek(1) and self._step():
                yield self._source.offset
            self._finish()
        while rest := len(self._source.peek(1 << 16)):
            self._source.skip(rest)
        self.found.size_bytes = self._source.offset

    def _damaged(self, start: int, what: str, *, end: int | None = None) -> None:
        self.found.damage_count += 1
        if len(self.found.damage) < fmt.MAX_PROBLEMS_LISTED:
            end = self._source.offset if end is None else end
            self.found.damage.append(Damage(start, end, what))

    # -- the first bytes

    def _preamble(self) -> bool:
        """Take the first bytes in; False where nothing behind them is for this version."""
        found, source = self.found, self._source
        raw = source.peek(fmt.PREAMBLE.size)
        if len(raw) == fmt.PREAMBLE.size and raw.startswith(fmt.MAGIC):
            found.is_trace = True
            found.version = fmt.PREAMBLE.unpack(raw)[1]
        if found.version is not None and found.version in _versions():
            self._steps = steps_from(found.version)
            source.skip(len(raw))
            self._chain = link(b"", raw)
            return True
        version = self._version_of_the_header()
        if version is None and found.version:
            return False
        found.version = version
        if version is not None:
            # A newer trace would have another chain: only these first bytes are not as written.
            self._chain = link(b"", preamble(version))
            self._steps = steps_from(version)
            source.skip(fmt.PREAMBLE.size)
        elif not is_head(source.peek(fmt.FRAME_HEAD_SIZE_BYTES)):
            resync(source)
        wrong = (
            "the first bytes of the file are not those of a trace" if raw else "nothing is in it"
        )
        self._damaged(0, wrong)
        return True

    def _version_of_the_header(self) -> int | None:
        """Return the version that the first frame's chain is of, where one stands in its place."""
        size = fmt.FRAME_HEAD_SIZE_BYTES + fmt.MAX_HEADER_RAW_BYTES + fmt.CRC.size
        frame = look(Source(BytesIO(self._source.ahead(fmt.PREAMBLE.size, size))))
        if isinstance(frame, Problem) or frame.kind != fmt.HEADER:
            return None
        return next((v for v in _versions() if frame.chain == link(b"", preamble(v))), None)

    # -- frame by frame

    def _step(self) -> bool:
        """Take the next frame, or what is none; False at the end of what belongs to this trace."""
        source, found = self._source, self.found
        start = source.offset
        frame = look(source)
        if isinstance(frame, Problem):
            return self._no_frame(frame)
        found.is_trace = True
        if self._ended:
            self._damaged(start, "frames after the end frame")
        self._linked = frame.chain == self._chain
        if self._chain is not None and not self._linked:
            self._damaged(start, CHANGED)
        source.skip(len(frame.data))
        self._chain = frame.next_chain
        try:
            return self._content(start, frame)
        except (PayloadError, LookupError, TypeError) as error:
            self._damaged(start, str(error))
            self._tail_lost |= frame.kind == fmt.EVENTS
            self._assembly_failed |= frame.kind == fmt.CHECKPOINT
        return True

    def _no_frame(self, problem: Problem) -> bool:
        may_be_events = kind_here(self._source) in (None, fmt.EVENTS) and not self._complete
        self._chain = None
        if not resync(self._source) and problem.kind == CUT:
            self.found.cut_at = problem.offset
            self.found.cut_short = may_be_events
            return False
        self._tail_lost |= may_be_events
        self._damaged(problem.offset, problem.what)
        return True

    def _content(self, start: int, frame: Frame) -> bool:
        raw = frame.unpack()
        if frame.kind == fmt.HEADER:
            return self._header(start, raw)
        if frame.kind == fmt.EVENTS:
            self._events(start, raw)
        elif frame.kind == fmt.CHECKPOINT:
            self._assembly.add(raw)
        elif frame.kind == fmt.INDEX:
            self._index(raw)
        elif frame.kind == fmt.END:
            self._end(start, frame.chain, raw)
        else:
            self.found.unknown_frames += 1
        return True

    def _header(self, start: int, raw: bytes) -> bool:
        """Take the header; False for one of another trace, which stands behind ours."""
        if self._header_raw is None:
            values = unpack_map(raw)
            header = Header.from_map(header_now(values, self._steps))
            if values.get("version", fmt.VERSION) != (self.found.version or fmt.VERSION):
                raise PayloadError("header and preamble name different versions")
            self.found.header = header
            self._header_raw = raw
            if self._next_seq is None:
                self._next_seq = self.found.header.first_seq
            return True
        if raw == self._header_raw:
            return True  # the chain has told that it comes again
        while rest := len(self._source.peek(1 << 16)):
            self._source.skip(rest)
        self._damaged(start - fmt.PREAMBLE.size, "another trace begins here")
        return False

    def _events(self, start: int, raw: bytes) -> None:
        found = self.found
        first_seq, events = unpack_events(raw, partial(events_now, steps=self._steps))
        end, next_seq = self._source.offset, first_seq + len(events)
        self._pieces.append(Piece(start, end, first_seq, next_seq, 0, sum(map(_TIME, events))))
        self._tail_lost = False
        self._in_order(start, first_seq)
        self._next_seq = next_seq
        found.note(events)

    def _in_order(self, start: int, first_seq: int) -> None:
        """Tell of events that come again, and of such as are missing though no byte is."""
        if self._next_seq is None or first_seq == self._next_seq:
            return
        if first_seq < self._next_seq:
            self._damaged(start, f"event {first_seq} comes a second time")
        elif self._linked:
            self._damaged(start, f"events {self._next_seq} to {first_seq - 1} are missing")

    def _index(self, raw: bytes) -> None:
        match unpack_map(raw).get("frames"):
            case list(entries):
                for entry in entries:
                    match entry:
                        case [int(), int(first_seq), int(time_ns)]:
                            self.found.times_ns[first_seq] = time_ns
        self._complete = not self._tail_lost

    def _end(self, start: int, chain: bytes, raw: bytes) -> None:
        end = unpack_map(raw)
        match end.get("events"):
            case int(count):
                self._end_counts = count
        if end.get("digest") != chain.hex():
            self._damaged(start, "the end names another digest")
        self.found.goes_on = end.get("goes_on") is True
        self._ended = self._complete = True

    # -- all together

    def _finish(self) -> None:
        found = self.found
        if self._header_raw is None and found.is_trace:
            found.damage_count += not found.damage_count
        self._place(sorted(self._pieces, key=lambda piece: piece.first_seq))
        self._tail()
        if not self._ended and not found.damage_count and found.cut_at is None:
            found.cut_at = self._source.offset
        self._state(found.header.base_digest if found.header else None)

    def _state(self, named: str | None) -> None:
        """Take the state at the beginning; a header may name one that is kept elsewhere."""
        found, assembly = self.found, self._assembly
        is_whole = assembly.is_complete and not (assembly.is_empty or self._assembly_failed)
        if is_whole and named in (None, assembly.digest):
            found.checkpoint = assembly.data
        elif named is not None:
            seen = not assembly.is_empty or self._assembly_failed
            found.checkpoint_lost = seen or bool(found.damage_count)
            if seen and (found.cut_at is None or found.pieces):
                self._damaged(0, "the state at the beginning is not the one that the header names")

    def _place(self, pieces: list[Piece]) -> None:
        """Choose the pieces that have each event once, and note what is between them."""
        found = self.found
        first_seq = pieces[0].first_seq if pieces else 0
        if found.header is not None:
            first_seq = found.header.first_seq
        found.pieces = choose(pieces, first_seq)
        next_seq, time_ns, before = first_seq, 0, None
        for at, piece in enumerate(found.pieces):
            begins = piece.first_seq + piece.skip
            if begins > next_seq:
                self._hole(next_seq, begins - next_seq, before, piece.start)
            if found.holes:  # until something is missing, the times follow each other
                time_ns = found.times_ns.get(piece.first_seq, time_ns)
            found.pieces[at] = replace(piece, before_ns=time_ns)
            next_seq, time_ns, before = piece.next_seq, time_ns + piece.lasts_ns, piece.end

    def _hole(self, first_seq: int, count: int | None, start: int | None, end: int) -> None:
        in_order = start is not None and start <= end
        place = (start, end) if in_order else (None, None)
        self.found.holes.append(Hole(first_seq, count, *place))

    def _tail(self) -> None:
        """Note what was lost behind the last piece."""
        found = self.found
        next_seq = found.pieces[-1].next_seq if found.pieces else found.first_seq
        start = max((piece.end for piece in found.pieces), default=None)
        counts = self._end_counts
        if counts is not None and counts > next_seq:
            self._hole(next_seq, counts - next_seq, start, self._source.offset)
        elif self._tail_lost and counts is None:
            self._hole(next_seq, None, start, self._source.offset)
        if self._ended and counts != next_seq and not self.found.damage_count:
            self._damaged(self._source.offset, f"the end counts {brief(counts)} events")
