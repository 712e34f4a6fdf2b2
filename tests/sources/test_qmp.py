"""The monitor's side of a recording: questions in turn, events told, garbage survived."""

from __future__ import annotations

import json
import socket

import pytest

from tracer.sources import qmp
from tracer.sources.qemu_live import note_of

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


def test_questions_come_one_at_a_time(pair):
    monitor, theirs = pair
    send(theirs, GREETING)
    asked = []
    while not monitor.done:
        assert monitor.receive() == []
        if not monitor.done:
            (question,) = theirs.recv(4096).splitlines()
            asked.append(json.loads(question)["execute"])
            send(theirs, {"return": len(asked), "id": json.loads(question)["id"]})
    assert asked[0] == "qmp_capabilities"
    assert monitor.answers["version"] == GREETING["QMP"]["version"]
    assert monitor.answers["its"] == len(asked)


def test_an_error_is_an_answer_too(pair):
    monitor, theirs = pair
    send(theirs, GREETING)
    send(theirs, {"error": {"class": "GenericError", "desc": "no"}, "id": "capabilities"})
    monitor.receive()
    assert monitor.answers["capabilities"] is None


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
    theirs.close()
    monitor.receive()
    assert monitor.done


def test_an_event_is_noted_with_its_reason():
    text = note_of({"event": "RESET", "data": {"reason": "guest-reset"}})
    assert text == (
        "QMP: RESET (guest-reset); another stream, so its place among the events is not exact"
    )


@pytest.mark.parametrize("data", [None, [], {}, {"reason": 5}, {"reason": "\x1b[31m"}])
def test_an_odd_reason_is_left_out(data):
    assert note_of({"event": "RESET", "data": data}).startswith("QMP: RESET; another")


def test_other_events_are_not_noted():
    assert note_of({"event": "RTC_CHANGE"}) is None
