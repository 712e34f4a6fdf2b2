"""Which keys of what a device keeps in lists may have changed: noted where they change, while somebody asks.

A state that nobody watches has no `Touched`. What is noted is a set of candidates, never too small: whoever
asks looks each of them up, and it may be as it was. Counterparts: the functions of `replay.model.kvm` and
`replay.model.xen` that write lists, each of which notes what it wrote, and `replay.kept_lists`, which asks.
"""

from __future__ import annotations

from typing import Any, Final

# What structures() calls the lists, in its order.
LISTS: Final = ("devices", "events", "collections", "translation_cache", "host_devices", "lpis")
# Of a device whose mappings lie in guest RAM: 32-bit words that were stored, and ITTs that changed hands.
RAM: Final = ("words", "itts")
MAX_KEYS: Final = 1 << 16  # that wait for one who asks; more are told as any of all


class Touched:
    """What one model notes, for all who ask it."""

    __slots__ = (
        "_readers", "_sets", "briefly", "collections", "devices", "events", "host_devices", "itts",
        "lpis", "translation_cache", "whole", "words",
    )  # fmt: skip

    def __init__(self) -> None:
        self.devices: set[Any] = set()
        self.events: set[Any] = set()
        self.collections: set[Any] = set()
        self.translation_cache: set[Any] = set()
        self.host_devices: set[Any] = set()
        self.lpis: set[Any] = set()
        self.words: set[int] = set()
        self.itts: set[int] = set()
        self.briefly: set[int] = set()  # INTIDs that are told otherwise once a vCPU ran
        self.whole = False  # whether it may be anything
        self._sets = (
            self.devices, self.events, self.collections, self.translation_cache,
            self.host_devices, self.lpis, self.words, self.itts,
        )  # fmt: skip
        self._readers: list[TouchedSince] = []

    def reader(self) -> TouchedSince:
        """Return one who asks, from now on."""
        self.share()
        made = TouchedSince(self)
        self._readers.append(made)
        return made

    def restarted(self) -> None:
        """The state is another one."""
        self.briefly.clear()
        self.whole = True

    def carried_out(self, *, ran: bool) -> None:
        """An input was; where a vCPU `ran`, what a listing showed just before is no longer certain."""
        if ran and self.briefly:
            self.lpis |= self.briefly
            self.briefly.clear()
        if sum(map(len, self._sets)) > MAX_KEYS:
            self.share()  # as many wait for nobody

    def leave(self, reader: TouchedSince) -> None:
        """This one asks no more."""
        self._readers.remove(reader)

    def share(self) -> None:
        """Hand what was noted to all who ask."""
        for reader in self._readers:
            reader.take_in(self._sets, whole=self.whole)
        for each in self._sets:
            if each:
                each.clear()
        self.whole = False


class TouchedSince:
    """What was noted since this one last asked."""

    __slots__ = ("_keys", "_of", "_whole")

    def __init__(self, of: Touched) -> None:
        self._of = of
        self._keys: dict[str, set[Any]] = {}
        self._whole = False

    def leave(self) -> None:
        """Ask no more."""
        self._of.leave(self)

    def take_in(self, sets: tuple[set[Any], ...], *, whole: bool) -> None:
        """These keys were noted, of each of LISTS and of RAM; or `whole`."""
        self._whole = self._whole or whole
        for name, keys in zip((*LISTS, *RAM), sets, strict=True):
            if keys and not self._whole:
                self._keys.setdefault(name, set()).update(keys)
        if self._keys and sum(map(len, self._keys.values())) > MAX_KEYS:
            self._whole = True
        if self._whole:
            self._keys.clear()

    def taken(self) -> dict[str, set[Any]] | None:
        """Return list -> keys that may have changed since the last time; None for any of all."""
        self._of.share()
        whole, keys = self._whole, self._keys
        self._whole, self._keys = False, {}
        return None if whole else keys
