"""The packets of a Perfetto trace: tracks, slices, instants, counters, and names told once.

What is drawn where is `perfetto`'s. Numbers are those of Perfetto's own trace_packet.proto,
track_event.proto and track_descriptor.proto; a test holds them to its published descriptors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from replay.export.protobuf import double, fixed64, message, number, text, varint

PACKET: Final = 1  # of Trace
# Of TracePacket.
TIMESTAMP, SEQUENCE_ID, TRACK_EVENT, INTERNED, FLAGS, TRACK, CLOCKS = (
    8, 10, 11, 12, 13, 60, 6,
)  # fmt: skip
CLEARED, NEEDED = 1, 2  # SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE
# Of TrackEvent.
ANNOTATION, CATEGORY_IID, TYPE, NAME_IID, TRACK_UUID, NAME = 4, 3, 9, 10, 11, 23
COUNTER_VALUE, DOUBLE_COUNTER_VALUE, FLOW, LAST_FLOW = 30, 44, 47, 48
BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
# Of DebugAnnotation.
A_NAME_IID, A_UINT, A_INT, A_STRING, A_POINTER = 1, 3, 4, 6, 7
# Of InternedData, and of each of its entries.
CATEGORIES, EVENT_NAMES, ANNOTATION_NAMES = 1, 2, 3
IID, INTERNED_NAME = 1, 2
# Of TrackDescriptor.
T_UUID, T_NAME, T_PARENT, T_COUNTER, T_ORDER, T_RANK = 1, 2, 5, 8, 11, 12
EXPLICIT: Final = 3
# Of ClockSnapshot, and of each of its clocks.
CLOCK, CLOCK_ID, CLOCK_TIME = 1, 1, 2
REALTIME, BOOTTIME = 1, 6

MAX_NAMES: Final = 4096  # of events that a reader is to remember
_SEQUENCE: Final = number(SEQUENCE_ID, 1)
_NEEDED: Final = _SEQUENCE + number(FLAGS, NEEDED)
_TIMESTAMP: Final = varint(TIMESTAMP << 3)
_TRACK_UUID: Final = varint(TRACK_UUID << 3)
_LAST: Final = (1 << 63) - 1
_EXACT: Final = 1 << 53  # a counter is shown as a floating-point number


class Packets:
    """Writes packets; names of categories and annotations are told in the first one."""

    def __init__(
        self, write: Callable[[bytes], object], categories: list[str], annotations: list[str]
    ) -> None:
        self._write = write
        self._names: dict[str, int] = {}
        self._tracks = 0
        self._categories = _numbered(categories)
        self._annotations = _numbered(annotations)
        told = [_entry(CATEGORIES, iid, name) for name, iid in self._categories.items()]
        told += [_entry(ANNOTATION_NAMES, iid, name) for name, iid in self._annotations.items()]
        self._packet(_SEQUENCE + number(FLAGS, CLEARED), message(INTERNED, *told))

    def _packet(self, *parts: bytes) -> None:
        self._write(message(PACKET, *parts))

    def wall_clock(self, time_ns: int) -> None:
        """Say that the trace's times are of the wall clock."""
        clocks = [
            message(CLOCK, number(CLOCK_ID, each), number(CLOCK_TIME, time_ns))
            for each in (BOOTTIME, REALTIME)
        ]
        self._packet(number(TIMESTAMP, time_ns), _SEQUENCE, message(CLOCKS, *clocks))

    def track(self, name: str, parent: int | None, *, rank: int = 0, counter: bool = False) -> int:
        """Return a new track; those of one parent are shown by rank, then as they came."""
        self._tracks += 1
        parts = [number(T_UUID, self._tracks), text(T_NAME, name), number(T_ORDER, EXPLICIT)]
        if parent is not None:
            parts.append(number(T_PARENT, parent))
        if rank:
            parts.append(number(T_RANK, rank))
        if counter:
            parts.append(message(T_COUNTER))
        self._packet(_SEQUENCE, message(TRACK, *parts))
        return self._tracks

    def begin(self, track: int, at: int, name: str, category: str, *more: bytes) -> None:
        """Write the beginning of a slice; `more` are annotations and flows."""
        self._event(BEGIN, track, at, *self._called(name, category), *more)

    def end(self, track: int, at: int, *more: bytes) -> None:
        """Write the end of the slice of this track that began last."""
        self._event(END, track, at, *more)

    def instant(self, track: int, at: int, name: str, category: str, *more: bytes) -> None:
        """Write what has no duration."""
        self._event(INSTANT, track, at, *self._called(name, category), *more)

    def count(self, track: int, at: int, value: int) -> None:
        """Write a counter's new value."""
        if value < _EXACT:
            self._event(COUNTER, track, at, number(COUNTER_VALUE, value))
        else:
            self._event(COUNTER, track, at, double(DOUBLE_COUNTER_VALUE, float(value)))

    def _event(self, type_: int, track: int, at: int, *parts: bytes) -> None:
        event = message(TRACK_EVENT, number(TYPE, type_), _TRACK_UUID, varint(track), *parts)
        self._packet(_TIMESTAMP, varint(max(0, min(at, _LAST))), _NEEDED, event)

    def _called(self, name: str, category: str) -> tuple[bytes, bytes]:
        iid = self._names.get(name)
        if iid is None:
            if len(self._names) == MAX_NAMES:
                called = text(NAME, name)
                return called, number(CATEGORY_IID, self._categories[category])
            iid = self._names[name] = len(self._names) + 1
            self._packet(_NEEDED, message(INTERNED, _entry(EVENT_NAMES, iid, name)))
        return number(NAME_IID, iid), number(CATEGORY_IID, self._categories[category])

    def annotations(self, values: Mapping[str, Any], hexadecimal: frozenset[str]) -> bytes:
        """Return what is known of an event: texts, and numbers as they are to be read."""
        return b"".join(
            message(
                ANNOTATION,
                number(A_NAME_IID, self._annotations[name]),
                _value(value, name in hexadecimal),
            )
            for name, value in values.items()
        )


def flow(seq: int) -> bytes:
    """Return the beginning of an arrow, or a station of it."""
    return fixed64(FLOW, seq)


def last_flow(seq: int) -> bytes:
    """Return the end of an arrow."""
    return fixed64(LAST_FLOW, seq)


def _value(value: Any, hexadecimal: bool) -> bytes:  # noqa: FBT001 (on the event path)
    if type(value) is str:
        return text(A_STRING, value)
    if hexadecimal:
        return number(A_POINTER, value)
    return number(A_UINT if value >= 0 else A_INT, value)


def _numbered(names: list[str]) -> dict[str, int]:
    return {name: iid for iid, name in enumerate(dict.fromkeys(names), 1)}


def _entry(field: int, iid: int, name: str) -> bytes:
    return message(field, number(IID, iid), text(INTERNED_NAME, name))
