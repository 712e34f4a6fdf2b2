"""What model targets share: the witness, answers to what was asked, and canonical values."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from replay.model.memory import GuestRam
from tracer.events import NUMBER, Event, fields_of
from tracer.its.registers import gicr_register, its_register

_GICR_READ: Final = NUMBER["gicr.read"]


class Answer(NamedTuple):
    """What a model says to an output that asks for itself, beside what the trace has."""

    field: str
    expected: Any
    got: Any
    certain: bool


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
