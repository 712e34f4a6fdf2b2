"""A process that lets a VM go on when its recorder is killed.

A recorder has a VM pause at its resets, stops it to look at it, and switches events on in one that
it joined; a VM whose recorder is gone would stay so. The guard holds the monitor's socket and the
end of a pipe that only the recorder holds open: at the pipe's end it takes the recorder's place,
once. Counterpart: `qemu_probe`, which tells it what is to be undone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from tracer.sources.qmp import MAX_LINE_BYTES, RESETS, Ask

_PATIENCE_SECONDS: Final = 5.0
_MAX_TOLD_BYTES: Final = 1 << 16


class Guard:
    """The recorder's end of the pipe."""

    def __init__(self, sock: socket.socket, *, paused: bool) -> None:
        self._state: dict[str, Any] = {"paused": paused, "undo": []}
        here, self._pipe = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _keep(here, sock)
        os.close(here)
        self._tell()

    def hold(self) -> None:
        """Say that the VM stands still because of us."""
        self._state["paused"] = True
        self._tell()

    def free(self) -> None:
        """Say that it does not any longer."""
        self._state["paused"] = False
        self._tell()

    def undo(self, questions: Sequence[Ask]) -> None:
        """Say what else is to be asked of the monitor when we are gone."""
        self._state["undo"] = [list(question[:2]) for question in questions]
        self._tell()

    def dismiss(self) -> None:
        """End the guard: nothing is left to be done."""
        self._state = {}
        self._tell()
        self.let_act()

    def let_act(self) -> None:
        """Have the guard do its work as if we had been killed; return when it has."""
        os.close(self._pipe)
        os.waitpid(self._pid, 0)

    def _tell(self) -> None:
        with suppress(BrokenPipeError):
            os.write(self._pipe, json.dumps(self._state).encode() + b"\n")


def _keep(pipe: int, sock: socket.socket) -> None:
    """Wait for the recorder's end; this process ends here."""
    try:
        os.setsid()
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):
            signal.signal(number, signal.SIG_IGN)
        _close_all_but(pipe, sock.fileno())
        told = b"{}\n"
        while more := os.read(pipe, _MAX_TOLD_BYTES):
            told = (told + more)[-_MAX_TOLD_BYTES:]
        state = json.loads(told.splitlines()[-1])
        if state:
            sock.settimeout(_PATIENCE_SECONDS)
            undo = [Ask(execute, arguments) for execute, arguments in state["undo"]]
            release(sock, paused=state["paused"], undo=undo)
    finally:
        os._exit(0)


def _close_all_but(*keep: int) -> None:
    last = 0
    for fd in sorted(keep):
        os.closerange(last, fd)
        last = fd + 1
    os.closerange(last, os.sysconf("SC_OPEN_MAX"))


def release(sock: socket.socket, *, paused: bool, undo: Sequence[Ask]) -> None:
    """Undo what was done to a VM, and carry out what it has paused for."""
    reason, status = "", ""
    # A recorder that was killed at once has not greeted the monitor, which then answers nothing else.
    for message in _messages(sock, Ask("qmp_capabilities"), *undo, Ask("query-status")):
        if message.get("event") == "SHUTDOWN":
            reason = (message.get("data") or {}).get("reason", "")
        elif isinstance(message.get("return"), dict):
            status = message["return"].get("status", status)
    # When the reason was told to the recorder, not to us, `paused` says that it was a reset.
    if status == "shutdown" and not (paused or reason in RESETS):
        _ask(sock, Ask("quit"))
        return
    if status == "shutdown":
        _ask(sock, Ask("system_reset"), until="RESET")
    if status == "shutdown" or paused:
        _ask(sock, Ask("cont"))


def _ask(sock: socket.socket, question: Ask, until: str = "") -> None:
    """Send a command and wait for its answer, or for an event."""
    for message in _messages(sock, question, until=until):
        if until and message.get("event") == until:
            return


def _messages(sock: socket.socket, *questions: Ask, until: str = "") -> Iterator[dict[str, Any]]:
    """Send commands, each when the one before was answered; yield what comes, up to the last answer.

    With `until`, go on behind it until the reader has enough or nothing comes.
    """
    with suppress(OSError), sock.makefile("rb") as stream:
        for at, question in enumerate(questions):
            name = f"guard {at} {question.execute} {until}"
            words = {"execute": question.execute, "arguments": question.arguments, "id": name}
            sock.sendall(json.dumps(words).encode() + b"\n")
            while line := stream.readline(MAX_LINE_BYTES):
                message = _parsed(line)
                yield message
                if message.get("id") == name and not until:
                    break


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the message of a line; the first line may have lost its beginning to the recorder."""
    with suppress(ValueError, RecursionError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    return {}
