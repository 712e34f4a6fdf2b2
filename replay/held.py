"""When a predicate holds: one that looks on while a trace is replayed, and what it noted.

A state changes where an input is carried out or an answer is learned from; between two such events
it stays. What was noted says of every event of a stretch whether the predicate holds after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replay.engine import Engine, Stopped
from replay.judge import AnyModel
from replay.model.effects import Effect, HostCrash
from replay.predicate import Predicate
from replay.timetravel.timeline import Timeline
from tracer.events import Event

Timed = tuple[int, int, Event]  # sequence number, time in ns, event


@dataclass(slots=True)
class Mark:
    """What holds after event `seq`, and after those behind it that change nothing."""

    seq: int
    here: bool
    behind: bool


class Looking:
    """A watcher that asks a predicate wherever the state may have changed."""

    def __init__(self, predicate: Predicate, model: AnyModel, *, stop: bool = False) -> None:
        """`stop`: the replay ends where it holds for the first time."""
        self._predicate = predicate
        self._model = model
        self._stop = stop
        self.marks: list[Mark] = []

    def begin(self, seq: int) -> None:
        """Look at the state before event `seq`."""
        holds = self._predicate.begin(self._model)
        self.marks.append(Mark(seq - 1, holds, holds))

    def _look(self, seq: int) -> None:
        holds = self._predicate.holds(self._model)
        behind = self._predicate.still_holds(self._model) if self._predicate.changing else holds
        if not holds == behind == self.marks[-1].behind:
            self.marks.append(Mark(seq, holds, behind))
        if holds and self._stop:
            raise Stopped

    def before_input(self, seq: int, event: Event) -> None:
        """Nothing has happened yet."""

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """An input was carried out."""
        self._look(seq)

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """An answer may have been learned from."""
        self._look(seq)

    def note(self, seq: int, event: Event) -> None:
        """A loss makes things unknown."""
        self._look(seq)

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """The model was filled before anyone looked."""


def shown(frames: Iterator[list[Timed]], engine: Engine, looking: Looking) -> Iterator[Timed]:
    """Yield those events after which the predicate holds, as `frames` of them are replayed.

    Events wait until the input that caused them was carried out; nothing follows a host's death.
    """
    waiting: list[Timed] = []
    try:
        for events in frames:
            waiting += events
            engine.feed(events[0][0], tuple(event for _, _, event in events))
            end = engine.seq + 1 if engine.held is None else engine.held
            yield from _holding(waiting, looking, end)
            waiting = [each for each in waiting if each[0] >= end]
        engine.settle()
    except HostCrash:
        pass
    yield from _holding(waiting, looking, engine.seq + 1 if engine.crash is None else engine.seq)


def _holding(waiting: Sequence[Timed], looking: Looking, end: int) -> Iterator[Timed]:
    """Yield what holds of the events before `end`, and let go of marks that are behind."""
    marks = looking.marks
    at = 0
    for each in waiting:
        if each[0] >= end:
            break
        while at + 1 < len(marks) and marks[at + 1].seq <= each[0]:
            at += 1
        mark = marks[at]
        if mark.here if mark.seq == each[0] else mark.behind:
            yield each
    del marks[:at]


def first_held(
    timeline: Timeline, predicate: Predicate, first: int, last: int | None = None
) -> int | None:
    """Return the first event from the stop at `first` on (to `last`) after which a predicate holds.

    One that holds before any of them is held to do so after the event before.
    """
    marks = looked(timeline, predicate, first, last, stop=True).marks
    return next((mark.seq for mark in marks if mark.here), None)


def last_held(timeline: Timeline, predicate: Predicate) -> int | None:
    """Return the last event after which a predicate holds, looking backwards from stop to stop."""
    end = timeline.last()
    for first in reversed(timeline.stops()):
        marks = looked(timeline, predicate, first, end).marks
        behind = end + 1
        for mark in reversed(marks):
            if mark.behind and behind > mark.seq + 1:
                return behind - 1
            if mark.here and mark.seq >= first:
                return mark.seq
            behind = mark.seq
        end = first - 1
    return None


def looked(
    timeline: Timeline, predicate: Predicate, first: int, last: int | None, *, stop: bool = False
) -> Looking:
    """Return what a predicate was found to be from the stop at event `first` to event `last`.

    `stop`: or to the first event after which it holds.
    """
    made: list[Looking] = []

    def watch(model: AnyModel) -> Looking:
        made.append(Looking(predicate, model, stop=stop))
        made[0].begin(first)
        return made[0]

    timeline.watched(first, last, watch)
    return made[0]
