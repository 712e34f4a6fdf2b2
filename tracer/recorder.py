"""Records a device in the same process: it stands between the device and whoever uses it.

What is asked of the device is in the trace before the device is called, so that not even a crash
takes it away. Returns and exceptions pass through as they are; a trace that cannot be written stops,
and says so when it is closed. Counterpart: `tracer.device`, what it can wrap.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_exception_only
from types import TracebackType
from typing import Any, Final, Self

from tracer import events as ev, oplog
from tracer.device import Device
from tracer.errors import UsageError, WriteError
from tracer.events import NUMBER
from tracer.log import format as fmt
from tracer.log.header import IN_PROCESS, Header
from tracer.log.opening import create_output
from tracer.log.ring import Along, Ring
from tracer.log.stream import Writer
from tracer.recorded_memory import DeviceSide, GuestSide
from tracer.tape import Tape

_REG_WRITE: Final = NUMBER["reg.write"]
_REG_READ: Final = NUMBER["reg.read"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_GICR_READ: Final = NUMBER["gicr.read"]
_MSI: Final = NUMBER["msi"]
_MSI_RESULT: Final = NUMBER["msi.result"]
_ATTR_RESULT: Final = NUMBER["attr.result"]
_RESET: Final = NUMBER["reset"]
_SAVE: Final = NUMBER["save"]
_SAVE_PENDING: Final = NUMBER["save_pending"]
_RESTORE: Final = NUMBER["restore"]
_MARKER: Final = NUMBER["marker"]
_MSI_SIZE_BYTES: Final = 4
WAIT: Final = "wait"
DROP: Final = "drop"


class Recorder:
    """Wraps a device that nobody has used yet and writes a trace of its life to a new file.

    Use it in the device's place, and `memory` in the place of its guest RAM: what goes around them
    is not recorded. All calls must come from one thread: threads are not supported. At most
    `bound_events` events and `bound_ms` milliseconds of them are not yet in the file. After
    `close` the device goes on unrecorded.

    Args:
        device: what to record; its `memory` is exchanged until `close`.
        path: the new trace.
        clock: monotonic time in nanoseconds.
        force: overwrite the file.
        bound_events, bound_ms, codec, fsync: as `tracer.log.stream.Writer` takes them.
        when_full: `wait` for a file that is slower than the device is used, or `drop` events: a
            `loss` event then says how many.
        ring_bytes: keep only the last events, in at least so many bytes of frames, and write them
            out at the end, and when `dump` asks for it, as PATH with a number (`tracer.log.ring`).
        along: who knows the device's state, for a ring.
        known: keys of the trace's header that the caller knows, as `profile` and `cpus`.

    Raises:
        UsageError: the file exists, or cannot be made.
        WriteError: the header cannot be written.
    """

    def __init__(
        self,
        device: Device,
        path: str | Path,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        force: bool = False,
        codec: int = fmt.CODEC_ZSTD,
        bound_events: int = fmt.DEFAULT_BOUND_EVENTS,
        bound_ms: int = fmt.DEFAULT_BOUND_MS,
        fsync: bool = False,
        when_full: str = WAIT,
        ring_bytes: int | None = None,
        along: Along | None = None,
        **known: Any,
    ) -> None:
        self.device = device
        self.path = str(path)
        self._origin = ev.GUEST
        self._device: Any = device  # what it lacks raises AttributeError, as without us
        self._ram = device.memory
        header = replace(_header(self._ram.ranges), **known)
        drop = when_full == DROP
        if when_full not in (WAIT, DROP) or (drop and ring_bytes is not None):
            raise UsageError("when_full must be wait or drop, and wait for a ring")
        bounds: dict[str, Any] = {
            "codec": codec, "bound_events": bound_events, "bound_ms": bound_ms, "fsync": fsync,
        }  # fmt: skip
        with ExitStack() as stack:
            writer: Writer | Ring
            if ring_bytes is not None:
                writer = Ring(self.path, header, size_bytes=ring_bytes, along=along, **bounds)
            else:
                out = stack.enter_context(create_output(self.path, force=force))
                writer = Writer(out, header, name=self.path, background=drop, **bounds)
            self._tape = Tape(writer, clock, drop=drop)
            stack.callback(self._tape.close)
            self.memory = GuestSide(self._ram, self._tape)
            self.memory.record_contents()
            self._stack = stack.pop_all()
        self._view = DeviceSide(self._ram, self._tape)
        device.memory = self._view
        oplog.get("recorder", trace=self.path).info("recording begins")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except WriteError as failed:
            if error is None:
                raise
            error.add_note(str(failed))  # the device's own error is the one to see

    def close(self) -> None:
        """End the trace and give the device its memory back.

        Raises:
            WriteError: events are missing in the file, since now or since an earlier access.
        """
        if self.device.memory is self._view:
            self.device.memory = self._ram
        self._stack.close()
        oplog.get("recorder", trace=self.path).info("recording ends", events=self._tape.seq)
        failed, self._tape.failed = self._tape.failed, None
        if failed:
            raise failed

    @property
    def origin(self) -> int:
        """Who is accessing, as `tracer.events.ORIGINS` by index; the guest at first."""
        return self._origin

    @origin.setter
    def origin(self, origin: int) -> None:
        if origin not in range(len(ev.ORIGINS)):
            raise UsageError(f"origin must be 0 to {len(ev.ORIGINS) - 1}, not {origin!r:.40}")
        self._origin = origin

    # -- what the guest, the VMM and devices do

    def reg_read(self, offset: int, size: int = 8) -> int | None:
        """Read a register of the control frame; None when the device does not have it."""
        value: int | None = self._call(self._device.reg_read, offset, size)
        self._read(_REG_READ, (offset,), value, size)
        return value

    def reg_write(self, offset: int, value: int, size: int = 8) -> Any:
        """Write a register of the control frame."""
        call = self._device.reg_write
        if self._tape.input(_REG_WRITE, (offset, value, size), (self._origin,)):
            self._view.written(offset, value, size)
        return self._call(call, offset, value, size)

    def gicr_read(self, cpu: int, offset: int, size: int = 8) -> int | None:
        """Read a register of CPU `cpu`'s redistributor."""
        value: int | None = self._call(self._device.gicr_read, cpu, offset, size)
        self._read(_GICR_READ, (cpu, offset), value, size)
        return value

    def gicr_write(self, cpu: int, offset: int, value: int, size: int = 8) -> Any:
        """Write a register of CPU `cpu`'s redistributor."""
        call = self._device.gicr_write
        self._tape.input(_GICR_WRITE, (cpu, offset, value, size), (self._origin,))
        return self._call(call, cpu, offset, value, size)

    def msi(self, device_id: int, event_id: int) -> int | None:
        """Send an MSI."""
        call = self._device.msi
        tail = (None, _MSI_SIZE_BYTES, self._origin)
        self._tape.input(_MSI, (device_id, event_id), tail)
        return self._with_result(_MSI_RESULT, call, device_id, event_id)

    def reset(self, how: int = ev.SYSTEM) -> int | None:
        """Reset the device; `how` is one of `tracer.events.RESET_KINDS` by index."""
        call = self._device.reset
        known = how if how in range(len(ev.RESET_KINDS)) else None
        self._tape.input(_RESET, (known,), (self._origin,))
        self._view.was_reset()
        return self._with_result(_ATTR_RESULT, call, how)

    def save(self) -> int | None:
        """Have the tables written to guest RAM."""
        return self._ask(_SAVE, self._device.save)

    def save_pending(self) -> int | None:
        """Have the pending bits written to guest RAM."""
        return self._ask(_SAVE_PENDING, self._device.save_pending)

    def restore(self) -> int | None:
        """Have the tables read from guest RAM."""
        return self._ask(_RESTORE, self._device.restore)

    def marker(self, text: str) -> None:
        """Put a text into the trace here."""
        self._tape.note(_MARKER, text)

    def dump(self, reason: str) -> None:
        """Have a ring written out soon, if there is one."""
        if isinstance(self._tape.writer, Ring):
            self._tape.writer.ask(reason)

    @property
    def lost(self) -> int:
        """How many events were left out because the file was too slow."""
        return self._tape.lost

    # -- how

    def _ask(self, kind: int, call: Callable[[], int | None]) -> int | None:
        self._tape.input(kind, ())
        return self._with_result(_ATTR_RESULT, call)

    def _with_result(self, kind: int, call: Callable[..., int | None], *args: int) -> int | None:
        result = self._call(call, *args)
        if result is not None:
            self._tape.result(kind, result)
        return result  # type: ignore[no-any-return]

    def _read(self, kind: int, where: tuple[int, ...], value: int | None, size: int) -> None:
        if value is None:
            self._tape.add(kind, (*where, 0, size), (self._origin, 1))
        else:
            self._tape.add(kind, (*where, value, size), (self._origin,))

    def _call(self, call: Callable[..., Any], *args: int) -> Any:
        try:
            return call(*args)
        except BaseException as error:
            name = getattr(call, "__name__", "the device")
            self.marker(f"{name} raised {''.join(format_exception_only(error)).strip()}")
            self._tape.flush()  # it may be the last thing that happens
            raise


def _header(ranges: Any) -> Header:
    return Header(
        uuid=str(uuid.uuid4()),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        source=IN_PROCESS,
        order="total",
        cpus=1,
        ram_ranges=[[base, size] for base, size in ranges],
        clock="monotonic",
        guest_ram="complete",
    )
