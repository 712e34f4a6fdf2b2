"""Generated lives with one thing planted in them, by whoever knows because they put it there.

What is planted uses identifiers that no other part of a life uses. Nothing after it can have
changed it before `asked_at`, which is found from the kinds of events alone: no model is asked.
"""

from __future__ import annotations

from contextlib import suppress

from replay.generator.answers import _SHOWN, answered, header_of
from replay.generator.guest import BASER0, BASER1, CBASER, CTLR, DEVICES, LEVEL1
from replay.generator.life import Life
from replay.judge import model_of
from tracer.events import NUMBER, make

DEVICE, EVENT, INTID, ICID, OTHER_ICID = 0x30, 2, 8400, 5, 6
KINDS = ("device", "event", "moved", "collection", "register", "lpi", "discarded")
COMPONENTS = {
    "device": f"device {DEVICE:#x}",
    "event": f"device {DEVICE:#x} event {EVENT}",
    "moved": f"device {DEVICE:#x} event {EVENT}",
    "collection": f"collection {ICID}",
    "register": "GICR_PENDBASER[3]",
    "lpi": f"lpi {INTID}",
    "discarded": f"device {DEVICE:#x} event {EVENT}",
}
_MOVALL = 0x0E
_UNREACHABLE = make("mem.write", 0, gpa=LEVEL1, data=bytes(8))  # the page that has our device
_TABLES = range(LEVEL1, DEVICES + 0x20_0000)


STEPS_AFTER = 12


class EndOfLife(Exception):
    """Enough happened after the planting."""


class PlantedLife(Life):
    """A life in which something is planted between two steps, once so many events have happened."""

    def __init__(self, seed, profile, kind, plant_at):
        super().__init__(seed, profile)
        self.kind = kind
        self.planted = []  # the events of ours, in order
        self.left = STEPS_AFTER
        roll = self.dice.weighted

        def weighted(items):  # which a life asks for its next step, and for nothing else
            if not self.planted and len(self.events) >= plant_at:
                self.plant()
            self.left -= bool(self.planted)
            if not self.left:
                raise EndOfLife
            return roll(items)

        self.dice.weighted = weighted

    def plant(self):
        begun = len(self.events)
        if self.kind == "register":
            self.gicr_write(3, CTLR, 0)
            self.gicr_write(3, 0x78, 0x4180_0000)
        else:
            self.mapc(ICID, 1)
            if self.kind != "collection":
                self.mapd(DEVICE, 4)
        if self.kind in ("event", "moved", "lpi", "discarded"):
            self.mapti(DEVICE, EVENT, INTID, ICID)
            self.mapped.pop()  # nobody else is to use it
        if self.kind == "moved":
            self.mapc(OTHER_ICID, 2)
            self.command(0x1 | DEVICE << 32, EVENT, OTHER_ICID)
        if self.kind == "discarded":
            self.command(0xF | DEVICE << 32, EVENT)
        if self.kind == "lpi":
            self.msi(DEVICE, EVENT)
        self.planted = self.events[begun:]


def life(seed, profile, kind, plant_at=150):
    """Return (header, events, seq of the planted event, of what it took up or None, asked_at).

    A command takes up a mem.write of the queue, the upper half of a register its lower half.

    None when the life was over before anything was planted, or had no place for a device.
    """
    one = PlantedLife(seed, profile, kind, plant_at)
    with suppress(EndOfLife):
        one.lived(4 * plant_at)
    header = header_of(seed, profile, plant_at)
    told = list(answered(one.events, model_of(header, profile), _SHOWN[profile.family]))
    places = {id(event): seq for seq, event in enumerate(told)}
    if not one.planted or id(one.planted[-1]) not in places or _UNREACHABLE in told:
        return None
    last = places[id(one.planted[-1])]
    queued = last - 1 if told[last][0] == NUMBER["reg.write"] else None
    if kind == "register":
        queued = places[id(one.planted[-2])]
    asked_at = next(
        (seq - 1 for seq in range(last + 1, len(told)) if _may_change(told[seq], kind)),
        len(told) - 1,
    )
    return header, told, last, queued, asked_at


def _may_change(event, kind):
    name = event[0]
    if name in (NUMBER["reset"], NUMBER["restore"]):
        return True
    if kind == "register":
        return name in (NUMBER["gicr.write"],) and event[2] == 3
    if name == NUMBER["reg.write"]:
        return event[2] & ~7 in (CTLR, CBASER, BASER0, BASER1)
    if name == NUMBER["mem.write"]:
        return event[2] in _TABLES or (kind == "lpi" and event[3][0] == _MOVALL)
    return kind == "lpi" and name in (NUMBER["gicr.write"], NUMBER["gicd.write"])
