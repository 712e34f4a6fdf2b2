"""The process that takes the recorder's place: what it asks of a monitor."""

from __future__ import annotations

import json
import socket
from threading import Thread

import pytest

from tracer.sources.qemu_guard import Guard, release
from tracer.sources.qemu_probe import DISARMED


class Qemu:
    """A monitor that answers everything, in a thread; `asked` is what it was asked."""

    def __init__(self, sock, status, before=()):
        self.asked = []
        self._sock, self._status, self._before = sock, status, before
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with self._sock, self._sock.makefile("rw") as stream:
            for line in self._before:
                stream.write(line + "\r\n")
            stream.flush()
            for line in stream:
                message = json.loads(line)
                self.asked.append(message["execute"])
                if message["execute"] == "system_reset":
                    stream.write(json.dumps({"event": "RESET", "data": {}}) + "\r\n")
                answer = {"status": self._status} if message["execute"] == "query-status" else {}
                stream.write(json.dumps({"return": answer, "id": message["id"]}) + "\r\n")
                stream.flush()

    def join(self):
        self._thread.join(10)
        return self.asked


@pytest.fixture
def monitor():
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours:
        yield ours, theirs


SHUTDOWN = json.dumps({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}})
POWER_OFF = json.dumps({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}})
ASKED = ["qmp_capabilities", "set-action", "query-status"]


@pytest.mark.parametrize(
    ("status", "paused", "before", "then"),
    [
        ("running", False, [], []),
        ("paused", False, [], []),  # by the user
        ("paused", True, [], ["cont"]),
        ("prelaunch", True, [], ["cont"]),
        ("shutdown", True, [], ["system_reset", "cont"]),
        ("shutdown", False, [SHUTDOWN], ["system_reset", "cont"]),
        ("shutdown", False, ['TDOWN"}', SHUTDOWN], ["system_reset", "cont"]),
        ("shutdown", False, [POWER_OFF], ["quit"]),
        ("shutdown", False, [], ["quit"]),
        ("running", False, ["[" * 9999, "7", '{"event": "SHUTDOWN", "data": null}'], []),
    ],
)
def test_a_vm_is_let_go(monitor, status, paused, before, then):
    ours, theirs = monitor
    qemu = Qemu(theirs, status, before)
    release(ours, paused=paused, undo=[DISARMED])
    ours.shutdown(socket.SHUT_RDWR)
    assert qemu.join() == [*ASKED, *then]


def test_a_monitor_that_says_nothing_is_not_waited_for(monitor):
    ours, theirs = monitor
    with theirs:
        ours.settimeout(0.05)
        release(ours, paused=True, undo=[])
        assert b"cont" in theirs.recv(4096)


def test_a_recorder_that_ends_well_leaves_nothing_to_do(monitor):
    ours, theirs = monitor
    with theirs:
        guard = Guard(ours, paused=True)
        guard.undo([DISARMED])
        guard.free()
        guard.hold()
        guard.dismiss()
        theirs.settimeout(0.1)
        with pytest.raises(TimeoutError):
            theirs.recv(1)


def test_a_recorder_that_ends_badly_leaves_it_to_the_guard(monitor):
    ours, theirs = monitor
    guard = Guard(ours, paused=False)  # first: it forks, which threads do not like
    qemu = Qemu(theirs, "paused")
    guard.undo([DISARMED])
    guard.hold()
    guard.let_act()
    ours.shutdown(socket.SHUT_RDWR)
    assert qemu.join() == [*ASKED, "cont"]
