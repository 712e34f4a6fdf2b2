"""What model targets share: the witness, answers to what was asked, and canonical values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from replay.model import effects
from replay.model.memory import GuestRam
from tracer import events as ev
from tracer.events import Event


class Answer(NamedTuple):
    """What a model says to an output that asks for itself, beside what the trace has."""

    field: str
    expected: Any
    got: Any
    certain: bool


class OutputWitness:
    """What the trace shows of one input, for the steps that RAM does not tell."""

    __slots__ = ("outputs",)

    def __init__(self, outputs: Sequence[Event]) -> None:
        self.outputs = outputs

    def _find(self, at: int, kind: int, first: int, values: tuple[int, ...]) -> Event | None:
        """Return the output at step `at`, or behind it, whose fields from `first` are `values`."""
        end = first + len(values)
        for output in self.outputs[at:]:
            if output[0] == kind and output[first:end] == values:
                return output
        for output in self.outputs[:at]:  # a trace that lacks kinds of outputs has fewer steps
            if output[0] == kind and output[first:end] == values:
                return output
        return None

    def command(self, at: int, queue_offset: int) -> tuple[int, int, int, int] | None:
        """Return the command fetched from `queue_offset`."""
        output = self._find(at, effects.COMMAND, 3, (queue_offset,))
        return None if output is None else output[4:8]

    def entry(self, at: int, table: int, index: int, base: int) -> tuple[int, ...] | None:
        """Return the entry read, when every field of it was shown."""
        output = self._find(at, effects.TABLE_READ, 3, (table, index, base))
        if output is None:
            return None
        entry = output[6 : 7 + len(ev.ENTRY_FIELDS[table])]
        if len(entry) <= len(ev.ENTRY_FIELDS[table]) or None in entry:
            return None
        return entry

    def fault(self, at: int, table: int, index: int) -> bool:
        """Return whether the next step was seen to meet no memory."""
        return any(
            output[0] == effects.TABLE_FAULT and output[3:5] == (table, index)
            for output in self.outputs[at : at + 1]
        )


def mem_answer(ram: GuestRam, event: Event) -> Answer:
    """Return what a mem.read should have found."""
    expected = ram.load_bytes(event[3], len(event[4]))
    return Answer("data", expected, event[4], certain=expected is not None)


def canonical(value: Any) -> Any:
    """Return `value` made of lists, texts and numbers in a fixed order, for a digest."""
    if isinstance(value, dict):
        return [[canonical(key), canonical(item)] for key, item in sorted(value.items())]
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return value
