"""The model of QEMU's ITS: its tables against the layouts, and small lives against the source."""

from __future__ import annotations

import pytest

from replay.model import effects
from replay.model.memory import GuestRam
from replay.model.qemu import entries, entry_layouts, registers
from replay.model.qemu.profile import QEMU_V4
from replay.model.qemu.state import MAX_READS
from replay.model.qemu.vm import QemuVm
from tests.support.packing import assert_packing_agrees
from tracer import events as ev
from tracer.its.commands import encode

DT, CT, QUEUE, ITT = 0x40100000, 0x40200000, 0x40300000, 0x40600000
VALID = 1 << 63


def ready(**kwargs):
    """A VM with flat tables, its queue at QUEUE, enabled."""
    vm = QemuVm(cpus=4, ram=GuestRam(((0x40000000, 64 << 20),)), **kwargs)
    vm.reg_write(0x100, VALID | DT | 0x200, 8)
    vm.reg_write(0x108, VALID | CT | 0x200, 8)
    vm.reg_write(0x80, VALID | QUEUE, 8)
    for cpu in range(4):
        vm.gicr_write(cpu, 0x70, 0x4040000F, 8)
        vm.gicr_write(cpu, 0x78, 0x40500000 + 0x20000 * cpu, 8)
        vm.gicr_write(cpu, 0x0, 1, 4)
    vm.reg_write(0, 1, 4)
    return vm


def command(vm, name, **fields):
    at = vm.its.cwriter
    for index, dword in enumerate(encode(name, **fields)):
        vm.ram.store64(QUEUE + at + 8 * index, dword)
    vm.effects.clear()
    vm.reg_write(0x88, (at + 32) % 4096, 8)
    return vm.effects[1:]


def map_one(vm, device_id=2, event_id=20, pintid=8195, icid=3, cpu=3):
    command(vm, "MAPC", icid=icid, rdbase=cpu, v=1)
    command(vm, "MAPD", device_id=device_id, size=7, itt_addr=ITT, v=1)
    command(vm, "MAPTI", device_id=device_id, event_id=event_id, pintid=pintid, icid=icid)


def pending(vm, cpu, intid):
    return vm.ram.load8(0x40500000 + 0x20000 * cpu + intid // 8) >> intid % 8 & 1


# -- tables


def test_effect_codes_are_the_numbers_of_the_events():
    names = {
        "command": effects.COMMAND,
        "msi.result": effects.MSI_RESULT,
        "lpi": effects.LPI,
        "table.read": effects.TABLE_READ,
        "table.write": effects.TABLE_WRITE,
        "table.fault": effects.TABLE_FAULT,
        "attr.result": effects.ATTR_RESULT,
        "xlat.hit": effects.XLAT_HIT,
        "xlat.miss": effects.XLAT_MISS,
    }
    assert {name: ev.NUMBER[name] for name in names} == names
    tables = (effects.DTE, effects.CTE, effects.ITE, effects.VTE, effects.L1)
    assert tables == (ev.DTE, ev.CTE, ev.ITE, ev.VTE, ev.L1)


@pytest.mark.parametrize(
    ("layout", "pack", "unpack"),
    [
        (entry_layouts.Dte, entries.pack_dte, entries.unpack_dte),
        (entry_layouts.Cte, entries.pack_cte, entries.unpack_cte),
        (entry_layouts.Ite, entries.pack_ite, entries.unpack_ite),
        (entry_layouts.Vte, entries.pack_vte, entries.unpack_vte),
    ],
)
def test_fast_packing_agrees_with_the_layout_bit_by_bit(layout, pack, unpack):
    assert_packing_agrees(layout, pack, unpack)


def test_golden_entries_of_qemu():
    """DTE(itt 0x40200000, 8 bits), CTE(rd 3), ITE(lpi 8195, icid 3), computed from QEMU's header."""
    assert entries.pack_dte(1, 7, 0x40200000) == 0x000000001008000F
    assert entries.pack_cte(1, 3) == 0x7
    assert entries.pack_ite(1, 1, 8195, 3, 0, 1023) == 0x3FF_00000003_0000800F


def test_every_readable_register_has_a_write_and_no_other_offset_answers():
    read, written = (
        {(offset, size) for size, of_size in table.items() for offset in of_size}
        for table in (registers.READ, registers.WRITE)
    )
    assert {at for at in read if at[0] < 0xFFD0} >= {(0, 4), (4, 4), (8, 8), (0x90, 4)}
    assert read - written == {(8, 4), (12, 4)}  # TYPER by halves
    assert written <= read
    vm = QemuVm()
    assert vm.reg_read(0, 8) is None
    assert vm.reg_write(0x40, 0, 4) is False


# -- lives


def test_a_mapped_event_makes_its_lpi_pending_where_its_collection_points():
    vm = ready()
    map_one(vm)
    assert command(vm, "INT", device_id=2, event_id=20) == [
        (effects.TABLE_READ, effects.DTE, 2, 0, 1, 7, ITT),
        (effects.TABLE_READ, effects.ITE, 20, ITT, 1, 1, 8195, 3, 0, 1023),
        (effects.TABLE_READ, effects.CTE, 3, 0, 1, 3),
    ]
    assert [pending(vm, cpu, 8195) for cpu in range(4)] == [0, 0, 0, 1]
    command(vm, "CLEAR", device_id=2, event_id=20)
    assert pending(vm, 3, 8195) == 0


def test_an_msi_is_an_int_and_needs_the_its_enabled():
    vm = ready()
    map_one(vm)
    vm.reg_write(0, 0, 4)
    vm.msi(2, 20)
    assert pending(vm, 3, 8195) == 0
    vm.reg_write(0, 1, 4)
    vm.msi(2, 20)
    assert pending(vm, 3, 8195) == 1


def test_mapti_over_a_mapped_event_overwrites_it():
    vm = ready()
    map_one(vm)
    command(vm, "MAPTI", device_id=2, event_id=20, pintid=8200, icid=3)
    vm.msi(2, 20)
    assert (pending(vm, 3, 8195), pending(vm, 3, 8200)) == (0, 1)


def test_movi_takes_the_pending_bit_along():
    vm = ready()
    map_one(vm)
    command(vm, "MAPC", icid=1, rdbase=1, v=1)
    vm.msi(2, 20)
    command(vm, "MOVI", device_id=2, event_id=20, icid=1)
    assert (pending(vm, 3, 8195), pending(vm, 1, 8195)) == (0, 1)


def test_discard_with_an_unmapped_collection_leaves_the_entry():
    """Measured on 7.2.22: do_process_its_cmd writes only when the CTE look-up succeeded."""
    vm = ready()
    map_one(vm)
    command(vm, "MAPC", icid=3, v=0)
    assert command(vm, "DISCARD", device_id=2, event_id=20)[-1][:2] == (
        effects.TABLE_READ,
        effects.CTE,
    )
    command(vm, "MAPC", icid=3, rdbase=2, v=1)
    vm.msi(2, 20)
    assert pending(vm, 2, 8195) == 1


def test_a_table_without_memory_stalls_and_stalled_survives_what_follows():
    """Measured on 7.2.22: CREADR 1, then 0x21, with Stalled kept through success."""
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x100, VALID | 0x90000000 | 0x200, 8)
    vm.reg_write(0, 1, 4)
    command(vm, "MAPD", device_id=2, size=7, itt_addr=ITT, v=1)
    assert vm.its.creadr == 1
    vm.ram.store64(QUEUE, 5)  # a SYNC in its place
    vm.reg_write(0x88, 0x20, 8)
    assert vm.its.creadr == 0x21


def test_a_queue_without_memory_reads_as_zeros_and_is_consumed():
    """Measured on 7.2.22: address_space_map gives a bounce buffer of zeros."""
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x80, VALID | 0x90000000, 8)
    vm.reg_write(0, 1, 4)
    vm.effects.clear()
    vm.reg_write(0x88, 0x40, 8)
    assert vm.effects == [(effects.COMMAND, 0, 0, 0, 0, 0), (effects.COMMAND, 32, 0, 0, 0, 0)]
    assert vm.its.creadr == 0x40


def test_a_level_1_hole_drops_the_write_and_keeps_its_low_address_bits():
    vm = ready()
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x100, VALID | 1 << 62 | DT | 0x200, 8)
    vm.reg_write(0, 1, 4)
    command(vm, "MAPD", device_id=2, size=7, itt_addr=ITT, v=1)
    assert vm.ram.load64(DT) == 0
    vm.ram.store64(DT, VALID | 0x40700008)
    command(vm, "MAPD", device_id=2, size=7, itt_addr=ITT, v=1)
    assert vm.ram.load64(0x40700008 + 16) == entries.pack_dte(1, 7, ITT)


def test_a_disabled_its_re_enabled_goes_on_where_it_stopped():
    vm = ready()
    map_one(vm)
    assert vm.its.creadr == 0x60
    vm.reg_write(0, 0, 4)
    vm.reg_write(0, 1, 4)
    assert vm.its.creadr == 0x60
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x80, VALID | QUEUE, 8)
    assert (vm.its.creadr, vm.its.cwriter) == (0, 0x60)


def test_tables_in_ram_survive_a_reset_and_come_back_with_the_same_basers():
    """Q12 of the catalogue: inherent in keeping mappings in guest RAM."""
    vm = ready()
    map_one(vm)
    vm.reset()
    assert vm.reg_read(0x100, 8) == 0x0107000000000200
    vm.reg_write(0x100, VALID | DT | 0x200, 8)
    vm.reg_write(0x108, VALID | CT | 0x200, 8)
    vm.reg_write(0, 1, 4)
    for offset, value in ((0x70, 0x4040000F), (0x78, 0x40560000), (0, 1)):
        vm.gicr_write(3, offset, value, 4 if offset == 0 else 8)
    vm.msi(2, 20)
    assert pending(vm, 3, 8195) == 1


@pytest.mark.parametrize("virtual", [False, True])
def test_a_snapshot_brings_everything_back(virtual):
    vm = ready(**({"profile": QEMU_V4} if virtual else {}))
    map_one(vm)
    before = vm.snapshot()
    vm.msi(2, 20)
    command(vm, "MAPC", icid=3, v=0)
    vm.reset()
    after = vm.snapshot()
    assert after != before
    vm.restore(before)
    assert vm.snapshot() == before


def test_virtual_commands_are_consumed_without_a_virtual_its():
    vm = ready()
    for name in ("VMAPP", "VMAPTI", "VMAPI", "VMOVP", "VMOVI", "VINVALL", "VSYNC", "VSGI"):
        assert command(vm, name) == []


# -- what was read of tables


def seen(vm):
    """The kinds and the entries' first fields of what an MSI of the mapped event meets."""
    vm.effects.clear()
    vm.msi(2, 20)
    return [(effect[0], effect[1], *effect[4:7]) for effect in vm.effects]


WHOLE = [
    (effects.TABLE_READ, effects.DTE, 1, 7, ITT),
    (effects.TABLE_READ, effects.ITE, 1, 1, 8195),
    (effects.TABLE_READ, effects.CTE, 1, 3),
]


def test_an_entry_that_was_read_is_read_anew_when_ram_changes():
    vm = ready()
    map_one(vm)
    assert seen(vm) == seen(vm) == WHOLE
    before = vm.snapshot()
    vm.mem_write(CT + 8 * 3, bytes(8))
    assert seen(vm) == [*WHOLE[:2], (effects.TABLE_READ, effects.CTE, 0, 0)]
    command(vm, "MAPC", icid=3, rdbase=1, v=1)
    assert seen(vm) == [*WHOLE[:2], (effects.TABLE_READ, effects.CTE, 1, 1)]
    vm.restore(before)
    assert seen(vm) == WHOLE
    vm.ram.remove_slot(0x40000000, 64 << 20)
    assert seen(vm) == [(effects.TABLE_FAULT, effects.DTE)]
    vm.ram.add_slot(0x40000000, 64 << 20)
    assert seen(vm) == [(effects.TABLE_READ, effects.DTE, 0, 0, 0)]


def test_an_entry_that_was_read_is_read_anew_from_another_table():
    vm = ready()
    map_one(vm)
    assert seen(vm) == WHOLE
    vm.reg_write(0, 0, 4)
    vm.reg_write(0x108, VALID | CT + 0x10000 | 0x200, 8)
    vm.reg_write(0, 1, 4)
    assert seen(vm) == [*WHOLE[:2], (effects.TABLE_READ, effects.CTE, 0, 0)]


def test_an_entry_that_was_read_is_not_certain_when_the_guest_may_have_rewritten_it():
    vm = ready()
    vm.ram.complete = False
    map_one(vm)
    assert seen(vm) == seen(vm) == WHOLE
    vm.bound.clear()
    vm.table_change()
    assert seen(vm) == WHOLE
    assert set(vm.bound) == {0, 1, 2}


def test_no_more_entries_are_kept_than_a_guest_may_make_us_keep():
    vm = ready()
    map_one(vm)
    for event_id in range(MAX_READS + 8):
        vm.effects.clear()
        vm.msi(2, event_id & 0xFF)
        vm.reads.ites[ITT].clear()  # so that each is one more
    assert vm.reads.count <= MAX_READS
    assert seen(vm) == WHOLE
