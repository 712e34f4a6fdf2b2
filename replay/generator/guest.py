"""What a guest and its VMM do to the ITS of one VM, as events: tables, commands, questions.

Where things lie in guest RAM is a table here; what is done, and how often, is in `life`. On KVM
registers are written as a VMM does, by attributes; on QEMU as a guest does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from replay.generator.dice import Dice
from tracer import events as ev
from tracer.events import Event, make

RAM: Final = 0x4000_0000
RAM_BYTES: Final = 64 << 20
LEVEL1, DEVICES, OTHER_DEVICES, COLLECTIONS, QUEUE, CONFIG = (
    RAM + at for at in (0x20_0000, 0x30_0000, 0x38_0000, 0x40_0000, 0x50_0000, 0x60_0000)
)
PENDING: Final = tuple(RAM + 0x70_0000 + 0x2_0000 * cpu for cpu in range(4))
OTHER_PENDING: Final = RAM + 0x90_0000
ITTS: Final = RAM + 0x80_0000
ITT_BYTES: Final = 0x2000
CPUS: Final = 4
# With two levels a page of 64 KiB holds 8192 entries: these stand in three. QEMU's edu devices
# have DeviceIDs of bus 0.
DEVICE_IDS: Final = (0x8, 0x10, 0x18, 0x2005, 0x2009, 0x4001)
EVENT_IDS: Final = (0, 1, 2, 3)
INTIDS: Final = (8192, 8193, 8194, 8195, 8199, 8200, 8201, 8260)
VALID: Final = 1 << 63
_INDIRECT: Final = 1 << 62
_PAGE_64K: Final = 0x200
_PAGE_BYTES: Final = 0x1_0000
_PTZ: Final = 1 << 62
ON, OFF, LOW = 0xA1, 0xA0, 0x41  # configuration bytes: enabled, disabled, another priority
CTLR, CBASER, CWRITER, CREADR, BASER0, BASER1 = 0x0, 0x80, 0x88, 0x90, 0x100, 0x108
GICR_CTLR, PROPBASER, PENDBASER = 0x0, 0x70, 0x78


class Guest:
    """One VM; `events` is what was done and asked so far, questions with an empty answer."""

    def __init__(self, dice: Dice, *, kvm: bool) -> None:
        self.dice = dice
        self.kvm = kvm
        self.events: list[Event] = []
        self.origin = ev.VMM if kvm else ev.GUEST
        self.two_levels = dice.chance(50)
        self.mapped: list[tuple[int, int]] = []  # (DeviceID, EventID), the latest last
        self.queue_pages = 1
        self.cwriter = 0

    def add(self, kind: str, **fields: object) -> None:
        """Append one event."""
        self.events.append(make(kind, 0, **fields))

    # -- registers and RAM

    def write(self, offset: int, value: int) -> None:
        """Write a register of the ITS."""
        size = 8 if self.origin == ev.VMM or offset >= CBASER else 4
        self.add("reg.write", offset=offset, value=value, size=size, origin=self.origin)

    def write_half(self, offset: int, value: int) -> None:
        """Write 4 bytes, which only a guest can."""
        self.add("reg.write", offset=offset, value=value, size=4, origin=ev.GUEST)

    def read(self, offset: int) -> None:
        """Read a register of the ITS."""
        size = 8 if self.origin == ev.VMM or offset >= CBASER else 4
        self.add("reg.read", offset=offset, value=0, size=size, origin=self.origin)

    def gicr_write(self, cpu: int, offset: int, value: int) -> None:
        """Write a redistributor's register, 4 bytes at a time."""
        for at in range(0, 8 if offset else 4, 4):
            half = value >> 8 * at & 0xFFFF_FFFF
            self.add(
                "gicr.write", cpu=cpu, offset=offset + at, value=half, size=4, origin=self.origin
            )

    def gicr_read(self, cpu: int, offset: int) -> None:
        """Read a redistributor's register, its lower half."""
        self.add("gicr.read", cpu=cpu, offset=offset, value=0, size=4, origin=self.origin)

    def store(self, gpa: int, *words: int) -> None:
        """Store doublewords in guest RAM."""
        data = b"".join(word.to_bytes(8, "little") for word in words)
        self.add("mem.write", gpa=gpa, data=data)

    def look(self, gpa: int, words: int) -> None:
        """Ask what stands in guest RAM."""
        self.add("mem.read", cause=0, gpa=gpa, data=bytes(8 * words))

    # -- tables

    def configure(self, intid: int) -> None:
        """Store the configuration bytes of 8 LPIs, one of which is `intid`."""
        some = [self.dice.pick((ON, ON, ON, OFF, LOW)) for _ in range(8)]
        self.store(CONFIG + (intid - 8192 & ~7), int.from_bytes(bytes(some), "little"))

    def lpis(self, cpus: Iterable[int], *, zeroed: bool = False) -> None:
        """Give vCPUs their tables and let their LPIs in; `zeroed` says that the pending one is."""
        for cpu in cpus:
            self.gicr_write(cpu, PROPBASER, CONFIG | self.dice.pick((0xF, 0xF, 0xF, 0xD, 0xE)))
            self.gicr_write(cpu, PENDBASER, PENDING[cpu] | (_PTZ if zeroed else 0))
            self.gicr_write(cpu, GICR_CTLR, 1)

    def level1(self, *, valid_percent: int = 100) -> None:
        """Point the level-1 entries at their pages."""
        for page in range(3):
            entry = VALID | DEVICES + _PAGE_BYTES * page if self.dice.chance(valid_percent) else 0
            self.store(LEVEL1 + 8 * page, entry)

    def device_table(self, *, other: bool = False) -> None:
        """Write GITS_BASER0, of 4 pages if flat: DeviceID 0x4001 stands on the third."""
        where = _INDIRECT | LEVEL1 if self.two_levels else (OTHER_DEVICES if other else DEVICES) | 3
        self.write(BASER0, VALID | where | _PAGE_64K)

    def tables(self) -> None:
        """Hand over tables and a queue."""
        if self.two_levels:
            self.level1(valid_percent=95)
        self.device_table()
        self.write(BASER1, VALID | COLLECTIONS | _PAGE_64K)
        self.queue_pages = self.dice.pick((1, 1, 2))
        self.write(CBASER, VALID | QUEUE | self.queue_pages - 1)
        self.cwriter = 0
        self.write(CWRITER, 0)  # QEMU keeps it at a write to CBASER

    def itt(self, device_id: int) -> int:
        """Return where a device's ITT is; devices that are none share one."""
        at = DEVICE_IDS.index(device_id) if device_id in DEVICE_IDS else len(DEVICE_IDS)
        return ITTS + ITT_BYTES * at

    # -- commands

    def command(self, *words: int) -> None:
        """Put a command into the queue and have it run."""
        self.store(QUEUE + self.cwriter, *words, *([0] * (4 - len(words))))
        self.cwriter = (self.cwriter + 32) % (self.queue_pages * 0x1000)
        self.write(CWRITER, self.cwriter)

    def mapd(self, device_id: int, bits: int) -> None:
        """MAPD."""
        self.command(0x8 | device_id << 32, bits - 1, VALID | self.itt(device_id))

    def mapc(self, icid: int, cpu: int) -> None:
        """MAPC."""
        self.command(0x9, 0, VALID | cpu << 16 | icid)

    def mapti(self, device_id: int, event_id: int, intid: int, icid: int) -> None:
        """MAPTI."""
        self.mapped.append((device_id, event_id))
        self.command(0xA | device_id << 32, event_id | intid << 32, icid)

    def msi(self, device_id: int, event_id: int) -> None:
        """An MSI; of a device that QEMU cannot have, an INT command."""
        if not self.kvm and device_id > 0xFF:
            self.command(0x3 | device_id << 32, event_id)
            return
        path = ev.MSI_PATHS.index("ioctl" if self.kvm else "mmio")
        self.add("msi", device_id=device_id, event_id=event_id, path=path)

    # -- questions

    def registers(self) -> None:
        """Ask for all registers that change."""
        for offset in (CTLR, CBASER, CWRITER, CREADR, BASER0, BASER1):
            self.read(offset)
        for cpu in range(CPUS):
            for offset in (GICR_CTLR, PROPBASER, PENDBASER):
                self.gicr_read(cpu, offset)

    def pending(self) -> None:
        """Ask which LPIs stand in the pending tables; KVM writes them when it is told to."""
        if self.kvm:
            self.add("save_pending")
        for table in PENDING:
            self.look(table + 0x400, 2)

    def live(self) -> None:
        """Ask for the live LPIs."""
        if self.kvm:
            self.add("probe", edge=ev.EDGES.index("begin"))

    def mappings(self) -> None:
        """Ask what stands in the tables; KVM writes them when it is told to."""
        if self.kvm:
            self.add("save")
        for page in range(3):
            self.look(DEVICES + _PAGE_BYTES * page, 0x19)
        self.look(OTHER_DEVICES, 0x19)
        self.look(COLLECTIONS, 8)
        for at in range(len(DEVICE_IDS) + 1):
            self.look(ITTS + ITT_BYTES * at, 8)
