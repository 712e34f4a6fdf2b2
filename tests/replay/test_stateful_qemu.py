"""The model of QEMU's ITS beside a naive one: dicts of dicts, flat tables, physical commands.

QEMU keeps each mapping in guest RAM. The naive model has a dict for each table that a guest ever
named by its address, so one that comes back brings its mappings along (its.md 4).
"""

from __future__ import annotations

import os
import random
from collections import defaultdict

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from replay.model.memory import GuestRam
from replay.model.qemu import view
from replay.model.qemu.profile import QEMU_V3
from replay.model.qemu.vm import QemuVm
from replay.vectors import QEMU_SLOTS
from tracer.its.commands import encode

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SETTINGS = settings(
    max_examples=100 if DEEP else 80, stateful_step_count=150 if DEEP else 30, derandomize=not DEEP,
    database=None, deadline=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip

VALID = 1 << 63
QUEUE, NOWHERE = 0x40300000, 0x90000000
TYPES = (0x0107000000000000, 0x0407000000000000)
CPUS = (0, 1, 2, 3)
DTS = (0x40100200,) * 6 + (0x40100000, 0x40100000, 0x40140200, 0x40180000, NOWHERE | 0x200)
CTS = (0x40200200,) * 6 + (0x40200000, 0x40200000, 0x40240200, 0x40280000, NOWHERE | 0x200)
ITTS = (0x40600000, 0x40700000, 0x40800000) * 4 + (NOWHERE,)
PENDS = tuple(0x41000000 + 0x2_0000 * n for n in range(8))
DEVICES = (0, 1, 2) * 4 + (511, 512, 8191, 8192, 65535, 65536)
EVENTS = (0, 1, 2, 3) * 4 + (15, 16, 65535, 65536)
USED = EVENTS + tuple(range(-40, 0))  # below zero: one of the events that are mapped
INTIDS = (8192, 8193, 8199, 8200, 8260) * 4 + (8191, 0, 16383, 16384, 65535, 65536)
ICIDS = (0, 1, 2, 3) * 4 + (511, 512, 512, 8191, 8192, 65535)
TARGETS = CPUS * 4 + (4, 65535)
SEEDS = st.integers(0, (1 << 32) - 1)
STEPS = []


class NoMemory(Exception):
    """A table that is not in RAM: QEMU stalls, with the command still to be done."""


class NaiveQemu:
    def __init__(self):
        self.tables = defaultdict(dict)  # address -> what stands in it, by identifier
        self.pending = defaultdict(set)  # PENDBASER -> INTIDs
        self.used = {
            "dt": (0, 0),
            "ct": (0, 0),
            "queue": (0, 0),
        }  # since enabling: address, entries
        self.reset()

    def reset(self):
        """Registers only: neither tables nor what enabling derived from them."""
        self.enabled, self.stalled = False, 0
        self.cbaser = self.cwriter = self.creadr = 0
        self.waiting = None  # the command at CREADR, if it is still to be done
        self.baser = [TYPES[0] | 0x200, TYPES[1] | 0x200]
        self.lpis_on, self.pendbaser, self.propbaser = [False] * 4, [0] * 4, [0] * 4

    def table(self, address):
        if address == NOWHERE:
            raise NoMemory
        return self.tables[address]

    def place(self, index):
        """Return address and entries of the table that a BASER names."""
        value = self.baser[index]
        size = 0x10000 if value & 0x200 else 0x1000
        return value & 0xFFFFFFFF & ~0x3FF, ((value & 0xFF) + 1) * size // 8 if value & VALID else 0

    def enable(self, on):
        self.enabled = bool(on)
        if on:
            self.used = {"dt": self.place(0), "ct": self.place(1)}
            entries = ((self.cbaser & 0xFF) + 1) * 128 if self.cbaser & VALID else 0
            self.used["queue"] = (self.cbaser & 0xFFFFF000, entries)
            self.run()

    def run(self):
        """Run what waits; a queue that is disabled or too short leaves it there."""
        if not self.waiting or not self.enabled or self.cwriter >= self.used["queue"][1] * 32:
            return
        try:
            self.waiting()
            self.creadr, self.waiting = self.cwriter, None
        except NoMemory:
            self.stalled = 1

    # -- look-ups

    def device(self, device_id):
        """Return (address of the ITT, Size) or None."""
        address, entries = self.used["dt"]
        return self.table(address).get(device_id) if device_id < entries else None

    def event(self, device_id, event_id):
        """Return (ITT, (INTID, ICID)) or None."""
        device = self.device(device_id)
        if not device or event_id >= 2 << device[1]:
            return None
        itt = self.table(device[0])
        return (itt, itt[event_id]) if event_id in itt else None

    def cpu(self, icid):
        address, entries = self.used["ct"]
        return self.table(address).get(icid) if icid < entries else None

    # -- commands

    def mapd(self, device_id, size, itt, valid):
        address, entries = self.used["dt"]
        if device_id < entries and size < 16:
            self.table(address)[device_id] = (itt, size)
            if not valid:
                del self.table(address)[device_id]

    def mapc(self, icid, cpu, valid):
        address, entries = self.used["ct"]
        if icid < entries and (cpu in CPUS or not valid):
            self.table(address)[icid] = cpu
            if not valid:
                del self.table(address)[icid]

    def mapti(self, device_id, event_id, intid, icid):
        device = self.device(device_id)
        fits = device and event_id < 2 << device[1] and icid < self.used["ct"][1]
        if fits and 8192 <= intid < 65536:
            self.table(device[0])[event_id] = (intid, icid)

    def interrupt(self, device_id, event_id, how):
        """INT, CLEAR, DISCARD. A collection table that is not RAM stalls nothing here."""
        found = self.event(device_id, event_id)
        if not found:
            return
        itt, (intid, icid) = found
        try:
            cpu = self.cpu(icid)
        except NoMemory:
            return
        if cpu is not None:
            if self.lpis_on[cpu] and intid < 2 << (self.propbaser[cpu] & 0x1F):
                bits = self.pending[self.pendbaser[cpu]]
                bits.add(intid) if how == "INT" else bits.discard(intid)
            if how == "DISCARD":
                del itt[event_id]

    def movi(self, device_id, event_id, icid):
        found = self.event(device_id, event_id)
        old = self.cpu(found[1][1]) if found else None
        new = self.cpu(icid) if old is not None else None
        if new is not None:
            itt, (intid, _) = found
            if old != new and self.lpis_on[old] and self.lpis_on[new]:
                self.move(old, new, {intid})
            itt[event_id] = (intid, icid)

    def movall(self, old, new):
        if old in CPUS and new in CPUS and old != new and self.lpis_on[old] and self.lpis_on[new]:
            bits = min(self.propbaser[old] & 0x1F, self.propbaser[new] & 0x1F)
            self.move(old, new, {i for i in range(8192, 65536) if i < 2 << bits})

    def move(self, old, new, intids):
        moved = self.pending[self.pendbaser[old]] & intids
        self.pending[self.pendbaser[old]] -= moved
        self.pending[self.pendbaser[new]] |= moved

    def inv(self, device_id, event_id):
        found = self.event(device_id, event_id)
        if found:
            self.cpu(found[1][1])

    # -- as the fast model's view tells it

    def devices(self):
        address, entries = self.place(0)
        return {
            device_id: {
                "itt_addr": itt,
                "eventid_bits": size + 1,
                "confirmed": True,
                "events": {
                    event_id: {"intid": intid, "icid": icid, "confirmed": True}
                    for event_id, (intid, icid) in self.tables[itt].items()
                    if event_id < 2 << size
                },
            }
            for device_id, (itt, size) in self.tables[address].items()
            if device_id < entries
        }

    def collections(self):
        address, entries = self.place(1)
        table = self.tables[address].items()
        return {i: {"rdbase": cpu, "confirmed": True} for i, cpu in table if i < entries}


def step(times=1, **pools):
    """Make a method a rule that draws from pools, and a step of random walks."""

    def register(method):
        STEPS.extend([(method.__name__, pools)] * times)
        return rule(**{name: st.sampled_from(pool) for name, pool in pools.items()})(method)

    return register


class QemuLives(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.fast = QemuVm(QEMU_V3, cpus=4, ram=GuestRam(QEMU_SLOTS))
        self.naive = NaiveQemu()
        self.boot()

    @step(3)
    def boot(self):
        self.its_enable(0)
        self.queue_address(VALID | QUEUE)
        self.table_addresses(DTS[0], CTS[0], VALID)
        self.its_enable(1)
        self.mapd(1, 3, ITTS[1], 1)
        for cpu in CPUS:
            self.lpis(cpu, 1, 0, 15)
            self.mapc(cpu, cpu, 1)
            self.mapti(1, cpu, 8192 + cpu, cpu)

    # -- registers

    @step(on=(0, 1, 1))
    def its_enable(self, on):
        self.fast.reg_write(0, on, 4)
        self.naive.enable(on)

    @step(cbaser=(VALID | QUEUE, VALID | QUEUE, VALID | QUEUE | 1, QUEUE))
    def queue_address(self, cbaser):
        """CREADR and CWRITER together, so that one command is waiting at most."""
        if not self.naive.enabled:
            self.fast.reg_write(0x80, cbaser, 8)
            self.fast.reg_write(0x88, 0, 8)
            self.naive.cbaser, self.naive.creadr, self.naive.cwriter = cbaser, 0, 0
            self.naive.stalled, self.naive.waiting = 0, None

    @step(2, dt=DTS, ct=CTS, valid=(VALID, VALID, VALID, 0))
    def other_tables(self, dt, ct, valid):
        self.its_enable(0)
        self.table_addresses(dt, ct, valid)
        self.its_enable(1)

    @step(dt=DTS, ct=CTS, valid=(VALID, VALID, VALID, 0))
    def table_addresses(self, dt, ct, valid):
        for index, value in ((0, dt | valid), (1, ct | VALID)):
            self.fast.reg_write(0x100 + 8 * index, value, 8)
            if not self.naive.enabled:
                self.naive.baser[index] = value | TYPES[index]

    @step(2, cpu=CPUS, on=(0, 1, 1), table=(0, 0, 1), id_bits=(15, 15, 13, 12))
    def lpis(self, cpu, on, table, id_bits):
        """Also while LPIs are enabled: QEMU takes new tables at any time."""
        pend = PENDS[cpu + 4 * table]
        self.fast.gicr_write(cpu, 0x70, 0x40400000 | id_bits, 8)
        self.fast.gicr_write(cpu, 0x78, pend, 8)
        self.fast.gicr_write(cpu, 0, on, 4)
        self.naive.propbaser[cpu], self.naive.pendbaser[cpu] = id_bits, pend
        self.naive.lpis_on[cpu] = bool(on)

    @step(2, device=DEVICES, event=USED)
    def collections_in_no_memory(self, device, event):
        """MOVI stalls there, INT is taken as done."""
        self.its_enable(0)
        self.table_addresses(DTS[0], CTS[-1], VALID)
        self.its_enable(1)
        self.interrupt("INT", device, event)
        self.movi(device, event, 0)

    @step()
    def reset(self):
        self.fast.reset()
        self.naive.reset()

    # -- commands

    def event(self, device, event):
        """Return a DeviceID and an EventID: as drawn, or of an event that is mapped."""
        if event >= 0:
            return device, event
        events = [(d, e) for d, row in self.naive.devices().items() for e in row["events"]]
        return events[event % len(events)] if events else (device, 0)

    def command(self, run, name, **fields):
        """Queue one command behind the last; where one is stuck, it is replaced."""
        place, dwords = self.naive.creadr, encode(name, **fields)
        for index, dword in enumerate(dwords):
            self.fast.ram.store64(QUEUE + place + 8 * index, dword)
        entries = ((self.naive.cbaser & 0xFF) + 1) * 128
        self.naive.cwriter = (place + 32) % (entries * 32)
        self.fast.reg_write(0x88, self.naive.cwriter, 8)
        self.fast.effects.clear()
        self.naive.waiting = run
        self.naive.run()

    @step(4, device=DEVICES, size=(0, 1, 3, 3, 3, 15, 16, 31), itt=ITTS, valid=(1, 1, 1, 0))
    def mapd(self, device, size, itt, valid):
        self.command(
            lambda: self.naive.mapd(device, size, itt, valid),
            "MAPD", device_id=device, size=size, itt_addr=itt, v=valid,
        )  # fmt: skip

    @step(3, icid=ICIDS, cpu=TARGETS, valid=(1, 1, 1, 0))
    def mapc(self, icid, cpu, valid):
        run = lambda: self.naive.mapc(icid, cpu, valid)  # noqa: E731
        self.command(run, "MAPC", icid=icid, rdbase=cpu, v=valid)

    @step(10, device=DEVICES, event=EVENTS, intid=INTIDS, icid=ICIDS)
    def mapti(self, device, event, intid, icid):
        self.command(
            lambda: self.naive.mapti(device, event, intid, icid),
            "MAPTI", device_id=device, event_id=event, pintid=intid, icid=icid,
        )  # fmt: skip

    @step(device=DEVICES, intid=INTIDS, icid=ICIDS)
    def mapi(self, device, intid, icid):
        run = lambda: self.naive.mapti(device, intid, intid, icid)  # noqa: E731
        self.command(run, "MAPI", device_id=device, event_id=intid, icid=icid)

    @step(10, how=("INT", "INT", "CLEAR", "DISCARD"), device=DEVICES, event=USED)
    def interrupt(self, how, device, event):
        device, event = self.event(device, event)
        run = lambda: self.naive.interrupt(device, event, how)  # noqa: E731
        self.command(run, how, device_id=device, event_id=event)

    @step(5, device=DEVICES, event=USED, icid=ICIDS)
    def movi(self, device, event, icid):
        device, event = self.event(device, event)
        run = lambda: self.naive.movi(device, event, icid)  # noqa: E731
        self.command(run, "MOVI", device_id=device, event_id=event, icid=icid)

    @step(2, old=TARGETS, new=TARGETS)
    def movall(self, old, new):
        self.command(lambda: self.naive.movall(old, new), "MOVALL", rdbase1=old, rdbase2=new)

    @step(device=DEVICES, event=USED)
    def inv(self, device, event):
        device, event = self.event(device, event)
        run = lambda: self.naive.inv(device, event)  # noqa: E731
        self.command(run, "INV", device_id=device, event_id=event)

    @step(name=("SYNC", "INVALL", "VSYNC", "VMAPP"))
    def nothing(self, name):
        self.command(lambda: None, name)

    @step(10, device=DEVICES, event=USED)
    def msi(self, device, event):
        device, event = self.event(device, event)
        self.fast.msi(device, event)
        if self.naive.enabled:
            try:
                self.naive.interrupt(device, event, "INT")
            except NoMemory:
                return  # a bus error for the device

    @step(2, device=DEVICES, event=USED)
    def msi_while_disabled(self, device, event):
        self.its_enable(0)
        self.msi(device, event)
        self.its_enable(1)

    @step()
    def move_to_another_process(self):
        snapshot = self.fast.snapshot()
        self.fast = QemuVm(QEMU_V3, cpus=4, ram=GuestRam(QEMU_SLOTS))
        self.fast.restore(snapshot)
        assert self.fast.snapshot() == snapshot

    @rule(seed=SEEDS)
    def some_steps(self, seed):
        self.walk(seed, 10)

    @rule(seed=SEEDS)
    def many_steps(self, seed):
        self.walk(seed, 400 if DEEP else 60)

    def walk(self, seed, length):
        rng = random.Random(seed)
        for _ in range(length):
            name, pools = rng.choice(STEPS)
            getattr(self, name)(**{key: rng.choice(pool) for key, pool in pools.items()})
            self.both_are_alike()

    # -- what can be seen

    @invariant()
    def both_are_alike(self):
        if not hasattr(self, "fast"):
            return
        fast, naive = self.fast, self.naive
        registers = [fast.reg_read(offset, 8) for offset in (0x80, 0x88, 0x90, 0x100, 0x108)]
        creadr = naive.creadr | naive.stalled
        assert registers == [naive.cbaser, naive.cwriter, creadr, *naive.baser]
        assert fast.reg_read(0, 4) == 1 << 31 | naive.enabled
        for cpu in CPUS:
            assert fast.gicr_read(cpu, 0, 4) == 2 | naive.lpis_on[cpu]
            assert fast.gicr_read(cpu, 0x78, 8) == naive.pendbaser[cpu]
        assert view.devices(fast) == naive.devices()
        address, entries = naive.place(0)
        unmapped = {device for device in DEVICES if device < entries} - naive.tables[address].keys()
        assert not any(fast.ram.load64(address + 8 * device) for device in unmapped)
        assert view.collections(fast) == naive.collections()
        for base in {*PENDS, *naive.pending} - {0}:
            words = fast.ram.touched(base, base + 0x2000)
            found = {
                (at - base) * 8 + bit
                for at in words
                for bit in range(32)
                if fast.ram.load32(at) >> bit & 1
            }
            assert found == naive.pending[base]


TestQemuLives = QemuLives.TestCase
TestQemuLives.settings = SETTINGS
