"""Lives of a well-behaved guest and VMM, by seed: a correct device leaves nothing to find in them.

The guest zeroes what it hands over, maps each INTID to one event, re-reads what it configures, and
takes pending LPIs back before it unmaps. The VMM saves with nothing pending, restores in the
documented order, and switches LPIs off before it resets.
"""

from __future__ import annotations

import random

from tracer import events as ev
from tracer.events import make
from tracer.its.commands import encode
from tracer.log.header import Header

RAM = 0x4000_0000
LEVEL1, DEVICES, COLLECTIONS, QUEUE = (
    RAM + 0xF_0000,
    RAM + 0x10_0000,
    RAM + 0x20_0000,
    RAM + 0x30_0000,
)
CONFIG, PENDING, ITTS = RAM + 0x40_0000, RAM + 0x50_0000, RAM + 0x60_0000
VALID, INDIRECT, PAGE_64K = 1 << 63, 1 << 62, 2 << 8
PAGE = 0x1_0000
DEVICE_IDS = (1, 2, 7, 0x2005, 0x2009, 0x4001)
LPIS = range(8192, 8216)


class CleanLife:
    """One life; `events` and `header` are what a trace has."""

    def __init__(self, seed: int, steps: int = 40) -> None:
        self.random = random.Random(seed)
        self.cpus = self.random.choice((1, 2, 4, 5))
        self.two_level = self.random.random() < 0.5
        self.queued = self.random.random() < 0.5  # whether LPIs are enabled, so that they queue
        self.header = Header(
            source="clean lives", cpus=self.cpus, guest_ram="complete", profile="linux-6.1.192",
            ram_ranges=[[RAM, 32 << 20]], its_bases=[0x808_0000],
        )  # fmt: skip
        self.events: list = []
        self.pending: set[tuple[int, int]] = set()
        self._boot()
        for _ in range(steps):
            self._step()
        self._calm()
        if self.queued:
            self._lpis(on=False)

    # -- events

    def add(self, name, **fields):
        self.events.append(make(name, 0, **fields))

    def reg(self, offset, value):
        self.add("reg.write", offset=offset, value=value, origin=ev.VMM)

    def gicr(self, cpu, offset, value):
        self.add("gicr.write", cpu=cpu, offset=offset, value=value, size=4, origin=ev.VMM)

    def zero(self, gpa, size):
        self.add("mem.write", gpa=gpa, data=bytes(size))

    def command(self, name, **fields):
        words = encode(name, **fields)
        data = b"".join(word.to_bytes(8, "little") for word in words)
        self.add("mem.write", gpa=QUEUE + self.written, data=data)
        self.written = (self.written + 32) % PAGE
        self.reg(0x88, self.written)

    # -- a boot, and what may follow

    def _boot(self):
        self.free_lpis, self.free_itts = list(LPIS), list(range(64))
        self.mapped: dict[int, dict[int, int]] = {}
        self.collections: dict[int, int] = {}
        self.written = 0
        self.add("gicd.write", offset=0, value=2, origin=ev.VMM)
        for at in range(0, len(LPIS), 8):
            self.add("mem.write", gpa=CONFIG + at, data=bytes(self._config() for _ in range(8)))
        for device in DEVICE_IDS:
            self.zero(DEVICES + 8 * device, 8)
        self.zero(COLLECTIONS, 0x100)
        for cpu in range(self.cpus):
            self.zero(PENDING + cpu * PAGE + LPIS[0] // 8, 8)
        self._lpis(on=True)
        if self.two_level:
            for page in range(3):
                entry = (VALID | DEVICES + page * PAGE).to_bytes(8, "little")
                self.add("mem.write", gpa=LEVEL1 + 8 * page, data=entry)
        self._registers()
        self.reg(0, 1)
        for icid in range(self.cpus + 1):
            self._mapc(icid)
        for device in self.random.sample(DEVICE_IDS, 3):
            self._mapd(device)
        for _ in range(6):
            self._mapti()

    def _config(self):
        return self.random.choice((0xA0, 0x40, 0x80)) | self.queued

    def _registers(self):
        self.reg(0x80, VALID | QUEUE | 0xF)
        self.reg(0x88, 0)
        self.baser0 = VALID | PAGE_64K | (INDIRECT | LEVEL1 if self.two_level else DEVICES | 2)
        self.reg(0x100, self.baser0)
        self.reg(0x108, VALID | COLLECTIONS | PAGE_64K)

    def _lpis(self, *, on):
        for cpu in range(self.cpus):
            if on:
                self.gicr(cpu, 0x70, CONFIG | 0xF)
                self.gicr(cpu, 0x74, 0)
                self.gicr(cpu, 0x78, PENDING + cpu * PAGE)
                self.gicr(cpu, 0x7C, 0)
            self.gicr(cpu, 0, int(on))

    def _mapc(self, icid):
        self.collections[icid] = self.random.randrange(self.cpus)
        self.command("MAPC", icid=icid, rdbase=self.collections[icid], v=1)

    def _mapd(self, device):
        if device in self.mapped or not self.free_itts:
            return
        itt = ITTS + self.free_itts.pop(0) * 0x1000
        self.zero(itt, 0x100)
        self.mapped[device] = {}
        self.command("MAPD", device_id=device, size=4, itt_addr=itt, v=1)

    def _mapti(self):
        device = self.random.choice(list(self.mapped) or [0])
        event = self.random.randrange(32)
        if device not in self.mapped or event in self.mapped[device] or not self.free_lpis:
            return
        lpi = self.mapped[device][event] = self.free_lpis.pop(0)
        icid = self.random.choice(list(self.collections))
        self.command("MAPTI", device_id=device, event_id=event, pintid=lpi, icid=icid)

    def _event(self):
        pairs = [(device, event) for device, events in self.mapped.items() for event in events]
        return self.random.choice(pairs) if pairs else None

    def _msi(self):
        pair = self._event()
        if pair:
            self.pending.add(pair)
            self.add("msi", device_id=pair[0], event_id=pair[1], path=1)

    def _movi(self):
        pair = self._event()
        if pair:
            icid = self.random.choice(list(self.collections))
            self.command("MOVI", device_id=pair[0], event_id=pair[1], icid=icid)

    def _configure(self):
        pair = self._event()
        if pair:
            lpi = self.mapped[pair[0]][pair[1]]
            self.add("mem.write", gpa=CONFIG + lpi - 8192, data=bytes([self._config()]))
            self.command("INV", device_id=pair[0], event_id=pair[1])

    def _calm(self):
        for device, event in sorted(self.pending):
            self.command("CLEAR", device_id=device, event_id=event)
        self.pending.clear()

    def _discard(self, pair=None):
        pair = pair or self._event()
        if pair and not self.queued:  # a queued LPI is its vCPU's until that one runs
            if pair in self.pending:
                self.pending.discard(pair)
                self.command("CLEAR", device_id=pair[0], event_id=pair[1])
            self.command("DISCARD", device_id=pair[0], event_id=pair[1])
            self.free_lpis.append(self.mapped[pair[0]].pop(pair[1]))

    def _unmap(self):
        device = self.random.choice(list(self.mapped) or [0])
        if device in self.mapped and not self.queued:
            for event in list(self.mapped[device]):
                self._discard((device, event))
            self.command("MAPD", device_id=device, size=4, v=0)
            del self.mapped[device]

    def _pause(self):
        self._calm()
        self.add("save")
        self.add("save_pending")

    def _round_trip(self):
        self._pause()
        written = self.written
        self.add("reset", how=ev.CTRL_RESET, origin=ev.VMM)
        self._registers()
        self.reg(0x90, written)
        self.reg(0x88, written)
        self.add("restore")
        self.reg(0, 1)

    def _reboot(self):
        self._calm()
        self._lpis(on=False)
        self.add("reset", how=ev.CTRL_RESET, origin=ev.VMM)
        self._boot()

    def _step(self):
        steps = {
            self._msi: 8, self._mapti: 6, self._mapd: 0, self._movi: 3, self._configure: 3,
            self._calm: 2, self._discard: 3, self._unmap: 1, self._pause: 1,
            self._round_trip: 0.0 if self.queued else 0.6, self._reboot: 0.6,
        }  # fmt: skip
        chosen = self.random.choices(list(steps), list(steps.values()))[0]
        chosen()
        if self.random.random() < 0.1:
            self._mapc(self.random.choice(list(self.collections)))
        if self.random.random() < 0.1:
            self._mapd(self.random.choice(DEVICE_IDS))
