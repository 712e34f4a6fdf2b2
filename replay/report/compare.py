"""Two traces for one page: where they differ, and which event of one is which of the other.

Counterparts: `replay.diff`, which aligns them, and assets/diff.js, which shows both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from replay.diff import Diff, Difference
from replay.diff_items import Item, Items, ignored
from replay.report.columns import Block, document
from tracer.log.opening import AnyReader

MAX_DIFFERENCES: Final = 100  # that a page lists
_MAX_LISTED: Final = 200  # events of one side of a difference
_ORDER: Final = "device"  # as `itstrace diff` has it by default


class Paired(Diff):
    """A comparison that notes which events were the same."""

    def __init__(self, a: Iterator[Item], b: Iterator[Item]) -> None:
        super().__init__(a, b, most=MAX_DIFFERENCES)
        self.pairs: list[tuple[int, int]] = []

    def _agree(self, lane: Any, a: Item, b: Item) -> None:
        self.pairs.append((a.seq, b.seq))
        super()._agree(lane, a, b)


def compared(one: AnyReader, other: AnyReader) -> dict[str, bytes]:
    """Return name -> bytes of what a page shows of two traces beside the traces themselves."""
    ignore = ignored("", "")
    diff = Paired(_items(one, ignore), _items(other, ignore))
    found = diff.run()
    pairs = sorted(diff.pairs)
    block = Block()
    columns = [block.numbers([pair[side] for pair in pairs]) for side in range(2)]
    told = {
        "differences": [_difference(each) for each in found],
        "same": found[0].same if found else diff.same,
        "whole": len(found) < MAX_DIFFERENCES,
        "renamed": len(diff.renaming),
        "ignored": sorted(ignore),
    }
    return {
        "differences": document(told),
        "pairs": block.packed({"pairs": [len(pairs), *columns]}),
    }


def _items(reader: AnyReader, ignore: frozenset[str]) -> Iterator[Item]:
    items = Items(ignore, _ORDER)
    for first_seq, events in reader:
        if reader.status == "damaged":
            break
        for seq, event in enumerate(events, first_seq):
            yield from items.of(seq, event)
    yield from items.end()


def _difference(each: Difference) -> dict[str, Any]:
    """Return a difference as numbers of events: the page knows how they read."""
    return {
        "what": each.what,
        "a": [item.seq for item in each.a[:_MAX_LISTED]],
        "b": [item.seq for item in each.b[:_MAX_LISTED]],
        "before": [[a.seq, b.seq] for a, b in each.before],
        "names": [line for name in each.names for line in _names(*name)],
    }


def _names(space: Any, a: int, to_b: int | None, b: int, to_a: int | None) -> Iterator[str]:
    """Say what the names in a difference are bound to, where that is not to each other."""
    word = space[0] if isinstance(space, tuple) else space
    if to_b is not None and to_b != b:
        yield f"{word}: {a:#x} of A is {to_b:#x} of B"
    if to_a is not None and to_a != a:
        yield f"{word}: {b:#x} of B is {to_a:#x} of A"
