"""A real QEMU under `record qemu`, and what its trace holds: what the tests of tests/real share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from time import monotonic, sleep

import pytest

from replay import cli
from tests.support.bare_metal import COUNTER, START, image
from tracer.events import KINDS, fields_of
from tracer.log.opening import open_trace

QEMU = os.environ.get("ITSTRACE_TEST_QEMU", "qemu-system-aarch64")
needs_qemu = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"{QEMU} is not installed (apt package qemu-system-arm)"
)
MACHINE = (
    *("-nodefaults", "-M", "virt,gic-version=3,its=on", "-cpu", "cortex-a57", "-m", "128"),
    *("-display", "none"),
)


def itstrace(*words, **more):
    command = [sys.executable, "-m", "replay.cli", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


class Vm:
    """A VM of QEMU's with a monitor of the user's own; recorded, unless `record` is None.

    `record` are options of `record qemu`, `options` of QEMU; `by` starts one that is not recorded. Its guest is `code`, a bare-metal
    image, or is named by `options` when `code` is empty.
    """

    def __init__(self, tmp_path, *options, code=None, record=(), by=(), **more):
        self.trace = tmp_path / "t.itstrace"
        self.qmp = tmp_path / "qmp"
        self._pidfile = tmp_path / "pid"
        command = [QEMU, *MACHINE, *_loaded(tmp_path, image() if code is None else code)]
        command += ["-qmp", f"unix:{self.qmp},server=on,wait=off", "-pidfile", self._pidfile]
        command += options
        if record is None:
            self.recorder = subprocess.Popen(
                list(map(str, [*by, *command])), stderr=subprocess.DEVNULL, **more
            )
        else:
            words = ("record", "qemu", "-o", self.trace, "--bound-ms", "50", *record, "--")
            self.recorder = itstrace(*words, *command, **more)
        self._open = []

    def connect(self):
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(20)
        self._open.append(monitor)
        until(lambda: monitor.connect_ex(str(self.qmp)) == 0)
        self._stream = monitor.makefile("r")
        self._open.append(self._stream)
        self._monitor = monitor
        self.ask("qmp_capabilities")
        return self

    def ask(self, command, **arguments):
        question = json.dumps({"execute": command, "arguments": arguments})
        self._monitor.sendall(question.encode() + b"\n")
        for line in self._stream:
            if "return" in (message := json.loads(line)):
                return message["return"]
        raise EOFError

    def status(self):
        return self.ask("query-status")["status"]

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


def _loaded(tmp_path, code):
    """Return the options for a bare-metal image, which has no console."""
    if not code:
        return ()
    guest = tmp_path / "guest.bin"
    guest.write_bytes(code)
    return ("-serial", "none", "-device", f"loader,file={guest},addr={START:#x},cpu-num=0")


def until(true, seconds=60):
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, "it did not happen"
        sleep(0.01)


def read(path):
    """Return (file state, header, [(name, {field: value})]) of a trace."""
    with open_trace(str(path)) as reader:
        events = [
            (KINDS[event[0]].name, fields_of(event)) for _, frame in reader for event in frame
        ]
        return reader.status, reader.header, events


def resets(events):
    return [fields["how"] for name, fields in events if name == "reset"]


def markers(events):
    return [fields["text"] for name, fields in events if name == "marker"]


def holds(path):
    assert cli.main(["check", str(path)]) == 0
