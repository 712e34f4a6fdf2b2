"""QEMU's trace log (`-trace 'gicv3_its_*' -trace resettable_phase_hold_exec -D FILE`) as events.

What makes it harder than a table of formats (`qemu_formats`):
- a register write's line comes after the commands that it ran, so those are held until it comes;
  a TRANSLATER write's line comes before its effects;
- ITT_addr is shifted by 8 in MAPD and in a DTE write, VPT_addr by 16 in VMAPP and VTE lines;
- a command's four doublewords are not all printed, so an event says which bits are known;
- an entry written with V=0 prints the request: what is stored is zero, and the fields say nothing;
- a reset of the ITS shows only as the hold phase of an object of type arm-gicv3-its;
- QEMU's own messages may share the file, and one of them lacks its newline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.its.commands import BY_NAME, encode, known_masks
from tracer.its.lpi import FIRST_LPI
from tracer.its.registers import gicr_register
from tracer.log.header import MAX_CPUS, Header
from tracer.sources.lines import LineReader
from tracer.sources.qemu_formats import PATTERNS
from tracer.sources.stats import Stats

NAME: Final = "qemu-log"
# A queue of 1 MiB holds 32,768 commands, each with some table accesses.
MAX_HELD_EVENTS: Final = 1 << 18

_REG_READ, _REG_WRITE, _MSI = NUMBER["reg.read"], NUMBER["reg.write"], NUMBER["msi"]
_GICR_READ, _GICR_WRITE = NUMBER["gicr.read"], NUMBER["gicr.write"]
_ACK, _LIVE, _MEM_READ = NUMBER["lpi.ack"], NUMBER["lpi.live"], NUMBER["mem.read"]
_COMMAND, _RESET, _GAP = NUMBER["command"], NUMBER["reset"], NUMBER["source.gap"]
_MARKER, _LOSS, _PROBE = NUMBER["marker"], NUMBER["loss"], NUMBER["probe"]
_READ, _WRITE, _FAULT = NUMBER["table.read"], NUMBER["table.write"], NUMBER["table.fault"]

_MARK: Final = b"gicv3_its_"
_WRITES: Final = (b"gicv3_its_write", b"gicv3_its_badwrite")
_GICR_MARK: Final = b"gicv3_redist_"
_ACK_MARK: Final = b"gicv3_icc_iar1_read"
_INTID_END: Final = 1 << 24  # what ICC_IAR1 has room for
# The ITS of QEMU itself, or its side of one of KVM's.
_RESET_LINE: Final = re.compile(
    rb"resettable_phase_hold_exec obj=0x[0-9a-f]+\((?:arm-gicv3-its|arm-its-kvm)\) method=[01]"
)
_RESET_MARK: Final = b"(arm-gicv3-its)"
_KVM_RESET_MARK: Final = b"(arm-its-kvm)"
_STAMP: Final = re.compile(rb"(?m:^)(?:[0-9]{1,10})@([0-9]{1,10})\.([0-9]{6}):")
_OTHER_MARKS: Final = (_ACK_MARK, _GICR_MARK, _RESET_MARK, _KVM_RESET_MARK)
# lookup_ite's message about a DeviceID has no newline: the next line begins right behind it.
_GLUED: Final = re.compile(
    rb".*invalid command attributes: devid -?[0-9]+>=-?[0-9]+"
    rb"(?:@([0-9]{1,10})\.([0-9]{6}):)?(?=gicv3_|resettable_)"
)
# A dt between any two times of this many seconds fits 64 bits.
_MAX_SECONDS: Final = 9_000_000_000


def recognise(start: bytes) -> bool:
    """Return whether a file that begins like this is one of QEMU's trace logs."""
    return _MARK in start or b"resettable_phase_hold_exec obj=" in start


def enough(start: bytes) -> bool:
    """Return whether a beginning tells all that `header` can guess."""
    return _RESET_MARK in start or _MARK in start


def header(start: bytes) -> Header:
    """Return what the beginning of a log tells; all of it beyond the source is guessed."""
    objects = set(re.findall(rb"hold_exec obj=(0x[0-9a-f]+)\([a-z0-9.-]*-arm-cpu\)", start))
    cpus = len(objects) if len(objects) <= MAX_CPUS else 0
    newer = re.search(rb"\(arm-gicv3-its\) method=1", start) is not None
    guessed = ["implementation", "implementation_version", "profile", "reset.how", "its_bases"]
    if cpus:
        guessed.append("cpus")
    return Header(
        source=NAME,
        order="total",
        implementation="qemu-tcg",
        implementation_version="10.0.13" if newer else "7.2.22",
        profile="qemu-10.0.13" if newer else "qemu-7.2.22",
        its_bases=[0x8080000],
        cpus=cpus or None,
        clock="realtime" if _STAMP.search(start) else "none",
        guest_ram="observed",
        guessed=sorted(guessed),
    )


class QemuLog:
    """Turns lines into events; what is held belongs to an input whose own line is still to come."""

    def __init__(self, reader: LineReader, *, running: bool = False) -> None:
        """`running`: the log begins in the middle of a life."""
        self.stats = Stats()
        self.lost = 0  # lines that were dropped
        self._reader = reader
        self._out: list[Event] = []
        self._held: list[tuple[int, list[Any]]] = []  # (time, event without its time and cause)
        self._command: list[Any] | None = None  # waits for the line that names its fields
        self._since_msi = 0  # events since an MSI whose effects may still come; 0: none
        self._resets = 0
        self._time_ns = 0
        self._last_ns = 0
        self._any = running  # whether the ITS was there before: no reset is the first
        self._asked: tuple[int | None, int, int] | None = None  # what we read ourselves
        self._count = self._ticked = 0  # events so far, and at the last tick

    def events(self) -> Iterator[Event]:
        """Yield the events of the whole log, in the order in which the device saw them."""
        stats, out = self.stats, self._out
        for line in self._reader:
            stats.lines += 1
            self._take(line)
            if out:
                yield from out
                out.clear()
        self._finish()
        yield from self.rest()

    def rest(self) -> Iterator[Event]:
        """Yield what was noted behind the last line."""
        yield from self._out
        self._out.clear()

    def _take(self, line: bytes | None) -> None:
        if line is None:
            self.gap("the line is longer than any line of QEMU's")
            self._orphan()
            return
        at = line.find(_MARK)
        if at < 0 and not any(mark in line for mark in _OTHER_MARKS):
            self.stats.skipped += 1
        elif not self._reader.complete:
            # The last line lacks its newline: its last number may lack digits.
            self.stats.cut_last_line = True
        else:
            self._line(line.rstrip(b"\r"), at)

    def _finish(self) -> None:
        self._lose_input()

    def _lose_input(self) -> None:
        """The input that is waited for will not come."""
        if not self._held:
            return
        reason = f"{len(self._held)} effects of a write whose own line is not in the log"
        if not self.stats.cut_last_line:
            self.stats.gap(self.stats.lines, reason)
        self._emit(_GAP, reason)
        self._orphan()

    # -- one line

    def _line(self, line: bytes, at: int) -> None:
        stamp = _GLUED.match(line) or _STAMP.match(line)
        if stamp:
            if stamp[1] and int(stamp[1]) <= _MAX_SECONDS:
                self._time_ns = int(stamp[1]) * 10**9 + int(stamp[2]) * 1000
            line = line[stamp.end() :]
        name, _, text = line.partition(b" ")
        known = PATTERNS.get(name)
        if known is None:
            self._other(line, name, at)
            return
        match = known[0].fullmatch(text)
        if match is None:
            self.gap(f"this is not how QEMU prints {name.decode('ascii', 'replace')}")
            if name in _WRITES:
                self._orphan()
            return
        self.stats.ours += 1
        _HANDLERS[name](self, *map(int, match.groups(), known[1]))

    def _other(self, line: bytes, name: bytes, at: int) -> None:
        if _RESET_LINE.fullmatch(line):
            self.stats.ours += 1
            self._reset()
        elif b"resettable_phase_hold_exec" in line and (
            _RESET_MARK in line or _KVM_RESET_MARK in line
        ):
            self.gap("a reset of the ITS, damaged")
        elif at < 0 or name.endswith(b":"):
            # Another device's line, or QEMU's own message about a guest error in our functions.
            self.stats.skipped += 1
        else:
            self.gap("an ITS event that this itstrace does not know, or a damaged line")
            self._orphan()  # it may have been the write that they wait for

    def gap(self, reason: str) -> None:
        """Note a line of ours that could not be understood."""
        self.stats.gap(self.stats.lines, reason)
        self._command = None
        self._emit(_GAP, reason, self.stats.lines)

    # -- what is said beside the log; the counterpart is `qemu_live`

    def note(self, text: str) -> None:
        """Put a marker before the next event; effects still find their input behind it."""
        self._emit(_MARKER, text)

    def tick(self) -> None:
        """All that was read so far came before anything that the monitor tells later."""
        self._ticked = self._count

    def tell(self, text: str) -> None:
        """The monitor told this on a stream of its own: between the last tick and now."""
        self.note(f"{text}; not before event {self._ticked}, not after event {self._count}")

    def lose(self, count: int) -> None:
        """Lines were dropped here, because the trace could not be written as fast as they came."""
        self.lost += count
        self._lose_input()
        self._emit(_LOSS, "the trace could not be written as fast as QEMU's log came", count)

    def probe(self, edge: int, *, perturbing: bool, lists: int = 0) -> None:
        """Our own looking begins (edge 0) or ends (1) here; `lists` as in the event."""
        self._asked = None
        self._emit(_PROBE, edge, int(perturbing), lists)

    def asks(self, cpu: int | None, offset: int, size: int) -> None:
        """The next read of this register, of the ITS or of a CPU's redistributor, is ours."""
        self._asked = (cpu, offset, size)

    def found(self, cpu: int | None, offset: int, size: int, value: int) -> None:
        """A register as we found it, without a read that the log shows."""
        if cpu is None:
            self._emit(_REG_READ, offset, value, size, ev.PROBE, 0)
        else:
            self._emit(_GICR_READ, cpu, offset, value, size, ev.PROBE, 0)

    def live(self, row: tuple[int, ...]) -> None:
        """A live LPI as the kernel listed it: the event's fields without its cause."""
        self._emit(_LIVE, 0, *row)

    def memory(self, gpa: int, data: bytes) -> None:
        """Guest RAM as it was found by us."""
        self._emit(_MEM_READ, 0, gpa, data)

    def _origin(self, *what: int | None) -> int:
        if what != self._asked:
            return ev.GUEST
        self._asked = None
        return ev.PROBE

    def _orphan(self) -> None:
        """What was held has lost its input: it is kept, with a cause that is not known."""
        self._command = None
        held, self._held = self._held, []
        for time_ns, event in held:
            event[2] = 0
            self._emit_at(time_ns, event)

    def _emit(self, kind: int, *values: Any) -> None:
        self._emit_at(self._time_ns, [kind, 0, *values])

    def _emit_at(self, time_ns: int, event: list[Any]) -> None:
        event[1] = time_ns - self._last_ns
        self._last_ns = time_ns
        self._count += 1
        if self._since_msi:
            self._since_msi += 1
        self._out.append(ev.trim(event, ev.KINDS[event[0]]))

    # -- inputs, and outputs that are inputs' own

    def _reset(self) -> None:
        self._lose_input()
        self._since_msi = 0
        how = ev.SYSTEM if self._resets or self._any else ev.POWER_ON
        self._resets += 1
        self._emit(_RESET, how)

    def write(self, offset: int, value: int, size: int, bad: int = 0) -> None:
        """gicv3_its_write, gicv3_its_badwrite: what was held belongs to this write."""
        self._any = True
        self._since_msi = 0
        self._command = None
        self._emit(_REG_WRITE, offset, value, size, ev.GUEST, bad)
        for back, (time_ns, event) in enumerate(self._held, 1):
            event[2] = back
            self._emit_at(time_ns, event)
        self._held.clear()

    def read(self, offset: int, value: int, size: int, bad: int = 0) -> None:
        """gicv3_its_read; of a bad one (gicv3_its_badread) the guest got 0."""
        self._any = True
        self._since_msi = 0
        self._emit(_REG_READ, offset, value, size, self._origin(None, offset, size), bad)

    def translation_write(self, offset: int, data: int, size: int, requester_id: int) -> None:
        """gicv3_its_translation_write: its effects follow."""
        self._any = True
        self._emit(_MSI, requester_id, data, 0x10000 + offset, size)
        self._since_msi = 1

    def gicr(self, kind: int, bad: int, cpu: int, offset: int, value: int, size: int) -> None:
        """gicv3_redist_*: only the LPI registers are of interest."""
        self._any = True
        if gicr_register(offset):
            cpu = _cpu(cpu)
            origin = self._origin(cpu, offset, size) if kind == _GICR_READ else ev.GUEST
            self._emit(kind, cpu, offset, value, size, origin, bad)
        else:
            self.stats.ours -= 1
            self.stats.skipped += 1

    def acknowledge(self, cpu: int, intid: int) -> None:
        """gicv3_icc_iar1_read: only LPIs are of interest."""
        if FIRST_LPI <= intid < _INTID_END:
            self._since_msi = 0
            self._emit(_ACK, 0, intid, _cpu(cpu))
        else:
            self.stats.ours -= 1
            self.stats.skipped += 1

    # -- effects

    def effect(self, kind: int, *values: Any) -> None:
        """Something that an input did: of an MSI already seen, or of a write still to come."""
        if self._since_msi:
            self._emit(kind, self._since_msi, *values)
            return
        if len(self._held) >= MAX_HELD_EVENTS:
            self.gap(f"over {MAX_HELD_EVENTS} effects without a write")
            self._orphan()
        self._held.append((self._time_ns, [kind, 0, 0, *values]))

    def process_command(self, index: int, opcode: int) -> None:
        """gicv3_its_process_command: the queue index and the opcode; fields come in a next line."""
        self._since_msi = 0
        if opcode > 0xFF:
            self.gap(f"an opcode has 8 bits, not {opcode:#x}")
            return
        self.effect(_COMMAND, index * 32, opcode, 0, 0, 0, 0xFF, 0, 0, 0)
        self._command = self._held[-1][1]

    def fields(self, name: str, values: dict[str, int], dw2_known: int = -1, dw3: int = 0) -> None:
        """Fill the fields of command `name` into the command that was announced."""
        command, self._command = self._command, None
        if command is None or command[4] != BY_NAME[name].opcode:
            self.gap(f"the fields of {name}, but no such command was announced")
            return
        try:
            command[4:8] = encode(name, **values)
        except ValueError as error:
            self.gap(f"{name}: {error}")
            return
        command[8:12] = known_masks(name, *values)
        command[10] &= dw2_known
        if dw3:
            command[7] |= dw3
            command[11] |= 0xFF

    def no_fields(self, *values: int) -> None:
        """SYNC, VSYNC, INVALL and unknown opcodes: their line tells nothing more."""
        self._command = None

    def entry(self, kind: int, table: int, index: int, base: int, *entry: int) -> None:
        """A table entry; of one written with V=0 only that is known: what it prints is the request."""
        self.effect(
            kind, table, index, base, *(entry[:1] if kind == _WRITE and not entry[0] else entry)
        )


def _cpu(affinity: int) -> int:
    """Return a CPU's number; QEMU prints the affinity, and virt has clusters of 16 CPUs."""
    return (affinity >> 8) * 16 + (affinity & 0xFF)


def _cmd(name: str, *attrs: str) -> Callable[..., None]:
    return lambda log, *numbers: log.fields(name, dict(zip(attrs, numbers, strict=True)))


def _mapd(log: QemuLog, device_id: int, size: int, itt_addr: int, v: int) -> None:
    values = {"device_id": device_id, "size": size, "itt_addr": itt_addr << 8, "v": v}
    log.fields("MAPD", values)


def _mapc(log: QemuLog, icid: int, rdbase: int, v: int) -> None:
    # RDbase is printed after it was cut to 16 bits, and as 0 when V=0.
    if v and rdbase <= 0xFFFF:
        log.fields("MAPC", {"icid": icid, "rdbase": rdbase, "v": v}, ~(0xFFFF_FFFF << 32) | 1 << 63)
    elif v:
        log.gap(f"MAPC: RDbase is printed with 16 bits, not {rdbase:#x}")
    else:
        log.fields("MAPC", {"icid": icid, "v": v})


def _vmapp(log: QemuLog, vpe_id: int, rdbase: int, v: int, vpt_addr: int, vpt_size: int) -> None:
    values = {"vpe_id": vpe_id, "rdbase": rdbase, "v": v, "vpt_addr": vpt_addr << 16}
    # QEMU takes 8 bits for VPT_size, of which the architecture's first version has 5.
    log.fields("VMAPP", values | {"vpt_size": vpt_size & 0x1F}, dw3=vpt_size & 0xFF)


def _dte(kind: int, shift: int) -> Callable[..., None]:
    return lambda log, device_id, valid, size, itt_addr: log.entry(
        kind, ev.DTE, device_id, 0, valid, size, itt_addr << shift
    )


def _cte(kind: int) -> Callable[..., None]:
    return lambda log, icid, *entry: log.entry(kind, ev.CTE, icid, 0, *entry)


def _ite(kind: int) -> Callable[..., None]:
    return lambda log, itt_addr, event_id, *entry: log.entry(
        kind, ev.ITE, event_id, itt_addr, *entry
    )


def _vte(kind: int) -> Callable[..., None]:
    # Of a vPE that is not mapped 7.2 may print what lay on its stack.
    return lambda log, vpe_id, valid, vpt_size, vpt_addr, rdbase: log.effect(
        kind, ev.VTE, vpe_id, 0, valid, *([vpt_size, vpt_addr << 16, rdbase] if valid else [])
    )


def _fault(table: int) -> Callable[..., None]:
    return lambda log, index: log.effect(_FAULT, table, index, 0)


def _gicr(kind: int, bad: int = 0) -> Callable[..., None]:
    return lambda log, cpu, offset, value, size, secure: log.gicr(
        kind, bad, cpu, offset, value, size
    )


_TABLE: Final[dict[str, Callable[..., None]]] = {
    "gicv3_its_read": QemuLog.read,
    "gicv3_its_badread": lambda log, offset, size: log.read(offset, 0, size, 1),
    "gicv3_its_write": QemuLog.write,
    "gicv3_its_badwrite": lambda log, *access: log.write(*access, 1),
    "gicv3_its_translation_write": QemuLog.translation_write,
    "gicv3_its_process_command": QemuLog.process_command,
    "gicv3_its_cmd_int": _cmd("INT", "device_id", "event_id"),
    "gicv3_its_cmd_clear": _cmd("CLEAR", "device_id", "event_id"),
    "gicv3_its_cmd_discard": _cmd("DISCARD", "device_id", "event_id"),
    "gicv3_its_cmd_inv": _cmd("INV", "device_id", "event_id"),
    "gicv3_its_cmd_sync": QemuLog.no_fields,
    "gicv3_its_cmd_invall": QemuLog.no_fields,
    "gicv3_its_cmd_vsync": QemuLog.no_fields,
    "gicv3_its_cmd_unknown": QemuLog.no_fields,
    "gicv3_its_cmd_mapd": _mapd,
    "gicv3_its_cmd_mapc": _mapc,
    "gicv3_its_cmd_mapi": _cmd("MAPI", "device_id", "event_id", "icid"),
    "gicv3_its_cmd_mapti": _cmd("MAPTI", "device_id", "event_id", "icid", "pintid"),
    "gicv3_its_cmd_movi": _cmd("MOVI", "device_id", "event_id", "icid"),
    "gicv3_its_cmd_movall": _cmd("MOVALL", "rdbase1", "rdbase2"),
    "gicv3_its_cmd_vmapi": _cmd("VMAPI", "device_id", "event_id", "vpe_id", "dbell_pintid"),
    "gicv3_its_cmd_vmapti": _cmd(
        "VMAPTI", "device_id", "event_id", "vpe_id", "vintid", "dbell_pintid"
    ),
    "gicv3_its_cmd_vmapp": _vmapp,
    "gicv3_its_cmd_vmovp": _cmd("VMOVP", "vpe_id", "rdbase"),
    "gicv3_its_cmd_vmovi": _cmd("VMOVI", "device_id", "event_id", "vpe_id", "d", "doorbell"),
    "gicv3_its_cmd_vinvall": _cmd("VINVALL", "vpe_id"),
    "gicv3_its_cte_read": _cte(_READ),
    "gicv3_its_cte_write": _cte(_WRITE),
    "gicv3_its_cte_read_fault": _fault(ev.CTE),
    "gicv3_its_ite_read": _ite(_READ),
    "gicv3_its_ite_write": _ite(_WRITE),
    "gicv3_its_ite_read_fault": lambda log, itt_addr, event_id: log.effect(
        _FAULT, ev.ITE, event_id, itt_addr
    ),
    "gicv3_its_dte_read": _dte(_READ, 0),
    "gicv3_its_dte_write": _dte(_WRITE, 8),
    "gicv3_its_dte_read_fault": _fault(ev.DTE),
    "gicv3_its_vte_read": _vte(_READ),
    "gicv3_its_vte_write": _vte(_WRITE),
    "gicv3_its_vte_read_fault": _fault(ev.VTE),
    "gicv3_icc_iar1_read": QemuLog.acknowledge,
    "gicv3_redist_read": _gicr(_GICR_READ),
    "gicv3_redist_badread": lambda log, cpu, offset, size, secure: log.gicr(
        _GICR_READ, 1, cpu, offset, 0, size
    ),
    "gicv3_redist_write": _gicr(_GICR_WRITE),
    "gicv3_redist_badwrite": _gicr(_GICR_WRITE, 1),
}

_HANDLERS: Final = {name.encode(): handler for name, handler in _TABLE.items()}
