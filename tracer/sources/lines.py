"""Lines of a capture: from a file or a pipe, gzip or not, within limits.

A line longer than the limit is given as None, so that its place is not lost.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, cast

from tracer.errors import SourceError

MAX_LINE_BYTES: Final = 65_536
_CHUNK_BYTES: Final = 1 << 18
_GZIP_MAGIC: Final = b"\x1f\x8b"


class _Ahead(io.RawIOBase):
    """A raw stream that gives `head` first: what was read to look at it."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        data = self._head[: len(view)] or self._stream.read(len(view)) or b""
        self._head = self._head[len(view) :]
        view[: len(data)] = data
        return len(data)


class LineReader:
    """Splits a binary stream into lines; `sniff` looks at its beginning without losing it.

    One that is `plain` is not read before its lines are asked for; another may be gzip.
    """

    def __init__(self, stream: BinaryIO, name: str, *, plain: bool = False) -> None:
        self.name = name
        self.complete = True  # whether the last line ended in a newline
        self._packed = False
        self._stream = stream
        head = b""
        while (
            not plain
            and len(head) < len(_GZIP_MAGIC)
            and (more := self._read(len(_GZIP_MAGIC) - len(head)))
        ):
            head += more
        self._head = head
        if head == _GZIP_MAGIC:
            self._packed = True
            self._head = b""
            self._stream = cast(
                BinaryIO, gzip.GzipFile(fileobj=io.BufferedReader(_Ahead(head, stream)))
            )

    def sniff(self, enough: Callable[[bytes], bool] = lambda start: False) -> bytes:
        """Return the beginning, read until `enough` of it says so, at most 256 KiB."""
        while len(self._head) < _CHUNK_BYTES and not enough(self._head):
            more = self._read(_CHUNK_BYTES - len(self._head))
            if not more:
                break
            self._head += more
        return self._head

    def __iter__(self) -> Iterator[bytes | None]:
        rest = b""
        skipping = False
        chunk, self._head = self._head, b""
        while chunk := chunk or self._read(_CHUNK_BYTES):
            lines = (rest + chunk).split(b"\n")
            chunk = b""
            rest = lines.pop()
            for line in lines:
                yield None if skipping or len(line) > MAX_LINE_BYTES else line
                skipping = False
            if len(rest) > MAX_LINE_BYTES:
                rest, skipping = b"", True
        if skipping:
            yield None
        elif rest:
            self.complete = False
            yield rest

    def _read(self, size: int) -> bytes:
        read = getattr(self._stream, "read1", self._stream.read)
        try:
            return read(size) or b""
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(f"{self.name}: {error}: the compressed file is damaged") from error
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror or error}") from error
