"""`record qemu --probe-resets` with a real QEMU: every reset is looked at, and no VM stays behind.

Needs qemu-system-aarch64 and nothing else: the guest is `bare_metal`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from itertools import takewhile
from time import sleep

import pytest

from replay import cli
from tests.support.bare_metal import image
from tests.support.recorded_vm import holds, markers, needs_qemu, read, resets, until
from tracer.events import POWER_ON, PROBE, SYSTEM
from tracer.its.registers import GICR_REGISTERS, its_register
from tracer.sources.qemu_probe import GICR_REGISTERS as PROBED_GICR, ITS_REGISTERS as PROBED

pytestmark = needs_qemu

LARGE = 0xFF | 2 << 8  # Size and Page_Size of a BASER: 16 MiB, which take a second to dump
FOR_EVER = 4000  # lives
KILLED_AT_ONCE = """
import os, signal, sys
from tracer.sources.qemu_start import Started
Started(sys.argv[1:], probe=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def looked_at(events):
    """Return, for each reset, (registers read by us before it, those read by us after it)."""
    places = [at for at, (name, _) in enumerate(events) if name == "reset"]
    return [(_reads(events[at::-1]), _reads(events[at:])) for at in places]


def _reads(events):
    """Return the reads of ours up to where our looking ended, or began, next."""
    edges = 0
    found = []
    for name, fields in events:
        edges += name == "probe"
        if edges == 2:
            break
        if name in ("reg.read", "gicr.read") and fields["origin"] == PROBE:
            found.append((fields.get("cpu"), fields["offset"], fields["size"]))
    return found


def expected(cpus):
    its = [(None, *where) for where in PROBED.values()]
    return sorted(
        [*its, *((cpu, *where) for cpu in range(cpus) for where in PROBED_GICR.values())],
        key=str,
    )


def verdicts(path, capsys):
    capsys.readouterr()
    assert cli.main(["verify", "--json", str(path)]) == 0
    return json.loads(capsys.readouterr().out)["resets"]


def status_of(components, *names):
    return {each["status"] for each in components if each["name"].partition("[")[0] in names}


def test_resets_of_the_guest_are_looked_at(start, capsys):
    vm = start("-smp", "2", code=image(4), record=["--probe-resets"])
    code, said = vm.end()
    assert code == 0, said
    status, _, events = read(vm.trace)
    assert status == "clean"
    assert resets(events) == [POWER_ON, SYSTEM, SYSTEM, SYSTEM]
    for how, (before, after) in zip(resets(events), looked_at(events), strict=True):
        assert sorted(after, key=str) == expected(2)
        assert before == [] if how == POWER_ON else sorted(before, key=str) == expected(2)
    assert [fields["perturbing"] for name, fields in events if name == "probe"] == [1] * 14
    dumped = [fields["gpa"] for name, fields in events if name == "mem.read"]
    assert dumped == [0x4300_0000, 0x4203_0000] * 3
    for reset in verdicts(vm.trace, capsys):
        assert reset["perturbed"]
        assert status_of(reset["components"], *PROBED, *PROBED_GICR) == {"verified"}
    holds(vm.trace)


def test_what_is_probed_are_registers_of_that_width():
    for name, (offset, size) in PROBED.items():
        found = its_register(offset)
        assert found is not None
        assert found[0] == name
        assert size in found[1].widths
    for name, (offset, size) in PROBED_GICR.items():
        (row,) = (row for row in GICR_REGISTERS if row.name == name)
        assert row.offset == offset
        assert size in row.widths


def test_resets_of_the_user_are_looked_at(start):
    vm = start(record=["--probe-resets"]).connect()
    until(lambda: vm.status() == "running")
    for _ in range(2):
        vm.ask("system_reset")
        sleep(0.2)  # two requests at once are one reset
        until(lambda: vm.status() == "running")
    vm.ask("quit")
    code, said = vm.end()
    assert code == 0, said
    _, _, events = read(vm.trace)
    assert resets(events) == [POWER_ON, SYSTEM, SYSTEM]
    assert all(sorted(after, key=str) == expected(1) for _, after in looked_at(events))
    holds(vm.trace)


@pytest.mark.parametrize("armed", [False, True])
def test_a_reset_on_request_is_looked_at(start, armed):
    vm = start(record=["--probe-resets"] if armed else []).connect()
    until(lambda: vm.lives() > 20)
    for _ in range(2):
        words = [sys.executable, "-m", "replay.cli", "reset", str(vm.trace)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert vm.status() == "running"
    vm.ask("quit")
    code, said = vm.end()
    assert code == 0, said
    _, _, events = read(vm.trace)
    assert resets(events) == [POWER_ON, SYSTEM, SYSTEM]
    for before, after in looked_at(events)[1:]:
        assert sorted(before, key=str) == sorted(after, key=str) == expected(1)
    holds(vm.trace)


def test_a_reset_of_a_stopped_vm_leaves_it_stopped(start):
    vm = start("-S").connect()
    until(lambda: vm.trace.stat().st_size)
    assert cli.main(["reset", str(vm.trace)]) == 0
    assert vm.status() == "prelaunch"
    vm.ask("quit")
    assert vm.end()[0] == 0


def test_a_component_that_is_left_out_is_missing_in_the_verdict(start, capsys):
    skip = ["--probe-resets", "--skip-probe", "GITS_CBASER", "--skip-probe", "tables"]
    vm = start(code=image(2), record=skip)
    assert vm.end()[0] == 0
    _, _, events = read(vm.trace)
    assert not any(name == "mem.read" for name, _ in events)
    last = verdicts(vm.trace, capsys)[-1]
    assert last["verdict"] == "equal"
    assert status_of(last["components"], "GITS_CBASER") == {"unproven"}
    assert status_of(last["components"], "GITS_CWRITER") == {"verified"}


def test_tables_outside_ram_and_too_large_ones_are_not_read_whole(start):
    vm = start(code=image(2, table_size=LARGE), record=["--probe-resets"])
    assert vm.end()[0] == 0
    _, _, events = read(vm.trace)
    pages = [fields["gpa"] for name, fields in events if name == "mem.read"]
    assert len(pages) == len(set(pages)) == 1024
    assert "1024 pages were looked at" in str(markers(events))


def test_a_guest_that_powers_off_at_once_leaves_a_whole_trace(start):
    vm = start(code=image(1), record=["--probe-resets"])
    code, said = vm.end()
    assert code == 0, said
    status, _, events = read(vm.trace)
    assert status == "clean"
    assert resets(events) == [POWER_ON]
    assert "SHUTDOWN (guest-shutdown)" in str(markers(events))


# -- whoever is killed, no VM stays behind


def runs_on(vm):
    """The VM goes through lives of its own, with resets, and by itself."""
    until(lambda: vm.status() == "running")
    before = vm.lives()
    until(lambda: vm.lives() > before + 20)


def kill(recorder):
    recorder.kill()
    recorder.wait()


def test_a_vm_goes_on_when_its_recorder_is_killed(start):
    vm = start(code=image(FOR_EVER), record=["--probe-resets"]).connect()
    until(lambda: vm.lives() > 3 and vm.trace.stat().st_size)
    kill(vm.recorder)
    runs_on(vm)
    assert read(vm.trace)[0] == "cut"


def test_a_vm_goes_on_when_its_recorder_is_killed_before_it_has_seen_a_reset(start):
    vm = start(code=image(FOR_EVER), record=["--probe-resets"]).connect()
    until(lambda: vm.lives() > 3)
    vm.recorder.send_signal(signal.SIGSTOP)
    until(lambda: vm.status() == "shutdown")
    sleep(0.2)
    assert vm.status() == "shutdown"  # it would stay so
    kill(vm.recorder)
    runs_on(vm)


@pytest.mark.parametrize("when", ["shutdown", "prelaunch"])
def test_a_vm_goes_on_when_its_recorder_is_killed_while_it_looks(start, when):
    large = image(FOR_EVER, table_size=LARGE)
    vm = start(code=large, record=["--probe-resets"]).connect()
    until(lambda: vm.lives() and vm.status() == when)
    vm.recorder.send_signal(signal.SIGSTOP)
    sleep(0.2)
    assert vm.status() == when  # it would stay so
    kill(vm.recorder)
    runs_on(vm)


def test_a_vm_goes_on_when_its_recorder_is_killed_at_the_beginning(start):
    vm = start("-smp", "8", record=["--probe-resets"]).connect()
    assert vm.status() == "prelaunch"
    vm.recorder.send_signal(signal.SIGSTOP)
    sleep(0.2)
    assert vm.status() == "prelaunch"
    kill(vm.recorder)
    runs_on(vm)


def test_a_vm_goes_on_when_its_recorder_is_killed_before_it_has_said_a_word(start):
    vm = start(record=None, by=(sys.executable, "-c", KILLED_AT_ONCE))
    assert vm.recorder.wait(timeout=20) == -signal.SIGKILL
    vm.connect()
    runs_on(vm)


def test_a_vm_goes_on_when_its_recorder_is_killed_during_a_reset_on_request(start):
    vm = start(code=image(table_size=LARGE)).connect()
    until(lambda: vm.lives() > 3)
    words = [sys.executable, "-m", "replay.cli", "reset", str(vm.trace)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as asking:
        until(lambda: vm.status() == "prelaunch")
        kill(vm.recorder)
        assert "the recording has ended" in asking.communicate(timeout=20)[1]
    assert asking.returncode == 3
    runs_on(vm)


def test_a_full_disk_ends_the_trace_and_not_the_vm(start):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    vm = start(code=image(FOR_EVER), record=["--probe-resets"], preexec_fn=small_files).connect()
    said = "".join(takewhile(lambda line: "goes on" not in line, vm.recorder.stderr))
    assert "Traceback" not in said
    runs_on(vm)
    vm.ask("quit")
    code, said = vm.end()
    assert code == 3
    assert "make room" in said
    assert read(vm.trace)[2]


def test_a_killed_qemu_leaves_a_whole_trace(start):
    vm = start(code=image(FOR_EVER, table_size=LARGE), record=["--probe-resets"]).connect()
    until(lambda: vm.lives() and vm.status() == "prelaunch")
    os.kill(vm.pid, signal.SIGKILL)
    code, said = vm.end()
    assert code == 3
    assert "QEMU ended with signal 9" in said
    assert read(vm.trace)[0] == "clean"


def test_a_qemu_that_does_not_start_is_said(start):
    vm = start("-no-such-option", record=["--probe-resets"])
    code, said = vm.end()
    assert code == 3
    assert "QEMU did not start: it ended with status 1" in said
    assert not vm.trace.exists()
