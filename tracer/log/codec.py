"""Bytes of a frame's payload: compression within limits, and events with their types checked.

Counterpart: `tracer.log.stream`, which puts payloads into frames. Everything read here was chosen
by whoever wrote the file: sizes are checked before they are believed, and only `PayloadError`
leaves this module.
"""

from __future__ import annotations

import re
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Any, Final

import msgpack

from tracer.events import KINDS, LAST_KIND, REQUIRED, Event, Field, kind_name
from tracer.log import format as fmt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class PayloadError(ValueError):
    """A payload that no writer of this version wrote."""


def compress(raw: bytes, codec: int) -> bytes:
    """Return `raw` compressed with `codec`."""
    if codec == fmt.CODEC_ZSTD:
        return zstd.compress(raw, level=3)
    if codec == fmt.CODEC_ZLIB:
        return zlib.compress(raw, 6)
    return raw


def decompress(stored: bytes, codec: int, raw_size: int) -> bytes:
    """Return the payload; never allocates more than `raw_size` and a byte."""
    if codec == fmt.CODEC_NONE:
        raw = stored
    elif codec == fmt.CODEC_ZLIB:
        raw = _unzlib(stored, raw_size)
    elif codec == fmt.CODEC_ZSTD:
        raw = _unzstd(stored, raw_size)
    else:
        raise PayloadError(f"codec {codec} is not known to this version")
    if len(raw) != raw_size:
        raise PayloadError(f"payload must unpack to {raw_size} bytes, as its frame says")
    return raw


def _unzlib(stored: bytes, raw_size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(stored, raw_size + 1)
    except zlib.error as error:
        raise PayloadError(f"zlib: {error}") from error


def _unzstd(stored: bytes, raw_size: int) -> bytes:
    options = {int(zstd.DecompressionParameter.window_log_max): fmt.ZSTD_WINDOW_LOG_MAX}
    try:
        return zstd.ZstdDecompressor(options=options).decompress(stored, raw_size + 1)
    except zstd.ZstdError as error:
        raise PayloadError(f"zstd: {error}") from error


_KIND: Final = itemgetter(0)
# autoreset packer: one per process, used under the writer's lock or from one thread only
_PACKER: Final = msgpack.Packer(use_bin_type=True)


def pack_events(first_seq: int, events: list[Event]) -> bytes:
    """Return the payload of an event frame."""
    payload: bytes = _PACKER.pack((first_seq, events))
    return payload


def count_events(raw: bytes) -> int:
    """Return how many events a writer's payload holds, without a look at them."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(raw[:_COUNT_BYTES])
    unpacker.read_array_header()
    unpacker.skip()
    count: int = unpacker.read_array_header()
    return count


_COUNT_BYTES: Final = 1 + 9 + 5  # an array of two, a number, the head of an array
_SIZED: Final = frozenset(
    kind
    for kind, cls in KINDS.items()
    if any(field.form in ("bytes", "text") for field in cls.fields)
)


def check_sizes(events: Sequence[Event]) -> None:
    """Check what a writer can get wrong without a packer's noticing; PayloadError names it."""
    if not _SIZED.isdisjoint(map(_KIND, events)):
        for event in events:
            if event[0] in _SIZED:
                check_event(event)


def pack_map(value: dict[str, Any]) -> bytes:
    """Return the payload of a header, index or end frame."""
    payload: bytes = msgpack.packb(value, use_bin_type=True)
    return payload


def unpack_map(raw: bytes) -> dict[str, Any]:
    """Return the map of a header, index or end frame."""
    return _unpack_map(raw, fmt.MAX_FRAME_RAW_BYTES, fmt.MAX_HEADER_ITEMS, fmt.MAX_TEXT_BYTES)


def unpack_list(raw: bytes, items: int, length: int) -> list[Any]:
    """Return a list of at most `items` numbers and bytes of at most `length`."""
    try:
        value = msgpack.unpackb(
            raw, max_array_len=items, max_map_len=0, max_str_len=0, max_ext_len=0,
            max_bin_len=length,
        )  # fmt: skip
    except _MSGPACK_ERRORS as error:
        raise _msgpack_error(error) from error
    if not isinstance(value, list):
        raise PayloadError("payload must be a list")
    return value


def unpack_plain(raw: bytes, most: int) -> dict[str, Any]:
    """Return the map of a checkpoint of at most `most` bytes: within it, sizes are its own."""
    if len(raw) > most:
        raise PayloadError(f"there must be at most {most} bytes, not {len(raw)}")
    return _unpack_map(raw, most, most, most)


def _unpack_map(raw: bytes, most: int, items: int, length: int) -> dict[str, Any]:
    try:
        _skip(raw, most)
        value = msgpack.unpackb(
            raw,
            strict_map_key=True,
            max_map_len=items,
            max_array_len=items,
            max_str_len=length,
            max_bin_len=length,
            max_ext_len=0,
            ext_hook=_no_extension,
        )
    except _MSGPACK_ERRORS as error:
        raise _msgpack_error(error) from error
    if not isinstance(value, dict):
        raise PayloadError("payload must be a map")
    return value


def _skip(raw: bytes, most: int) -> None:
    """Step over `raw` without making anything of it: arrays then hold as much as they claim."""
    unpacker = msgpack.Unpacker(max_buffer_size=most)
    unpacker.feed(raw)
    unpacker.skip()


def _msgpack_error(error: Exception) -> PayloadError:
    return PayloadError(f"msgpack: {str(error) or type(error).__name__}")


def check_plain(value: dict[str, Any]) -> None:
    """Check that `value` is what a header may hold; PayloadError when it is not."""
    level: list[Any] = [value]
    for _ in range(fmt.MAX_HEADER_NESTING + 2):  # the map itself, and what is in the deepest
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                _check_names(item)
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
            elif not _is_scalar(item):
                raise PayloadError(
                    "a value must be null, a boolean, a number or a text of at most "
                    f"{fmt.MAX_TEXT_BYTES} bytes, not {brief(item)}"
                )
        if not below:
            return
        level = below
    raise PayloadError(f"values must not be nested over {fmt.MAX_HEADER_NESTING} deep")


_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def _check_names(keys: Iterable[object]) -> None:
    for key in keys:
        if not isinstance(key, str) or not _NAME.fullmatch(key):
            raise PayloadError(
                f"a key must be a name of letters, digits, _ . and -, not {brief(key)}"
            )


def _is_scalar(item: object) -> bool:
    if isinstance(item, str):
        return _is_text(item)
    if type(item) is int:
        return -(2**63) <= item < 2**64
    return item is None or isinstance(item, bool | float)


def _is_text(text: str) -> bool:
    """Return whether a text can be written: no lone surrogate, not too long."""
    try:
        return len(text.encode()) <= fmt.MAX_TEXT_BYTES
    except UnicodeEncodeError:
        return False


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


_MSGPACK_ERRORS: Final = (
    ValueError, TypeError, RecursionError, OverflowError, msgpack.exceptions.UnpackException,
)  # fmt: skip


def unpack_events(
    raw: bytes, convert: Callable[[tuple[Event, ...]], tuple[Event, ...]] | None = None
) -> tuple[int, tuple[Event, ...]]:
    """Return (first sequence number, events); all known kinds have the types of their schema.

    `convert` makes them what they are now, in a trace of an older version.

    Raises:
        PayloadError: the payload is not what a writer of any version writes.
    """
    try:
        first_seq, events = _unpack_events(raw)
        if convert is not None:
            events = convert(events)
    except PayloadError:
        raise
    except (*_MSGPACK_ERRORS, LookupError) as error:
        raise _msgpack_error(error) from error
    if type(first_seq) is not int or not 0 <= first_seq < fmt.MAX_SEQ:
        raise PayloadError("first sequence number must be a small integer")
    check_events(events)
    # msgpack's booleans, which pass for numbers
    if (b"\xc2" in raw or b"\xc3" in raw) and bool in map(type, chain.from_iterable(events)):
        _check_each(events)
    return first_seq, events


def _unpack_events(raw: bytes) -> tuple[Any, tuple[Event, ...]]:
    """Unpack event by event, so that no array inside one can claim more than an event may have."""
    unpacker = msgpack.Unpacker(
        use_list=False,
        raw=False,
        max_buffer_size=fmt.MAX_FRAME_RAW_BYTES,
        max_array_len=fmt.MAX_EVENT_FIELDS,
        max_map_len=0,
        max_str_len=fmt.MAX_TEXT_BYTES,
        max_bin_len=fmt.MAX_EVENT_BYTES,
        max_ext_len=0,
        ext_hook=_no_extension,
    )
    unpacker.feed(raw)
    _array_header(unpacker, 2, 2, "payload must be [first sequence number, events]")
    first_seq = unpacker.unpack()
    most = fmt.MAX_EVENTS_PER_FRAME
    count = _array_header(unpacker, 1, most, f"events must be an array of 1 to {most}")
    events = tuple(islice(unpacker, count))
    if len(events) != count or unpacker.tell() != len(raw):
        raise PayloadError("payload must hold as many events as it says and nothing else")
    return first_seq, events


def _array_header(unpacker: msgpack.Unpacker, least: int, most: int, wrong: str) -> int:
    """Return the length of the array that begins here; PayloadError(wrong) for anything else."""
    try:
        count: int = unpacker.read_array_header()
    except ValueError as error:
        raise PayloadError(wrong) from error
    if not least <= count <= most:
        raise PayloadError(wrong)
    return count


_TIME: Final = itemgetter(1)


def check_events(events: Sequence[Event]) -> None:
    """Check shape, types and ranges of every event; PayloadError names the first bad one.

    The common case is a few passes that run in C: the set of (kind, length) pairs, then one flat
    array of 64-bit numbers, which nothing but such numbers fits. Anything unusual (a text, a
    null, a time that goes back, an unknown kind) is looked at event by event.
    """
    try:
        shapes = set(zip(map(_KIND, events), map(len, events), strict=True))
        if shapes <= _PLAIN_SHAPES and set(map(type, events)) == {tuple}:
            _fits_unsigned(events)
            if _known_names(events, shapes):
                return
    except (TypeError, IndexError, KeyError, OverflowError):
        pass
    _check_each(events)


def _check_each(events: Sequence[Event]) -> None:
    for at, event in enumerate(events):
        try:
            check_event(event)
        except PayloadError as error:
            raise PayloadError(f"event {at} of its frame: {error}") from error


def _fits_unsigned(events: Sequence[Event]) -> None:
    """Raise TypeError or OverflowError unless all is 0 to 2^64-1, but for times, which may be < 0."""
    try:
        array("Q", list(chain.from_iterable(events)))
    except OverflowError:
        array("q", list(map(_TIME, events)))
        array("Q", list(chain.from_iterable(map(_WITHOUT_TIME, events))))


def _known_names(events: Sequence[Event], shapes: set[tuple[int, int]]) -> bool:
    """Return whether every enumeration in events of these shapes has one of its names."""
    for (at, count), possible in _ENUMERATED.items():
        here = possible & shapes
        if here:
            kinds = {kind for kind, _ in here}
            # A shorter event of the same kind leaves this field at its default.
            values = [event[at] for event in events if event[0] in kinds and at < len(event)]
            if max(values) >= count:
                return False
    return True


_WITHOUT_TIME: Final = itemgetter(slice(2, None))
_NUMBERS: Final = ("hex", "dec")


def _required(fields: tuple[Field, ...]) -> int:
    return sum(1 for field in fields if field.default is REQUIRED)


# kind -> (position in the event, number of names) of its enumerations
_ENUMERATIONS: Final = {
    kind: [
        (at, len(field.form)) for at, field in enumerate(cls.fields, 2) if type(field.form) is tuple
    ]
    for kind, cls in KINDS.items()
}
# (kind, length) of events that hold nothing but unsigned numbers
_PLAIN_SHAPES: Final = frozenset(
    (kind, 2 + count)
    for kind, cls in KINDS.items()
    for count in range(_required(cls.fields), len(cls.fields) + 1)
    if all(field.form in _NUMBERS or type(field.form) is tuple for field in cls.fields[:count])
)
# (position, number of names) -> the shapes that have such an enumeration there
_ENUMERATED: Final = {
    place: frozenset(
        (kind, size)
        for kind, size in _PLAIN_SHAPES
        if place[0] < size and place in _ENUMERATIONS[kind]
    )
    for places in _ENUMERATIONS.values()
    for place in places
}


def check_event(event: object) -> None:
    """Check shape, types and ranges of one event; PayloadError says what is wrong with it."""
    if type(event) is not tuple or not 2 <= len(event) <= fmt.MAX_EVENT_FIELDS:
        raise PayloadError(f"an event must be an array of 2 to {fmt.MAX_EVENT_FIELDS}")
    kind, dt_ns = event[0], event[1]
    if type(kind) is not int or not 0 <= kind <= LAST_KIND:
        raise PayloadError(f"a kind must be 0 to {LAST_KIND}, not {brief(kind)}")
    if type(dt_ns) is not int or not -(2**63) <= dt_ns < 2**64:
        raise PayloadError(f"a time must be -2^63 to 2^64-1 nanoseconds, not {brief(dt_ns)}")
    cls = KINDS.get(kind)
    _check_fields(kind_name(kind), cls.fields if cls else (), event[2:])


def _check_fields(name: str, fields: tuple[Field, ...], values: tuple[object, ...]) -> None:
    for field, value in zip(fields, values, strict=False):
        if not fits(field, value):
            raise PayloadError(f"{name}: {field.name} must not be {brief(value)}")
    if len(values) < _required(fields):
        raise PayloadError(f"{name} needs {fields[len(values)].name}")
    for at, value in enumerate(values[len(fields) :], len(fields)):
        if not _fits_unknown(value):
            raise PayloadError(
                f"{name}: field.{at} must hold null, integers, texts, bytes and arrays of these, "
                f"{fmt.MAX_NESTING} deep and {fmt.MAX_EVENT_FIELDS} long at most, "
                f"not {brief(value)}"
            )


def _fits_unknown(value: object, depth: int = fmt.MAX_NESTING) -> bool:
    """Return whether a field that this version does not know holds what any version may write."""
    if type(value) is not tuple:
        return _is_event_scalar(value)
    if not depth or len(value) > fmt.MAX_EVENT_FIELDS:
        return False
    return all(map(_fits_unknown, value, repeat(depth - 1)))


def _is_event_scalar(item: object) -> bool:
    if type(item) is int:
        return -(2**63) <= item < 2**64
    if type(item) is str:
        return _is_text(item)
    return item is None or (type(item) is bytes and len(item) <= fmt.MAX_EVENT_BYTES)


MAX_SHOWN: Final = 1000


def brief(value: object) -> str:
    """Return a value for a message: short, and never by walking into a long one."""
    if isinstance(value, list | tuple | dict) or (
        isinstance(value, str | bytes) and len(value) > MAX_SHOWN
    ):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.40}"


def fits(field: Field, value: object) -> bool:
    """Return whether `value` has the type and range of `field`."""
    form = field.form
    if value is None:
        return field.default is None
    if form == "bytes":
        return type(value) is bytes and len(value) <= fmt.MAX_EVENT_BYTES
    if form == "text":
        return type(value) is str and _is_text(value)
    if type(value) is not int:
        return False
    if form == "int":
        return -(2**63) <= value < 2**63
    if isinstance(form, tuple):
        return 0 <= value < len(form)
    return 0 <= value < 2**64
