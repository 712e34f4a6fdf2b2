"""One frame of a file: found, and known to be whole before anything of it is believed.

What the frames of a trace mean together say its two users: `tracer.log.stream`, whose reader stops
at nothing but tells, and `tracer.log.survey`, which maps what of a damaged file can be saved.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from tracer.log import format as fmt
from tracer.log.checks import PayloadError
from tracer.log.codec import decompress
from tracer.log.source import Problem, Source

NO_FRAME: Final = "no frame begins here: its first bytes are damaged"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose two CRCs are right."""

    data: bytes
    kind: int
    codec: int
    flags: int
    raw_size: int
    chain: bytes

    def unpack(self) -> bytes:
        """Return the payload; PayloadError when this version cannot unpack it."""
        if self.flags:
            raise PayloadError(f"frame flags {self.flags:#x} are not known to this version")
        return decompress(self.stored, self.codec, self.raw_size)

    @property
    def stored(self) -> bytes:
        """The payload as it stands in the file."""
        return self.data[fmt.FRAME_HEAD_SIZE_BYTES : -fmt.CRC.size]

    @property
    def next_chain(self) -> bytes:
        """The digest of all before this frame, and of this frame."""
        return link(self.chain, self.data)


def link(chain: bytes, frame: bytes) -> bytes:
    """Return the chain digest behind `frame`."""
    state = _NOTHING.copy()  # in less time than one is made
    state.update(chain + frame)
    return state.digest()


_NOTHING: Final = blake2b(digest_size=fmt.CHAIN_SIZE_BYTES)


def preamble(version: int) -> bytes:
    """Return the first bytes of a file of a version."""
    return fmt.PREAMBLE.pack(fmt.MAGIC, version)


def look(source: Source) -> Frame | Problem:
    """Return the frame that begins here, or what is wrong; nothing is stepped over."""
    start = source.offset
    head = source.peek(fmt.FRAME_HEAD_SIZE_BYTES)
    if len(head) < fmt.FRAME_HEAD_SIZE_BYTES:
        if fmt.SYNC.startswith(head[: len(fmt.SYNC)]):
            return Problem(start, "the last frame is cut off", "cut")
        return Problem(start, "bytes that begin no frame", "damaged")
    if not is_head(head):
        return Problem(start, NO_FRAME, "damaged")
    _, kind, codec, flags, stored_size, raw_size, chain = fmt.FRAME.unpack_from(head)
    if stored_size > fmt.MAX_FRAME_STORED_BYTES or raw_size > fmt.MAX_FRAME_RAW_BYTES:
        return Problem(start, f"a frame of {max(stored_size, raw_size)} bytes", "damaged")
    size = fmt.FRAME_HEAD_SIZE_BYTES + stored_size + fmt.CRC.size
    data = source.peek(size)
    if len(data) < size:
        return Problem(start, "the last frame is cut off", "cut")
    frame = Frame(data, kind, codec, flags, raw_size, chain)
    if fmt.CRC.unpack(data[-fmt.CRC.size :])[0] != zlib.crc32(frame.stored):
        return Problem(start, "the payload of this frame is damaged", "damaged")
    return frame


def is_head(head: bytes) -> bool:
    """Return whether these are the first bytes of a frame, whole."""
    if len(head) < fmt.FRAME_HEAD_SIZE_BYTES or not head.startswith(fmt.SYNC):
        return False
    crc: int = fmt.CRC.unpack_from(head, fmt.FRAME.size)[0]
    return crc == zlib.crc32(head[: fmt.FRAME.size])


def kind_here(source: Source) -> int | None:
    """Return the type that a whole head here claims."""
    head = source.peek(fmt.FRAME_HEAD_SIZE_BYTES)
    return head[len(fmt.SYNC)] if is_head(head) else None


def claimed(source: Source) -> int:
    """Return the size of the frame whose whole head stands here; 1 when none does."""
    head = source.peek(fmt.FRAME_HEAD_SIZE_BYTES)
    if not is_head(head):
        return 1
    stored_size: int = fmt.FRAME.unpack_from(head)[4]
    return fmt.FRAME_HEAD_SIZE_BYTES + min(stored_size, fmt.MAX_FRAME_STORED_BYTES) + fmt.CRC.size


def resync(source: Source, *, trusting: bool = False) -> bool:
    """Step over what is no frame to the next whole head; False, at the end, when there is none.

    Where a damaged frame ends as its own head says, with a frame behind it, what lies between is
    its payload: a guest chose that, and may have put frames into it. Otherwise every byte is
    looked at, unless `trusting`.
    """
    size = claimed(source)
    behind = source.ahead(size, fmt.FRAME_HEAD_SIZE_BYTES)
    source.skip(size if trusting or is_head(behind) else 1)
    while source.find(fmt.SYNC):
        if is_head(source.peek(fmt.FRAME_HEAD_SIZE_BYTES)):
            return True
        source.skip(1)
    return False
