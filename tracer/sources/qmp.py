"""A machine monitor (QMP) that conversations are held with: JSON lines, within limits.

The counterpart is QEMU's monitor/qmp.c. A conversation is a generator that yields a step and is
given what came of it; several are held one behind the other. Nothing here waits, and a question is
sent when the one before it was answered: QEMU 7.2 may never end when its guest powers off while
some are queued. What is no JSON object, or too long, is dropped.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final, NamedTuple

MAX_LINE_BYTES: Final = 1 << 20  # the answer about 512 CPUs has 150 KiB
_CHUNK_BYTES: Final = 1 << 16
GREETING: Final = "QMP"
_ANSWER: Final = "return"
# Reasons of SHUTDOWN for which a VM goes on with a reset; for the others it ends.
RESETS: Final = ("guest-reset", "host-qmp-system-reset")


class Ask(NamedTuple):
    """Send a command; the conversation is given what it returned, or None for an error.

    With `until`, it goes on when that event has come, too, before or behind the answer, or
    `seconds` later.
    """

    execute: str
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed, and a tuple has no factory
    until: str = ""
    seconds: float = inf


class Greeting(NamedTuple):
    """Wait for what a monitor says first; the conversation is given it."""


class Call(NamedTuple):
    """Call this when all that QEMU has logged so far was read."""

    function: Callable[[], None]


Step = Ask | Greeting | Call
Talk = Generator[Step, Any, None]


def monitor(line: str) -> Ask:
    """Return the question that has the human monitor carry out `line`; its answer is text."""
    return Ask("human-monitor-command", {"command-line": line})


class Qmp:
    """One monitor, and the conversations with it."""

    def __init__(self, sock: socket.socket) -> None:
        self.closed = False
        self._talks: deque[Talk] = deque()
        self._step: Step | None = None  # what the first of them waits for
        self._open: set[str] = set()  # what it waits for
        self._answer: Any = None
        self._patience = inf  # when it has waited for long enough
        self._asked = 0
        self._socket = sock
        self._rest = b""
        self._skipping = False
        sock.settimeout(0)

    @property
    def idle(self) -> bool:
        """Whether no conversation is held, or ever will be."""
        return self.closed or not self._talks

    @property
    def owed(self) -> bool:
        """Whether an answer has not come yet."""
        return not self.closed and isinstance(self._step, Ask | Greeting)

    @property
    def call(self) -> Call | None:
        """What is to be called when all that was logged so far is read."""
        return self._step if isinstance(self._step, Call) else None

    def called(self) -> None:
        """Go on behind a `call`."""
        self._go(None)

    def look_at_clock(self) -> None:
        """Go on where an event has not come for too long."""
        if monotonic() > self._patience:
            self._go(self._answer)

    def start(self, talk: Talk) -> None:
        """Hold a conversation behind those that are held already."""
        self._talks.append(talk)
        if len(self._talks) == 1:
            self._go(None)

    def receive(self) -> list[dict[str, Any]]:
        """Take in what has arrived, without waiting; return the events in it."""
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.closed = not data
        return [message for line in self._lines(data) if (message := self._message(line))]

    def _lines(self, data: bytes) -> list[bytes]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._skipping = b"", True
        return lines

    def _message(self, line: bytes) -> dict[str, Any] | None:
        """Return the event that a line holds; go on with what it answers."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(message, dict):
            return None
        if isinstance(message.get(GREETING), dict):
            self._came(GREETING, message)
        elif "id" in message and message["id"] == self._asked:
            self._came(_ANSWER, message.get("return"))
        elif isinstance(message.get("event"), str):
            self._came(message["event"], self._answer)
            return message
        return None

    def _came(self, what: str, answer: Any) -> None:
        """Note that something came; go on when the conversation waited for nothing else."""
        if what in self._open:
            self._open.remove(what)
            self._answer = answer
            if not self._open:
                self._go(answer)

    def _go(self, answer: Any) -> None:
        self._step, self._answer = None, None
        self._open.clear()
        self._patience = inf
        while self._talks:
            try:
                self._step = self._talks[0].send(answer)
            except StopIteration:
                self._talks.popleft()
                answer = None
                continue
            if isinstance(self._step, Ask):
                self._open.update({_ANSWER, self._step.until} - {""})
                self._patience = monotonic() + self._step.seconds
                self._send(self._step)
            elif isinstance(self._step, Greeting):
                self._open.add(GREETING)
            return

    def _send(self, question: Ask) -> None:
        self._asked += 1
        words: dict[str, Any] = {"execute": question.execute, "id": self._asked}
        if question.arguments:
            words["arguments"] = question.arguments
        with suppress(OSError):  # the end is seen where it is read
            self._socket.sendall(json.dumps(words).encode() + b"\n")
