"""Guest RAM as a sparse map of 32-bit words.

A word is known or unknown. With `complete=True` everything that nobody wrote is known to be
zero; otherwise a load of it answers None, because unknown is not zero. Nothing here is sized by a
number that a guest chose: the map holds only what was stored.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import pack, unpack
from typing import TYPE_CHECKING

from replay.model.touched import Touched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WORD_MASK = 0xFFFF_FFFF
_WHOLE = 0b1111
_PROBE_WORDS = 64
_EVERYWHERE = 1 << 64

RamSnapshot = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


class GuestRam:
    """Guest physical memory behind a set of memory slots.

    Attributes:
        slots: (base, size) of each memory slot, in bytes, sorted by base; None when it is not
            known where RAM is: everything is then taken to be backed.
        complete: whether every write that matters was seen, so that "never written" means zero.
        changes: a count that grows with whatever may change what a load gives.
    """

    __slots__ = (
        "_first", "_last", "_partial", "_sorted", "changes", "complete", "slots", "stored", "words",
    )  # fmt: skip

    def __init__(
        self, slots: Iterable[tuple[int, int]] | None = None, *, complete: bool = True
    ) -> None:
        self.slots = None if slots is None else tuple(sorted(slots))
        self.complete = complete
        self.changes = 0
        self.words: dict[int, int] = {}
        # Where is noted which words were stored, while somebody asks.
        self.stored: Touched | None = None
        # Bytes known of a word that is not wholly known. Always empty when complete.
        self._partial: dict[int, int] = {}
        self._sorted: list[int] | None = None
        self._first, self._last = self._largest_run()

    def _largest_run(self) -> tuple[int, int]:
        """Return the bounds of the largest slot, which answers most of `backed`."""
        if self.slots is None:
            return (0, _EVERYWHERE)
        if not self.slots:
            return (0, 0)
        base, size = max(self.slots, key=lambda slot: slot[1])
        return (base, base + size)

    def backed(self, gpa: int, size: int = 1) -> bool:
        """Say whether memory slots cover `size` bytes at `gpa` without a hole."""
        end = gpa + size
        if self._first <= gpa and end <= self._last:
            return True
        return self.backed_until(gpa) >= end

    def backed_until(self, gpa: int) -> int:
        """Return the first address from `gpa` on that no slot covers (`gpa` itself if none)."""
        if self.slots is None:
            return max(gpa, _EVERYWHERE)
        for base, size in self.slots:
            if base <= gpa < base + size:
                gpa = base + size
        return gpa

    def add_slot(self, base: int, size: int) -> None:
        """Make `size` bytes at `base` RAM."""
        self.slots = tuple(sorted((*(self.slots or ()), (base, size))))
        self._first, self._last = self._largest_run()
        self.changes += 1

    def remove_slot(self, base: int, size: int) -> None:
        """Take a slot away; its contents go with it."""
        self.slots = tuple(slot for slot in self.slots or () if slot != (base, size))
        self._first, self._last = self._largest_run()
        for key in [key for key in self.words if base <= key << 2 < base + size]:
            del self.words[key]
            self._partial.pop(key, None)
        self._sorted = None
        self.changes += 1  # a slot goes
        if self.stored is not None:
            self.stored.whole = True

    def load8(self, gpa: int) -> int | None:
        """Return the byte at `gpa`, or None when it is unknown."""
        key = gpa >> 2
        lane = gpa & 3
        word = self.words.get(key)
        if word is None:
            return 0 if self.complete else None
        if self._partial and not self._partial.get(key, _WHOLE) & (1 << lane):
            return None
        return word >> (8 * lane) & 0xFF

    def load32(self, gpa: int) -> int | None:
        """Return the little-endian word at `gpa` (4-byte aligned), or None when unknown."""
        key = gpa >> 2
        if self._partial and key in self._partial:
            return None
        return self.words.get(key, 0 if self.complete else None)

    def load64(self, gpa: int) -> int | None:
        """Return the little-endian doubleword at `gpa`, or None when part of it is unknown."""
        if gpa & 3:
            data = self.load_bytes(gpa, 8)
            return None if data is None else int.from_bytes(data, "little")
        if self.complete:
            key = gpa >> 2
            get = self.words.get
            return get(key, 0) | get(key + 1, 0) << 32
        if not self._partial:
            low, high = self.words.get(gpa >> 2), self.words.get((gpa >> 2) + 1)
        else:
            low, high = self.load32(gpa), self.load32(gpa + 4)
        return None if low is None or high is None else low | high << 32

    def store8(self, gpa: int, value: int) -> None:
        """Store one byte."""
        key = gpa >> 2
        shift = 8 * (gpa & 3)
        if not self.complete:
            known = _WHOLE if key in self.words else 0
            known = self._partial.pop(key, known) | 1 << (gpa & 3)
            if known != _WHOLE:
                self._partial[key] = known
        word = self.words.get(key, 0) & ~(0xFF << shift) | (value & 0xFF) << shift
        self._put(key, word)
        if self.stored is not None:
            self.stored.words.add(key)

    def store32(self, gpa: int, value: int) -> None:
        """Store a little-endian word at a 4-byte aligned address."""
        if self._partial:
            self._partial.pop(gpa >> 2, None)
        self._put(gpa >> 2, value & _WORD_MASK)
        if self.stored is not None:
            self.stored.words.add(gpa >> 2)

    def store64(self, gpa: int, value: int) -> None:
        """Store a little-endian doubleword."""
        if gpa & 3:
            self.store_bytes(gpa, value.to_bytes(8, "little"))
            return
        self.store32(gpa, value)
        self.store32(gpa + 4, value >> 32)

    def store_bytes(self, gpa: int, data: bytes) -> None:
        """Store bytes at any address."""
        position, end = 0, len(data)
        if not self._partial and not (gpa | end) & 3:
            for key, word in enumerate(unpack(f"<{end >> 2}I", data), gpa >> 2):
                self._put(key, word)
            if self.stored is not None:
                self.stored.words.update(range(gpa >> 2, gpa + end >> 2))
            return
        while position < end:
            if not (gpa + position) & 3 and end - position >= 4:
                word = int.from_bytes(data[position : position + 4], "little")
                self.store32(gpa + position, word)
                position += 4
            else:
                self.store8(gpa + position, data[position])
                position += 1

    def _put(self, key: int, word: int) -> None:
        """Store a word. Complete RAM keeps no zeros, so that equal contents are equal maps."""
        self.changes += 1  # a word
        if word or not self.complete:
            if key not in self.words:
                self._sorted = None
            self.words[key] = word
        else:
            self.words.pop(key, None)
            self._sorted = None

    def load_bytes(self, gpa: int, size: int) -> bytes | None:
        """Return `size` bytes from `gpa`, or None when one of them is unknown."""
        if self.complete and not self._partial and not (gpa | size) & 3:
            get, first = self.words.get, gpa >> 2
            keys = range(first, first + (size >> 2))
            return pack(f"<{len(keys)}I", *[get(key, 0) for key in keys])
        found = bytearray()
        for at in range(gpa, gpa + size):
            byte = self.load8(at)
            if byte is None:
                return None
            found.append(byte)
        return bytes(found)

    def in_order(self) -> list[int]:
        """Return the keys of the words that are kept, sorted; not to be changed."""
        if self._sorted is None:
            self._sorted = sorted(self.words)
        return self._sorted

    def partly_known(self) -> dict[int, int]:
        """Return key -> known bytes of each word that is not wholly known."""
        return dict(self._partial)

    def touched(self, start: int, end: int) -> Iterator[int]:
        """Yield the addresses of the words in `start`..`end` that are kept, in order."""
        keys = self.in_order()
        for at in range(bisect_left(keys, start >> 2), len(keys)):
            if keys[at] << 2 >= end:
                return
            yield keys[at] << 2

    def next_word(self, gpa: int, end: int) -> int | None:
        """Return the lowest address in [gpa, end) that holds a word other than zero, or None.

        Unknown words count as zero. The cost does not depend on the length of the range.
        """
        first, last = gpa >> 2, end + 3 >> 2
        words = self.words
        for key in range(first, min(last, first + _PROBE_WORDS)):
            if words.get(key):
                return key << 2
        found = min((k for k, v in words.items() if first <= k < last and v), default=None)
        return None if found is None else found << 2

    def nonzero64(self, gpa: int, count: int) -> list[tuple[int, int]]:
        """Return (index, value) of each of `count` doublewords from `gpa` on that is not 0."""
        base = gpa >> 2
        words = self.words
        if len(words) < 2 * count:
            keys = {k - base >> 1 for k in words if base <= k < base + 2 * count}
            indexes: Iterable[int] = sorted(keys)
        else:
            indexes = range(count)
        get = words.get
        rows = []
        for index in indexes:
            key = base + 2 * index
            value = get(key, 0) | get(key + 1, 0) << 32
            if value:
                rows.append((index, value))
        return rows

    def snapshot(self) -> RamSnapshot:
        """Return the contents as plain tuples, sorted by address."""
        return tuple(sorted(self.words.items())), tuple(sorted(self._partial.items()))

    def restore(self, snapshot: RamSnapshot) -> None:
        """Take the contents of a snapshot; the slots stay."""
        words, partial = snapshot
        if self.stored is not None:
            self.stored.whole = True
        self._sorted = None
        self.changes += 1
        self.words = dict(words)
        self._partial = dict(partial)
