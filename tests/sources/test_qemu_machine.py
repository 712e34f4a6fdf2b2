"""What is made of a monitor's answers about a machine, and of odd ones."""

from __future__ import annotations

import os
from threading import get_native_id

import pytest

from tracer.sources import qemu_machine
from tracer.sources.qemu_machine import Machine, learn, place, process_of
from tracer.sources.qmp import Ask, Greeting

# `info mtree -f` of QEMU 7.2.22: -M virt,gic-version=3,its=on -smp 2 -m 128, cut
TREE = """FlatView #0
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-0000000003ffffff (prio 0, romd): virt.flash0
  0000000008000000-000000000800ffff (prio 0, i/o): gicv3_dist
  0000000008080000-000000000808ffff (prio 0, i/o): control
  0000000008090000-000000000809ffff (prio 0, i/o): translation
  00000000080a0000-00000000080dffff (prio 0, i/o): gicv3_redist_region[0]
  0000000040000000-0000000047ffffff (prio 0, ram): mach-virt.ram

FlatView #1
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-000000000000ffff (prio 0, ram): not the memory
""".replace("\n", "\r\n")
VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"}
PROPERTIES = {"type": "virt-7.2-machine", "gic-version": "3", "virtualization": False, "its": True}


def answer(step):
    """Answer as QEMU does."""
    if isinstance(step, Greeting):
        return {"QMP": {"version": VERSION}}
    match step.execute:
        case "query-kvm":
            return {"enabled": False, "present": True}
        case "qom-get" if step.arguments["path"] == "/machine":
            return PROPERTIES[step.arguments["property"]]
        case "qom-get":
            return int(step.arguments["path"])
        case "query-cpus-fast":
            return [{"qom-path": str(cpu), "thread-id": get_native_id()} for cpu in (0, 0x100)]
        case "human-monitor-command":
            return TREE
    return {}


def hold(talk, answer):
    """Hold a conversation; return its steps."""
    steps = []
    given = None
    try:
        while True:
            steps.append(talk.send(given))
            given = answer(steps[-1])
    except StopIteration:
        return steps


def test_a_machine_is_learned():
    machine = Machine()
    steps = hold(learn(machine), answer)
    assert steps[:2] == [Greeting(), Ask("qmp_capabilities")]
    assert machine.learned
    assert machine.version == (7, 2, 22)
    assert machine.kvm is False
    assert machine.cpus == 2
    assert machine.mpidrs == [0, 0x100]
    assert machine.pid == os.getpid()
    assert machine.its_base == 0x808_0000
    assert machine.gicr_regions == [(0x80A_0000, 0x4_0000)]
    assert machine.ram == [(0x4000_0000, 128 << 20)]
    assert not machine.is_gicv4
    assert not machine.has_no_its


@pytest.mark.parametrize(
    "odd", [None, {}, [], "", "\n\n", 7, [{}], [7], {"QMP": 7}, "x" * 2_000_000]
)
def test_odd_answers_leave_things_unknown(odd):
    machine = Machine()
    greeting = {"QMP": {}} if not isinstance(odd, dict) else {"QMP": odd}
    hold(learn(machine), lambda step: greeting if isinstance(step, Greeting) else odd)
    assert machine.learned
    assert machine.version is None
    assert machine.its_base is None
    assert machine.ram is None
    assert machine.mpidrs is None
    assert machine.annotations()["qemu.accelerator"] in ("tcg", "unknown")


def test_too_many_ranges_are_none(monkeypatch):
    monkeypatch.setattr(qemu_machine, "MAX_RAM_RANGES", 0)
    machine = Machine()
    place(machine, TREE)
    assert machine.ram is None
    assert machine.its_base == 0x808_0000


@pytest.mark.parametrize(
    ("gpa", "size", "inside"),
    [
        (0x4000_0000, 4096, True),
        (0x47FF_F000, 4096, True),
        (0x47FF_F001, 4096, False),
        (0x3FFF_F000, 4096, False),
        (0x3FFF_FFFF, 4096, False),
    ],
)
def test_what_is_in_ram(gpa, size, inside):
    assert Machine(ram=[(0x4000_0000, 128 << 20)]).in_ram(gpa, size) is inside


@pytest.mark.parametrize("thread", [None, "x", -1, {}, 0])
def test_the_process_of_no_thread(thread):
    assert process_of(thread) is None
