"""Registers and commands in words: names as the architecture has them.

Counterparts: `kvm_calls` and `qtest_shell`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from replay.decode import describe
from tracer.events import NUMBER
from tracer.its import commands
from tracer.its.registers import CONTROL_FRAME_SIZE_BYTES, gicr_register, its_register

Find = Callable[[int], Any]
_NAME: Final = re.compile(r"\b(?:GITS|GICR|GICD)_\w+\b")
_OFFSETS: Final = {"GICD_CTLR": 0} | {
    found[0]: found[2]
    for find in (its_register, gicr_register)
    for offset in range(0, CONTROL_FRAME_SIZE_BYTES, 4)
    if (found := find(offset))
}


def place(find: Find, offset: int) -> str:
    """Return a register's offset as an expression: its name, where it has one."""
    found = find(offset)
    if not found or found[0] not in _OFFSETS:
        return f"{offset:#x}"
    return str(found[0]) if found[2] == offset else f"{found[0]} + {offset - found[2]}"


def gicd_place(offset: int) -> str:
    """Return the offset of a register of the distributor, of which one has a name."""
    return f"{offset:#x}" if offset else "GICD_CTLR"


def constants(code: str) -> list[str]:
    """Return the definition of each register that code names, in the order of their offsets."""
    named: Iterable[str] = set(_NAME.findall(code)) & _OFFSETS.keys()
    ordered = sorted(named, key=lambda name: (name[:4], _OFFSETS[name]))
    return [f"#define {name}{_tabs(name)}{_OFFSETS[name]:#06x}" for name in ordered]


def _tabs(name: str) -> str:
    """Return the tabs behind a name that end in the fourth column of eight."""
    return "\t" * max(1, 3 - len(f"#define {name}") // 8)


def fields(offset: int, value: int) -> str:
    """Return what a register of the ITS is written to be, field by field; or nothing."""
    shown = describe((NUMBER["reg.write"], 0, offset, value))
    _, paren, told = shown.partition("(")
    return told.rpartition(")")[0] if paren else ""


def doublewords(data: bytes) -> list[int]:
    """Return the four doublewords of a command."""
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, 32, 8)]


def command(dws: list[int]) -> str:
    """Return a command as people read it."""
    name, told = commands.decode(*dws)
    shown = " ".join(f"{field}={value:#x}" for field, value in told if field != "Opcode")
    return f"{name} {shown}".rstrip()
