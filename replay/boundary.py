"""Where a list of builds changes from good to bad: binary search, with what cannot be judged skipped.

The search asks the two ends first, and trusts that the list changes once. `everything` asks each
build and trusts nothing. Counterparts: `replay.builds`, which judges one, and
`replay.commands.bisect_over`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from replay.ruling import CANNOT, Ruling

Ask = Callable[[int], Ruling]
MAX_BUILDS: Final = 4096


@dataclass(slots=True)
class Search:
    """What was asked, by place in the list, and between which neighbours the answer changes."""

    count: int
    rulings: dict[int, Ruling] = field(default_factory=dict)

    def judged(self) -> list[int]:
        """Return the places that were judged, in order."""
        return sorted(at for at, each in self.rulings.items() if each.word != CANNOT)

    def changes(self) -> list[tuple[int, int]]:
        """Return the judged neighbours that differ; what lies between them was not judged."""
        return [
            (one, other)
            for one, other in pairwise(self.judged())
            if self.rulings[one].word != self.rulings[other].word
        ]


def halving(count: int, ask: Ask) -> Search:
    """Ask the ends, then what lies in the middle of where they differ.

    An end that cannot be judged gives way to its neighbour; a middle that cannot, to the one that
    is nearest to it.
    """
    search = Search(count)
    low = _first(search, ask, range(count))
    high = _first(search, ask, range(count - 1, -1, -1))
    if low is None or high is None or search.rulings[low].word == search.rulings[high].word:
        return search
    while (middle := _middle(search, ask, low, high)) is not None:
        if search.rulings[middle].word == search.rulings[low].word:
            low = middle
        else:
            high = middle
    return search


def everything(count: int, ask: Ask) -> Search:
    """Ask each."""
    search = Search(count)
    for at in range(count):
        search.rulings[at] = ask(at)
    return search


def _first(search: Search, ask: Ask, places: range) -> int | None:
    return next((at for at in places if _is_judged(search, ask, at)), None)


def _middle(search: Search, ask: Ask, low: int, high: int) -> int | None:
    """Return the place between `low` and `high` that is nearest to the middle and can be judged."""
    places = sorted(range(low + 1, high), key=lambda at: abs(2 * at - low - high))
    return next((at for at in places if _is_judged(search, ask, at)), None)


def _is_judged(search: Search, ask: Ask, at: int) -> bool:
    if at not in search.rulings:
        search.rulings[at] = ask(at)
    return search.rulings[at].word != CANNOT
