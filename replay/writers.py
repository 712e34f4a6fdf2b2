"""Who last wrote what: each register by name, and each key of the lists that a device keeps.

There is no other record of writers: `replay.verify` blames with it, and `replay.history` extends it
to what `blame` tells. A write counts when the device holds what it asked for afterwards, even if it
held that before; what the device did not take is no write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from replay.aims import aim, asks, fetched, is_asked
from replay.kept_lists import Change, Lists
from replay.model.effects import Effect

Key = tuple[str, Any]  # (component, key in its list)
# Keys that no list has any more, of which it is still known who wrote them: a guest maps and
# unmaps as often as it likes.
MAX_GONE: Final = 65_536


class Writers:
    """The last writer of every register and of every key of a list."""

    def __init__(self) -> None:
        self._registers: dict[str, tuple[int, Any]] = {}
        self._keys: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}  # the oldest first

    def of_register(self, name: str) -> tuple[int, Any] | None:
        """Return (event, value) of the last write of a register or of a whole list."""
        return self._registers.get(name)

    def of_key(self, component: str, key: Any) -> int | None:
        """Return the event that wrote this key of a list, present or gone."""
        seq = self._keys.get((component, key))
        return self._gone.get((component, key)) if seq is None else seq

    def seq_of(self, component: str, key: Any = None) -> int | None:
        """Return the event that last wrote a register, or a key of a list."""
        if key is not None:
            return self.of_key(component, key)
        found = self.of_register(component)
        return None if found is None else found[0]

    def as_of_now(self) -> Mapping[Key, int]:
        """Return a copy of who wrote which key."""
        return self._gone | self._keys

    def wrote(self, seq: int, name: str, value: Any) -> None:
        """A register holds what event `seq` wrote."""
        self._registers[name] = (seq, value)

    def changed(self, seq: int, changes: Sequence[Change], now: Lists) -> list[str]:
        """Take in what event `seq` made of lists that are `now`; return the names of those that changed."""
        found = dict.fromkeys(each.component for each in changes)
        for name in found:
            self._registers[name] = (seq, None)
        for name, key, _, new in changes:
            if new is None:
                self.unset(seq, (name, key))
            else:
                self.set(seq, (name, key))
        return list(found)

    def ran(self, seq: int, done: Sequence[Effect], lists: Lists) -> None:
        """Commands ran, with these lists after them: one may have set a key to what it held."""
        for words in fetched(done):
            key = aim(words) if asks(words) else None
            if key is None or self._keys.get(key, seq) == seq:
                continue
            value = lists.get(key[0], {}).get(key[1])
            if value is not None and is_asked(words, value):
                self.again(seq, key)

    def set(self, seq: int, key: Key) -> None:
        """A key came, or has another value."""
        self._keys[key] = seq

    def again(self, seq: int, key: Key) -> None:
        """A key was set to the value that it had."""
        self._keys[key] = seq

    def unset(self, seq: int, key: Key) -> None:
        """A key left its list; who wrote it is known for a while."""
        wrote = self._keys.pop(key, None)
        if wrote is None:
            return
        self._gone.pop(key, None)
        if len(self._gone) >= MAX_GONE:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            self.forget(oldest)
        self._gone[key] = wrote

    def forget(self, key: Key) -> None:
        """Nobody knows any more who wrote a key that is gone."""

    def lost(self) -> None:
        """Events are missing: nobody knows who wrote the registers since."""
        self._registers.clear()
