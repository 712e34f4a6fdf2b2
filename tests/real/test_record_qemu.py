"""`itstrace record qemu` with a real QEMU: what it wrote holds, whoever is killed.

Needs qemu-system-aarch64 and nothing else: the guest is `bare_metal`.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from time import sleep

import pytest

from replay import cli
from replay.judge import judge_file
from tests.support.bare_metal import image
from tests.support.recorded_vm import QEMU, holds, markers, needs_qemu, read, resets, until
from tracer.events import POWER_ON, SYSTEM

pytestmark = needs_qemu


def test_resets_of_the_guest_are_in_the_trace(start):
    vm = start(code=image(4))
    code, said = vm.end()
    assert code == 0, said
    status, header, events = read(vm.trace)
    assert status == "clean"
    assert resets(events) == [POWER_ON, SYSTEM, SYSTEM, SYSTEM]
    told = markers(events)
    assert told[-1] == "QEMU ended with status 0"
    assert sum(name == "command" for name, _ in events) == 4 * 5
    assert header.source == "record-qemu"
    assert header.cpus == 1
    assert header.implementation_version.count(".") == 2
    holds(vm.trace)


def test_resets_of_the_user_are_in_the_trace(start):
    vm = start("-smp", "3").connect()
    for _ in range(2):
        before = vm.ask("query-status")
        assert before["running"]
        vm.ask("system_reset")
        sleep(0.2)  # two requests at once are one reset
    vm.ask("stop")
    vm.ask("quit")
    code, said = vm.end()
    assert code == 0, said
    status, header, events = read(vm.trace)
    assert status == "clean"
    assert resets(events) == [POWER_ON, SYSTEM, SYSTEM]
    assert header.cpus == 3
    told = str(markers(events))
    assert told.count("QMP: RESET (host-qmp-system-reset)") == 2
    assert told.count("QMP: STOP; not before event") == 1
    assert told.count("QMP: SHUTDOWN (host-qmp-quit)") == 1
    holds(vm.trace)


def test_a_killed_qemu_leaves_a_whole_trace(start):
    vm = start().connect()
    until(lambda: vm.lives() > 20)
    os.kill(vm.pid, signal.SIGKILL)
    code, said = vm.end()
    assert code == 3
    assert "QEMU ended with signal 9" in said
    assert read(vm.trace)[0] == "clean"


def test_a_killed_recorder_leaves_a_trace_and_a_vm_that_runs(start):
    vm = start().connect()
    until(lambda: vm.lives() > 20)
    until(lambda: vm.trace.stat().st_size > 10_000)
    vm.recorder.kill()
    vm.recorder.wait()
    before = vm.lives()
    until(lambda: vm.lives() > before + 100)
    vm.ask("quit")
    status, _, events = read(vm.trace)
    assert status == "cut"
    assert resets(events) == [POWER_ON]
    assert judge_file(str(vm.trace)).word != "diverged"


def test_a_full_disk_ends_the_trace_and_not_the_vm(start):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    vm = start(preexec_fn=small_files).connect()
    until(lambda: vm.trace.stat().st_size > 10_000)
    assert "the recording has ended, the VM goes on" in vm.recorder.stderr.readline()
    before = vm.lives()
    until(lambda: vm.lives() > before + 100)
    vm.ask("quit")
    code, said = vm.end()
    assert code == 3
    assert "make room" in said
    assert read(vm.trace)[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(start, number):
    vm = start("-S", start_new_session=True).connect()
    until(lambda: vm.trace.stat().st_size)  # its monitor has answered
    vm.recorder.send_signal(number)
    code, said = vm.end()
    assert code == 0, said
    status, _, events = read(vm.trace)
    assert status == "clean"
    assert "SHUTDOWN (host-signal)" in str(markers(events)), said


def test_a_qemu_that_does_not_start_is_said(start):
    vm = start("-no-such-option")
    code, said = vm.end()
    assert code == 3
    assert "QEMU did not start: it ended with status 1" in said
    assert not vm.trace.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/no/such/qemu"], "/no/such/qemu: No such file or directory"),
        ([QEMU, "-D", "x"], "-D cannot be given"),
        ([QEMU, "--daemonize"], "-daemonize cannot be given"),
    ],
)
def test_a_wrong_command_is_refused(tmp_path, capsys, command, message):
    path = tmp_path / "t.itstrace"
    assert cli.main(["record", "qemu", "-o", str(path), "--", *command]) == 2
    assert message in capsys.readouterr().err
    assert not path.exists()


def test_a_trace_is_not_overwritten(tmp_path, capsys):
    path = Path(tmp_path / "t.itstrace")
    path.write_text("mine")
    assert cli.main(["record", "qemu", "-o", str(path), "--", QEMU]) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_a_ring_keeps_the_last_of_it(start, tmp_path):
    vm = start(record=["--ring", "4K"]).connect()
    until(lambda: vm.lives() > 500)
    assert cli.main(["reset", str(vm.trace)]) == 0
    before = vm.lives()
    until(lambda: vm.lives() > before + 500)
    vm.ask("quit")
    code, said = vm.end()
    assert code == 0, said
    (dump,) = tmp_path.glob("t*.itstrace")
    assert dump.name in said
    status, header, events = read(dump)
    assert status == "clean"
    assert header.first_seq > 1000
    assert sum(name == "command" for name, _ in events) > 100
    holds(dump)
