"""Guest RAM seen from its two sides: what the guest does to it, and what the device reads of it.

What the guest writes is an input. What the device writes follows from inputs and is not recorded;
what it reads from its command queue is the output `command`. Counterpart: `tracer.recorder`, which
hands one side to the test or VMM and the other to the device.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from tracer.device import GuestMemory
from tracer.events import NUMBER
from tracer.its.registers import Cbaser, Ctlr
from tracer.tape import Tape

_MEM_WRITE: Final = NUMBER["mem.write"]
_MEM_READ: Final = NUMBER["mem.read"]
_CTLR, _CBASER = 0x00, 0x80
_COMMAND_SIZE_BYTES: Final = 32
_DOUBLEWORDS: Final = struct.Struct("<4Q")
_PAGE_SIZE_BYTES: Final = 4096
_CHUNK_SIZE_BYTES: Final = 1 << 20


class GuestSide:
    """Guest RAM for the guest and the VMM: every access is recorded."""

    def __init__(self, memory: GuestMemory, tape: Tape) -> None:
        self._memory = memory
        self._tape = tape

    @property
    def ranges(self) -> Sequence[tuple[int, int]]:
        """Return (address, size in bytes) of each stretch that there is."""
        return self._memory.ranges

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes from `gpa` on; recorded as evidence of what is there."""
        data = self._memory.read(gpa, size)
        self._tape.data(_MEM_READ, (0,), gpa, bytes(data))
        return data

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` from `gpa` on."""
        self._memory.write(gpa, data)
        self._tape.data(_MEM_WRITE, (), gpa, bytes(data))

    def record_contents(self) -> None:
        """Record the pages that are not zero: RAM is then complete from the first event on."""
        for base, size in self._memory.ranges:
            for at in range(base, base + size, _CHUNK_SIZE_BYTES):
                chunk = bytes(self._memory.read(at, min(_CHUNK_SIZE_BYTES, base + size - at)))
                if chunk.count(0) != len(chunk):
                    self._record_pages(at, chunk)

    def _record_pages(self, gpa: int, chunk: bytes) -> None:
        for at in range(0, len(chunk), _PAGE_SIZE_BYTES):
            page = chunk[at : at + _PAGE_SIZE_BYTES]
            if page.count(0) != len(page):
                self._tape.data(_MEM_WRITE, (), gpa + at, page)


class DeviceSide:
    """Guest RAM for the device: as it is, with an eye on the command queue.

    A command shows when its 32 bytes are read at once or by doublewords in ascending order.
    """

    def __init__(self, memory: GuestMemory, tape: Tape) -> None:
        self._memory = memory
        self._tape = tape
        self._enabled = False
        self._cbaser = 0
        self._start = self._end = 0  # of the queue
        self._part = b""  # of the command that is being read by doublewords
        self._part_end = 0

    @property
    def ranges(self) -> Sequence[tuple[int, int]]:
        """Return (address, size in bytes) of each stretch that there is."""
        return self._memory.ranges

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes from `gpa` on."""
        data = self._memory.read(gpa, size)
        if self._start <= gpa < self._end:
            self._fetched(gpa - self._start, bytes(data))
        return data

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` from `gpa` on."""
        self._memory.write(gpa, data)

    def _fetched(self, offset: int, data: bytes) -> None:
        at = offset % _COMMAND_SIZE_BYTES
        whole = self._part + data if at and offset == self._part_end else data
        self._part, self._part_end = whole, offset + len(data)
        if len(whole) >= _COMMAND_SIZE_BYTES:
            self._part = b""
        if len(whole) == _COMMAND_SIZE_BYTES == at + len(data):
            self._tape.command(offset - at, _DOUBLEWORDS.unpack(whole))

    # -- where the queue is, by what was written

    def written(self, offset: int, value: int, size: int) -> None:
        """Follow a write to the control frame that says where the queue is.

        A reset does not move it: a device that goes on fetching from it afterwards is seen doing so.
        """
        if offset == _CTLR:
            self._enabled = bool(value & Ctlr.enabled.mask)
        elif offset & ~4 == _CBASER and size in (4, 8) and not self._enabled:
            shift = 8 * (offset - _CBASER)
            mask = ((1 << 8 * size) - 1) << shift
            self._cbaser = self._cbaser & ~mask | value << shift & mask
            self._start = Cbaser.physical_address.get(self._cbaser)
            pages = Cbaser.size.get(self._cbaser) + 1
            self._end = self._start + pages * _PAGE_SIZE_BYTES

    def was_reset(self) -> None:
        """Take CBASER's writes again."""
        self._enabled = False
