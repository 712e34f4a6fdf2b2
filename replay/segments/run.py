"""One trace by several: in segments between checkpoints, with what one replay would have found.

The first time a trace is replayed in one piece, and leaves checkpoints. From then on each of a few dozen
segments is replayed by whoever is free, and must end in the very state that the next one began with: only
then is what they found put together, and it is what one replay finds. A kept state that is not
what the events before it lead to is an error that names the file, never an answer.
Counterparts: `replay.segments.work`, which replays one, and `replay.timetravel.timeline`, which keeps states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, Final, cast

from replay import graph
from replay.engine import MAX_LISTED, Engine
from replay.pools import Lost, Pool
from replay.segments.question import Found, Question
from replay.segments.work import CLASSES, Piece, Segment, WrongStart
from replay.tally import CLASSES as COUNTS, Tally
from replay.tasks import TaskError, task, value_of
from replay.timetravel.cache_file import Unusable
from replay.timetravel.stops import Stop
from replay.timetravel.timeline import Timeline
from replay.verify import Verifier
from tracer.errors import TracerError
from tracer.log.stream import Reader

_EACH: Final = 12  # segments for each that can be replayed at the same time: so all end together
_MIN_STOPS: Final = 4
MAX_SEGMENTS: Final = 4096
MAX_LOST: Final = 2  # processes that one segment may cost
MAX_SENT_BYTES: Final = 256 << 20  # of a trace that go along with one segment
_GOOD_BYTES: Final = 4 << 20
_CONTEXT: Final = 5


class SegmentLost(TracerError):
    """A segment cost one process after the other."""

    exit_code = 4


@contextmanager
def asked(
    path: str,
    question: Question,
    pool: Pool,
    *,
    tell: Callable[[str], None] = lambda sentence: None,
    watch: Callable[[Iterable[Any]], Iterable[Any]] = lambda items: items,
) -> Iterator[Found]:
    """Yield what a replay of the trace at `path` finds; its reader is open until then.

    `tell` is told what is wrong with a cache, `watch` wraps what takes long.

    Raises:
        WrongStart: a checkpoint is not where the events before it lead.
        SegmentLost: one segment costs process after process.
    """
    with Timeline(
        path, question.model_for, tell=tell, watch=watch,
        verifier=question.verifier_for if question.verify else None,
        invariants=question.invariants,
    ) as line:  # fmt: skip
        if line.course.complete and len(line.course.stops) >= _MIN_STOPS:
            try:
                yield _in_segments(line, question, pool, watch)
                return
            except Unusable as error:
                tell(f"{path}: its checkpoints are not used: {error}; they are made anew")
        engine = line.replayed()
        yield Found(line.reader, engine, cast("Verifier | None", engine.watcher))


def _in_segments(
    line: Timeline, question: Question, pool: Pool, watch: Callable[[Iterable[Any]], Iterable[Any]]
) -> Found:
    stops = chosen(line.course.stops, line, pool)
    starts: list[Stop | None] = [None, *stops]
    pieces: dict[int, Piece] = {}
    waiting: dict[int, int] = {}  # number of a task -> of its segment
    asking = iter(range(len(starts)))
    lost = [0] * len(starts)

    def ask(at: int) -> None:
        segment = _segment(line, question, starts, at, pool)
        waiting[pool.ask(task("segment", graph.packed(segment, CLASSES)))] = at

    def answer() -> tuple[int, bytes | Lost]:
        while True:
            number, found = pool.answer()
            if number in waiting:
                return waiting.pop(number), found

    for at in islice(asking, 3 * pool.width):
        ask(at)
    for _ in watch(range(len(starts))):
        at, found = answer()
        while isinstance(found, Lost):
            lost[at] += found.often
            if lost[at] > MAX_LOST:
                raise SegmentLost(
                    f"{line.name}: {_words(starts, at)} cost {lost[at]} processes, the last by "
                    f"{found.how}; where memory ran out: fewer --jobs, or workers with more of it"
                )
            ask(at)
            at, found = answer()
        pieces[at] = _piece(line, found)
        following = next(asking, None)
        if following is not None:
            ask(following)
    ordered = [pieces[at] for at in range(len(starts))]
    _check(line, stops, ordered)
    return _together(line, question, ordered)


def chosen(stops: Sequence[Stop], line: Timeline, pool: Pool) -> list[Stop]:
    """Return the stops at which segments begin, about equally far from each other."""
    wanted = _EACH * pool.width
    if not pool.shares_files:
        wanted = max(wanted, line.size_bytes // _GOOD_BYTES)
    first, last = line.first_seq, line.course.until + 1
    wanted = min(wanted, MAX_SEGMENTS, len(stops) + 1)
    found: list[Stop] = []
    following = 1
    for stop in stops:
        if stop.seq >= first + (last - first) * following // wanted and following < wanted:
            found.append(stop)
            following += 1
    return found


def _segment(
    line: Timeline, question: Question, starts: Sequence[Stop | None], at: int, pool: Pool
) -> Segment:
    start = starts[at]
    end = starts[at + 1] if at + 1 < len(starts) else None
    if start is not None:
        start = replace(start, stored=line.stored(start))
    segment = Segment(
        line.path, question, line.key, start, end.seq if end else None,
    )  # fmt: skip
    if not pool.shares_files:
        segment.head, segment.body = line.bytes_between(start, end, MAX_SENT_BYTES)
    return segment


def _piece(line: Timeline, answer: bytes) -> Piece:
    try:
        return cast(Piece, graph.unpacked(value_of(answer), CLASSES))
    except TaskError as error:
        if "a checkpoint cannot be used" in str(error):
            raise WrongStart(_delete(line, str(error))) from error
        raise


def _delete(line: Timeline, what: str) -> str:
    return f"{what}: delete {line.cache_path}, it is made anew"


def _words(starts: Sequence[Stop | None], at: int) -> str:
    start = starts[at]
    return "the events from the first on" if start is None else f"the events from {start.seq} on"


def _check(line: Timeline, stops: Sequence[Stop], pieces: Sequence[Piece]) -> None:
    """Raise WrongStart unless each segment ends where the next one begins."""
    for stop, (before, behind) in zip(stops, pairwise(pieces), strict=True):
        kept = (stop.seq - 1, stop.place, stop.joined, stop.lost, stop.unknown_inputs)
        left = (before.seq, before.place, before.joined, before.lost, before.unknown_inputs)
        if before.crash or left != kept or before.ends != behind.begins:
            what = f"{line.name}: the state kept before event {stop.seq} is not what leads there"
            raise WrongStart(_delete(line, what))


# -- together


def _together(line: Timeline, question: Question, pieces: Sequence[Piece]) -> Found:
    """Return what one replay of all would have left."""
    last = pieces[-1]
    model = question.model_for(line.header)
    verifier = question.verifier_for(model, line.header) if question.verify else None
    engine = Engine(line.reader, model, verifier)
    tally = engine.tally
    recent: list[Any] = []
    for piece in pieces:
        _add(tally, piece.tally, recent)
        _add_violated(engine.violated, piece.violated)
        recent = (recent + piece.recent)[-_CONTEXT:]
        if verifier:
            verifier.resets[piece.closed_resets :] = piece.resets
            verifier.round_trips[piece.closed_trips :] = piece.trips
    engine.seq, engine.crash = last.seq, last.crash
    engine.lost, engine.unknown_inputs = last.lost, last.unknown_inputs
    if last.ending and isinstance(line.reader, Reader):
        line.reader.end_as(last.ending)
    return Found(line.reader, engine, verifier, last.digest, len(pieces))


def _add(tally: Tally, more: Tally, recent: list[Any]) -> None:
    """Add what a piece counted; `recent` are the events before it."""
    for name in (*COUNTS, "divergent"):
        setattr(tally, name, getattr(tally, name) + getattr(more, name))
    for each in more.divergences[: MAX_LISTED - len(tally.divergences)]:
        each.before = (recent + each.before)[-_CONTEXT:]
        tally.divergences.append(each)
    for kind, seq in more.kinds.items():
        tally.kinds.setdefault(kind, seq)
    tally.assumptions += more.assumptions[: MAX_LISTED - len(tally.assumptions)]
    for name, count in more.unjudged.items():
        tally.unjudged[name] = tally.unjudged.get(name, 0) + count


def _add_violated(found: list[tuple[int, str]], more: Sequence[tuple[int, str]]) -> None:
    """Add broken invariants: all of an event, as long as not enough are listed."""
    for seq, name in more:
        if len(found) >= MAX_LISTED and found[-1][0] != seq:
            return
        found.append((seq, name))
