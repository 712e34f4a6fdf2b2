"""The thread between a QEMU and its trace, with a QEMU made of a pipe and a socket.

Real ones are in tests/real.
"""

from __future__ import annotations

import io
import json
import os
import socket
import time

import pytest

from tests.sources.test_qemu_machine import TREE, VERSION
from tracer.events import KINDS, fields_of
from tracer.sources.lines import LineReader
from tracer.sources.qemu_guard import Guard
from tracer.sources.qemu_live import LiveQemu
from tracer.sources.qemu_log import QemuLog
from tracer.sources.qemu_probe import ARMED, Prober

WRITE = b"gicv3_its_write GICv3 ITS write: offset 0x80 data 0x0 size 8\n"


class Qemu:
    """How `LiveQemu` reaches it, and its other side."""

    joined = follows = False
    undo = (ARMED,)
    state = None

    def __init__(self):
        self.log, self.writes = os.pipe()
        self.monitor, theirs = socket.socketpair()
        theirs.settimeout(10)
        self.stream = theirs.makefile("rw")
        theirs.close()
        self.guard = Guard(self.monitor, paused=False)
        self.nudged = 0
        self._gone = False

    def begin(self, prober: Prober, *, probe: bool):
        del prober, probe
        yield from ()

    def end(self, prober: Prober):
        del prober
        yield from ()

    def gone(self):
        return self._gone

    def nudge(self):
        self.nudged += 1
        self.stop()

    # -- the other side

    def say(self, **message):
        self.stream.write(json.dumps(message) + "\r\n")
        self.stream.flush()

    def answer(self, *, its=True):
        """Answer what is asked at the beginning."""
        self.say(QMP={"version": VERSION})
        for line in self.stream:
            message = json.loads(line)
            asked = message["execute"]
            value = {"query-kvm": {"enabled": False}, "query-cpus-fast": [{}]}.get(asked, {})
            self.say(id=message["id"], **{"return": TREE if "human" in asked else value})
            if message.get("arguments", {}).get("property") == "mp-affinity":
                return self
        raise EOFError

    def write(self, data):
        os.write(self.writes, data)

    def stop(self):
        self._gone = True
        os.close(self.writes)
        self.stream.close()

    def close(self):
        os.close(self.log)
        self.monitor.close()


@pytest.fixture
def qemu():
    made = Qemu()
    yield made
    made.close()


def events(live):
    """Read the log to its end; return (name, fields) of each event."""
    log = QemuLog(LineReader(live.feed, "log", plain=True))
    live.log = log
    found = [(KINDS[event[0]].name, fields_of(event)) for event in log.events()]
    live.close()
    return found


def texts(found):
    return [fields["text"] for name, fields in found if name == "marker"]


def test_what_the_monitor_tells_has_bounds(qemu):
    live = LiveQemu(qemu)
    qemu.answer()
    assert live.learn().version == (7, 2, 22)
    qemu.write(WRITE * 3)
    time.sleep(0.3)  # for a tick
    qemu.write(WRITE * 2)
    qemu.say(event="RESET", data={"reason": "guest-reset"})
    time.sleep(0.3)
    qemu.write(WRITE)
    qemu.stop()
    (told,) = texts(events(live))
    start = "QMP: RESET (guest-reset); not before event "
    assert told.removeprefix(start) in ("3, not after event 5", "5, not after event 5")


def test_a_qemu_that_is_about_to_end_and_owes_an_answer_is_nudged(qemu):
    live = LiveQemu(qemu)
    qemu.say(QMP={"version": VERSION})
    qemu.stream.readline()
    qemu.say(event="SHUTDOWN", data={"reason": "guest-shutdown"})
    found = events(live)
    assert qemu.nudged == 1
    assert "SHUTDOWN (guest-shutdown)" in texts(found)[0]


def test_lines_cut_into_chunks_stay_whole_when_lines_may_be_dropped(qemu):
    live = LiveQemu(qemu, drop=True)
    qemu.answer()
    for at in range(0, len(WRITE), 7):
        qemu.write(WRITE[at : at + 7])
        time.sleep(0.01)
    qemu.write(b"the end without a newline")
    qemu.stop()
    assert [name for name, _ in events(live)] == ["reg.write"]


def test_a_conversation_that_fails_is_told_and_left_to_the_guard(qemu):
    def broken(prober, *, probe):
        del prober, probe
        raise RuntimeError("a bug of ours")
        yield

    qemu.begin = broken
    live = LiveQemu(qemu)
    qemu.answer()
    live.learn()
    with pytest.raises(RuntimeError, match="a bug of ours"):
        # the guard asks the monitor, which is closed by then
        qemu.stop() or live.close()
    assert live.ended


def test_nothing_is_kept_of_a_log_that_is_drained(qemu):
    live = LiveQemu(qemu)
    qemu.answer()
    qemu.write(WRITE * 100)
    qemu.stop()
    live.drain()
    live.close()
    assert live.feed.read1(100) == b""


def test_a_plain_reader_is_not_read_before_it_is_asked():
    stream = io.BytesIO(WRITE)
    reader = LineReader(stream, "log", plain=True)
    assert stream.tell() == 0
    assert list(reader) == [WRITE[:-1]]
