"""A hand-over without a reset: a used ITS is disabled, given other tables and enabled again.

A kexec, a kdump or a firmware that hands over does so. A driver that suspends and resumes disables
and enables with the same tables, and a VMM that restores a VM writes the registers itself: neither
is one. Nor is a new queue alone: the mappings of before are then still the guest's own. What it is
judged by stands in `replay.contracts`; the counterpart is `replay.verify`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from replay.contracts import CHANGED, INVALIDATED, SAME, TABLE_OF
from replay.model.effects import COMMAND, Effect
from tracer.its.registers import Baser, Ctlr

_ENABLED: Final = Ctlr.enabled.mask
_PLACE: Final = (
    Baser.physical_address.mask
    | Baser.size.mask
    | Baser.page_size.mask
    | Baser.indirect.mask
    | Baser.valid.mask
)
TABLES: Final = frozenset(TABLE_OF.values())  # the registers that name a table

Registers = Mapping[str, int | None]  # by name; None for what is not known


@dataclass(slots=True)
class Reinit:
    """One hand-over: when the ITS was disabled, and register -> what became of its table."""

    since: int
    tables: dict[str, str]

    def of(self, component: str) -> str:
        """Return what became of a component's table; nothing for one that has none."""
        return self.tables.get(TABLE_OF.get(component, ""), "")


@dataclass(slots=True)
class _Life:
    """An ITS that was disabled: its tables then, and those that were invalid since."""

    since: int
    basers: dict[str, int | None]  # None where nobody knew
    invalidated: set[str] = field(default_factory=set)


class HandOver:
    """Follows the writes of a guest and says when one of them ends a hand-over."""

    def __init__(self) -> None:
        self.used = False  # whether a command ran since the last reset or hand-over
        self._life: _Life | None = None

    def ran(self, done: Sequence[Effect]) -> None:
        """These are the effects of an input: a command among them uses the ITS."""
        self.used = self.used or any(effect[0] == COMMAND for effect in done)

    @property
    def pending(self) -> bool:
        """Whether a used ITS is disabled now."""
        return self._life is not None

    def cancel(self, *, used: bool) -> None:
        """A reset, a restore or a loss: what comes next has another beginning."""
        self._life = None
        self.used = used

    def written(self, seq: int, before: Registers, after: Registers) -> Reinit | None:
        """Take in the registers before and after a write; return the hand-over that it ends."""
        was, now = (registers.get("GITS_CTLR") or 0 for registers in (before, after))
        if was & ~now & _ENABLED:
            self._disabled(seq, after)
        elif self._life is None:
            return None
        elif now & ~was & _ENABLED:
            return self._enabled(self._life, after)
        else:
            self._life.invalidated |= {
                name
                for name in self._life.basers
                if (value := after.get(name)) is not None and not value & Baser.valid.mask
            }
        return None

    def _disabled(self, seq: int, registers: Registers) -> None:
        basers = {
            name: value
            for name in sorted(TABLES)
            if (value := registers.get(name, 0)) is None or value & Baser.valid.mask
        }
        self._life = _Life(seq, basers) if self.used and basers else None

    def _enabled(self, life: _Life, registers: Registers) -> Reinit | None:
        self._life = None
        tables = {
            name: INVALIDATED
            if name in life.invalidated
            else CHANGED
            if old is not None and ((registers.get(name) or 0) ^ old) & _PLACE
            else SAME
            for name, old in life.basers.items()
        }
        if set(tables.values()) <= {SAME}:
            return None
        self.used = False
        return Reinit(life.since, tables)
