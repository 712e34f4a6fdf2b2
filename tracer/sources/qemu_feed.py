"""Between the thread that reads QEMU's log and the one that writes the trace: a bounded hand-over.

Lines and calls come out in the order in which they went in. When the trace cannot be written as
fast as the log comes, the reader either waits, and with it the VM, or drops whole lines and has
them counted. Counterpart: `qemu_live`, whose thread fills it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Final

MAX_BYTES: Final = 16 << 20
_CHUNK_COST_BYTES: Final = 200  # of a chunk beside what it holds
_CALL_COST_BYTES: Final = 5000  # it may hold a page of guest RAM


class Feed:
    """A queue of chunks of a log and of calls; `lose` is called with how many lines were dropped.

    `read1` gives chunks as a stream does and makes the calls between them; it ends at `close`.
    """

    def __init__(self, lose: Callable[[int], None], *, drop: bool = False) -> None:
        self._lose = lose
        self._drop = drop
        self._items: deque[bytes | Callable[[], None]] = deque()
        self._changed = Condition()
        self._bytes = self._dropped = 0
        self._closed = self._discarding = False
        self._rest = b""  # of a chunk that was given in part

    def put(self, data: bytes) -> None:
        """Hand on a chunk, which ends with a line when lines may be dropped; may wait."""
        with self._changed:
            if self._has_room():
                self._append(data)
            else:
                self._dropped += data.count(b"\n")

    def call(self, function: Callable[[], None], *, counts: bool = True) -> None:
        """Have `function` called when what was handed on before has been read; may wait, too.

        One that was handed on last is not called twice. One that there is no room for is dropped,
        and counts as a line if it `counts`.
        """
        with self._changed:
            if self._items and self._items[-1] is function:
                return
            if self._has_room():
                self._append(function)
            else:
                self._dropped += counts

    def _has_room(self) -> bool:
        """Whether more can be taken; waits for it, or else says first what was dropped before."""
        if not self._drop:
            self._changed.wait_for(lambda: self._bytes < MAX_BYTES or self._discarding)
        if self._bytes >= MAX_BYTES:
            return False
        self._flush_loss()
        return True

    def close(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._flush_loss()
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> None:
        """Let everything pass unread from now on."""
        with self._changed:
            self._discarding = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()

    def start(self) -> bytes:
        """Return what lies at the beginning, without taking it."""
        with self._changed:
            return b"".join(item for item in self._items if isinstance(item, bytes))

    def read1(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as there are some; none at the end."""
        while not self._rest:
            item = self._take()
            if item is None:
                return b""
            if isinstance(item, bytes):
                self._rest = item
            else:
                item()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    read = read1

    def _take(self) -> bytes | Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                return None
            item = self._items.popleft()
            self._bytes -= _cost(item)
            self._changed.notify_all()
            return item

    def _append(self, item: bytes | Callable[[], None]) -> None:
        if not self._discarding:
            self._bytes += _cost(item)
            self._items.append(item)
            self._changed.notify_all()

    def _flush_loss(self) -> None:
        """Say how many lines are missing here, before what comes behind them."""
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._append(lambda: self._lose(count))


def _cost(item: bytes | Callable[[], None]) -> int:
    return _CHUNK_COST_BYTES + len(item) if isinstance(item, bytes) else _CALL_COST_BYTES
