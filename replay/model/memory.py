"""Guest RAM, sparse and by 32-bit words: what is known of it and what is not.

With complete RAM (nobody but the trace writes it) a word never written is zero. With observed RAM
it is unknown, None, and stays so until something shows it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

MASK32 = 0xFFFF_FFFF


class GuestRam:
    """Words keyed by guest physical address >> 2; nothing is allocated for what was not touched."""

    __slots__ = ("_sorted", "complete", "slots", "words")

    def __init__(
        self, slots: tuple[tuple[int, int], ...] | None = None, *, complete: bool = True
    ) -> None:
        """`slots` are (base, size) in bytes; None means that where RAM is is not known."""
        self.slots = slots
        self.complete = complete
        self.words: dict[int, int] = {}
        self._sorted: list[int] | None = None

    def backed(self, gpa: int, size: int = 1) -> bool:
        """Return whether all of `gpa`..`gpa + size` is RAM; assumed where slots are not known."""
        if self.slots is None:
            return True
        return any(base <= gpa and gpa + size <= base + length for base, length in self.slots)

    def add_slot(self, base: int, size: int) -> None:
        """Make `size` bytes at `base` RAM."""
        self.slots = (*(self.slots or ()), (base, size))

    def remove_slot(self, base: int, size: int) -> None:
        """Take a slot away; its contents go with it."""
        self.slots = tuple(slot for slot in self.slots or () if slot != (base, size))
        self._sorted = None
        for key in [key for key in self.words if base <= key << 2 < base + size]:
            del self.words[key]

    def load32(self, gpa: int) -> int | None:
        """Return the word at `gpa` (4-byte aligned), or None when it is unknown."""
        word = self.words.get(gpa >> 2)
        return 0 if word is None and self.complete else word

    def load64(self, gpa: int) -> int | None:
        """Return the doubleword at `gpa`, or None when part of it is unknown."""
        if gpa & 3:
            data = self.load_bytes(gpa, 8)
            return None if data is None else int.from_bytes(data, "little")
        words = self.words
        key = gpa >> 2
        low = words.get(key)
        high = words.get(key + 1)
        if low is None or high is None:
            if not self.complete:
                return None
            return (low or 0) | (high or 0) << 32
        return low | high << 32

    def load8(self, gpa: int) -> int | None:
        """Return the byte at `gpa`, or None when it is unknown."""
        word = self.load32(gpa)
        return None if word is None else word >> (gpa & 3) * 8 & 0xFF

    def store32(self, gpa: int, value: int) -> None:
        """Store a word at `gpa` (4-byte aligned)."""
        self.words[gpa >> 2] = value & MASK32
        self._sorted = None

    def store64(self, gpa: int, value: int) -> None:
        """Store a doubleword at `gpa`."""
        if gpa & 3:
            self.store_bytes(gpa, value.to_bytes(8, "little"))
            return
        key = gpa >> 2
        self.words[key] = value & MASK32
        self.words[key + 1] = value >> 32 & MASK32
        self._sorted = None

    def store8(self, gpa: int, value: int) -> None:
        """Store a byte; in observed RAM a word that is not wholly known stays unknown."""
        word = self.load32(gpa)
        if word is not None:
            shift = (gpa & 3) * 8
            self.store32(gpa, word & ~(0xFF << shift) | (value & 0xFF) << shift)

    def store_bytes(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`."""
        at, end = gpa, gpa + len(data)
        while at < end:
            if at & 3 == 0 and end - at >= 4:
                self.store32(at, int.from_bytes(data[at - gpa : at - gpa + 4], "little"))
                at += 4
            else:
                self.store8(at, data[at - gpa])
                at += 1

    def load_bytes(self, gpa: int, size: int) -> bytes | None:
        """Return `size` bytes from `gpa`, or None when one of them is unknown."""
        found = bytearray()
        for at in range(gpa & ~3, gpa + size, 4):
            word = self.load32(at)
            if word is None:
                return None
            found += word.to_bytes(4, "little")
        return bytes(found[gpa & 3 : (gpa & 3) + size])

    def touched(self, start: int, end: int) -> Iterator[int]:
        """Yield the addresses of words in `start`..`end` that were ever stored, in order."""
        if self._sorted is None:
            self._sorted = sorted(self.words)
        keys = self._sorted
        for at in range(bisect_left(keys, start >> 2), len(keys)):
            if keys[at] << 2 >= end:
                return
            yield keys[at] << 2

    def snapshot(self) -> tuple[Any, ...]:
        """Return everything, to be given to `restore`."""
        return self.slots, self.complete, self.words.copy()

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Return to `snapshot`."""
        self.slots, self.complete, words = snapshot
        self.words = words.copy()
        self._sorted = None
