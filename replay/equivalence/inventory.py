"""What a life named: devices, events, INTIDs, collections, and the event that planted each.

A model replays the life to see its commands; it only tells what to ask about, and whom to blame,
never what the answer should be. The counterpart is `replay.equivalence.sequence`, which asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from replay.engine import Engine
from replay.model import effects
from replay.model.effects import Effect, HostCrash
from replay.profiles import Profile
from replay.verifiable import Verifiable
from replay.verify import Verifier
from tracer.errors import TracerError
from tracer.events import NUMBER, Event
from tracer.its.commands import BY_OPCODE, Mapc, Mapd, Opcode, join
from tracer.its.lpi import FIRST_LPI
from tracer.its.registers import Baser
from tracer.log.header import Header

_MSI, _REG_WRITE, _RESTORE = NUMBER["msi"], NUMBER["reg.write"], NUMBER["restore"]
_BASERS: Final = {0x100: "devices", 0x108: "collections"}
_CTLR: Final = 0x0
_GICR_WRITE: Final = NUMBER["gicr.write"]
_MAPS: Final = (Opcode.MAPTI, Opcode.MAPI)
_NAMES_AN_EVENT: Final = (Opcode.INT, Opcode.CLEAR, Opcode.INV, Opcode.DISCARD, Opcode.MOVI)
MAX_KEYS: Final = 1 << 16  # of one kind; a guest chooses how many it names


class Events:
    """A list of events in the place of a reader."""

    status = "clean"
    checkpoint: bytes | None = None
    open_end = False

    def __init__(self, header: Header, events: Sequence[Event], name: str) -> None:
        self.header = header
        self.name = name
        self._events = events

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        for at in range(0, len(self._events), 4096):
            yield self.header.first_seq + at, tuple(self._events[at : at + 4096])


class Inventory:
    """A watcher of a replay that gathers names; the last one named stands last."""

    def __init__(self, model: Verifiable) -> None:
        self.profile: Profile = model.profile
        self.devices: dict[int, tuple[int, int]] = {}  # DeviceID -> (ITT, bits of an EventID)
        self.events: dict[tuple[int, int], int | None] = {}  # (DeviceID, EventID) -> INTID
        self.intids: dict[int, tuple[int, int]] = {}  # -> the event that was mapped to it last
        self.shared: set[int] = set()  # INTIDs that two events were mapped to
        self.collections: dict[int, int] = {}  # ICID -> vCPU
        self.unmapped: set[int] = set()  # devices whose last MAPD took them away
        self.moved_all = False
        self._named: dict[tuple[str, Any], int] = {}
        self._handed: dict[tuple[str, Any], int] = {}
        self._tables_at: set[int] = set()  # where tables were
        self.reused: int | None = None  # the last event that named a table that was one before
        self._offered: dict[str, int] = {}  # tables that were named since the ITS was disabled
        self._verifier = Verifier(model)

    def planted_by(self, component: str, key: Any = None) -> int | None:
        """Return the event that wrote a register, or made a list or a table have this key."""
        found = self._verifier.planted_by(component, key)
        return self._named.get((component, key)) if found is None else found

    def handed_over(self, component: str, key: Any) -> int | None:
        """Return the event at which a guest last gave the ITS the table that a key is in."""
        if component == "events":
            return self._handed.get(("events", key[0]))
        return self._handed.get((component, None))

    # -- the engine's watcher

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """A life that is carried out on a target begins at power-on."""

    def before_input(self, seq: int, event: Event) -> None:
        """Let the verifier see it."""
        self._verifier.before_input(seq, event)

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Take in the commands that ran, and MSIs."""
        self._verifier.after_input(seq, event, done, outputs)
        if event[0] == _MSI:
            self._event(event[2], event[3], seq)
        elif event[0] in (_REG_WRITE, _RESTORE):
            self._tables(event, seq)
        elif event[0] == _GICR_WRITE and event[3] == _CTLR and event[4] & 1:
            self._handed["lpis", None] = seq
        for effect in done:
            if effect[0] == effects.COMMAND:
                self._command(effect[2:6], seq)

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """Nothing is judged here."""

    def note(self, seq: int, event: Event) -> None:
        """Nor here."""

    # -- names

    def _tables(self, event: Event, seq: int) -> None:
        """A table that is named before a restore is the one that was saved; others are new."""
        if event[0] == _RESTORE:
            self._offered.clear()
        elif event[2] in _BASERS:
            self._offered[_BASERS[event[2]]] = seq
            self._at(Baser.physical_address.get(event[3]), seq)
        elif event[2] == _CTLR and event[3] & 1:
            for component, at in self._offered.items():
                self._handed[component, None] = at
            self._offered.clear()

    def _command(self, words: tuple[int, ...], seq: int) -> None:
        spec = BY_OPCODE.get(words[0] & 0xFF)
        if spec is None:
            return
        whole = join(words[0], words[1], words[2], words[3])
        device_id, event_id = words[0] >> 32, words[1] & 0xFFFF_FFFF
        if spec.opcode == Opcode.MAPD:
            (self.unmapped.discard if Mapd.v.get(whole) else self._unmap)(device_id)
            if Mapd.v.get(whole):
                place = (Mapd.itt_addr.get(whole), Mapd.size.get(whole) + 1)
                self._put(self.devices, device_id, place)
                self._put(self._handed, ("events", device_id), seq)
                self._at(place[0], seq)
            self._name("devices", device_id, seq)
        elif spec.opcode == Opcode.MAPC:
            if Mapc.v.get(whole):
                self._put(self.collections, Mapc.icid.get(whole), Mapc.rdbase.get(whole))
            self._name("collections", Mapc.icid.get(whole), seq)
        elif spec.opcode in _MAPS:
            intid = words[1] >> 32 if spec.opcode == Opcode.MAPTI else event_id
            self._event(device_id, event_id, seq, intid)
            self.collections.setdefault(words[2] & 0xFFFF, 0)
        elif spec.opcode in _NAMES_AN_EVENT:
            self._event(device_id, event_id, seq)
        self.moved_all |= spec.opcode == Opcode.MOVALL

    def _unmap(self, device_id: int) -> None:
        if len(self.unmapped) < MAX_KEYS:
            self.unmapped.add(device_id)

    def _at(self, gpa: int, seq: int) -> None:
        if gpa in self._tables_at:
            self.reused = seq
        elif len(self._tables_at) < MAX_KEYS:
            self._tables_at.add(gpa)

    def _event(self, device_id: int, event_id: int, seq: int, intid: int | None = None) -> None:
        pair = (device_id, event_id)
        if intid is not None and intid >= FIRST_LPI:
            if self.intids.get(intid, pair) != pair:
                self.shared.add(intid)
            self._put(self.intids, intid, pair)
        intid = self.events.get(pair) if intid is None else intid
        self._put(self.events, pair, intid)
        self._name("events", pair, seq)
        if intid is not None:
            self._name("lpis", intid, seq)

    def _name(self, component: str, key: Any, seq: int) -> None:
        if len(self._named) < MAX_KEYS or (component, key) in self._named:
            self._named[component, key] = seq

    @staticmethod
    def _put(names: dict[Any, Any], key: Any, value: Any) -> None:
        names.pop(key, None)
        if len(names) < MAX_KEYS:
            names[key] = value


def take(header: Header, events: Sequence[Event], model: Verifiable) -> Inventory:
    """Return what a life named."""
    found = Inventory(model)
    reader = Events(header, events, "a life")
    with suppress(HostCrash, TracerError):  # the model's, not the target's
        Engine(reader, model, found).run()
    return found
