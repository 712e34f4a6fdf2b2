"""Where a recorder's events go: numbered, timed, and checked to be what a reader takes.

Nothing here raises into the device's caller. What no event can hold becomes a `source.gap`, so that
a replay says that it is of a lossy trace; a file that cannot be written is kept in `failed`.
Counterpart: `tracer.recorder`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final

from tracer.errors import WriteError
from tracer.events import KINDS, NUMBER, Event, kind_name, trim
from tracer.log import format as fmt
from tracer.log.stream import Writer

_GAP: Final = NUMBER["source.gap"]
# What the writer may hold back of bulky events; far below what a frame may have.
_MAX_HELD_BYTES: Final = fmt.MAX_FRAME_RAW_BYTES // 4


class Tape:
    """Appends events to a writer. One thread."""

    def __init__(self, writer: Writer, clock: Callable[[], int]) -> None:
        self.writer = writer
        self.failed: WriteError | None = None
        self.running = True
        self.seq = writer.next_seq
        self.cause_seq = -1  # the last input; -1 when it could not be recorded
        self._clock = clock
        self._time_ns = 0
        self._held_bytes = 0

    def input(self, kind: int, numbers: Iterable[Any], tail: Iterable[Any] = ()) -> bool:
        """Append an input; the outputs that follow name it as their cause."""
        seq = self.seq
        fits = self.add(kind, numbers, tail)
        self.cause_seq = seq if fits else -1
        return fits

    def caused(self, kind: int, numbers: Iterable[int], code: str = "Q") -> None:
        """Append an output of the last input; `code` is q for numbers that may be negative."""
        cause = self.seq - self.cause_seq if self.cause_seq >= 0 else 0
        self._append(kind, (cause,), numbers, code)

    def add(self, kind: int, numbers: Iterable[int], tail: Iterable[Any] = ()) -> bool:
        """Append an event of `numbers`, which somebody else chose, and `tail`, which we did."""
        return self._append(kind, (), numbers, "Q", tail)

    def _append(
        self,
        kind: int,
        head: tuple[int, ...],
        numbers: Iterable[int],
        code: str,
        tail: Iterable[Any] = (),
    ) -> bool:
        """Return whether the numbers fit an event; a gap stands in its place when they do not."""
        try:
            plain = array(code, numbers)  # 64 bits each, and a bool or an enumeration is a number
        except (OverflowError, TypeError):
            self.gap(f"{kind_name(kind)} with {numbers!r:.200} is no event")
            return False
        self.put(trim([kind, 0, *head, *plain, *tail], KINDS[kind]))
        return True

    def data(self, kind: int, head: tuple[int, ...], gpa: int, data: bytes) -> None:
        """Append guest RAM, in as many events as the format's limit takes."""
        for at in range(0, len(data), fmt.MAX_EVENT_BYTES):
            piece = data[at : at + fmt.MAX_EVENT_BYTES]
            if not 0 <= gpa + at < 1 << 64:
                self.gap(f"{kind_name(kind)} at {gpa + at:#x}: no such address")
                return
            self.put((kind, 0, *head, int(gpa) + at, piece))
            self._held_bytes += len(piece)
            if self._held_bytes > _MAX_HELD_BYTES:
                self.flush()

    def gap(self, reason: str) -> None:
        """Append a source.gap: something happened that no event can hold."""
        self.put((_GAP, 0, safe_text(reason)))

    def put(self, event: Event) -> None:
        """Append `event`, its time set to now."""
        if not self.running:
            return
        now_ns = self._clock()
        event = (event[0], now_ns - self._time_ns, *event[2:])
        self._time_ns = now_ns
        self.seq += 1
        try:
            self.writer.add(event)
        except WriteError as error:
            self._fail(error)

    def flush(self) -> None:
        """Write what is held back."""
        self._held_bytes = 0
        try:
            self.writer.flush()
        except WriteError as error:
            self._fail(error)

    def close(self) -> None:
        """End the trace cleanly if it can be; `failed` says what was lost if it cannot."""
        self.running = False
        try:
            if self.failed is None:
                self.writer.close()
            else:
                self.writer.abandon()
        except WriteError as error:
            self._fail(error)

    def _fail(self, error: WriteError) -> None:
        self.running = False
        self.failed = self.failed or error


def safe_text(text: str) -> str:
    """Return `text` as an event may hold it."""
    data = text.encode("utf-8", "backslashreplace")[: fmt.MAX_TEXT_BYTES]
    return data.decode("utf-8", "ignore")
