"""Shapes of values: what each one packs to, and the checks by which it is taken back.

What `pack` returns is made of what msgpack knows, in an order that depends on the value alone.
`take` gives an equal value or raises `PayloadError`: whoever wrote the bytes may have made them to
hurt, so that every type, range and length is checked, and only these shapes build objects. Values
of one shape go together, column by column, since a state has thousands of them and whoever travels
through a trace makes hundreds of states. Counterpart: `replay.checkpoints`, whose tables are made of
shapes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final

from tracer.log.checks import PayloadError, brief

MAX_ITEMS: Final = 1 << 22
_WIDE_BYTES: Final = 18
_PACKED_BITS: Final = 64
_LEAST: Final = -(1 << 63)  # that msgpack packs


@dataclass(slots=True)
class Room:
    """Where values are taken to: how many CPUs there are, and what was named so far."""

    cpus: int
    named: dict[type, dict[int, Any]] = field(default_factory=dict)


class Shape:
    """One kind of value."""

    __slots__ = ()

    @property
    def as_is(self) -> bool:
        """Whether every value packs to itself."""
        return False

    def pack(self, value: Any) -> Any:
        """Return `value` as msgpack can hold it."""
        raise NotImplementedError

    def take(self, plain: Any, room: Room) -> Any:
        """Return the value; PayloadError when `plain` is not what `pack` gives."""
        raise NotImplementedError

    def pack_all(self, values: Sequence[Any]) -> list[Any]:
        """Pack each of many."""
        return list(map(self.pack, values))

    def take_all(self, plain: Sequence[Any], room: Room) -> list[Any]:
        """Take each of many; faster forms leave to this one what they cannot take."""
        return [self.take(item, room) for item in plain]


def _wrong(what: str, plain: object) -> PayloadError:
    return PayloadError(f"{what}, not {brief(plain)}")


def items_of(plain: Any, most: int = MAX_ITEMS) -> list[Any]:
    """Return a list of at most `most` items; PayloadError for anything else."""
    if type(plain) is not list or len(plain) > most:
        raise _wrong(f"there must be a list of at most {most}", plain)
    return plain


def _types(plain: Sequence[Any]) -> set[type]:
    return set(map(type, plain))


def _where(values: Sequence[Any], there: list[Any]) -> list[Any]:
    """Return None where `values` has it, and elsewhere the next of `there`."""
    if len(there) == len(values):
        return there
    following = iter(there)
    return [None if item is None else next(following) for item in values]


def _cut(items: list[Any], sizes: list[int]) -> list[Any]:
    """Return `items` in pieces of these sizes."""
    return [items[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]


@dataclass(frozen=True, slots=True)
class Number(Shape):
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

    @property
    def as_is(self) -> bool:
        """Unless one may be wide."""
        return self.low >= _LEAST and self.high >> _PACKED_BITS == 0

    def pack_all(self, values: Sequence[int]) -> list[Any]:
        """As they are, unless one is wide."""
        return list(values) if self.as_is else Shape.pack_all(self, values)

    def take_all(self, plain: Sequence[Any], room: Room) -> list[int]:
        """Take them when all are in range."""
        if not plain:
            return []
        if _types(plain) == {int} and self.low <= min(plain) <= max(plain) <= self.high:
            return list(plain)
        return Shape.take_all(self, plain, room)


@dataclass(frozen=True, slots=True)
class Flag(Shape):
    """A truth."""

    def pack(self, value: Any) -> bool:
        """Return it."""
        return bool(value)

    def take(self, plain: Any, room: Room) -> bool:
        """Take it when it is one."""
        if type(plain) is not bool:
            raise _wrong("a flag must be true or false", plain)
        return plain

    @property
    def as_is(self) -> bool:
        """Always."""
        return True

    def take_all(self, plain: Sequence[Any], room: Room) -> list[bool]:
        """Take them when all are truths."""
        return list(plain) if _types(plain) <= {bool} else Shape.take_all(self, plain, room)


@dataclass(frozen=True, slots=True)
class Text(Shape):
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
class Cpu(Shape):
    """The index of a CPU; of no CPU when `low` is negative."""

    low: int = 0

    def pack(self, value: int) -> int:
        """Return it."""
        return value

    def take(self, plain: Any, room: Room) -> int:
        """Take it when this VM has that CPU."""
        return Number(self.low, room.cpus - 1).take(plain, room)

    @property
    def as_is(self) -> bool:
        """Always."""
        return True

    def take_all(self, plain: Sequence[Any], room: Room) -> list[int]:
        """Take them when this VM has those CPUs."""
        return Number(self.low, room.cpus - 1).take_all(plain, room)


@dataclass(frozen=True, slots=True)
class Maybe(Shape):
    """A value of `shape`, or None."""

    shape: Shape

    def pack(self, value: Any) -> Any:
        """Return None as it is."""
        return None if value is None else self.shape.pack(value)

    def take(self, plain: Any, room: Room) -> Any:
        """Take None as it is."""
        return None if plain is None else self.shape.take(plain, room)

    def pack_all(self, values: Sequence[Any]) -> list[Any]:
        """Those that are there go together."""
        return _where(values, self.shape.pack_all([item for item in values if item is not None]))

    def take_all(self, plain: Sequence[Any], room: Room) -> list[Any]:
        """Those that are there go together."""
        there = [item for item in plain if item is not None]
        return _where(plain, self.shape.take_all(there, room))


@dataclass(frozen=True, slots=True)
class Each(Shape):
    """A list, tuple or set (`kind`) of values of `shape`; `count` of them, or one a CPU."""

    kind: Callable[[Iterable[Any]], Any]
    shape: Shape
    count: int | None = None
    per_cpu: bool = False

    def pack(self, value: Any) -> list[Any]:
        """Return the items: a set's in order."""
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return self.shape.pack_all(items)

    def take(self, plain: Any, room: Room) -> Any:
        """Take as many as there must be, none of a set twice."""
        count = room.cpus if self.per_cpu else self.count
        items = items_of(plain)
        if count is not None and len(items) != count:
            raise _wrong(f"there must be {count} of these", plain)
        value = self.kind(self.shape.take_all(items, room))
        if len(value) != len(items):
            raise _wrong("no item may come twice", plain)
        return value


@dataclass(frozen=True, slots=True)
class Row(Shape):
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
class Keyed(Shape):
    """A dict; `ordered` when its order means something, else it is packed by key.

    `names` is the class of its values where other places refer to them by key.
    """

    key: Shape
    value: Shape
    ordered: bool = False
    names: type | None = None

    def pack(self, value: dict[Any, Any]) -> list[Any]:
        """Return key, value, key, value, ..."""
        return self._pairs((value,))

    def pack_all(self, values: Sequence[dict[Any, Any]]) -> list[Any]:
        """The keys and the values of all go together."""
        return _cut(self._pairs(values), [2 * len(value) for value in values])

    def _pairs(self, values: Sequence[dict[Any, Any]]) -> list[Any]:
        """Return key, value, key, value, ... of all of them."""
        if not self.ordered:
            values = [dict(sorted(value.items(), key=itemgetter(0))) for value in values]
        keys = self.key.pack_all(list(chain.from_iterable(values)))
        items = self.value.pack_all(list(chain.from_iterable(map(dict.values, values))))
        return list(chain.from_iterable(zip(keys, items, strict=True)))

    def take(self, plain: Any, room: Room) -> dict[Any, Any]:
        """Take pairs, no key twice."""
        found: dict[Any, Any] = self.take_all((plain,), room)[0]
        if self.names:
            room.named[self.names] = found
        return found

    def take_all(self, plain: Sequence[Any], room: Room) -> list[Any]:
        """The keys and the values of all go together."""
        sizes = [len(items_of(each)) for each in plain]
        if any(size % 2 for size in sizes):
            raise _wrong("there must be keys and their values", plain)
        flat = list(chain.from_iterable(plain))
        halves = [size // 2 for size in sizes]
        keys = _cut(self.key.take_all(flat[::2], room), halves)
        values = _cut(self.value.take_all(flat[1::2], room), halves)
        found = [dict(zip(*pair, strict=True)) for pair in zip(keys, values, strict=True)]
        if list(map(len, found)) != halves:
            raise _wrong("no key may come twice", plain)
        return found


@dataclass(frozen=True, slots=True)
class Named(Shape):
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

    def pack_all(self, values: Sequence[Any]) -> list[int]:
        """Return the keys."""
        return list(map(attrgetter(self.by), values))

    def take_all(self, plain: Sequence[Any], room: Room) -> list[Any]:
        """Take the objects when there are all of them."""
        named = room.named.get(self.of, {})
        found = list(map(named.get, plain)) if _types(plain) <= {int} else [None]
        return Shape.take_all(self, plain, room) if None in found else found


@dataclass(frozen=True, slots=True)
class Record(Shape):
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
        return self.take_all((plain,), room)[0]

    def pack_all(self, values: Sequence[Any]) -> list[Any]:
        """Each attribute of all goes together."""
        if len(self.kept) > 1 and all(shape.as_is for shape in self.kept.values()):
            return list(map(attrgetter(*self.kept), values))
        columns = (
            shape.pack_all(list(map(attrgetter(name), values))) for name, shape in self.kept.items()
        )
        return list(zip(*columns, strict=True))

    def take_all(self, plain: Sequence[Any], room: Room) -> list[Any]:
        """Make objects, each attribute of all together."""
        if not (_types(plain) <= {list} and set(map(len, plain)) <= {len(self.kept)}):
            raise _wrong(f"a {self.of.__name__} must have {len(self.kept)} values", plain)
        new: Any = self.of.__new__
        made: list[Any] = list(map(new, repeat(self.of, len(plain))))
        columns = zip(*plain, strict=True) if plain else repeat(())
        for (name, shape), column in zip(self.kept.items(), columns, strict=False):
            with _within(name):
                values = shape.take_all(column, room)
            deque(map(setattr, made, repeat(name), values), maxlen=0)
        return made

    def fill(self, target: Any, plain: Any, room: Room) -> None:
        """Set the attributes that are kept."""
        items = items_of(plain)
        if len(items) != len(self.kept):
            raise _wrong(f"a {self.of.__name__} must have {len(self.kept)} values", plain)
        for (name, shape), item in zip(self.kept.items(), items, strict=True):
            with _within(name):
                if isinstance(shape, Inside):
                    shape.record.fill(getattr(target, name), item, room)
                else:
                    setattr(target, name, shape.take(item, room))


@contextmanager
def _within(name: str) -> Iterator[None]:
    """Say of an error that it is in this attribute."""
    try:
        yield
    except PayloadError as error:
        raise PayloadError(f"{name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Inside(Shape):
    """An object that is there already and is filled, as others hold it."""

    record: Record

    def pack(self, value: Any) -> Any:
        """Return what is kept of it."""
        return self.record.pack(value)

    def take(self, plain: Any, room: Room) -> Any:
        """Only `Record.fill` knows what to fill."""
        raise TypeError("an object that is filled stands in a record")
