"""The model of Xen's ITS: its tables against the layouts, and small lives against what was read.

Nothing here was measured: each test restates a line of vgic-v3-its.c, of its.md 8.1 or of the Xen
column of its.md 4.8.
"""

from __future__ import annotations

import io
import json
import random

import pytest

from replay import cli
from replay.contracts import clause_for
from replay.engine import Engine
from replay.judge import judge, model_of, with_flags
from replay.model import effects
from replay.model.effects import HostCrash
from replay.model.kvm.state import HostCrash as KvmHostCrash
from replay.model.memory import GuestRam
from replay.model.xen import entries, invariants, registers, view
from replay.model.xen.profile import XenProfile
from replay.model.xen.vm import XenVm
from replay.profiles import find
from replay.verify import verify
from tests.support.packing import assert_packing_agrees
from tracer.errors import UsageError
from tracer.its.commands import BY_NAME, encode
from tracer.log.text import TextReader

PROFILE = find("xen-4.20")[0]
RAM = ((0x40000000, 64 << 20),)
DT, CT, QUEUE, ITT = 0x40100000, 0x40200000, 0x40300000, 0x40600000
PROP, PEND = 0x40400000, 0x40500000
NO_RAM = 0x90000000
VALID = 1 << 63
ENABLED_LPI = 0xA1
LPIS = 65536 - 8192


def tables(vm):
    vm.reg_write(0x100, VALID | DT, 8)
    vm.reg_write(0x108, VALID | CT, 8)
    vm.reg_write(0x80, VALID | QUEUE, 8)


def lpis(vm):
    for cpu in range(vm.cpus):
        vm.gicr_write(cpu, 0x70, PROP | 0xF, 8)
        vm.gicr_write(cpu, 0x78, PEND + 0x20000 * cpu, 8)
        vm.gicr_write(cpu, 0x0, 1, 4)


def new(cpus=4, **kwargs):
    return XenVm(cpus=cpus, ram=GuestRam(RAM), **kwargs)


def ready(**kwargs):
    """A VM with LPIs and the ITS enabled; the collection table says 0xffff everywhere."""
    vm = new(**kwargs)
    tables(vm)
    lpis(vm)
    vm.mem_write(CT, b"\xff" * 4096)
    vm.reg_write(0, 1, 4)
    return vm


def put(vm, name, **fields):
    at = vm.state.cwriter
    for index, dword in enumerate(encode(name, **fields)):
        vm.ram.store64(QUEUE + at + 8 * index, dword)
    return at


def command(vm, name, **fields):
    at = put(vm, name, **fields)
    vm.effects.clear()
    vm.reg_write(0x88, (at + 32) % 4096, 8)
    assert vm.state.creadr == vm.state.cwriter
    assert list(invariants.violations(vm)) == []
    return vm.effects[1:]


def mapd(vm, device_id=2, size=7, itt_addr=ITT, v=1):
    command(vm, "MAPD", device_id=device_id, size=size, itt_addr=itt_addr, v=v)


def mapti(vm, event_id=20, pintid=8195, icid=3, device_id=2):
    command(vm, "MAPTI", device_id=device_id, event_id=event_id, pintid=pintid, icid=icid)


def map_one(vm, **fields):
    command(vm, "MAPC", icid=3, rdbase=3, v=1)
    mapd(vm)
    mapti(vm, **fields)


def itte(vm, event_id=20):
    return entries.unpack_itte(vm.ram.load64(ITT + 8 * event_id))


# -- entries


@pytest.mark.parametrize(
    ("layout", "pack", "unpack"),
    [
        (entries.Dte, entries.pack_dte, entries.unpack_dte),
        (entries.Itte, entries.pack_itte, entries.unpack_itte),
        (entries.Cte, lambda vcpu: vcpu, lambda raw: (raw,)),
    ],
)
def test_fast_packing_agrees_with_the_layout_bit_by_bit(layout, pack, unpack):
    assert_packing_agrees(layout, pack, unpack)


def test_golden_entries_of_xen():
    assert entries.pack_dte(7, 0x40200000) == 0x40200007
    assert entries.DTE_UNMAPPED == 0x000F_FFFF_FFFF_FF00
    assert entries.pack_itte(8195, 3) == 0x3_0000_2003
    assert entries.Dte.reserved_ == 0xFFF0_0000_0000_00E0
    assert (entries.DTE_SIZE_BYTES, entries.CTE_SIZE_BYTES, entries.ITTE_SIZE_BYTES) == (8, 2, 8)


# -- registers


FRESH = {
    "GITS_CTLR": 0x80000000,
    "GITS_IIDR": 0x5800034C,
    "GITS_TYPER": 0x1EF71,
    "GITS_CBASER": 0x3800000000000400,
    "GITS_CWRITER": 0,
    "GITS_CREADR": 0,
    "GITS_BASER0": 0x3907000000000400,
    "GITS_BASER1": 0x3C01000000000400,
    **{f"GITS_BASER{index}": 0 for index in range(2, 8)},
    "GITS_PIDR2": 0x30,
}


def test_a_fresh_vm_has_the_values_of_the_source():
    vm = new()
    assert view.registers(vm) == FRESH
    assert view.redistributors(vm)[3] == {
        "GICR_CTLR": 0,
        "GICR_PROPBASER": 0,
        "GICR_PENDBASER": 0,
    }
    assert (view.devices(vm), view.collections(vm, {}), view.lpis(vm)) == ({}, {}, {})


def test_typer_has_the_widths_of_the_host():
    profile = XenProfile(host_device_id_bits=20, host_event_id_bits=11)
    assert profile.typer == 1 | 7 << 4 | 10 << 8 | 19 << 13
    for bits in (0, -1, 33, 10**9):
        with pytest.raises(UsageError, match="host_event_id_bits must be 1 to 32"):
            XenProfile(host_event_id_bits=bits)


@pytest.mark.parametrize("offset", [0x80, 0x100, 0x108])
@pytest.mark.parametrize("inner", range(8))
@pytest.mark.parametrize("outer", range(8))
@pytest.mark.parametrize("shareability", range(4))
def test_attributes_are_sanitised(offset, inner, outer, shareability):
    vm = new()
    vm.reg_write(offset, inner << 59 | outer << 53 | shareability << 10, 8)
    value = vm.reg_read(offset, 8)
    assert value >> 59 & 7 == (3 if inner < 2 else inner)
    assert value >> 53 & 7 == (outer if outer < 2 else 1)  # nC, where KVM now has SameAsInner
    assert value >> 10 & 3 == (1 if shareability == 2 else shareability)


def test_baser_keeps_its_type_and_entry_size_and_is_never_indirect():
    vm = new()
    for offset, fixed in ((0x100, 0x0107 << 48), (0x108, 0x0401 << 48)):
        vm.reg_write(offset, (1 << 64) - 1, 8)
        value = vm.reg_read(offset, 8)
        assert value & 0x071F << 48 == fixed
        assert value >> 62 & 3 == 2  # valid, not indirect
        assert value & 0x3FF == 0x3FF  # size and page size as written
    vm.reg_write(0x110, VALID | DT, 8)
    assert vm.reg_read(0x110, 8) == 0


@pytest.mark.parametrize(
    ("page_size", "size_bytes"), [(0, 4096), (1, 16384), (2, 65536), (3, 65536)]
)
def test_page_sizes_are_honoured(page_size, size_bytes):
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x100, VALID | DT | page_size << 8 | 1, 8)
    vm.reg_write(0x108, VALID | CT | page_size << 8, 8)
    assert vm.reg_read(0x100, 8) >> 8 & 3 == page_size
    vm.reg_write(0, 1, 4)
    last = 2 * size_bytes // 8 - 1
    mapd(vm, device_id=last)
    assert vm.ram.load64(DT + 8 * last) == ITT | 7
    mapd(vm, device_id=last + 1)
    assert vm.ram.load64(DT + 8 * last + 8) == 0
    icid = size_bytes // 2 - 1
    command(vm, "MAPC", icid=icid, rdbase=1, v=1)
    assert vm.ram.load_bytes(CT + 2 * icid, 2) == b"\x01\x00"


def test_pages_of_64_kib_have_52_address_bits_and_smaller_ones_48():
    vm = XenVm(ram=GuestRam(((0, 1 << 52),)))
    vm.reg_write(0x108, VALID | 0x8000_0000_0000 | 0x5000, 8)
    vm.reg_write(0x80, VALID, 8)
    for page_size, at in ((0, 0x8000_0000_5000), (2, 0x5_8000_0000_0000)):
        vm.reg_write(0, 0, 4)
        vm.reg_write(0x100, VALID | 0x8000_0000_5000 | page_size << 8, 8)
        vm.reg_write(0, 1, 4)
        for index, dword in enumerate(encode("MAPD", device_id=page_size, itt_addr=ITT, v=1)):
            vm.ram.store64(vm.state.cwriter + 8 * index, dword)
        vm.reg_write(0x88, vm.state.cwriter + 32, 8)
        assert vm.ram.load64(at + 8 * page_size) == ITT


def test_every_register_has_its_widths_and_the_others_fault():
    vm = new()
    ok = {
        (at, size)
        for at in range(0x180)
        for size in (1, 2, 4, 8)
        if vm.reg_read(at, size) is not None
    }
    wide = [0x08, 0x80, 0x88, 0x90, *range(0x100, 0x140, 8)]
    wanted = {(0, 4), (4, 4)}
    wanted |= {(at, 8) for at in wide} | {(at + half, 4) for at in wide for half in (0, 4)}
    holes = [*range(0x18, 0x80), *range(0x98, 0x100), *range(0x140, 0x180)]
    assert ok == wanted | {(at, size) for at in holes for size in (1, 2, 4, 8)}
    assert (vm.reg_read(0xFFE8, 4), vm.reg_read(0xFFE8, 8), vm.reg_read(0xFFE0, 4)) == (
        0x30,
        None,
        0,
    )
    assert vm.reg_read(0x10000, 4) is None


def test_what_is_read_only_ignores_writes_of_its_widths_and_faults_on_others():
    vm = new()
    assert [vm.reg_write(at, 0, size) for at, size in ((4, 4), (8, 4), (0xFFE8, 4))] == [True] * 3
    assert [vm.reg_write(at, 0, size) for at, size in ((8, 8), (0xC, 4), (0x10, 4), (0, 8))] == [
        False,
        False,
        False,
        False,
    ]
    vm.reg_write(0x90, 0x40, 8)  # CREADR is not the guest's to write
    vm.reg_write(0x138, VALID, 8)
    vm.reg_write(0x40, 1, 1)
    assert view.registers(vm) == FRESH
    assert set(registers.READ) - set(registers.WRITE) == {(8, 8), (12, 4)}


def test_halves_of_a_register_are_written_and_read_by_themselves():
    vm = new()
    vm.reg_write(0x84, VALID >> 32 | 0x38000000, 4)
    vm.reg_write(0x80, QUEUE | 3, 4)
    assert vm.reg_read(0x80, 8) == 0xB800000000000000 | QUEUE | 3
    assert (vm.reg_read(0x80, 4), vm.reg_read(0x84, 4)) == (QUEUE | 3, 0xB8000000)
    vm.reg_write(0x88, 0x7FFFFFFF, 4)
    vm.reg_write(0x8C, 0xFFFFFFFF, 4)
    assert vm.reg_read(0x88, 8) == 0xFFFE0


# -- its.md 4.8, the Xen column, row by row


def test_4_8_mappings_live_in_guest_ram_and_in_the_trees():
    vm = ready()
    map_one(vm)
    assert vm.ram.load64(DT + 16) == ITT | 7
    assert vm.ram.load_bytes(CT + 6, 2) == b"\x03\x00"
    assert itte(vm) == (8195, 3)
    assert view.host_devices(vm) == {2: {"events": 256, "lpis": {20: 8195}}}
    assert view.lpis(vm) == {8195: {"pending": "clear", "target": 3, "queued": None}}
    assert view.devices(vm)[2]["events"] == {20: {"intid": 8195, "icid": 3, "confirmed": True}}


def test_4_8_a_cbaser_write_keeps_cwriter_and_zeroes_creadr():
    vm = ready()
    command(vm, "SYNC")
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x80, VALID | QUEUE, 8)
    assert (vm.state.cwriter, vm.state.creadr) == (0x20, 0)
    assert vm.reg_read(0, 4) == 0  # so that it is no longer quiescent


@pytest.mark.parametrize("offset", [0x80, 0x100, 0x108])
def test_4_8_enabling_with_an_invalid_table_is_refused(offset):
    vm = new()
    tables(vm)
    vm.reg_write(offset, 0, 8)
    vm.reg_write(0, 1, 4)
    assert vm.reg_read(0, 4) == 0x80000000
    vm.reg_write(offset, VALID | DT, 8)
    vm.reg_write(0, 1, 4)
    assert vm.reg_read(0, 4) == 0x80000001
    vm.reg_write(offset, 0, 8)  # ignored while enabled
    assert vm.reg_read(offset, 8) & VALID


def test_4_8_enabling_does_not_process_the_queue():
    vm = ready()
    vm.reg_write(0, 0, 4)
    put(vm, "SYNC")
    vm.reg_write(0x88, 0x20, 8)
    vm.effects.clear()
    vm.reg_write(0, 1, 4)
    assert (vm.effects, vm.reg_read(0, 4), vm.state.creadr) == ([], 1, 0)
    vm.reg_write(0x88, 0x20, 8)
    assert [each[0] for each in vm.effects] == [effects.COMMAND]
    assert vm.reg_read(0, 4) == 0x80000001


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("MAPD", {"device_id": 512, "size": 7, "itt_addr": ITT, "v": 1}),
        ("MAPD", {"device_id": 2, "size": 16, "itt_addr": ITT, "v": 1}),
        ("MAPC", {"icid": 2048, "rdbase": 0, "v": 1}),
        ("MAPC", {"icid": 3, "rdbase": 4, "v": 1}),
        ("MAPC", {"icid": 3, "rdbase": 4, "v": 0}),
        ("MAPTI", {"device_id": 3, "event_id": 1, "pintid": 8200, "icid": 3}),
        ("MAPTI", {"device_id": 2, "event_id": 256, "pintid": 8200, "icid": 3}),
        ("INT", {"device_id": 2, "event_id": 21}),
        ("MOVI", {"device_id": 2, "event_id": 20, "icid": 2}),
        ("DISCARD", {"device_id": 2, "event_id": 21}),
        ("INV", {"device_id": 2, "event_id": 21}),
        ("CLEAR", {"device_id": 2, "event_id": 21}),
    ],
)
def test_4_8_a_parameter_error_is_skipped(name, fields):
    vm = ready()
    map_one(vm)
    before = (vm.ram.load_bytes(DT, 8192), vm.ram.load_bytes(CT, 8192), view.lpis(vm))
    ittes = vm.ram.load_bytes(ITT, 4096)
    assert command(vm, name, **fields) == []
    assert (vm.ram.load_bytes(DT, 8192), vm.ram.load_bytes(CT, 8192), view.lpis(vm)) == before
    assert vm.ram.load_bytes(ITT, 4096) == ittes


def test_4_8_a_queue_without_memory_ends_the_loop_where_it_stands():
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x80, VALID | 0x43FFF000 | 1, 8)  # the second page is beyond the end of RAM
    vm.reg_write(0x88, 0x1020, 8)
    vm.reg_write(0, 1, 4)
    vm.effects.clear()
    vm.reg_write(0x88, 0x1020, 8)
    assert len(vm.effects) == 128
    assert vm.reg_read(0x90, 8) == 0x1000  # neither moved on nor stalled
    assert vm.reg_read(0, 4) == 1


def test_4_8_a_table_without_memory_is_an_error_like_any_other():
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x100, VALID | NO_RAM, 8)
    vm.reg_write(0, 1, 4)
    mapd(vm)
    assert vm.state.creadr == 0x20
    assert view.host_devices(vm) == {2: {"events": 256, "lpis": {}}}  # made before the entry


def test_4_8_cwriter_out_of_range_is_stored_and_nothing_runs():
    vm = ready()
    vm.effects.clear()
    vm.reg_write(0x88, 0x1000, 8)
    assert (vm.reg_read(0x88, 8), vm.reg_read(0x90, 8), vm.effects) == (0x1000, 0, [])
    assert vm.reg_read(0, 4) == 1
    vm.reg_write(0x88, 0x20, 8)
    assert vm.reg_read(0x90, 8) == 0x20


def test_4_8_mapti_on_a_mapped_event_is_an_error():
    vm = ready()
    map_one(vm)
    mapti(vm, pintid=8200)
    assert itte(vm) == (8195, 3)
    assert list(view.lpis(vm)) == [8195]


def test_4_8_mapti_to_an_unmapped_collection_is_an_error():
    vm = ready()
    mapd(vm)
    mapti(vm)
    assert itte(vm) == (0, 0)
    assert view.lpis(vm) == {}


def test_4_8_indirect_tables_are_not_there():
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x100, VALID | 1 << 62 | DT, 8)
    vm.reg_write(0, 1, 4)
    vm.ram.store64(DT, VALID | 0x40700000)
    mapd(vm)
    assert vm.ram.load64(DT + 16) == ITT | 7


@pytest.mark.parametrize("name", [name for name, spec in BY_NAME.items() if spec.opcode >= 0x20])
def test_4_8_commands_of_gicv4_are_consumed(name):
    vm = ready()
    before = vm.ram.load_bytes(DT, 4096)
    assert command(vm, name) == []
    assert vm.ram.load_bytes(DT, 4096) == before


def test_4_8_a_collection_that_is_mapped_again_works_again():
    vm = ready()
    map_one(vm)
    command(vm, "MAPC", icid=3, v=0)
    assert vm.ram.load_bytes(CT + 6, 2) == b"\xff\xff"
    assert command(vm, "INT", device_id=2, event_id=20) == []
    command(vm, "MAPC", icid=3, rdbase=1, v=1)
    # The entry is found again; the live LPI still has the vCPU that it was mapped to.
    assert command(vm, "INT", device_id=2, event_id=20) == [(effects.LPI, 8195, 3)]


# -- its.md 8.1


def test_8_1_a_zeroed_collection_table_maps_everything_to_vcpu_0():
    vm = new()
    tables(vm)
    lpis(vm)
    vm.reg_write(0, 1, 4)
    mapd(vm)
    mapti(vm, icid=1000)
    assert command(vm, "INT", device_id=2, event_id=20) == [(effects.LPI, 8195, 0)]
    shown = view.collections(vm, view.devices(vm))
    assert shown == {icid: {"rdbase": 0, "confirmed": True} for icid in (0, 1, 2, 3, 1000)}


def test_8_1_a_zeroed_device_table_is_one_of_devices_with_an_itt_at_0():
    vm = XenVm(cpus=1, ram=GuestRam(((0, 64 << 10), *RAM)))
    tables(vm)
    lpis(vm)
    vm.reg_write(0, 1, 4)
    vm.ram.store64(0x8, entries.pack_itte(8195, 0))
    vm.state.devices.clear()
    command(vm, "MAPTI", device_id=7, event_id=0, pintid=8192, icid=0)
    # The entry was written at address 0, and taken back, for the host has no such device.
    assert vm.ram.load64(0) == entries.pack_itte(0, 0xFFFF)


def test_8_1_unmapping_a_device_stores_the_masked_all_ones_address():
    vm = ready()
    map_one(vm)
    mapd(vm, v=0)
    assert vm.ram.load64(DT + 16) == 0x000F_FFFF_FFFF_FF00
    assert (view.devices(vm), view.host_devices(vm), view.lpis(vm)) == ({}, {}, {})
    assert command(vm, "INT", device_id=2, event_id=1) == []
    mapti(vm, event_id=1)
    assert view.lpis(vm) == {}


def test_8_1_entries_of_an_unmapped_device_come_back_with_its_table():
    """MAPD V=0 discards the events but leaves their entries: the same ITT has them still."""
    vm = ready()
    map_one(vm)
    mapd(vm, v=0)
    mapd(vm)
    assert itte(vm) == (8195, 3)
    mapti(vm)  # an error: the event counts as mapped
    assert view.lpis(vm) == {}
    assert command(vm, "INT", device_id=2, event_id=20) == []


def test_8_1_a_device_is_not_mapped_twice():
    vm = ready()
    mapd(vm)
    mapd(vm, itt_addr=ITT + 0x1000)
    assert vm.ram.load64(DT + 16) == ITT | 7
    mapd(vm, v=0)
    mapd(vm, itt_addr=ITT + 0x1000)
    assert vm.ram.load64(DT + 16) == ITT + 0x1000 | 7


def test_a_device_takes_fewer_events_than_the_host_has():
    vm = ready()
    mapd(vm, size=15)  # 2^16 events: the host asks for less than that
    assert view.host_devices(vm) == {}
    mapd(vm, size=14)
    assert view.host_devices(vm) == {2: {"events": 1 << 15, "lpis": {}}}
    mapd(vm, size=15, v=0)  # and does not let go of it when asked for too many
    assert vm.ram.load64(DT + 16) == entries.DTE_UNMAPPED
    assert list(view.host_devices(vm)) == [2]
    mapd(vm, size=0, v=0)
    assert view.host_devices(vm) == {}


def test_8_1_a_collection_unmapped_before_its_device_leaves_a_live_lpi():
    vm = ready()
    map_one(vm)
    command(vm, "MAPC", icid=3, v=0)
    mapd(vm, v=0)
    assert list(view.lpis(vm)) == [8195]
    vm.ram.store64(ITT + 8 * 20, 0)
    map_one(vm)
    assert itte(vm) == (0, 0xFFFF)  # refused: the LPI is live already
    assert view.host_devices(vm)[2]["lpis"] == {}
    mapti(vm, pintid=8200)
    assert sorted(view.lpis(vm)) == [8195, 8200]


def test_8_1_discard_needs_the_collection_and_clears_the_entry():
    vm = ready()
    map_one(vm)
    command(vm, "MAPC", icid=3, v=0)
    command(vm, "DISCARD", device_id=2, event_id=20)
    assert itte(vm) == (8195, 3)
    command(vm, "MAPC", icid=3, rdbase=3, v=1)
    command(vm, "DISCARD", device_id=2, event_id=20)
    assert itte(vm) == (0, 0xFFFF)
    assert (view.lpis(vm), view.host_devices(vm)[2]["lpis"]) == ({}, {})
    mapti(vm)
    assert itte(vm) == (8195, 3)


def test_8_1_invall_of_an_unmapped_collection_kills_the_host():
    vm = new()
    tables(vm)
    vm.mem_write(CT, b"\xff" * 4096)
    vm.reg_write(0, 1, 4)
    assert command(vm, "INVALL", icid=3) == []  # before any LPI is enabled it does nothing
    lpis(vm)
    at = put(vm, "INVALL", icid=3)
    with pytest.raises(HostCrash, match="its_handle_invall"):
        vm.reg_write(0x88, at + 32, 8)
    assert KvmHostCrash is HostCrash


def test_8_1_movall_is_ignored():
    vm = ready()
    map_one(vm)
    command(vm, "INT", device_id=2, event_id=20)
    command(vm, "MOVALL", rdbase1=3, rdbase2=1)
    assert view.lpis(vm) == {8195: {"pending": "set", "target": 3, "queued": 3}}


# -- interrupts


def test_an_msi_goes_through_the_host_whatever_the_tables_say():
    vm = ready()
    map_one(vm)
    vm.reg_write(0, 0, 4)
    vm.ram.store64(DT + 16, 0)
    vm.effects.clear()
    vm.msi(2, 20)
    assert vm.effects == [(effects.LPI, 8195, 3)]
    vm.effects.clear()
    vm.msi(2, 21)
    vm.msi(3, 20)
    assert vm.effects == []


def test_movi_sends_the_next_one_elsewhere_and_leaves_the_pending_one():
    vm = ready()
    map_one(vm)
    command(vm, "INT", device_id=2, event_id=20)
    command(vm, "MAPC", icid=1, rdbase=1, v=1)
    command(vm, "MOVI", device_id=2, event_id=20, icid=1)
    assert itte(vm) == (8195, 1)
    assert view.lpis(vm) == {8195: {"pending": "set", "target": 1, "queued": 3}}


def test_clear_of_an_enabled_lpi_may_come_too_late():
    vm = ready()
    map_one(vm)
    command(vm, "INT", device_id=2, event_id=20)
    command(vm, "CLEAR", device_id=2, event_id=20)
    assert view.lpis(vm)[8195]["pending"] == "clear"
    vm.ram.store8(PROP + 3, ENABLED_LPI)
    command(vm, "INV", device_id=2, event_id=20)
    command(vm, "INT", device_id=2, event_id=20)
    command(vm, "CLEAR", device_id=2, event_id=20)
    assert view.lpis(vm)[8195]["pending"] == "maybe"


@pytest.mark.parametrize("name", ["INV", "INVALL"])
def test_configuration_is_read_when_asked_for(name):
    vm = ready()
    vm.ram.store8(PROP + 3, ENABLED_LPI)
    map_one(vm)
    irq = vm.state.irqs[vm.state.tree[8195]]
    assert (irq.enabled, irq.priority) == (1, 0xA0)
    vm.ram.store8(PROP + 3, 0x40)
    assert (irq.enabled, irq.priority) == (1, 0xA0)
    fields = {"icid": 3} if name == "INVALL" else {"device_id": 2, "event_id": 20}
    command(vm, name, **fields)
    assert (irq.enabled, irq.priority) == (0, 0x40)


def test_an_lpi_without_a_configuration_byte_is_not_mapped():
    vm = new()
    tables(vm)
    vm.mem_write(CT, b"\xff" * 4096)
    vm.gicr_write(0, 0x70, NO_RAM | 0xF, 8)
    vm.gicr_write(0, 0x0, 1, 4)
    vm.reg_write(0, 1, 4)
    map_one(vm)
    assert itte(vm) == (0, 0xFFFF)
    assert view.lpis(vm) == {}


@pytest.mark.parametrize(
    ("intid", "mapped"),
    [(8192, True), (LPIS - 1, True), (LPIS, False), (65535, False), (100, True)],
)
def test_an_intid_is_compared_with_the_number_of_lpis(intid, mapped):
    vm = ready()
    command(vm, "MAPC", icid=3, rdbase=3, v=1)
    mapd(vm)
    mapti(vm, pintid=intid)
    assert (intid in view.lpis(vm)) is mapped
    found = command(vm, "INT", device_id=2, event_id=20)
    assert found == ([(effects.LPI, intid, 3)] if mapped and intid >= 8192 else [])


def test_nothing_is_mapped_before_a_redistributor_has_lpis():
    vm = new()
    tables(vm)
    vm.reg_write(0, 1, 4)
    map_one(vm)
    assert view.lpis(vm) == {}


# -- redistributors


def test_propbaser_is_one_for_all_and_fixed_once_lpis_are_enabled():
    vm = new()
    vm.gicr_write(2, 0x70, (1 << 64) - 1, 8)
    assert vm.gicr_read(0, 0x70, 8) == 0x010F_FFFF_FFFF_FF9F  # outer nC, RES0 bits gone
    vm.gicr_write(0, 0x74, 0, 4)
    assert vm.gicr_read(1, 0x70, 8) == 0xFFFFFF9F
    vm.gicr_write(3, 0x0, 1, 4)
    vm.gicr_write(0, 0x70, 0, 8)
    assert vm.gicr_read(0, 0x70, 4) == 0xFFFFFF9F
    assert [vm.gicr_read(cpu, 0x0, 4) for cpu in range(4)] == [0, 0, 0, 1]
    vm.gicr_write(3, 0x0, 0, 4)
    assert vm.gicr_read(3, 0x0, 4) == 1
    assert (vm.gicr_read(0, 0x70, 2), vm.gicr_read(9, 0x70, 8), vm.gicr_read(0, 8, 8)) == (
        None,
    ) * 3


def test_pendbaser_is_each_vcpus_and_its_ptz_reads_0():
    vm = new()
    vm.gicr_write(1, 0x78, (1 << 64) - 1, 8)
    assert vm.gicr_read(1, 0x78, 8) == 0x010F_FFFF_FFFF_0F80
    assert vm.state.pendbasers[1] >> 62 == 1
    assert vm.gicr_read(0, 0x78, 8) == 0
    vm.gicr_write(1, 0x0, 1, 4)
    vm.gicr_write(1, 0x78, 0, 8)
    vm.gicr_write(0, 0x78, PEND, 8)
    assert vm.gicr_read(1, 0x78, 8) == 0x010F_FFFF_FFFF_0F80
    assert vm.gicr_read(0, 0x78, 8) == PEND | 3 << 7  # nC is not stored: RaWb


# -- the whole


def test_a_snapshot_brings_everything_back():
    vm = ready()
    map_one(vm)
    before = vm.snapshot()
    vm.msi(2, 20)
    command(vm, "MAPC", icid=3, v=0)
    mapd(vm, v=0)
    after = vm.snapshot()
    vm.reset()
    assert len({before, after, vm.snapshot()}) == 3
    vm.restore(before)
    assert vm.snapshot() == before
    vm.msi(2, 20)
    command(vm, "MAPC", icid=3, v=0)
    mapd(vm, v=0)
    assert vm.snapshot() == after


def test_a_reset_is_a_new_vm_in_the_same_ram():
    vm = ready()
    map_one(vm)
    vm.reset()
    assert view.registers(vm) == FRESH
    assert (view.lpis(vm), view.host_devices(vm)) == ({}, {})
    assert vm.ram.load64(DT + 16) == ITT | 7


OFFSETS = (0, 4, 8, 0x10, 0x80, 0x84, 0x88, 0x8C, 0x90, 0x100, 0x104, 0x108, 0x10C, 0x110, 0xFFE8)
NAMES = (
    *("INT", "MAPD", "MAPC", "MAPTI") * 2,
    *("MAPTI", "MAPI", "MOVI", "CLEAR", "SYNC", "INV", "MOVALL", "DISCARD"),
)


def random_command(rng):
    """A command of small numbers, or now and then of any; INVALL, which may kill, is rare."""
    name = rng.choice(NAMES) if rng.random() < 0.99 else "INVALL"
    found = {}
    for field in BY_NAME[name].layout.fields_:
        small = {
            "itt_addr": ITT + 0x800 * rng.randrange(2),
            "pintid": rng.choice((0, 100, 8192, 8193, 8194, 8195, LPIS)),
            "v": rng.random() < 0.8,
        }
        value = small.get(field.attr, rng.randrange(3))
        if rng.random() < 0.02:
            value = rng.getrandbits(64)
        found[field.attr] = field.get(value >> field.place << field.lo)
    del found["opcode"]
    return name, found


def step(vm, rng):
    kind = rng.randrange(30)
    if kind == 0:
        vm.reg_write(rng.choice(OFFSETS), rng.getrandbits(64), rng.choice((1, 2, 4, 8)))
    elif kind == 1:
        vm.reg_write(0, 0, 4)
        tables(vm)
        vm.reg_write(0, 1, 4)
    elif kind == 2:
        at = rng.choice((DT, CT, ITT, QUEUE)) + rng.randrange(64)
        vm.mem_write(at, rng.choice((bytes(8), b"\xff" * 8, rng.randbytes(5))))
    elif kind < 5:
        vm.msi(rng.randrange(3), rng.randrange(3))
    elif kind == 5:
        vm.gicr_write(rng.randrange(5), rng.choice((0, 0x70, 0x74, 0x78)), rng.getrandbits(64), 4)
    elif kind == 6 and rng.random() < 0.1:
        vm.reset()
    else:
        at = vm.state.cwriter & 0xFE0
        name, fields = random_command(rng)
        for index, dword in enumerate(encode(name, **fields)):
            vm.ram.store64(QUEUE + at + 8 * index, dword)
        vm.reg_write(0x88, (at + 32) % 4096, 8)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_random_lives_hold_the_invariants(seed, complete):
    rng = random.Random(seed)
    vm = XenVm(cpus=4, ram=GuestRam(RAM, complete=complete), gicr_known=complete)
    tables(vm)
    if complete:
        lpis(vm)
        vm.mem_write(CT, bytes((0, 0, 1, 0, 2, 0, 255, 255)))
    vm.reg_write(0, 1, 4)
    for _ in range(300):
        vm.effects.clear()
        try:
            step(vm, rng)
        except HostCrash:
            break
        assert list(invariants.violations(vm)) == []
    snapshot = vm.snapshot()
    shown = (view.registers(vm), view.devices(vm), view.lpis(vm), view.host_devices(vm))
    vm.reset()
    vm.restore(snapshot)
    assert vm.snapshot() == snapshot
    assert (view.registers(vm), view.devices(vm), view.lpis(vm), view.host_devices(vm)) == shown


def broken(**values):
    def spoil(vm):
        for name, value in values.items():
            setattr(vm.state, name, value)

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("creadr_within_the_queue", broken(creadr=0x1000)),
        ("creadr_within_the_queue", broken(creadr=0x8)),
        ("cwriter_is_an_offset", broken(cwriter=0x1)),
        ("attributes_are_sanitised", broken(cbaser=VALID | QUEUE)),
        ("baser1_keeps_its_type", lambda vm: vm.state.baser.reverse()),
        ("enabled_with_valid_tables", broken(cbaser=FRESH["GITS_CBASER"])),
        ("lpis_are_enabled_for_the_domain", broken(rdists_enabled=False)),
        ("live_lpis_are_in_range", broken(lpi_count=8195)),
        ("pending_irqs_know_who_names_them", lambda vm: vm.state.tree.clear()),
        ("assigned_events_have_a_pending_irq", lambda vm: vm.state.devices[2].irqs.clear()),
        ("events_within_their_device", lambda vm: setattr(vm.state.devices[2], "limit", 20)),
        ("every_pending_irq_is_reached", lambda vm: vm.state.irqs.clear()),
    ],
)
def test_each_invariant_can_fail(name, spoil):
    vm = ready()
    map_one(vm)
    assert list(invariants.violations(vm)) == []
    spoil(vm)
    assert name in list(invariants.violations(vm))


# -- as a target


def hexed(name, **fields):
    return b"".join(dword.to_bytes(8, "little") for dword in encode(name, **fields)).hex()


TRACE = f"""\
# itstrace: 1
# source: "test"
# profile: "xen-4.20"
# cpus: 2
# ram_ranges: [[1073741824, 67108864]]
# guest_ram: "complete"
0 +0 reset how=power_on
1 +0 reg.write offset=0x100 value={VALID | DT:#x}
2 +0 reg.write offset=0x108 value={VALID | CT:#x}
3 +0 reg.write offset=0x80 value={VALID | QUEUE:#x}
4 +0 gicr.write cpu=0 offset=0x70 value={PROP | 0xF:#x}
5 +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4
6 +0 mem.write gpa={QUEUE:#x} data={hexed("MAPC", icid=1, rdbase=1, v=1)}
7 +0 mem.write gpa={QUEUE + 32:#x} data={hexed("MAPD", device_id=2, size=7, itt_addr=ITT, v=1)}
8 +0 mem.write gpa={QUEUE + 64:#x} data={hexed("MAPTI", device_id=2, event_id=20, pintid=8195, icid=1)}
9 +0 mem.write gpa={QUEUE + 96:#x} data={hexed("INT", device_id=2, event_id=20)}
10 +0 reg.write offset=0x0 value=0x1 size=4
11 +0 reg.write offset=0x88 value=0x80
12 +0 lpi cause=1 intid=8195 cpu=1
13 +0 reg.read offset=0x0 value=0x80000001 size=4
14 +0 reg.read offset=0x0 value=0x0 size=8 bad=1
15 +0 gicr.read cpu=0 offset=0x0 value=0x1 size=4
16 +0 mem.read cause=0 gpa={DT + 16:#x} data=0700604000000000
"""
REST = """\
17 +0 reset how=system
18 +0 reg.read offset=0x0 value=0x80000000 size=4
19 +0 reg.read offset=0x100 value=0x3907000000000400
20 +0 reg.read offset=0x108 value=0x3c01000000000400
"""


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "xen.its.txt"
    path.write_text(TRACE + REST)
    return str(path)


def answer(capsys, *args):
    code = cli.main([*args, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_check_runs_and_finds_nothing(trace, capsys):
    code, found = answer(capsys, "check", trace)
    assert (code, found["divergent"], found["outputs"]) == (0, [], found["matched"])
    assert found["outputs"] == 8


def test_check_finds_a_wrong_answer(tmp_path, capsys):
    path = tmp_path / "wrong.its.txt"
    path.write_text(TRACE.replace("intid=8195 cpu=1", "intid=8195 cpu=0"))
    code, found = answer(capsys, "check", str(path))
    assert (code, len(found["divergent"]), found["divergent"][0]["field"]) == (1, 1, "cpu")


def test_state_tells_tables_and_what_is_beside_them(trace, capsys):
    code, found = answer(capsys, "state", trace, "--at", "16")
    its = found["its"]["0"]
    assert (code, found["profile"], its["registers"]["GITS_CREADR"]) == (0, "xen-4.20", "0x80")
    event = {"intid": 8195, "icid": 1, "confirmed": True}
    assert its["devices"]["0x2"]["events"] == {"0x14": event}
    assert its["collections"] == {
        "0": {"rdbase": 0, "confirmed": True},
        "1": {"rdbase": 1, "confirmed": True},
    }
    assert its["host_devices"] == {"0x2": {"events": 256, "lpis": {"0x14": 8195}}}
    assert found["lpis"] == {"8195": {"pending": "set", "target": 1, "queued": 1}}
    assert cli.main(["state", trace]) == 0
    assert "digest" in capsys.readouterr().out


def test_verify_proves_nothing_where_nothing_is_promised(trace, capsys):
    code, found = answer(capsys, "verify", trace)
    assert code == 0
    assert [each["verdict"] for each in found["resets"]] == ["unproven", "unproven"]
    assert (found["resets"][1]["observed"], found["resets"][1]["of"]) == (0, 0)
    for component in found["resets"][1]["components"]:
        assert clause_for(find("xen-4.20")[0], "system", component["name"]) is None
        assert component["status"] in ("verified", "unproven")


@pytest.mark.parametrize("how", ["power_on", "system", "ctrl_reset", "register_fallback"])
def test_a_register_that_survives_is_unspecified(how):
    text = TRACE + f"17 +0 reset how={how}\n18 +0 reg.read offset=0x100 value=0xb907000040100400\n"
    reader = TextReader(io.StringIO(text), "life")
    verifier, _ = verify(reader, model_of(reader.header, PROFILE))
    verdict = verifier.resets[-1]
    assert verdict.statuses()["GITS_BASER0"] == "unspecified"
    assert {*verdict.statuses().values()} == {"unspecified", "unproven"}
    assert verdict.word == "unproven"


def test_a_new_kernel_finds_everything_as_the_old_one_left_it():
    text = TRACE + "17 +0 reset how=reinit\n"
    reader = TextReader(io.StringIO(text), "life")
    model = model_of(reader.header, PROFILE)
    verifier, _ = verify(reader, model)
    assert model.structures()["lpis"] == {8195: {"pending": "set", "target": 1, "queued": 1}}
    statuses = verifier.resets[-1].statuses()
    for name in ("lpis", "host_devices", "devices", "GITS_BASER0", "GICR_PROPBASER[0]"):
        assert statuses[name] == "unspecified"


def test_the_death_of_the_host_is_a_finding():
    crash = hexed("INVALL", icid=1)
    text = (
        TRACE
        + f"""\
17 +0 mem.write gpa={CT:#x} data=ffffffff
18 +0 mem.write gpa={QUEUE + 128:#x} data={crash}
19 +0 reg.write offset=0x88 value=0xa0
"""
    )
    found = judge(TextReader(io.StringIO(text), "life"), PROFILE)
    assert (found.word, found.signatures) == ("crash", ["crash:its_handle_invall"])


@pytest.mark.parametrize("name", ["xen-4.20", "qemu-7.2.22"])
def test_a_save_is_no_round_trip_where_there_is_nothing_to_save(name):
    text = TRACE + "17 +0 save\n18 +0 restore\n19 +0 reset how=system\n"
    reader = TextReader(io.StringIO(text), "life")
    verifier, _ = verify(reader, model_of(reader.header, find(name)[0]))
    assert verifier.round_trips == []


def test_a_header_gives_the_widths_of_the_host():
    reader = TextReader(io.StringIO(TRACE), "life")
    model = model_of(reader.header, with_flags(PROFILE, {"host_device_id_bits": 32}))
    assert model.registers()["GITS_TYPER"] == 0x1EF71 | 31 << 13
    assert PROFILE.flags() == {
        "host_device_id_bits": [16, "read"],
        "host_event_id_bits": [16, "read"],
    }
    with pytest.raises(UsageError):
        with_flags(PROFILE, {"host_device_id_bits": 64})


OBSERVED = f"""\
# itstrace: 1
# profile: "xen-4.20"
# cpus: 2
# guest_ram: "observed"
0 +0 reg.write offset=0x100 value={VALID | DT:#x}
1 +0 reg.write offset=0x108 value={VALID | CT:#x}
2 +0 reg.write offset=0x80 value={VALID | QUEUE:#x}
3 +0 reg.write offset=0x0 value=0x1 size=4
4 +0 reg.write offset=0x88 value=0x80
5 +0 command cause=1 queue_offset=0x0 dw0=0x200000008 dw1=0x7 dw2=0x8000000040600000 dw3=0x0
6 +0 command cause=2 queue_offset=0x20 dw0=0x20000000a dw1=0x200300000014 dw2=0x1 dw3=0x0
7 +0 command cause=3 queue_offset=0x40 dw0=0x200000003 dw1=0x14 dw2=0x0 dw3=0x0
8 +0 lpi cause=4 intid=8195 cpu=0
9 +0 command cause=5 queue_offset=0x60 dw0=0x200000003 dw1=0x14 dw2=0x0 dw3=0x0
10 +0 lpi cause=6 intid=8195 cpu=0
"""


def test_in_observed_ram_what_rests_on_an_assumption_is_counted_once():
    reader = TextReader(io.StringIO(OBSERVED), "observed")
    model = model_of(reader.header, PROFILE)
    tally = Engine(reader, model, invariants=True).run()
    assert (tally.divergent, tally.matched, tally.assumed) == (0, 5, 1)
    assert tally.assumptions == [(8, "the guest zeroed its tables before it handed them over")]
    assert model.state()["lpis"]["8195"]["pending"] == "maybe"
    assert model.state()["redistributors"]["0"]["GICR_CTLR"] is None


@pytest.mark.parametrize("seed", range(20))
def test_random_traces_meet_no_bug(seed):
    rng = random.Random(seed)
    complete = rng.choice(("complete", "observed"))
    lines = ["# itstrace: 1", f'# guest_ram: "{complete}"', "# cpus: 2"]
    lines.append("# ram_ranges: [[1073741824, 1048576]]")
    for _ in range(150):
        value = rng.choice((0, 1, 2**64 - 1, VALID | 0x40000000, rng.getrandbits(64)))
        offset = rng.choice((*OFFSETS, 0x70, 0x78))
        size = rng.choice((1, 2, 4, 8))
        gpa = 0x40000000 + rng.randrange(0x100000 - 32)
        lines.append(
            rng.choice(
                (
                    f". +0 reg.write offset={offset:#x} value={value:#x} size={size}",
                    f". +0 reg.read offset={offset:#x} value=0x0 size={size}",
                    f". +0 mem.write gpa={gpa:#x} data={rng.randbytes(32).hex()}",
                    f". +0 mem.read cause=0 gpa={gpa:#x} data=00",
                    f". +0 msi device_id={value & 7:#x} event_id={value & 3:#x}",
                    f". +0 gicr.write cpu={value & 3} offset={offset:#x} value={value:#x}",
                    f". +0 gicr.read cpu={value & 3} offset={offset:#x} value=0x0",
                    f". +0 reset how={rng.choice(('system', 'reinit'))}",
                    '. +0 loss count=1 reason="full"',
                )
            )
        )
    found = judge(TextReader(io.StringIO("\n".join(lines) + "\n")), PROFILE)
    assert found.engine.violated == []
    assert len(found.engine.model.state()["digest"]) == 32
