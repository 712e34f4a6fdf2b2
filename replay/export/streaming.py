"""What the forms that stream share: events one by one, with their times, and progress."""

from __future__ import annotations

from collections.abc import Iterator

from replay.commands.common import progress
from tracer.events import Event
from tracer.log.opening import AnyReader


def each_event(reader: AnyReader) -> Iterator[tuple[int, int, Event]]:
    """Yield (sequence number, time in nanoseconds, event) of a whole trace."""
    time_ns = 0
    for first_seq, events in progress(reader, "events", every=lambda: reader.next_seq):
        for seq, event in enumerate(events, first_seq):
            time_ns += event[1]
            yield seq, time_ns, event
