"""The monitor's side of a recording: questions in turn, events told, garbage survived."""

from __future__ import annotations

import json
import socket

import pytest

from tracer.sources import qmp
from tracer.sources.qemu_live import told

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 2}}, "capabilities": []}}


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        yield qmp.Qmp(ours), theirs


def send(theirs, message):
    theirs.sendall(json.dumps(message).encode() + b"\r\n")


def next_events(monitor):
    for _ in range(100):
        if events := monitor.receive():
            return events
    raise AssertionError("no event came")


def question(theirs):
    (line,) = theirs.recv(4096).splitlines()
    return json.loads(line)


class Talk:
    """A conversation that notes what it was given."""

    def __init__(self, monitor, *steps):
        self.given = []
        monitor.start(self._hold(steps))

    def _hold(self, steps):
        for step in steps:
            self.given.append((yield step))


def test_questions_come_one_at_a_time(pair):
    monitor, theirs = pair
    talk = Talk(monitor, qmp.Greeting(), qmp.Ask("qmp_capabilities"), qmp.monitor("info x"))
    assert monitor.owed
    send(theirs, GREETING)
    assert monitor.receive() == []
    first = question(theirs)
    assert first["execute"] == "qmp_capabilities"
    send(theirs, {"return": {}, "id": first["id"]})
    monitor.receive()
    second = question(theirs)
    assert second["arguments"] == {"command-line": "info x"}
    send(theirs, {"return": "told", "id": second["id"]})
    monitor.receive()
    assert talk.given == [GREETING, {}, "told"]
    assert monitor.idle
    assert not monitor.owed


def test_conversations_are_held_one_behind_the_other(pair):
    monitor, theirs = pair
    Talk(monitor, qmp.Ask("a"))
    Talk(monitor, qmp.Ask("b"))
    first = question(theirs)
    assert first["execute"] == "a"
    send(theirs, {"return": {}, "id": first["id"]})
    monitor.receive()
    assert question(theirs)["execute"] == "b"


def test_an_error_is_an_answer_too(pair):
    monitor, theirs = pair
    talk = Talk(monitor, qmp.Ask("a"))
    send(theirs, {"error": {"class": "GenericError", "desc": "no"}, "id": question(theirs)["id"]})
    monitor.receive()
    assert talk.given == [None]


def test_an_answer_to_another_question_is_none(pair):
    monitor, theirs = pair
    talk = Talk(monitor, qmp.Ask("a"))
    send(theirs, {"return": 1, "id": question(theirs)["id"] + 1})
    send(theirs, {"return": 1})
    monitor.receive()
    assert talk.given == []
    assert monitor.owed


@pytest.mark.parametrize("event_first", [False, True])
def test_an_event_may_come_before_or_behind_the_answer(pair, event_first):
    monitor, theirs = pair
    talk = Talk(monitor, qmp.Ask("system_reset", until="RESET", seconds=60))
    both = [{"event": "RESET"}, {"return": {"x": 1}, "id": question(theirs)["id"]}]
    for message in both if event_first else both[::-1]:
        assert talk.given == []
        send(theirs, message)
        monitor.receive()
    assert talk.given == [{"x": 1}]


def test_an_event_that_does_not_come_is_waited_for_no_longer(pair):
    monitor, theirs = pair
    talk = Talk(monitor, qmp.Ask("system_reset", until="RESET", seconds=0), qmp.Ask("cont"))
    send(theirs, {"return": {}, "id": question(theirs)["id"]})
    monitor.receive()
    monitor.look_at_clock()
    assert talk.given == [{}]
    assert question(theirs)["execute"] == "cont"


def test_a_call_is_made_by_whoever_reads_the_log(pair):
    monitor, theirs = pair
    step = qmp.Call(print)
    Talk(monitor, step, qmp.Ask("a"))
    assert monitor.call is step
    assert not monitor.owed
    monitor.called()
    assert monitor.call is None
    assert question(theirs)["execute"] == "a"


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[1]",
        b"7",
        b'{"event": 5}',
        b'{"id": []}',
        b"[" * 20_000,
        b"9" * 9999,
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_garbage_is_dropped(pair, garbage):
    monitor, theirs = pair
    theirs.sendall(garbage + b"\n")
    send(theirs, {"event": "STOP"})
    assert next_events(monitor) == [{"event": "STOP"}]
    assert not monitor.closed


def test_an_endless_line_takes_no_memory(pair):
    monitor, theirs = pair
    for _ in range(400):
        theirs.sendall(b"x" * 8192)
        assert monitor.receive() == []
        assert len(monitor._rest) <= qmp.MAX_LINE_BYTES
    theirs.sendall(b"\n")
    send(theirs, {"event": "STOP"})
    assert next_events(monitor) == [{"event": "STOP"}]


def test_its_end_is_seen(pair):
    monitor, theirs = pair
    Talk(monitor, qmp.Ask("a"))
    theirs.close()
    monitor.receive()
    assert monitor.closed
    assert monitor.idle
    assert not monitor.owed


def test_an_event_is_told_with_its_reason():
    assert told({"event": "RESET", "data": {"reason": "guest-reset"}}) == "QMP: RESET (guest-reset)"


@pytest.mark.parametrize("data", [None, [], {}, {"reason": 5}, {"reason": "\x1b[31m"}])
def test_an_odd_reason_is_left_out(data):
    assert told({"event": "RESET", "data": data}) == "QMP: RESET"


def test_other_events_are_not_told():
    assert told({"event": "RTC_CHANGE"}) is None
