"""What stands behind a reset in a trace, as questions; reads of pending tables know whose they are.

Counterparts: `replay.equivalence.sequence`, whose questions are generated, and `bench`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set as AbstractSet
from typing import Final

from replay.equivalence.probe import Step
from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.its.registers import Pendbaser

_GICR_WRITE, _MEM_READ, _PROBE = NUMBER["gicr.write"], NUMBER["mem.read"], NUMBER["probe"]
_PENDBASER: Final = 0x78
_TABLE_BYTES: Final = 1 << 16  # what LPIs up to 0x7ffff need


def recorded_steps(
    life: Sequence[Event], behind: Sequence[Event], asked: AbstractSet[int]
) -> list[Step]:
    """Return the inputs and questions of `behind`, which `life` and the reset came before."""
    tables: dict[int, int] = {}  # vCPU -> GICR_PENDBASER
    for event in life:
        _follow(event, tables)
    steps = []
    for event in behind:
        _follow(event, tables)
        if event[0] == _PROBE and event[2]:
            continue  # where a listing ended
        if event[0] < ev.FIRST_OUTPUT or event[0] in asked:
            steps.append(Step(event, cpu=_whose(event, tables)))
    return steps


def _follow(event: Event, tables: dict[int, int]) -> None:
    if event[0] != _GICR_WRITE or not _PENDBASER <= event[3] < _PENDBASER + 8:
        return
    cpu, offset, value = event[2:5]
    size = event[5] if len(event) > 5 else 8
    shift = 8 * (offset - _PENDBASER)
    mask = (1 << 8 * size) - 1 << shift
    tables[cpu] = tables.get(cpu, 0) & ~mask | value << shift & mask


def _whose(event: Event, tables: dict[int, int]) -> int | None:
    """Return the vCPU whose pending table is read, or None."""
    if event[0] != _MEM_READ:
        return None
    for cpu, value in tables.items():
        base = value & Pendbaser.physical_address.mask
        if base and base <= event[3] < base + _TABLE_BYTES:
            return cpu
    return None
