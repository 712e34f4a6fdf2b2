"""A machine monitor (QMP) that is only asked a few things: JSON lines, within limits.

The counterpart is QEMU's monitor/qmp.c. Nothing here waits: the greeting has the first question
sent, and each answer the next. They are not sent at once because QEMU 7.2 may never end when its
guest powers off while some are queued. What is no JSON object, or too long, is dropped.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any, Final

MAX_LINE_BYTES: Final = 1 << 20  # the answer about 512 CPUs has 150 KiB
_CHUNK_BYTES: Final = 1 << 16

_QUESTIONS: Final[dict[str, dict[str, Any]]] = {
    "capabilities": {"execute": "qmp_capabilities"},
    "kvm": {"execute": "query-kvm"},
    "cpus": {"execute": "query-cpus-fast"},
    **{
        name: {"execute": "qom-get", "arguments": {"path": "/machine", "property": name}}
        for name in ("gic-version", "virtualization", "its")
    },
}


class Qmp:
    """One monitor; `answers` holds what it returned (None: an error), by the question's name."""

    def __init__(self, sock: socket.socket) -> None:
        self.answers: dict[str, Any] = {}
        self.closed = False
        self._open = list(_QUESTIONS)
        self._socket = sock
        self._rest = b""
        self._skipping = False
        sock.settimeout(0)

    @property
    def done(self) -> bool:
        """Whether nothing more will be learned of what was asked."""
        return self.closed or not self._open

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
        """Return the event that a line holds; keep the answer that it holds."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(message, dict):
            return None
        if not self.answers and isinstance(message.get("QMP"), dict):
            self.answers["version"] = message["QMP"].get("version")
            self._ask()
        elif self._open and message.get("id") == self._open[0]:
            self.answers[self._open.pop(0)] = message.get("return")
            self._ask()
        return message if isinstance(message.get("event"), str) else None

    def _ask(self) -> None:
        if self._open:
            question = _QUESTIONS[self._open[0]] | {"id": self._open[0]}
            with suppress(OSError):  # the end is seen where it is read
                self._socket.sendall(json.dumps(question).encode() + b"\n")
