"""Save and restore: what came back, against what was saved and not unmapped since.

Counterpart: `replay.verify`, which hands over every input with the lists before and after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from replay.kept_lists import Lists
from replay.model import effects
from replay.model.effects import Effect
from replay.verdict import RoundTrip
from replay.writers import Writers
from tracer.events import NUMBER, Event

_RESET: Final = NUMBER["reset"]
_SAVE: Final = NUMBER["save"]
_RESTORE: Final = NUMBER["restore"]
_MSI: Final = NUMBER["msi"]
# What SAVE_TABLES writes, of which a round trip brings back what was not unmapped since.
_SAVED: Final = ("devices", "events", "collections")
_MAPD: Final = 0x08
_MAP_EVENT: Final = (0x0A, 0x0B, 0x0F)  # MAPTI, MAPI, DISCARD


class RoundTrips:
    """Gathers a verdict for every restore; `writers` tells who wrote a key."""

    def __init__(self, writers: Writers) -> None:
        self.found: list[RoundTrip] = []
        self._writers = writers
        self._trip: RoundTrip | None = None  # the one whose events MSIs still speak of
        self._remapped: set[Any] = set()  # devices and events that commands named since
        self._saved: tuple[int, dict[str, Any]] | None = None

    def after_input(
        self,
        seq: int,
        event: Event,
        done: list[Effect],
        outputs: Sequence[Event],
        lists: tuple[Lists, Lists],
    ) -> None:
        """Take in an input with its effects, and the lists (before, after) it; of a save and a reset to be kept."""
        if event[0] in (_SAVE, _RESTORE, _RESET):
            self._save_or_restore(seq, event, done, *lists)
        elif self._trip is not None:
            self._witness(self._trip, event, outputs, seq)
            self._remapped |= set(_mapped_by(done))

    def _save_or_restore(
        self, seq: int, event: Event, done: list[Effect], before: Lists, after: Lists
    ) -> None:
        errno = next((effect[1] for effect in done if effect[0] == effects.ATTR_RESULT), 0)
        if event[0] == _RESET:
            self._trip = None  # an MSI behind it says nothing of what was restored before
        if event[0] == _SAVE:
            # A family that keeps its mappings in guest RAM has no lists to save.
            listed = not errno and before.keys() >= set(_SAVED)
            self._saved = (seq, {name: before[name] for name in _SAVED}) if listed else None
        elif self._saved is None or not before:
            return
        elif event[0] == _RESET:
            saved_seq, saved = self._saved
            self._saved = (
                saved_seq,
                {
                    name: {key: item for key, item in was.items() if before[name].get(key) == item}
                    for name, was in saved.items()
                },
            )
        else:
            self._trip = self._compare(seq, errno, *self._saved, after)
            self._remapped.clear()
            self.found.append(self._trip)

    def _compare(
        self, seq: int, errno: int, saved_seq: int, saved: Lists, lists: Lists
    ) -> RoundTrip:
        came_back, lost = {}, {}
        for name, want in saved.items():
            now = lists[name]
            extra = sorted(key for key in now if now[key] != want.get(key))
            gone = sorted(key for key in want if key not in now)
            if extra:
                came_back[name] = extra
            if gone:
                lost[name] = gone
        trip = RoundTrip(seq, saved_seq, came_back, lost, errno)
        for name, keys in came_back.items():
            trip.blame = trip.blame or self._writers.of_key(name, keys[0])
        return trip

    def _witness(self, trip: RoundTrip, event: Event, outputs: Sequence[Event], seq: int) -> None:
        """An MSI that is delivered through a mapping that should not have come back shows it."""
        if event[0] != _MSI or trip.witness is not None:
            return
        pair = (event[2], event[3])
        if pair in self._remapped or event[2] in self._remapped:
            return
        delivered = any(each[0] == effects.MSI_RESULT and each[3] == 1 for each in outputs)
        blocked = any(each[0] == effects.MSI_RESULT and each[3] == 0 for each in outputs)
        if (delivered and pair in trip.came_back.get("events", ())) or (
            blocked and pair in trip.lost.get("events", ())
        ):
            trip.witness = seq


def _mapped_by(done: list[Effect]) -> Iterator[int | tuple[int, int]]:
    """Yield the devices, and (device, event), that commands among these effects map or unmap."""
    for effect in done:
        if effect[0] == effects.COMMAND:
            opcode, device_id = effect[2] & 0xFF, effect[2] >> 32
            if opcode == _MAPD:
                yield device_id
            elif opcode in _MAP_EVENT:
                yield device_id, effect[3] & 0xFFFF_FFFF
