"""Kernel trace text written by hand, and what the importer makes of it."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable

from tracer.events import Event
from tracer.log.header import Header
from tracer.log.text import format_event
from tracer.sources.ftrace_vms import Vm, Vms
from tracer.sources.lines import LineReader


def split(data: bytes, **options) -> tuple[Vms, dict[str, tuple[Header, list[Event]]]]:  # type: ignore[no-untyped-def]
    """Return VM -> its header and its events, as a splitter gives them line by line."""
    lines = LineReader(io.BytesIO(data), "the.txt")
    vms = Vms(**options)
    found: dict[str, tuple[Header, list[Event]]] = {}
    for line in lines:
        take(found, vms.take(line, complete=lines.complete))
    take(found, vms.end())
    return vms, found


def take(found: dict[str, tuple[Header, list[Event]]], given: list[tuple[Vm, list[Event]]]) -> None:
    for vm, events in given:
        assert vm.header is not None
        found.setdefault(vm.id, (vm.header, []))[1].extend(events)


def shown(events: Iterable[Event]) -> list[str]:
    return [format_event(seq, event).split(" ", 1)[1] for seq, event in enumerate(events)]


def record(
    seconds: float, what: str, thread: int = 7, cpu: int = 0, comm: str = "CPU 0/KVM"
) -> str:
    return f" {comm}-{thread}     [{cpu:03d}] d..1. {seconds:11.6f}: {what}\n"


def without_times(events: Iterable[Event]) -> list[str]:
    return [re.sub(r"^\S+ ", "", line) for line in shown(events)]


def write(gpa: int, value: int, size: int = 8) -> str:
    return f"kvm_mmio: mmio write len {size} gpa {gpa:#x} val {value:#x}"


def asked(gpa: int, size: int = 8) -> str:
    return f"kvm_mmio: mmio unsatisfied-read len {size} gpa {gpa:#x} val 0x0"


def got(gpa: int, value: int, size: int = 8) -> str:
    return f"kvm_mmio: mmio read len {size} gpa {gpa:#x} val {value:#x}"


def cmd(*words: int, caller: str = "vgic_its_process_commands+0xbc/0xa5c") -> str:
    fields = " ".join(f"dw{at}={word:#x}" for at, word in enumerate(words))
    return f"cmd: ({caller} <- kvm_read_guest) {fields}"


def msi(name: str, event_id: int = 2, device_id: int = 8, addr: int = 0x8090040) -> str:
    function = "vgic_its_inject_msi" if name == "msi" else "vgic_its_inject_cached_translation"
    return f"{name}: ({function}+0x0/0xb0) addr={addr:#x} data={event_id:#x} devid={device_id:#x}"


def back(name: str, value: object) -> str:
    return f"{name}: (caller+0x74/0xc0 <- function) ret={value}"


INIT = (
    "set_attr: (vgic_its_set_attr+0x0/0x380) flags=0 group=4 attr=0x0 uaddr=0x0 val=0x0",
    back("set_attr_ret", 0),
)


def told(records: Iterable[str]) -> str:
    """Return records of one thread, 1 ms apart, behind the VMM's INIT."""
    lines = [record(1 + at / 1000, each) for at, each in enumerate((*INIT, *records))]
    return "".join(lines)


SHOWN_INIT = "context cpu=0 thread=7\ninit\nattr.result cause=1 errno=0\n"


def mutate(rng: random.Random, texts: list[str]) -> None:
    """Flip, cut, drop, double, swap or bend one of the lines."""
    at = rng.randrange(len(texts))
    text = texts[at]
    how = rng.randrange(6)
    if how == 0 and text:
        place = rng.randrange(len(text))
        texts[at] = text[:place] + chr(ord(text[place]) ^ 1 << rng.randrange(7)) + text[place + 1 :]
    elif how == 1:
        texts[at] = text[: rng.randrange(len(text) + 1)]
    elif how == 2:
        del texts[at]
    elif how == 3:
        texts.insert(at, text)
    elif how == 4:
        other = rng.randrange(len(texts))
        texts[at], texts[other] = texts[other], text
    else:
        big = rng.choice(("0", "f" * 16, "9" * 30, "-1", "8080088", "100", "4294967295"))
        words = text.split(" ")
        words[rng.randrange(len(words))] = big
        texts[at] = " ".join(words)
