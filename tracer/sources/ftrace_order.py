"""Inputs of several threads, in the order in which they began, each with its outputs behind it.

A thread does one thing at a time, so what it shows between the two ends of an input is that
input's. What two threads did in overlapping intervals has no order: both are told to be `overlap`,
and a replay must not judge them. Counterpart: `ftrace`, which knows where an input ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tracer import events as ev
from tracer.events import NUMBER, Event

# The record of a write is made before the locks are taken; where nothing shows its end, it is
# taken to last this long.
WRITE_NS: Final = 20_000
# An input whose end does not come holds up what began after it: not for ever.
MAX_WAIT_NS: Final = 10_000_000_000
MAX_WAITING: Final = 1024

_CONTEXT: Final = NUMBER["context"]
_NOBODY: Final = -1


@dataclass(slots=True)
class Span:
    """One input, or an output that asks for itself, with its outputs and its interval in ns."""

    thread: int
    cpu: int
    start_ns: int
    event: list[Any]  # with place for its time
    effects: list[tuple[int, list[Any]]] = field(default_factory=list)  # (ns, event)
    time_ns: int = 0  # what the event is stamped with
    end_ns: int = 0
    closed: bool = False
    dropped: bool = False  # it turned out to be nothing of ours
    overlap: bool = False
    commands: int = 0  # CWRITER, where the queue ends that this input may run
    gpas: list[int | None] = field(default_factory=list)  # where each of its commands was read
    readable: bool = False  # whether the value that comes with its end can be relied on
    expects: bool = False  # whether it must have run commands
    block: bool = False  # it brings its own causes, and is at the same time as nobody's

    def __post_init__(self) -> None:
        self.time_ns = self.end_ns = self.start_ns

    def add(self, time_ns: int, event: list[Any]) -> None:
        """Take an output; its third position is its cause."""
        self.effects.append((time_ns, event))
        self.end_ns = max(self.end_ns, time_ns)

    def meets(self, other: Span) -> bool:
        """Return whether it shares a moment with another thread's, as far as both are known."""
        if self.thread == other.thread or _NOBODY in (self.thread, other.thread):
            return False  # a note, or a listing, which disturbs nothing
        if other.dropped or other.start_ns > self.end_ns:
            return False
        return other.start_ns >= self.start_ns or (other.closed and other.end_ns >= self.start_ns)


def _note(time_ns: int, event: tuple[Any, ...]) -> Span:
    return Span(_NOBODY, 0, time_ns, [event[0], 0, *event[1:]], closed=True)


class Order:
    """The spans that have begun and cannot be given out yet."""

    def __init__(self, ending: Callable[[Span], None] = lambda span: None) -> None:
        """`ending` is called when a span ends, while something can still be added to it."""
        self.out: list[Event] = []
        self._ending = ending
        self._waiting: deque[Span] = deque()
        self._busy: dict[int, int] = {}  # thread -> when the last that was given out ended
        self._context: tuple[int | None, int | None, bool] | None = None
        self._last_ns = 0

    def begin(self, span: Span) -> Span:
        """Take a span that began now."""
        self._waiting.append(span)
        return span

    def note(self, time_ns: int, *event: Any) -> None:
        """Take a note: it belongs to no thread."""
        self._waiting.append(_note(time_ns, event))

    def block(self, events: list[tuple[int, list[Any]]], *, overlap: bool) -> None:
        """Take a listing, (ns, event) in order, that is over; it is told to be `overlap` or not."""
        (time_ns, first), *rest = events
        span = _note(time_ns, (first[0], *first[2:]))
        span.block, span.overlap, span.effects = True, overlap, rest
        self._waiting.append(span)

    @property
    def busy(self) -> bool:
        """Whether an input has begun and not ended."""
        return any(not span.closed for span in self._waiting)

    def doubt(self, time_ns: int, *event: Any) -> None:
        """Take a note that casts doubt on what has not ended yet: it goes before that."""
        at = next((at for at, span in enumerate(self._waiting) if not span.closed), None)
        self._waiting.insert(len(self._waiting) if at is None else at, _note(time_ns, event))

    def close(self, span: Span) -> None:
        """End a span; nothing can be added to it any more."""
        if span.closed:
            return
        self._ending(span)
        span.closed = True
        for other in self._waiting:
            if other is not span and span.meets(other):
                span.overlap = other.overlap = True
        if any(end >= span.start_ns and t != span.thread for t, end in self._busy.items()):
            span.overlap = True

    def give(self, now_ns: int | None) -> list[Event]:
        """Return the events that are complete; all that are left when `now_ns` is None."""
        waiting = self._waiting
        while waiting and (waiting[0].closed or self._too_long(waiting[0], now_ns)):
            span = waiting.popleft()
            self.close(span)
            if not span.dropped:
                self._give(span)
        out, self.out = self.out, []
        return out

    def _too_long(self, span: Span, now_ns: int | None) -> bool:
        if now_ns is None or len(self._waiting) > MAX_WAITING:
            return True
        return now_ns - span.start_ns > MAX_WAIT_NS

    def _give(self, span: Span) -> None:
        if span.thread != _NOBODY:
            self._mark_busy(span)
            self._place(span, span.cpu, span.thread)
        elif span.block:
            self._place(span, None, None)
        self._emit(span.time_ns, span.event)
        for back, (time_ns, event) in enumerate(span.effects, 1):
            if not span.block:
                event[2] = back
            self._emit(time_ns, event)

    def _place(self, span: Span, cpu: int | None, thread: int | None) -> None:
        """Say whose the next events are, unless the last ones were the same one's."""
        here = (cpu, thread, span.overlap)
        if here != self._context:
            self._context = here
            self._emit(span.time_ns, [_CONTEXT, 0, 0, cpu, thread, int(span.overlap)])

    def _mark_busy(self, span: Span) -> None:
        if len(self._busy) > 64:
            self._busy = {t: end for t, end in self._busy.items() if end >= span.start_ns}
        if len(self._busy) <= MAX_WAITING:
            self._busy[span.thread] = span.end_ns

    def _emit(self, time_ns: int, event: list[Any]) -> None:
        event[1] = time_ns - self._last_ns
        self._last_ns = time_ns
        self.out.append(ev.trim(event, ev.KINDS[event[0]]))
