"""What the forms that stream share: events one by one, with their times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracer.events import Event

Frames = Iterable[tuple[int, tuple[Event, ...]]]


def each_event(frames: Frames) -> Iterator[tuple[int, int, Event]]:
    """Yield (sequence number, time in nanoseconds, event) of a whole trace."""
    time_ns = 0
    for first_seq, events in frames:
        for seq, event in enumerate(events, first_seq):
            time_ns += event[1]
            yield seq, time_ns, event
