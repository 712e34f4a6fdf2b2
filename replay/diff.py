"""Two traces of what should be the same boot, aligned by meaning, and where they first differ.

Both are read once, side by side. Items of one lane (a device's commands, a redistributor's
registers) must come in the same order; lanes may interleave within a window. After a difference the
lane is aligned anew within the window. A reset is a line that nothing crosses.

Counterparts: `replay.diff_items` (what is compared), `replay.diff_names` (the renaming).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from replay.diff_items import Item
from replay.diff_names import Name, Renaming
from tracer.events import NUMBER

WINDOW: Final = 256  # items of one side that may wait for the other
CONTEXT: Final = 3
MAX_LANES: Final = 1024  # that are kept although nothing waits in them
_RUN: Final = 16  # items that are looked at behind a place where a lane may go on
_ENOUGH: Final = 3  # of them that must be the same
_LOOK_EVERY: Final = 64
_RESET: Final = NUMBER["reset"]

ONLY_A: Final = "only in A"
ONLY_B: Final = "only in B"
CHANGED: Final = "changed"
RENAMED: Final = "named otherwise"


@dataclass(slots=True)
class Difference:
    """One place where the two differ, with what stands around it in its lane."""

    what: str
    a: list[Item]
    b: list[Item]
    at: int  # how many items of its side stand before it
    before: list[tuple[Item, Item]]
    after_a: list[Item]
    after_b: list[Item]
    names: list[tuple[Any, int, int | None, int, int | None]]  # space, a, bound to, b, bound to
    same: int  # items that were the same until this was found


@dataclass(slots=True)
class Waiting:
    """An item that waits, and how many of its side came before it."""

    item: Item
    at: int


@dataclass(slots=True)
class Lane:
    """What waits in one lane, on either side, and what was the same last."""

    a: deque[Waiting] = field(default_factory=deque)
    b: deque[Waiting] = field(default_factory=deque)
    before: deque[tuple[Item, Item]] = field(default_factory=lambda: deque(maxlen=CONTEXT))


@dataclass(slots=True)
class Side:
    """One trace as it is read."""

    items: Iterator[Item]
    count: int = 0  # items taken in
    waiting: int = 0
    barrier: Item | None = None  # the reset that waits for the other side's
    ahead: deque[Item] = field(default_factory=deque)  # read behind it, to see what it is
    done: bool = False

    def next(self) -> Item | None:
        """Return the next item, None at the end."""
        return self.ahead.popleft() if self.ahead else next(self.items, None)

    def look(self, count: int) -> list[Item]:
        """Return the next items without taking them in, at most `count`."""
        while len(self.ahead) < count and (item := next(self.items, None)) is not None:
            self.ahead.append(item)
        return list(self.ahead)[:count]


class Diff:
    """Compares two streams of items."""

    def __init__(
        self, a: Iterator[Item], b: Iterator[Item], *, window: int = WINDOW, most: int = 1
    ) -> None:
        """`most`: so many differences are looked for."""
        self.renaming = Renaming()
        self.same = 0
        self.last: tuple[Item, Item] | None = None  # the last that were the same before all else
        self.found: list[Difference] = []
        self.most = most
        self._window = window
        self._a, self._b = Side(a), Side(b)
        self._lanes: dict[Any, Lane] = {}

    def run(self) -> list[Difference]:
        """Return the differences, the first first, at most as many as are looked for."""
        until = -1
        pushes = 0
        while not (self._a.done and self._b.done):
            self._step()
            pushes += 1
            if pushes % _LOOK_EVERY == 0:
                self._expire()
            if len(self.found) >= self.most:
                # Another lane may hold an earlier one that is not told yet.
                until = pushes + 2 * self._window if until < 0 else until
                if pushes > until:
                    break
        else:
            self._drain()
        self.found.sort(key=lambda each: (each.at, each.what))
        self.found = list(_joined(self.found))
        return self.found[: self.most]

    # -- reading

    def _step(self) -> None:
        """Read one item, of the side that is behind."""
        a, b = self._a, self._b
        for one, other in ((a, b), (b, a)):
            if one.barrier is None:
                continue
            late = other.done or other.waiting >= self._window
            if late or (other.barrier and self._goes_past(one, other)):
                self._only(one, one.barrier)
                one.barrier = None
                return
        if a.barrier and b.barrier:
            self._pass_barrier()
            return
        stopped = a.done or a.barrier is not None
        if stopped or (not b.done and not b.barrier and b.waiting < a.waiting):
            self._read(b)
        else:
            self._read(a)

    def _goes_past(self, one: Side, other: Side) -> bool:
        """Return whether what waits of the other side stands behind the reset of this one."""
        if one.waiting or not other.waiting:
            return False
        of_other = 0 if other is self._a else 1
        waiting = [each for lane in self._lanes.values() for each in (lane.a, lane.b)[of_other]]
        waiting.sort(key=lambda each: each.at)
        behind = [item for item in one.look(_ENOUGH) if item.event[0] != _RESET]
        return 0 < len(behind) <= len(waiting) and all(
            ours.shape == theirs.item.shape for ours, theirs in zip(behind, waiting, strict=False)
        )

    def _read(self, side: Side) -> None:
        item = side.next()
        if item is None:
            side.done = True
            return
        if item.event[0] == _RESET:
            side.barrier = item
            return
        lane = self._lanes.get(item.lane)
        if lane is None:
            lane = self._lanes[item.lane] = Lane()
        (lane.a if side is self._a else lane.b).append(Waiting(item, side.count))
        side.count += 1
        side.waiting += 1
        self._match(lane)

    def _pass_barrier(self) -> None:
        """Both stand at a reset: nothing crosses it, and every name is free behind it."""
        self._drain()
        a, b = self._a.barrier, self._b.barrier
        assert a is not None
        assert b is not None
        self._a.barrier = self._b.barrier = None
        if a.shape == b.shape:
            self._agree(Lane(), a, b)
        else:
            self._add(Lane(), CHANGED, [a], [b], max(self._a.count, self._b.count))
        self._a.count += 1
        self._b.count += 1
        self.renaming.clear()
        self._lanes.clear()

    def _only(self, side: Side, item: Item) -> None:
        what = ONLY_A if side is self._a else ONLY_B
        a, b = ([item], []) if what == ONLY_A else ([], [item])
        self._add(Lane(), what, a, b, side.count)
        side.count += 1

    # -- one lane

    def _match(self, lane: Lane) -> None:
        """Take off what is the same on both sides; align anew what has waited long enough."""
        while lane.a and lane.b:
            a, b = lane.a[0].item, lane.b[0].item
            if a.shape == b.shape and self.renaming.agrees(a.names, b.names):
                self._agree(lane, a, b)
                self._pop(lane, 1, 1)
            elif min(len(lane.a), len(lane.b)) > self._lookahead:
                self._align(lane)
            else:
                return

    @property
    def _lookahead(self) -> int:
        return min(self._window // 2, 4 * _RUN)

    def _agree(self, lane: Lane, a: Item, b: Item) -> None:
        self.same += 1
        if not self.found:
            self.last = (a, b)
        lane.before.append((a, b))
        for holder in a.drops:
            self.renaming.release(holder)
        if a.names:
            self.renaming.take(a.names, b.names)

    def _pop(self, lane: Lane, count_a: int, count_b: int) -> tuple[list[Item], list[Item]]:
        self._a.waiting -= count_a
        self._b.waiting -= count_b
        return (
            [lane.a.popleft().item for _ in range(count_a)],
            [lane.b.popleft().item for _ in range(count_b)],
        )

    def _align(self, lane: Lane) -> None:
        """Say what differs at the head of a lane, up to where it goes on."""
        a, b = [each.item for each in lane.a], [each.item for each in lane.b]
        skip_a, skip_b = self._goes_on(a, b)
        at = min(side[0].at for side, skip in ((lane.a, skip_a), (lane.b, skip_b)) if skip)
        gone_a, gone_b = self._pop(lane, skip_a, skip_b)
        what = CHANGED if gone_a and gone_b else ONLY_A if gone_a else ONLY_B
        if skip_a == skip_b == 1 and a[0].shape == b[0].shape:
            what = RENAMED
        self._add(lane, what, gone_a, gone_b, at)
        if what == RENAMED:
            self.renaming.rebind(a[0].names, b[0].names)

    def _goes_on(self, a: list[Item], b: list[Item]) -> tuple[int, int]:
        """Return how many items to leave out on each side, so that what follows is the same."""
        for cost in range(1, max(len(a), len(b)) + 1):
            best, places = 0, (0, 0)
            for i, j in _places(cost, len(a), len(b)):
                run = self._run(a, b, i, j)
                ends = min(len(a) - i, len(b) - j)
                if run > best and run >= min(_ENOUGH, ends):
                    best, places = run, (i, j)
            if best:
                return places
        return len(a), len(b)

    def _run(self, a: list[Item], b: list[Item], i: int, j: int) -> int:
        """Return how many items are the same from there on."""
        run = 0
        while run < _RUN and i + run < len(a) and j + run < len(b):
            one, other = a[i + run], b[j + run]
            if one.shape != other.shape or not self.renaming.agrees(one.names, other.names):
                break
            run += 1
        return run

    # -- differences

    def _add(self, lane: Lane, what: str, a: list[Item], b: list[Item], at: int) -> None:
        names = [*_used(self.renaming, a, b)]
        self.found.append(
            Difference(
                what, a, b, at, list(lane.before),
                [each.item for each in list(lane.a)[:CONTEXT]],
                [each.item for each in list(lane.b)[:CONTEXT]],
                names, self.same,
            )
        )  # fmt: skip

    def _expire(self) -> None:
        """What has waited for longer than the window is not coming."""
        if len(self._lanes) > MAX_LANES:
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane.a or lane.b}
        for lane in list(self._lanes.values()):
            for mine, side in ((lane.a, self._a), (lane.b, self._b)):
                if mine and (side.count - mine[0].at > self._window or side.waiting > self._window):
                    self._align(lane)
                    self._match(lane)
                    break

    def _drain(self) -> None:
        """Nothing more comes on either side: what waits differs."""
        for lane in sorted(self._lanes.values(), key=_head):
            self._match(lane)
            while lane.a or lane.b:
                self._align(lane)
                self._match(lane)


def _joined(found: list[Difference]) -> Iterator[Difference]:
    """Yield differences, those of A alone and of B alone at one place as one.

    An event whose DeviceID was changed stands in another lane.
    """
    before: Difference | None = None
    for each in found:
        if before and (before.what, each.what) == (ONLY_A, ONLY_B) and before.at == each.at:
            before.what, before.b, before.after_b = CHANGED, each.b, each.after_b
            before.names += each.names
            before = None
            continue
        yield each
        before = each


def _places(cost: int, most_a: int, most_b: int) -> Iterator[tuple[int, int]]:
    """Yield (items to skip in A, in B) of which the greater number is `cost`."""
    for other in range(cost + 1):
        if cost <= most_a and other <= most_b:
            yield cost, other
        if other != cost and other <= most_a and cost <= most_b:
            yield other, cost


def _head(lane: Lane) -> int:
    return min((side[0].at for side in (lane.a, lane.b) if side), default=0)


def _used(
    renaming: Renaming, a: list[Item], b: list[Item]
) -> Iterator[tuple[Any, int, int | None, int, int | None]]:
    """Yield the names of the first items of both sides, with what they are bound to."""
    ours: tuple[Name, ...] = a[0].names if a else ()
    theirs: tuple[Name, ...] = b[0].names if b else ()
    for at in range(max(len(ours), len(theirs))):
        one = ours[at] if at < len(ours) else None
        other = theirs[at] if at < len(theirs) else None
        either = one or other
        assert either is not None
        yield (
            either.space,
            one.value if one else -1,
            renaming.of(one.space, one.value) if one else None,
            other.value if other else -1,
            renaming.back(other.space, other.value) if other else None,
        )
