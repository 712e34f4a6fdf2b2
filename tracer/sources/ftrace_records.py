"""One line of kernel trace text as a record: when, on which CPU, by whom, which event, its fields.

Counterparts: `ftrace_formats`, the tables that this reads by; `ftrace_vms`, which gives each record
to the VM that it is of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from tracer.sources import ftrace_formats as ft

_MAX_SECONDS: Final = 9_000_000_000  # a dt between any two times fits 64 bits

Fields = dict[bytes, Any]


@dataclass(slots=True)
class Record:
    """A record of ours. `caller` and `fields` are a kprobe's, `text` is everything else's."""

    time_ns: int
    cpu: int
    thread: int
    tgid: int | None
    kernel: bool  # whether a thread of the kernel made it, whose process is no VM's
    name: bytes
    text: bytes
    caller: bytes = b""
    fields: Fields | None = None

    @property
    def kvm(self) -> int | None:
        """The address of the `struct kvm`, where the probe has it."""
        return self.fields.get(b"kvm") if self.fields else None


def parse(line: bytes, head: re.Match[bytes]) -> Record | str:
    """Return the record whose head was found in `line`, or why it cannot be read."""
    before = line[max(head.start() - ft.MAX_TASK_BYTES, 0) : head.start()]
    task = ft.TASK.search(before)
    if task is None or int(head[2]) > _MAX_SECONDS:
        return "a record of ours without a thread or a time"
    thread, tgid = int(task[2]), task[1] or task[3]
    record = Record(
        int(head[2]) * 10**9 + int(head[3].ljust(9, b"0")),
        int(head[1]),
        thread,
        None if tgid is None else int(tgid),
        any(name in before for name in ft.KERNEL_THREADS),
        head[4],
        line[head.end() :].rstrip(b"\r"),
    )
    needed = ft.RECORDS[record.name]
    return record if needed is None else _probe(record, needed)


def _probe(record: Record, needed: tuple[bytes, ...]) -> Record | str:
    match = ft.PROBE.fullmatch(record.text.rstrip())
    fields = None if match is None else _numbers(match[2])
    if match is None or fields is None or any(fields.get(each) is None for each in needed):
        return f"this is not how our probe {record.name.decode()} prints"
    record.caller, record.fields = match[1].partition(b"+")[0], fields
    return record


def _numbers(text: bytes) -> Fields | None:
    """Return name -> number of ` name=value ...`; None for memory that was not readable.

    An array `{0x1,0x2}` becomes a tuple.
    """
    fields: Fields = {}
    for part in text.split():
        name, _, value = part.partition(b"=")
        if value == ft.FAULT:
            fields[name] = None
        elif ft.ARRAY.fullmatch(value):
            fields[name] = tuple(int(each, 16) for each in value[1:-1].split(b","))
        elif (number := _number(name, value)) is None:
            return None
        else:
            fields[name] = number
    return fields


def _number(name: bytes, value: bytes) -> int | None:
    if not ft.NUMBER.fullmatch(value):
        return None
    number = int(value, 16 if value.startswith(b"0x") else 10)
    if name == b"ret":
        number = _signed(number)
    if not -(1 << 63) <= number < 1 << 64 or (number < 0 and name != b"ret"):
        return None
    return number


def _signed(number: int) -> int:
    """Return what a C `int` makes of a number that was printed without its sign."""
    return (number & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
