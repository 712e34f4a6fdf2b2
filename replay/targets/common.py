"""What model targets share: the witness, answers to what was asked, and canonical values."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from replay.model import effects
from replay.model.memory import GuestRam
from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of
from tracer.its.registers import gicr_register, its_register

_OF_ENTRIES: Final = (effects.TABLE_READ, effects.TABLE_WRITE, effects.TABLE_FAULT)
# Table -> where an event that wrote an ITE holds that table's index (ICID, vPEID).
_NAMED_BY_ITE: Final = {effects.CTE: 9, effects.VTE: 10}
_GICR_READ: Final = NUMBER["gicr.read"]


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
        outputs = self.outputs
        # A trace that lacks kinds of outputs has fewer steps: those before come last.
        for step in chain(range(at, len(outputs)), range(min(at, len(outputs)))):
            output = outputs[step]
            if output[0] == kind and output[first:end] == values:
                return output
        return None

    def command(self, at: int, queue_offset: int) -> tuple[int, int, int, int] | None:
        """Return the command fetched from `queue_offset`."""
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


def register_place(event: Event) -> tuple[str, int, int] | None:
    """Return a register access as (name, where it begins in bits, its bits there), or None.

    The register is named as components are, one of a redistributor with its CPU.
    """
    fields = fields_of(event)
    at_cpu = "cpu" in fields
    found = (gicr_register if at_cpu else its_register)(fields["offset"])
    if found is None:
        return None
    name, row, start = found
    shift = 8 * (fields["offset"] - start)
    size = min(fields["size"], row.size_bytes)  # whoever wrote the trace may name any
    mask = ((1 << 8 * size) - 1) << shift & (1 << 8 * row.size_bytes) - 1
    return f"{name}[{fields['cpu']}]" if at_cpu else name, shift, mask


class NothingListed:
    """A model of an implementation that lists its live LPIs nowhere."""

    may_stray = False  # whether one may live that nobody could see

    def live_rows(self) -> list[tuple[int, ...]] | None:
        """Return None: there are no such objects."""
        return None

    def may_differ(self, row: tuple[int, ...] | None, got: tuple[int, ...] | None) -> bool:
        """Return False: nothing is ever listed."""
        return False

    def not_listed(self, row: tuple[int, ...]) -> None:
        """Nothing is."""

    def entry_gpa(self, component: str, key: int | tuple[int, int]) -> int | None:
        """Return None: nothing is restored from tables."""
        return None


def mem_answer(ram: GuestRam, event: Event) -> Answer:
    """Return what a mem.read should have found; a guest may have written what nobody saw."""
    expected = ram.load_bytes(event[3], len(event[4]))
    return Answer("data", expected, event[4], certain=ram.complete)


class TablesInRam(Protocol):
    """A VM whose ITS keeps its mappings in guest RAM: what there is to learn of it (QEMU, Xen)."""

    @property
    def gicr_known(self) -> bool:
        """Whether the redistributors' registers were seen from the start."""

    def gicr_read(self, cpu: int, offset: int, size: int) -> int | None:
        """Return a redistributor register; None where there is none."""

    def gicr_write(self, cpu: int, offset: int, value: int, size: int) -> object:
        """Write a redistributor register."""

    def mem_write(self, gpa: int, data: bytes) -> object:
        """Store into guest RAM."""


def gicr_answer(vm: TablesInRam, event: Event) -> Answer | None:
    """Return what a gicr.read should have given; None where there is no such register."""
    fields = fields_of(event)
    value = vm.gicr_read(fields["cpu"], fields["offset"], fields["size"])
    return None if value is None else Answer("value", value, event[4], certain=vm.gicr_known)


def learn(vm: TablesInRam, event: Event) -> None:
    """Take a redistributor register, or guest RAM, over from what was read of it."""
    fields = fields_of(event)
    if event[0] == _GICR_READ:
        vm.gicr_write(fields["cpu"], fields["offset"], fields["value"], fields["size"])
    else:
        vm.mem_write(fields["gpa"], fields["data"])


def mapping(item: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry maps to, without how it is known."""
    return {key: value for key, value in item.items() if key not in ("confirmed", "events")}


def mappings(devices: dict[int, Any], collections: dict[int, Any]) -> dict[str, Any]:
    """Return the components of a reset that are mappings."""
    return {
        "devices": {key: mapping(item) for key, item in devices.items()},
        "events": {
            (device_id, event_id): mapping(event)
            for device_id, device in devices.items()
            for event_id, event in device["events"].items()
        },
        "collections": {key: mapping(item) for key, item in collections.items()},
    }


def digest(state: Any) -> str:
    """BLAKE2b over msgpack of everything that decides future answers."""
    packed: bytes = msgpack.packb(state, use_bin_type=True)
    return blake2b(packed, digest_size=16).hexdigest()


def canonical(value: Any) -> Any:
    """Return `value` made of lists, texts and numbers in a fixed order, for a digest."""
    if isinstance(value, dict):
        return [[canonical(key), canonical(item)] for key, item in sorted(value.items())]
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return value
