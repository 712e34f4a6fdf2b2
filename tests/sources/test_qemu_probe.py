"""Conversations about resets: what is asked, in which order, and within which limits."""

from __future__ import annotations

import pytest

from tests.sources.test_qemu_machine import hold
from tracer.errors import SourceError
from tracer.sources import kvm_debugfs, qemu_probe
from tracer.sources.kvm_debugfs import Row, live_lpis, rows
from tracer.sources.qemu_machine import Machine
from tracer.sources.qemu_probe import ARMED, DISARMED, Prober, level2_pages, pages, words
from tracer.sources.qmp import Ask, Call

VALID, INDIRECT = 1 << 63, 1 << 62
RAM = [(0x4000_0000, 0x1000_0000)]


class Spy:
    """A log and a holder that note what they are told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *args, **more: self.told.append((name, *args, *more.values()))


class Saved:
    """A state file without a file."""

    name = "/dev/fd/9"

    def read(self):
        raise SourceError("no sections")


def machine(**more):
    known = {
        "cpus": 1,
        "its_base": 0x808_0000,
        "gicr_regions": [(0x80A_0000, 0x2_0000)],
        "ram": RAM,
    }
    return Machine(**known | more)


class Vm:
    """Answers a prober: registers read as `values` say, pages of RAM as `ram` does."""

    def __init__(self, *, skip=(), values=(), ram=(), **more):
        self.spy = Spy()
        self.values, self.ram = dict(values), dict(ram)
        self.prober = Prober(machine(**more), lambda: self.spy, frozenset(skip), self.spy, Saved())

    def hold(self, talk):
        """Hold a conversation; return its questions in short."""
        steps = hold(talk, self.answer)
        return [_short(step) for step in steps if isinstance(step, Ask)]

    def answer(self, step):
        if isinstance(step, Call):
            return step.function()
        if step.execute == "query-status":
            return {"running": True}
        if step.execute != "human-monitor-command":
            return {}
        what, gpa = step.arguments["command-line"].split()
        gpa = int(gpa, 16)
        if not what.startswith("xp/512"):
            return f"{gpa:016x}: {self.values.get(gpa, 0):#x}\r\n"
        found = self.ram.get(gpa, {})
        lines = (
            f"{gpa + 8 * n:016x}: {found.get(n, 0):#x} {found.get(n + 1, 0):#x}"
            for n in range(0, 512, 2)
        )
        return "\r\n".join(lines) + "\r\n"

    def names(self):
        return [each[0] for each in self.spy.told]


def _short(step):
    if step.execute == "human-monitor-command":
        return step.arguments["command-line"].split()[0]
    return step


BASER0 = 0x808_0100


def dumped(vm):
    return [each[1] for each in vm.spy.told if each[0] == "memory"]


def test_a_reset_is_let_through_between_two_looks():
    vm = Vm()
    asked = vm.hold(vm.prober.arm()) + vm.hold(vm.prober.shut_down("guest-reset"))
    others = [each for each in asked if not isinstance(each, str)]
    assert others == [
        ARMED,
        Ask("query-status"),
        Ask("set-action", {"reboot": "reset"}),
        Ask("system_reset", until="RESET", seconds=10.0),
        ARMED,
        Ask("cont"),
    ]
    assert sum(each.startswith("xp/") for each in asked if isinstance(each, str)) == 2 * 18
    assert [name for name in vm.names() if name != "asks"] == [
        "hold", "probe", "probe", "probe", "probe", "free",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "asked"),
    [("guest-shutdown", [Ask("quit")]), ("host-signal", []), ("host-qmp-quit", [])],
)
def test_a_vm_that_ends_is_let_go(reason, asked):
    vm = Vm()
    assert vm.hold(vm.prober.shut_down(reason)) == asked


def test_a_vm_that_did_not_run_is_not_started():
    vm = Vm()
    done = []
    steps = hold(
        vm.prober.on_request(lambda: done.append(1)),
        lambda step: {} if step == Ask("query-status") else vm.answer(step),
    )
    assert Ask("stop") in steps
    assert Ask("cont") not in steps
    assert DISARMED not in steps
    assert ARMED not in steps
    assert done == [1]


def test_what_is_skipped_is_not_read():
    vm = Vm(skip=("GICR_CTLR", "GITS_TYPER"))
    vm.hold(vm.prober.power_on(go=True))
    asked = [each[1:] for each in vm.spy.told if each[0] == "asks"]
    assert len(asked) == 16
    assert (0, 0, 4) not in asked
    assert (None, 8, 8) not in asked


@pytest.mark.parametrize(("gicv4", "frames"), [(False, 4), (True, 2)])
def test_each_cpu_has_a_frame_of_its_region(gicv4, frames):
    properties = {"gic-version": "4"} if gicv4 else {}
    regions = [(0x80A_0000, 0x4_0000), (0x40_0000_0000, 0x4_0000)]
    vm = Vm(cpus=4, gicr_regions=regions, properties=properties)
    found = list(vm.prober._frames())
    assert len(found) == frames
    assert found[-1] == (0x40_0000_0000 if gicv4 else 0x40_0002_0000)


def look(vm, talk="guest-reset"):
    vm.hold(vm.prober.shut_down(talk))
    return dumped(vm)


def test_a_flat_table_is_dumped_page_by_page():
    vm = Vm(values={BASER0: VALID | 0x4200_0000 | 1 << 8 | 1})  # two pages of 16 KiB
    assert look(vm) == list(range(0x4200_0000, 0x4200_8000, 4096))


def test_a_table_of_two_levels_is_dumped_along_its_valid_entries():
    level1 = {0: VALID | 0x4300_0000, 3: VALID | 0x4400_0000, 5: 0x4500_0000}
    vm = Vm(values={BASER0: VALID | INDIRECT | 0x4200_0000}, ram={0x4200_0000: level1})
    assert look(vm) == [0x4200_0000, 0x4300_0000, 0x4400_0000]


def test_what_is_in_no_ram_is_not_read_but_told():
    vm = Vm(values={BASER0: VALID | 0x0800_0000})
    assert look(vm) == []
    assert any(each[0] == "note" and "not all in RAM" in each[1] for each in vm.spy.told)


@pytest.mark.parametrize(
    "entries",
    [
        dict.fromkeys(range(512), VALID | 0x4300_0000),
        {n: VALID | 0x4300_0000 + 4096 * n for n in range(512)},
        {n: VALID | 4096 * n for n in range(512)},
    ],
    ids=["the same", "all of RAM", "no RAM"],
)
def test_a_guest_cannot_make_it_endless(monkeypatch, entries):
    monkeypatch.setattr(qemu_probe, "MAX_DUMPED_PAGES", 20)
    level1 = {0x4200_0000 + 4096 * n: entries for n in range(8)}
    vm = Vm(values={BASER0: VALID | INDIRECT | 0x4200_0007}, ram=level1)
    found = look(vm)
    assert found[:8] == sorted(level1)
    assert len(found) == len(set(found)) <= 20


def test_pages_of_64_kib_have_high_address_bits():
    assert next(pages(VALID | 0x4200_1000 | 2 << 8)).gpa == 0x1_0000_4200_0000
    assert next(pages(VALID | 0x4200_1000)).gpa == 0x4200_1000
    assert list(pages(0x4200_0000)) == []


def test_a_level1_entry_that_is_not_valid_names_nothing():
    assert list(level2_pages(0, 0x4300_0000)) == []


@pytest.mark.parametrize("answer", [None, 7, "", "no numbers", "Cannot access memory\r\n"])
def test_an_answer_without_numbers(answer):
    assert words(answer) == []


def test_on_kvm_saved_state_is_asked_for():
    vm = Vm(kvm=True)
    asked = vm.hold(vm.prober.power_on(go=False))
    assert asked[0] == Ask("xen-save-devices-state", {"filename": "/dev/fd/9", "live": False})
    assert ("note", "no sections") in vm.spy.told


def test_a_look_at_a_vm_of_kvm_is_always_perturbing():
    vm = Vm(kvm=True)
    vm.hold(vm.prober.running(iter(())))
    assert ("probe", 0, True) in vm.spy.told


def test_live_lpis_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(kvm_debugfs, "ROOT", tmp_path)
    (tmp_path / "77-12").mkdir()
    row = b"    LPI      8192      1 1011000        0        0       0      160      1 \n"
    (tmp_path / "77-12" / "vgic-state").write_bytes(b"Distributor\n" + row)
    assert live_lpis(77) == rows(row) == [Row(8192, 1, 0b1011000, 160, 1)]
    assert live_lpis(78) is None
    assert live_lpis(None) is None
    vm = Vm(kvm=True, pid=77)
    vm.hold(vm.prober.power_on(go=False))
    assert ("live", Row(8192, 1, 0b1011000, 160, 1)) in vm.spy.told
    assert ("probe", 1, True, 1) in vm.spy.told
    monkeypatch.setattr(kvm_debugfs, "MAX_LIST_BYTES", 10)
    assert live_lpis(77) is None
