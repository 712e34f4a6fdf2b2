"""Parts of a trace that are traces of their own: each begins with the state before its first event.

A part begins and ends between an input's outputs and the next input, and not inside a probe, so
that a replay of it says of its resets what a replay of the whole says. What was planted before it
begins is there, but not who planted it. Counterparts: `replay.checkpoints`, and
`tracer.log.splice`, which puts parts together again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import itemgetter
from typing import BinaryIO, Final

from replay import checkpoints
from replay.engine import Engine
from replay.judge import model_of
from replay.model.effects import HostCrash
from replay.profiles import Profile
from replay.verify import Verifier
from tracer.errors import DamagedTrace, NewerTrace, UsageError
from tracer.events import FIRST_NOTE, FIRST_OUTPUT, NUMBER, Event
from tracer.log.header import RUNNING, Header
from tracer.log.opening import AnyReader
from tracer.log.ring import READS
from tracer.log.splice import CUT, Splice, derived_uuid, lineage
from tracer.log.stream import Writer

_PROBE: Final = NUMBER["probe"]
_LOSS: Final = NUMBER["loss"]
_TIME: Final = itemgetter(1)


@dataclass(slots=True)
class Layout:
    """Where a trace can be cut, and what stands in it."""

    first_seq: int
    next_seq: int = 0
    resets: list[int] = field(default_factory=list)  # the events that the verifier judges
    places: list[int] = field(default_factory=list)  # where a part may begin
    first_loss: int | None = None

    def part(self, first: int, behind: int) -> range:
        """Return the events from `first` on and before `behind`, with what belongs to them."""
        at = bisect_right(self.places, first) - 1
        end = bisect_left(self.places, behind)
        begins = self.places[at] if at >= 0 else self.first_seq
        return range(begins, self.places[end] if end < len(self.places) else self.next_seq)

    def of_reset(self, number: int) -> range:
        """Return a reset, with the life before it and what shows of it, up to the next one."""
        if not 1 <= number <= len(self.resets):
            raise UsageError(f"there is no reset {number}: the trace has {len(self.resets)}")
        before = self.resets[number - 2] + 1 if number > 1 else self.first_seq
        behind = self.resets[number] if number < len(self.resets) else self.next_seq
        return self.part(before, behind)

    def by_reset(self) -> list[range]:
        """Return all of the trace, cut before each reset."""
        places = [self.part(seq, seq).start for seq in self.resets]
        edges = sorted({self.first_seq, *places, self.next_seq})
        return [range(one, two) for one, two in pairwise(edges)]


def lay_out(reader: AnyReader, profile: Profile | None) -> Layout:
    """Read a trace, and with a profile judge it, to know where it can be cut.

    Raises:
        DamagedTrace, NewerTrace: what stands behind some event cannot be known.
    """
    layout = Layout(reader.header.first_seq)
    engine = verifier = None
    if profile is not None:
        model = model_of(reader.header, profile)
        verifier = Verifier(model)
        engine = Engine(reader, model, verifier)
    probing = False
    for first_seq, events in _whole(reader):
        probing = _places(layout, first_seq, events, probing=probing)
        engine = engine and _judged(engine, first_seq, events)
    layout.next_seq = reader.next_seq
    if engine is not None:
        with suppress(HostCrash):
            engine.settle()
    if verifier is not None:
        layout.resets = [each.seq for each in verifier.resets]
    return layout


def _judged(engine: Engine, first_seq: int, events: tuple[Event, ...]) -> Engine | None:
    """Return the engine for as long as there is something to judge."""
    try:
        engine.feed(first_seq, events)
    except HostCrash:
        return None
    return None if engine.unknown_inputs else engine


def _places(layout: Layout, first_seq: int, events: Sequence[Event], *, probing: bool) -> bool:
    for seq, event in enumerate(events, first_seq):
        kind = event[0]
        if not probing and (not FIRST_OUTPUT <= kind < FIRST_NOTE or kind in READS):
            layout.places.append(seq)
        if kind == _PROBE:
            probing = event[2] == 0
        elif kind == _LOSS and layout.first_loss is None:
            layout.first_loss = seq
    return probing


def _whole(reader: AnyReader) -> Iterator[tuple[int, tuple[Event, ...]]]:
    for frame in reader:
        _undamaged(reader)
        yield frame
    _undamaged(reader)


def _undamaged(reader: AnyReader) -> None:
    for problem in reader.problems:
        if problem.kind == "damaged":
            what = f"{problem.what}; `itstrace recover` saves what can be read"
            raise DamagedTrace(reader.name, problem.offset, what)


def _feed(engine: Engine, first_seq: int, events: tuple[Event, ...], name: str) -> None:
    try:
        engine.feed(first_seq, events)
    except HostCrash as crash:
        raise UsageError(
            f"{name}: the host dies in {crash.function} before event {first_seq + len(events)}: "
            "nothing that begins behind it can be replayed"
        ) from crash
    if engine.unknown_inputs:
        raise NewerTrace(name, 0, "it has inputs that this itstrace does not know: use a newer one")


def cut(
    reader: AnyReader,
    layout: Layout,
    part: range,
    profile: Profile | None,
    out: BinaryIO,
    name: str,
) -> Splice:
    """Write a part of a trace, which `reader` reads from its start.

    Raises:
        UsageError: the part does not begin where the trace does, and nobody says what wrote it.
    """
    state, time_ns, rest = _state_before(reader, part.start, profile)
    header = _header(reader.header, layout, part)
    writer = Writer(out, header, name=name, bound_ms=0, checkpoint=state)
    splice = Splice(writer)
    for first_seq, events in rest:
        kept = events[: max(part.stop - first_seq, 0)]
        if kept:
            splice.add(first_seq, kept, time_ns)
            time_ns += sum(map(_TIME, kept))
    writer.close(goes_on=part.stop < layout.next_seq or reader.open_end)
    return splice


def _header(header: Header, layout: Layout, part: range) -> Header:
    what = f"events {part.start} to {part.stop - 1}"
    made = replace(
        header,
        uuid=derived_uuid(lineage(header), what),
        parent_uuid=lineage(header) or None,
        first_seq=part.start,
        base_digest=None,
        annotations=header.annotations | {CUT: what},
    )
    if layout.first_loss is not None and layout.first_loss < part.start:
        made.starts = RUNNING  # as for a replay of the whole from the loss on
    return made


def _state_before(
    reader: AnyReader, seq: int, profile: Profile | None
) -> tuple[bytes | None, int, Iterator[tuple[int, tuple[Event, ...]]]]:
    """Return the state before event `seq`, the time there, and the blocks from there on."""
    blocks = iter(reader)
    if seq == reader.header.first_seq:
        return reader.checkpoint, 0, blocks
    if profile is None:
        raise UsageError(
            f"{reader.name}: the state before event {seq} is a model's: say of which profile"
        )
    model = model_of(reader.header, profile)
    engine = Engine(reader, model)
    time_ns = 0
    for first_seq, events in blocks:
        before = events[: max(seq - first_seq, 0)]
        if before:
            _feed(engine, first_seq, before, reader.name)
            time_ns += sum(map(_TIME, before))
        if len(before) < len(events):
            rest = (first_seq + len(before), events[len(before) :])
            state = checkpoints.snapshot(model, seq, engine.standing)
            return state, time_ns, _chained(rest, blocks)
    raise UsageError(f"{reader.name}: there is no event {seq}")


def _chained(
    first: tuple[int, tuple[Event, ...]], rest: Iterator[tuple[int, tuple[Event, ...]]]
) -> Iterator[tuple[int, tuple[Event, ...]]]:
    yield first
    yield from rest
