"""A QEMU that runs: its log as a stream, and beside it what its monitor tells and is asked.

A thread reads both; what comes of the log waits in a `Feed` for whoever writes the trace, and what
the monitor tells is put between. QEMU only ever waits for its log to be read. Counterparts:
`qemu_start` and `qemu_attach`, which reach a QEMU, `qemu_probe`, which looks at it, and `qemu_log`,
which reads what comes out here.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from time import monotonic
from typing import Any, Final, Protocol

from tracer.sources.qemu_control import Control, answer
from tracer.sources.qemu_feed import Feed
from tracer.sources.qemu_guard import Guard
from tracer.sources.qemu_machine import Machine, learn
from tracer.sources.qemu_probe import Log, Prober
from tracer.sources.qemu_vmstate import StateFile
from tracer.sources.qmp import RESETS, Ask, Qmp, Talk

MAX_LEARN_SECONDS: Final = 10.0
_STUCK_SECONDS: Final = 1.0
_CHUNK_BYTES: Final = 1 << 16
_LOOK_AGAIN_MS: Final = 200  # whether QEMU has ended, though a child of it holds the pipe
_FOLLOW_MS: Final = 20  # whether a file has grown
# event of the monitor -> its member that says why
NOTED: Final = {"RESET": "reason", "SHUTDOWN": "reason", "STOP": "", "RESUME": ""}


def told(message: dict[str, Any]) -> str | None:
    """Return an event of the monitor in words, with its reason, or None for one of no interest."""
    name = message["event"]
    if name not in NOTED:
        return None
    why = reason(message)
    return f"QMP: {name} ({why})" if why else f"QMP: {name}"


def reason(message: dict[str, Any]) -> str:
    """Return the reason that an event of the monitor gives, or nothing."""
    data = message.get("data")
    why = data.get(NOTED[message["event"]]) if isinstance(data, dict) else None
    return why[:40] if isinstance(why, str) and why.isascii() and why.isprintable() else ""


class EventLog(Log, Protocol):
    """Who writes the log's events: `qemu_log.QemuLog`."""

    def tick(self) -> None:
        """All that was read so far came before anything that the monitor tells later."""

    def tell(self, text: str) -> None:
        """The monitor told this, between the last tick and now."""

    def lose(self, count: int) -> None:
        """So many lines were dropped here."""


class Vm(Protocol):
    """How a QEMU is reached: `qemu_start.Started` or `qemu_attach.Attached`."""

    log: int
    monitor: socket.socket
    guard: Guard  # of the VM; whoever closes us ends it
    state: StateFile  # where it saves the state of its devices
    joined: bool  # whether the monitor's end is QEMU's, and we may leave before
    follows: bool  # whether the log is a file that may grow

    @property
    def undo(self) -> Sequence[Ask]:
        """What gives back the VM as it was."""

    def begin(self, prober: Prober, *, probe: bool) -> Talk:
        """What is done first."""

    def end(self, prober: Prober) -> Talk:
        """What is done when a VM that goes on is left."""

    def gone(self) -> bool:
        """Whether QEMU has ended; not known is False."""

    def nudge(self) -> None:
        """Make a QEMU that is about to end look again."""


class LiveQemu:
    """One QEMU, its log and its monitor; `feed` gives the log as a stream.

    `log` is to be set to whoever turns the stream into events before the stream is read. `ended`
    tells that no more will come of it.
    """

    def __init__(
        self,
        vm: Vm,
        *,
        control: Control | None = None,
        drop: bool = False,
        probe: bool = False,
        skip: frozenset[str] = frozenset(),
    ) -> None:
        self.log: EventLog | None = None
        self.machine = Machine()
        self.feed = Feed(self._lose, drop=drop)
        self._vm = vm
        self._control = control
        self._drop = drop
        self._probe = probe
        self._rest = b""  # a line that has not ended, when lines may be dropped
        self.ended = self._leaving = False
        self._failure: BaseException | None = None
        self._wait_ms = _LOOK_AGAIN_MS
        self._learned = Event()
        self._leaves_at = 0.0  # when the monitor said so
        self._tick = self._tick_now  # one object, which the feed knows again
        self._requests: deque[Callable[[], Talk]] = deque()
        self._wake, self._waker = os.pipe()
        self._undo: Sequence[Ask] = ()
        self._guard = vm.guard
        self._qmp = Qmp(vm.monitor)
        self._prober = Prober(self.machine, lambda: self.log, skip, self._guard, vm.state)
        self._poll = select.poll()
        for fd in (vm.monitor.fileno(), self._wake):
            self._poll.register(fd, select.POLLIN)
        if not vm.follows:
            self._poll.register(vm.log, select.POLLIN)
        if control:
            self._poll.register(control.fileno(), select.POLLIN)
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def learn(self) -> Machine:
        """Return what the monitor tells of the machine, after `MAX_LEARN_SECONDS` at most.

        What is not known by then, or when QEMU has ended, is missing.
        """
        self._learned.wait(MAX_LEARN_SECONDS)
        return self.machine

    def leave(self) -> None:
        """Give back a VM that goes on; may be called by a signal handler."""
        self._request(self._leave)

    def drain(self) -> None:
        """Read the log to its end for nothing, so that the VM can go on."""
        self.log = None
        self.feed.discard()
        self._thread.join()

    def close(self) -> None:
        """Let go of everything.

        Raises:
            BaseException: whatever ended the thread too early.
        """
        self.feed.discard()
        self._thread.join()
        if self._failure:
            self._guard.let_act()
        else:
            self._guard.dismiss()
        os.close(self._wake)
        os.close(self._waker)
        if self._failure:
            raise self._failure

    def _request(self, talk: Callable[[], Talk]) -> None:
        self._requests.append(talk)
        os.write(self._waker, b"!")

    # -- the thread

    def _run(self) -> None:
        try:
            self._qmp.start(self._begin())
            while not self.ended:
                self._step()
        except BaseException as error:  # noqa: BLE001 - `close` raises it
            self._failure = error
        finally:
            self.ended = True
            self.feed.close()
            self._learned.set()

    def _begin(self) -> Talk:
        yield from learn(self.machine)
        yield from self._vm.begin(self._prober, probe=self._probe)
        self._learned.set()

    def _leave(self) -> Talk:
        yield from self._vm.end(self._prober)
        self._leaving = True

    def _step(self) -> None:
        """Wait a moment; hand on what came of the log, and what the monitor said."""
        over = self._vm.gone() or self._over()
        self._unstick()
        self._qmp.look_at_clock()
        ready = self._ready(0 if over or self._qmp.call else self._wait_ms)
        self._take_requests(ready)
        if self._vm.monitor.fileno() not in ready:
            self.feed.call(self._tick, counts=False)
        data = self._read(ready)
        self._put(data)
        if self._vm.follows:
            self._wait_ms = 0 if data else _FOLLOW_MS
        if call := self._qmp.call:
            self._put_backlog()
            self.feed.call(call.function)
            self._qmp.called()
        if self._vm.monitor.fileno() in ready:
            self._hear()
        if (undo := self._vm.undo) != self._undo:
            self._undo = undo
            self._guard.undo(undo)
        # No bytes: the end of the pipe, or a QEMU that is gone and left its pipe to a child.
        if not data and (over or self._vm.log in ready):
            self._finish()

    def _over(self) -> bool:
        """Whether a VM that was joined needs nothing more of us."""
        return self._vm.joined and (self._qmp.closed or (self._leaving and self._qmp.idle))

    def _finish(self) -> None:
        self.ended = True
        while not self._qmp.closed and self._vm.monitor.fileno() in self._ready(0):
            self._hear()
        self._put(b"", last=True)

    def _take_requests(self, ready: set[int]) -> None:
        if self._control and self._control.fileno() in ready and (peer := self._control.accept()):
            self._requests.append(partial(self._prober.on_request, partial(answer, peer)))
        if self._wake in ready:
            os.read(self._wake, _CHUNK_BYTES)
        while self._requests:
            self._qmp.start(self._requests.popleft()())

    def _read(self, ready: set[int]) -> bytes:
        if self._vm.follows or self._vm.log in ready:
            return os.read(self._vm.log, _CHUNK_BYTES)
        return b""

    def _put(self, data: bytes, *, last: bool = False) -> None:
        if self._drop:
            whole, newline, rest = (self._rest + data).rpartition(b"\n")
            data, self._rest = (self._rest + data, b"") if last else (whole + newline, rest)
        if data:
            self.feed.put(data)

    def _put_backlog(self) -> None:
        """Hand on all that QEMU has logged by now; what it logs meanwhile may be left."""
        raw = fcntl.ioctl(self._vm.log, termios.FIONREAD, bytes(4))
        left: int = struct.unpack("i", raw)[0]
        while left > 0 and (data := os.read(self._vm.log, min(left, _CHUNK_BYTES))):
            self._put(data)
            left -= len(data)

    def _unstick(self) -> None:
        """End a QEMU that has said it leaves and does not.

        QEMU 7.2 waits without end when it is shut down while it owes an answer. Its guest is gone
        by then; this signal only makes it look again.
        """
        if self._leaves_at and self._qmp.owed and monotonic() > self._leaves_at + _STUCK_SECONDS:
            self._vm.nudge()
            self._leaves_at = monotonic()

    def _ready(self, wait_ms: int) -> set[int]:
        return {fd for fd, _ in self._poll.poll(wait_ms)}

    def _hear(self) -> None:
        for message in self._qmp.receive():
            if text := told(message):
                self._put_backlog()
                self.feed.call(partial(self._tell, text))
            if message["event"] == "SHUTDOWN":
                self._shut_down(reason(message))
        if self._qmp.closed:
            with suppress(KeyError):  # it is told once
                self._poll.unregister(self._vm.monitor.fileno())

    def _tick_now(self) -> None:
        if self.log:
            self.log.tick()

    def _lose(self, count: int) -> None:
        if self.log:
            self.log.lose(count)

    def _tell(self, text: str) -> None:
        if self.log:
            self.log.tell(text)

    def _shut_down(self, why: str) -> None:
        if not (self._probe and why in RESETS):
            self._leaves_at = monotonic()
        if self._probe:
            self._qmp.start(self._prober.shut_down(why))
