"""Objects of a few known classes as bytes and back: those that several others hold stay one.

What a verifier holds is no tree: its evidence and its verdicts are the same components. What never
changes (numbers, tuples, frozen dataclasses) is packed as often as it is held. Nothing is built
but classes that whoever packs names, with the attributes that he names; the bytes depend on the values,
on the order of their dicts and lists, and on what is shared, and on nothing else. Of a list that only
grows (`logs`) the last item is packed, and how many stand before it.
Counterparts: `replay.shapes`, which packs a model's state; `replay.watched` and `replay.segments`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgpack

from tracer.log.checks import PayloadError, brief

MAX_BYTES: Final = 64 << 20  # of what is unpacked
TEXT: Final = "surrogatepass"  # the name of a file may be no UTF-8
Classes = Mapping[type, tuple[str, ...]]  # class -> its attributes; those in a dict may be missing
_PLAIN: Final = (bool, str, bytes, type(None))
_BIG, _TUPLE, _VALUE, _LIST, _LOG, _DICT, _SET, _OBJECT, _SEEN, _GIVEN = range(10)


def packed(
    value: Any,
    classes: Classes,
    *,
    logs: Sequence[list[Any]] = (),
    given: Callable[[Any], Any] = lambda value: None,
) -> bytes:
    """Return the bytes of `value`.

    `given` returns something plain for an object that it makes again by itself, and None for others.

    Raises:
        TypeError: something in it is of no known class.
    """
    packer = _Packer(classes, {id(each) for each in logs}, given)
    raw: bytes = msgpack.packb(packer.plain(value), use_bin_type=True, unicode_errors=TEXT)
    return raw


def unpacked(
    raw: bytes,
    classes: Classes,
    *,
    made: Callable[[Any], Any] = lambda plain: None,
) -> Any:
    """Return the value; in a log None stands for what was not packed. `made` is given what `given` gave.

    Raises:
        PayloadError: the bytes are none of `packed` with these classes.
    """
    if len(raw) > MAX_BYTES:
        raise PayloadError(f"{len(raw)} bytes are too many")
    try:
        plain = msgpack.unpackb(raw, strict_map_key=False, unicode_errors=TEXT)
        return _Unpacker(list(classes.items()), made).value(plain)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise PayloadError(f"no such objects: {brief(str(error))}") from error


class _Packer:
    def __init__(self, classes: Classes, logs: set[int], given: Callable[[Any], Any]) -> None:
        self._classes = classes
        self._numbers = {each: at for at, each in enumerate(classes)}
        self._values = {each for each in classes if _is_frozen(each)}
        self._logs = logs
        self._given = given
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is an object's only while it lives

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 64 else [_BIG, hex(value)]
        if kind is tuple:
            return [_TUPLE, *map(self.plain, value)]
        if kind in self._values:
            return [_VALUE, *self._object(kind, value)]
        at = self._seen.get(id(value))
        if at is not None:
            return [_SEEN, at]
        self._seen[id(value)] = len(self._alive)
        self._alive.append(value)
        return self._shared(kind, value)

    def _shared(self, kind: type, value: Any) -> list[Any]:
        if kind is list and id(value) in self._logs:
            return [_LOG, max(len(value) - 1, 0), *map(self.plain, value[-1:])]
        if kind is list:
            return [_LIST, *map(self.plain, value)]
        if kind is dict:
            return [_DICT, *map(self.plain, _flat(value))]
        if kind is set:
            return [_SET, *map(self.plain, sorted(value, key=_order))]
        if kind in self._classes:
            return [_OBJECT, *self._object(kind, value)]
        plain = self._given(value)
        if plain is None:
            raise TypeError(f"{kind.__qualname__} is none of the classes")
        return [_GIVEN, plain]

    def _object(self, kind: type, value: Any) -> Iterator[Any]:
        names = self._classes[kind]
        yield self._numbers[kind]
        unknown = getattr(value, "__dict__", {}).keys() - set(names)
        if unknown:
            raise TypeError(f"{type(value).__qualname__} has {', '.join(sorted(unknown))} too")
        for at, name in enumerate(names):
            if hasattr(value, "__dict__") and name not in value.__dict__:
                continue  # a cached property that nobody asked for
            yield at
            yield self.plain(getattr(value, name))


def _is_frozen(kind: type) -> bool:
    params = getattr(kind, "__dataclass_params__", None)
    return params is not None and bool(params.frozen)


def _flat(value: dict[Any, Any]) -> Iterator[Any]:
    for key, item in value.items():
        yield key
        yield item


def _order(value: Any) -> tuple[str, Any]:
    """Return by what a set's items of several types are ordered."""
    return type(value).__name__, value


class _Unpacker:
    def __init__(
        self, classes: list[tuple[type, tuple[str, ...]]], made: Callable[[Any], Any]
    ) -> None:
        self._classes = classes
        self._made = made
        self._seen: list[Any] = []

    def value(self, plain: Any) -> Any:
        if type(plain) is not list:
            if type(plain) is int or type(plain) in _PLAIN:
                return plain
            raise ValueError(f"{plain!r:.40}")
        tag, items = plain[0], plain[1:]
        if tag == _TUPLE:
            return tuple(map(self.value, items))
        if tag == _BIG:
            return int(items[0], 16)
        if tag == _SEEN:
            return self._seen[items[0]]
        if tag == _VALUE:
            kind, names = self._classes[items[0]]
            return kind(**dict(self._attributes(names, items[1:])))
        return self._shared(tag, items)

    def _shared(self, tag: int, items: list[Any]) -> Any:
        found: Any
        if tag == _OBJECT:
            kind, names = self._classes[items[0]]
            found = kind.__new__(kind)
            self._seen.append(found)
            for name, item in self._attributes(names, items[1:]):
                setattr(found, name, item)
            return found
        if tag == _GIVEN:
            found = self._made(items[0])
            self._seen.append(found)
            return found
        found = {_LIST: list, _LOG: list, _DICT: dict, _SET: set}[tag]()
        self._seen.append(found)
        if tag == _LOG:
            found += [None] * items[0]
            items = items[1:]
        values = map(self.value, items)
        if tag == _DICT:
            found.update(zip(values, values, strict=True))
        elif tag == _SET:
            found.update(values)
        else:
            found.extend(values)
        return found

    def _attributes(self, names: tuple[str, ...], items: list[Any]) -> Iterator[tuple[str, Any]]:
        for at, item in zip(items[::2], items[1::2], strict=True):
            yield names[at], self.value(item)
