"""The mappings that guest RAM holds, as components of a reset have them: all, and those that stored words change.

Counterparts: `replay.targets.qemu_shown`, which finds them, and `replay.kept_lists`, which follows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replay.model.qemu import view
from replay.targets.common import mapping, mappings
from replay.targets.qemu_shown import Entries, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from replay.model.qemu.vm import QemuVm
    from replay.model.touched import TouchedSince


def mapped(vm: QemuVm) -> dict[str, dict[Any, Any]]:
    """Return all of them, by component and key."""
    found = mappings(view.devices(vm), view.collections(vm))
    if vm.profile.virtual:
        found["vpes"] = {key: mapping(item) for key, item in view.vpes(vm).items()}
    return found


class Mapped:
    """Looks up what stored words are part of, for one who follows the mappings."""

    def __init__(self, vm: QemuVm, listen: Callable[[], TouchedSince]) -> None:
        """`listen` returns who hears from then on which words are stored."""
        self._vm = vm
        self._listen = listen
        self._stored: TouchedSince | None = None
        self._entries: Entries | None = None  # made as somebody asks for less than all
        self._events: dict[int, set[int]] = {}  # DeviceID -> EventIDs that it has, or had
        self._values: dict[tuple[str, Any], dict[str, Any]] = {}  # of what was taken last

    def structures(self) -> dict[str, dict[Any, Any]]:
        """Return all mappings."""
        found = mapped(self._vm)
        self._events = {}
        for device_id, event_id in found["events"]:
            self._events.setdefault(device_id, set()).add(event_id)
        return found

    def value(self, component: str, key: Any) -> dict[str, Any] | None:
        """Return a mapping of which `taken` said that it may be another; None for none."""
        return self._values.get((component, key))

    def touched_since(self) -> Mapped:
        """Return who tells from now on which mappings may be others: this one, which is for one who asks."""
        self._stored, self._entries = self._listen(), None
        return self

    def leave(self) -> None:
        """Ask no more."""
        if self._stored is not None:
            self._stored.leave()

    def taken(self) -> dict[str, set[Any]] | None:
        """Return component -> keys that may have changed since the last time; None for any of all."""
        found = self._found()
        if found is None:
            return None
        self._values.clear()
        keys: dict[str, set[Any]] = {}
        for component, key, entry in found:
            keys.setdefault(component, set()).add(key)
            if component == "devices":
                keys.setdefault("events", set()).update(self._device(key, entry))
            elif component == "events" and entry:
                self._events.setdefault(key[0], set()).add(key[1])
            if entry:
                self._values[component, key] = mapping(entry)
        return keys

    def _found(self) -> list[Entry] | None:
        stored = None if self._stored is None else self._stored.taken()
        known, self._entries = self._entries, None
        if stored is None:
            return None
        if known is None:  # nobody wanted to know while everything was looked at
            self._entries = Entries(self._vm)
            return None
        found = known.changed(stored, set())
        if found is not None:
            self._entries = known
        return found

    def _device(self, device_id: int, entry: dict[str, Any] | None) -> set[tuple[int, int]]:
        """Take a device with its events; return those that it had and has."""
        was = self._events.pop(device_id, set())
        events = entry["events"] if entry else {}
        if events:
            self._events[device_id] = set(events)
        for event_id, event in events.items():
            self._values["events", (device_id, event_id)] = mapping(event)
        return {(device_id, event_id) for event_id in (*was, *events)}
