"""`minimize`: from coarse cuts to single items until none can go, and then proves that.

The order of passes is the table here. Every pass only makes the script smaller, so the end is
reached; the last sweep tries every item that is left alone, and finds that none can go.
Counterparts: `search`, which tries, and `oracle`, which answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from replay.minimize import cuts
from replay.minimize.items import Item
from replay.minimize.journal import Journal
from replay.minimize.oracle import Candidate, Oracle
from replay.minimize.rewrites import MACHINE, REWRITES, machine
from replay.minimize.script import Script, lift, lower
from replay.minimize.search import Count, OutOfTime, Search, remaining
from tracer.errors import UsageError

MAX_BOOTS: Final = 16  # that are tried alone
MAX_PAIRS: Final = 40  # items of a script of which every two are tried together

Told = Callable[[str, Script, Count], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """An item that stays, and what the signature became without it, where that is known."""

    item: Item
    without: str | None


@dataclass(slots=True)
class Result:
    """The smallest candidate that was found, and what it took."""

    candidate: Candidate
    script: Script
    minimal: bool  # the last sweep was done, and nothing could go
    count: Count
    before: int  # items


def minimize(
    candidate: Candidate,
    oracle: Oracle,
    *,
    journal: Journal | None = None,
    progress: Told | None = None,
    spent: Callable[[], bool] | None = None,
) -> Result:
    """Return the smallest candidate that shows what `candidate` shows, by the oracle's word.

    `spent` is asked before every question: once it says so, what there is by then is returned.

    Raises:
        UsageError: the candidate does not show it in the first place.
    """
    answers = journal or Journal()
    search = Search(_whole(candidate), oracle, answers, told=progress, spent=spent)
    before = len(search.best.items)
    minimal = False
    try:
        _begin(search, candidate, oracle)
        _coarse(search, oracle)
        _fine(search)
        minimal = True
    except OutOfTime:
        if not search.shown:
            search.best = _whole(candidate)
    return Result(lower(search.best), search.best, minimal, search.count, before)


def _whole(candidate: Candidate) -> Script:
    """Return a candidate as a script that is lowered to what it was."""
    return lift(candidate, outputs=True, commands=False)


def _begin(search: Search, candidate: Candidate, oracle: Oracle) -> None:
    """Leave out what is behind the signature, and far before it; take the queue apart.

    Of most scripts this tries much smaller ones first. Only if none of them shows the signature is
    a large one asked about.
    """
    about = getattr(oracle, "about", None)
    at = None if about is None else about(candidate)
    before = len(search.best.items)
    if _in_one_boot(search, candidate, oracle, before):
        return
    for events in (candidate.events[: None if at is None else at + 1], candidate.events):
        for commands in (True, False):
            script = lift(candidate._replace(events=events), outputs=True, commands=commands)
            search.try_from(script)
            search.begin("long before")
            search.drop(cuts.ends(script))
            if search.shown or search.shows(script):
                search.count.by_pass["behind the signature"] = max(before - len(script.items), 0)
                return
    raise UsageError(f"this trace does not show {oracle.signature} in the first place")


def _in_one_boot(search: Search, candidate: Candidate, oracle: Oracle, before: int) -> bool:
    """Begin with one boot alone, up to a place that shows the signature; the shortest one first."""
    places = getattr(oracle, "places", None)
    search.begin("other boots")
    found = [] if places is None else cuts.boots_up_to(candidate, places(candidate))
    for boot in found[:MAX_BOOTS]:
        search.try_from(lift(boot, outputs=True))
        if search.shows(search.best):
            search.count.by_pass["other boots"] = before - len(search.best.items)
            return True
    return False


def _coarse(search: Search, oracle: Oracle) -> None:
    """Leave out what the oracle knows to be of no concern, then groups of items."""
    about = getattr(oracle, "about", None)
    if about is not None and (at := _item_at(search.best, about(lower(search.best)))) is not None:
        search.begin("questions")
        search.drop([cuts.idle(search.best, at)])
        concerns = getattr(oracle, "concerns", None)
        if concerns is not None and (names := concerns(lower(search.best))):
            search.begin("strangers")
            search.drop(cuts.unconcerned(search.best, names))
    for group in cuts.GROUPS:
        search.begin(group.name)
        search.drop(cuts.halved(group.units(search.best)))
    search.begin(MACHINE)
    search.rewrite(machine(search.best))  # a VM with fewer CPUs is replayed faster


def _item_at(script: Script, seq: int | None) -> int | None:
    """Return the item that became event `seq` when it was lowered."""
    if seq is None:
        return None
    low, high = 0, len(script.items)
    while low < high:
        middle = (low + high) // 2
        if len(lower(script.but(script.items[: middle + 1])).events) > seq:
            high = middle
        else:
            low = middle + 1
    return low if low < len(script.items) else None


def _fine(search: Search) -> None:
    """Leave out and simplify single items until neither can be done any more."""
    search.begin("single items")
    search.drop(cuts.halved(cuts.single(search.best)))
    while True:
        changed = _until_still(search, lambda: search.drop(_backwards(search.best)))
        for name, edits in REWRITES:
            search.begin(name)
            changed = search.rewrite(edits(search.best)) or changed
        if not changed and len(search.best.items) <= MAX_PAIRS:
            search.begin("pairs")
            changed = search.drop(cuts.pairs(search.best))
        search.begin("single items")
        if not changed and not _as_written(search):
            return


def _as_written(search: Search) -> bool:
    """Leave out single events of the trace as it is written, its queue not laid anew."""
    candidate = lower(search.best)
    search.try_from(lift(candidate, outputs=True, commands=False), shown=True)
    changed = search.drop(_backwards(search.best))
    again = lift(lower(search.best), outputs=True)
    if lower(again) == lower(search.best):
        search.try_from(again, shown=True)
    return changed


def _backwards(script: Script) -> Sequence[cuts.Cut]:
    return cuts.single(script)[::-1]


def _until_still(search: Search, step: Callable[[], bool]) -> bool:
    changed = False
    while step():
        changed = True
    return changed


def why(result: Result, oracle: Oracle) -> Iterator[Kept]:
    """Yield every item of the result with what its absence makes of the signature."""
    became = getattr(oracle, "became", None)
    if not result.minimal:
        became = None  # nobody knows yet whether it can go
    for item, without in zip(result.script.items, remaining(result.script), strict=True):
        yield Kept(item, None if became is None else became(without))
