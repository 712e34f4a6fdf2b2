"""Frames appended to a file: each with one write, and with the digest of all that stands before it.

Counterpart: `tracer.log.frames`, which finds them. What they mean together says `tracer.log.stream`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO, Final
from zlib import crc32

from tracer.log import format as fmt
from tracer.log.codec import compress
from tracer.log.frames import link, preamble

# Below, starting a compressor costs most of a write, and gains a few bytes at most.
_LEAST_COMPRESSED_BYTES: Final = 64


class Appending:
    """The end of a file that is being written.

    A recorder may write a frame for each event: that is why as little as can be is called here.
    """

    def __init__(
        self, out: BinaryIO, *, fsync: bool, failure: Callable[[OSError], Exception]
    ) -> None:
        """Write the preamble. `failure` returns what is raised when a write fails."""
        self._out = out
        self._fsync = fsync
        self._failure = failure
        self.size_bytes = 0
        begin = preamble(fmt.VERSION)
        self._write(begin)
        self.chain = link(b"", begin)

    def frame(self, kind: int, raw: bytes, codec: int) -> None:
        """Append a frame whose payload is `raw`, compressed where that makes it shorter."""
        if len(raw) >= _LEAST_COMPRESSED_BYTES:
            stored = compress(raw, codec)
            if len(stored) < len(raw):
                self.put(kind, codec, stored, len(raw))
                return
        self.put(kind, fmt.CODEC_NONE, raw, len(raw))

    def put(self, kind: int, codec: int, stored: bytes, raw_size: int) -> None:
        """Append a frame whose payload was compressed before."""
        chain = self.chain
        head = _pack_head(fmt.SYNC, kind, codec, 0, len(stored), raw_size, chain)
        frame = b"".join((head, _pack_crc(crc32(head)), stored, _pack_crc(crc32(stored))))
        self._write(frame)
        self.chain = link(chain, frame)

    def _write(self, data: bytes) -> None:
        try:
            left = len(data) - (self._out.write(data) or 0)  # None where it would block
            while left:
                left -= self._out.write(memoryview(data)[-left:]) or 0
            if self._fsync:
                os.fsync(self._out.fileno())
        except OSError as error:
            raise self._failure(error) from error
        self.size_bytes += len(data)


_pack_head: Final = fmt.FRAME.pack
_pack_crc: Final = fmt.CRC.pack
