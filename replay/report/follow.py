"""A state as a tree of leaves that follows a model entry by entry: an event costs what it touched.

What registers read as is compared where anything behind it changed. Of a model that does not say what it touched
the whole state is made each time. Counterparts: `replay.model.touched`, `replay.targets.kvm_shown` and `qemu_shown`,
`replay.report.states`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from replay.judge import AnyModel
from replay.model.touched import LISTS
from replay.targets import kvm_shown, qemu_shown
from replay.targets.kvm_model import KvmModel
from replay.targets.qemu_model import QemuModel

Path = tuple[str, ...]
Changed = dict[Path, str | None]  # leaf -> JSON; None for one that is gone
_EMPTY: Final = "{}"


def told(model: AnyModel, *, digest: bool) -> dict[str, Any]:
    """Return the state as leaves can have it: a translation cache as names and INTIDs."""
    state = model.state() if digest else model.shown()
    for its in state["its"].values():
        its["translation_cache"] = {
            f"{device}/{event}": intid for device, event, intid in its["translation_cache"]
        }
    return state


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield (path, JSON) of every leaf; a dictionary without entries is one."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, json.dumps(value, separators=(",", ":"))


def changes(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, str | None]]:
    """Yield (path, JSON) of leaves that are not as they were; None for one that is gone."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        for name in dict.fromkeys((*old, *new)):
            if name not in new:
                yield from ((each, None) for each, _ in leaves(old[name], (*path, name)))
            elif name not in old:
                yield from leaves(new[name], (*path, name))
            else:
                yield from changes(old[name], new[name], (*path, name))
        return
    after = dict(leaves(new, path))
    yield from ((each, None) for each, _ in leaves(old, path) if each not in after)
    yield from after.items()


class Followed:
    """A model's state, as of the last look."""

    def __init__(self, model: AnyModel) -> None:
        self.state: dict[str, Any] = {}
        self._model = model
        self._since = model.touched_since()
        self._behind: Any = None
        self._sure = True
        self._in_ram: qemu_shown.Entries | None = None

    def begin(self, *, digest: bool = False) -> None:
        """Take the state as it is."""
        if self._since is not None:
            self._since.taken()
        self._note()
        self.state = told(self._model, digest=digest)

    def anew(self) -> None:
        """The model was filled: what it told so far says nothing."""
        if self._since is not None:
            self._since.leave()
        self._since = self._model.touched_since()

    def whole(self, *, digest: bool = False) -> Changed:
        """Take the whole state as it is now; return what changed."""
        old = self.state
        self.begin(digest=digest)
        return dict(changes(old, self.state))

    def look(self) -> Changed:
        """Take the state as it is now; return what changed."""
        keys = None if self._since is None else self._since.taken()
        if keys is None or "digest" in self.state:
            return self.whole()
        if isinstance(self._model, QemuModel):
            return self._stored(self._model, keys)
        return (
            self._entries(self._model, keys) if isinstance(self._model, KvmModel) else self.whole()
        )

    def _stored(self, model: QemuModel, keys: Mapping[str, Iterable[Any]]) -> Changed:
        """Look at what stored words are part of."""
        puts = None if self._in_ram is None else self._in_ram.puts(keys)
        if puts is None:
            found = self.whole()
            self._in_ram = qemu_shown.Entries(model.vm)
            return found
        tree = _Tree(self.state)
        for path, entry in puts:
            tree.put(path, entry)
        return tree.closed()

    def _entries(self, model: KvmModel, keys: Mapping[str, Iterable[Any]]) -> Changed:
        sure = not model.vm.state.blind
        behind = kvm_shown.behind_registers(model)
        if sure != self._sure:
            return self.whole()  # every entry says whether it is certain
        tree = _Tree(self.state)
        if behind != self._behind:
            self._behind = behind
            tree.put((*kvm_shown.ITS, "registers"), kvm_shown.registers(model)["registers"])
            tree.put(("redistributors",), kvm_shown.redistributors(model))
        devices = keys.get("devices", ())
        for component in LISTS:
            for key in sorted(keys.get(component, ())):
                if component == "events" and (key[0] in devices or not tree.has(key[0])):
                    continue  # its device has it
                tree.put(kvm_shown.place(component, key), kvm_shown.entry(model, component, key))
        return tree.closed()

    def _note(self) -> None:
        self._in_ram = None
        if isinstance(self._model, KvmModel):
            self._behind = kvm_shown.behind_registers(self._model)
            self._sure = not self._model.vm.state.blind


class _Tree:
    """Puts entries into a state, and says which leaves that changed."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._found: Changed = {}
        self._empty: dict[
            Path, tuple[dict[str, Any], bool]
        ] = {}  # where entries stand: was it empty

    def has(self, device_id: int) -> bool:
        """Return whether there is such a device."""
        return hex(device_id) in self._state["its"]["0"]["devices"]

    def put(self, path: Path, value: Any) -> None:
        """Put an entry where another was, or none; None takes it away."""
        parent = self._state
        for name in path[:-1]:
            parent = parent[name]
        name = path[-1]
        old = parent.get(name)
        if old == value:
            return
        self._empty.setdefault(path[:-1], (parent, not parent))
        if value is None:
            del parent[name]
            self._found.update((each, None) for each, _ in leaves(old, path))
            return
        parent[name] = value
        self._found.update(leaves(value, path) if old is None else changes(old, value, path))

    def closed(self) -> Changed:
        """Return what changed; a dictionary without entries is a leaf."""
        for path, (parent, was_empty) in self._empty.items():
            if was_empty != (not parent):
                self._found[path] = None if parent else _EMPTY
        return self._found
