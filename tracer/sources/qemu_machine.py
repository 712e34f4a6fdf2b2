"""What a QEMU says of itself: its version, machine and CPUs, and where things are in its memory.

Asked for at the start of a recording. Answers are QEMU's, but nothing is taken for granted: what
is missing or odd is not known. The counterpart is `qemu_live`, which holds the conversation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tracer.log.header import MAX_CPUS
from tracer.sources.qmp import GREETING, Ask, Greeting, Talk, monitor

MAX_RAM_RANGES: Final = 256
_MAX_NOTE_CHARS: Final = 100
_MAX_TREE_CHARS: Final = 1 << 20
# One line of `info mtree -f`; the address space `memory` is what the CPUs see.
_REGION: Final = re.compile(
    r"  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?[0-9]{1,10}, (i/o|ram)\): ([^ ]{1,100})"
)
_CPU_VIEW: Final = ' AS "memory", root: system'
_MACHINE: Final = ("type", "gic-version", "virtualization", "its")


@dataclass(slots=True)
class Machine:
    """What was answered; None is not known."""

    version: tuple[int, ...] | None = None
    kvm: bool | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    cpus: int | None = None
    pid: int | None = None
    mpidrs: list[int] | None = None
    its_base: int | None = None
    gicr_regions: list[tuple[int, int]] = field(default_factory=list)  # (gpa, bytes)
    ram: list[tuple[int, int]] | None = None
    learned: bool = False  # whether all was asked

    @property
    def is_gicv4(self) -> bool:
        """Whether the virt machine has a GICv4: asked for, or as the best that it can have."""
        name = self.properties.get("gic-version")
        return name == "4" or (name == "max" and self.properties.get("virtualization") is True)

    @property
    def has_no_its(self) -> bool:
        """Whether the machine was asked for without one."""
        return self.properties.get("its") is False or self.properties.get("gic-version") == "2"

    def annotations(self) -> dict[str, str]:
        """Return what a trace's header has no key for."""
        told = {f"qemu.{name}": self.properties.get(name) for name in ("type", "gic-version")}
        return {
            "qemu.accelerator": {True: "kvm", False: "tcg", None: "unknown"}[self.kvm],
            **{
                name: value[:_MAX_NOTE_CHARS]
                for name, value in told.items()
                if isinstance(value, str)
            },
        }

    def in_ram(self, gpa: int, size: int) -> bool:
        """Return whether all of `size` bytes at `gpa` are guest RAM."""
        return any(base <= gpa and gpa + size <= base + length for base, length in self.ram or ())


def learn(machine: Machine) -> Talk:
    """Ask for all that `machine` holds."""
    greeting = yield Greeting()
    machine.version = version(greeting[GREETING].get("version"))
    yield Ask("qmp_capabilities")
    kvm = yield Ask("query-kvm")
    machine.kvm = kvm.get("enabled") is True if isinstance(kvm, dict) else None
    for name in _MACHINE:
        machine.properties[name] = yield Ask("qom-get", {"path": "/machine", "property": name})
    place(machine, (yield monitor("info mtree -f")))
    cpus = yield Ask("query-cpus-fast")
    if isinstance(cpus, list) and 1 <= len(cpus) <= MAX_CPUS:
        machine.cpus = len(cpus)
        machine.pid = process_of(cpus[0].get("thread-id") if isinstance(cpus[0], dict) else None)
        affinities = []
        for cpu in cpus:
            path = cpu.get("qom-path") if isinstance(cpu, dict) else None
            affinities.append((yield Ask("qom-get", {"path": path, "property": "mp-affinity"})))
        if all(type(each) is int and 0 <= each < 2**64 for each in affinities):
            machine.mpidrs = affinities
    machine.learned = True


def process_of(thread: Any) -> int | None:
    """Return the process of a thread of this machine."""
    try:
        status = Path(f"/proc/{int(thread)}/status").read_text()
        return int(status.split("\nTgid:")[1].split("\n")[0])
    except (TypeError, ValueError, IndexError, OSError):
        return None


def version(answer: Any) -> tuple[int, ...] | None:
    """Return (major, minor, micro) of what a greeting says."""
    numbers = answer.get("qemu") if isinstance(answer, dict) else None
    if not isinstance(numbers, dict):
        return None
    parts = [numbers.get(name) for name in ("major", "minor", "micro")]
    known = [part for part in parts if type(part) is int and 0 <= part < 1000]
    return tuple(known) if known == parts else None


def place(machine: Machine, tree: Any) -> None:
    """Read out of the flat memory tree where the ITS, the redistributors and RAM are."""
    if not isinstance(tree, str) or len(tree) > _MAX_TREE_CHARS:
        return
    views = [view for view in tree.replace("\r", "").split("\n\n") if _CPU_VIEW in view]
    ram = []
    for line in views[0].split("\n") if views else ():
        match = _REGION.match(line)
        if match is None:
            continue
        base, end = int(match[1], 16), int(match[2], 16) + 1
        if match[3] == "ram":
            ram.append((base, end - base))
        elif match[4] == "control":
            machine.its_base = base
        elif match[4].startswith("gicv3_redist_region["):
            machine.gicr_regions.append((base, end - base))
    if 0 < len(ram) <= MAX_RAM_RANGES:
        machine.ram = ram
