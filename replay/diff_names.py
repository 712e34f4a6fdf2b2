"""Names that two boots choose each for itself, and the one-to-one renaming between them.

As in alpha-equivalence: the first use binds a name of one side to one of the other, and a later use
that contradicts is a difference. A name is bound as long as something holds it (an LPI its event, a
table its register), because a guest gives numbers and memory back and uses them again for others.

Counterpart: `replay.diff_items`, which says what is a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from tracer.errors import TracerError

MAX_NAMES: Final = 1_000_000
GROUP: Final = 2  # so much of a holder is the same in all that are let go together


class TooManyNames(TracerError):
    """More names are in force than are kept."""

    exit_code = 4

    def __init__(self) -> None:
        super().__init__(
            f"more than {MAX_NAMES:,} names are in force at once: nobody can say any more whether "
            "they are renamed consistently; compare a range, or with fewer things ignored"
        )


class Name(NamedTuple):
    """One use of a name; `holder` is what holds it from here on, None for a mere use."""

    space: Any
    value: int
    holder: tuple[Any, ...] | None = None


class Renaming:
    """Names of A to names of B, and back, by name space."""

    def __init__(self) -> None:
        self._to_b: dict[tuple[Any, int], int] = {}
        self._to_a: dict[tuple[Any, int], int] = {}
        self._held: dict[Any, tuple[Any, int]] = {}  # holder -> what it holds, as A names it
        self._holders: dict[tuple[Any, int], int] = {}  # how many hold it; mere uses count once
        self._groups: dict[Any, set[Any]] = {}  # what is let go together: device -> its events

    def __len__(self) -> int:
        return len(self._to_b)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        """Yield (space, name in A, name in B) of the bindings in force, the oldest first."""
        for (space, a), b in self._to_b.items():
            yield space, a, b

    def of(self, space: Any, a: int) -> int | None:
        """Return B's name of A's, None for one that is not bound."""
        return self._to_b.get((space, a))

    def back(self, space: Any, b: int) -> int | None:
        """Return A's name of B's, None for one that is not bound."""
        return self._to_a.get((space, b))

    def agrees(self, ours: Iterable[Name], theirs: Iterable[Name]) -> bool:
        """Return whether both may name the same, given what is bound."""
        new: dict[tuple[Any, int], int] = {}
        for a, b in zip(ours, theirs, strict=True):
            bound = self._bound(a)
            if bound is None:
                bound = new.setdefault((a.space, a.value), b.value)
                back = self._to_a.get((a.space, b.value))
                if back is not None and not self._only(a.holder, (a.space, back)):
                    return False
            if bound != b.value:
                return False
        return True

    def _bound(self, name: Name) -> int | None:
        """Return what a name is bound to; nothing, where its own holder gives it anew."""
        place = (name.space, name.value)
        if self._only(name.holder, place):
            return None
        return self._to_b.get(place)

    def _only(self, holder: Any, place: tuple[Any, int]) -> bool:
        held = holder is not None and self._held.get(holder) == place
        return held and self._holders.get(place) == 1

    def take(self, ours: Iterable[Name], theirs: Iterable[Name]) -> None:
        """Bind what agrees.

        Raises:
            TooManyNames: there is no room for more.
        """
        for a, b in zip(ours, theirs, strict=True):
            place = (a.space, a.value)
            if a.holder is not None:
                self.release(a.holder)
            if place not in self._to_b:
                if len(self._to_b) >= MAX_NAMES:
                    raise TooManyNames
                self._to_b[place] = b.value
                self._to_a[a.space, b.value] = a.value
                self._holders[place] = int(a.holder is None)
            if a.holder is not None:
                self._held[a.holder] = place
                self._holders[place] += 1
                self._groups.setdefault(a.holder[:GROUP], set()).add(a.holder)

    def rebind(self, ours: Iterable[Name], theirs: Iterable[Name]) -> None:
        """Bind what contradicts: it was told, and what follows goes by the new names."""
        for a, b in zip(ours, theirs, strict=True):
            place = (a.space, a.value)
            if self._to_b.get(place, b.value) != b.value:
                self._unbind(place)
            old = self._to_a.get((a.space, b.value), a.value)
            if old != a.value:
                self._unbind((a.space, old))
            self.take([a], [b])

    def _unbind(self, place: tuple[Any, int]) -> None:
        """Forget a contradicted binding, whoever holds it."""
        del self._to_a[place[0], self._to_b.pop(place)]
        del self._holders[place]
        self._held = {holder: held for holder, held in self._held.items() if held != place}

    def release(self, holder: tuple[Any, ...]) -> None:
        """What a holder, or a group of them, held is free again, if nobody else holds it."""
        for each in self._groups.pop(holder, ()) if len(holder) == GROUP else ():
            self.release(each)
        place = self._held.pop(holder, None)
        if place is None:
            return
        self._holders[place] -= 1
        if not self._holders[place]:
            del self._holders[place]
            del self._to_a[place[0], self._to_b.pop(place)]

    def clear(self) -> None:
        """A new life: every name is free."""
        for table in (self._to_b, self._to_a, self._held, self._holders, self._groups):
            table.clear()
