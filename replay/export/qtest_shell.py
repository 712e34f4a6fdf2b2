"""`--to qtest`: a shell line that pipes qtest commands into a stock QEMU, as its bug reports do.

Nothing of itstrace is needed to run it: registers and guest RAM are reached over qtest, and MSIs come
from edu devices. A guest's panic, told by a pvpanic device, ends it; where QMP resets it in between,
the panic tells that the lines so far were carried out. What was recorded stands below, answer by
answer. Counterparts: `replay.targets.qtest_lines`, one event
as lines, and `replay.targets.qemu`, which asks the same of a QEMU of its own.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from replay.engine import Engine
from replay.equivalence.inventory import Events
from replay.export.c_text import COLUMNS, plain
from replay.export.kvm_calls import read
from replay.export.places import Places
from replay.export.plot import OUTPUTS, Plot, foreign
from replay.export.result import Result
from replay.export.words import command, doublewords
from replay.judge import model_of, profile_named
from replay.targets import edu
from replay.targets.ahead import Group, Grouper
from replay.targets.handover import HandOver
from replay.targets.qemu import RAM_BASE, ram_mib
from replay.targets.qtest_lines import QtestLines, stored
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER, Event, fields_of, kind_name
from tracer.its.commands import COMMAND_SIZE_BYTES
from tracer.log.header import Header

DEFAULT_WAY: Final = OUTPUTS
MAX_EVENTS: Final = 20_000
MAX_SCRIPT_BYTES: Final = 4 << 20
_READS: Final = ("reg.read", "gicr.read", "gicd.read")
_MEM_READ, _MEM_WRITE, _RESET = (NUMBER[each] for each in ("mem.read", "mem.write", "reset"))
_ASKED: Final = frozenset((*(NUMBER[each] for each in _READS), _MEM_READ))
_PVPANIC: Final = ("1f.0", 0xF8, 0x1FF0_0000)  # slot, DeviceID, where its register is put
_ECAM: Final = 0x40_1000_0000
_COMMAND: Final = (
    "qemu-system-aarch64 -M {machine} -cpu cortex-a57 -smp {cpus} -m {mib} -accel tcg -S "
    "-nodefaults -display none -device pvpanic-pci,addr={slot} {devices}{monitor}-qtest stdio "
    "-qtest-log /dev/null"
)
_MONITOR: Final = "-action panic=none -chardev pipe,id=qmp,path=qmp -mon qmp,mode=control "
_BEFORE: Final = """\
rm -f qmp.in qmp.out; mkfifo qmp.in qmp.out
qmp() { echo "{'execute': '$1'}" > qmp.in; grep -q -m1 "$2" < qmp.out; }
(
qmp qmp_capabilities return"""
_QUIT: Final = "echo \"{'execute': 'quit'}\" > qmp.in"  # whose answer nobody would be there to hear
_CARRIED_OUT: Final = "grep -q -m1 GUEST_PANICKED < qmp.out"
_END: Final = "EOF"


def export(header: Header, plot: Plot) -> Result:
    """Return a trace as a shell script.

    Raises:
        UsageError: it is too long for one.
        TargetError: QEMU's virt machine cannot be such a VM.
    """
    if len(plot.events) > MAX_EVENTS:
        raise UsageError(f"a shell line takes {MAX_EVENTS} events, and these are more: minimize it")
    script = _Script(header, plot)
    text = script.text()
    if len(text) > MAX_SCRIPT_BYTES:
        raise UsageError(f"a shell line takes {MAX_SCRIPT_BYTES} bytes: minimize the trace")
    return Result(text, script.left_out, script.assumed, _why_meaningless(header, plot, script))


def _why_meaningless(header: Header, plot: Plot, script: _Script) -> str | None:
    if why := foreign(header, "qemu", "QEMU's"):
        return why
    if script.impossible:
        return f"QEMU has no {script.impossible}"
    return None if script.answers else "nothing in it can be asked about"


class _Script:
    """The script while it is written: parts of qtest lines, a reset between any two."""

    def __init__(self, header: Header, plot: Plot) -> None:
        self._plot = plot
        self._virtual = bool(header.profile and header.profile.endswith("-gicv4"))
        self._cpus = header.cpus or 1
        self._mib = ram_mib(header)
        self._complete = header.guest_ram == "complete"
        self._hand_over = None if self._complete else HandOver(RAM_BASE + (self._mib << 20))
        self._lines = QtestLines(self._cpus, virtual=self._virtual)
        self._parts: list[list[str]] = [[]]
        self.answers: list[str] = []  # what was recorded, as QEMU prints it, and what it is of
        self.left_out: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()
        self.impossible: str | None = None
        self._places = Places(plot.events)
        self._commands: list[str] = []
        self._expected = _expected(header, plot.events)
        self._take(plot)

    def _take(self, plot: Plot) -> None:
        grouper = Grouper(_ASKED)
        groups: list[Group] = []
        for seq, event in enumerate(plot.events):
            asked = event[0] in _ASKED and (self._complete or event[0] != _MEM_READ)
            if ev.FIRST_OUTPUT <= event[0] < ev.FIRST_NOTE and not asked:
                self.left_out[kind_name(event[0])] += 1
            groups += grouper.take(seq, [event])
        for group in [*groups, *grouper.rest()]:
            self._group(group)

    def _group(self, group: Group) -> None:
        event = group.event
        if event[0] == _RESET:
            self._reset(event)
            return
        if self._hand_over is not None and event[0] in (NUMBER["reg.write"], NUMBER["msi"]):
            stores, assumed = self._hand_over.before(event, group.outputs)
            self._parts[-1] += map(stored, stores)
            for store in stores:
                self._queued(store.gpa, store.data or b"")
            self.assumed.update([assumed] if assumed else [])
        if event[0] == _MEM_READ and not self._complete:
            return
        lines = self._lines.of(event)
        if lines == []:
            self.left_out[f"{kind_name(event[0])} that no line of qtest can be"] += 1
        elif lines is not None:
            self._parts[-1] += lines
            if event[0] == _MEM_WRITE:
                self._queued(event[2], event[3])
            if event[0] in _ASKED:
                otherwise = self._expected.get(group.seq, "")
                self.answers.append(_answer(group, lines[-1], self._places) + otherwise)
        elif ev.kind_name(event[0]) in ("attr.set", "save", "save_pending", "restore"):
            self.impossible = self.impossible or kind_name(event[0])

    def _queued(self, gpa: int, data: bytes) -> None:
        if self._places.in_queue(gpa, len(data)):
            for at in range(0, len(data), COMMAND_SIZE_BYTES):
                said = command(doublewords(data[at : at + COMMAND_SIZE_BYTES]))
                self._commands.append(f"{gpa + at:#x} {said}")

    def _reset(self, event: Event) -> None:
        how = event[2]
        used = any(self._parts)
        if how == ev.SYSTEM:
            self._parts.append([])
            self._lines.reset()
            if self._hand_over is not None:
                self._hand_over.reset()
        elif how != ev.POWER_ON or used:
            self.impossible = f"reset of the kind {ev.RESET_KINDS[how]} in one run"

    # -- as text

    def text(self) -> str:
        """Return the whole script."""
        plot = self._plot
        about = [plot.shows[0].upper() + plot.shows[1:] + "."] if plot.shows else []
        about.append("Prints what QEMU answers to each read; what was recorded stands below.")
        head = [f"# {line}" for each in about for line in textwrap.wrap(plain(each), COLUMNS)]
        tail = ["# The commands in its queue, by address:"] if self._commands else []
        tail += [f"#   {each}" for each in self._commands]
        tail += ["# The answers that were recorded, in this order:"]
        tail += [f"# {answer}" for answer in self.answers]
        return "\n".join(["#!/bin/sh", *head, *self._pipeline(), *tail]) + "\n"

    def _pipeline(self) -> list[str]:
        machine = "virt,gic-version=3,its=on"
        if self._virtual:
            machine = "virt,gic-version=4,virtualization=on,its=on"
        events = self._plot.events
        ids = {event[2] for event in events if event[0] == NUMBER["msi"]}
        devices = "".join(f"{word} " for word in edu.options(ids))
        resets = len(self._parts) > 1
        command = _COMMAND.format(
            machine=machine, cpus=self._cpus, mib=self._mib, slot=_PVPANIC[0], devices=devices,
            monitor=_MONITOR if resets else "",
        )  # fmt: skip
        parts = [[*part, *_panic()] for part in self._parts]
        if not resets:
            return [f"cat << {_END} | {command} | grep 'OK 0x'", *parts[0], _END]
        lines = [_BEFORE]
        for at, part in enumerate(parts):
            lines += ["qmp system_reset RESET"] if at else []
            lines += [f"cat << {_END}", *part, _END, _CARRIED_OUT]
        return [*lines, f"{_QUIT}) | {command} | grep 'OK 0x'", "rm -f qmp.in qmp.out"]


def _panic() -> list[str]:
    """Return the lines with which a device tells that its guest panics."""
    _, device_id, register = _PVPANIC
    config = _ECAM + (device_id << 12)
    return [
        f"writel {config + 0x10:#x} {register:#x}",
        f"writew {config + 0x4:#x} 0x2",
        f"writeb {register:#x} 0x1",
    ]


def _expected(header: Header, events: Sequence[Event]) -> dict[int, str]:
    """Return, by event, what the model of the trace's profile answers where that differs."""
    named = profile_named(None, header)
    if named is None:
        return {}
    model = model_of(replace(header), named[0])
    tally = Engine(Events(header, events, "trace"), model).run()
    return {
        each.seq: f"; the model of {model.name} expects {_shown(each.expected)}"
        for each in tally.divergences
    }


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    return hex(value) if isinstance(value, int) else plain(str(value))


def _answer(group: Group, line: str, places: Places) -> str:
    """Return the line that QEMU would print if it answered as was recorded, and what it is."""
    f = fields_of(group.event)
    if group.event[0] == _MEM_READ:
        shown, name = f"0x{f['data'].hex()}", places.at(f["gpa"])
    else:
        name, _, mask = read(f, kind_name(group.event[0]))
        shown = f"{f['value'] & mask:#018x}"
    return f"OK {shown}  event {group.seq}: {name} ({line})"
