"""Every cut and every rewrite by itself: what it makes, and that the bug is still told."""

from __future__ import annotations

import pytest

from replay.judge import judge
from replay.minimize import addresses, cuts, renumber, rewrites, speaks
from replay.minimize.addresses import Stretch
from replay.minimize.case import open_case
from replay.minimize.items import Item, command, kick
from replay.minimize.model_oracle import INPUTS, Frames
from replay.minimize.numbers import closed, opened
from replay.minimize.oracle import Candidate
from replay.minimize.script import Script, lift, lower
from tests.minimize.test_model_oracle import CASES, told_by
from tests.support.planted import name_of, read
from tracer import events as ev
from tracer.events import make
from tracer.its.commands import encode
from tracer.its.registers import Baser
from tracer.log.header import Header

VALID = 1 << 63
RAM = 0x4000_0000


def script(*events, **header):
    return Script(Header(**header), tuple(Item(event) for event in events))


def cmd(name, **fields):
    return command(*encode(name, **fields))


def msi(device_id, event_id=0):
    return make("msi", 0, device_id=device_id, event_id=event_id)


def wrote(offset, value, **fields):
    return make("reg.write", 0, offset=offset, value=value, **fields)


def stored(gpa, data):
    return make("mem.write", 0, gpa=gpa, data=data)


def first(edits, of):
    """Return what the first edit that does something makes."""
    return next(made for edit in edits if (made := edit(of)) is not None)


def events(of):
    return [item.event for item in of.items]


LIFE = script(
    make("reset", 0, how=ev.POWER_ON),
    cmd("MAPD", device_id=8, itt_addr=RAM, v=1),
    cmd("MAPC", icid=3, rdbase=2, v=1),
    cmd("MAPTI", device_id=8, event_id=1, pintid=8195, icid=3),
    kick(8, 1),
    make("gicr.write", 0, cpu=2, offset=0, value=1, size=4),
    make("reset", 0, how=ev.CTRL_RESET),
    cmd("INV", device_id=9, event_id=1),
    kick(8, 1),
    msi(8, 1),
    make("reg.read", 0, offset=0, value=1),
)


# -- cuts


@pytest.mark.parametrize(
    ("units", "groups"),
    [
        (cuts.boots, [{0, 1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}]),
        (cuts.by_thing(speaks.DEVICE), [{1, 3, 9}, {7}]),
        (cuts.by_thing(speaks.EVENT), [{3, 9}, {7}]),
        (cuts.by_thing(speaks.LPI), [{3}]),
        (cuts.by_thing(speaks.COLLECTION), [{2, 3}]),
        (cuts.by_thing(speaks.CPU), [{2, 5}]),
        (cuts.by_key(cuts.kind_of), [{0, 6}, {1}, {2}, {3}, {4, 8}, {5}, {7}, {9}, {10}]),
        (cuts.by_key(cuts.ram_of), []),
        (cuts.kicks, []),
        (cuts.single, [{at} for at in range(11)]),
    ],
)
def test_items_are_grouped(units, groups):
    assert units(LIFE) == groups


def test_the_kicks_that_others_follow_can_go():
    inv = cmd("INV", device_id=1)
    assert cuts.kicks(script(inv, kick(8, 1), inv, inv, kick(8, 1), kick(8, 1), msi(1))) == [
        {1}, {4},
    ]  # fmt: skip


def test_what_only_looks_goes_but_for_the_one_that_shows_it():
    assert cuts.idle(LIFE, keep=9) == {10}
    assert cuts.idle(LIFE, keep=10) == set()


def test_the_ends_are_the_last_boots_and_the_last_few_items():
    long = script(*[msi(1)] * 100, make("reset", 0, how=0), *[msi(2)] * 40)
    assert [141 - len(cut) for cut in cuts.ends(long)] == [32, 41, 64, 128]
    assert all(cut == frozenset(range(len(cut))) for cut in cuts.ends(long))


def test_boots_are_cut_out_up_to_what_shows_the_signature_shortest_first():
    reset = make("reset", 0, how=0)
    story = Candidate(Header(), (*[msi(1)] * 5, reset, *[msi(2)] * 3, reset, *[msi(3)] * 9))
    found = cuts.boots_up_to(story, [4, 7, 8, 15])
    assert [each.events for each in found] == [
        (reset, msi(2), msi(2)), (msi(1),) * 5, (reset, *[msi(3)] * 6),
    ]  # fmt: skip
    assert cuts.boots_up_to(story, []) == []


def test_strangers_name_nothing_that_the_signature_hangs_together_with():
    strict, *looser = cuts.unconcerned(LIFE, [(speaks.EVENT, (8, 1))])
    assert strict == {7}
    assert all(cut <= strict for cut in looser)
    other, *_ = cuts.unconcerned(LIFE, [(speaks.EVENT, (9, 1))])
    assert other == {1, 2, 3, 5, 9}


def test_pairs_are_near_ones_first():
    found = list(cuts.pairs(script(msi(1), msi(2), msi(3))))
    assert found == [{0, 1}, {1, 2}, {0, 2}]


# -- rewrites


def test_devices_get_small_numbers_everywhere():
    made = renumber.renumbered(LIFE, speaks.DEVICE, {8: 0, 9: 1})
    assert events(made)[1] == cmd("MAPD", device_id=0, itt_addr=RAM, v=1)
    assert events(made)[7] == cmd("INV", device_id=1, event_id=1)
    assert events(made)[9] == msi(0, 1)
    assert first(rewrites.renumbered(LIFE), LIFE) == made


def test_events_are_numbered_by_device():
    life = script(cmd("MAPTI", device_id=8, event_id=3, pintid=8192), msi(8, 3), msi(9, 3))
    made = first(renumber.smallest(life, speaks.EVENT), life)
    assert events(made)[1:] == [msi(8, 0), msi(9, 0)]


def test_an_lpi_takes_its_configuration_along():
    life = script(
        make("gicr.write", 0, cpu=0, offset=0x70, value=RAM | 0xF, size=4),
        stored(RAM + 3, b"\xa1"),
        stored(RAM + 0x20000, b"\xa1"),
        cmd("MAPTI", pintid=8195),
    )
    made = first(renumber.smallest(life, speaks.LPI), life)
    assert events(made)[1:] == [
        stored(RAM, b"\xa1"), stored(RAM + 0x20000, b"\xa1"), cmd("MAPTI", pintid=8192),
    ]  # fmt: skip


def test_collections_and_cpus_get_small_numbers():
    made = first(renumber.smallest(LIFE, speaks.COLLECTION), LIFE)
    assert events(made)[2:4] == [
        cmd("MAPC", icid=0, rdbase=2, v=1),
        cmd("MAPTI", device_id=8, event_id=1, pintid=8195, icid=0),
    ]
    made = first(renumber.smallest(LIFE, speaks.CPU), LIFE)
    assert events(made)[5] == make("gicr.write", 0, cpu=0, offset=0, value=1, size=4)
    assert events(made)[2] == cmd("MAPC", icid=3, rdbase=0, v=1)


def test_one_device_does_for_two():
    life = script(cmd("MAPD", device_id=1, v=1), cmd("MAPD", device_id=2, v=1), msi(2))
    made = first(renumber.united(life, speaks.DEVICE), life)
    assert events(made) == [cmd("MAPD", device_id=1, v=1)] * 2 + [msi(1)]


def test_a_table_of_two_levels_becomes_flat_for_small_devices():
    two = Baser.indirect.mask
    life = script(
        stored(RAM + 8, (VALID | RAM + 0x30_0000).to_bytes(8, "little")),
        wrote(0x100, VALID | two | RAM),
        cmd("MAPD", device_id=0x2009, itt_addr=RAM + 0x8_0000, v=1),
        msi(0x2009),
    )
    assert events(first(rewrites.flat(life), life)) == [
        wrote(0x100, VALID | RAM), cmd("MAPD", itt_addr=RAM + 0x8_0000, v=1), msi(0),
    ]  # fmt: skip


def test_a_table_is_moved_with_what_names_it_and_what_is_in_it():
    life = script(
        wrote(0x100, VALID | 0x4321_0000),
        stored(0x4321_0008, b"\1"),
        stored(0x4400_0000, (VALID | 0x4321_0000).to_bytes(8, "little")),
        make("mem.read", 0, cause=0, gpa=0x4321_0000, data=bytes(8)),
        wrote(0x80, VALID | 0x4500_0000),
        ram_ranges=[[RAM, 128 << 20]],
    )
    made = addresses.moved(life, Stretch(0x4321_0000, 0x4321_1000), 0x4001_0000)
    assert events(made) == [
        wrote(0x100, VALID | 0x4001_0000),
        stored(0x4001_0008, b"\1"),
        stored(0x4400_0000, (VALID | 0x4001_0000).to_bytes(8, "little")),
        make("mem.read", 0, cause=0, gpa=0x4001_0000, data=bytes(8)),
        wrote(0x80, VALID | 0x4500_0000),
    ]
    assert first(rewrites.relocated(life), life) == made


def test_an_itt_is_moved_with_its_command_and_the_entry_of_its_device():
    entry = VALID | 0x4321_0000 >> 8 << 5
    life = script(
        cmd("MAPD", device_id=1, itt_addr=0x4321_0000, v=1),
        stored(RAM, entry.to_bytes(8, "little")),
        ram_ranges=[[RAM, 128 << 20]],
    )
    made = first(rewrites.relocated(life), life)
    moved = VALID | 0x4001_0000 >> 8 << 5
    assert events(made) == [
        cmd("MAPD", device_id=1, itt_addr=0x4001_0000, v=1),
        stored(RAM, moved.to_bytes(8, "little")),
    ]


def test_tables_are_never_moved_onto_each_other_nor_out_of_their_ram():
    life = script(
        wrote(0x100, VALID | 0x4001_0000),
        wrote(0x108, VALID | 0x4321_0000),
        ram_ranges=[[0, 64 << 20], [RAM, 64 << 20]],
    )
    assert list(addresses.places(life, Stretch(0x4321_0000, 0x4321_1000))) == [0x4002_0000]


def test_fields_go_one_by_one_and_so_do_bits_without_a_name():
    life = script(wrote(0x100, VALID | 1 << 62 | RAM | 3 << 10 | 2 << 8 | 5))
    made = [edit(life).items[0].event[3] for edit in rewrites.zeroed(life)]
    assert VALID | RAM | 3 << 10 | 2 << 8 | 5 in made  # flat
    assert VALID | 1 << 62 | RAM | 3 << 10 | 2 << 8 in made  # one page
    assert all(value & RAM for value in made)


def test_a_command_is_silenced_where_it_stands():
    life = script(cmd("INV", device_id=1), kick(8, 1))
    made = first(rewrites.silenced(life), life)
    assert events(made) == [command(0, 0, 0, 0), kick(8, 1)]
    assert list(rewrites.silenced(made)) == []


def test_a_field_of_a_half_is_a_field():
    number = opened(wrote(0x84, VALID >> 32 | 0x700, size=4))
    assert number is not None
    (valid,) = (field for field in number.fields if field.attr == "valid")
    assert number.get(valid) == 1
    assert closed(wrote(0x84, 1, size=4), 7) == wrote(0x84, 7, size=4)


def test_ram_is_written_by_fewer_bytes():
    life = script(stored(RAM, bytes(range(8))))
    half = first(rewrites.trimmed(life), life)
    assert events(half) == [stored(RAM, bytes(range(4)))]
    last = [edit(life) for edit in rewrites.trimmed(life)][1]
    assert events(last) == [stored(RAM + 4, bytes(range(4, 8)))]


def test_two_writes_that_touch_are_one():
    life = script(stored(RAM, b"\1"), stored(RAM + 1, b"\2"), stored(RAM + 9, b"\3"))
    made = first(rewrites.merged(life), life)
    assert events(made) == [stored(RAM, b"\1\2"), stored(RAM + 9, b"\3")]


def test_two_halves_of_a_guest_are_one_write_those_of_a_vmm_stay():
    life = script(wrote(0x80, 5, size=4), wrote(0x84, 6, size=4))
    assert events(first(rewrites.whole(life), life)) == [wrote(0x80, 6 << 32 | 5)]
    vmm = script(wrote(0x80, 5, size=4, origin=1), wrote(0x84, 6, size=4, origin=1))
    assert [edit(vmm) for edit in rewrites.whole(vmm)] == [None]


def test_a_vm_loses_cpus_and_ram():
    life = script(cpus=4, mpidrs=[0, 1, 2, 3], ram_ranges=[[0, 1 << 27], [RAM, 1 << 27]])
    made = [found for edit in rewrites.machine(life) if (found := edit(life))]
    assert {each.header.cpus for each in made} == {1, 2, 4}
    assert [[0, 1 << 27]] in [each.header.ram_ranges for each in made]
    assert [[0, 1 << 27], [RAM, 1 << 21]] in [each.header.ram_ranges for each in made]
    assert life.header.cpus == 4


def test_an_edit_whose_item_is_gone_does_nothing():
    life = script(stored(RAM, bytes(8)), wrote(0x100, VALID | 5), stored(RAM + 8, bytes(8)))
    edits = [edit for _, each in rewrites.REWRITES for edit in each(life)]
    assert edits
    assert all(edit(script()) is None for edit in edits)


@pytest.mark.parametrize(("path", "variant"), CASES[::7], ids=[name_of(*e) for e in CASES[::7]])
def test_a_rewrite_keeps_the_bug_or_the_oracle_refuses_it(path, variant):
    """What the oracle takes is judged from outside, under the bug and under its cure."""
    found = open_case(read(path), *told_by(path, variant))
    case, life = found.case, lift(found.candidate, outputs=True)
    taken = dict.fromkeys((name for name, _ in rewrites.REWRITES), 0)
    for name, edits in rewrites.REWRITES:
        for edit in list(edits(life))[:12]:
            made = edit(life)
            if made is None or not found.oracle.shows([lower(made)])[0]:
                continue
            taken[name] += 1
            answered = Frames(found.oracle.answered(lower(made)))
            assert case.signature in judge(answered, case.profile, strict=case.strict).signatures
            if case.cure is not None and case.way == INPUTS:
                assert case.signature not in judge(answered, case.cure).signatures
    assert any(taken.values()) or len(life.items) < 3


def test_a_pass_that_changes_the_signature_is_refused():
    """A rewrite that unmaps the device instead is a smaller script, and another story."""
    path, variant = next(each for each in CASES if each[0].name.startswith("S03"))
    found = open_case(read(path), *told_by(path, variant))
    life = lift(found.candidate, outputs=True)
    at = next(at for at, item in enumerate(life.items) if item.event[0] == -1)
    changed = Script(life.header, (*life.items[:at], Item(command(8)), *life.items[at + 1 :]))
    assert found.oracle.shows([lower(life), lower(changed)]) == [True, False]


def test_an_empty_candidate_shows_nothing():
    for path, variant in CASES[::9]:
        found = open_case(read(path), *told_by(path, variant))
        if found.candidate.events and not path.name.startswith("change-"):
            assert found.oracle.shows([Candidate(found.candidate.header, ())]) == [False]
