"""Kernel trace text (tracefs, `trace-cmd report`, `perf script`) of a KVM host as events.

`kvm_mmio` shows the guest's accesses; our kprobes show the commands, the VMM's attributes and the
MSIs, and without them a trace is poorer, which it says. What the records do not say themselves:
- a write's record comes before what it does, so commands belong to the write before them in their
  thread; a read's value comes in a second record;
- where in the queue a command stood: KVM always runs up to CWRITER, so it is counted back from there;
- an MSI shows twice: the cached path, and behind a miss the slow path, in a worker when an irqfd
  sent it. One that the slow path takes over is one MSI;
- the order of what overlaps on two CPUs (`ftrace_order`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.its.registers import gicr_register
from tracer.log.header import Header
from tracer.sources import ftrace_formats as ft
from tracer.sources.ftrace_order import WRITE_NS, Order, Span
from tracer.sources.lines import LineReader
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
_COMMAND, _RESULT = NUMBER["command"], NUMBER["attr.result"]
_HIT, _MISS, _MSI_RESULT = NUMBER["xlat.hit"], NUMBER["xlat.miss"], NUMBER["msi.result"]
_SAVE, _RESTORE, _RESET = NUMBER["save"], NUMBER["restore"], NUMBER["reset"]
_ATTRIBUTES: Final = (NUMBER["init"], NUMBER["attr.set"], _REG_WRITE, _SAVE, _RESTORE, _RESET)
_LOSS, _GAP = NUMBER["loss"], NUMBER["source.gap"]

_CTLR, _CBASER, _CWRITER = 0x0, 0x80, 0x88
_COMMAND_OFFSET: Final = 0xF_FFE0
_COMMAND_BYTES: Final = 32
_MAX_QUEUE_BYTES: Final = 1 << 20
_IOCTL, _IRQFD, _WORKER = (ev.MSI_PATHS.index(each) for each in ("ioctl", "irqfd", "worker"))
_SIZES: Final = (1, 2, 4, 8)
_MAX_SECONDS: Final = 9_000_000_000  # a dt between any two times fits 64 bits

_ADDR: Final = re.compile(rb"group=0 attr=(?:0x)?4 [^\n]{0,80}?val=0x([0-9a-f]{1,16})")
_READ: Final = re.compile(rb"mmio read len [48] gpa 0x([0-9a-f]{1,16}) val 0x([0-9a-f]{1,16})")
_RELEASE: Final = re.compile(rb"(?m:^)# os release : ([0-9]{1,4}(?:\.[0-9]{1,6}){1,3})")
_GICR_TYPER: Final = 0x8
_LAST: Final = 1 << 4

Fields = dict[bytes, Any]


def recognise(start: bytes) -> bool:
    """Return whether a file that begins like this is kernel trace text with records of ours."""
    return start.startswith(b"# tracer: ") or ft.HEAD.search(start) is not None


def enough(start: bytes) -> bool:
    """Return whether a beginning tells all that `header` can guess."""
    return bool(_ADDR.search(start)) and _cpus(start) > 0


def _cpus(start: bytes) -> int:
    """Return the number of redistributors: the guest looks for the one with GICR_TYPER.Last."""
    for cpu, offset, value in _redistributors(start):
        if offset == _GICR_TYPER and value & _LAST:
            return cpu + 1
    return 0


def _redistributors(start: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (CPU, offset, value) of each redistributor register that was read."""
    for match in _READ.finditer(start):
        cpu, offset = divmod(int(match[1], 16) - ft.GICR_BASE, ft.GICR_BYTES)
        if 0 <= cpu < ft.MAX_GICRS:
            yield cpu, offset, int(match[2], 16)


def header(start: bytes) -> Header:
    """Return what the beginning tells; the kernel's version it tells only in `perf script`."""
    base, cpus, release = _ADDR.search(start), _cpus(start), _RELEASE.search(start)
    touched = max((cpu + 1 for cpu, _, _ in _redistributors(start)), default=0)
    version = release[1].decode() if release else "6.1.192"
    guessed = ["command.queue_offset", "gicd_base", "gicr_base"]
    guessed += [] if release else ["implementation_version", "profile"]
    guessed += [] if base else ["its_bases"]
    guessed += ["cpus"] if touched and not cpus else []
    return Header(
        source=NAME,
        order="per_cpu",
        implementation="linux-kvm",
        implementation_version=version,
        profile=f"linux-{version}",
        its_bases=[int(base[1], 16) if base else ft.ITS_BASE],
        cpus=cpus or touched or None,
        clock="trace",
        guest_ram="observed",
        guessed=sorted(guessed),
        annotations={"gicd_base": hex(ft.GICD_BASE), "gicr_base": hex(ft.GICR_BASE)},
    )


class Ftrace:
    """Turns lines into events. `header` says where the ITS is until an attribute says it."""

    def __init__(self, reader: LineReader, header: Header) -> None:
        self.stats = Stats()
        self._reader = reader
        self._base = (header.its_bases or [ft.ITS_BASE])[0]
        known = header.cpus is not None and "cpus" not in header.guessed
        self._gicrs = header.cpus if known and header.cpus else ft.MAX_GICRS
        self._order = Order()
        self._open: dict[int, list[Span]] = {}  # thread -> its spans, an interrupt's on top
        self._now_ns = self._thread = self._cpu = 0
        self._worker = False  # whether a kernel worker made this record
        self._cwriter = self._creadr = 0
        self._queue_bytes = _MAX_QUEUE_BYTES
        self._enabled = False
        self._told: set[str] = set()
        self._vmm_seen = False  # whether any attribute was

    def events(self) -> Iterator[Event]:
        """Yield the events of the whole text."""
        for line in self._reader:
            self.stats.lines += 1
            self._take(line)
            yield from self._order.give(self._now_ns)
        for thread in list(self._open):
            self._end(thread)
        yield from self._order.give(None)

    # -- one line

    def _take(self, line: bytes | None) -> None:
        if line is None:
            self.gap("the line is longer than any record of the kernel's")
            return
        head = ft.HEAD.search(line)
        if head is None:
            self._headless(line)
        elif not self._reader.complete:
            # The last line lacks its newline: its last number may lack digits.
            self.stats.cut_last_line = True
        else:
            self._record(line, head)

    def _headless(self, line: bytes) -> None:
        lost = ft.LOSS.search(line)
        entries = ft.ENTRIES.match(line)
        if lost:
            self._lose("the kernel's ring buffer was full", lost[1] or lost[2] or lost[3])
        elif entries and int(entries[1]) < int(entries[2]):
            overwritten = int(entries[2]) - int(entries[1])
            self._lose("the kernel's ring buffer overwrote the oldest records", overwritten)
        elif not any(mark in line for mark in ft.MARKS):
            self.stats.skipped += 1
        elif not self._reader.complete:
            self.stats.cut_last_line = True
        else:
            self.gap("a record of ours without its head, or with a damaged one")

    def _record(self, line: bytes, head: re.Match[bytes]) -> None:
        before = line[max(head.start() - ft.MAX_TASK_BYTES, 0) : head.start()]
        task = ft.TASK.search(before)
        if task is None or int(head[2]) > _MAX_SECONDS:
            self.gap("a record of ours without a thread or a time")
            return
        self._now_ns = int(head[2]) * 10**9 + int(head[3].ljust(9, b"0"))
        self._thread, self._cpu = int(task[1]), int(head[1])
        self._worker = b"kworker" in before
        self.stats.ours += 1
        name, text = head[4], line[head.end() :].rstrip()
        if name == b"kvm_mmio":
            self._mmio(text)
        else:
            self._probe(name, text)

    def _mmio(self, text: bytes) -> None:
        match = ft.MMIO.fullmatch(text)
        if match is None or int(match[2]) not in _SIZES:
            self._misread("this is not how the kernel prints kvm_mmio")
            return
        place = self._place(int(match[3], 16))
        if place is None:
            self._skip()
            self._end(self._thread)
            return
        read, where = place
        if read == _REG_READ and not self._vmm_seen:
            self._tell("what the VMM did to the ITS is not shown: there is no record of set_attr")
        size, value = int(match[2]), int(match[4], 16)
        if match[1] == b"write":
            self._write(_WRITE_OF[read], where, value, size)
        else:
            self._read([read, 0, *where, value, size], arrived=match[1] == b"read")

    def _place(self, gpa: int) -> tuple[int, list[int]] | None:
        """Return the kind that reads it, and where: an offset, of a redistributor its CPU first."""
        if 0 <= gpa - self._base < ft.ITS_BYTES:
            return _REG_READ, [gpa - self._base]
        if gpa == ft.GICD_BASE + ft.GICD_CTLR:
            return _GICD_READ, [ft.GICD_CTLR]
        cpu, offset = divmod(gpa - ft.GICR_BASE, ft.GICR_BYTES)
        if 0 <= cpu < self._gicrs and offset < ft.ITS_REGISTERS_BYTES and gicr_register(offset):
            return _GICR_READ, [cpu, offset]
        return None

    def _probe(self, name: bytes, text: bytes) -> None:
        match = ft.PROBE.fullmatch(text)
        needed = ft.RECORDS[name] or ()
        fields = None if match is None else _numbers(match[2])
        if match is None or fields is None or any(fields.get(each) is None for each in needed):
            self._misread(f"this is not how our probe {name.decode()} prints")
            return
        _HANDLERS[name](self, match[1].partition(b"+")[0], fields)

    # -- what is said beside events

    def gap(self, reason: str) -> None:
        """Note a line of ours that could not be understood."""
        self.stats.gap(self.stats.lines, reason)
        self._order.note(self._now_ns, _GAP, reason, self.stats.lines)

    def _misread(self, reason: str) -> None:
        self.stats.ours -= 1
        self.gap(reason)

    def _skip(self) -> None:
        self.stats.ours -= 1
        self.stats.skipped += 1

    def _tell(self, reason: str) -> None:
        """Say once what the capture does not have."""
        if reason not in self._told:
            self._told.add(reason)
            self._order.note(self._now_ns, _GAP, reason)

    def _lose(self, reason: str, count: bytes | int | None) -> None:
        """Note lost records, which may be of any input that has not ended."""
        self.stats.ours += 1
        for span in chain.from_iterable(self._open.values()):
            span.expects = False
        self._order.doubt(self._now_ns, _LOSS, reason, None if count is None else int(count))

    # -- spans

    def _begin(self, *event: Any, at_once: bool = False) -> Span:
        """Begin what this thread does now; what it did before is over."""
        self._end(self._thread)
        return self._nest(*event, at_once=at_once)

    def _nest(self, *event: Any, at_once: bool = False) -> Span:
        """Begin what interrupts what the thread does."""
        span = Span(self._thread, self._cpu, self._now_ns, [event[0], 0, *event[1:]])
        self._order.begin(span)
        if at_once:
            self._order.close(span)
        else:
            self._open.setdefault(self._thread, []).append(span)
        return span

    def _top(self) -> Span | None:
        stack = self._open.get(self._thread)
        return stack[-1] if stack and not stack[-1].closed else None

    def _pop(self) -> None:
        stack = self._open[self._thread]
        self._close(stack.pop())
        if not stack:
            del self._open[self._thread]

    def _end(self, thread: int) -> None:
        for span in self._open.pop(thread, ()):
            self._close(span)

    def _close(self, span: Span) -> None:
        commands = [event for _, event in span.effects if event[0] == _COMMAND]
        for back, event in enumerate(reversed(commands), 1):
            event[3] = (span.commands - back * _COMMAND_BYTES) % self._queue_bytes
        self._order.close(span)
        if span.expects and not commands:
            self._tell("commands ran that are not shown: there is no record of cmd")

    def _effect(self, span: Span | None, kind: int, *values: Any) -> None:
        """Add an output to what caused it; without one its cause is not known."""
        if span is None:
            self._nest(kind, 0, *values, at_once=True)
        else:
            span.add(self._now_ns, [kind, 0, 0, *values])

    # -- the guest's accesses

    def _write(self, kind: int, where: list[int], value: int, size: int) -> None:
        span = self._begin(kind, *where, value, size)
        span.end_ns += WRITE_NS
        if kind == _REG_WRITE:
            self._its_write(span, where[0], value)
        if kind != _REG_WRITE or where[0] not in (_CTLR, _CWRITER, _CWRITER + 4):
            self._pop()

    def _its_write(self, span: Span, offset: int, value: int) -> None:
        """Follow the queue: where it ends, and whether this write makes KVM run it."""
        if offset == _CBASER and not self._enabled:
            self._queue_bytes = ((value & 0xFF) + 1) << 12
            self._cwriter = self._creadr = 0
        elif offset == _CWRITER and value & _COMMAND_OFFSET < self._queue_bytes:
            self._cwriter = value & _COMMAND_OFFSET
        elif offset == _CTLR:
            self._enabled = bool(value & 1)
        span.commands = self._cwriter
        if self._enabled and offset in (_CTLR, _CWRITER):
            span.expects = self._cwriter != self._creadr
            self._creadr = self._cwriter

    def _read(self, event: list[Any], *, arrived: bool) -> None:
        top = self._top()
        if not arrived:
            self._begin(*event[:1], *event[2:]).dropped = True  # until its value comes
        elif top is not None and top.event[0] in _READS and top.event[:-2] == event[:-2]:
            top.event[-2:] = event[-2:]
            top.time_ns = top.end_ns = self._now_ns
            top.dropped = False
            self._pop()
        else:
            self._begin(*event[:1], *event[2:], at_once=True)

    # -- our probes

    def cmd(self, caller: bytes, f: Fields) -> None:
        """A return of kvm_read_guest: a command when it went back to the queue's loop."""
        if ft.ADDRESS.fullmatch(caller):
            self._tell("which records are commands is not shown: callers are addresses")
        if caller not in ft.COMMAND_CALLERS:
            self._skip()
            return
        top = self._top()
        owner = top if top is not None and top.event[0] == _REG_WRITE else None
        self._effect(owner, _COMMAND, 0, *(f[b"dw%d" % at] for at in range(4)))

    def set_attr(self, caller: bytes, f: Fields) -> None:
        """The VMM sets an attribute of the ITS."""
        self._vmm_seen = True
        group, attr, value = f[b"group"], f[b"attr"], f.get(b"val")
        if group == ft.GROUP_CTRL and attr in _CTRL:
            self._begin(*_CTRL[attr])
            if attr == ft.CTRL_RESET:
                self._cwriter = self._creadr = 0
                self._enabled = False
        elif group == ft.GROUP_REGS and value is not None:
            span = self._begin(_REG_WRITE, attr, value, 8, ev.VMM)
            self._its_write(span, attr, value)
        else:
            if group == ft.GROUP_ADDR and attr == ft.ADDR_ITS and value is not None:
                self._base = value
            self._begin(NUMBER["attr.set"], 0, group, attr, value)

    def set_attr_ret(self, caller: bytes, f: Fields) -> None:
        """The attribute's result."""
        top = self._top()
        owner = top if top is not None and top.event[0] in _ATTRIBUTES else None
        self._effect(owner, _RESULT, f[b"ret"])
        if owner is not None:
            self._pop()

    def tables(self, kind: int) -> None:
        """The function behind SAVE_TABLES or RESTORE_TABLES: of itself only without set_attr."""
        top = self._top()
        if top is None or top.event[0] != kind:
            self._begin(kind, at_once=True)

    def msi(self, caller: bytes, f: Fields) -> None:
        """An MSI by ioctl, or an irqfd's that its worker sends after a miss."""
        self._msi(self._begin, _WORKER if self._worker else _IOCTL, f)

    def msi_ret(self, caller: bytes, f: Fields) -> None:
        """1 delivered, 0 blocked, or -errno."""
        top = self._top()
        owner = top if top is not None and top.event[0] == _MSI else None
        self._effect(owner, _MSI_RESULT, f[b"ret"])
        if owner is not None:
            self._pop()

    def msic(self, caller: bytes, f: Fields) -> None:
        """The cached path: of the MSI that the thread is sending, or an irqfd's first attempt."""
        top = self._top()
        if top is None or top.event[0] != _MSI or top.effects:
            self._msi(self._nest, _IRQFD, f)

    def msic_ret(self, caller: bytes, f: Fields) -> None:
        """A hit or a miss; an irqfd's miss is tried again by a worker, and is no MSI yet."""
        top = self._top()
        if top is None or top.event[0] != _MSI:
            self._misread("the return of a cached translation that nobody asked for")
            return
        pair, alone = top.event[2:4], top.event[-1] == _IRQFD
        kind = _MISS if f[b"ret"] == ft.MISS else _HIT
        if alone and kind == _MISS:
            top.event[:] = [_MISS, 0, 0, *pair]
        else:
            self._effect(top, kind, *pair)
        if alone and kind == _HIT:
            self._effect(top, _MSI_RESULT, 1)
        if alone:
            self._pop()

    def _msi(self, begin: Callable[..., Span], path: int, f: Fields) -> None:
        address = f[b"addr"]
        span = begin(_MSI, f[b"devid"], f[b"data"], address, 4, ev.GUEST, path)
        if not 0 <= address - self._base < ft.ITS_BYTES:
            span.dropped = True
            self._skip()


def _numbers(text: bytes) -> Fields | None:
    """Return name -> number of ` name=value ...`; None for memory that was not readable."""
    fields: Fields = {}
    for part in text.split():
        name, _, value = part.partition(b"=")
        if value == ft.FAULT:
            fields[name] = None
            continue
        if not ft.NUMBER.fullmatch(value):
            return None
        number = int(value, 16 if value.startswith(b"0x") else 10)
        if name == b"ret":
            number = _signed(number)
        if not -(1 << 63) <= number < 1 << 64 or (number < 0 and name != b"ret"):
            return None
        fields[name] = number
    return fields


def _signed(number: int) -> int:
    """Return what a C `int` makes of a number that was printed without its sign."""
    return (number & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000


_CTRL: Final[dict[int, tuple[int, ...]]] = {
    ft.CTRL_INIT: (NUMBER["init"], None),  # type: ignore[dict-item]
    ft.CTRL_SAVE: (_SAVE,),
    ft.CTRL_RESTORE: (_RESTORE,),
    ft.CTRL_RESET: (_RESET, ev.CTRL_RESET, ev.VMM),
}

_HANDLERS: Final[dict[bytes, Callable[[Ftrace, bytes, Fields], None]]] = {
    b"cmd": Ftrace.cmd,
    b"set_attr": Ftrace.set_attr,
    b"set_attr_ret": Ftrace.set_attr_ret,
    b"save": lambda log, caller, f: log.tables(_SAVE),
    b"restore": lambda log, caller, f: log.tables(_RESTORE),
    b"msi": Ftrace.msi,
    b"msi_ret": Ftrace.msi_ret,
    b"msic": Ftrace.msic,
    b"msic_ret": Ftrace.msic_ret,
}
