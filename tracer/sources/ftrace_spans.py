"""What each thread of one VM is doing: inputs that have begun, nested where an interrupt came.

Counterparts: `ftrace_order`, which puts the spans of all threads into one order; `ftrace`, which
says what a record begins and ends.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from tracer.events import NUMBER, Event
from tracer.sources.ftrace_order import Order, Span
from tracer.sources.ftrace_records import Record
from tracer.sources.stats import Stats

MAX_THREADS: Final = 4096

_LOSS, _GAP = NUMBER["loss"], NUMBER["source.gap"]


class Spans:
    """The open spans of every thread, and what is noted beside them."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self._order = Order(self._ending)
        self._open: dict[int, list[Span]] = {}  # thread -> its spans, an interrupt's on top
        self._told: set[str] = set()
        self._now_ns = self._thread = self._cpu = 0

    def give(self, now_ns: int) -> list[Event]:
        """Return the events that are complete at a time."""
        return self._order.give(now_ns)

    def finish(self) -> list[Event]:
        """End everything and return the events that are left."""
        for thread in list(self._open):
            self._end(thread)
        return self._order.give(None)

    def _at(self, record: Record) -> None:
        """Whatever comes now is this record's."""
        self._now_ns, self._thread, self._cpu = record.time_ns, record.thread, record.cpu

    # -- what is said beside events

    def gap(self, reason: str, line: int | None = None) -> None:
        """Note something of ours that could not be understood."""
        self._order.note(self._now_ns, _GAP, reason, line)

    def tell(self, reason: str) -> None:
        """Say once what the capture does not have."""
        if reason not in self._told:
            self._told.add(reason)
            self._order.note(self._now_ns, _GAP, reason)

    def lose(self, reason: str, count: int | None) -> None:
        """Note lost records, which may be of any input that has not ended."""
        for span in chain.from_iterable(self._open.values()):
            span.expects = False
        self._order.doubt(self._now_ns, _LOSS, reason, count)

    def _skip(self) -> None:
        """The record is another device's."""
        self.stats.ours -= 1
        self.stats.skipped += 1

    # -- spans

    def _begin(self, *event: Any, at_once: bool = False) -> Span:
        """Begin what this thread does now; what it did before is over."""
        self._end(self._thread)
        return self._nest(*event, at_once=at_once)

    def _nest(self, *event: Any, at_once: bool = False) -> Span:
        """Begin what interrupts what the thread does."""
        span = Span(self._thread, self._cpu, self._now_ns, [event[0], 0, *event[1:]])
        self._order.begin(span)
        if at_once:
            self._order.close(span)
            return span
        if len(self._open) >= MAX_THREADS and self._thread not in self._open:
            self._end(next(iter(self._open)))
        self._open.setdefault(self._thread, []).append(span)
        return span

    def _top(self) -> Span | None:
        stack = self._open.get(self._thread)
        return stack[-1] if stack and not stack[-1].closed else None

    def _pop(self) -> None:
        stack = self._open[self._thread]
        self._order.close(stack.pop())
        if not stack:
            del self._open[self._thread]

    def _end(self, thread: int) -> None:
        for span in self._open.pop(thread, ()):
            self._order.close(span)

    def _ending(self, span: Span) -> None:
        """A span ends."""

    def _effect(self, span: Span | None, kind: int, *values: Any) -> None:
        """Add an output to what caused it; without one its cause is not known."""
        if span is None:
            self._nest(kind, 0, *values, at_once=True)
        else:
            span.add(self._now_ns, [kind, 0, 0, *values])
