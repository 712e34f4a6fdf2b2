"""Lives of a VM with hundreds of devices: large states, for what must not depend on their size."""

from __future__ import annotations

from collections.abc import Iterator

from replay.generator.answers import answered, header_of
from replay.generator.dice import Dice
from replay.generator.guest import CPUS, CREADR, CTLR, RAM, Guest
from replay.judge import model_of
from replay.model import effects
from replay.profiles import find
from tracer import events as ev
from tracer.events import Event
from tracer.log.header import Header

EVENTS_PER_DEVICE = 8
_ITTS = RAM + 0x100_0000
_ROUND = 2000  # steps that are made at once
_ROUNDS_PER_LIFE = 100
_SHOWN = {
    "kvm": frozenset((effects.ATTR_RESULT, effects.MSI_RESULT)),
    "qemu": frozenset((effects.COMMAND, effects.TABLE_READ, effects.TABLE_WRITE)),
}


class BusyGuest(Guest):
    """A guest that maps `devices` devices and then uses them."""

    def __init__(self, seed: int, devices: int, *, kvm: bool) -> None:
        super().__init__(Dice(seed), kvm=kvm)
        self.two_levels = False
        self.ids = [8 * (at + 1) for at in range(devices)]
        self.booted = False

    def itt(self, device_id: int) -> int:
        """Return where a device's ITT is: they stand behind one another."""
        return _ITTS + 0x400 * (device_id // 8)

    def intid(self, device_id: int, event_id: int) -> int:
        """Return the LPI of an event."""
        return 8192 + (device_id // 8 - 1) * EVENTS_PER_DEVICE + event_id

    def boot(self) -> None:
        """Reset, and map everything."""
        self.add("reset", how=ev.CTRL_RESET if self.kvm and self.booted else ev.POWER_ON)
        self.booted = True
        self.add("gicd.write", offset=0, value=2, origin=self.origin)
        self.lpis(range(CPUS))
        self.tables()
        self.write(CTLR, 1)
        for icid in range(4):
            self.mapc(icid, icid)
        for device_id in self.ids:
            self.mapd(device_id, 3)
            for event_id in range(EVENTS_PER_DEVICE):
                self.configure(self.intid(device_id, event_id))
                self.mapti(device_id, event_id, self.intid(device_id, event_id), event_id & 3)

    def step(self) -> None:
        """Do one thing."""
        device_id, event_id = self.dice.pick(self.ids), self.dice.pick(range(EVENTS_PER_DEVICE))
        chance = self.dice.pick(range(100))
        if chance < 60:
            self.msi(device_id, event_id)
        elif chance < 70:
            self.command(0x1 | device_id << 32, event_id, self.dice.pick(range(4)))  # MOVI
        elif chance < 72:
            self.command(0xF | device_id << 32, event_id)  # DISCARD
        elif chance < 82:
            self.mapti(device_id, event_id, self.intid(device_id, event_id), event_id & 3)
        elif chance < 85:
            self.configure(self.intid(device_id, event_id))
            self.command(0xC | device_id << 32, event_id)  # INV
        elif chance < 86 and self.dice.chance(5):
            self.mapd(device_id, 3)
        else:
            self.read(self.dice.pick((CTLR, CREADR)))

    def lived(self, events: int) -> Iterator[Event]:
        """Yield at least so many events, without answers."""
        made = rounds = 0
        while made < events:
            if rounds % _ROUNDS_PER_LIFE == 0:
                self.boot()
            for _ in range(_ROUND):
                self.step()
            rounds += 1
            made += len(self.events)
            yield from self.events
            self.events.clear()
            self.mapped.clear()


def busy_life(profile_name: str, devices: int, events: int) -> tuple[Header, Iterator[Event]]:
    """Return a header and about so many events, answered by the model."""
    profile = find(profile_name)[0]
    header = header_of(devices, profile, events)
    guest = BusyGuest(devices, devices, kvm=profile.family == "kvm")
    asked = guest.lived(events)
    return header, answered(asked, model_of(header, profile), _SHOWN[profile.family])
