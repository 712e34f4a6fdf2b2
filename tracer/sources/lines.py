"""Lines of a capture: from a file or a pipe, gzip or not, within limits.

A line longer than the limit is given as None, so that its place is not lost.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from tracer.errors import SourceError

MAX_LINE_BYTES: Final = 65_536
_CHUNK_BYTES: Final = 1 << 18
_GZIP_MAGIC: Final = b"\x1f\x8b"


class LineReader:
    """Splits a binary stream into lines; `sniff` looks at its beginning without losing it."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.complete = True  # whether the last line ended in a newline
        buffered = io.BufferedReader(cast(io.RawIOBase, stream), _CHUNK_BYTES)
        if buffered.peek(2)[:2] == _GZIP_MAGIC:
            buffered = io.BufferedReader(
                cast(io.RawIOBase, gzip.GzipFile(fileobj=buffered)), _CHUNK_BYTES
            )
        self._stream = buffered

    def sniff(self) -> bytes:
        """Return up to 256 KiB from the start; nothing of it is consumed."""
        return self._guarded_peek()

    def _guarded_peek(self) -> bytes:
        try:
            return self._stream.peek(_CHUNK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{self.name}: {error}: the compressed file is damaged") from error

    def __iter__(self) -> Iterator[bytes | None]:
        rest = b""
        skipping = False
        while chunk := self._read():
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if skipping and lines:
                lines[0] = None  # type: ignore[call-overload]
                skipping = False
            yield from lines
            if len(rest) > MAX_LINE_BYTES:
                rest, skipping = b"", True
        if skipping:
            yield None
        elif rest:
            self.complete = False
            yield rest

    def _read(self) -> bytes:
        try:
            return self._stream.read1(_CHUNK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{self.name}: {error}: the compressed file is damaged") from error
