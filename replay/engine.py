"""Drives a model with the inputs of a trace and compares its outputs, event by event.

One input is held until its outputs are read, because a model of observed RAM learns from them what
only the device saw. Every output is put into one class: matched, permitted, learned, assumed,
ambiguous, not judged, or divergent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final

from replay import checkpoints
from replay.checkpoints import Standing
from replay.model import effects
from replay.model.effects import HostCrash
from replay.observing import all_match, difference
from replay.protocols import NOT_JUDGED, Frames, Model, Watcher
from replay.tally import Divergence, Tally
from replay.targets.common import Answer
from tracer import events as ev, oplog
from tracer.events import NUMBER, Event
from tracer.log.header import RUNNING

_REG_READ: Final = NUMBER["reg.read"]
_ATTR_RESULT: Final = NUMBER["attr.result"]
_LPI_LIVE: Final = NUMBER["lpi.live"]
_LPI_ACK: Final = NUMBER["lpi.ack"]
_PROBE: Final = NUMBER["probe"]
_CONTEXT: Final = NUMBER["context"]
LISTS_LPIS: Final = 1
LISTS_ITS: Final = 2
_LOSS: Final = NUMBER["loss"]
_LOSSES: Final = (_LOSS, NUMBER["source.gap"])
_KNOWN: Final = frozenset(ev.KINDS)
# Outputs that name their cause.
_CAUSED: Final = frozenset(
    kind for kind, cls in ev.KINDS.items() if cls.fields and cls.fields[0].name == "cause"
)
_KIND: Final = itemgetter(0)
_BAD: Final = 6  # where a read says that the device called it bad
CONTEXT_EVENTS: Final = 5
MAX_LISTED: Final = 100


class Stopped(Exception):
    """The first divergence was met, and no more is wanted."""


class Engine:
    """Replays one trace on one model."""

    def __init__(
        self,
        reader: Frames,
        model: Model,
        watcher: Watcher | None = None,
        *,
        invariants: bool = False,
        stop: bool = False,
    ) -> None:
        """`invariants` are checked after every input; `stop` ends at the first divergence."""
        self.reader = reader
        self.invariants = invariants
        self._stop = stop
        self.model = model
        self.watcher = watcher
        self.tally = Tally()
        self.seq = reader.header.first_seq - 1  # the last event taken in
        self.lost = 0
        self.unknown_inputs: dict[int, int] = {}
        self.unknown_others = 0
        self._seen_kinds: set[int] = set()
        # The input that is not carried out before its outputs were read, if there is one.
        self.held: int | None = None
        self._input: Event = ()
        self._outputs: list[Event] = []
        self._familiar: set[int] = set()  # of the kinds that the model expresses, those seen
        self._are_familiar = True  # whether all of `_outputs` are of these
        self._recent: list[tuple[int, Event]] = []
        self._frame: tuple[int, tuple[Event, ...]] = (0, ())
        self._overlap = False  # whether what is read now has no order with another thread's
        self._asked = -1  # the last event that asked for itself
        # INTID -> row of a listing that is being read
        self._rows: dict[int, tuple[int, ...]] | None = None
        self._joined = reader.header.starts == RUNNING
        self._open_end = False  # whether the input that is carried out lacks outputs, or may
        self.crash: tuple[int, str] | None = None  # where the host kernel died, and in what
        self.violated: list[tuple[int, str]] = []
        if reader.checkpoint is not None:
            first_seq = reader.header.first_seq
            self.standing = checkpoints.resume(reader.checkpoint, reader.name, first_seq, model)
            if watcher:
                watcher.resumed(first_seq, overlap=self._overlap)

    @property
    def standing(self) -> Standing:
        """Where the replay stands beside its model; no input is held after this."""
        self._settle()
        return Standing(
            self._overlap, self._seen_kinds, self._asked, self._rows,
            self._joined, self.lost, self.unknown_inputs,
        )  # fmt: skip

    @standing.setter
    def standing(self, value: Standing) -> None:
        self._overlap, self._seen_kinds = value.overlap, value.seen_kinds
        self._familiar = self._seen_kinds & self.model.expresses
        self._asked, self._rows = value.asked, value.rows
        self._joined = self._joined or value.joined
        self.lost, self.unknown_inputs = value.lost, value.unknown_inputs

    @property
    def recent(self) -> list[tuple[int, Event]]:
        """The last events that were taken in, at most five."""
        return self._before(self.seq + 1)

    def run(
        self,
        until: int | None = None,
        *,
        after: Callable[[int, Sequence[Event]], None] | None = None,
    ) -> Tally:
        """Replay up to and with event `until` (all without it); stops before damage.

        `after` is called with each frame that was replayed.
        """
        messages = oplog.get("replay", trace=self.reader.name, model=self.model.name)
        messages.info("replay begins", until=until)
        with suppress(HostCrash, Stopped):  # nothing follows the death of the host
            self._replay(until, after)
        messages.info("replay ends", seq=self.seq, outputs=self.tally.outputs, lost=self.lost)
        return self.tally

    def _replay(
        self, until: int | None, after: Callable[[int, Sequence[Event]], None] | None
    ) -> None:
        for first_seq, events in self._frames():
            if until is not None and first_seq + len(events) > until:
                if self.advance(first_seq, events, until):
                    return
                continue
            self.feed(first_seq, events)
            if after:
                after(first_seq, events)
        self.settle()

    def feed(self, first_seq: int, events: tuple[Event, ...]) -> None:
        """Replay events that follow those before; the last input is held until its outputs came.

        Raises:
            HostCrash: nothing follows.
        """
        self._begin_frame(first_seq, events)
        self._run_frame(first_seq, events)

    def settle(self) -> None:
        """Carry out the input that is held: nothing more comes, be it that nobody wrote it.

        Raises:
            HostCrash: nothing follows.
        """
        self._open_end = self.reader.open_end
        self._settle()

    def _begin_frame(self, first_seq: int, events: tuple[Event, ...]) -> None:
        self._recent = self._before(first_seq)
        self._frame = (first_seq, events)

    def _frames(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        for frame in self.reader:
            if self.reader.status == "damaged":
                return  # what stands behind damage follows from a state that nobody knows
            yield frame

    def _run_frame(self, first_seq: int, events: tuple[Event, ...]) -> None:
        outputs, tally, read = self._outputs, self.tally, self.model.read
        familiar = self._familiar
        certain = self._reads_are_certain()
        for seq, event in enumerate(events, first_seq):
            kind: int = event[0]
            if kind in familiar and seq - event[2] == self.held:
                outputs.append(event)
            elif kind == _REG_READ:
                if self.held is not None:
                    self._settle()
                expected = read(event)
                if certain and expected == event[3] and len(event) <= _BAD:
                    tally.matched += 1
                    self._asked = seq
                else:
                    self._reg_read(seq, event, expected)
            elif kind < ev.FIRST_OUTPUT:
                if self.held is not None:
                    self._settle()
                self.held, self._input = seq, event
                if kind == _CONTEXT:
                    self._overlap = overlaps(event)
                    certain = self._reads_are_certain()
            elif kind < ev.FIRST_NOTE:
                self._output(seq, event, kind)
            else:
                self._note(seq, event, kind)
                certain = self._reads_are_certain()
        self.seq = first_seq + len(events) - 1

    def advance(self, first_seq: int, events: tuple[Event, ...], until: int) -> bool:
        """Replay events up to `until`, and those behind it that the same input caused.

        Returns whether all of these were there; else the next frame may begin with some.

        Raises:
            HostCrash: nothing follows.
        """
        self._begin_frame(first_seq, events)
        size = max(until + 1 - first_seq, 0)
        if size:
            self._run_frame(first_seq, events[:size])
        for seq, event in enumerate(events[size:], first_seq + size):
            if not self._is_of_held(seq, event):
                self._settle()
                return True
            if event[0] in self.model.expresses:
                self._outputs.append(event)
                self._are_familiar = False
        return self.held is None

    def _is_of_held(self, seq: int, event: Event) -> bool:
        """Return whether an event is an output of the input that is held."""
        kind = event[0]
        return (
            kind in _CAUSED
            and (kind in self.model.expresses or kind not in self.model.asks)
            and seq - event[2] == self.held
        )

    # -- inputs

    def _settle(self) -> None:
        """Apply the input that is held and judge its outputs."""
        if self.held is None:
            return
        seq, event = self.held, self._input
        self.held = None
        if event[0] not in _KNOWN:
            self.unknown_inputs[event[0]] = self.unknown_inputs.get(event[0], 0) + 1
            return
        if self.watcher:
            self.watcher.before_input(seq, event)
        outputs = self._outputs
        try:
            done = self.model.apply(event, outputs)
        except HostCrash as crash:
            self.crash = (seq, crash.function)
            self.seq = seq
            raise
        if self._overlap or self.model.bound or not all_match(done, outputs):
            self._class(seq, event, done)
        else:
            self.tally.matched += len(outputs)
            if not self._are_familiar:
                self._see(outputs)
        if self.watcher:
            self.watcher.after_input(seq, event, done, outputs)
        if outputs:
            outputs.clear()
        if self.invariants:
            self._check_invariants(seq)

    def _class(self, seq: int, event: Event, done: list[effects.Effect]) -> None:
        """Put the outputs of an input into their classes."""
        if self._overlap:
            self.tally.ambiguous += len(self._outputs)
        elif self.model.bound and NOT_JUDGED in self.model.bound.values():
            for output in self._outputs:
                self._unjudged(output)
        else:
            self._compare(seq, event, done)
            self._see(self._outputs)

    def _see(self, outputs: Sequence[Event]) -> None:
        """Take in the kinds of outputs: from here on one that is missing is a divergence."""
        self._seen_kinds.update(map(_KIND, outputs))
        self._familiar |= self._seen_kinds & self.model.expresses
        self._are_familiar = True

    def _check_invariants(self, seq: int) -> None:
        if len(self.violated) < MAX_LISTED:
            self.violated += [(seq, name) for name in self.model.violations()]

    def _compare(self, seq: int, cause: Event, done: list[effects.Effect]) -> None:
        """Pair effects with outputs in order; each left over on either side is a divergence."""
        tally, bound, seen = self.tally, self.model.bound, self._seen_kinds
        at = matched = 0
        count = len(done)
        for output in self._outputs:
            kind, out_seq = output[0], seq + output[2]  # it names its cause
            seen.add(kind)
            while at < count and done[at][0] != kind and done[at][0] not in seen:
                at += 1
            if at == count or done[at][0] != kind:
                self._diverge(out_seq, output, "output", None, ev.kind_name(kind))
                continue
            wrong = difference(done[at], output)
            if wrong:
                self._diverge(out_seq, output, *wrong)
            elif at in bound:
                self._bound(out_seq, bound[at])
            else:
                matched += 1
            at += 1
        tally.matched += matched
        for effect in done[at:]:
            if effect[0] in seen and not self._open_end:
                self._diverge(seq, cause, "output", ev.kind_name(effect[0]), None)

    def _bound(self, seq: int, how: str) -> None:
        if how == "learned":
            self.tally.learned += 1
            return
        self.tally.assumed += 1
        if len(self.tally.assumptions) < MAX_LISTED:
            self.tally.assumptions.append((seq, how.removeprefix("assumed: ")))

    # -- outputs

    def _output(self, seq: int, event: Event, kind: int) -> None:
        if kind in self.model.expresses and seq - event[2] == self.held:
            self._outputs.append(event)
            self._are_familiar = False
        elif kind in self.model.asks:
            self._settle()
            self._ask(seq, event)
        elif kind == _ATTR_RESULT and seq - event[2] == self._asked:
            self._judge(seq, event, Answer("errno", self.model.errno(), event[3], certain=True))
        elif kind == _LPI_LIVE and self._rows is not None:
            self._live(seq, event)
        else:
            # The model cannot express it, or its cause is not the input before it: another CPU's
            # input, or one that the source does not tell.
            self._unjudged(event)

    def _reads_are_certain(self) -> bool:
        """Return whether a read is either what the model has, or diverges; and nobody looks on."""
        return not (self._overlap or self._joined or self.watcher)

    def _reg_read(self, seq: int, event: Event, expected: int | None) -> None:
        self._asked = seq
        if self._overlap:
            self.tally.ambiguous += 1
            return
        bad = len(event) > _BAD and event[_BAD] != 0
        if self._joined and expected is not None and not bad:
            expected = self._learn_hidden(seq, event, expected, event[3])
        elif expected == event[3] and not bad:
            self.tally.matched += 1
        elif (expected is None) != bad:
            self._diverge(seq, event, "bad", int(expected is None), int(bad))
        elif (expected or 0) != event[3]:
            self._diverge(seq, event, "value", expected or 0, event[3])
        else:
            self.tally.matched += 1
        if self.watcher:
            self.watcher.output(seq, event, expected)

    def _learn_hidden(self, seq: int, event: Event, expected: int, got: int) -> int:
        """Judge a register's read of a VM that was joined; return what it should have given."""
        hidden = self.model.hidden(event)
        expected = expected & ~hidden | got & hidden
        if expected != got:
            self._diverge(seq, event, "value", expected, got)
        elif hidden:
            self.tally.learned += 1
        else:
            self.tally.matched += 1
        if hidden:
            self.model.learn(event)  # what nobody knew
        return expected

    def _ask(self, seq: int, event: Event) -> None:
        answer = self.model.asks[event[0]](event)
        self._asked = seq
        if answer is None:
            self._unjudged(event)
            return
        expected = answer.expected
        if self._overlap:
            self.tally.ambiguous += 1
        elif self._joined and answer.field == "value" and expected is not None:
            expected = self._learn_hidden(seq, event, expected, answer.got)
        else:
            self._judge(seq, event, answer)
        if event[0] == _LPI_ACK:
            self.model.learn(event)  # what a CPU took is pending no longer, expected or not
        if self.watcher and not self._overlap:
            self.watcher.output(seq, event, expected)

    def _judge(self, seq: int, event: Event, answer: Answer) -> None:
        if answer.expected == answer.got:
            self.tally.matched += 1
        elif answer.certain:
            self._diverge(seq, event, answer.field, answer.expected, answer.got)
        else:
            self.tally.learned += 1
            self.model.learn(event)

    def _live(self, seq: int, event: Event) -> None:
        """One row of a listing: it must be among those that the model has left."""
        assert self._rows is not None
        row = event[3:]
        same = self._rows.pop(row[0], None)
        if self._overlap:
            self.tally.ambiguous += 1
            return
        if same == row:
            self.tally.matched += 1
            self.model.learn(event)
        elif self.model.may_differ(same, row):
            self.tally.learned += 1
            self.model.learn(event)
        else:
            self._diverge(seq, event, "row", str(same) if same else None, str(row))
        if self.watcher:
            self.watcher.output(seq, event, None)

    def _listing(self, seq: int, event: Event) -> None:
        """A listing begins, or ends: then what the model has left is missing in the trace."""
        if event[2] == 0:
            rows = self.model.live_rows()
            self._rows = None if rows is None else {row[0]: row for row in rows}
            return
        left, self._rows = self._rows, None
        if left is None or not lists(event) & LISTS_LPIS or self._overlap:
            return
        for row in left.values():
            if self.model.may_differ(row, None):
                self.model.not_listed(row)
            else:
                self._diverge(seq, event, "row", str(row), None)
        if not left:
            self.tally.matched += 1  # that there are no more is an answer too

    def _unjudged(self, event: Event) -> None:
        name = ev.kind_name(event[0])
        self.tally.not_judged += 1
        self.tally.unjudged[name] = self.tally.unjudged.get(name, 0) + 1

    def _note(self, seq: int, event: Event, kind: int) -> None:
        self._settle()
        if kind in _LOSSES:
            self.lost += 1
            lost = kind == _LOSS  # of a gap the source says what it could not see
            self._joined = self._joined or lost
            self.model.unsure(registers=lost)
        elif kind == _PROBE:
            self._listing(seq, event)
        elif kind not in ev.KINDS:
            self.unknown_others += 1
        if self.watcher:
            self.watcher.note(seq, event)

    # -- divergences

    def _diverge(self, seq: int, event: Event, what: str, expected: Any, got: Any) -> None:
        self.tally.divergent += 1
        self.tally.kinds.setdefault((ev.kind_name(event[0]), what), seq)
        if len(self.tally.divergences) < MAX_LISTED:
            self.tally.divergences.append(
                Divergence(seq, ev.kind_name(event[0]), what, expected, got, self._before(seq))
            )
        if self._stop:
            self.seq = seq
            raise Stopped

    def _before(self, seq: int) -> list[tuple[int, Event]]:
        """Return the events that stand before `seq`, at most five."""
        first_seq, events = self._frame
        at = seq - first_seq
        here = list(
            enumerate(events[max(at - CONTEXT_EVENTS, 0) : at], max(at - CONTEXT_EVENTS, 0))
        )
        found = [(first_seq + index, event) for index, event in here]
        return (self._recent + found)[-CONTEXT_EVENTS:]


def overlaps(event: Event) -> bool:
    """Return whether what follows a context `event` has no order with another thread's."""
    return len(event) > 5 and event[5] != 0


def lists(event: Event) -> int:
    """Return what the probe that `event` ends listed whole: LISTS_LPIS, LISTS_ITS."""
    return int(event[4]) if len(event) > 4 else LISTS_LPIS | LISTS_ITS
