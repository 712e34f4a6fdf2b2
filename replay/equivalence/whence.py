"""Who wrote a doubleword of guest RAM last, the device or the guest, and at which event.

The life is carried out once more, and the doubleword is looked at before and after everything that
may have written it. The counterpart is `replay.equivalence.bench`, which asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from replay.targets.ahead import Grouper, Inspectable
from tracer import events as ev
from tracer.events import NUMBER, Event

_MEM_WRITE: Final = NUMBER["mem.write"]
# What makes a device write to RAM: saves, restores (they consume pending bits), commands, MSIs
# where pending bits live in RAM, and LPIs that are switched on or off.
_MAY_WRITE: Final = frozenset(
    NUMBER[name]
    for name in ("save", "save_pending", "restore", "reset", "reg.write", "msi", "gicr.write")
)
_WORD: Final = 8


class Written(NamedTuple):
    """The last change of a doubleword: `device`, `guest`, or `nobody` when it never changed."""

    who: str
    seq: int | None
    value: int


def origin(target: Inspectable, events: Sequence[Event], gpa: int) -> Written:
    """Return who wrote the doubleword at `gpa` last."""
    grouper = Grouper(target.asked)
    groups = [*grouper.take(0, list(events)), *grouper.rest()]
    known = [g for g in groups if g.event[0] < ev.FIRST_OUTPUT]
    value, found = _load(target, gpa), Written("nobody", None, 0)
    waiting = []
    for group in known:
        kind = group.event[0]
        mine = kind == _MEM_WRITE and _covers(group.event, gpa)
        if not mine and kind not in _MAY_WRITE:
            waiting.append(group)
            continue
        target.carry_out([*waiting, group])
        waiting.clear()
        now = _load(target, gpa)
        if now != value or mine:
            value = now
            found = Written("guest" if mine else "device", group.seq, now)
    return found._replace(value=value)


def _covers(event: Event, gpa: int) -> bool:
    start, data = event[2], event[3]
    return bool(start < gpa + _WORD and gpa < start + len(data))


def _load(target: Inspectable, gpa: int) -> int:
    return int.from_bytes(target.load(gpa, _WORD) or b"", "little")
