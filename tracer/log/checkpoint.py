"""A checkpoint in the file: cut into frames of a bounded size, and put together again.

What it says belongs to whoever replays; here it is bytes. Counterpart: `replay.checkpoints`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgpack

from tracer.log import format as fmt
from tracer.log.checks import PayloadError
from tracer.log.codec import unpack_list

_MOST_PARTS: Final = -(-fmt.MAX_CHECKPOINT_BYTES // fmt.CHECKPOINT_PART_BYTES)


def digest(checkpoint: bytes | bytearray) -> str:
    """Return what a header's `base_digest` says of a checkpoint."""
    return blake2b(checkpoint, digest_size=fmt.CHAIN_SIZE_BYTES).hexdigest()


def parts(checkpoint: bytes) -> list[bytes]:
    """Return the payloads of the frames that hold a checkpoint together."""
    size = fmt.CHECKPOINT_PART_BYTES
    pieces = [checkpoint[at : at + size] for at in range(0, len(checkpoint), size)]
    return [
        msgpack.packb([number, len(pieces), piece], use_bin_type=True)
        for number, piece in enumerate(pieces)
    ]


class Assembly:
    """Puts parts together as they come."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._number = 0
        self._count = 1

    def add(self, raw: bytes) -> None:
        """Take the next part; PayloadError when it is not the next."""
        match unpack_list(raw, 3, fmt.CHECKPOINT_PART_BYTES):
            case [int(number), int(count), bytes(data)] if number == self._number < count:
                pass
            case _:
                raise PayloadError("a checkpoint must come in parts [number, how many, bytes]")
        if count > _MOST_PARTS or len(self._data) + len(data) > fmt.MAX_CHECKPOINT_BYTES:
            raise PayloadError(f"a checkpoint has at most {fmt.MAX_CHECKPOINT_BYTES} bytes")
        self._data += data
        self._number += 1
        self._count = count

    @property
    def is_empty(self) -> bool:
        """Whether there was no part."""
        return not self._number

    @property
    def is_complete(self) -> bool:
        """Whether there were as many parts as the last one says."""
        return self._number >= self._count

    @property
    def data(self) -> bytes:
        """All parts."""
        return bytes(self._data)

    @property
    def digest(self) -> str:
        """Their digest."""
        return digest(self._data)
