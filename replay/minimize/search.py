"""Tries smaller scripts on an oracle and keeps the first of them that shows the bug.

Which one is kept never depends on how many are asked at once. Every candidate is asked once: the
answers are kept by the digest of what it is. A script replaces the best one only if it is smaller
by `cost`, so that no oracle, not even one that answers at random, keeps a search going for ever.
Counterparts: `cuts` and `rewrites`, which know what to try, and `journal`, which remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any, Protocol

import msgpack

from replay.minimize.cuts import Cut
from replay.minimize.oracle import Candidate, Oracle
from replay.minimize.script import Script, is_input, lower

Edit = Callable[[Script], Script | None]  # None: there is nothing to edit


class OutOfTime(Exception):
    """No more is to be asked."""


class Answers(Protocol):
    """Remembers what was answered; `replay.minimize.journal` does so beyond this process."""

    def get(self, digest: bytes) -> bool | None:
        """Return what was answered, or None."""

    def put(self, digest: bytes, shows: bool) -> None:  # noqa: FBT001 (an answer)
        """Take an answer in."""


@dataclass(slots=True)
class Count:
    """What was asked."""

    asked: int = 0
    shown: int = 0
    by_pass: dict[str, int] = field(default_factory=dict)  # pass -> items that it removed

    def add(self, before: Count) -> None:
        """Take in what a stage before this one asked."""
        self.asked += before.asked
        self.shown += before.shown
        names = dict.fromkeys([*before.by_pass, *self.by_pass])
        self.by_pass = {
            name: before.by_pass.get(name, 0) + self.by_pass.get(name, 0) for name in names
        }


def cost(script: Script) -> tuple[int, ...]:
    """Return what is to become smaller: inputs, items, bytes of RAM, the VM, then numbers."""
    items = script.items
    header = script.header
    ram = sum(size for _, size in header.ram_ranges or ())
    return (
        sum(map(is_input, items)),
        len(items),
        sum(len(value) for item in items for value in item.event[2:] if isinstance(value, bytes)),
        header.cpus or 0,
        ram,
        sum(weight(value) for item in items for value in item.event[2:]),
    )


def weight(value: Any) -> int:
    """Return how much there is to a number: round and small ones weigh least."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little").bit_count()
    return 64 * value.bit_count() + value.bit_length() if isinstance(value, int) else 0


def digest(candidate: Candidate) -> bytes:
    """Return what a candidate is told by, here and in a later process."""
    header = candidate.header
    packed = msgpack.packb([header.cpus, header.mpidrs, header.ram_ranges, candidate.events])
    return blake2b(packed, digest_size=16).digest()


class Search:
    """The best script so far, and what it took."""

    def __init__(
        self,
        script: Script,
        oracle: Oracle,
        answers: Answers,
        *,
        told: Callable[[str, Script, Count], None] | None = None,
        spent: Callable[[], bool] | None = None,
    ) -> None:
        """`told` hears of every candidate; nothing is asked any more once `spent` says so."""
        self.best = script
        self.count = Count()
        self.shown = False  # whether the best one was seen to show the bug
        self._cost: tuple[int, ...] | None = None  # of the best, once it was needed
        self._oracle = oracle
        self._answers = answers
        self._told = told
        self._spent = spent
        self._pass = ""
        self._seen: set[bytes] = set()

    def begin(self, name: str) -> None:
        """What follows belongs to this pass."""
        self._pass = name

    def try_from(self, script: Script, *, shown: bool = False) -> None:
        """Go on from another script; `shown`: one that is lowered to what showed the bug."""
        self.best, self._cost, self.shown = script, None, shown

    def shows(self, script: Script) -> bool:
        """Return whether a script shows the bug, whatever its size."""
        ((name, shows),) = self._ask([lower(script)])
        self._count(name, shows=shows)
        self.shown = self.shown or shows
        return shows

    def drop(self, cuts: Iterable[Cut]) -> bool:
        """Leave out every cut of the best script that can be; return whether any could."""
        script, gone = self.best, frozenset[int]()
        pending = iter(cuts)
        changed = False
        batch: list[Cut] = []
        while True:
            batch += islice(pending, max(self._oracle.at_once - len(batch), 0))
            if not batch:
                return changed
            tried = [_without(script, gone | cut) if cut - gone else None for cut in batch]
            at = self._first(tried, dropped=True)
            if at is None:
                batch = []
                continue
            gone |= batch[at]
            changed = True
            batch = batch[at + 1 :]

    def rewrite(self, edits: Iterable[Edit]) -> bool:
        """Make every edit of the best script that can be made; return whether any could."""
        pending = iter(edits)
        changed = False
        batch: list[Edit] = []
        while True:
            batch += islice(pending, max(self._oracle.at_once - len(batch), 0))
            if not batch:
                return changed
            at = self._first([edit(self.best) for edit in batch], dropped=False)
            changed = changed or at is not None
            batch = [] if at is None else batch[at + 1 :]

    def _first(self, scripts: Sequence[Script | None], *, dropped: bool) -> int | None:
        """Take the first of the scripts that is smaller and shows the bug; return which it was.

        `dropped`: items were left out of them and nothing else was done, so they are smaller.
        """
        worth = [
            at for at, each in enumerate(scripts) if each and (dropped or self._is_smaller(each))
        ]
        answers = self._ask([lower(script) for at in worth if (script := scripts[at])])
        for at, (name, shows) in zip(worth, answers, strict=True):
            self._count(name, shows=shows)
            if shows:
                self._accept(scripts[at])
                return at
        return None

    def _is_smaller(self, script: Script) -> bool:
        if self._cost is None:
            self._cost = cost(self.best)
        return cost(script) < self._cost

    def _accept(self, script: Script | None) -> None:
        assert script is not None
        removed = len(self.best.items) - len(script.items)
        self.count.by_pass[self._pass] = self.count.by_pass.get(self._pass, 0) + removed
        self.best, self._cost, self.shown = script, None, True

    def _count(self, name: bytes, *, shows: bool) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        self.count.asked += 1
        self.count.shown += shows
        if self._told:
            self._told(self._pass, self.best, self.count)

    def _ask(self, candidates: Sequence[Candidate]) -> list[tuple[bytes, bool]]:
        """Return each one's digest and whether it shows the bug; what was asked is not again."""
        digests = [digest(each) for each in candidates]
        new = [at for at, each in enumerate(digests) if self._answers.get(each) is None]
        if new:
            if self._spent and self._spent():
                raise OutOfTime
            asked = self._oracle.shows([candidates[at] for at in new])
            for at, shows in zip(new, asked, strict=True):
                self._answers.put(digests[at], shows)
        return [(each, bool(self._answers.get(each))) for each in digests]


def _without(script: Script, gone: frozenset[int]) -> Script:
    return script.but(item for at, item in enumerate(script.items) if at not in gone)


def remaining(script: Script) -> Iterator[Candidate]:
    """Yield the script without each of its items, for whoever wants to know why it stays."""
    for at in range(len(script.items)):
        yield lower(_without(script, frozenset((at,))))
