"""Guest RAM of a QEMU as a file without a name: looked at and copied without asking QEMU.

It is sparse: what was never touched costs nothing, neither here nor there. The counterpart is
`qemu`, which starts QEMU with a memory backend on `path`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Final

PAGE_BYTES: Final = 4096
_ZEROES: Final = bytes(PAGE_BYTES)


class SharedRam:
    """RAM from address `base` on; to be closed."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._size = 0
        self._fd = os.memfd_create("itstrace-ram", os.MFD_CLOEXEC)

    @property
    def path(self) -> str:
        """Where another process of this user finds it."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def clear(self, size: int) -> None:
        """Make it `size` zero bytes. Nobody has it mapped."""
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, size)
        self._size = size

    def close(self) -> None:
        """Give it back."""
        os.close(self._fd)

    def _touched(self) -> Iterator[int]:
        """Yield the offset of every page that is there."""
        end = 0
        while True:
            try:
                start = os.lseek(self._fd, end, os.SEEK_DATA)
            except OSError:  # ENXIO: no data from here on
                return
            end = os.lseek(self._fd, start, os.SEEK_HOLE)
            yield from range(start & -PAGE_BYTES, end, PAGE_BYTES)

    def pages(self) -> dict[int, int]:
        """Return address -> CRC-32 of every page that is not zero."""
        found = {}
        for at in self._touched():
            page = os.pread(self._fd, PAGE_BYTES, at)
            if page != _ZEROES:
                found[self._base + at] = zlib.crc32(page)
        return found

    def load(self, gpa: int, size: int) -> bytes | None:
        """Return what stands at an address; None where no RAM is."""
        at = gpa - self._base
        if at < 0 or at + size > self._size:
            return None
        return os.pread(self._fd, size, at)

    def copy(self, source: SharedRam) -> None:
        """Make it equal to another of the same size."""
        for at in set(self._touched()) | set(source._touched()):
            os.pwrite(self._fd, os.pread(source._fd, PAGE_BYTES, at), at)
