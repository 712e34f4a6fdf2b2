"""Bytes of a frame's payload: compression within limits, and events with their types checked.

Counterpart: `tracer.log.stream`, which puts payloads into frames. Everything read here was chosen
by whoever wrote the file: sizes are checked before they are believed, and only `PayloadError`
leaves this module.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import msgpack

from tracer.events import KINDS, Event
from tracer.log import format as fmt
from tracer.log.checks import PayloadError, are_usual, brief, check_event, check_events, is_text
from tracer.log.plain import are_plain

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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


# autoreset packer: one per process, used under the writer's lock or from one thread only
_PACKER: Final = msgpack.Packer(use_bin_type=True)


def pack_events(first_seq: int, events: list[Event]) -> bytes:
    """Return the payload of an event frame.

    Raises:
        OverflowError, TypeError, ValueError: no reader would take it.
    """
    if not _SIZED.isdisjoint(map(_KIND, events)):
        _check_sizes(events)
    payload: bytes = _PACKER.pack((first_seq, events))
    if len(payload) > fmt.MAX_FRAME_RAW_BYTES:
        raise PayloadError(f"{len(payload)} bytes are too many for a frame")
    return payload


def count_events(raw: bytes) -> int:
    """Return how many events a writer's payload holds, without a look at them."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(raw[:_HEAD_BYTES])
    unpacker.read_array_header()
    unpacker.skip()
    count: int = unpacker.read_array_header()
    return count


_KIND: Final = itemgetter(0)
_HEAD_BYTES: Final = 1 + 9 + 5  # an array of two, a number, the head of an array
_SIZED: Final = frozenset(
    kind
    for kind, cls in KINDS.items()
    if any(field.form in ("bytes", "text") for field in cls.fields)
)


def _check_sizes(events: Sequence[Event]) -> None:
    """Check what a writer can get wrong without a packer's noticing; PayloadError names it."""
    sized = [event for event in events if event[0] in _SIZED]
    if len(sized) == 1 or not are_usual(sized):
        for event in sized:
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
        return is_text(item)
    if type(item) is int:
        return -(2**63) <= item < 2**64
    return item is None or isinstance(item, bool | float)


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
        first_seq, events, wire = _unpack_events(raw)
        if convert is not None:
            as_read, events = events, convert(events)
            wire = wire if events is as_read else b""
    except PayloadError:
        raise
    except (*_MSGPACK_ERRORS, LookupError) as error:
        raise _msgpack_error(error) from error
    if type(first_seq) is not int or not 0 <= first_seq < fmt.MAX_SEQ:
        raise PayloadError("first sequence number must be a small integer")
    if len(events) == 1 or not are_plain(events, wire):
        check_events(events)
    return first_seq, events


def _unpack_events(raw: bytes) -> tuple[Any, tuple[Event, ...], bytes]:
    """Return (first sequence number, events, what they were unpacked of).

    All at once; where they are many, one by one, so that no array claims as much.
    """
    most = fmt.MAX_EVENTS_PER_FRAME
    head = _unpacker(raw[:_HEAD_BYTES], fmt.MAX_EVENT_FIELDS)
    _array_header(head, 2, 2, "payload must be [first sequence number, events]")
    first_seq = head.unpack()
    begin = head.tell()
    count = _array_header(head, 1, most, f"events must be an array of 1 to {most}")
    wire = raw[head.tell() :]
    if count > fmt.MAX_EVENTS_AT_ONCE:
        begin = head.tell()
        unpacker = _unpacker(wire, fmt.MAX_EVENT_FIELDS)
        events = tuple(islice(unpacker, count))
    else:
        unpacker = _unpacker(raw[begin:], max(count, fmt.MAX_EVENT_FIELDS))
        events = next(unpacker, ())
    if len(events) != count or begin + unpacker.tell() != len(raw):
        raise PayloadError("payload must hold as many events as it says and nothing else")
    return first_seq, events, wire


def _unpacker(raw: bytes, most: int) -> msgpack.Unpacker:
    """Return an unpacker of events, whose arrays may be of `most`."""
    unpacker = msgpack.Unpacker(
        use_list=False,
        raw=False,
        max_buffer_size=max(len(raw), 1),
        max_array_len=most,
        max_map_len=0,
        max_str_len=fmt.MAX_TEXT_BYTES,
        max_bin_len=fmt.MAX_EVENT_BYTES,
        max_ext_len=0,
        ext_hook=_no_extension,
    )
    unpacker.feed(raw)
    return unpacker


def _array_header(unpacker: msgpack.Unpacker, least: int, most: int, wrong: str) -> int:
    """Return the length of the array that begins here; PayloadError(wrong) for anything else."""
    try:
        count: int = unpacker.read_array_header()
    except ValueError as error:
        raise PayloadError(wrong) from error
    if not least <= count <= most:
        raise PayloadError(wrong)
    return count
