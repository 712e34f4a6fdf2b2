"""`--to perfetto`: a trace that ui.perfetto.dev and trace_processor open.

Each event but `context` is one slice or instant of the category that its kind is called: what began
and was answered (an MSI, an attribute, commands of a queue) is a slice, what happened is an instant.
Registers are counters, arrows lead from an MSI to its LPI, and resets bear their verdicts.
Counterparts: `perfetto_packets`, which writes these, `perfetto_tracks`, where they are drawn, and
`perfetto_queue`, the commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from replay.export.perfetto_packets import Packets, flow, last_flow
from replay.export.perfetto_queue import Queue
from replay.export.perfetto_tracks import Tracks
from replay.export.perfetto_words import ANNOTATIONS, CATEGORIES, HEXADECIMAL, called, told, unknown
from replay.export.streaming import NO_CLOCK, STEP_NS, Frames, created
from replay.export.verdicts import Verdicts
from tracer.events import (
    EDGES,
    FIRST_OUTPUT,
    KINDS,
    NUMBER,
    ORIGINS,
    VCPU_ACTIONS,
    Event,
    fields_of,
)
from tracer.log.opening import AnyReader

REALTIME: Final = "realtime"
MAX_HELD: Final = 64  # inputs that wait for an answer
MAX_RECENT: Final = 1024  # inputs whose time an output may ask for
MAX_RESETS: Final = 1000  # as many as are judged
_LAST: Final = (1 << 63) - 1
_NONE: Final = (0, 0)
_ANSWERS: Final = (NUMBER["attr.result"], NUMBER["msi.result"])
_HELD: Final = frozenset(
    NUMBER[name] for name in ("msi", "attr.set", "save", "save_pending", "restore")
)
_RESET, _CONTEXT, _MSI, _LPI = NUMBER["reset"], NUMBER["context"], NUMBER["msi"], NUMBER["lpi"]
_COMMAND, _DONE = NUMBER["command"], NUMBER["command.done"]
_VCPU, _PROBE = NUMBER["vcpu"], NUMBER["probe"]
_XLAT: Final = (NUMBER["xlat.hit"], NUMBER["xlat.miss"])
_VMM: Final = ORIGINS.index("vmm")
_RUN, _BEGINS = VCPU_ACTIONS.index("run"), EDGES.index("begin")


def write(reader: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write the trace, and verify it meanwhile; verdicts of its resets come last in the file."""
    timed = reader.header.clock != NO_CLOCK
    verdicts = Verdicts(reader)
    with created(path, force=force) as out:
        packets = Packets(out.write, CATEGORIES, ANNOTATIONS)
        story = _Story(packets, Tracks(packets, reader.header))
        time_ns, begun = 0, False
        for first_seq, events in _short(frames):
            for seq, event in enumerate(events, first_seq):
                time_ns += event[1]
                at = max(0, min(time_ns if timed else seq * STEP_NS, _LAST))
                if not begun and reader.header.clock == REALTIME:
                    packets.wall_clock(at)
                begun = True
                story.event(seq, at, event)
            verdicts.feed(first_seq, events)
            story.judged(verdicts.news())
        verdicts.finish()
        story.judged(verdicts.news())
        story.finish(verdicts)


def _short(frames: Frames) -> Frames:
    """Yield frames so short that what is judged behind one is still known to the story."""
    for first_seq, events in frames:
        for at in range(0, len(events), MAX_RECENT // 2):
            yield first_seq + at, events[at : at + MAX_RECENT // 2]


@dataclass(slots=True)
class _Held:
    """An input that its answer may make a slice."""

    at: int
    track: int
    name: str
    category: str
    more: bytes


class _Story:
    """Draws events one after another."""

    def __init__(self, packets: Packets, tracks: Tracks) -> None:
        self._packets, self._tracks = packets, tracks
        self._held: dict[int, _Held] = {}
        self._recent: dict[int, tuple[int, int]] = {}  # input -> its time and kind
        self._resets: dict[int, tuple[int, str, bytes]] = {}
        self._marks: dict[int, int] = {}  # what is no reset event and was judged -> its time
        self._queues: dict[int, Queue] = {}
        self._drawn: dict[int, int] = {}  # track -> where its last slice ends or began
        self._open: set[int] = set()  # tracks with a slice that has not ended

    def event(self, seq: int, at: int, event: Event) -> None:
        """Draw an event."""
        kind = event[0]
        if kind not in KINDS:
            more = self._told(unknown(seq, event))
            self._packets.instant(self._tracks.notes, at, f"kind {kind}", "unknown", more)
            return
        f = fields_of(event)
        if kind < FIRST_OUTPUT:
            self._recent[seq] = at, kind
            if len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]
        if kind == _CONTEXT:
            self._tracks.context(f)
            return
        if kind == _RESET:
            self._tracks.forget()
        more = self._told(told(seq, event, f))
        if kind == _COMMAND:
            self._command(seq, at, event, f, more)
        elif kind == _RESET and len(self._resets) < MAX_RESETS:
            self._resets[seq] = at, called(event, f), more
        elif kind in (_VCPU, _PROBE):
            begins = f["action"] == _RUN if kind == _VCPU else f["edge"] == _BEGINS
            self._edge(at, event, f, more, begins=begins)
        else:
            self._other(seq, at, event, f, more)

    def _told(self, values: dict[str, Any]) -> bytes:
        return self._packets.annotations(values, HEXADECIMAL)

    def _other(self, seq: int, at: int, event: Event, f: dict[str, Any], more: bytes) -> None:
        kind = event[0]
        name, category = called(event, f), KINDS[kind].name
        if kind in _HELD or f.get("origin") == _VMM:
            more += flow(seq) if kind == _MSI else b""
            self._hold(seq, _Held(at, self._tracks.of(event, f), name, category, more))
        elif "cause" in f:
            self._output(seq - f["cause"] if f["cause"] else None, at, event, f, more)
        else:
            self._packets.instant(self._tracks.of(event, f), at, name, category, more)
        self._tracks.count(at, event, f)

    def _output(
        self, cause: int | None, at: int, event: Event, f: dict[str, Any], more: bytes
    ) -> None:
        """An output is drawn where the input is that it answers, or where its kind is."""
        kind = event[0]
        track = None
        if cause is not None:
            if self._tracks.its in self._queues:
                self._queues[self._tracks.its].seen(cause, at)
            if kind in _ANSWERS and (held := self._held.pop(cause, None)):
                track = held.track
                self._answered(held, at, f)
            if self._recent.get(cause, _NONE)[1] == _MSI:
                more += last_flow(cause) if kind == _LPI else flow(cause) if kind in _XLAT else b""
        if track is None:
            track = self._tracks.of(event, f)
        self._packets.instant(track, at, called(event, f), KINDS[kind].name, more)
        if kind == _DONE:
            self._queue().rest(at)

    # -- what is answered

    def _hold(self, seq: int, held: _Held) -> None:
        if len(self._held) == MAX_HELD:
            self._unanswered(self._held.pop(next(iter(self._held))))
        self._held[seq] = held

    def _unanswered(self, held: _Held) -> None:
        self._packets.instant(held.track, held.at, held.name, held.category, held.more)

    def _answered(self, held: _Held, at: int, f: dict[str, Any]) -> None:
        answer = self._told({key: f[key] for key in ("errno", "result") if key in f})
        if not self._drawn.get(held.track, 0) <= held.at <= at:
            held.more += answer  # two at a time have no place on one track
            self._unanswered(held)
            return
        self._packets.begin(held.track, held.at, held.name, held.category, held.more)
        self._packets.end(held.track, at, answer)
        self._drawn[held.track] = at

    def _edge(self, at: int, event: Event, f: dict[str, Any], more: bytes, *, begins: bool) -> None:
        """A vCPU runs or stops, a probe begins or ends."""
        track = self._tracks.of(event, f)
        at = self._drawn[track] = max(at, self._drawn.get(track, 0))
        name, category = called(event, f), KINDS[event[0]].name
        if track in self._open:
            self._packets.end(track, at)
            self._open.discard(track)
        if begins:
            self._packets.begin(track, at, name, category, more)
            self._open.add(track)
        else:
            self._packets.instant(track, at, name, category, more)

    # -- commands

    def _queue(self) -> Queue:
        its = self._tracks.its
        if its not in self._queues:
            self._queues[its] = Queue(self._packets, self._tracks.commands)
        return self._queues[its]

    def _command(self, seq: int, at: int, event: Event, f: dict[str, Any], more: bytes) -> None:
        cause = seq - f["cause"] if f["cause"] else None
        asked = at if cause is None else self._recent.get(cause, (at, 0))[0]
        waited = self._told({"waited_ns": max(0, at - asked)})
        self._queue().command(cause, asked, at, called(event, f), more, waited)

    # -- verdicts

    def judged(self, seqs: Iterable[int]) -> None:
        """Note when the inputs were of which there is a verdict now."""
        for seq in seqs:
            if seq in self._recent and seq not in self._resets:
                self._marks[seq] = self._recent[seq][0]

    def finish(self, verdicts: Verdicts) -> None:
        """Draw what was held back, and the verdicts."""
        for held in self._held.values():
            self._unanswered(held)
        for queue in self._queues.values():
            queue.rest()
        for seq, what, told_of_it in verdicts.told():
            said, word = self._told(told_of_it), told_of_it["verdict"]
            if seq in self._resets:
                at, name, more = self._resets.pop(seq)
                self._verdict(at, f"{name}: {word}", "reset", more, said)
            elif seq in self._marks:
                more = self._told({"seq": seq})
                self._verdict(self._marks[seq], f"{what}: {word}", "verdict", more, said)
        unjudged = self._told({"verdict": verdicts.reason or "none"})
        for at, name, more in self._resets.values():
            self._verdict(at, name, "reset", more, unjudged)

    def _verdict(self, at: int, name: str, category: str, *more: bytes) -> None:
        self._packets.instant(self._tracks.resets, at, name, category, *more)
