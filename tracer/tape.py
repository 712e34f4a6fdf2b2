"""Where a recorder's events go: numbered, timed, and checked to be what a reader takes.

Nothing here raises into the device's caller. What no event can hold becomes a `source.gap`, so that
a replay says that it is of a lossy trace; a file that cannot be written is kept in `failed`.
With `drop` a writer that cannot follow is not waited for: events are left out, and a `loss` event
says how many. Counterpart: `tracer.recorder`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final

from tracer.errors import WriteError
from tracer.events import KINDS, NUMBER, kind_name, trim
from tracer.log import format as fmt
from tracer.log.ring import Ring
from tracer.log.stream import Writer

_GAP: Final = NUMBER["source.gap"]
_COMMAND: Final = NUMBER["command"]
# What the writer may hold back of bulky events; far below what a frame may have.
_MAX_HELD_BYTES: Final = fmt.MAX_FRAME_RAW_BYTES // 4
# How many events wait for a writer that works in the background before more are left out.
MAX_HELD_EVENTS: Final = 4 * fmt.DEFAULT_BOUND_EVENTS
_LOSS: Final = NUMBER["loss"]
_TOO_SLOW: Final = "the trace could not be written as fast as the device was used"


class Tape:
    """Appends events to a writer. One thread."""

    def __init__(
        self, writer: Writer | Ring, clock: Callable[[], int], *, drop: bool = False
    ) -> None:
        """`drop` needs a writer that works in the background."""
        self.writer = writer
        self.lost = 0  # events left out, all in all
        self._drop = drop
        self._lost_here = 0  # since the last event that was written
        self.failed: WriteError | None = None
        self.running = True
        self.seq = writer.next_seq
        self.cause_seq = -1  # the last input; -1 when it could not be recorded
        self._clock = clock
        self._time_ns = 0
        self._held_bytes = 0

    def input(self, kind: int, numbers: Iterable[Any], tail: Iterable[Any] = ()) -> bool:
        """Append an input; the outputs that follow name it as their cause."""
        before = self.seq
        fits = self.add(kind, numbers, tail)
        self.cause_seq = self.seq - 1 if fits and self.seq > before else -1
        return fits

    def add(self, kind: int, numbers: Iterable[Any], tail: Iterable[Any] = ()) -> bool:
        """Append an event of `numbers`, which somebody else chose, and `tail`, which we did.

        Return whether the numbers fit; a gap stands in the event's place when they do not.
        """
        try:
            plain = array("Q", numbers)  # 64 bits each; a bool or an enumeration becomes a number
        except (OverflowError, TypeError):
            self._no_event(kind, numbers)
            return False
        if not self._drop or self._has_room():
            self._put([kind, 0, *plain, *tail])
        return True

    def result(self, kind: int, number: Any) -> None:
        """Append an output of the last input that is one number, which may be negative."""
        try:
            plain = array("q", (number,))
        except (OverflowError, TypeError):
            self._no_event(kind, number)
            return
        if not self._drop or self._has_room():
            self._put([kind, 0, self._cause(), *plain])

    def command(self, queue_offset: int, doublewords: tuple[int, ...]) -> None:
        """Append a command that the device fetched while it carried out the last input."""
        if not self._drop or self._has_room():
            self._put([_COMMAND, 0, self._cause(), queue_offset, *doublewords])

    def data(self, kind: int, head: tuple[int, ...], gpa: int, data: bytes) -> None:
        """Append guest RAM, in as many events as the format's limit takes."""
        for at in range(0, len(data), fmt.MAX_EVENT_BYTES):
            piece = data[at : at + fmt.MAX_EVENT_BYTES]
            if not 0 <= gpa + at < 1 << 64:
                self._no_event(kind, gpa + at)
                return
            if self._drop and not self._has_room():
                continue
            self._put([kind, 0, *head, int(gpa) + at, piece])
            self._held_bytes += len(piece)
            if self._held_bytes > _MAX_HELD_BYTES and not self._drop:
                self.flush()

    def note(self, kind: int, text: str) -> None:
        """Append a note that is one text."""
        # A text that came with an error may hold anything.
        cut = text.encode("utf-8", "backslashreplace")[: fmt.MAX_TEXT_BYTES]
        if not self._drop or self._has_room():
            self._put([kind, 0, cut.decode("utf-8", "ignore")])

    def _no_event(self, kind: int, numbers: object) -> None:
        self.note(_GAP, f"{kind_name(kind)} with {numbers!r:.200} is no event")

    def _cause(self) -> int:
        return self.seq - self.cause_seq if self.cause_seq >= 0 else 0

    def _has_room(self) -> bool:
        """Return whether an event can be appended now, a loss before it told; count it if not."""
        held = self.writer.held
        if not held:
            self._held_bytes = 0
        if held < MAX_HELD_EVENTS and self._held_bytes <= _MAX_HELD_BYTES:
            self._end_loss()
            return True
        if self.writer.failed and self.running:
            self._fail(self.writer.failed)
        self._lost_here += 1
        self.lost += 1
        return False

    def _end_loss(self) -> None:
        """Say how many events were left out here."""
        if self._lost_here:
            count, self._lost_here = self._lost_here, 0
            self._put([_LOSS, 0, _TOO_SLOW, count])

    def _put(self, event: list[Any]) -> None:
        """Append `event`, its time set to now."""
        if not self.running:
            return
        now_ns = self._clock()
        event[1] = now_ns - self._time_ns
        self._time_ns = now_ns
        self.seq += 1
        try:
            self.writer.add(trim(event, KINDS[event[0]]))
        except WriteError as error:
            self._fail(error)

    def flush(self) -> None:
        """Write what is held back, unless a thread does."""
        if not self.running or self._drop:
            return
        self._held_bytes = 0
        try:
            self.writer.flush()
        except WriteError as error:
            self._fail(error)

    def close(self) -> None:
        """End the trace cleanly if it can be; `failed` says what was lost if it cannot."""
        self._end_loss()
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
        self.failed = error
