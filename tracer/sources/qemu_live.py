"""A QEMU that runs: its command line with tracing added, its log as a stream, its monitor beside.

The counterpart is `qemu_log`, which reads what comes out here. Log and monitor are inherited file
descriptors: nothing is left on disk when one side is killed, and nobody else can connect. QEMU
ignores SIGPIPE, so a VM goes on when its recorder is gone. It only ever waits for the log to be
read, so whoever starts one must `drain` it.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from tracer.errors import SourceError, UsageError
from tracer.sources.qmp import Qmp

TRACED: Final = (
    "gicv3_its_*",
    "gicv3_redist_*read",
    "gicv3_redist_*write",
    "resettable_phase_hold_exec",
)
MAX_EARLY_BYTES: Final = 16 << 20
MAX_EARLY_SECONDS: Final = 10.0
MAX_EARLY_NOTES: Final = 1000
_STUCK_SECONDS: Final = 1.0
_PIPE_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 16
_LOOK_AGAIN_MS: Final = 200  # whether QEMU has ended, though a child of it holds the pipe
_REFUSED: Final = {
    "-D": "the trace comes through it",
    "-daemonize": "the recorder lives as long as the QEMU that it started",
}
# event of the monitor -> its member that says why
NOTED: Final = {"RESET": "reason", "SHUTDOWN": "reason", "STOP": "", "RESUME": ""}


def check_command(command: Sequence[str]) -> None:
    """Refuse what cannot be recorded; UsageError says which option and why."""
    for option, reason in _REFUSED.items():
        if option in command or f"-{option}" in command:
            raise UsageError(f"{option} cannot be given to a recorded QEMU: {reason}")


def added(log: int, monitor: int, *, stamps: bool = True) -> list[str]:
    """Return the options that make QEMU write its trace to `log` and talk on `monitor`."""
    traces = [word for pattern in TRACED for word in ("-trace", pattern)]
    return [
        *traces,
        *(("-msg", "timestamp=on") if stamps else ()),
        *("-D", f"/dev/fd/{log}"),
        *("-chardev", f"socket,id=itstrace-monitor,fd={monitor}"),
        *("-mon", "chardev=itstrace-monitor,mode=control"),
    ]


def note_of(message: dict[str, Any]) -> str | None:
    """Return the marker's text for an event of the monitor, or None for one of no interest."""
    name = message["event"]
    if name not in NOTED:
        return None
    data = message.get("data")
    why = data.get(NOTED[name]) if isinstance(data, dict) else None
    told = f" ({why[:40]})" if isinstance(why, str) and why.isascii() and why.isprintable() else ""
    return f"QMP: {name}{told}; another stream, so its place among the events is not exact"


class LiveQemu:
    """One QEMU and its log, as a stream that ends when QEMU does.

    `early` is what came of the log while it was asked, and `early_notes` of the monitor; `read1`
    gives the former again. What the monitor says later goes to `on_note`.

    Raises:
        UsageError: the command line cannot be recorded, or not be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        check_command(command)
        self.on_note: Callable[[str], None] = self._keep
        self.early = b""
        self.early_notes: list[str] = []
        self._ended = False
        self._leaves_at = 0.0  # when the monitor said so
        ours, theirs = socket.socketpair()
        self._log, log = os.pipe()
        with theirs:
            try:
                self.process = self._start(command, log, theirs.fileno())
            except OSError as error:
                ours.close()
                os.close(self._log)
                raise UsageError(f"{command[0]}: {error.strerror}") from error
            finally:
                os.close(log)
        self._socket = ours
        self._qmp = Qmp(ours)
        self._poll = select.poll()
        self._poll.register(self._log, select.POLLIN)
        self._poll.register(ours, select.POLLIN)

    def _start(self, command: Sequence[str], log: int, monitor: int) -> subprocess.Popen[bytes]:
        with suppress(OSError):  # a smaller pipe only makes QEMU wait more often
            fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        stamps = "-msg" not in command and "--msg" not in command
        options = added(log, monitor, stamps=stamps)
        return subprocess.Popen([*command, *options], pass_fds=(log, monitor))

    def learn(self) -> dict[str, Any]:
        """Return what the monitor answers, read while the log is kept in memory.

        Waits at most `MAX_EARLY_SECONDS` and for `MAX_EARLY_BYTES` of log; then, and when QEMU has
        ended, what is not known yet is missing.

        Raises:
            SourceError: QEMU ended in an error before its monitor answered.
        """
        until = monotonic() + MAX_EARLY_SECONDS
        early = bytearray()
        while not self._ended and not self._qmp.done:
            early += self._step(_CHUNK_BYTES)
            if len(early) >= MAX_EARLY_BYTES or monotonic() > until:
                break
        self.early = bytes(early)
        if self._ended and self._qmp.answers.get("version") is None and self.process.wait():
            raise SourceError(
                f"QEMU did not start: it ended with {self.status()}; its own message says why"
            )
        return self._qmp.answers

    def read1(self, size: int) -> bytes:
        """Return at most `size` bytes of the log as soon as there are some; none at its end."""
        data, self.early = self.early[:size], self.early[size:]
        while not data and not self._ended:
            data = self._step(size)
        return data

    read = read1

    def drain(self) -> None:
        """Read the log to its end for nothing, so that the VM can go on; return when QEMU ended."""
        self.on_note = lambda text: None
        while self.read1(_CHUNK_BYTES):
            pass
        self.process.wait()

    def status(self) -> str:
        """Return in words how QEMU ended; it must have."""
        code = self.process.wait()
        return f"signal {-code}" if code < 0 else f"status {code}"

    def close(self) -> None:
        """Let go of log and monitor; a QEMU that still runs goes on."""
        os.close(self._log)
        self._socket.close()

    def _step(self, size: int) -> bytes:
        """Wait a moment; return what came of the log, and hand on what the monitor said."""
        gone = self.process.poll() is not None
        if (
            self._leaves_at
            and not self._qmp.done
            and monotonic() > self._leaves_at + _STUCK_SECONDS
        ):
            # QEMU 7.2 waits without end when it is shut down while it owes an answer. Its guest is
            # gone by then; this signal only makes it look again.
            self.process.terminate()
            self._leaves_at = monotonic()
        ready = self._ready(0 if gone else _LOOK_AGAIN_MS)
        if self._socket.fileno() in ready:
            self._hear()
        data = os.read(self._log, size) if self._log in ready else b""
        # No bytes: the end of the pipe, or a QEMU that is gone and left its pipe to a child.
        if not data and (gone or self._log in ready):
            self._ended = True
            while self._socket.fileno() in self._ready(0):
                self._hear()
        return data

    def _ready(self, wait_ms: int) -> set[int]:
        return {fd for fd, _ in self._poll.poll(wait_ms)}

    def _hear(self) -> None:
        for message in self._qmp.receive():
            if message["event"] == "SHUTDOWN":
                self._leaves_at = monotonic()
            if text := note_of(message):
                self.on_note(text)
        if self._qmp.closed:
            self._poll.unregister(self._socket)

    def _keep(self, text: str) -> None:
        if len(self.early_notes) < MAX_EARLY_NOTES:
            self.early_notes.append(text)
