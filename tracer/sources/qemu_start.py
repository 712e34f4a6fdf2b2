"""A QEMU that is started: the user's command line with a log and a monitor of our own added.

Both are inherited file descriptors: nothing is left on disk when one side is killed, and nobody
else can connect. QEMU ignores SIGPIPE, so a VM goes on when its recorder is gone. The counterpart
is `qemu_attach`, for one that runs already.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tracer.errors import UsageError
from tracer.sources.qemu_guard import Guard
from tracer.sources.qemu_probe import DISARMED, Prober
from tracer.sources.qemu_vmstate import StateFile
from tracer.sources.qmp import Ask, Talk

TRACED: Final = (
    "gicv3_its_*",
    "gicv3_redist_*read",
    "gicv3_redist_*write",
    "gicv3_icc_iar1_read",
    "resettable_phase_hold_exec",
)
_PIPE_BYTES: Final = 1 << 20
_REFUSED: Final = {
    "-D": "the trace comes through it",
    "-daemonize": "the recorder lives as long as the QEMU that it started",
}


def check_command(command: Sequence[str]) -> None:
    """Refuse what cannot be recorded; UsageError says which option and why."""
    for option, reason in _REFUSED.items():
        if has(command, option):
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


def has(command: Sequence[str], option: str) -> bool:
    """Return whether a command line holds `option`, with one dash or two."""
    return option in command or f"-{option}" in command


class Started:
    """A QEMU that runs as a child; `log` is the descriptor that its log is read from.

    Raises:
        UsageError: the command line cannot be recorded, or not be started.
    """

    joined = False
    follows = False  # the log is a pipe, which ends when QEMU does

    def __init__(self, command: Sequence[str], *, probe: bool) -> None:
        check_command(command)
        self._go = not has(command, "-S")
        self.waits = probe and self._go  # for us to look at it
        self.undo: Sequence[Ask] = (DISARMED,) if probe else ()
        state = os.memfd_create("itstrace-state")
        self.state = StateFile(state, f"/dev/fd/{state}")
        self.monitor, theirs = socket.socketpair()
        self.guard = Guard(self.monitor, paused=self.waits)  # before there is a VM to be left
        self.log, log = os.pipe()
        with suppress(OSError):  # a smaller pipe only makes QEMU wait more often
            fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        options = added(log, theirs.fileno(), stamps=not has(command, "-msg"))
        options += ["-S"] if self.waits else []
        try:
            self.process = subprocess.Popen(
                [*command, *options], pass_fds=(log, state, theirs.fileno())
            )
        except OSError as error:
            self.guard.dismiss()
            self.close()
            raise UsageError(f"{command[0]}: {error.strerror}") from error
        finally:
            os.close(log)
            theirs.close()

    def begin(self, prober: Prober, *, probe: bool) -> Talk:
        """Do what is to be done before anything else, when the machine is known."""
        if probe:
            yield from prober.power_on(go=self._go)

    def end(self, prober: Prober) -> Talk:
        """Nothing: the recording ends with QEMU."""
        del prober
        yield from ()

    def gone(self) -> bool:
        """Return whether QEMU has ended."""
        return self.process.poll() is not None

    def nudge(self) -> None:
        """Make a QEMU that is about to end look again."""
        self.process.terminate()

    def status(self) -> str:
        """Return in words how QEMU ended; it must have."""
        code = self.process.wait()
        return f"signal {-code}" if code < 0 else f"status {code}"

    def close(self) -> None:
        """Let go of log, monitor and state."""
        os.close(self.log)
        os.close(self.state.fd)
        self.monitor.close()
