"""The model of KVM's ITS: small lives against the facts, and the findings F1 to F5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replay.model import effects
from replay.model.effects import GUEST, VMM
from replay.model.kvm import layout
from replay.model.kvm.flags import KvmFlags
from replay.model.kvm.state import HostCrash
from replay.model.kvm.vm import KvmVm
from replay.model.memory import GuestRam
from replay.profiles import PROFILES
from tests.conformance import OPERATIONS, new_vm, profile_of, read_lines
from tracer.its.commands import encode

RAM = 0x4000_0000
DT, CT, CQ, PROP, PEND, ITT = (
    RAM + o for o in (0x10_0000, 0x20_0000, 0x30_0000, 0x40_0000, 0x50_0000, 0x60_0000)
)
VALID = 1 << 63
NEWEST = KvmFlags()
ROOT = Path(__file__).parents[2]


class Guest:
    """A guest with its tables set up, that queues commands one by one."""

    def __init__(self, flags=NEWEST, cpus=4, *, ready=True):
        self.vm = KvmVm(flags, cpus, GuestRam([(RAM, 32 << 20)]))
        self.vm.gicd_write(VMM, 0, 4, 2)
        for offset in range(0, 1024, 8):
            self.vm.ram.store64(PROP + offset, 0xA1A1_A1A1_A1A1_A1A1)
        for cpu in range(cpus if ready else 0):
            self.vm.gicr_write(GUEST, cpu, 0x70, 8, PROP | 0xF)
            self.vm.gicr_write(GUEST, cpu, 0x78, 8, PEND + 0x2_0000 * cpu)
            self.vm.gicr_write(GUEST, cpu, 0, 4, 1)
        if ready:
            self.tables()

    def tables(self):
        for offset, value in ((0x100, VALID | DT), (0x108, VALID | CT), (0x80, VALID | CQ)):
            self.vm.reg_write(GUEST, offset, 8, value)
        self.vm.reg_write(GUEST, 0, 4, 1)

    def run(self, dwords):
        """Run one command and return its error code."""
        at = self.vm.reg_read(GUEST, 0x88, 8)[0]
        for index, dword in enumerate(dwords):
            self.vm.ram.store64(CQ + at + 8 * index, dword)
        self.vm.reg_write(GUEST, 0x88, 8, (at + 32) % 4096)
        return self.vm.state.last_error

    def command(self, name, **fields):
        return self.run(encode(name, **fields))

    def mapd(self, device, bits=4, v=1):
        itt = ITT + device * 0x1000
        return self.command("MAPD", device_id=device, size=bits - 1, itt_addr=itt, v=v)

    def mapc(self, icid, vcpu, v=1):
        return self.command("MAPC", icid=icid, rdbase=vcpu, v=v)

    def mapti(self, device, event, intid, icid):
        return self.command("MAPTI", device_id=device, event_id=event, pintid=intid, icid=icid)

    def on_event(self, name, device, event, **fields):
        return self.command(name, device_id=device, event_id=event, **fields)

    def one(self, vcpu=1):
        """Device 1, event 0 as INTID 8192 in collection 0."""
        self.mapd(1)
        self.mapc(0, vcpu)
        self.mapti(1, 0, 8192, 0)
        return self

    def round_trip(self):
        """Save, reset, restore; returns the errno of the restore."""
        assert self.vm.ctrl(1) == self.vm.ctrl(4) == 0
        for offset, value in ((0x80, VALID | CQ), (0x100, VALID | DT), (0x108, VALID | CT)):
            self.vm.reg_write(VMM, offset, 8, value)
        error = self.vm.ctrl(2)
        self.vm.reg_write(VMM, 0, 4, 1)
        return error


# -- recorded lives, looked at from inside


@pytest.mark.parametrize("kind", ["deep", "edge"])
@pytest.mark.parametrize("kernel", ["linux-6.1.192", "linux-7.2.13"])
def test_invariants_and_snapshots_hold_in_recorded_lives(kernel, kind):
    path = ROOT / "tests" / "vectors" / "kvm" / f"{kind}.{kernel}.txt.gz"
    profile = PROFILES[profile_of(path)]
    for number, line in enumerate(read_lines(path)[:8000]):
        fields = line.split()
        if line.startswith("#"):
            header, vm = line, new_vm(profile, line)
            continue
        if not fields:
            continue
        OPERATIONS["kvm"][fields[0]][0](vm, fields)
        # Restoring onto a used ITS doubles devices: KVM checks collections only.
        assert set(vm.violations()) <= {"device_id_unique"}
        if number % 501 == 0:
            snapshot = vm.snapshot()
            vm = new_vm(profile, header)
            vm.restore(snapshot)
            assert vm.snapshot() == snapshot


# -- registers


def test_fresh_registers():
    vm = Guest(ready=False).vm
    read = [vm.reg_read(VMM, offset, 8) for offset in (0, 4, 8, 0x80, 0x88, 0x90, 0x110)]
    assert [value for value, _ in read] == [1 << 31, 0x4B00043B, 0x1EF71, 0, 0, 0, 0]
    assert vm.reg_read(GUEST, 0x100, 8) == (0x1907000000000600, 0)
    assert vm.reg_read(GUEST, 0x10C, 4) == (0x1C070000, 0)
    assert vm.gicr_read(GUEST, 0, 0x70, 8) == (0x580, 0)


def test_guest_accesses_that_do_not_fit_do_nothing():
    vm = Guest(ready=False).vm
    for offset, size in ((0, 8), (0, 1), (0x80, 2), (0x82, 4), (0x84, 8), (0x10040, 4)):
        assert vm.reg_read(GUEST, offset, size) == (0, 0)
        assert vm.reg_write(GUEST, offset, size, 0xFF) == 0
    assert vm.reg_read(GUEST, 0x80, 8) == (0, 0)


def test_a_guest_writes_neither_creadr_nor_iidr():
    vm = Guest(ready=False).vm
    vm.reg_write(GUEST, 0x90, 8, 0x20)
    assert vm.reg_write(GUEST, 4, 4, 0x1000) == 0
    assert vm.reg_read(GUEST, 0x90, 8) == (0, 0)
    assert vm.reg_write(VMM, 0x90, 8, 0x20) == 0
    assert vm.reg_read(GUEST, 0x90, 8) == (0x20, 0)


def test_vmm_errors():
    vm = Guest(ready=False).vm
    assert vm.reg_write(VMM, 0x84, 8, 0) == layout.EINVAL
    assert vm.reg_read(VMM, 0x84, 8) == (0, layout.EINVAL)
    assert vm.reg_write(VMM, 0x10040, 8, 0) == layout.ENXIO
    assert vm.reg_write(VMM, 4, 8, 0x1000) == layout.EINVAL
    assert vm.reg_write(VMM, 0x90, 8, 0x1000) == layout.EINVAL
    assert vm.gicr_write(VMM, 9, 0, 4, 0) == layout.EINVAL
    assert vm.gicr_read(VMM, -1, 0, 4) == (0, layout.EINVAL)
    assert vm.ctrl(9) == layout.ENXIO
    assert KvmVm(replace(NEWEST, unknown_ctrl_attr_fails=False), 1, GuestRam([])).ctrl(9) == 0


def test_halves_of_registers():
    vm = Guest(ready=False).vm
    vm.reg_write(GUEST, 0x84, 4, 0x8000_0000)
    vm.reg_write(GUEST, 0x80, 4, CQ)
    assert vm.reg_read(GUEST, 0x80, 8) == (0x9800_0000_4030_0000, 0)
    vm.gicr_write(GUEST, 1, 0x7C, 4, 0x4000_0001)
    assert vm.gicr_read(GUEST, 1, 0x7C, 4) == (1, 0)  # PTZ reads as zero


def test_distributor_registers_read_as_a_gicv3_with_lpis():
    vm = Guest().vm
    assert vm.gicd_read(GUEST, 0, 4) == (0x52, 0)
    assert vm.gicd_read(GUEST, 4, 4) == (1 | 15 << 19 | 1 << 17, 0)
    assert vm.gicd_read(VMM, 8, 4) == (0x4B00343B, 0)
    assert vm.gicd_read(GUEST, 0xFFE8, 4) == (0x3B, 0)
    assert vm.gicd_read(GUEST, 0, 8) == (0, 0)
    vm.gicd_write(GUEST, 8, 4, 0x4B00243B)  # the VMM's alone
    assert vm.gicd_read(GUEST, 8, 4) == (0x4B00343B, 0)


# -- commands


def test_error_codes_in_order():
    guest = Guest()
    assert guest.command("MAPD", device_id=0xFFFF, size=3, itt_addr=ITT, v=1) == 0x010801
    assert guest.command("MAPD", device_id=1, size=16, itt_addr=ITT, v=1) == 0x010802
    assert guest.mapc(0, 4) == 0x010902
    assert guest.mapc(0xFFFF, 0) == 0x010903
    assert guest.mapti(1, 0, 8192, 0) == 0x010A04
    assert guest.mapd(1) == 0
    assert guest.mapti(1, 16, 8192, 0) == 0x010A05
    assert guest.mapti(1, 0, 8191, 0) == 0x010A06
    assert guest.on_event("INT", 1, 0) == 0x010307
    assert guest.on_event("MOVI", 1, 0) == 0x010107
    assert guest.mapti(1, 0, 8192, 0) == 0  # makes an unmapped collection
    assert guest.on_event("MOVI", 1, 0) == 0x010109
    assert guest.on_event("DISCARD", 1, 0) == 0x010F07
    assert guest.on_event("CLEAR", 1, 9) == 0x010507
    assert guest.on_event("INV", 1, 9) == 0x010C07
    assert guest.command("INVALL", icid=7) == 0x010D09
    assert guest.command("MOVALL", rdbase1=4, rdbase2=0) == 0x010E01
    assert guest.command("VMOVI") == layout.ENODEV
    assert guest.command("SYNC", rdbase=9) == 0


def test_effects_name_what_an_observer_sees():
    guest = Guest().one(vcpu=2)
    guest.vm.effects = []
    assert guest.vm.signal_msi(1, 0) == 1
    assert guest.vm.signal_msi(1, 0) == 1
    assert guest.vm.effects == [
        (effects.XLAT_MISS, 1, 0),
        (effects.LPI, 8192, 2),
        (effects.XLAT_HIT, 1, 0),
    ]
    guest.vm.effects = []
    guest.vm.ctrl(1)
    assert guest.vm.effects == [
        (effects.TABLE_WRITE, effects.ITE, 0, 0, 1),
        (effects.TABLE_WRITE, effects.DTE, 1, 0, 1),
        (effects.TABLE_WRITE, effects.CTE, 0, 0, 1),
        (effects.TABLE_WRITE, effects.CTE, 1, 0, 0),
    ]
    load = guest.vm.ram.load64
    assert load(ITT + 0x1000) == 8192 << 16
    assert load(DT + 8) == VALID | ITT + 0x1000 >> 8 << 5 | 3
    assert (load(CT), load(CT + 8)) == (VALID | 2 << 16, 0)


def test_a_command_comes_before_what_it_does():
    guest = Guest().one()
    guest.vm.effects = []
    guest.on_event("INT", 1, 0)
    assert [effect[0] for effect in guest.vm.effects] == [effects.COMMAND, effects.LPI]
    assert guest.vm.effects[0][1] == 3 * 32


def test_a_command_that_is_not_ram_is_skipped():
    guest = Guest(ready=False)
    guest.vm.reg_write(VMM, 0x100, 8, VALID | DT)
    guest.vm.reg_write(VMM, 0x108, 8, VALID | CT)
    guest.vm.reg_write(VMM, 0x80, 8, VALID | 0x9000_0000)
    guest.vm.reg_write(VMM, 0, 8, 1)
    guest.vm.effects = []
    guest.vm.reg_write(VMM, 0x88, 8, 0x40)
    assert guest.vm.effects == []
    assert guest.vm.reg_read(VMM, 0x90, 8) == (0x40, 0)


def test_pending_bits_are_consumed_at_mapping_and_saved_for_live_lpis_only():
    guest = Guest()
    guest.mapd(1)
    guest.mapc(0, 1)
    bits = PEND + 0x2_0000 + 0x400
    guest.vm.ram.store8(bits, 0b11)
    guest.mapti(1, 0, 8192, 0)
    assert guest.vm.live_lpis()[0][2] == "1001001"
    assert guest.vm.ram.load8(bits) == 0b10
    assert guest.vm.save_pending() == 0
    assert guest.vm.ram.load8(bits) == 0b11
    guest.on_event("CLEAR", 1, 0)
    guest.vm.save_pending()
    assert guest.vm.ram.load8(bits) == 0b10


def test_invlpir_reads_the_configuration_again():
    guest = Guest().one(vcpu=0)
    guest.vm.ram.store8(PROP, 0x40)
    guest.vm.gicr_write(GUEST, 3, 0xA0, 8, 8192)
    assert guest.vm.live_lpis() == [(8192, 0, "0000001", 0x40, -1)]


@pytest.mark.parametrize(
    ("propbaser", "function"), [(PROP, "update_lpi_config"), (RAM, "vgic_put_irq")]
)
def test_invlpir_of_a_private_interrupt_killed_the_host(propbaser, function):
    """Where it died tells whether the configuration byte, below the table, could be read."""
    vm = Guest(replace(NEWEST, invlpir_ignores_other_intids=False)).vm
    vm.gicr_write(GUEST, 1, 0, 4, 0)
    vm.gicr_write(GUEST, 1, 0x70, 8, propbaser | 0xF)
    with pytest.raises(HostCrash, match=function):
        vm.gicr_write(GUEST, 0, 0xA0, 8, 3)
    assert vm.gicr_write(GUEST, 0, 0xA0, 8, 0x1000) == 0


# -- the translation cache


def test_a_cache_hit_asks_nobody():
    guest = Guest().one()
    guest.mapti(1, 1, 8193, 0)
    guest.vm.signal_msi(1, 0)
    guest.vm.gicr_write(GUEST, 2, 0, 4, 0)  # drops the cache
    guest.vm.signal_msi(1, 0)
    guest.mapc(0, 2)
    assert guest.vm.signal_msi(1, 0) == 1
    assert guest.vm.signal_msi(1, 1) == layout.EBUSY


def test_the_old_cache_forgets_the_least_recently_used():
    flags = replace(NEWEST, translation_cache_entries_per_vcpu=16, translation_cache_per_its=False)
    guest = Guest(flags, cpus=1)
    guest.mapd(1, bits=5)
    guest.mapc(0, 0)
    for event in range(17):
        guest.mapti(1, event, 8192 + event, 0)
        guest.vm.signal_msi(1, event)
    guest.vm.effects = []
    assert [guest.vm.signal_msi(1, event) for event in (1, 0)] == [1, 1]
    found = [effect[0] for effect in guest.vm.effects if effect[0] != effects.LPI]
    assert found == [effects.XLAT_HIT, effects.XLAT_MISS]


# -- findings


def test_f1_a_queued_lpi_outlives_the_reset():
    guest = Guest().one()
    guest.vm.signal_msi(1, 0)
    guest.vm.ctrl(4)
    assert guest.vm.live_lpis() == [(8192, 1, "1001001", 160, 1)]
    guest.tables()
    guest.mapd(2)
    guest.mapc(0, 3)
    guest.mapti(2, 0, 8192, 0)
    assert guest.vm.live_lpis() == [(8192, 1, "1001001", 160, 1)]
    guest.vm.gicr_write(GUEST, 1, 0, 4, 0)
    assert guest.vm.live_lpis() == [(8192, 1, "0001001", 160, -1)]


@pytest.mark.parametrize("cleared", [True, False])
def test_f3_an_unmapped_device_comes_back_where_its_entry_was_not_cleared(cleared):
    guest = Guest(replace(NEWEST, mapd_unmap_clears_dte=cleared))
    guest.mapd(0)
    guest.vm.ctrl(1)
    guest.mapd(0, v=0)
    assert guest.round_trip() == 0
    assert len(guest.vm.snapshot()["devices"]) == (0 if cleared else 1)


def test_f4_save_kills_the_host_where_an_event_has_no_collection():
    guest = Guest(replace(NEWEST, save_zeroes_ite_without_collection=False)).one()
    guest.mapc(0, 0, v=0)
    with pytest.raises(HostCrash) as crash:
        guest.vm.ctrl(1)
    assert crash.value.function == "vgic_its_save_tables_v0"
    fixed = Guest().one()
    fixed.mapc(0, 0, v=0)
    assert fixed.vm.ctrl(1) == 0


def test_f5_reset_keeps_addresses_and_attributes():
    guest = Guest()
    before = guest.vm.reg_read(VMM, 0x100, 8)[0]
    guest.vm.ctrl(4)
    assert guest.vm.reg_read(VMM, 0x100, 8)[0] == before & ~VALID


@pytest.mark.parametrize("frees", [True, False])
def test_a_failed_restore(frees):
    guest = Guest(replace(NEWEST, failed_restore_frees_state=frees)).one()
    guest.vm.ctrl(1)
    assert guest.vm.ctrl(2) == layout.EEXIST
    assert bool(guest.vm.snapshot()["collections"]) != frees
    # The collection table failed: devices, LPIs and the cache stay either way.
    assert len(guest.vm.snapshot()["devices"]) == len(guest.vm.live_lpis()) == 1


def test_sparse_vcpu_ids():
    vm = KvmVm(NEWEST, [0, 5], GuestRam([(RAM, 32 << 20)]))
    assert vm.gicr_read(GUEST, 1, 8, 8)[0] == 5 << 32 | 5 << 8 | 1 << 4 | 1


# -- RAM that nothing showed


def test_a_command_that_nobody_saw_does_nothing():
    vm = KvmVm(NEWEST, 1, GuestRam([(RAM, 32 << 20)], complete=False))
    for offset, value in ((0x100, VALID | DT), (0x108, VALID | RAM), (0x80, VALID | CQ), (0, 1)):
        vm.reg_write(VMM, offset, 8, value)
    vm.effects = []
    vm.reg_write(VMM, 0x88, 8, 0x20)
    assert vm.effects == [(effects.COMMAND, 0, 0, 0, 0, 0)]
    assert vm.state.last_error == layout.ENODEV


def test_restoring_unknown_tables_takes_them_as_zero_and_says_so():
    vm = KvmVm(NEWEST, 1, GuestRam([(RAM, 32 << 20)], complete=False))
    vm.reg_write(VMM, 0x100, 8, VALID | DT | 0xFF)
    assert vm.ctrl(2) == 0
    assert vm.state.bound == {0: "assumed: dte is zero"}
    assert vm.ram.snapshot() == ((), ())
