"""Device state that a real QEMU saves, beside what it answers when its registers are read.

On KVM saved state is all there is to see of an ITS; QEMU's own ITS has both. Needs
qemu-system-aarch64 and nothing else.
"""

from __future__ import annotations

import sys
from subprocess import PIPE, Popen
from time import sleep

import pytest

from tests.real.test_probe_resets import looked_at
from tests.support.bare_metal import image
from tests.support.fuzz_guest import image as fuzz_image
from tests.support.recorded_vm import holds, needs_qemu, read
from tracer.sources.qemu_probe import GICR_REGISTERS, ITS_REGISTERS
from tracer.sources.qemu_vmstate import registers

pytestmark = needs_qemu

CPUS = 3
_ITS, _GICR = 0x808_0000, 0x80A_0000
# QEMU's own ITS saves 0 for GITS_IIDR, which it does not keep as state.
_NOT_KEPT = "GITS_IIDR"
# The recorder, taking QEMU's own ITS for one of KVM's.
_AS_ON_KVM = (
    "from replay import cli; from tracer.sources.qemu_probe import Prober; import sys;"
    "Prober._read = Prober._saved; sys.exit(cli.main(sys.argv[1:]))"
)


def expected(vm, value):
    """Return what a read of this register gives."""
    offset, size = (ITS_REGISTERS if value.cpu is None else GICR_REGISTERS)[value.name]
    gpa = _ITS + offset if value.cpu is None else _GICR + value.cpu * 0x2_0000 + offset
    line = f"xp /1{'g' if size == 8 else 'w'}x {gpa:#x}"
    return int(vm.ask("human-monitor-command", **{"command-line": line}).split()[-1], 16)


@pytest.mark.parametrize(
    ("options", "code", "least"),
    [((), fuzz_image(7), 60), (("-M", "virtualization=on"), image(), 13 + 3 * CPUS)],
)
def test_saved_registers_are_those_that_are_read(start, tmp_path, options, code, least):
    vm = start("-smp", str(CPUS), *options, code=code, record=None).connect()
    seen = set()
    for _ in range(20):
        sleep(0.1)
        vm.ask("stop")
        vm.ask("xen-save-devices-state", filename=str(tmp_path / "state"), live=False)
        values = registers((tmp_path / "state").read_bytes(), CPUS)
        for value in values:
            if value.name != _NOT_KEPT:
                assert value.value == expected(vm, value), value
        seen.update(values)
        vm.ask("cont")
    assert len(seen) >= least  # more than there are registers: the guest changed them


def test_resets_are_looked_at_through_saved_state(start, monkeypatch):
    def started(*words, **more):
        command = [sys.executable, "-c", _AS_ON_KVM, *map(str, words)]
        return Popen(command, stderr=PIPE, text=True, **more)

    monkeypatch.setattr("tests.support.recorded_vm.itstrace", started)
    skip = ["--probe-resets", "--skip-probe", _NOT_KEPT]
    vm = start("-smp", str(CPUS), code=image(3), record=skip)
    code, said = vm.end()
    assert code == 0, said
    _, _, events = read(vm.trace)
    looks = [each for pair in looked_at(events) for each in pair if each]
    assert len(looks) == 5
    assert {len(each) for each in looks} == {12 + 3 * CPUS}
    assert sum(name == "mem.read" for name, _ in events) == 4
    holds(vm.trace)
