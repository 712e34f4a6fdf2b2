"""A KVM host that is being recorded: the script of `kvm_script` runs on it, here or through ssh.

The script's standard input stays open: it is how the recorder is asked for a sample or told to
stop, and its end tells the host that we are gone. `Vms` reads what the script prints.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from tracer.errors import SourceError, UsageError
from tracer.sources.kvm_script import script

HERE: Final = "sh"
READY: Final = b"#its stream:"  # the shell has read all of the script: now it reads requests
GRACE_SECONDS: Final = 30  # what the script may take to remove what it made


class KvmHost:
    """The running script; a binary stream of what it prints."""

    def __init__(self, via: str | None = None, raw: BinaryIO | None = None) -> None:
        """Run the script with sh, or with the shell that the command line `via` starts.

        `raw` gets a copy of all that is read.

        Raises:
            UsageError: there is no such command.
        """
        self._raw = raw
        self._ready = False
        self._asked: list[str] = []
        command = shlex.split(via or HERE)
        try:
            with _ignoring_interrupts():  # they end the recording, and only we may end the script
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
        except (OSError, IndexError) as error:
            raise UsageError(f"{via!r:.200} cannot be run: {error}") from error
        self._send(script())

    def ask(self, word: str) -> None:
        """Ask for `sample`, or tell to `stop`; what comes too early is kept until it can be read."""
        if self._ready:
            self._send(f"{word}\n")
        else:
            self._asked.append(word)

    def read1(self, size: int) -> bytes:
        """Return what there is, at least one byte unless the script has ended."""
        assert self.process.stdout is not None
        data = self.process.stdout.read1(size)  # type: ignore[attr-defined]
        if self._raw is not None:
            self._raw.write(data)
        return bytes(data)

    read = read1

    def saw(self, line: bytes | None) -> None:
        """Notice in what was printed that the script has begun to listen."""
        if not self._ready and line is not None and line.startswith(READY):
            self._ready = True
            for word in self._asked:
                self.ask(word)

    def close(self) -> None:
        """Let the script end and clean up; do not wait for it without end."""
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self._drain()
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def check(self) -> None:
        """Check, at the end of the stream, that it was one.

        Raises:
            SourceError: the script did not even begin.
        """
        if not self._ready:
            status = self.process.wait()
            raise SourceError(f"the recorder did not begin: its shell ended with status {status}")

    def _drain(self) -> None:
        """Read on, so that a script that has something left to say can end."""
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            while self._ready and stream.read(1 << 16):
                pass

    def _send(self, text: str) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it is gone: the stream ends, and says so
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
