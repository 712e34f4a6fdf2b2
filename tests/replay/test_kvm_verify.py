"""KVM's reset, the VMM's fallback and round trips: each verdict, and each seen failing."""

from __future__ import annotations

import io

import pytest

from replay.judge import judge, with_flags
from replay.profiles import find
from tracer.log.text import TextReader

V6_1 = find("linux-6.1.192")[0]

HEADER = """\
# itstrace: 1
# source: "test"
# profile: "linux-6.1.192"
# cpus: 4
# guest_ram: "complete"
# ram_ranges: [[1073741824, 33554432]]
"""
RUNNING = """\
. +0 gicd.write offset=0x0 value=0x2 origin=vmm
. +0 mem.write gpa=0x40400000 data=u64(0xa1a1a1a1a1a1a1a1)
. +0 gicr.write cpu=0 offset=0x70 value=0x4040000f origin=vmm
. +0 gicr.write cpu=0 offset=0x78 value=0x40500000 origin=vmm
. +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4 origin=vmm
. +0 gicr.write cpu=1 offset=0x78 value=0x40520000 origin=vmm
. +0 gicr.write cpu=1 offset=0x0 value=0x1 size=4 origin=vmm
"""
TABLES = """\
. +0 reg.write offset=0x80 value=0x8000000040300000 origin=vmm
. +0 reg.write offset=0x100 value=0x8000000040100200 origin=vmm
. +0 reg.write offset=0x108 value=0x8000000040200200 origin=vmm
"""
ENABLE = ". +0 reg.write offset=0x0 value=0x1 origin=vmm\n"


class Queue:
    """Commands one behind the other, each run at once."""

    def __init__(self, at=0):
        self.at = at

    def run(self, *commands):
        lines = []
        for command in commands:
            lines.append(f". +0 mem.write gpa={0x40300000 + self.at:#x} data={command}")
            self.at += 32
            lines.append(f". +0 reg.write offset=0x88 value={self.at:#x} origin=vmm")
        return "\n".join(lines) + "\n"


MAP = (
    "MAPC(icid=0x0,rdbase=0x0,v=0x1)",
    "MAPD(device_id=0x1,size=0x3,itt_addr=0x40600000,v=0x1)",
    "MAPTI(device_id=0x1,event_id=0x0,pintid=0x2000,icid=0x0)",
)
MAP_TO_1 = ("MAPC(icid=0x0,rdbase=0x1,v=0x1)", *MAP[1:])
MSI = ". +0 msi device_id=0x1 event_id=0x0 path=ioctl\n"
RESET = ". +0 reset how=ctrl_reset origin=vmm\n"


def listing(*rows):
    lines = [". +0 probe edge=begin"]
    for intid, target, flags, queued, *priority in rows:
        lines.append(
            f". +0 lpi.live cause=0 intid={intid} target={target} flags={flags:#x} "
            f"priority={priority[0] if priority else 160} queued={queued}"
        )
    return "\n".join([*lines, ". +0 probe edge=end"]) + "\n"


def result(value):
    return f". +0 msi.result cause=1 result={value}\n"


def life(*parts):
    return HEADER + RUNNING + TABLES + ENABLE + "".join(parts)


def verdict(text, profile=V6_1, strict=False, **flags):
    return judge(TextReader(io.StringIO(text)), with_flags(profile, flags), strict=strict)


def event_at(text, seq):
    return [line for line in text.splitlines() if not line.startswith("#")][seq]


def statuses(found, reset=-1):
    return found.verifier.resets[reset].statuses()


# -- CTRL_RESET


def reads(**values):
    offsets = {"CTLR": 0, "CBASER": 0x80, "CWRITER": 0x88, "CREADR": 0x90, "BASER0": 0x100,
               "BASER1": 0x108, "IIDR": 4}  # fmt: skip
    return "".join(
        f". +0 reg.read offset={offsets[name]:#x} value={value:#x} origin=vmm\n"
        for name, value in values.items()
    )


AFTER_RESET = {
    "CTLR": 0x80000000, "CBASER": 0, "CWRITER": 0, "CREADR": 0,
    "BASER0": 0x1907000040100200, "BASER1": 0x1C07000040200200, "IIDR": 0x4B00043B,
}  # fmt: skip


def test_a_correct_reset_that_was_probed_is_clean_but_for_bits_nobody_specified():
    """F5: the values are what every measured kernel answers after CTRL_RESET."""
    found = verdict(life(Queue().run(*MAP), RESET, reads(**AFTER_RESET), listing()))
    words = statuses(found)
    assert found.word == "equal"
    assert found.signatures == []
    assert {name for name, word in words.items() if word == "unspecified"} == {
        "GITS_BASER0",
        "GITS_BASER1",
    }
    assert {name for name, word in words.items() if word == "verified"} == {
        "GITS_CTLR", "GITS_CBASER", "GITS_CWRITER", "GITS_CREADR", "GITS_IIDR", "lpis",
    }  # fmt: skip
    assert found.verifier.resets[0].observed == 8  # BASER0 and 1: their Valid bit was seen


def test_under_strict_bits_they_are_stale():
    text = life(Queue().run(*MAP), RESET, reads(**AFTER_RESET))
    found = verdict(text, strict=True)
    assert found.signatures == ["stale:ctrl_reset:GITS_BASER0", "stale:ctrl_reset:GITS_BASER1"]


def test_a_baser_that_keeps_valid_is_stale():
    kept = AFTER_RESET | {"BASER0": 0x9907000040100200}
    found = verdict(life(RESET, reads(**kept)))
    assert "stale:ctrl_reset:GITS_BASER0" in found.signatures


# -- F1: an LPI that outlives its reset

QUEUED = (8192, 0, 0b1001001, 0)  # pending, enabled, group 1; target 0, queued on 0


def test_an_lpi_that_is_queued_survives_and_is_suspected_when_nobody_looks():
    found = verdict(life(Queue().run(*MAP), MSI, result(1), RESET))
    assert found.word == "suspected"
    assert found.signatures == ["suspected:ctrl_reset:lpi"]


def test_a_listing_that_shows_it_makes_it_stale_and_blames_the_msi():
    text = life(Queue().run(*MAP), MSI, result(1), RESET, listing(QUEUED))
    found = verdict(text)
    assert found.word == "stale"
    assert found.signatures == ["stale:ctrl_reset:lpi"]
    component = next(e for e in found.verifier.resets[0].components if e.name == "lpis")
    assert event_at(text, component.blame) == MSI.strip()
    assert found.engine.tally.divergent == 0


def test_a_new_mapping_that_takes_it_over_is_stale_by_its_old_target():
    """The row that 5.10, 6.1, 6.12 and 7.2 show: pending at once, and on the old vCPU."""
    again = Queue().run(*MAP_TO_1, "CLEAR(device_id=0x1,event_id=0x0)") + MSI + result(1)
    again = TABLES + ENABLE + again + listing(QUEUED)  # CLEAR and MSI are later writers of it
    text = life(Queue().run(*MAP), MSI, result(1), RESET, again)
    found = verdict(text)
    assert "stale:ctrl_reset:lpi" in found.signatures
    assert found.engine.tally.divergent == 0
    component = next(e for e in found.verifier.resets[0].components if e.name == "lpis")
    assert component.blame == text.partition(MSI)[0].count("\n") - HEADER.count("\n")


def test_a_probe_of_registers_only_says_nothing_of_lpis():
    """`lists=0`: that no row stands in it does not mean that no LPI lives."""
    probe = listing().replace("edge=end", "edge=end lists=0")
    found = verdict(life(Queue().run(*MAP), MSI, result(1), RESET, probe))
    assert found.signatures == ["suspected:ctrl_reset:lpi"]
    assert found.engine.tally.divergent == 0
    clean = verdict(life(Queue().run(*MAP), RESET, probe))
    assert statuses(clean)["lpis"] == "unproven"


def test_an_empty_listing_is_an_answer():
    assert verdict(life(listing())).engine.tally.matched == 1
    assert verdict(life(Queue().run(*MAP), listing())).engine.tally.divergent == 1


def test_disabling_lpis_before_the_reset_cures_it():
    off = ". +0 gicr.write cpu=0 offset=0x0 value=0x0 size=4 origin=vmm\n"
    found = verdict(life(Queue().run(*MAP), MSI, result(1), off, RESET, listing()))
    assert found.word == "equal"
    assert statuses(found)["lpis"] == "verified"


def test_an_msi_that_is_delivered_after_the_reset_shows_a_mapping_that_was_kept():
    """No kernel does this: the trace is of one that forgot its device list."""
    found = verdict(life(Queue().run(*MAP), MSI, result(1), RESET, MSI, result(1)))
    assert "stale:ctrl_reset:event" in found.signatures


def test_an_msi_that_is_refused_after_the_reset_is_as_it_should_be():
    found = verdict(life(Queue().run(*MAP), RESET, MSI, result(-16)))
    assert found.word == "unproven"
    assert found.engine.tally.divergent == 0


# -- the VMM's fallback

FALLBACK = ". +0 reset how=register_fallback origin=vmm\n"


def test_the_register_fallback_frees_everything_since_4_15():
    found = verdict(life(Queue().run(*MAP), FALLBACK))
    assert found.word == "unproven"
    assert found.signatures == []
    assert statuses(found)["GITS_CBASER"] == "unspecified"  # 0x1800000000000000


def test_the_register_fallback_keeps_the_lists_before_4_15():
    text = life(Queue().run(*MAP), FALLBACK)
    found = verdict(text, baser_invalid_frees_list=False, baser_change_frees_list=False)
    assert found.signatures == [
        "suspected:register_fallback:device",
        "suspected:register_fallback:event",
        "suspected:register_fallback:collection",
    ]


def test_the_register_fallback_does_not_speak_of_queued_lpis():
    found = verdict(life(Queue().run(*MAP), MSI, result(1), FALLBACK))
    assert statuses(found)["lpis"] == "kept"
    assert found.signatures == []


# -- the redistributors' LPI registers in a system reset


def system_reset(propbaser, pendbaser, ctlr=0):
    reads = ((0x70, propbaser, 8), (0x78, pendbaser, 8), (0x0, ctlr, 4))
    return ". +0 reset how=system origin=vmm\n" + "".join(
        f". +0 gicr.read cpu=0 offset={offset:#x} value={value:#x} size={size} origin=vmm\n"
        for offset, value, size in reads
    )


ZEROED = "".join(
    f". +0 gicr.write cpu={cpu} offset={offset:#x} value=0x0 size={size} origin=vmm\n"
    for cpu in (0, 1)
    for offset, size in ((0, 4), (0x70, 8), (0x78, 8))
)


def test_zeroes_that_kvm_sanitised_are_not_the_past():
    """Measured: 0 reads 0x180 and a fresh device 0x580 on all five images."""
    found = verdict(life(ZEROED + system_reset(0x180, 0x180)))
    assert [word for word in found.signatures if "GICR" in word] == []
    assert statuses(found)["GICR_PROPBASER[0]"] == "unspecified"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((0x40400180, 0x180), "GICR_PROPBASER"),
        ((0x18F, 0x180), "GICR_PROPBASER"),
        ((0x180, 0x40500180), "GICR_PENDBASER"),
        ((0x180, 0x180, 1), "GICR_CTLR"),
    ],
)
def test_an_old_table_its_size_and_enable_lpis_are_stale(values, name):
    found = verdict(life(ZEROED + system_reset(*values)))
    assert f"stale:system:{name}" in found.signatures


# -- errnos


def test_an_errno_is_expected_of_a_vmm_and_of_no_guest():
    guest = ". +0 reg.write offset=0x80 value=0x0 origin=guest\n"
    answered = ENABLE + ". +0 attr.result cause=1 errno=0\n"
    assert verdict(life(answered + guest)).engine.tally.divergent == 0
    missing = life(answered + ENABLE)
    assert verdict(missing).engine.tally.divergent == 1


# -- round trips

SAVE, RESTORE = ". +0 save\n", ". +0 restore\n"
BACK = TABLES + RESTORE + ENABLE


def test_what_was_saved_comes_back():
    found = verdict(life(Queue().run(*MAP), SAVE, RESET, BACK, MSI, result(1)))
    (trip,) = found.verifier.round_trips
    assert trip.word == "equal"
    assert (trip.came_back, trip.lost, trip.errno) == ({}, {}, 0)


UNMAP = "MAPD(device_id=0x1)"


def unmapped():
    queue = Queue()
    return queue.run(*MAP) + SAVE + queue.run(UNMAP) + SAVE + RESET + BACK


def test_a_device_that_was_unmapped_must_not_come_back():
    """K17."""
    text = life(unmapped())
    assert verdict(text).signatures == []
    found = verdict(text, mapd_unmap_clears_dte=False)
    (trip,) = found.verifier.round_trips
    assert found.word == "suspected"
    assert trip.came_back == {"devices": [1], "events": [(1, 0)]}
    assert trip.witness is None
    assert "offset=0x88 value=0x40" in event_at(text, trip.blame)  # MAPD


def test_an_msi_through_it_makes_it_stale():
    text = life(unmapped(), MSI, result(1))
    found = verdict(text, mapd_unmap_clears_dte=False)
    assert found.word == "stale"
    assert found.signatures[:2] == ["stale:restore:device", "stale:restore:event"]
    assert found.verifier.round_trips[0].witness is not None
    blocked = verdict(life(unmapped(), MSI, result(0)))
    assert blocked.signatures == []


def test_what_is_lost_on_the_way_is_told():
    """The guest's tables were wiped between save and restore."""
    wipe = ". +0 mem.write gpa=0x40100008 data=u64(0x0)\n"
    found = verdict(life(Queue().run(*MAP), SAVE, RESET, wipe, BACK, MSI, result(0)))
    (trip,) = found.verifier.round_trips
    assert trip.lost == {"devices": [1], "events": [(1, 0)]}
    assert trip.word == "stale"
    assert "stale:restore:device" in found.signatures


def test_a_restore_that_fails_is_no_round_trip():
    """K20: an event of a collection that was never mapped."""
    only = Queue().run(MAP[1], MAP[2])
    found = verdict(life(only, SAVE, RESET, BACK), restore_accepts_unmapped_collections=False)
    (trip,) = found.verifier.round_trips
    assert trip.errno == -22
    assert found.word == "suspected"
    assert verdict(life(only, SAVE, RESET, BACK)).signatures == []


# -- a host that dies


def test_a_host_that_dies_is_a_finding_and_nothing_follows():
    """K23 on 5.10.223 and 6.12.107: MAPC V=0, then SAVE_TABLES."""
    text = life(
        Queue().run(*MAP, "MAPC()"), SAVE, ". +0 reg.read offset=0x0 value=0x5 origin=vmm\n"
    )
    found = verdict(text, find("linux-6.12.107")[0])
    assert found.word == "crash"
    assert found.signatures == ["crash:vgic_its_save_tables_v0"]
    assert found.engine.tally.outputs == 0
    assert verdict(text).word == "divergent"  # 6.1.192 lives; the made-up read is wrong there


@pytest.mark.parametrize(
    "name", ["linux-5.10.223", "linux-6.1.192", "linux-6.12.107", "linux-7.2.13"]
)
def test_f1_and_f5_on_every_measured_kernel(name):
    profile = find(name)[0]
    found = verdict(life(Queue().run(*MAP), MSI, result(1), RESET, listing(QUEUED)), profile)
    assert "stale:ctrl_reset:lpi" in found.signatures
    assert statuses(found)["GITS_BASER0"] == "unspecified"


@pytest.mark.parametrize("before", [(), (MSI, result(1))], ids=["no LPI lives", "an LPI lives"])
def test_an_event_that_ctrl_reset_frees_and_that_is_delivered_all_the_same_is_stale(before):
    """The model frees it, so the output alone says that the kernel did not."""
    text = life(Queue().run(*MAP), *before, RESET, TABLES, ENABLE, MSI, result(1))
    found = judge(TextReader(io.StringIO(text), "life"), V6_1)
    (verdict,) = found.verifier.resets
    events = next(each for each in verdict.components if each.name == "events")
    assert (events.status(strict=False), events.blame) == ("stale", 16)
    blocked = text.removesuffix(result(1)) + result(0)
    (verdict,) = judge(TextReader(io.StringIO(blocked), "life"), V6_1).verifier.resets
    assert "stale" not in verdict.statuses().values()


@pytest.mark.parametrize("perturbing", [0, 1])
@pytest.mark.parametrize("rows", [(), ((8192, 0, 0b1001011, 0),)], ids=["empty", "a survivor"])
def test_a_listing_that_stopped_the_vm_perturbs_the_reset_that_it_shows(perturbing, rows):
    look = listing(*rows).replace("edge=begin", f"edge=begin perturbing={perturbing}")
    text = life(Queue().run(*MAP), *((MSI, result(1)) if rows else ()), RESET, look, RESET)
    found = judge(TextReader(io.StringIO(text), "life"), V6_1)
    assert [each.perturbed for each in found.verifier.resets] == [bool(perturbing), False]
