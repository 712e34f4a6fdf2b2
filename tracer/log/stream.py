"""Reader and writer of trace files, together, so that they cannot part.

The writer keeps events back up to a bound and then writes one frame with one write. The reader
tells a clean end, a cut tail, damage in the middle, a newer version and something that is no trace
apart, and never believes a length before it has checked it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import BinaryIO, Final

from tracer.errors import DamagedTrace, NewerTrace, NotATrace, WriteError
from tracer.events import Event
from tracer.log import format as fmt
from tracer.log.appending import Appending
from tracer.log.checkpoint import Assembly, digest, parts
from tracer.log.checks import PayloadError, brief
from tracer.log.codec import (
    count_events,
    pack_events,
    pack_map,
    unpack_events,
    unpack_map,
)
from tracer.log.foreign import way_out
from tracer.log.frames import claimed, link, look, resync
from tracer.log.header import Header
from tracer.log.migrate import events_now, header_now, steps_from
from tracer.log.source import Ending, Place, Problem, Source

_TIME: Final = itemgetter(1)
CHANGED: Final = "frames before this one were changed or taken out"


class Writer:
    """Appends events to a new trace.

    At most `bound_events` events and, with a thread that watches the clock, `bound_ms`
    milliseconds of them are not yet in the file. `add` may be called from one thread.
    """

    def __init__(
        self,
        out: BinaryIO,
        header: Header,
        *,
        codec: int = fmt.CODEC_ZSTD,
        bound_events: int = fmt.DEFAULT_BOUND_EVENTS,
        bound_ms: int = fmt.DEFAULT_BOUND_MS,
        fsync: bool = False,
        name: str = "trace",
        checkpoint: bytes | None = None,
        background: bool = False,
    ) -> None:
        """`checkpoint` is the state before the header's first event, of which we know nothing.

        `background`: `add` never waits for the file, a thread writes; who adds looks at `held`.
        """
        if not 1 <= bound_events <= fmt.MAX_EVENTS_PER_FRAME:
            raise ValueError(f"bound_events must be 1 to {fmt.MAX_EVENTS_PER_FRAME}")
        self._name = name
        self._codec = codec
        self._bound_events = bound_events
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._next_seq = header.first_seq
        self._time_ns = 0
        self._index: list[tuple[int, int, int]] = []
        self._index_step = 1  # which of the frames are in it: every so many, so that it stays small
        self._frames = 0
        self._failed: WriteError | None = None
        self._refused: list[str] = []  # events left out of which nobody was told yet
        if checkpoint is not None:
            header = replace(header, base_digest=digest(checkpoint))
        try:
            head = header.payload()
        except PayloadError as error:
            raise WriteError(f"{name}: {error}; nothing was written") from error
        self._file = Appending(out, fsync=fsync, failure=self._fail)
        self._file.frame(fmt.HEADER, head, fmt.CODEC_NONE)
        for part in parts(checkpoint or b""):
            self._file.frame(fmt.CHECKPOINT, part, codec)
        self._background = background
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._watcher = (
            self._watch(bound_ms or fmt.DEFAULT_BOUND_MS) if bound_ms or background else None
        )

    def _watch(self, bound_ms: int) -> threading.Thread:
        def watch() -> None:
            while not self._stop.is_set():
                self._wake.wait(bound_ms / 2000)
                self._wake.clear()
                try:
                    with self._lock:
                        self._flush()
                except WriteError:
                    return  # kept in _failed: the next add or close raises it

        thread = threading.Thread(target=watch, name="itstrace-flush", daemon=True)
        thread.start()
        return thread

    @property
    def next_seq(self) -> int:
        """The sequence number of the next event."""
        return self._next_seq + len(self._events)

    @property
    def held(self) -> int:
        """How many events are not in the file yet."""
        return len(self._events)

    @property
    def failed(self) -> WriteError | None:
        """Why nothing can be written any more."""
        return self._failed

    @property
    def size_bytes(self) -> int:
        """How much is in the file."""
        return self._file.size_bytes

    def add(self, event: Event) -> None:
        """Append one event tuple `(kind, dt_ns, field, ...)`.

        Raises:
            WriteError: the file cannot be written, now or when the watcher last tried; or as
                `flush` raises it.
        """
        if self._failed:
            raise self._failed
        events = self._events
        events.append(event)
        if len(events) >= self._bound_events:
            if self._background:
                self._wake.set()
            else:
                self.flush()

    def flush(self) -> None:
        """Write what was kept back as one frame.

        Raises:
            WriteError: the file cannot be written; or since the last call an event was left out
                that no reader would take, and all others are in the file.
        """
        self._lock.acquire()  # in half the time of a `with`, as this may be called for each event
        try:
            self._flush()
            if self._refused:
                first, more = self._refused[0], len(self._refused) - 1
                self._refused.clear()
                raise WriteError(f"{first}; nor were {more} more events" if more else first)
        finally:
            self._lock.release()

    def _flush(self) -> None:
        if self._failed:
            raise self._failed
        # The list stays the same object, so an `add` on another thread is never lost.
        events = self._events[:]
        if events and not self._event_frame(events):
            self._split(len(events))

    def _split(self, left: int) -> None:
        """Write the first `left` events, too many for one frame, as several."""
        size = left // 2
        while left:
            if self._event_frame(self._events[:size]):
                left -= size
                size = min(2 * size, left)
            else:
                size //= 2

    def _event_frame(self, events: list[Event]) -> bool:
        """Write `events` as one frame and let go of them; False when they are too many for one."""
        count = len(events)
        try:
            payload = pack_events(self._next_seq, events)
        except (OverflowError, TypeError, ValueError) as error:
            if count == 1:
                self._refuse(str(error))
            return count == 1
        if not self._frames % self._index_step:
            self._index.append((self._file.size_bytes, self._next_seq, self._time_ns))
        self._frames += 1
        self._file.frame(fmt.EVENTS, payload, self._codec)
        del self._events[:count]
        self._next_seq += count
        self._time_ns += sum(map(_TIME, events))
        if len(self._index) >= fmt.MAX_INDEX_ENTRIES:
            del self._index[1::2]
            self._index_step *= 2
        return True

    def _refuse(self, why: str) -> None:
        """Drop the first event that is kept back, which no reader would take; `flush` tells it."""
        del self._events[:1]
        self._refused.append(f"{self._name}: event {self._next_seq} was not written: {why}")

    def _fail(self, error: OSError) -> WriteError:
        """Return what to say now and whenever something is to be written."""
        self._failed = WriteError(
            f"{self._name}: {error.strerror or error}; everything up to event "
            f"{self._next_seq} is in the file, {len(self._events)} events are not: make room "
            "and record again"
        )
        return self._failed

    def copy(self, frame: bytes, raw: bytes) -> None:
        """Append an event frame of another trace; `raw` is its payload.

        Only what stands before it differs, so that neither events nor times are looked at: they
        must follow those before, and the index does not know of them.
        """
        kind, codec, _, stored_size = fmt.FRAME.unpack_from(frame)[1:5]
        start = fmt.FRAME_HEAD_SIZE_BYTES
        stored = frame[start : start + stored_size]
        with self._lock:
            self._flush()
            self._file.put(kind, codec, stored, len(raw))
            self._next_seq += count_events(raw)

    def close(self, *, goes_on: bool = False) -> None:
        """Write the index and the end frame; the file then has a clean end.

        `goes_on`: what was recorded went on behind it.
        """
        self._end_watch()
        self.flush()
        with self._lock:
            index = [
                [offset, seq, min(max(time_ns, -(2**63)), 2**64 - 1)]
                for offset, seq, time_ns in self._index
            ]
            self._file.frame(fmt.INDEX, pack_map({"frames": index}), self._codec)
            end = {"events": self._next_seq, "digest": self._file.chain.hex()}
            if goes_on:
                end["goes_on"] = True
            self._file.frame(fmt.END, pack_map(end), fmt.CODEC_NONE)

    def abandon(self) -> None:
        """Stop without a clean end: what was kept back is written if it can be."""
        self._end_watch()
        if self._failed is None:
            self.flush()

    def _end_watch(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._watcher:
            self._watcher.join()


class Reader:
    """Reads a trace from a binary stream, front to back.

    Iterating gives `(first_seq, events)` for every readable event frame. Afterwards `status` is
    `clean`, `cut` or `damaged`, and `problems` says where and what.

    Raises:
        NotATrace, NewerTrace, DamagedTrace: when not even the header can be read.
    """

    def __init__(self, stream: BinaryIO, name: str = "trace", *, follow: bool = False) -> None:
        """`follow`: the stream waits for more at its end, so that only the end frame ends it."""
        self.name = name
        self._follow = follow
        self.problems: list[Problem] = []
        self.problem_count = 0
        self.ended = False
        self._goes_on = False
        self._wasted = 0  # bytes of payloads that were read in vain, looking for a way on
        self._before = b""  # the chain before the last whole frame
        self._last: tuple[bytes, bytes] = (b"", b"")  # the last whole frame, and its payload
        self.events = 0
        self.next_seq = 0
        self.unknown_frames = 0
        self.last_good_offset = 0
        self._source = Source(stream)
        self._anchored = True  # whether the chain is known: not right after damage
        self.chain = self._preamble()
        self._steps = steps_from(self.version)
        self._convert = partial(events_now, steps=self._steps) if self._steps else None
        self.header = self._header()
        self.checkpoint = self._checkpoint() if self.header.base_digest else None
        self._begins = self._source.offset  # where the events do

    def _preamble(self) -> bytes:
        raw = self._source.peek(fmt.PREAMBLE.size)
        if not raw.startswith(fmt.MAGIC):
            raise NotATrace(self.name, 0, f"this is not an itstrace file; {way_out(raw)}")
        if len(raw) < fmt.PREAMBLE.size:
            raise DamagedTrace(self.name, len(raw), "cut off before its header: nothing was kept")
        version = fmt.PREAMBLE.unpack(raw)[1]
        if version > fmt.VERSION:
            raise NewerTrace(
                self.name,
                8,
                f"format version {version}, this itstrace reads up to {fmt.VERSION}: "
                "use a newer itstrace",
            )
        if version < 1:
            raise DamagedTrace(self.name, 8, f"there never was a format version {version}")
        self.version = version
        self._source.skip(fmt.PREAMBLE.size)
        return link(b"", raw)

    def _header(self) -> Header:
        start = self._source.offset
        frame = self._next_frame()
        if isinstance(frame, Problem):
            raise DamagedTrace(self.name, frame.offset, f"header: {frame.what}")
        kind, raw = frame
        if kind != fmt.HEADER or len(raw) > fmt.MAX_HEADER_RAW_BYTES:
            raise DamagedTrace(self.name, start, "the first frame must be a header")
        try:
            values = unpack_map(raw)
            header = Header.from_map(header_now(values, self._steps))
            if values.get("version", fmt.VERSION) != self.version:
                raise PayloadError("header and preamble name different versions")
        except (PayloadError, LookupError, TypeError) as error:
            raise DamagedTrace(self.name, start, str(error)) from error
        self.next_seq = header.first_seq
        return header

    def _checkpoint(self) -> bytes | None:
        """Return the state before the first event, None when the file holds none or not all of it."""
        whole = Assembly()
        start = self._source.offset
        while not whole.is_complete and self._next_kind() == fmt.CHECKPOINT:
            frame = self._next_frame()
            if isinstance(frame, Problem):
                self._problem(frame.offset, f"checkpoint: {frame.what}", frame.kind)
                return None
            try:
                whole.add(frame[1])
            except PayloadError as error:
                self._problem(start, str(error), "damaged")
                return None
            start = self._source.offset
        if whole.is_empty:
            return None
        if whole.digest == self.header.base_digest:
            return whole.data
        cut = not whole.is_complete and not self._source.peek(1)
        what = "the checkpoint is not the one that the header names"
        self._problem(start, what, "cut" if cut else "damaged")
        return None

    def _next_kind(self) -> int | None:
        """Return the type that the frame here claims, None at the end."""
        head = self._source.peek(len(fmt.SYNC) + 1)
        return head[-1] if len(head) > len(fmt.SYNC) and head.startswith(fmt.SYNC) else None

    @property
    def status(self) -> str:
        """`clean`, `cut` (no clean end: the recorder was stopped) or `damaged`, as far as read."""
        kinds = {problem.kind for problem in self.problems}
        return "damaged" if "damaged" in kinds else "cut" if kinds else "clean"

    @property
    def open_end(self) -> bool:
        """Whether outputs of the last input may be missing: the recording went on, or was cut."""
        return self._goes_on or not self.ended

    @property
    def here(self) -> Place:
        """Where the next block of events begins."""
        return Place(self._source.offset, self.next_seq, self.chain)

    @property
    def ending(self) -> Ending:
        """How it ended, for a reader that did not read it itself: see `end_as`."""
        return Ending(self.here, self.problems, self.problem_count, self.ended, self._goes_on)

    def end_as(self, ending: Ending) -> None:
        """Say of the file what another reader said of it, at its end."""
        self.go_to(ending.place)
        self.problems, self.problem_count = list(ending.problems), ending.problem_count
        self.ended, self._goes_on = ending.ended, ending.goes_on

    def go_to(self, place: Place) -> None:
        """Read on from `place` in this file; nothing is said of what stands before it."""
        self._source.go_to(place.offset)
        self.next_seq, self.chain = place.seq, place.chain
        self.problems = [each for each in self.problems if each.offset < self._begins]
        self.problem_count = len(self.problems)
        self.ended, self._anchored = False, True

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        while not (self._follow and self.ended):
            start = self._source.offset
            if not self._source.peek(1):
                if not self.ended:
                    self._problem(start, "no clean end: the recorder was cut off here", "cut")
                return
            frame = self._next_frame()
            if isinstance(frame, Problem):
                if not self._resync():
                    self._problem(frame.offset, frame.what, frame.kind)
                    return
                # Whole frames stand behind it, so this was no cut tail.
                self._problem(frame.offset, frame.what, "damaged")
                continue
            if self.ended:
                self._problem(start, "frames after the end frame", "damaged")
            found = self._content(start, *frame)
            if found is not None:
                yield found

    def event_frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (frame, payload) of each event frame, unlike iterating without its events."""
        while self._source.peek(1):
            frame = self._next_frame()
            if isinstance(frame, Problem):
                self._problem(frame.offset, frame.what, frame.kind)
                return
            if frame[0] == fmt.EVENTS:
                yield self._last

    def _next_frame(self) -> tuple[int, bytes] | Problem:
        """Return (type, raw payload) and step over the frame, or say what is wrong here."""
        start = self._source.offset
        frame = look(self._source)
        if isinstance(frame, Problem):
            return frame
        if self._anchored and frame.chain != self.chain:
            # The frame itself is whole, so it is read; what stood before it is not what was
            # written before it.
            self._problem(start, CHANGED, "damaged")
        try:
            raw = frame.unpack()
        except PayloadError as error:
            return Problem(start, str(error), "damaged")
        self._source.skip(len(frame.data))
        self._before = frame.chain
        self.chain = frame.next_chain
        self._anchored = True
        self.last_good_offset = self._source.offset
        self._last = (frame.data, raw)
        return frame.kind, raw

    def _content(self, start: int, kind: int, raw: bytes) -> tuple[int, tuple[Event, ...]] | None:
        try:
            if kind == fmt.EVENTS:
                return self._event_frame(start, raw)
            if kind == fmt.END:
                self._end_frame(start, raw)
            elif kind == fmt.INDEX:
                unpack_map(raw)
            else:
                self.unknown_frames += 1
        except PayloadError as error:
            self._problem(start, str(error), "damaged")
        return None

    def _event_frame(self, start: int, raw: bytes) -> tuple[int, tuple[Event, ...]]:
        first_seq, events = unpack_events(raw, self._convert)
        if first_seq != self.next_seq:
            self._problem(
                start,
                f"events {self.next_seq} to {first_seq - 1} are missing"
                if first_seq > self.next_seq
                else f"event {first_seq} comes a second time",
                "damaged",
            )
        self.next_seq = first_seq + len(events)
        self.events += len(events)
        return first_seq, events

    def _end_frame(self, start: int, raw: bytes) -> None:
        end = unpack_map(raw)
        if end.get("events") != self.next_seq and self.status != "damaged":
            self._problem(start, f"the end counts {brief(end.get('events'))} events", "damaged")
        if end.get("digest") != self._before.hex():
            self._problem(start, "the end names another digest", "damaged")
        self._goes_on = end.get("goes_on") is True
        self.ended = True

    def _problem(self, offset: int, what: str, kind: str) -> None:
        self.problem_count += 1
        if len(self.problems) < fmt.MAX_PROBLEMS_LISTED:
            self.problems.append(Problem(offset, what, kind))

    def _resync(self) -> bool:
        """Go on at the next frame whose head is whole; False when there is none."""
        # Heads may claim what others claim, too: after some reading in vain, trust their sizes.
        self._wasted += claimed(self._source)
        tired = self._wasted > 4 * self._source.offset + (16 << 20)
        self._anchored = False
        return resync(self._source, trusting=tired)
