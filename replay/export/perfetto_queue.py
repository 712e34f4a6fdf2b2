"""The command queue of one ITS on a Perfetto timeline: what was queued at once, and its commands.

A command runs until the next one, or until nothing more is seen of the input that queued it.
Counterpart: `perfetto`, which draws all else.
"""

from __future__ import annotations

from replay.export.perfetto_packets import Packets


class Queue:
    """Draws slices in their order: each begins where the one before it ends, or later."""

    def __init__(self, packets: Packets, track: int) -> None:
        self._packets, self._track = packets, track
        self._cause: int | None = None  # the input that queued what runs
        self._runs = False
        self._drawn = 0  # how far the track is drawn
        self._last = 0  # when something of the same cause was seen last

    def seen(self, cause: int, at: int) -> None:
        """An output names its cause: if that queued what runs, then it ran until now."""
        if cause == self._cause:
            self._last = max(self._last, at)

    def command(self, cause: int | None, asked: int, at: int, name: str, *more: bytes) -> None:
        """A command was fetched that was `asked` for then."""
        if self._runs and (cause is None or cause != self._cause):
            self.rest()
        at = max(at, self._drawn)
        if self._runs:
            self._packets.end(self._track, at)
        else:
            began = max(min(asked, at), self._drawn)
            self._packets.begin(self._track, began, "queue", "queue")
            self._runs, self._cause = True, cause
        self._packets.begin(self._track, at, name, "command", *more)
        self._drawn = self._last = at

    def rest(self, at: int = 0) -> None:
        """The queue came to rest: now, if not before."""
        if self._runs:
            self._drawn = max(at, self._drawn, self._last)
            self._packets.end(self._track, self._drawn)  # the command
            self._packets.end(self._track, self._drawn)  # and what was queued with it
            self._runs = False
