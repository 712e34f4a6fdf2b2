"""`itstrace record qemu` with a real QEMU: what it wrote holds, whoever is killed.

Needs qemu-system-aarch64 and nothing else: the guest is `bare_metal`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from replay import cli
from replay.judge import judge_file
from tests.support.bare_metal import COUNTER, START, image
from tracer.events import KINDS, POWER_ON, SYSTEM
from tracer.log.opening import open_trace

QEMU = "qemu-system-aarch64"
pytestmark = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"{QEMU} is not installed (apt package qemu-system-arm)"
)
MACHINE = (
    *("-nodefaults", "-M", "virt,gic-version=3,its=on", "-cpu", "cortex-a57", "-m", "128"),
    *("-display", "none", "-serial", "none"),
)


def itstrace(*words, **more):
    command = [sys.executable, "-m", "replay.cli", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a recorded VM; nothing of it is left behind."""
    started = []

    def make(*options, **more):
        started.append(Vm(tmp_path, *options, **more))
        return started[-1]

    yield make
    for vm in started:
        vm.clean_up()


class Vm:
    """A recorded VM, with a monitor of the user's own."""

    def __init__(self, tmp_path, *options, lives=None, **more):
        guest = tmp_path / "guest.bin"
        guest.write_bytes(image(lives))
        self.trace = tmp_path / "t.itstrace"
        self._path = tmp_path / "qmp"
        self.recorder = itstrace(
            *("record", "qemu", "-o", self.trace, "--bound-ms", "50", "--"),
            *(QEMU, *MACHINE, "-device", f"loader,file={guest},addr={START:#x},cpu-num=0"),
            *("-qmp", f"unix:{self._path},server=on,wait=off", "-pidfile", tmp_path / "pid"),
            *options,
            **more,
        )
        self._pidfile = tmp_path / "pid"
        self._open = []

    def connect(self):
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(20)
        self._open.append(monitor)
        until(lambda: monitor.connect_ex(str(self._path)) == 0)
        self._stream = monitor.makefile("rw")
        self._open.append(self._stream)
        self.ask("qmp_capabilities")
        return self

    def ask(self, command, **arguments):
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        for line in self._stream:
            if "return" in (message := json.loads(line)):
                return message["return"]
        raise EOFError

    def lives(self):
        said = self.ask("human-monitor-command", **{"command-line": f"xp /1gx {COUNTER:#x}"})
        return int(said.split()[-1], 16)

    @property
    def pid(self):
        return int(self._pidfile.read_text())

    def end(self):
        _, said = self.recorder.communicate(timeout=60)
        return self.recorder.returncode, said

    def clean_up(self):
        for each in self._open:
            each.close()
        if self._pidfile.exists():  # QEMU removes it when it ends well
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        with self.recorder:
            self.recorder.kill()


def until(true, seconds=20):
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, "it did not happen"
        sleep(0.01)


def read(path):
    """Return (file state, header, [(name, fields)]) of a trace."""
    with open_trace(str(path)) as reader:
        events = [(KINDS[event[0]].name, event[2:]) for _, frame in reader for event in frame]
        return reader.status, reader.header, events


def resets(events):
    return [fields[0] if fields else POWER_ON for name, fields in events if name == "reset"]


def markers(events):
    return [fields[0] for name, fields in events if name == "marker"]


def holds(path):
    assert cli.main(["check", str(path)]) == 0


def test_resets_of_the_guest_are_in_the_trace(start):
    vm = start(lives=4)
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
