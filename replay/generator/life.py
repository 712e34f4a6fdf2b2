"""One life: set-up, then steps by weight until enough happened, then every question.

A table says how often each step is taken on KVM and on QEMU, one function does it. What kills a
host is left out where the profile says that it does. Counterparts: `guest`, which does the single
things, and `answers`, which has the model answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from replay.generator.dice import Dice
from replay.generator.guest import (
    BASER0,
    BASER1,
    CBASER,
    COLLECTIONS,
    CONFIG,
    CPUS,
    CREADR,
    CTLR,
    CWRITER,
    DEVICE_IDS,
    DEVICES,
    EVENT_IDS,
    GICR_CTLR,
    INTIDS,
    LEVEL1,
    OTHER_PENDING,
    PENDBASER,
    PENDING,
    PROPBASER,
    QUEUE,
    RAM,
    RAM_BYTES,
    VALID,
    Guest,
)
from replay.profiles import Profile
from tracer import events as ev
from tracer.events import Event

Step = Callable[["Life"], None]
BAD_DEVICE_IDS: Final = (0x9, 0x2006, 0x8000, 0xFFFF, 0x1_0000, 0xFFFF_FFFF)
BAD_EVENT_IDS: Final = (4, 16, 0xFFFF, 0x1_0000, 0xFFFF_FFFF)
BAD_INTIDS: Final = (0, 31, 1023, 8191, 16384, 65535, 65536, 0xFFFF_FFFF)
BAD_ICIDS: Final = (7, 0x1FFF, 0x2000, 0xFFFF)
BAD_CPUS: Final = (CPUS, 0xFF, 0xFFFF)
_RECENT: Final = 16  # mappings that MSIs are sent to


class Life(Guest):
    """One life of a VM."""

    def __init__(self, seed: int, profile: Profile) -> None:
        super().__init__(Dice(seed), kvm=profile.family == "kvm")
        # These hosts die when tables are saved after a collection was unmapped or a restore failed.
        self.frail = self.kvm and not profile.choices.save_zeroes_ite_without_collection

    def lived(self, events: int) -> list[Event]:
        """Return about so many events of a life, from power on to the last questions."""
        self.add("reset", how=ev.POWER_ON)
        self.add("gicd.write", offset=0, value=2, origin=self.origin)
        for intid in (*range(8192, 8208, 8), 8256):
            self.configure(intid)
        if self.kvm and self.dice.chance(12):
            self.origin = ev.GUEST  # a vCPU that runs takes LPIs: only until the first one comes
        self.lpis(range(CPUS))
        self.set_up()
        self.origin = ev.VMM if self.kvm else ev.GUEST
        steps = [(kvm if self.kvm else qemu, step) for qemu, kvm, step in STEPS]
        while len(self.events) < events:
            self.dice.weighted(steps)(self)
        self.live()
        self.pending()
        self.registers()
        self.mappings()
        return self.events

    def set_up(self) -> None:
        """What a driver does first."""
        self.tables()
        self.write(CTLR, 1)
        for icid in range(4):
            self.mapc(icid, self.cpu())
        for device_id in DEVICE_IDS:
            self.mapd(device_id, self.dice.pick((2, 4, 5)))
        self.mapped.clear()
        for _ in range(_RECENT):
            self.map_one()

    # -- identifiers

    def cpu(self) -> int:
        """Return a vCPU."""
        return self.dice.below(CPUS)

    def _one_of(self, good: tuple[int, ...], bad: tuple[int, ...]) -> int:
        return self.dice.pick(bad if self.dice.chance(4) else good)

    def device_id(self) -> int:
        """Return a DeviceID, most often one of the first, seldom none."""
        return self._one_of(DEVICE_IDS[: self.dice.pick((3, 3, 6))], BAD_DEVICE_IDS)

    def event_id(self) -> int:
        """Return an EventID."""
        return self._one_of(EVENT_IDS, BAD_EVENT_IDS)

    def intid(self) -> int:
        """Return an INTID."""
        return self._one_of(INTIDS, BAD_INTIDS)

    def icid(self) -> int:
        """Return a collection."""
        return self._one_of((0, 1, 2, 3), BAD_ICIDS)

    def known(self) -> tuple[int, int]:
        """Return a device and an event, most often of a recent mapping."""
        if self.mapped and self.dice.chance(85):
            return self.dice.pick(self.mapped[-_RECENT:])
        return self.device_id(), self.event_id()

    # -- steps: commands

    def map_one(self) -> None:
        """MAPTI."""
        self.mapti(self.device_id(), self.event_id(), self.intid(), self.icid())

    def map_same(self) -> None:
        """MAPI, whose INTID is the EventID."""
        self.command(0xB | self.device_id() << 32, self.dice.pick((0, 1, 8192)), self.icid())

    def map_device(self) -> None:
        """MAPD; its ITT may be outside of RAM, on QEMU too seldom to matter, as it stalls."""
        device_id = self.device_id()
        if self.dice.chance(3 if self.kvm else 0):
            self.command(0x8 | device_id << 32, 3, VALID | RAM + RAM_BYTES)
        else:
            self.mapd(device_id, self.dice.pick((2, 4, 5, 16, 17, 32)))

    def unmap_device(self) -> None:
        """MAPD with V=0."""
        device_id, _ = self.known()
        self.command(0x8 | device_id << 32, 0, self.itt(device_id))

    def map_collection(self) -> None:
        """MAPC, sometimes to a vCPU that there is not."""
        self.mapc(self.icid(), self._one_of(tuple(range(CPUS)), BAD_CPUS))

    def unmap_collection(self) -> None:
        """MAPC with V=0."""
        if not self.frail:
            self.command(0x9, 0, self.icid())

    def move_one(self) -> None:
        """MOVI."""
        device_id, event_id = self.known()
        self.command(0x1 | device_id << 32, event_id, self.icid())

    def move_all(self) -> None:
        """MOVALL."""
        self.command(0xE, 0, self.cpu() << 16, self._one_of(tuple(range(CPUS)), BAD_CPUS) << 16)

    def on_event(self) -> None:
        """INT, CLEAR, INV or DISCARD."""
        device_id, event_id = self.known()
        self.command(self.dice.pick((3, 3, 4, 4, 0xC, 0xC, 0xF)) | device_id << 32, event_id)

    def invalidate_all(self) -> None:
        """INVALL."""
        self.command(0xD, 0, self.icid())

    def odd_command(self) -> None:
        """SYNC, or a command that there is not."""
        self.command(self.dice.pick((5, 5, 0, 2, 0x7F, 0xFF)), 0, self.cpu() << 16)

    # -- steps: everything else

    def interrupt(self) -> None:
        """An MSI."""
        self.msi(*self.known())

    def reconfigure(self) -> None:
        """Change configuration bytes, and sometimes have them read."""
        self.configure(self.dice.pick(INTIDS))
        if self.dice.chance(60):
            self.invalidate_all()

    def lpis_off_and_on(self) -> None:
        """Turn a vCPU's LPIs off, send one meanwhile, and turn them on."""
        cpu = self.cpu()
        self.gicr_write(cpu, GICR_CTLR, 0)
        self.interrupt()
        self.live()
        if self.dice.chance(50):
            self.lpis([cpu], zeroed=self.dice.chance(50))
        else:
            self.gicr_write(cpu, GICR_CTLR, 1)

    def its_off_and_on(self) -> None:
        """Disable the ITS, send an MSI meanwhile, and enable it."""
        self.write(CTLR, 0)
        self.interrupt()
        if self.dice.chance(40):
            self.device_table(other=self.dice.chance(50))
        if self.dice.chance(20):
            self.write(BASER1, COLLECTIONS)
            self.write(BASER1, VALID | COLLECTIONS | 0x200)
        self.write(CTLR, 1)

    def move_tables(self) -> None:
        """Write tables' addresses while LPIs are on, on KVM also ones without memory."""
        cpu = self.cpu()
        nowhere = (0, 0x1_0000) if self.kvm else (OTHER_PENDING,)  # at 0 QEMU has flash
        self.gicr_write(cpu, PENDBASER, self.dice.pick((PENDING[cpu], *nowhere)))
        self.gicr_write(cpu, PROPBASER, CONFIG | self.dice.pick((0xF, 0xC)))

    def hide_level1(self) -> None:
        """Clear a level-1 entry behind the device's back, and put it back."""
        if self.two_levels:
            self.store(LEVEL1 + 8 * self.dice.below(3), 0)
            self.msi(self.dice.pick(DEVICE_IDS), 0)
            self.map_one()
            self.mappings()
            self.level1()

    def odd_write(self) -> None:
        """A value or a register that a driver would not write."""
        offset, value = self.dice.pick(ODD_WRITES)
        self.write(offset, value)
        self.read(offset & ~7)
        if offset == CWRITER:
            self.write(CWRITER, self.cwriter)

    def odd_half(self) -> None:
        """Half of a register, which only QEMU's guests write here."""
        offset = self.dice.pick((CBASER, CBASER + 4, CWRITER + 4, BASER0 + 4, 0x14, CREADR + 4))
        self.write_half(offset, self.dice.number() & 0xFFFF_FFFF)
        self.read(offset & ~7)
        self.its_off_and_on()
        self.write(CWRITER, self.cwriter)

    def reset(self) -> None:
        """Reset, as the VMM of this family does, and set up again; LPIs may stay on."""
        self.pending()
        how = self.dice.pick((ev.CTRL_RESET, ev.CTRL_RESET, ev.REGISTER_FALLBACK))
        self.add("reset", how=how if self.kvm else ev.SYSTEM, origin=self.origin)
        self.live()
        self.registers()
        self.interrupt()
        if not self.kvm:
            self.add("gicd.write", offset=0, value=2, origin=self.origin)
            self.lpis(range(CPUS), zeroed=self.dice.chance(50))
        elif self.dice.chance(40):
            for cpu in range(CPUS):
                self.gicr_write(cpu, GICR_CTLR, 0)
            self.live()
            self.lpis(range(CPUS), zeroed=self.dice.chance(50))
        if self.dice.chance(30):
            for word in range(0x20):
                self.store(DEVICES + 8 * word, 0)
        self.set_up()
        self.live()

    def round_trip(self) -> None:
        """Save, reset, restore in the order of the kernel's document, and enable."""
        self.pending()
        self.mappings()
        if self.dice.chance(80):
            self.add("reset", how=ev.CTRL_RESET, origin=self.origin)
        for offset, value in (
            (CBASER, VALID | QUEUE | self.queue_pages - 1),
            (CREADR, self.cwriter),
            (CWRITER, self.cwriter),
        ):
            self.write(offset, value)
        self.device_table()
        self.write(BASER1, VALID | COLLECTIONS | 0x200)
        self.add("restore")
        self.write(CTLR, 1)
        self.registers()
        self.live()
        if not self.frail and self.dice.chance(20):
            self.add("restore")  # fails, and frees what there is
            self.live()


# weight on QEMU, weight on KVM, what is done
STEPS: Final[tuple[tuple[int, int, Step], ...]] = (
    (260, 260, Life.interrupt),
    (60, 60, Life.map_one),
    (6, 6, Life.map_same),
    (12, 12, Life.map_device),
    (8, 8, Life.unmap_device),
    (20, 20, Life.map_collection),
    (3, 3, Life.unmap_collection),
    (30, 30, Life.move_one),
    (16, 16, Life.move_all),
    (110, 110, Life.on_event),
    (20, 20, Life.invalidate_all),
    (10, 10, Life.odd_command),
    (50, 50, Life.reconfigure),
    (70, 60, Life.pending),
    (0, 60, Life.live),
    (30, 25, Life.mappings),
    (15, 15, Life.registers),
    (14, 14, Life.lpis_off_and_on),
    (10, 10, Life.its_off_and_on),
    (6, 6, Life.move_tables),
    (8, 8, Life.hide_level1),
    (12, 12, Life.odd_write),
    (6, 0, Life.odd_half),
    (14, 14, Life.reset),
    (0, 12, Life.round_trip),
)
ODD_WRITES: Final = (
    (0x4, 0), (0x4, 0x1000), (0x8, 0), (BASER0, 0), (BASER0, 1 << 63), (BASER1, 0), (CBASER, 0),
    (CREADR, 0x20), (CWRITER, 0xF_FFE0), (CWRITER, 0x1), (0x110, 1 << 63), (0x138, 0xFFFF),
    (0x40, 1), (0x10, 1), (0xFFE8, 0),
)  # fmt: skip
