"""Bytes of a stream that may be a pipe, with a look ahead, and what is found wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the file, and where."""

    offset: int
    what: str
    kind: str  # cut or damaged


@dataclass(slots=True)
class Place:
    """Where a block of events begins in a file, for a reader that goes there later."""

    offset: int  # in bytes
    seq: int  # of its first event
    chain: bytes = b""  # the digest of the frames before it; of a trace in text form there is none
    line: int = 0  # lines before it, in text form


@dataclass(slots=True)
class Ending:
    """How the reading of a file ended: where, and what was wrong with it."""

    place: Place
    problems: list[Problem]
    problem_count: int
    ended: bool
    goes_on: bool


class Source:
    """Bytes of a stream that may be a pipe, with a look ahead of bounded size."""

    __slots__ = ("_buffer", "_ended", "_stream", "offset")

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._ended = False
        self.offset = 0

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        self._fill(size)
        return bytes(self._buffer[:size])

    def skip(self, size: int) -> None:
        """Step over `size` bytes, fewer at the end."""
        self._fill(size)
        self.offset += min(size, len(self._buffer))
        del self._buffer[:size]

    def go_to(self, offset: int) -> None:
        """Read on from `offset`; only where the stream is a file."""
        self._stream.seek(offset)
        self._buffer.clear()
        self._ended = False
        self.offset = offset

    def find(self, needle: bytes) -> bool:
        """Skip to the next `needle`; False, with all skipped, when there is none."""
        while True:
            at = self._buffer.find(needle)
            if at >= 0:
                self.skip(at)
                return True
            self.skip(max(len(self._buffer) - len(needle) + 1, 0))
            if self._ended:
                self.skip(len(self._buffer))
                return False
            self.peek(len(self._buffer) + 65536)

    def ahead(self, distance: int, size: int) -> bytes:
        """Return `size` bytes that stand `distance` from here, fewer at the end."""
        self._fill(distance + size)
        return bytes(self._buffer[distance : distance + size])

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size and not self._ended:
            more = self._stream.read(max(size - len(self._buffer), 65536))
            if more:
                self._buffer += more
            else:
                self._ended = True
