"""Device state of QEMU's: what is read out of it, and what is refused."""

from __future__ import annotations

import os
import random
import struct

import pytest

from tracer.errors import SourceError
from tracer.sources import qemu_vmstate
from tracer.sources.qemu_vmstate import StateFile, registers

ITS = (0x8000_0001, 0x43B, 0x8000_0000_4200_0000, 0x40, 0x20, *range(0x100, 0x108))
CPUS = [(3, 0x4400_000D, 0x4500_0000), (2, 0, 0)]


def subsection(name, data):
    return b"\x05" + bytes((len(name),)) + name + struct.pack(">I", 1) + data


def section(number, name, version, data):
    head = b"\x04" + struct.pack(">I", number) + bytes((len(name),)) + name
    return head + struct.pack(">II", 0, version) + data + b"\x7e" + struct.pack(">I", number)


def cpu(ctlr, propbaser, pendbaser, *subsections):
    first = struct.pack(">5I2Q", 7, ctlr, 0, 0, 6, propbaser, pendbaser)
    rest = bytes(7 * 4 + 32 + 22 * 8)  # SGIs and PPIs, priorities, the CPU interface
    return first + rest + b"".join(subsections)


def gic(cpus=CPUS):
    gicd = bytes(4 + 8 + 7 * 32 * 4 + 1020 + 1020 * 8 + 64 * 4)
    sre = subsection(b"arm_gicv3_cpu/sre_el1", bytes(8))
    virt = subsection(b"arm_gicv3_cpu/virt", bytes(240))
    shift = subsection(b"arm_gicv3/gicd_no_migration_shift_bug", b"\1")
    return gicd + b"".join(cpu(*each, virt, sre) for each in cpus) + shift


def its():
    return struct.pack(">II11Q", *ITS)


def state(*, its_section=None, gic_section=None, before=b""):
    its_section = section(0x0D, b"arm_gicv3_its", 0, its()) if its_section is None else its_section
    gic_section = section(0x0C, b"arm_gicv3", 1, gic()) if gic_section is None else gic_section
    return b"QEVM\0\0\0\3" + before + gic_section + its_section + section(1, b"timer", 2, bytes(24))


def test_registers_are_read():
    found = {(each.name, each.cpu): each.value for each in registers(state(), 2)}
    assert len(found) == 13 + 2 * 3
    assert found["GITS_CTLR", None] == 0x8000_0001
    assert found["GITS_CBASER", None] == 0x8000_0000_4200_0000
    assert found["GITS_CWRITER", None] == 0x40
    assert found["GITS_CREADR", None] == 0x20
    assert [found[f"GITS_BASER{n}", None] for n in range(8)] == list(range(0x100, 0x108))
    for number, values in enumerate(CPUS):
        names = ("GICR_CTLR", "GICR_PROPBASER", "GICR_PENDBASER")
        assert tuple(found[name, number] for name in names) == values


@pytest.mark.parametrize("cpus", [1, 3])
def test_another_number_of_cpus_is_refused(cpus):
    with pytest.raises(SourceError, match="0 sections arm_gicv3 as"):
        registers(state(), cpus)


def test_what_a_guest_made_look_like_a_section_is_none():
    forged = section(0x0D, b"arm_gicv3_its", 0, its())[:-1] + b"\0"
    assert registers(state(before=forged), 2) == registers(state(), 2)


def test_of_two_sections_neither_is_believed():
    forged = section(0x33, b"arm_gicv3_its", 0, its())
    with pytest.raises(SourceError, match="2 sections arm_gicv3_its"):
        registers(state(before=forged), 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"its_section": b""},
        {"gic_section": b""},
        {"its_section": section(0x0D, b"arm_gicv3_its", 1, its())},
        {"its_section": section(0x0D, b"arm_gicv3_its", 0, its() + b"\0")},
        {"gic_section": section(0x0C, b"arm_gicv3", 1, gic() + subsection(b"arm_gicv3/x", b"\0"))},
    ],
)
def test_other_layouts_are_refused(changed):
    with pytest.raises(SourceError, match="0 sections"):
        registers(state(**changed), 2)


def test_a_large_state_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(qemu_vmstate, "MAX_STATE_BYTES", 100)
    path = tmp_path / "state"
    path.write_bytes(bytes(101))
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(SourceError, match="over 100 bytes"):
            StateFile(fd, str(path)).read()
    finally:
        os.close(fd)


def test_mutated_states_give_registers_or_an_error():
    rng = random.Random(4)
    whole = state()
    outcomes = set()
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            if rng.random() < 0.3:
                at = whole.index(rng.choice([b"arm_gicv3", b"\x05\x15", b"\x7e"]))
            cut = rng.choice([b"", bytes((rng.randrange(256),)), bytes(data[at : at + 40]) * 2])
            data[at : at + rng.randrange(3)] = cut
        try:
            outcomes.add(len(registers(bytes(data), 2)))
        except SourceError:
            outcomes.add(0)
    assert outcomes == {0, 19}
