"""What a page shows of one trace, as blocks of bytes: events, states, verdicts, blames.

The trace is replayed once, by the model and the verifier that the other verbs use; where something is
stale it is replayed once more for who planted it. Counterpart: `replay.report.page`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from replay.decode import names
from replay.engine import Engine
from replay.judge import AnyModel
from replay.model.effects import Effect, HostCrash
from replay.protocols import Frames, Watcher
from replay.report.columns import document
from replay.report.events import LANES, EventTable
from replay.report.states import StateTable
from replay.report.stories import Place, Story
from replay.report.verdicts import summaries, verdicts
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import NUMBER, Event
from tracer.its.registers import layout_of
from tracer.log.header import IN_PROCESS, Header

MAX_EVENTS: Final = 4_000_000  # of a trace in a report
# Outputs that the model may learn from while nobody who looks on is told.
_SILENT: Final = frozenset((NUMBER["lpi.ack"], NUMBER["attr.result"]))

Blocks = dict[str, bytes]


@dataclass(slots=True)
class Replayed:
    """A trace that was replayed for a page."""

    header: Header
    events: EventTable
    states: StateTable
    verifier: Verifier
    engine: Engine


class Watchers:
    """Several who look on as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """Hand on."""
        for each in self._watchers:
            each.resumed(seq, overlap=overlap)

    def before_input(self, seq: int, event: Event) -> None:
        """Hand on."""
        for each in self._watchers:
            each.before_input(seq, event)

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Hand on."""
        for each in self._watchers:
            each.after_input(seq, event, done, outputs)

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """Hand on."""
        for each in self._watchers:
            each.output(seq, event, expected)

    def note(self, seq: int, event: Event) -> None:
        """Hand on."""
        for each in self._watchers:
            each.note(seq, event)


def replayed(
    reader: Frames,
    model: AnyModel,
    watch: Callable[[Iterator[Any]], Iterator[Any]] = lambda frames: frames,
) -> Replayed:
    """Replay a trace and keep what a page shows of it; it ends where damage begins.

    Raises:
        UsageError: it is too long for a page.
    """
    header = reader.header
    verifier = Verifier(model, under_test=header.source == IN_PROCESS)
    states = StateTable(model, header.first_seq)
    engine = Engine(reader, model, Watchers(verifier, states))
    events = EventTable(header.first_seq)
    found = Replayed(header, events, states, verifier, engine)
    with suppress(HostCrash):
        for first_seq, frame in watch(_frames(reader, events)):
            for piece_seq, piece in _pieces(first_seq, frame):
                engine.feed(piece_seq, piece)
                if piece[-1][0] in _SILENT:
                    states.look(piece_seq + len(piece) - 1)
        engine.settle()
    if engine.crash:
        states.look(engine.crash[0])
        for _ in _frames(reader, events):
            pass
    events.close()
    states.close()
    return found


def _frames(reader: Frames, events: EventTable) -> Iterator[tuple[int, tuple[Event, ...]]]:
    for first_seq, frame in reader:
        if reader.status == "damaged":
            return
        if events.count + len(frame) > MAX_EVENTS:
            raise UsageError(
                f"{reader.name}: has more than {MAX_EVENTS:,} events: `itstrace cut` takes a part"
            )
        for event in frame:
            events.add(event)
        yield first_seq, frame


def _pieces(first_seq: int, frame: tuple[Event, ...]) -> Iterator[tuple[int, tuple[Event, ...]]]:
    """Yield a frame in pieces that end where somebody must look at the state."""
    start = 0
    for at, event in enumerate(frame, 1):
        if event[0] in _SILENT:
            yield first_seq + start, frame[start:at]
            start = at
    if start < len(frame):
        yield first_seq + start, frame[start:]


def blocks(found: Replayed, notes: Sequence[str], told: dict[Place, Story]) -> Blocks:
    """Return name -> bytes of all that a page shows of a trace."""
    events, states, engine = found.events, found.states, found.engine
    head = {
        "schema": "itstrace.report/1",
        "name": PurePath(engine.reader.name).name,
        "profile": engine.model.name,
        "header": _header(found.header),
        "notes": list(notes),
        "status": engine.reader.status,
        "first_seq": events.first_seq,
        "events": events.count,
        "states_until": engine.seq,
        "crash": engine.crash and {"seq": engine.crash[0], "function": engine.crash[1]},
        "lanes": LANES,
        "overview": events.lanes,
        "origin_ns": str(events.origin_ns),
        "end_ns": events.time_ns,
        "names": sorted(names()),
        "groups": events.groups(),
        "chunks": events.starts,
        "segments": states.starts,
        "layouts": _layouts(states),
        "resets": summaries(found.verifier),
    }
    return {
        "head": document(head),
        "atoms": document({"atoms": events.atoms.values, "templates": events.templates}),
        "verdicts": document(verdicts(found.verifier, told)),
        "leaves": document({"paths": list(states.paths), "values": list(states.values)}),
        **{f"events-{at}": chunk for at, chunk in enumerate(events.chunks)},
        **{f"states-{at}": segment for at, segment in enumerate(states.segments)},
    }


def _header(header: Header) -> dict[str, Any]:
    """Return what a trace says of itself, for people."""
    values = {
        "recorded": header.created,
        "source": header.source,
        "implementation": f"{header.implementation or ''} {header.implementation_version or ''}",
        "CPUs": header.cpus,
        "guest RAM": header.guest_ram,
        "clock": header.clock,
        "uuid": header.uuid,
    }
    return {
        name: str(value)[:200] for name, value in values.items() if value not in (None, "", " ")
    }


def _layouts(states: StateTable) -> dict[str, Any]:
    """Return register -> [width, [[name, high, low, place], ...]] of those that states have."""
    found: dict[str, Any] = {}
    for path in states.paths:
        name = path[-1]
        if len(path) < 2 or name in found:
            continue
        with suppress(KeyError):
            layout = layout_of(name)
            rows = [[f.name, f.hi, f.lo, f.place] for f in layout.fields_ if not f.alias]
            found[name] = [layout.width_, rows]
    return found
