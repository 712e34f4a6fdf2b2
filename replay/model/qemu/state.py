"""The state of one QEMU ITS and its redistributors, as plain numbers.

Counterparts: GICv3ITSState (registers and the descriptors derived from them when the ITS is
enabled) and GICv3CPUState (the LPI part).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

MAX_READS: Final = 1 << 14  # entries that are kept of those that were read


@dataclass(slots=True)
class TableDesc:
    """What QEMU derives from a BASER on enabling; it is not cleared by a reset."""

    base: int = 0
    entries: int = 0
    page_size: int = 0
    entry_size: int = 8
    indirect: int = 0


@dataclass(slots=True)
class Queue:
    """What QEMU derives from CBASER on enabling."""

    base: int = 0
    entries: int = 0


class ItsState:
    """Registers as the guest reads them, plus the derived descriptors."""

    __slots__ = ("baser", "cbaser", "creadr", "ct", "ctlr", "cwriter", "dt", "queue", "vpet")

    def __init__(self) -> None:
        self.ctlr = 0
        self.cbaser = 0
        self.cwriter = 0
        self.creadr = 0
        self.baser = [0] * 8
        self.dt = TableDesc()
        self.ct = TableDesc()
        self.vpet = TableDesc()
        self.queue = Queue()

    def snapshot(self) -> tuple[Any, ...]:
        """Return everything as nested tuples of numbers."""
        return (
            self.ctlr, self.cbaser, self.cwriter, self.creadr, tuple(self.baser),
            values_of(self.dt),
            values_of(self.ct),
            values_of(self.vpet),
            values_of(self.queue),
        )  # fmt: skip

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Return to `snapshot`."""
        self.ctlr, self.cbaser, self.cwriter, self.creadr, baser, dt, ct, vpet, queue = snapshot
        self.baser = list(baser)
        self.dt, self.ct, self.vpet = TableDesc(*dt), TableDesc(*ct), TableDesc(*vpet)
        self.queue = Queue(*queue)


@dataclass(slots=True)
class Redistributor:
    """The LPI registers of one CPU."""

    ctlr: int = 0
    propbaser: int = 0
    pendbaser: int = 0
    vpropbaser: int = 0
    vpendbaser: int = 0
    # The best pending enabled vLPI of the vPE that is resident; no register shows it until that
    # vPE leaves, when PendingLast tells whether there was one.
    best_vlpi: int = 0
    best_priority: int = 0xFF


class Reads:
    """What reads of table entries gave: (effect, entry), each by what it was looked up with.

    They hold until RAM changes, or what is known of it does (`changes` of `GuestRam`).
    """

    __slots__ = ("changes", "count", "ctes", "dtes", "ites")

    def __init__(self) -> None:
        self.changes = 0
        self.count = 0
        self.dtes: dict[int, tuple[Any, ...]] = {}
        self.ctes: dict[int, tuple[Any, ...]] = {}
        self.ites: dict[int, dict[int, tuple[Any, ...]]] = {}  # by ITT address and EventID

    def forget(self, changes: int) -> None:
        """All may have changed; `changes` is now."""
        self.changes = changes
        self.count = 0
        self.dtes.clear()
        self.ctes.clear()
        self.ites.clear()

    def one_more(self) -> None:
        """An entry is read that is not kept, and will be."""
        self.count += 1
        if self.count > MAX_READS:
            self.forget(self.changes)


def values_of(item: TableDesc | Queue | Redistributor) -> tuple[int, ...]:
    """Return the fields in order."""
    return tuple(getattr(item, f.name) for f in fields(item))
