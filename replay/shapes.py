"""Shapes of values: what each one packs to, and the checks by which it is taken back.

What `pack` returns is made of what msgpack knows, in an order that depends on the value alone.
`take` gives an equal value or raises `PayloadError`: whoever wrote the bytes may have made them to
hurt, so that every type, range and length is checked, and only these shapes build objects.
Counterpart: `replay.checkpoints`, whose tables are made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Protocol

from tracer.log.codec import PayloadError, brief

MAX_ITEMS: Final = 1 << 22
_WIDE_BYTES: Final = 18
_PACKED_BITS: Final = 64


@dataclass(slots=True)
class Room:
    """Where values are taken to: how many CPUs there are, and what was named so far."""

    cpus: int
    named: dict[type, dict[int, Any]] = field(default_factory=dict)


class Shape(Protocol):
    """One kind of value."""

    def pack(self, value: Any) -> Any:
        """Return `value` as msgpack can hold it."""

    def take(self, plain: Any, room: Room) -> Any:
        """Return the value; PayloadError when `plain` is not what `pack` gives."""


def _wrong(what: str, plain: object) -> PayloadError:
    return PayloadError(f"{what}, not {brief(plain)}")


def items_of(plain: Any, most: int = MAX_ITEMS) -> list[Any]:
    """Return a list of at most `most` items; PayloadError for anything else."""
    if type(plain) is not list or len(plain) > most:
        raise _wrong(f"there must be a list of at most {most}", plain)
    return plain


@dataclass(frozen=True, slots=True)
class Number:
    """An integer from `low` to `high`."""

    low: int = 0
    high: int = (1 << 64) - 1

    def pack(self, value: int) -> int | bytes:
        """One of more than 64 bits is packed as bytes."""
        value = int(value)
        if value.bit_length() <= _PACKED_BITS:
            return value
        return value.to_bytes(_WIDE_BYTES, "big")

    def take(self, plain: Any, room: Room) -> int:
        """Take it when it is in range, and packed as `pack` does."""
        value = plain
        if type(plain) is bytes and len(plain) == _WIDE_BYTES and any(plain[: -_PACKED_BITS // 8]):
            value = int.from_bytes(plain, "big")
        if type(value) is not int or not self.low <= value <= self.high:
            raise _wrong(f"a number must be {self.low} to {self.high}", plain)
        return value


@dataclass(frozen=True, slots=True)
class Flag:
    """A truth."""

    def pack(self, value: Any) -> bool:
        """Return it."""
        return bool(value)

    def take(self, plain: Any, room: Room) -> bool:
        """Take it when it is one."""
        if type(plain) is not bool:
            raise _wrong("a flag must be true or false", plain)
        return plain


@dataclass(frozen=True, slots=True)
class Text:
    """A text of at most `most` characters."""

    most: int

    def pack(self, value: str) -> str:
        """Return it."""
        return value[: self.most]

    def take(self, plain: Any, room: Room) -> str:
        """Take it when it is not too long."""
        if type(plain) is not str or len(plain) > self.most:
            raise _wrong(f"a text must have at most {self.most} characters", plain)
        return plain


@dataclass(frozen=True, slots=True)
class Cpu:
    """The index of a CPU; of no CPU when `low` is negative."""

    low: int = 0

    def pack(self, value: int) -> int:
        """Return it."""
        return value

    def take(self, plain: Any, room: Room) -> int:
        """Take it when this VM has that CPU."""
        return Number(self.low, room.cpus - 1).take(plain, room)


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value of `shape`, or None."""

    shape: Shape

    def pack(self, value: Any) -> Any:
        """Return None as it is."""
        return None if value is None else self.shape.pack(value)

    def take(self, plain: Any, room: Room) -> Any:
        """Take None as it is."""
        return None if plain is None else self.shape.take(plain, room)


@dataclass(frozen=True, slots=True)
class Each:
    """A list, tuple or set (`kind`) of values of `shape`; `count` of them, or one a CPU."""

    kind: Callable[[Iterable[Any]], Any]
    shape: Shape
    count: int | None = None
    per_cpu: bool = False

    def pack(self, value: Any) -> list[Any]:
        """Return the items: a set's in order."""
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [self.shape.pack(item) for item in items]

    def take(self, plain: Any, room: Room) -> Any:
        """Take as many as there must be, none of a set twice."""
        count = room.cpus if self.per_cpu else self.count
        items = items_of(plain)
        if count is not None and len(items) != count:
            raise _wrong(f"there must be {count} of these", plain)
        value = self.kind(self.shape.take(item, room) for item in items)
        if len(value) != len(items):
            raise _wrong("no item may come twice", plain)
        return value


@dataclass(frozen=True, slots=True)
class Row:
    """A tuple of values, each with a shape of its own."""

    shapes: tuple[Shape, ...]

    def pack(self, value: Any) -> list[Any]:
        """Return them as a list."""
        return [shape.pack(item) for shape, item in zip(self.shapes, value, strict=True)]

    def take(self, plain: Any, room: Room) -> tuple[Any, ...]:
        """Take as many as there are shapes."""
        items = items_of(plain)
        if len(items) != len(self.shapes):
            raise _wrong(f"there must be {len(self.shapes)} values", plain)
        return tuple(shape.take(item, room) for shape, item in zip(self.shapes, items, strict=True))


@dataclass(frozen=True, slots=True)
class Keyed:
    """A dict; `ordered` when its order means something, else it is packed by key.

    `names` is the class of its values where other places refer to them by key.
    """

    key: Shape
    value: Shape
    ordered: bool = False
    names: type | None = None

    def pack(self, value: dict[Any, Any]) -> list[Any]:
        """Return key, value, key, value, ..."""
        items = value.items() if self.ordered else sorted(value.items(), key=lambda item: item[0])
        return list(chain.from_iterable((self.key.pack(k), self.value.pack(v)) for k, v in items))

    def take(self, plain: Any, room: Room) -> dict[Any, Any]:
        """Take pairs, no key twice."""
        flat = items_of(plain)
        keys = [self.key.take(item, room) for item in flat[::2]]
        if len(flat) % 2 or len(set(keys)) != len(keys):
            raise _wrong("there must be keys, each once, and their values", plain)
        found = {
            key: self.value.take(item, room) for key, item in zip(keys, flat[1::2], strict=True)
        }
        if self.names:
            room.named[self.names] = found
        return found


@dataclass(frozen=True, slots=True)
class Named:
    """A reference to an object of class `of`, which has its key in its attribute `by`."""

    of: type
    by: str

    def pack(self, value: Any) -> int:
        """Return the key."""
        key: int = getattr(value, self.by)
        return key

    def take(self, plain: Any, room: Room) -> Any:
        """Take the object that was taken under that key."""
        found = room.named.get(self.of, {}).get(plain) if type(plain) is int else None
        if found is None:
            raise _wrong(f"there must be a {self.of.__name__} of that name", plain)
        return found


@dataclass(frozen=True, slots=True)
class Record:
    """An object: one shape for each attribute that is kept.

    `anew` are the attributes that its maker sets and nothing changes, or that follow from others.
    """

    of: type
    kept: Mapping[str, Shape]
    anew: frozenset[str] = frozenset()

    def pack(self, value: Any) -> list[Any]:
        """Return what is kept, in the table's order."""
        return [shape.pack(getattr(value, name)) for name, shape in self.kept.items()]

    def take(self, plain: Any, room: Room) -> Any:
        """Make an object of it."""
        made: Any = object.__new__(self.of)
        self.fill(made, plain, room)
        return made

    def fill(self, target: Any, plain: Any, room: Room) -> None:
        """Set the attributes that are kept."""
        items = items_of(plain)
        if len(items) != len(self.kept):
            raise _wrong(f"a {self.of.__name__} must have {len(self.kept)} values", plain)
        for (name, shape), item in zip(self.kept.items(), items, strict=True):
            try:
                if isinstance(shape, Inside):
                    shape.record.fill(getattr(target, name), item, room)
                else:
                    setattr(target, name, shape.take(item, room))
            except PayloadError as error:
                raise PayloadError(f"{name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Inside:
    """An object that is there already and is filled, as others hold it."""

    record: Record

    def pack(self, value: Any) -> Any:
        """Return what is kept of it."""
        return self.record.pack(value)

    def take(self, plain: Any, room: Room) -> Any:
        """Only `Record.fill` knows what to fill."""
        raise TypeError("an object that is filled stands in a record")
