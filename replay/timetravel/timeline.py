"""Any state of a trace: from the checkpoint before it, over the few events between.

Whatever is asked for the first time is replayed once, and leaves checkpoints behind at every few
milliseconds; where making one costs much, fewer of them, so that a replay with them costs at most
about a quarter more (docs/time-travel.md has the figures). They are kept in a file beside the trace, which may be deleted at any time.
Counterparts: `replay.engine`, which replays, and `cache_file`, which keeps.
"""

from __future__ import annotations

import gc
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import process_time
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

from replay.engine import Engine
from replay.judge import AnyModel
from replay.model.effects import HostCrash
from replay.passed_on import PassedOn
from replay.protocols import Frames, Watcher
from replay.timetravel import identity, stops
from replay.timetravel.cache_file import Cache, CacheFile, Unusable, opened, places, save
from replay.timetravel.identity import Stamp
from replay.timetravel.pace import SPACING_SECONDS, WATCHED_SPACING_SECONDS, Pace
from replay.timetravel.stops import MAX_RESETS, MAX_STOPS, MAX_WATCHED_STOPS, Course, Stop
from replay.verify import Verifier
from replay.watched import kind_of, packed, restored
from tracer.errors import UsageError
from tracer.events import FIRST_OUTPUT, NUMBER, Event
from tracer.log import files, format as fmt
from tracer.log.checks import PayloadError
from tracer.log.header import Header
from tracer.log.opening import AnyReader, open_input, reader_of
from tracer.log.source import Place

_RESET: Final = NUMBER["reset"]
_BLOCK_EVENTS: Final = 256
_STEP_EVENTS: Final = 1 << 16
MAX_KEPT_BYTES: Final = 256 << 20
# A trace that is replayed sooner than this many spacings needs no cache beside it.
MIN_STOPS: Final = 16


class Onwards(PassedOn):
    """What an engine asks of a reader: the frames from a place on, without those before `seq`."""

    def __init__(self, reader: AnyReader, seq: int, checkpoint: bytes | None) -> None:
        super().__init__(reader)
        self._seq = seq
        self._checkpoint = checkpoint

    @property
    def checkpoint(self) -> bytes | None:
        """The reader's where this begins with the trace, None behind a stop."""
        return self._checkpoint

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        for first_seq, events in self._reader:
            before = max(self._seq - first_seq, 0)
            if before < len(events):
                yield first_seq + before, events[before:]


class Timeline:
    """A trace whose states are at hand.

    `header` is the trace's, with what `make` put into it. A sequence number that the trace does not
    have is a UsageError; where the host died or damage begins, what lies behind cannot be reached.
    """

    def __init__(
        self,
        path: str,
        make: Callable[[Header], AnyModel],
        *,
        keep: bool = True,
        tell: Callable[[str], None] = lambda sentence: None,
        clock: Callable[[], float] = process_time,
        watch: Callable[[Iterable[Any]], Iterable[Any]] = lambda blocks: blocks,
        verifier: Callable[[AnyModel, Header], Verifier] | None = None,
        invariants: bool = False,
    ) -> None:
        """`make` gives a new model for a header; `keep`: use and leave a cache beside the trace.

        `tell` is told what is wrong with a cache, `watch` wraps what takes long, `clock` paces it.
        `verifier` makes who looks on from the beginning: his state is kept with the model's, in a cache
        of its own. `invariants` are checked, where anything is replayed.

        Raises:
            UsageError, TraceError: it cannot be opened, or not even its header be read.
        """
        self.path = path
        self._make = make
        self._tell = tell
        self._clock = clock
        self._watch = watch
        self._verifier = verifier
        self._invariants = invariants
        self._pace = Pace(WATCHED_SPACING_SECONDS if verifier else SPACING_SECONDS)
        self._max_stops = MAX_WATCHED_STOPS if verifier else MAX_STOPS
        self._file: CacheFile | None = None
        self.cache_path: Path | None = None  # of the file that the stops were read from
        self.latest: Engine | None = None  # that replayed for `watched`
        self._stream, self._stamp = _opened(path)
        try:
            self._begin_with(make, keep=keep)
        except BaseException:
            self._stream.close()
            raise

    def _begin_with(self, make: Callable[[Header], AnyModel], *, keep: bool) -> None:
        self.reader = reader_of(cast(io.BufferedReader, self._stream), self.path)
        self.header = self.reader.header
        self._begin = self.reader.here
        self._kept_bytes = 0
        self.course = Course(until=self.header.first_seq - 1)
        model = make(self.header)
        kind = kind_of(self._verifier(model, self.header)) if self._verifier else ""
        self.key = identity.key_of(model, self.header, kind)
        self._variant = identity.variant_of(model, self.header, kind)
        self._keep = keep and self._stamp is not None
        if self._keep:
            self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()
        self._stream.close()

    # -- what is asked

    def engine_at(self, seq: int | None = None) -> Engine:
        """Return an engine that has taken in event `seq` and the outputs of its input; None: all.

        Raises:
            UsageError: there is no such event.
        """
        course = self.course
        if seq is not None and seq < self.header.first_seq - 1:
            raise UsageError(f"{self.path}: the first event is {self.header.first_seq}, not {seq}")
        known = course.complete if seq is None else seq <= course.until
        engine = self._travel(seq) if known else self._go_on(seq)
        if seq is not None and engine.seq < seq and self.reader.status != "damaged":
            raise UsageError(f"{self.path}: the last event is {engine.seq}, not {seq}")
        return engine

    def model_at(self, seq: int | None = None) -> AnyModel:
        """Return a model in the state after event `seq`; it is the caller's."""
        return cast(AnyModel, self.engine_at(seq).model)

    def state_at(self, seq: int | None = None) -> dict[str, Any]:
        """Return that state as `itstrace.state/1`."""
        engine = self.engine_at(seq)
        return state_of(engine)

    def last(self) -> int:
        """Return the last event that can be reached."""
        if not self.course.complete:
            self._go_on(None)
        return self.course.until

    @property
    def name(self) -> str:
        """What messages call the trace."""
        return self.reader.name

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return os.fstat(self._stream.fileno()).st_size

    def bytes_between(self, start: Stop | None, end: Stop | None, most: int) -> tuple[bytes, bytes]:
        """Return the file up to its first event, and from a stop on until behind the block of another.

        Raises:
            UsageError: that is more than `most` bytes.
        """
        begin = self._begin.offset
        first = start.place.offset if start else begin
        behind = (each.place.offset for each in self.course.stops if end and each.seq > end.seq)
        offset = end.place.offset if end else 0
        last = next((each for each in behind if each > offset), self.size_bytes)
        if last - first > most:
            raise UsageError(f"{self.path}: {last - first} bytes are too many to be sent at once")
        fd = self._stream.fileno()
        return os.pread(fd, begin, 0), os.pread(fd, last - first, first)

    @property
    def first_seq(self) -> int:
        """The first event."""
        return self.header.first_seq

    def resets(self, count: int | None = None) -> list[int]:
        """Return every reset event that can be reached, or at least the first `count`."""
        step = _STEP_EVENTS
        while not self.course.complete and (count is None or len(self.course.resets) < count):
            self._go_on(None if count is None else self.course.until + step)
            step *= 2
        return self.course.resets

    def watched(self, first: int, last: int | None, watch: Callable[[AnyModel], Watcher]) -> Engine:
        """Replay from the stop before event `first` to `last`, or all; return the engine that did.

        `watch` is given the model as it stands at that stop, and returns who looks on from there.
        """
        if last is not None:
            self.engine_at(last)
        engine = self._before(first - 1)
        engine.watcher = watcher = watch(cast(AnyModel, engine.model))
        if engine.reader.checkpoint is not None:
            watcher.resumed(self.header.first_seq, overlap=engine.standing.overlap)
        engine.run(last)
        self.latest = engine
        return engine

    def stops(self) -> list[int]:
        """Return the events from which the trace can be replayed, the first one among them."""
        return [self.header.first_seq, *(stop.seq for stop in self.course.stops)]

    def events(self, first: int, last: int) -> list[tuple[int, Event]]:
        """Return (sequence number, event) of the events from `first` to `last` that there are."""
        stop = self.course.stop_before(first - 1)
        self.reader.go_to(stop.place if stop else self._begin)
        found: list[tuple[int, Event]] = []
        for first_seq, events in self.reader:
            if first_seq > last:
                break
            found += [each for each in enumerate(events, first_seq) if first <= each[0] <= last]
        return found

    # -- getting there

    def _travel(self, seq: int | None) -> Engine:
        """Replay from the stop before event `seq`, or before the end: to what the file says there."""
        engine = self._before(self.course.until if seq is None else seq)
        engine.run(seq)
        return engine

    def _before(self, seq: int) -> Engine:
        """Return an engine at the last stop from which event `seq` can be reached."""
        try:
            return self._resumed(self.course.stop_before(seq))
        except (Unusable, PayloadError, OSError) as error:
            self._forget(error)
            return self._resumed(None)

    def _resumed(self, stop: Stop | None) -> Engine:
        """Return an engine at a stop, or at the beginning, that reads on from there."""
        model = self._make(self.header)
        if stop is None:
            self.reader.go_to(self._begin)
            verifier = self._verifier(model, self.header) if self._verifier else None
            frames = Onwards(self.reader, self._begin.seq, self.reader.checkpoint)
            return Engine(frames, model, verifier, invariants=self._invariants)
        raw = stops.unpacked(stop, self.stored(stop))
        engine = resumed(self.reader, model, stop, raw, watched=self._verifier is not None)
        engine.invariants = self._invariants
        return engine

    def stored(self, stop: Stop) -> bytes:
        """Return the checkpoint of a stop as it is kept; raises as `CacheFile.stored` does."""
        if stop.stored is not None:
            return stop.stored
        assert self._file
        return self._file.stored(stop)

    # -- going on, where nobody was before

    def replayed(self) -> Engine:
        """Replay all from the beginning, leaving stops anew; return the engine that did."""
        self._let_go()
        return self._go_on(None)

    def _go_on(self, until: int | None) -> Engine:
        """Replay from the last stop to event `until`, or all, leaving stops."""
        engine = self._before(self.course.until)
        course = self.course
        before = len(course.stops)
        try:
            self._leave_stops(engine, until)
        except HostCrash:
            course.complete = True
        course.crash = engine.crash
        course.until = max(course.until, engine.seq)
        for name, seq in engine.tally.kinds.items():
            course.divergent.setdefault(name, seq)
        if len(course.stops) > before or course.complete:
            self._save()
        return engine

    def _leave_stops(self, engine: Engine, until: int | None) -> None:
        """Replay up to event `until`, and leave a stop where it is time for one."""
        clock, pace = self._clock, self._pace
        begun = clock()
        for place, first_seq, events in self._watch(_blocks(engine.reader, self.reader)):
            if events[0][0] < FIRST_OUTPUT and (now := clock()) - begun >= pace.wait():
                size = self._leave_stop(engine, first_seq, place)
                begun = clock()
                pace.paid(begun - now, size)
            self._note_resets(first_seq, events)
            if until is None or first_seq + len(events) <= until:
                engine.feed(first_seq, events)
            elif engine.advance(first_seq, events, until):
                return
        engine.settle()
        self.course.complete = True

    def _leave_stop(self, engine: Engine, seq: int, place: Place) -> int:
        """Keep the state before event `seq`; return the size of its checkpoint in bytes."""
        course = self.course
        if seq <= (course.stops[-1].seq if course.stops else self.header.first_seq):
            return 0
        standing = engine.standing
        try:
            with _no_collection():
                verifier = cast("Verifier | None", engine.watcher) if self._verifier else None
                raw = packed(cast(AnyModel, engine.model), seq, standing, verifier)
        except UsageError:
            return fmt.MAX_CHECKPOINT_BYTES  # too large to be kept: it is replayed to
        data = stops.stored(raw)
        course.stops.append(
            Stop(
                seq, place, standing.joined, standing.lost, dict(standing.unknown_inputs),
                len(raw), data,
            )
        )  # fmt: skip
        self._kept_bytes += len(data)
        if len(course.stops) >= self._max_stops or self._kept_bytes > MAX_KEPT_BYTES:
            self._thin()
        return len(raw)

    def _thin(self) -> None:
        """Keep every second stop, and leave new ones half as often."""
        del self.course.stops[1::2]
        self._kept_bytes = sum(
            len(stop.stored or b"") or stop.stored_bytes for stop in self.course.stops
        )
        self._pace.slower()

    def _note_resets(self, first_seq: int, events: Sequence[Event]) -> None:
        resets = self.course.resets
        last = resets[-1] if resets else -1
        for seq, event in enumerate(events, first_seq):
            if event[0] == _RESET and seq > last and len(resets) < MAX_RESETS:
                resets.append(seq)

    # -- the cache

    def _load(self) -> None:
        """Take over what a cache holds of this very trace and this very model."""
        for path in places(self.path, self._variant):
            try:
                file = opened(path)
            except (FileNotFoundError, PermissionError):  # none, or none of ours
                continue
            except (Unusable, OSError) as error:
                self._tell(f"{path}: not used: {error}; it is made anew")
                continue
            if self._is_of_this(file.cache):
                self._file, self.course, self.cache_path = file, file.cache.course, path
                self._kept_bytes = sum(stop.stored_bytes for stop in self.course.stops)
                return
            file.close()

    def _is_of_this(self, cache: Cache) -> bool:
        if cache.key != self.key or not self._stamp:
            return False
        if cache.stamp == self._stamp:
            return True
        return self._stamp.size_bytes == cache.size_bytes and cache.content == self._content()

    def _content(self) -> bytes:
        return identity.content_of(self.path)

    def _save(self) -> None:
        """Leave a cache, unless the trace is short or changed meanwhile."""
        if not self._keep or not self._stamp or len(self.course.stops) < MIN_STOPS:
            return
        cache = Cache(self.key, self._content(), self._stamp.size_bytes, self._stamp, self.course)
        if identity.stamp_of(self._stream) != self._stamp:
            return  # it changed meanwhile, and who knows when
        # What is read of the old file is read before the new one says where it stands.
        for stop in self.course.stops:
            stop.stored = self.stored(stop)
        for path in places(self.path, self._variant):
            with suppress(OSError, Unusable):
                save(path, cache)
                self._take_over(opened(path))
                self.cache_path = path
                return
        self._tell(
            f"{self.path}: its checkpoints cannot be kept, neither beside it nor in {path.parent}"
        )

    def _take_over(self, file: CacheFile) -> None:
        """Read checkpoints from a file that was just written, and keep them in memory no longer."""
        if self._file:
            self._file.close()
        self._file = file
        for stop in self.course.stops:
            stop.stored = None

    def _forget(self, error: Exception) -> None:
        """A cache proved wrong: go on without it."""
        if not self._file:
            raise error  # nobody but ourselves made those stops
        self._tell(f"{self.path}: its cache is not used: {error}; it is made anew")
        self._let_go()

    def _let_go(self) -> None:
        if self._file:
            self._file.close()
        self._file = self.cache_path = None
        self.course = Course(until=self.header.first_seq - 1)
        self._kept_bytes = 0


def resumed(reader: AnyReader, model: AnyModel, stop: Stop, raw: bytes, *, watched: bool) -> Engine:
    """Return an engine at a stop whose checkpoint is `raw`, that reads on from there.

    Raises:
        PayloadError: the bytes are none that a stop keeps.
    """
    with _no_collection():
        standing, verifier = restored(raw, model, watched=watched)
    standing.joined, standing.lost = stop.joined, stop.lost
    standing.unknown_inputs = dict(stop.unknown_inputs)
    reader.go_to(stop.place)
    engine = Engine(Onwards(reader, stop.seq, None), model)
    engine.watcher = verifier
    engine.standing = standing
    engine.seq = stop.seq - 1
    return engine


@contextmanager
def _no_collection() -> Iterator[None]:
    """Thousands of objects are made and all of them are kept: looking for garbage finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _blocks(frames: Frames, reader: AnyReader) -> Iterator[tuple[Place, int, tuple[Event, ...]]]:
    """Yield (place of its frame, first sequence number, events), cut where an input stands."""
    place = reader.here
    for first_seq, events in frames:
        if frames.status == "damaged":
            return
        start, size = 0, len(events)
        while start < size:
            end = start + _BLOCK_EVENTS
            while end < size and events[end][0] >= FIRST_OUTPUT:
                end += 1
            yield place, first_seq + start, events[start:end]
            start = end
        place = reader.here


def _opened(path: str) -> tuple[BinaryIO, Stamp | None]:
    """Return a trace's bytes as a file that can be gone to and fro in, and its stamp.

    Standard input and pipes come only once: they are copied to a file that vanishes, without one.
    """
    with open_input(path) as stream:
        stamp = None if path == "-" else identity.stamp_of(stream)
        if stamp:
            file = io.BufferedReader(cast(io.RawIOBase, files.opened(path)))
            return cast(BinaryIO, file), identity.stamp_of(cast(BinaryIO, file))
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        return cast(BinaryIO, copy), None


def state_of(engine: Engine) -> dict[str, Any]:
    """Return the state of an engine's model as `itstrace.state/1`."""
    model = cast(AnyModel, engine.model)
    return {"schema": "itstrace.state/1", "seq": engine.seq, "profile": model.name} | model.state()
