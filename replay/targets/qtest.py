"""A QEMU with stopped CPUs, driven over qtest in batches, with its monitor and trace log beside.

Facts: QEMU's docs/devel/testing/qtest.rst (the protocol: a line asks, a line `OK ...` answers) and
QMP `system_reset`. Many lines are written before their answers are read, and the log is read
meanwhile, so neither side waits for the other. The counterpart is `qemu`, which knows what to ask.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from replay.targets.errors import TargetError

PATIENCE_SECONDS: Final = 20.0  # without a byte from it, a target hangs
MAX_REPLY_BYTES: Final = 4 << 20  # a line; of a read of RAM it has two digits a byte
MAX_LOG_BYTES: Final = 64 << 20  # of one batch
_CHUNK_BYTES: Final = 1 << 16
_SEND_BYTES: Final = 1 << 15
_PR_SET_PDEATHSIG: Final = 1
TRACED: Final = ("gicv3_its_*",)


def die_with_parent() -> None:
    """A target must not outlive who drives it, even when that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Qtest:
    """One QEMU process. Every method raises TargetError when it is gone, hangs or is no QEMU."""

    def __init__(self, binary: str, machine: Sequence[str], *, traced: bool) -> None:
        self._name = binary
        self._test, theirs = socket.socketpair()
        self._monitor, their_monitor = socket.socketpair()
        self._log, log = os.pipe()
        self._rest = self._said = b""
        self._stream = self._monitor.makefile("rb")
        fds = (theirs.fileno(), their_monitor.fileno(), log)
        options = [
            *("-S", "-accel", "tcg", "-nodefaults", "-display", "none", *machine),
            *("-chardev", f"socket,id=itstrace-qtest,fd={fds[0]}"),
            *("-object", "qtest,id=itstrace,chardev=itstrace-qtest,log=/dev/null"),
            *("-chardev", f"socket,id=itstrace-qmp,fd={fds[1]}"),
            *("-mon", "chardev=itstrace-qmp,mode=control"),
        ]
        if traced:
            options += [word for pattern in TRACED for word in ("-trace", pattern)]
            options += ["-D", f"/dev/fd/{log}"]
        try:
            self._process = subprocess.Popen(
                [binary, *options],
                pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, preexec_fn=die_with_parent,  # noqa: PLW1509 (no threads)
            )  # fmt: skip
        except OSError as error:
            self._let_go()
            raise TargetError(f"{binary}: {error.strerror}") from error
        finally:
            theirs.close()
            their_monitor.close()
            os.close(log)
        for fd in (self._test.fileno(), self._log):
            os.set_blocking(fd, False)
        self._monitor.settimeout(PATIENCE_SECONDS)
        try:
            self.version = self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> tuple[int, int, int]:
        greeting = self._message()
        try:
            numbers = greeting["QMP"]["version"]["qemu"]
            version = (int(numbers["major"]), int(numbers["minor"]), int(numbers["micro"]))
            self.package = str(greeting["QMP"]["version"].get("package", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise TargetError(f"{self._name}: its monitor does not greet as QEMU's does") from error
        self.ask("qmp_capabilities")
        return version

    # -- the monitor

    def _message(self) -> dict[str, Any]:
        try:
            line = self._stream.readline(MAX_REPLY_BYTES)
        except OSError as error:
            raise TargetError(f"{self._name}: its monitor does not answer") from error
        if not line:
            raise self._gone()
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TargetError(f"{self._name}: its monitor says what is no JSON") from error
        if not isinstance(message, dict):
            raise TargetError(f"{self._name}: its monitor says what is no message")
        return message

    def ask(self, execute: str, wait: str | None = None, **arguments: Any) -> Any:
        """Carry out a QMP command; return its answer, when the event `wait` has come too."""
        words = json.dumps({"execute": execute, "arguments": arguments})
        with suppress(OSError):  # its end is seen where it is read
            self._monitor.sendall(words.encode() + b"\n")
        answer: Any = None
        answered, seen = False, wait is None
        while not (answered and seen):
            message = self._message()
            if "error" in message:
                raise TargetError(f"{self._name}: {execute}: {message['error']!r:.200}")
            if "return" in message:
                answer, answered = message["return"], True
            seen = seen or message.get("event") == wait
        return answer

    # -- qtest

    def run(self, lines: Sequence[str]) -> list[str]:
        """Carry out qtest commands; return what stands behind each one's `OK`."""
        unsent = memoryview("".join(f"{line}\n" for line in lines).encode())
        replies: list[str] = []
        deadline = monotonic() + PATIENCE_SECONDS
        poll = select.poll()
        poll.register(self._log, select.POLLIN)
        poll.register(self._test, select.POLLIN | (select.POLLOUT if unsent else 0))
        while len(replies) < len(lines):
            ready = dict(poll.poll(1000))
            if self._log in ready:
                self._read_log()
            happened = ready.get(self._test.fileno(), 0)
            if happened & select.POLLOUT:
                unsent = unsent[self._send(unsent[:_SEND_BYTES]) :]
                if not unsent:
                    poll.modify(self._test, select.POLLIN)
            if happened & ~select.POLLOUT:
                replies += self._replies(lines, len(replies))
            if ready:
                deadline = monotonic() + PATIENCE_SECONDS
            elif monotonic() > deadline:
                raise TargetError(f"{self._name}: no answer to {lines[len(replies)]!r:.80}")
        return replies

    def _send(self, data: memoryview) -> int:
        try:
            return self._test.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone() from error

    def _replies(self, lines: Sequence[str], done: int) -> list[str]:
        try:
            data = self._test.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        if not data:
            raise self._gone()
        whole = (self._rest + data).split(b"\n")
        self._rest = whole.pop()
        if len(self._rest) > MAX_REPLY_BYTES:
            raise TargetError(f"{self._name}: an answer without an end")
        found: list[str] = []
        for line in whole:
            if line.startswith(b"IRQ "):
                continue
            if not line.startswith(b"OK") or done + len(found) >= len(lines):
                asked = lines[min(done + len(found), len(lines) - 1)]
                raise TargetError(f"{self._name}: {line!r:.80} is no answer to {asked!r:.80}")
            found.append(line[3:].decode("ascii", "replace"))
        return found

    # -- its log

    def _read_log(self) -> bool:
        with suppress(BlockingIOError):
            data = os.read(self._log, _CHUNK_BYTES)
            self._said += data
            if len(self._said) > MAX_LOG_BYTES:
                raise TargetError(f"{self._name}: logs without an end")
            return bool(data)
        return False

    def log(self) -> bytes:
        """Return what was logged since the last call; it ends with a line."""
        while self._read_log():
            pass
        said, self._said = self._said, b""
        return said

    # -- its end

    def _gone(self) -> TargetError:
        with suppress(subprocess.TimeoutExpired):
            _, said = self._process.communicate(timeout=5)
            words = said.decode("utf-8", "replace").strip().splitlines()
            code = self._process.returncode
            how = f"signal {-code}" if code < 0 else f"status {code}"
            return TargetError(f"{self._name}: ended with {how}: {' / '.join(words[-3:])}")
        return TargetError(f"{self._name}: closed its connection")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._let_go()

    def _let_go(self) -> None:
        self._stream.close()
        self._monitor.close()
        self._test.close()
        os.close(self._log)
