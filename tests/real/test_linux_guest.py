"""A real Linux guest under `record qemu --probe-resets`: reset by the user, then by itself.

Needs qemu-system-aarch64, and apt for Debian's arm64 kernel; skipped where that cannot be had.
"""

from __future__ import annotations

import pytest

from replay import cli
from tests.real.test_probe_resets import expected, looked_at, status_of, verdicts
from tests.support import linux_guest
from tests.support.recorded_vm import holds, markers, needs_qemu, read, resets, until
from tracer.events import POWER_ON, SYSTEM
from tracer.its.lpi import FIRST_LPI
from tracer.sources.qemu_probe import GICR_REGISTERS, ITS_REGISTERS

pytestmark = needs_qemu

CPUS = 2
BOOT_SECONDS = 120
# A later -m and -smp is the one that counts.
SMALL = ("-accel", "tcg,thread=multi", "-m", "512", "-smp", str(CPUS))


@pytest.fixture
def boot(start, tmp_path):
    """Return a function that boots a guest with such lives, and waits until it is up."""

    def make(lives, *record):
        try:
            options = linux_guest.guest(lives, tmp_path)
        except linux_guest.NotHere as reason:
            pytest.skip(str(reason))
        vm = start(*SMALL, *options, code=b"", record=["--probe-resets", *record]).connect()
        console = tmp_path / "console"
        until(
            lambda: console.exists() and f"{linux_guest.READY} 1" in console.read_text(),
            seconds=BOOT_SECONDS,
        )
        return vm

    return make


def lives_of(vm):
    console = (vm.trace.parent / "console").read_text()
    return console.count(linux_guest.READY)


def test_a_linux_guest_is_reset_and_resets_itself(boot, capsys):
    vm = boot(["wait", "reboot", "off"])
    vm.ask("system_reset")
    code, said = vm.end()
    assert code == 0, said
    assert lives_of(vm) == 3
    status, header, events = read(vm.trace)
    assert status == "clean"
    assert header.cpus == CPUS
    assert header.ram_ranges == [[0x4000_0000, 512 << 20]]
    assert resets(events) == [POWER_ON, SYSTEM, SYSTEM]
    for before, after in looked_at(events)[1:]:
        assert sorted(before, key=str) == sorted(after, key=str) == expected(CPUS)
    told = str(markers(events))
    assert "SHUTDOWN (host-qmp-system-reset)" in told
    assert "SHUTDOWN (guest-reset)" in told
    assert "SHUTDOWN (guest-shutdown)" in told
    assert sum(name == "mem.read" for name, _ in events) > 32  # two tables of 64 KiB, twice
    acknowledged = [fields for name, fields in events if name == "lpi.ack"]
    assert {fields["cpu"] for fields in acknowledged} <= set(range(CPUS))
    assert min(fields["intid"] for fields in acknowledged) >= FIRST_LPI
    holds(vm.trace)
    for reset in verdicts(vm.trace, capsys)[1:]:
        assert reset["verdict"] == "verified"
        assert reset["observed"] == reset["of"]
        assert reset["perturbed"]


def test_what_is_left_out_is_missing_in_the_verdict(boot, capsys):
    vm = boot(["wait", "off"], "--skip-probe", "GICR_PROPBASER")
    assert cli.main(["reset", str(vm.trace)]) == 0
    code, said = vm.end()
    assert code == 0, said
    assert lives_of(vm) == 2
    holds(vm.trace)
    reset = verdicts(vm.trace, capsys)[-1]
    assert reset["verdict"] == "equal"
    assert reset["of"] - reset["observed"] == CPUS
    assert status_of(reset["components"], "GICR_PROPBASER") == {"unproven"}
    others = {*ITS_REGISTERS, *GICR_REGISTERS} - {"GICR_PROPBASER"}
    assert status_of(reset["components"], *others) == {"verified"}
