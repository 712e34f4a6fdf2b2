"""What a trace shows of one input, as a model asks for it step by step.

Counterpart: `Witness` of the models, which know no events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from replay.model import effects
from tracer import events as ev
from tracer.events import Event

_OF_ENTRIES: Final = (effects.TABLE_READ, effects.TABLE_WRITE, effects.TABLE_FAULT)
# Table -> where an event that wrote an ITE holds that table's index (ICID, vPEID).
_NAMED_BY_ITE: Final = {effects.CTE: 9, effects.VTE: 10}


class OutputWitness:
    """What the trace shows of one input, for the steps that RAM does not tell."""

    __slots__ = ("outputs",)

    def __init__(self, outputs: Sequence[Event]) -> None:
        self.outputs = outputs

    def _find(self, at: int, kind: int, first: int, values: tuple[int, ...]) -> Event | None:
        """Return the output at step `at`, or behind it, whose fields from `first` are `values`."""
        end = first + len(values)
        outputs = self.outputs
        count = len(outputs)
        # A trace that lacks kinds of outputs has fewer steps: those before `at` come last.
        for step in range(count):
            output = outputs[(at + step) % count if at < count else step]
            if output[0] == kind and output[first:end] == values:
                return output
        return None

    def command(self, at: int, queue_offset: int) -> tuple[int, int, int, int] | None:
        """Return the command fetched from `queue_offset`."""
        if at < len(self.outputs):
            here = self.outputs[at]  # nearly always
            if here[0] == effects.COMMAND and here[3] == queue_offset:
                return here[4], here[5], here[6], here[7]
        output = self._find(at, effects.COMMAND, 3, (queue_offset,))
        return None if output is None else output[4:8]

    def commands(self) -> list[tuple[int, int, int, int, int]]:
        """Return every command that was fetched: its place in the queue and its doublewords."""
        return [output[3:8] for output in self.outputs if output[0] == effects.COMMAND]

    def entry(self, at: int, table: int, index: int, base: int) -> tuple[int, ...] | None:
        """Return the entry read, when every field of it was shown."""
        output = self._find(at, effects.TABLE_READ, 3, (table, index, base))
        if output is None:
            return None
        entry = output[6 : 7 + len(ev.ENTRY_FIELDS[table])]
        if len(entry) <= len(ev.ENTRY_FIELDS[table]) or None in entry:
            return None
        return entry

    def any(self) -> bool:
        """Return whether anything was seen."""
        return bool(self.outputs)

    def entries(self, table: int) -> int:
        """Return how many entries a table must have for those that were seen."""
        indexes = [o[4] for o in self.outputs if o[0] in _OF_ENTRIES and o[3] == table]
        if table in _NAMED_BY_ITE:  # an ITE is written only with identifiers in range
            at = _NAMED_BY_ITE[table]
            writes = (o for o in self.outputs if o[0] == effects.TABLE_WRITE and len(o) > at)
            indexes += [o[at] or 0 for o in writes if o[3] == effects.ITE]
        return max(indexes, default=-1) + 1

    def fault(self, at: int, table: int, index: int) -> bool:
        """Return whether the next step was seen to meet no memory."""
        return any(
            output[0] == effects.TABLE_FAULT and output[3:5] == (table, index)
            for output in self.outputs[at : at + 1]
        )
