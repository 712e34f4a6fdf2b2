"""A flight recorder: the last part of a life in a few files, written out as one trace when asked.

Each file (a segment) is a trace of its own, with the state before its first event, so that whoever
is killed leaves readable traces behind, at most `bound_ms` old. A dump copies the segments into a
new trace. Used as `tracer.log.stream.Writer` is. What the state is, and when to write out, say
callbacks: nothing here knows a model. docs/decisions/0003-flight-recorder.md says why files.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from tracer.errors import SourceError, TraceError, UsageError, WriteError
from tracer.events import FIRST_NOTE, FIRST_OUTPUT, NUMBER, Event
from tracer.log import format as fmt
from tracer.log.codec import unpack_events
from tracer.log.header import RUNNING, Header
from tracer.log.stream import Reader, Writer

SEGMENTS: Final = 8  # a ring holds its size in so many segments, and the one being written
FOLDER_SUFFIX: Final = ".ring"
END: Final = "end"
KILLED: Final = "killed"
_TIME_BEFORE: Final = "ring_time_before_ns"  # in a segment's annotations
_SEGMENT: Final = "{:012d}.itstrace"
READS: Final = frozenset(NUMBER[name] for name in ("reg.read", "gicr.read", "gicd.read"))
# How much more than its share a segment may hold of outputs of one input.
MAX_OUTPUTS_BYTES: Final = 1 << 20
_MAX_DUMPS: Final = 100_000


class Along(Protocol):
    """Who runs along with the recording, in the thread that writes."""

    def feed(self, first_seq: int, events: Sequence[Event]) -> str | None:
        """Take events that were written, or none for a while; return why to dump, if at all."""

    def checkpoint(self, seq: int) -> bytes | None:
        """Return the state before event `seq`, which comes next; None when nobody knows it."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first_seq: int
    size_bytes: int = 0  # of its event frames


class Ring:
    """Keeps at least the last `size_bytes` of event frames, whole; the oldest segment goes first.

    `add` may be called from one thread, `ask` from any, and from a signal handler.
    """

    def __init__(
        self,
        output: str,
        header: Header,
        *,
        size_bytes: int,
        along: Along | None = None,
        at_end: bool = True,
        codec: int = fmt.CODEC_ZSTD,
        bound_events: int = fmt.DEFAULT_BOUND_EVENTS,
        bound_ms: int = fmt.DEFAULT_BOUND_MS,
        fsync: bool = False,
        folder: Path | None = None,
    ) -> None:
        """`output` names the dumps: NAME-0001.itstrace and so on; `at_end` writes one at the end.

        Raises:
            UsageError: as `make_folder`, when no `folder` is given that it made before.
        """
        self.folder = folder or make_folder(output)
        self.dumps: list[str] = []
        self.dump_failed: WriteError | None = None  # the first one
        self._output = Path(output)
        self._header = header
        self._along = along
        self._at_end = at_end
        self._segment_bytes = max(size_bytes // SEGMENTS, 1)
        self._size_bytes = size_bytes
        self._options = {"codec": codec, "fsync": fsync, "bound_ms": 0}
        self._bound_events = bound_events
        self._lock = threading.RLock()
        self._events: list[Event] = []
        self._next_seq = header.first_seq
        self._time_ns = 0
        self._asked: deque[str] = deque()
        self._failed: WriteError | None = None
        self._segments: list[_Segment] = []
        self._out: BinaryIO | None = None
        self._number = 1
        self._writer = self._begin(None)
        self._stop = threading.Event()
        self._ticker = self._tick_every(bound_ms) if bound_ms else None

    @property
    def next_seq(self) -> int:
        """The sequence number of the next event."""
        return self._next_seq + len(self._events)

    @property
    def held(self) -> int:
        """How many events are in no file yet."""
        return len(self._events)

    @property
    def failed(self) -> WriteError | None:
        """Why nothing can be written any more."""
        return self._failed

    def ask(self, reason: str) -> None:
        """Have the ring written out soon."""
        self._asked.append(reason)

    def add(self, event: Event) -> None:
        """Append one event; WriteError as `tracer.log.stream.Writer.add` raises it."""
        if self._failed:
            raise self._failed
        self._events.append(event)
        if len(self._events) >= self._bound_events:
            self.flush()

    def flush(self) -> None:
        """Write what was kept back, and what was asked for; WriteError when it cannot be."""
        with self._lock:
            try:
                self._step()
            except WriteError as error:
                self._failed = error
                raise

    def _step(self) -> None:
        if self._failed:
            raise self._failed
        events = self._events[:]  # the list stays the same object, as another thread may add
        if events and self._segments[-1].size_bytes >= self._segment_bytes:
            at = self._next_cut(events)
            if at is not None:
                self._put(events[:at])
                self._rotate()
                events = events[at:]
        self._put(events)
        while self._asked:
            self._try_dump(self._asked.popleft())

    def _try_dump(self, reason: str) -> None:
        """Dump; where that fails the segments are still there, and the recording goes on."""
        try:
            self.dump(reason)
        except (WriteError, TraceError, OSError) as error:
            self.dump_failed = self.dump_failed or WriteError(f"no dump of the ring: {error}")

    def _next_cut(self, events: list[Event]) -> int | None:
        """Return where a segment may begin: before what cannot be an output of an earlier input."""
        for at, event in enumerate(events):
            if not FIRST_OUTPUT <= event[0] < FIRST_NOTE or event[0] in READS:
                return at
        too_many = self._segments[-1].size_bytes >= self._segment_bytes + MAX_OUTPUTS_BYTES
        return 0 if too_many else None

    def _put(self, events: list[Event]) -> None:
        writer, first_seq = self._writer, self._next_seq
        if events:
            before = writer.size_bytes
            try:
                for event in self._placed(events):
                    writer.add(event)
                writer.flush()
            finally:
                del self._events[: len(events)]
                self._next_seq = writer.next_seq
            self._segments[-1].size_bytes += writer.size_bytes - before
            self._time_ns += sum(event[1] for event in events)
        reason = self._along.feed(first_seq, events) if self._along else None
        if reason:
            self._asked.append(reason)

    def _placed(self, events: list[Event]) -> Sequence[Event]:
        """Let the first event of a segment have its time from zero, as that of any trace."""
        if self._next_seq != self._segments[-1].first_seq:
            return events
        kind, dt_ns, *fields = events[0]
        return [(kind, _clamped(self._time_ns + dt_ns), *fields), *events[1:]]

    # -- segments

    def _begin(self, checkpoint: bytes | None) -> Writer:
        """Open the next segment, whose first event comes next."""
        segment = _Segment(self.folder / _SEGMENT.format(self._next_seq), self._next_seq)
        if checkpoint is None and segment.first_seq > self._header.first_seq:
            # Nobody knows what it did before, and later states rest on this one.
            self._header = replace(self._header, starts=RUNNING)
        header = self._part_header(segment.first_seq, "segment")
        header.annotations = header.annotations | {_TIME_BEFORE: str(self._time_ns)}
        try:
            self._out = segment.path.open("xb", buffering=0)
        except OSError as error:
            raise WriteError(f"{segment.path}: {error.strerror}") from error
        writer = Writer(
            self._out, header, name=str(segment.path), checkpoint=checkpoint,
            bound_events=fmt.MAX_EVENTS_PER_FRAME, **self._options,  # type: ignore[arg-type]
        )  # fmt: skip
        self._segments.append(segment)
        return writer

    def _part_header(self, first_seq: int, reason: str) -> Header:
        return replace(
            self._header,
            parent_uuid=self._header.uuid or None,
            first_seq=first_seq,
            annotations=self._header.annotations | {"ring": reason},
        )

    def _rotate(self) -> None:
        self._end_segment()
        checkpoint = self._along.checkpoint(self._next_seq) if self._along else None
        self._writer = self._begin(checkpoint)
        while sum(each.size_bytes for each in self._segments[1:]) >= self._size_bytes:
            self._segments.pop(0).path.unlink(missing_ok=True)

    def _end_segment(self) -> None:
        try:
            self._writer.abandon()
        finally:
            if self._out is not None:
                self._out.close()
                self._out = None

    # -- dumps

    def dump(self, reason: str) -> str:
        """Write all that is kept into a new trace and return its name.

        Raises:
            WriteError: it cannot be written; the segments are as they were.
        """
        with self._lock:
            name, out = self._new_file()
            with out:
                join([each.path for each in self._segments], out, name, reason)
            self.dumps.append(name)
            return name

    def _new_file(self) -> tuple[str, BinaryIO]:
        """Make a file under the next number that is free; none is ever overwritten."""
        for number in range(self._number, _MAX_DUMPS):
            path = self._output.with_stem(f"{self._output.stem}-{number:04d}")
            try:
                out = path.open("xb", buffering=0)
            except FileExistsError:
                continue
            except OSError as error:
                raise WriteError(f"{path}: {error.strerror}") from error
            self._number = number + 1
            return str(path), out
        raise WriteError(f"{self._output}: there are {_MAX_DUMPS} dumps already")

    # -- the end

    def close(self) -> None:
        """Write what was kept back and, if wanted, a last dump; the segments then go.

        Raises:
            WriteError: something could not be written; the segments stay.
        """
        self.abandon()
        if self._failed:
            raise self._failed
        if self._at_end:
            self._try_dump(END)
        if self.dump_failed:
            raise WriteError(f"{self.dump_failed}; {self.folder} has what the ring held")
        for segment in self._segments:
            segment.path.unlink(missing_ok=True)
        self.folder.rmdir()

    def abandon(self) -> None:
        """Stop; the segments stay, as traces that can be read."""
        self._halt()
        try:
            if self._failed is None:
                self.flush()
        finally:
            self._end_segment()

    def _halt(self) -> None:
        if self._ticker:
            self._stop.set()
            self._ticker.join()

    def _tick_every(self, bound_ms: int) -> threading.Thread:
        def tick() -> None:
            while not self._stop.wait(bound_ms / 2000):
                try:
                    self.flush()
                except WriteError:
                    return  # kept in _failed: the next add or close raises it

        thread = threading.Thread(target=tick, name="itstrace-ring", daemon=True)
        thread.start()
        return thread


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,25}", text) else 0


def _clamped(time_ns: int) -> int:
    return min(max(time_ns, -(1 << 63)), (1 << 64) - 1)


def make_folder(output: str) -> Path:
    """Make the folder for the segments of a ring.

    Raises:
        UsageError: the folder of an earlier ring is there still, or it cannot be made.
    """
    folder = Path(output + FOLDER_SUFFIX)
    try:
        folder.mkdir()
        return folder
    except FileExistsError as error:
        raise UsageError(
            f"{folder}: a ring is there already: one recorder more, or what a killed one left; "
            f"`itstrace import {folder}` makes a trace of it, then remove it"
        ) from error
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error


def segments_of(folder: Path) -> list[Path]:
    """Return the segments that a recorder left in `folder`, oldest first.

    Raises:
        SourceError: there are none.
    """
    found = sorted(folder.glob("*.itstrace"))
    if not found:
        raise SourceError(f"{folder}: there is no segment of a ring in it")
    return found


def join(paths: Sequence[Path], out: BinaryIO, name: str, reason: str) -> int:
    """Write the segments as one trace to `out`; return the sequence number behind its last event.

    With the reason `KILLED` it gets no clean end, and with any but `END` one that says that the
    recording went on.

    Raises:
        WriteError: it cannot be written.
        TraceError: a segment cannot be read to its end.
    """
    writer: Writer | None = None
    for path, reader in _readable(paths):
        if writer is None:
            annotations = dict(reader.header.annotations)
            annotations.pop(_TIME_BEFORE, None)
            header = replace(
                reader.header,
                uuid=str(uuid.uuid4()) if reader.header.uuid else "",
                annotations=annotations | {"ring": reason},
                base_digest=None,
            )
            writer = Writer(out, header, bound_ms=0, name=name, checkpoint=reader.checkpoint)
            _copy(reader, writer, first=True)
        elif reader.header.first_seq != writer.next_seq:
            raise SourceError(f"{path}: begins with event {reader.header.first_seq}, not the next")
        else:
            _copy(reader, writer, first=False)
    if writer is None:
        raise SourceError(f"{paths[0].parent}: no segment has a whole header")
    if reason == KILLED:
        writer.abandon()
    else:
        writer.close(goes_on=reason != END)
    return writer.next_seq


def _readable(paths: Sequence[Path]) -> Iterator[tuple[Path, Reader]]:
    """Yield a reader of each segment; the last may be one that a killed recorder had just made."""
    for path in paths:
        with path.open("rb") as stream:
            try:
                reader = Reader(stream, str(path))
            except TraceError:
                if path != paths[-1]:
                    raise
                return
            yield path, reader


def _copy(reader: Reader, writer: Writer, *, first: bool) -> None:
    """Copy event frames; only the first event of a later segment is told another time."""
    before_ns = 0 if first else _number(reader.header.annotations.get(_TIME_BEFORE, "0"))
    for frame, raw in reader.event_frames():
        if before_ns:
            _, events = unpack_events(raw)
            kind, dt_ns, *fields = events[0]
            for event in ((kind, _clamped(dt_ns - before_ns), *fields), *events[1:]):
                writer.add(event)
            before_ns = 0
        else:
            writer.copy(frame, raw)
    if reader.status == "damaged":
        problem = reader.problems[0]
        raise TraceError(reader.name, problem.offset, problem.what)
