"""The lists that a device keeps outside guest RAM, as somebody last looked at them, and what changed since.

A look costs what inputs changed, not what is mapped: the model notes which keys they may have changed
(`replay.model.touched`), and only these are looked up. Values are replaced, never written into; whoever keeps the
lists as they are at some moment copies them. Counterparts: `replay.verify`, `replay.report.states`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from replay.verifiable import Listed, Listening, Verifiable

Lists = Mapping[str, dict[Any, Any]]  # component -> key -> value


class Change(NamedTuple):
    """What became of one key; None stands for one that is not there."""

    component: str
    key: Any
    old: Any
    new: Any


class KeptLists:
    """A copy of lists that follows them: a model's, or the mappings that guest RAM holds."""

    __slots__ = ("_again", "_since", "model", "now")

    def __init__(self, model: Listed) -> None:
        self.model = model
        self._since: Listening | None = None
        self.begin()

    def begin(self) -> None:
        """Take the lists as they are."""
        if self._since is not None:
            self._since.leave()
        self.now: dict[str, dict[Any, Any]] = self.model.structures()
        self._since = self.model.touched_since() if self.now else None
        self._again: dict[str, set[Any]] = {}  # keys to look up, whether they were touched or not

    def look(self) -> list[Change]:
        """Take the lists as they are now; return what changed, by component, what is gone last."""
        found = self._found()
        for component, key, _, new in found:
            if new is None:
                del self.now[component][key]
            else:
                self.now[component][key] = new
        return found

    def _found(self) -> list[Change]:
        """Return what changed since the last look, without taking it."""
        keys = None if self._since is None else self._since.taken()
        again, self._again = self._again, {}
        if keys is None:
            return list(differences(self.now, self.model.structures())) if self.now else []
        for component, more in again.items():
            keys.setdefault(component, set()).update(more)
        return list(self._of(keys)) if keys else []

    def _of(self, keys: Mapping[str, Iterable[Any]]) -> Iterator[Change]:
        for component, was in self.now.items():
            gone = []
            for key in sorted(keys.get(component, ())):
                old, new = was.get(key), self.model.value(component, key)
                if new is None and old is not None:
                    gone.append(Change(component, key, old, None))
                elif old != new:
                    yield Change(component, key, old, new)
            yield from gone

    def copied(self) -> dict[str, dict[Any, Any]]:
        """Return the lists as they are, in an order that depends on nothing else, to be kept."""
        return {name: dict(sorted(kept.items())) for name, kept in self.now.items()}

    # -- as bytes, beside the model: only what was not looked at yet

    @property
    def behind(self) -> dict[str, dict[Any, Any]]:
        """Component -> key -> what there was at the last look, of what changed since."""
        found: dict[str, dict[Any, Any]] = {}
        for each in self._found():
            found.setdefault(each.component, {})[each.key] = each.old
            self._again.setdefault(each.component, set()).add(each.key)
        return found

    @behind.setter
    def behind(self, value: Mapping[str, Mapping[Any, Any]]) -> None:
        self._since = None
        self.begin()
        for component, olds in value.items():
            self._again[component] = set(olds)
            for key, old in olds.items():
                if old is None:
                    self.now[component].pop(key, None)
                else:
                    self.now[component][key] = old


class Walked:
    """The mappings that guest RAM holds, of a model that does not follow them: all are walked each time."""

    def __init__(self, model: Verifiable) -> None:
        self.structures = model.mapped

    def value(self, component: str, key: Any) -> Any:
        """Return one mapping; None for none."""
        return self.structures().get(component, {}).get(key)

    def touched_since(self) -> None:
        """Nobody tells which may be others."""


def differences(before: Lists, now: Lists) -> Iterator[Change]:
    """Yield what changed between two whole forms of lists, as a look has it."""
    for component, after in now.items():
        was = before.get(component, {})
        if after == was:
            continue
        keys = sorted(key for key, value in after.items() if was.get(key) != value)
        yield from (Change(component, key, was.get(key), after[key]) for key in keys)
        gone = sorted(was.keys() - after.keys())
        yield from (Change(component, key, was[key], None) for key in gone)
