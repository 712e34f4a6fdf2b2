"""A QEMU that runs already: joined through a monitor of the user's, and left running.

Its trace events are switched on, and those that were off are switched off at the end. The log is
the file that its `-D` names, followed from its end; or else a pipe is made where none is, and QEMU
is told (`logfile`) to log there for as long. The counterpart is `qemu_start`.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

from tracer.errors import UsageError
from tracer.sources.qemu_guard import Guard
from tracer.sources.qemu_probe import DISARMED, Prober
from tracer.sources.qemu_start import TRACED
from tracer.sources.qemu_vmstate import StateFile
from tracer.sources.qmp import Ask, Step, Talk, monitor

_BACK: Final = monitor("logfile /dev/stderr")  # where QEMU logs when nothing is said


class Attached:
    """A QEMU that was joined; `log` is the descriptor that its log is read from.

    Raises:
        UsageError: monitor or log cannot be reached.
    """

    joined = True
    waits = False

    def __init__(self, qmp: str, log: str) -> None:
        self._path = Path(log)
        self._made = False
        self._on: list[str] = []  # events that were off
        self._armed = False
        self.log = self._open()
        state, name = tempfile.mkstemp(prefix="itstrace-state-")
        self.state = StateFile(state, name)
        self.follows = stat.S_ISREG(os.fstat(self.log).st_mode)
        self.monitor = socket.socket(socket.AF_UNIX)
        try:
            self.monitor.connect(qmp)
        except OSError as error:
            self.close()
            raise UsageError(f"{qmp}: {error.strerror or error}") from error
        self.guard = Guard(self.monitor, paused=False)

    def _open(self) -> int:
        """Open QEMU's log behind what is in it, or make a pipe."""
        try:
            if not self._path.exists():
                os.mkfifo(self._path, 0o600)
                self._made = True
            # A pipe that we hold open for writing, too, does not end when QEMU opens another log.
            writes = self._path.is_fifo()
            log = os.open(self._path, os.O_RDWR if writes else os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}") from error
        if not writes:
            os.lseek(log, 0, os.SEEK_END)
        return log

    @property
    def undo(self) -> Sequence[Ask]:
        """What gives back the VM as it was."""
        return (
            *((DISARMED,) if self._armed else ()),
            *(_switch(name, enable=False) for name in self._on),
            *((_BACK,) if self._made else ()),
        )

    def begin(self, prober: Prober, *, probe: bool) -> Talk:
        """Switch the events on, and look at every register while the VM runs."""
        yield from prober.running(self._prepare(prober, probe=probe))

    def _prepare(self, prober: Prober, *, probe: bool) -> Talk:
        if self._made:
            yield monitor(f"logfile {self._path.absolute()}")
        for pattern in TRACED:
            yield from self._switch_on(pattern)
        if probe:
            self._armed = True
            yield from prober.arm()

    def _switch_on(self, pattern: str) -> Generator[Step, Any, None]:
        events = yield Ask("trace-event-get-state", {"name": pattern})
        for event in events if isinstance(events, list) else ():
            if isinstance(event, dict) and event.get("state") == "disabled":
                self._on.append(str(event.get("name")))
        yield _switch(pattern, enable=True)

    def end(self, prober: Prober) -> Talk:
        """Give back the VM as it was."""
        if self._armed:
            self._armed = False
            yield from prober.disarm()
        for question in self.undo:  # noqa: UP028 - a tuple takes no answers
            yield question
        self._on = []

    def gone(self) -> bool:
        """Return False: that QEMU has ended shows at the monitor."""
        return False

    def nudge(self) -> None:
        """Leave alone what is not ours."""

    def close(self) -> None:
        """Let go of log, monitor and state."""
        os.close(self.log)
        os.close(self.state.fd)
        Path(self.state.name).unlink(missing_ok=True)
        self.monitor.close()
        if self._made:
            self._path.unlink(missing_ok=True)


def _switch(name: str, *, enable: bool) -> Ask:
    return Ask("trace-event-set-state", {"name": name, "enable": enable})
