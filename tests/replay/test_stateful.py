"""The model of KVM's ITS beside a naive one, over long random lives of a VM.

HYPOTHESIS_PROFILE=deep makes the lives thousands of operations long. A life that fails is printed as
vectors (tests/conformance.py reads them, and the lab's oracle runs them on a real kernel).
"""

from __future__ import annotations

import gzip
import os
import random
from dataclasses import fields, replace
from itertools import islice, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from replay.model.kvm.flags import KvmFlags
from replay.model.kvm.profiles import PROFILES
from replay.model.kvm.vm import KvmVm
from replay.model.memory import GuestRam
from replay.vectors import KVM_SLOTS, OPERATIONS, VMM
from tests.support.naive_its import NaiveIts

VECTORS = Path(__file__).parents[1] / "vectors" / "kvm"
KERNELS = ("linux-6.1.192", "linux-7.2.13")
CACHE = {"translation_cache_entries_per_vcpu", "translation_cache_per_its"}  # go together
FLAGS = {
    field.name
    for field in fields(KvmFlags)
    if len({getattr(PROFILES[kernel], field.name) for kernel in KERNELS}) > 1
} | {"mapd_unmap_clears_dte", "discard_clears_ite", "movall_moves_source_only"}
# Restoring onto a used ITS doubles devices (scenario S16), and a SAVE then swaps them: the
# cache still holds what the other one translated. (`device_id_in_range` ended with v5.19.)
ALLOWED_WHERE_DOUBLED = {"device_id_unique", "cache_entry_is_mapped"}

LIGHT = {"derandomize": True, "database": None, "deadline": None}
LIGHT["suppress_health_check"] = list(HealthCheck)
settings.register_profile("fast", max_examples=130, stateful_step_count=40, **LIGHT)
LONG = LIGHT | {"derandomize": False}
settings.register_profile("deep", max_examples=120, stateful_step_count=200, **LONG)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fast")
WALK = {"fast": 60}.get(PROFILE, 200)  # operations that one rule can make at once

VALID, INDIRECT, PTZ = 1 << 63, 1 << 62, 1 << 62
RAM = 0x4000_0000
END = RAM + (32 << 20)
ISLE = END + 0x100_0000  # one page of RAM: of a table here only the beginning can be read
SLOTS = (*KVM_SLOTS, (ISLE, 0x1000))
L1, DT, CT, CQ, PROP, PEND, ITT = (
    RAM + o for o in (0xF0000, 0x100000, 0x200000, 0x300000, 0x400000, 0x500000, 0x600000)
)
CPUS = (0, 1, 2, 3)
MANY = 1 << 32
# Identifiers: small ones again and again, now and then one at a limit or beyond it.
DEVICES = (0, 1, 2) * 4 + (7, 0x2005, 0x2006, 0x4001, 0xFFFF, 0x10001, MANY - 1)
EVENTS = (0, 1, 2, 3) * 4 + (7, 15, 16, 0xFFFF, MANY - 1)
USED = EVENTS + tuple(range(-40, 0))  # below zero: one of the events that are mapped
INTIDS = (8192, 8193, 8194, 8199, 8200, 8260) * 4 + (0xFFFF,) * 3 + (8191, 0, 0x10000, MANY - 1)
ICIDS = (0, 1, 2, 3) * 5 + (4, 5, 6, 0x1FFF, 0x2000, 0xFFFF)
TARGETS = CPUS * 5 + (4, 0xFFFF, MANY - 1)
SIZES = (3,) * 8 + (0, 1, 6, 15, 16, 31)
ITTS = tuple(ITT + 0x1000 * n for n in range(6)) * 3 + (ITT + 0x1008, END - 0x100, END, 0)
PATTERNS = (0xA1A1A1A1A1A1A1A1, 0xA1A0A14141A1A0A1, 0, 0x4141414100A100A1, VALID - 1)
BASER0S = (
    *((VALID | DT, VALID | DT | 1, VALID | INDIRECT | L1, VALID | DT | 0x800000) * 8),
    DT, VALID | END, VALID | END - 0x10000 | 1, VALID | DT | 0x1000, (1 << 64) - 1, 0,
)  # fmt: skip
BASER1S = (
    *((VALID | CT, VALID | CT | 1, VALID | INDIRECT | CT) * 8),
    CT, VALID | END, VALID | END - 0x10000 | 1, VALID | CT | 0x2000, (1 << 64) - 1, 0,
)  # fmt: skip
CBASERS = (VALID | CQ,) * 12 + (VALID | CQ | 1, CQ, VALID | END - 0x1000 | 1, (1 << 64) - 1)
LEVEL1S = (VALID | DT, VALID | DT + 0x10000, VALID | DT + 0x20000, DT, 0, VALID | END)
PENDBASERS = (None,) * 10 + (0, 0x10000, END - 0x10000, ISLE, ISLE)  # None: the vCPU's own table
ODD_PROPBASERS = (ISLE | 0xF, ISLE | 0xF, PROP | 0xC, PROP | 0x1F, 0xF, PROP | 0xF | 0x8A0)
PROPBASERS = (PROP | 0xF,) * 10 + ODD_PROPBASERS
ODD_OFFSETS = (0x4, 0x8, 0xC, 0x10, 0x40, 0x84, 0x8C, 0x90, 0x98, 0x104, 0x110, 0x138, 0x140,
               0xFFCC, 0xFFD0, 0xFFE8, 0xFFFC, 0x10040)  # fmt: skip
VALUES = (0, 1, 0x20, 0x1000, 0xFE0, 0xFFFFF, VALID, (1 << 64) - 1)
# What a save wrote, with an error in it: where, and what.
DTE, ITE = VALID | ITT >> 8 << 5 | 3, 8192 << 16
DTES = (0, DTE, DTE | 1 << 49, DTE | 0x3FFF << 49, DTE | 31, DTE + 13, DTE ^ VALID, DTE | 2 << 49 | 15,
        VALID, VALID | END >> 8 << 5)  # fmt: skip
CTES = (0, VALID, VALID | 1, VALID | 9 << 16, VALID | 0xFFFFFFFF << 16 | 2, VALID | 0xFFFF)
ITES = (0, ITE, ITE | 1 << 48, ITE | 0x3FFF << 48, ITE | 9, 100 << 16, 1 << 32, 0xFFFFFFFF << 16)
CORRUPT = (
    *product((DT, DT, DT + 8, DT + 0x10), DTES),
    *product((CT, CT + 8), CTES),
    *product((ITT, ITT + 8, ITT + 0x1000, ITT + 0x1018), ITES),
    *product((L1, L1 + 8, L1 + 0xFF8), LEVEL1S),
)
BROKEN = (None,) * 30 + CORRUPT
OPERATION = {
    "W": "reg_write", "D": "gicd_write", "I": "signal_msi", "X": "ctrl", "P": "save_pending",
}  # fmt: skip
SEEDS = st.integers(0, (1 << 32) - 1)
STEPS = []


def step(times=1, **pools):
    """Make a method a rule that draws from pools, and a step of random walks."""

    def register(method):
        STEPS.extend([(method.__name__, pools)] * times)
        return rule(**{name: st.sampled_from(pool) for name, pool in pools.items()})(method)

    return register


def naive_answer(its, fields):
    """Carry out one line of vectors; returns the answer, None where it speaks of none."""
    letter, *numbers = fields[0], *(int(field, 16) for field in fields[1:])
    match letter:
        case "W" | "D" | "I" | "X" | "P":
            return str(its.do(OPERATION[letter], *numbers))
        case "G" | "g":
            vcpu_id, offset = numbers[0] >> 32, numbers[0] % MANY
            cpu = its.vcpu_ids.index(vcpu_id) if vcpu_id in its.vcpu_ids else -1
            if letter == "G":
                return str(its.do("gicr_write", cpu, offset, numbers[1]))
            known = offset in (0, 0x70, 0x74, 0x78, 0x7C)
            return read(its.do("gicr_read", cpu, offset)) if known else None
        case "R":
            return read(its.do("reg_read", *numbers))
        case "M" | "Q":
            for index, value in enumerate(numbers[1:]):
                its.store(numbers[0] + 8 * index, value)
        case "m":
            words = ((i, its.load(numbers[0] + 8 * i)) for i in range(numbers[1]))
            return " ".join(f"{i}:{word:x}" for i, word in words if word)
        case "V":
            return " ".join(",".join(map(str, row)) for row in sorted(its.live_lpis()[:64]))
    return None


def read(value):
    return f"{value:x} 0" if value >= 0 else f"0 {value}"


# -- the naive model against what real kernels answered


@pytest.mark.parametrize(("every", "kind"), [(4, "deep"), (4, "edge"), (1, "flags")])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_naive_model_answers_as_the_kernel(kernel, kind, every):
    text = gzip.decompress((VECTORS / f"{kind}.{kernel}.txt.gz").read_bytes()).decode()
    lives = text.split("# ")[1:]
    checked, wrong = 0, []
    for life in islice(lives, 0, None, every):
        header, *lines = life.strip().split("\n")
        words = header.split()
        cpus = int(words[words.index("cpus") + 1])
        stride = int(words[words.index("stride") + 1]) if "stride" in words else 1
        its = NaiveIts(PROFILES[kernel], range(0, cpus * stride, stride), KVM_SLOTS)
        for line in lines:
            fields = line.split()
            inputs = OPERATIONS["kvm"][fields[0]][1]
            answer, expected = naive_answer(its, fields[:inputs]), " ".join(fields[inputs:])
            if answer is not None and expected != "?":
                checked += 1
                if answer != expected:
                    wrong.append(f"{header}: {line}: {answer}")
    assert wrong == []
    assert checked > 500


# -- both models side by side


class Lives(RuleBasedStateMachine):
    """One VM twice. Each operation is a line of vectors, and both must answer it alike."""

    @initialize(
        kernel=st.sampled_from(KERNELS),
        flip=st.sampled_from(sorted(FLAGS - CACHE) + [None] * 10),
        cpus=st.sampled_from((1, 2, 4, 4)),
        observed=st.booleans(),
        seed=st.integers(0, 1 << 16),
    )
    def start(self, kernel, flip, cpus, observed, seed):
        flags = PROFILES[kernel]
        if flip:
            flags = replace(flags, **{flip: not getattr(flags, flip)})
        self.life = [f"# seed 0 cpus {cpus} gicr 8100000 ({kernel}, {flip})"]
        self.cpus = cpus
        self.fast = KvmVm(flags, cpus, GuestRam(SLOTS))
        self.fast.effects = [] if observed else None
        self.naive = NaiveIts(flags, range(cpus), SLOTS)
        if seed & 7:
            self.boot(random.Random(seed))

    def do(self, letter, *numbers):
        line = " ".join([letter, *(f"{number:x}" for number in numbers)])
        self.life.append(line)
        self.naive.last_error = None
        fast = OPERATIONS["kvm"][letter][0](self.fast, line.split())
        naive = naive_answer(self.naive, line.split())
        assert naive in (fast, None), self.told("fast, naive", (fast, naive))
        if letter in "MQ":
            return
        if self.fast.effects:
            self.fast.effects.clear()
        rows = self.fast.live_lpis(), self.naive.live_lpis()
        assert rows[0] == rows[1], self.told("live LPIs: fast, naive", rows)
        if self.naive.last_error is not None:
            errors = self.fast.state.last_error, self.naive.last_error
            assert errors[0] == errors[1], self.told("command error: fast, naive", errors)
        violated = set(self.fast.violations())
        doubled = "device_id_unique" in violated
        allowed = ALLOWED_WHERE_DOUBLED if doubled else set()
        assert violated <= allowed, self.told("violated", violated)

    def told(self, what, values):
        return "\n".join([*self.life, f"{what}: {values}"])

    @invariant()
    def registers_and_ram_are_the_same(self):
        if not hasattr(self, "fast"):
            return
        for offset in (0x0, 0x80, 0x88, 0x90, 0x100, 0x108):
            read = self.fast.reg_read(VMM, offset, 8)[0], self.naive.do("reg_read", offset)
            assert read[0] == read[1], self.told(f"register {offset:x}: fast, naive", read)
        for cpu, offset in product(range(self.cpus), (0x0, 0x70, 0x74, 0x78, 0x7C)):
            read = (
                self.fast.gicr_read(VMM, cpu, offset, 4)[0],
                self.naive.do("gicr_read", cpu, offset),
            )
            assert read[0] == read[1], self.told(f"GICR {offset:x}: fast, naive", read)
        hidden = self.hidden_of_fast(), self.hidden_of_naive()
        assert hidden[0] == hidden[1], self.told("hidden state: fast, naive", hidden)
        words = {}
        for at, byte in self.naive.ram.items():
            words[at >> 2] = words.get(at >> 2, 0) | byte << 8 * (at & 3)
        ram = self.fast.ram.words
        differ = {f"{at << 2:x}" for at in words.keys() | ram if words.get(at) != ram.get(at)}
        assert not differ, self.told("RAM differs at", differ)

    def hidden_of_fast(self):
        state = self.fast.snapshot()
        shift = 16 if self.fast.flags.translation_cache_per_its else 32
        cache = [(key >> shift, key & (1 << shift) - 1, intid) for key, intid in state["cache"]]
        devices = [(*device[:3], sorted(device[3])) for device in state["devices"]]
        return devices, list(state["collections"]), self.in_order(cache)

    def hidden_of_naive(self):
        devices = []
        for device in self.naive.devices:
            events = device["events"].items()
            rows = [(i, e["intid"], -1 if e["icid"] is None else e["icid"]) for i, e in events]
            devices.append((device["id"], device["itt"], device["bits"], sorted(rows)))
        cache = [(*key, intid) for key, intid in self.naive.cache.items()]
        return devices, list(self.naive.collections.items()), self.in_order(cache)

    def in_order(self, cache):
        """Return the cache in an order that means something: that of use, if it is bounded."""
        return cache if self.fast.flags.translation_cache_entries_per_vcpu >= 0 else sorted(cache)

    # -- commands

    def command(self, *dwords):
        """Queue a command and let it run, if the ITS is enabled."""
        cbaser, cwriter = self.naive.reg["CBASER"], self.naive.reg["CWRITER"]
        place = (cbaser & 0xFFFFFFFFFF000) + cwriter
        if self.naive.is_ram(place, 32):
            self.do("Q", place, *dwords, *[0] * (4 - len(dwords)))
        self.do("W", 0x88, (cwriter + 32) % (((cbaser & 0xFF) + 1) << 12))

    @step(3, device=DEVICES, size=SIZES, itt=ITTS, valid=(1, 1, 1, 0))
    def mapd(self, device, size, itt, valid):
        self.command(8 | device << 32, size, valid << 63 | itt)

    @step(4, icid=ICIDS, vcpu=TARGETS, valid=(1, 1, 0))
    def mapc(self, icid, vcpu, valid):
        self.command(9, 0, valid << 63 | vcpu << 16 | icid)

    @step(10, device=DEVICES, event=EVENTS, intid=INTIDS, icid=ICIDS)
    def mapti(self, device, event, intid, icid):
        self.command(0xA | device << 32, event | intid << 32, icid)

    @step(device=DEVICES, intid=INTIDS, icid=ICIDS)
    def mapi(self, device, intid, icid):
        self.command(0xB | device << 32, intid, icid)

    def event(self, device, event):
        """Return a DeviceID and an EventID: as drawn, or of an event that is mapped."""
        if event >= 0:
            return device, event
        mapped = [(d["id"], each) for d in self.naive.devices for each in d["events"]]
        return mapped[event % len(mapped)] if mapped else (device, 0)

    @step(4, device=DEVICES, event=USED, icid=ICIDS)
    def movi(self, device, event, icid):
        device, event = self.event(device, event)
        self.command(1 | device << 32, event, icid)

    @step(8, opcode=(3, 3, 4, 0xC, 0xF), device=DEVICES, event=USED)
    def int_clear_inv_discard(self, opcode, device, event):
        device, event = self.event(device, event)
        self.command(opcode | device << 32, event)

    @step(2, icid=ICIDS)
    def invall(self, icid):
        self.command(0xD, 0, icid)

    @step(2, source=TARGETS, destination=TARGETS)
    def movall(self, source, destination):
        self.command(0xE, 0, source << 16, destination << 16)

    @step(opcode=(0, 5, 0x21, 0xFF), junk=VALUES)
    def sync_or_unknown(self, opcode, junk):
        self.command(opcode, junk, junk)

    @step(10, device=DEVICES, event=USED)
    def msi(self, device, event):
        self.do("I", *self.event(device, event))

    @step(8)
    def msi_of_every_event(self):
        """Fills the translation cache, which most commands empty."""
        for device in self.naive.devices:
            for event in sorted(device["events"])[:8]:
                self.do("I", device["id"], event)

    # -- what the guest keeps in RAM

    @step(2, group=(0, 1, 8), pattern=PATTERNS)
    def config_bytes(self, group, pattern):
        self.do("M", PROP + 8 * group, pattern)

    @step(2, cpu=CPUS, group=(0, 1), pattern=(0, 1, 0xFF, 0x18181818, VALID))
    def pending_bits(self, cpu, group, pattern):
        self.do("M", PEND + 0x2_0000 * cpu + 0x400 + 8 * group, pattern)

    @step(page=(0, 1, 2, 7), entry=LEVEL1S)
    def level1_entry(self, page, entry):
        self.do("M", L1 + 8 * page, entry)

    @step(2, corrupt=CORRUPT)
    def corrupt_table(self, corrupt):
        self.do("M", *corrupt)

    # -- registers

    @step(on=(0, 1, 1, 1))
    def its_enable(self, on):
        self.do("W", 0, on)

    @step(offset=(0x100, 0x108), baser0=BASER0S, baser1=BASER1S, disable=(0, 1, 1, 1))
    def table_address(self, offset, baser0, baser1, disable):
        if disable:
            self.do("W", 0, 0)
        self.do("W", offset, baser0 if offset == 0x100 else baser1)
        if disable:
            self.do("W", 0, 1)

    @step(cbaser=CBASERS, disable=(0, 1))
    def queue_address(self, cbaser, disable):
        if disable:
            self.do("W", 0, 0)
        self.do("W", 0x80, cbaser)
        self.do("W", 0, 1)

    @step(cwriter=(0, 0x20, 0x1000, 0xFE0, 0x1FE1), creadr=(0, 0x20, 0xFE0, 0x1FE0, 0x100000))
    def queue_pointers(self, cwriter, creadr):
        self.do("W", 0x90, creadr)
        self.do("W", 0x88, cwriter)

    @step(offset=ODD_OFFSETS, value=VALUES)
    def odd_register(self, offset, value):
        self.do("W", offset, value)
        self.do("R", offset)

    @step(cpu=(*CPUS * 3, 4), pendbaser=PENDBASERS, ptz=(0, 0, PTZ), propbaser=PROPBASERS)
    def lpis_off_and_on(self, cpu, pendbaser, ptz, propbaser):
        self.gicr(cpu, 0)
        self.gicr(cpu, 1, propbaser, pendbaser, ptz)

    @step(cpu=CPUS, pendbaser=PENDBASERS, propbaser=PROPBASERS)
    def lpi_tables(self, cpu, pendbaser, propbaser):
        """Ignored where the LPIs of the vCPU are on: PROPBASER is one for all."""
        self.gicr(cpu, None, propbaser, pendbaser)

    @step(2, cpu=CPUS, device=(0, 1, 2), event=(5, 6, 7), icid=(4, 5, 6))
    def table_cut_short(self, cpu, device, event, icid):
        """Of the LPIs' tables the beginning is RAM: 8300 can be read, 65535 cannot."""
        self.do("M", ISLE + 8300 // 64 * 8, (1 << 64) - 1)
        cpu %= self.cpus
        self.mapc(0, cpu, 1)
        self.mapti(device, event, 0xFFFF, 0)
        self.mapti(device, event + 3, 8300, 0)
        self.gicr(cpu, 0)
        self.gicr(cpu, 1, PROP | 0xF, ISLE)
        self.do("P")
        self.gicr(cpu, 0)
        self.gicr(cpu, 1, ISLE | 0xF, None)
        self.mapti(device, event + 1, 0xFFFE, icid)

    def gicr(self, cpu, on, propbaser=None, pendbaser=None, ptz=0):
        attr = cpu << 32
        if propbaser is not None:
            pendbaser = PEND + 0x2_0000 * cpu if pendbaser is None else pendbaser
            self.do("G", attr | 0x70, propbaser)
            self.do("G", attr | 0x74, 0)
            self.do("G", attr | 0x78, pendbaser & 0xFFFFFFFF)
            self.do("G", attr | 0x7C, ptz >> 32)
        if on is not None:
            self.do("G", attr, on)

    @step(cpu=CPUS, on=(0, 1, 1))
    def lpis_enable(self, cpu, on):
        self.gicr(cpu, on)

    @step(2, cpu=CPUS, register=(0xA0, 0xA0, 0xB0, 0xA4), intid=INTIDS)
    def lpi_invalidate(self, cpu, register, intid):
        self.do("G", cpu << 32 | register, intid)

    @step(write=((0, 0), (0, 2), (0, 2), (8, 0x4B00243B), (8, 0x4B00343B), (8, 0x4B00143B),
                 (8, 0x4B00343C), (0xC, 0), (0xC, 1)))  # fmt: skip
    def distributor(self, write):
        self.do("D", *write)

    # -- saves, restores, resets

    @step(3, attr=(1, 1, 1, 2, 0, 9))
    def attribute(self, attr):
        """SAVE_TABLES; RESTORE_TABLES onto whatever there is; one that does nothing, or none."""
        self.do("X", attr)

    @step(3)
    def save_pending(self):
        self.do("P")

    @step(6, before=((), (1,), *((1, 4),) * 6, (4,)), one=BROKEN, two=BROKEN, after=(0, 1, 1, 1))
    def round_trip(self, before, one, two, after):
        self.do("P")
        basers = self.naive.reg["BASER0"], self.naive.reg["BASER1"]
        for attr in before:
            self.do("X", attr)
        for corrupt in (one, two):
            if corrupt:
                self.do("M", *corrupt)
        self.do("W", 0x80, VALID | CQ)
        self.do("W", 0x100, basers[0])
        self.do("W", 0x108, basers[1])
        self.do("X", 2)
        self.do("W", 0, after)

    @step(2)
    def double_devices(self):
        """With an empty collection table, what was saved comes in beside what is there."""
        self.do("X", 1)
        self.do("M", CT, 0)
        self.do("X", 2)
        self.do("X", 1)

    @step()
    def reset(self):
        self.do("X", 4)

    @step(
        device=(0, 1, 2),
        far=(0x1FFF, 0x2005, 0x4001, 0x4003),
        baser0=BASER0S[:4],
        baser1=BASER1S[:3],
    )
    def set_up(self, device, far, baser0, baser1):
        """All that a guest does when it boots, two devices with some events included."""
        self.do("D", 0, 2)
        for group in (0, 1, 8):
            self.do("M", PROP + 8 * group, PATTERNS[0])
        for page in range(3):
            self.do("M", L1 + 8 * page, VALID | DT + 0x1_0000 * page)
        for cpu in range(self.cpus):
            self.gicr(cpu, 1, PROP | 0xF)
        for offset, value in ((0, 0), (0x80, VALID | CQ), (0x100, baser0), (0x108, baser1), (0, 1)):
            self.do("W", offset, value)
        self.mapd(device, 4, ITT + 0x1000 * device, 1)
        for icid in range(4):
            self.mapc(icid, icid % self.cpus, 1)
            self.mapti(device, icid, 8192 + icid, icid)
        self.mapd(far, 4, ITT + 0x5000, 1)
        self.mapti(far, 3, 8200, 0)

    def boot(self, rng):
        pools = dict(STEPS)["set_up"]
        self.set_up(**{name: rng.choice(pool) for name, pool in pools.items()})

    @step(3, events=(16, 20, 33), cpu=CPUS)
    def many_events(self, events, cpu):
        """More translations than the old cache holds; a vCPU without LPIs tells which are left."""
        self.gicr((cpu + 1) % self.cpus, 0)
        self.mapd(1, 5, ITT + 0x1000, 1)
        self.mapc(0, cpu % self.cpus, 1)
        for event in range(events):
            self.mapti(1, event, 8192 + event, 0)
            self.msi(1, event)
        self.mapc(0, (cpu + 1) % self.cpus, 1)
        for event in range(0, events, 5):
            self.msi(1, event)

    @rule(seed=SEEDS)
    def a_few_steps(self, seed):
        self.walk(seed, 5)

    @rule(seed=SEEDS)
    def some_steps(self, seed):
        self.walk(seed, 20)

    @rule(seed=SEEDS)
    def many_steps(self, seed):
        self.walk(seed, WALK)

    def walk(self, seed, length):
        """Make random steps; a shut down guest boots soon."""
        rng = random.Random(seed)
        for _ in range(length):
            if not self.naive.reg["CTLR"] and rng.random() < 0.2:
                self.boot(rng)
            name, pools = rng.choice(STEPS)
            getattr(self, name)(**{key: rng.choice(pool) for key, pool in pools.items()})

    # -- snapshots of the fast model

    @step()
    def move_to_another_process(self):
        snapshot = self.fast.snapshot()
        effects = self.fast.effects
        self.fast = KvmVm(self.fast.flags, self.cpus, GuestRam(SLOTS))
        self.fast.restore(snapshot)
        self.fast.effects = effects
        assert self.fast.snapshot() == snapshot, self.told("snapshot", snapshot)

    @step(device=(0, 1, 2), event=(0, 1, 2))
    def look_ahead_and_come_back(self, device, event):
        snapshot = self.fast.snapshot()
        self.fast.signal_msi(device, event)
        self.fast.ctrl(1)
        self.fast.gicr_write(1, 0, 0, 4, 0)
        self.fast.ctrl(4)
        self.fast.restore(snapshot)
        assert self.fast.snapshot() == snapshot, self.told("snapshot", snapshot)


TestLives = Lives.TestCase
TestLives.settings = settings.get_profile(PROFILE)


FAULTS = ("mapd_unmap_clears_dte", "discard_clears_ite", "movall_moves_source_only")


@pytest.mark.parametrize("flag", [*FAULTS, None])
def test_a_model_that_behaves_otherwise_is_noticed(flag):
    """The fast model with one flag the other way round than the naive one: a fault."""
    flags = PROFILES["linux-6.1.192"]
    noticed = False
    for seed in range(12):
        lives = Lives()
        lives.start("linux-6.1.192", None, 4, True, 0)
        if flag:
            wrong = replace(flags, **{flag: not getattr(flags, flag)})
            lives.fast = KvmVm(wrong, lives.cpus, GuestRam(SLOTS))
            lives.fast.effects = []
        try:
            lives.boot(random.Random(seed))
            for step in range(20):
                lives.walk(100 * seed + step, 20)
                lives.registers_and_ram_are_the_same()
        except AssertionError:
            noticed = True
            break
    assert noticed == (flag is not None)
