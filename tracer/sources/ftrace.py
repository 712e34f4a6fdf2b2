"""Kernel trace text (tracefs, `trace-cmd report`, `perf script`) of one VM on a KVM host as events.

`kvm_mmio` shows the guest's accesses of all devices, and our kprobes those of the GIC, the commands,
the VMM's attributes and the MSIs; without them a trace is poorer, which it says. What the records do
not say themselves:
- a write's record comes before what it does, so commands belong to the write before them in their
  thread; a read's value comes in a second record;
- a command stands in the caller's stack, as many bytes above the stack pointer as the record of
  its fetch shows: of each record anew, and refused where that cannot be or changes. So does what a
  guest reads of the GIC;
- an MSI shows twice: the cached path, and behind a miss the slow path, in a worker when an irqfd
  sent it. One that the slow path takes over is one MSI;
- the order of what overlaps on two CPUs (`ftrace_order`).

Counterpart: `ftrace_vms`, which gives each VM of a host its own records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.sources import ftrace_attributes, ftrace_formats as ft
from tracer.sources.ftrace_order import WRITE_NS, Span
from tracer.sources.ftrace_places import Places
from tracer.sources.ftrace_queue import MAX_COMMANDS, RUNS_QUEUE, UNPLACED, Queue
from tracer.sources.ftrace_records import Fields, Record
from tracer.sources.ftrace_spans import MAX_THREADS, Spans
from tracer.sources.stats import Stats

NAME: Final = "ftrace"

_REG_READ, _REG_WRITE, _MSI = NUMBER["reg.read"], NUMBER["reg.write"], NUMBER["msi"]
_GICR_READ, _GICD_READ = NUMBER["gicr.read"], NUMBER["gicd.read"]
_READS: Final = (_REG_READ, _GICR_READ, _GICD_READ)
_WRITE_OF: Final = {
    _REG_READ: _REG_WRITE,
    _GICR_READ: NUMBER["gicr.write"],
    _GICD_READ: NUMBER["gicd.write"],
}
_WRITES: Final = frozenset(_WRITE_OF.values())
_COMMAND, _CREATE = NUMBER["command"], NUMBER["create"]
_HIT, _MISS, _MSI_RESULT = NUMBER["xlat.hit"], NUMBER["xlat.miss"], NUMBER["msi.result"]
_IOCTL, _IRQFD, _WORKER = (ev.MSI_PATHS.index(each) for each in ("ioctl", "irqfd", "worker"))
_SIZES: Final = (1, 2, 4, 8)


def recognise(start: bytes) -> bool:
    """Return whether a file that begins like this is kernel trace text with records of ours."""
    return (
        start.startswith(b"# tracer: ")
        or ft.FACT.match(start) is not None
        or b"\n#its stream: " in start
        or ft.HEAD.search(start) is not None
    )


@dataclass(slots=True)
class _Read:
    """A read that reached the vgic, which puts its value where `data` is."""

    gpa: int
    size: int
    data: int
    given: bool = False  # whether mr_ret has shown its value
    unshown: str | None = None  # why mr_ret has not


class Ftrace(Spans):
    """Turns one VM's records into events."""

    def __init__(self, stats: Stats, places: Places, *, returns: bool = False) -> None:
        """`returns`: whether the return of each access is recorded."""
        super().__init__(stats)
        self.places = places
        self.queue = Queue()
        self.born: bool | None = None  # whether the ITS was made in this trace; None: not yet seen
        self.vmm_seen = False  # whether any attribute was
        self.inputs = 0  # that can change what is mapped: a listing knows by it whether any came
        self._returns = returns
        self._kernel = False  # whether a thread of the kernel made this record
        self._fetches: dict[int, tuple[int, int]] = {}  # thread -> (gpa, offset) of a fetch
        self._asked = False  # whether a look-up of the translation cache has begun
        self._reads: dict[int, _Read] = {}  # thread -> its last one, until kvm_mmio has shown it
        # What -> how far it stands above the stack pointer, in this kernel.
        self._windows: dict[str, int] = {}

    def take(self, record: Record) -> None:
        """Take the VM's next record."""
        self._at(record)
        self._kernel = record.kernel
        if record.name == b"kvm_mmio":
            self._mmio(record.text)
        else:
            _HANDLERS[record.name](self, record.caller, record.fields or {})

    @property
    def busy(self) -> bool:
        """Whether something has begun and not ended."""
        return self._order.busy

    def listed(self, events: list[tuple[int, list[Any]]], *, overlap: bool) -> None:
        """Take a listing, (ns, event) in order, that just ended."""
        self._order.block(events, overlap=overlap)

    def made(self, *, born: bool) -> None:
        """Something was done with the ITS: the first of that tells whether its birth is shown."""
        if self.born is None:
            self.born = born

    # What `ftrace_attributes` calls.

    def begin(self, *event: Any, at_once: bool = False) -> Span:
        """Begin what this thread does now; what it did before is over."""
        self.inputs += event[0] < ev.FIRST_OUTPUT
        return self._begin(*event, at_once=at_once)

    def top(self) -> Span | None:
        """Return what this thread is doing."""
        return self._top()

    def pop(self) -> None:
        """End what this thread is doing."""
        self._pop()

    def effect(self, span: Span | None, kind: int, *values: Any) -> None:
        """Add an output to what caused it."""
        self._effect(span, kind, *values)

    def other(self) -> None:
        """The thread does something that is no concern of an ITS's."""
        self._skip()
        self._end(self._thread)

    def skip(self) -> None:
        """The record says nothing of an ITS's."""
        self._skip()

    def _ending(self, span: Span) -> None:
        commands = [event for _, event in span.effects if event[0] == _COMMAND]
        self.queue.place_commands(span, list(zip(commands, span.gpas, strict=False)))
        if span.expects and not commands:
            self.tell("commands ran that are not shown: there is no record of cmd")

    # -- the guest's accesses

    def _mmio(self, text: bytes) -> None:
        match = ft.MMIO.fullmatch(text.rstrip())
        if match is None:
            self._unread("this is not how the kernel prints kvm_mmio")
            return
        gpa = int(match[3], 16)
        read = self._reads.pop(self._thread, None) if match[1] == b"read" else None
        if read is not None and read.given and read.gpa == gpa:
            self._skip()  # mr_ret has told it
        else:
            self._access(match[1], gpa, int(match[2]), int(match[4], 16))

    def _unread(self, reason: str) -> None:
        self.stats.ours -= 1
        self.stats.gap(self.stats.lines, reason)
        self.gap(reason, self.stats.lines)

    def _access(self, how: bytes, gpa: int, size: int, value: int) -> None:
        """Take an access; `how` is as kvm_mmio says it, and bytes beyond `size` are not its own."""
        if size not in _SIZES:
            self._unread("an access of a size that no processor makes")
            return
        value &= (1 << 8 * size) - 1
        place = self.places.of(gpa)
        if how == b"read":
            self.places.read(gpa, value)
        if place is None:
            self.other()
            return
        read, where = place
        if read == _REG_READ:
            self.made(born=False)
            if not self.vmm_seen:
                self.tell(
                    "what the VMM did to the ITS is not shown: there is no record of set_attr"
                )
        if how == b"write":
            self._write(_WRITE_OF[read], where, value, size)
        else:
            self._read([read, 0, *where, value, size], arrived=how == b"read")

    def _write(self, kind: int, where: list[int], value: int, size: int) -> None:
        span = self.begin(kind, *where, value, size)
        if kind == _REG_WRITE:
            self.queue.written(span, where[0], value, size)
        if self._returns:
            return  # mmio_ret ends it
        span.end_ns += WRITE_NS
        if kind != _REG_WRITE or where[0] not in RUNS_QUEUE:
            self._pop()

    def _read(self, event: list[Any], *, arrived: bool) -> None:
        top = self._top()
        if not arrived:
            self._begin(*event[:1], *event[2:]).dropped = True  # until its value comes
        elif top is not None and top.event[0] in _READS and top.event[:-2] == event[:-2]:
            top.event[-2:] = event[-2:]
            if top.end_ns == top.start_ns:
                top.end_ns = self._now_ns
            top.time_ns = self._now_ns
            top.dropped = False
            self._pop()
        else:
            self._begin(*event[:1], *event[2:], at_once=True)

    def mw(self, caller: bytes, f: Fields) -> None:
        """A write reaches the vgic; eight bytes are shown, whatever its size."""
        self._access(b"write", f[b"gpa"], f[b"len"], f[b"val"])

    def mr(self, caller: bytes, f: Fields) -> None:
        """A read reaches the vgic."""
        if len(self._reads) >= MAX_THREADS:
            self._no_value_comes()
        last = self._reads.pop(self._thread, None)
        if last is not None and last.unshown is not None:
            self.tell(last.unshown)
        read = _Read(f[b"gpa"], f[b"len"], f[b"data"])
        self._reads[self._thread] = read
        self._access(b"unsatisfied-read", read.gpa, read.size, 0)

    def mr_ret(self, caller: bytes, f: Fields) -> None:
        """A read is over: its value is in the caller's stack, or in kvm_mmio's next record."""
        read = self._reads.get(self._thread)
        if read is None or read.given:  # the recording began in between
            self._skip()
            return
        words = self._on_stack("read", f, read.data - f[b"sp"], 1)
        if isinstance(words, str):
            self._skip()
            read.unshown = words
        else:
            self._access(b"read", read.gpa, read.size, words[0])
            read.given = True

    def _no_value_comes(self) -> None:
        """What was read and is not shown by now is not in the capture."""
        for read in self._reads.values():
            if read.unshown is not None:
                self.tell(read.unshown)
        self._reads.clear()

    def finish(self) -> list[Event]:
        """End everything and return the events that are left."""
        self._no_value_comes()
        return super().finish()

    def mmio_ret(self, caller: bytes, f: Fields) -> None:
        """A write is over, with all that it did."""
        self._skip()
        self._returns = True
        stack = self._open.get(self._thread, ())
        for span in stack:
            if span.event[0] in _WRITES:
                span.end_ns = self._now_ns
        self._end(self._thread)

    def mmio_rret(self, caller: bytes, f: Fields) -> None:
        """A read is over; its value comes in a later record."""
        self._skip()
        top = self._top()
        if top is not None and top.event[0] in _READS:
            top.end_ns = self._now_ns

    # -- commands

    def rd(self, caller: bytes, f: Fields) -> None:
        """32 bytes of guest RAM are about to be read: perhaps a command."""
        if len(self._fetches) >= MAX_THREADS:
            self._fetches.clear()
        self._fetches[self._thread] = (f[b"gpa"], f[b"data"] - f[b"sp"])

    def cmd(self, caller: bytes, f: Fields) -> None:
        """A return of kvm_read_guest: a command when it went back to the queue's loop."""
        gpa, offset = self._fetches.pop(self._thread, (None, None))
        known = caller.partition(b".")[0] in ft.COMMAND_CALLERS  # 5.10.223 has a .part.0 of it
        if ft.ADDRESS.fullmatch(caller):  # as trace-cmd and perf print it
            known = gpa is not None and self.queue.holds(gpa)
            if gpa is None:
                self.tell("which records are commands is not shown: callers are addresses")
        top = self._top()
        owner = top if top is not None and top.event[0] == _REG_WRITE else None
        words = self._words(f, offset) if known else None
        if words is None:
            self._skip()
            if known and owner is not None:
                owner.expects = False  # why it is not shown is told already
            return
        if owner is not None and len(owner.gpas) >= MAX_COMMANDS:
            self.tell("one access ran more commands than a queue holds: the rest is not used")
            return
        self._effect(owner, _COMMAND, UNPLACED if owner else 0, *words)
        if owner is not None:
            owner.gpas.append(gpa)

    def _words(self, f: Fields, offset: int | None) -> list[int] | None:
        """Return the four doublewords of a command, or None for what must not be guessed."""
        if b"stk" not in f:
            words = [f.get(b"dw%d" % at) for at in range(4)]
            return None if None in words else words  # type: ignore[return-value]
        if offset is None:
            self.tell("a command is not shown: where it was read to was not recorded")
            return None
        found = self._on_stack("command", f, offset, 4)
        if isinstance(found, str):
            self.tell(found)
            return None
        return found

    def _on_stack(self, what: str, f: Fields, offset: int, count: int) -> list[int] | str:
        """Return so many doublewords of the caller's stack, or why they must not be guessed."""
        stack = f.get(b"stk")
        if not isinstance(stack, tuple):
            return f"a {what} is not shown: the stack that holds it was not recorded"
        if not any(stack):  # the caller's frame pointer is in it
            return f"{what}s are not shown: trace-cmd and perf print arrays as zeros"
        at, rest = divmod(offset, ft.WORD_BYTES)
        if rest or not 0 <= at <= len(stack) - count:
            return f"{what}s are not shown: they stand outside of the stack that is recorded"
        if self._windows.setdefault(what, offset) != offset:
            return f"a {what} is not shown: it does not stand where this kernel keeps them"
        return list(stack[at : at + count])

    # -- MSIs

    def msi(self, caller: bytes, f: Fields) -> None:
        """An MSI by ioctl, or an irqfd's that its worker sends after a miss."""
        self._msi(self._begin, _WORKER if self._kernel else _IOCTL, f)

    def msi_ret(self, caller: bytes, f: Fields) -> None:
        """1 delivered, 0 blocked, or -errno."""
        top = self._top()
        owner = top if top is not None and top.event[0] == _MSI else None
        self._effect(owner, _MSI_RESULT, f[b"ret"])
        if f[b"ret"] == 1:
            self._delivered()
        if owner is not None:
            self._pop()

    def msic(self, caller: bytes, f: Fields) -> None:
        """The cached path: of the MSI that the thread is sending, or an irqfd's first attempt."""
        self._asked = True
        top = self._top()
        if top is None or top.event[0] != _MSI or top.effects:
            self._msi(self._nest, _IRQFD, f)

    def msic_ret(self, caller: bytes, f: Fields) -> None:
        """A hit or a miss; an irqfd's miss is tried again by a worker, and is no MSI yet."""
        top = self._top()
        if not self._asked and not self.inputs:  # the recording began in between
            self._skip()
            return
        if top is None or top.event[0] != _MSI:
            self._unread("the return of a cached translation that nobody asked for")
            return
        pair, alone = top.event[2:4], top.event[-1] == _IRQFD
        kind = _MISS if f[b"ret"] == ft.MISS else _HIT
        if alone and kind == _MISS:
            top.event[:] = [_MISS, 0, 0, *pair]
        else:
            self._effect(top, kind, *pair)
        if alone and kind == _HIT:
            self._effect(top, _MSI_RESULT, 1)
            self._delivered()
        if alone:
            self._pop()

    def _delivered(self) -> None:
        """An MSI went through: a guest has set up the ITS before, and that must be here."""
        if self.born and self.places.touched and not self.queue.seen:
            self.queue.seen = True  # said once
            self.lose(
                "records are missing: interrupts come through an ITS that no guest set up", None
            )

    def _msi(self, begin: Callable[..., Span], path: int, f: Fields) -> None:
        self.made(born=False)
        address = f[b"addr"]
        span = begin(_MSI, f[b"devid"], f[b"data"], address, 4, ev.GUEST, path)
        if not self.places.doorbell(address):
            span.dropped = True
            self._skip()

    # -- the device

    def create(self, caller: bytes, f: Fields) -> None:
        """The ITS device is made."""
        self.made(born=True)
        self.begin(_CREATE, at_once=True)

    def destroy(self, caller: bytes, f: Fields) -> None:
        """The ITS device goes, with its VM."""
        self._skip()


_HANDLERS: Final[dict[bytes, Callable[[Ftrace, bytes, Fields], None]]] = {
    b"rd": Ftrace.rd,
    b"cmd": Ftrace.cmd,
    b"mw": Ftrace.mw,
    b"mr": Ftrace.mr,
    b"mr_ret": Ftrace.mr_ret,
    b"mmio_ret": Ftrace.mmio_ret,
    b"mmio_rret": Ftrace.mmio_rret,
    b"msi": Ftrace.msi,
    b"msi_ret": Ftrace.msi_ret,
    b"msic": Ftrace.msic,
    b"msic_ret": Ftrace.msic_ret,
    b"create": Ftrace.create,
    b"destroy": Ftrace.destroy,
    **ftrace_attributes.HANDLERS,
}
