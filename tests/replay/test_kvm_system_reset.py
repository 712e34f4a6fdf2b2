"""A system reset as a VMM makes it on KVM: CTRL_RESET and redistributors, judged as one.

The order, the values and the errnos of QEMU's are those that a recording of QEMU 7.2.22 on Linux
6.1.192 shows; what KVM then gives to get_attr is in reference order of that recording, too.
"""

from __future__ import annotations

import io

import pytest

from replay.judge import judge
from replay.profiles import find
from replay.verify import Verifier
from tracer.log.text import TextReader

PROFILE = find("linux-6.1.192")[0]
CPUS = 2
HEADER = f"""\
# itstrace: 1
# source: "test"
# profile: "linux-6.1.192"
# cpus: {CPUS}
# guest_ram: "observed"
"""
OK = "attr.result cause=1 errno=0"
PROP, PEND, CTLR = 0x70, 0x78, 0x0
TABLE, PENDING = 0x425C078F, 0x425D0780


def guest() -> list[str]:
    """A guest sets its LPI tables up."""
    return [
        f"gicr.write cpu={cpu} offset={offset:#x} value={value:#x}{size}"
        for cpu in range(CPUS)
        for offset, value, size in (
            (PROP, TABLE, ""), (PEND, PENDING + cpu * 0x10000, ""), (CTLR, 1, " size=4"),
        )
    ]  # fmt: skip


def put(*offsets: int, value: int = 0) -> list[str]:
    """The VMM sets registers of every redistributor, 32 bits at a time."""
    return [
        each
        for offset in offsets
        for cpu in range(CPUS)
        for half in ((0, 4) if offset else (0,))
        for each in (f"gicr.write cpu={cpu} offset={offset + half:#x} value={value:#x} size=4 origin=vmm", OK)
    ]  # fmt: skip


def get(values: dict[int, int]) -> list[str]:
    return [
        each
        for cpu in range(CPUS)
        for offset, value in values.items()
        for half in ((0, 4) if offset else (0,))
        for each in (
            f"gicr.read cpu={cpu} offset={offset + half:#x} value={value >> 8 * half & 0xFFFFFFFF:#x} size=4 origin=vmm",
            OK,
        )
    ]  # fmt: skip


RESET = ["reset how=ctrl_reset origin=vmm", OK]
QEMU_PUT = put(PROP, PEND, CTLR)
FIXED_PUT = put(CTLR, PROP, PEND)
# What is written is sanitised: inner cacheability nCnB becomes RaWb (vgic_sanitise_lpi_baser).
FRESH = {PROP: 3 << 7, PEND: 3 << 7, CTLR: 0x6}


def verifier(*parts: list[str], divergent: int = 0, **header: str) -> Verifier:
    text = HEADER + "".join(f'# {key}: "{value}"\n' for key, value in header.items())
    lines = [each for part in parts for each in part]
    found = judge(
        TextReader(io.StringIO(text + "".join(f". +0 {each}\n" for each in lines))), PROFILE
    )
    assert found.engine.tally.divergent == divergent
    return found.verifier


def words(*parts: list[str], divergent: int = 0, **header: str) -> dict[str, str]:
    return verifier(*parts, divergent=divergent, **header).resets[-1].statuses()


def old(cpu: int) -> dict[int, int]:
    return {PROP: TABLE, PEND: PENDING + cpu * 0x10000, CTLR: 6}


def get_old() -> list[str]:
    per_cpu = [get(old(cpu))[cpu * 10 : cpu * 10 + 10] for cpu in range(CPUS)]
    return [each for part in per_cpu for each in part]


def test_what_kvm_ignored_while_lpis_were_on_is_stale_and_the_old_guest_is_to_blame() -> None:
    found = verifier(guest(), RESET, QEMU_PUT, get_old())
    reset = found.resets[-1]
    stale = {name for name, word in reset.statuses().items() if word == "stale"}
    assert stale == {f"GICR_{each}BASER[{cpu}]" for each in ("PROP", "PEND") for cpu in range(CPUS)}
    assert (reset.how, reset.unit) == ("ctrl_reset", "lpi")
    assert reset.statuses()["GICR_CTLR[0]"] == "verified"
    blamed = {each.name: each.blame for each in reset.components if each.name in stale}
    # The guest's own writes: PROPBASER and PENDBASER of CPU 0 first, CTLR, then CPU 1's.
    assert blamed == {"GICR_PROPBASER[0]": 0, "GICR_PENDBASER[0]": 1, "GICR_PROPBASER[1]": 3,
                      "GICR_PENDBASER[1]": 4}  # fmt: skip


def test_behind_a_gap_in_its_middle_nothing_is_evidence() -> None:
    """A recording of 5.10.223 has one there: what a VMM reads is not shown."""
    found = words(guest(), RESET, ['source.gap reason="not shown"'], QEMU_PUT, get_old())
    assert "stale" not in found.values()
    assert not any(name.startswith("GICR_") for name in found)


def test_without_a_read_it_is_only_suspected() -> None:
    found = words(guest(), RESET, QEMU_PUT)
    assert {name for name, word in found.items() if word == "suspected"} == {
        f"GICR_{each}BASER[{cpu}]" for each in ("PROP", "PEND") for cpu in range(CPUS)
    }


def test_a_vmm_that_turns_lpis_off_first_is_clean() -> None:
    found = words(guest(), RESET, FIXED_PUT, get(FRESH))
    assert not {"stale", "suspected"} & set(found.values())
    # What 0 becomes is not what a fresh device has, but in no bit that a clause speaks of.
    assert found["GICR_PROPBASER[0]"] == "unspecified"
    assert found["GICR_CTLR[1]"] == "verified"


def test_redistributors_that_come_before_the_ctrl_reset_are_of_the_same_reset() -> None:
    assert words(guest(), QEMU_PUT, RESET, get_old())["GICR_PROPBASER[1]"] == "stale"
    clean = words(guest(), FIXED_PUT, RESET, get(FRESH))
    assert not {"stale", "suspected"} & set(clean.values())
    assert clean["GICR_CTLR[0]"] == "verified"


def test_a_ctrl_reset_alone_is_the_its_alone() -> None:
    on = [each.replace("value=0x6", "value=0x7") for each in get_old()]
    found = verifier(guest(), RESET, on).resets[-1]
    assert found.unit == "its"
    assert not any(each.name.startswith("GICR_") for each in found.components)


@pytest.mark.parametrize(
    "alive",
    ["reg.read offset=0x0 value=0x80000000 size=4", "gicd.write offset=0x0 value=0x2",
     "gicr.write cpu=0 offset=0x0 value=0x1 size=4"],
)  # fmt: skip
def test_what_a_vmm_writes_once_a_vcpu_ran_is_no_part_of_the_reset(alive: str) -> None:
    found = verifier(guest(), RESET, [alive], QEMU_PUT, get_old()).resets[-1]
    assert found.unit == "its"
    assert "stale" not in found.statuses().values()


def test_a_vmm_that_restores_a_vm_into_a_new_one_raises_no_alarm() -> None:
    """Reset at creation, then the values of the VM that comes in."""
    values = [each for offset, value in old(0).items() for each in put(offset, value=value)]
    values += put(CTLR, value=1)
    found = verifier(RESET, QEMU_PUT, values, RESET[:0], get({CTLR: 7})).resets[-1]
    assert not {"stale", "suspected"} & set(found.statuses().values())


def test_an_orphan_that_was_listed_before_the_last_of_the_writes_is_not_left() -> None:
    listing = ["probe edge=begin lists=1",
               "lpi.live cause=0 intid=8192 target=0 flags=0x49 priority=160 queued=0",
               "probe edge=end lists=1"]  # fmt: skip
    empty = [listing[0], listing[2]]
    assert words(guest(), RESET, listing, QEMU_PUT, empty, starts="running")["lpis"] == "verified"
    # No kernel as the model of this one keeps an LPI when all redistributors are off.
    late = words(guest(), RESET, QEMU_PUT, listing, starts="running", divergent=1)
    assert late["lpis"] == "stale"
    assert words(guest(), RESET, listing, starts="running")["lpis"] == "stale"


def test_bits_of_the_basers_that_no_clause_names_are_unspecified() -> None:
    """F5, as every measured kernel answers."""
    tables = ["reg.write offset=0x100 value=0x9907000042590200",
              "reg.write offset=0x108 value=0x9c070000425a0200"]  # fmt: skip
    reads = ["reg.read offset=0x100 value=0x1907000042590200 origin=vmm", OK,
             "reg.read offset=0x108 value=0x1c070000425a0200 origin=vmm", OK]  # fmt: skip
    found = words(tables, guest(), RESET, FIXED_PUT, reads)
    assert (found["GITS_BASER0"], found["GITS_BASER1"]) == ("unspecified", "unspecified")


def test_a_propbaser_that_one_cpu_wrote_is_blamed_on_it_for_all() -> None:
    one = [each for each in guest() if not each.startswith("gicr.write cpu=1 offset=0x70")]
    reset = verifier(one, RESET, QEMU_PUT, get_old()).resets[-1]
    blame = {each.name: each.blame for each in reset.components if "PROPBASER" in each.name}
    assert blame == {"GICR_PROPBASER[0]": 0, "GICR_PROPBASER[1]": 0}


def test_a_vmm_that_maps_again_is_past_its_reset() -> None:
    """Lives of `generate` act as the VMM throughout: their next boot is no part of the reset."""
    boot = [
        "reg.write offset=0x100 value=0x8000000040100000 origin=vmm", OK,
        "reg.write offset=0x108 value=0x8000000040200000 origin=vmm", OK,
        "reg.write offset=0x80 value=0x8000000040300000 origin=vmm", OK,
        "reg.write offset=0x0 value=0x1 origin=vmm", OK,
        "mem.write gpa=0x40300000 data=MAPD(device_id=0x8,size=0x3,itt_addr=0x40600000,v=0x1)",
        "reg.write offset=0x88 value=0x20 origin=vmm",
        "command cause=1 queue_offset=0x0 dw0=0x800000008 dw1=0x3 dw2=0x8000000040600000 dw3=0x0",
        "attr.result cause=2 errno=0",
    ]  # fmt: skip
    reset = verifier(guest(), RESET, boot, FIXED_PUT).resets[-1]
    assert reset.unit == "its"
    assert reset.statuses()["devices"] != "suspected"
