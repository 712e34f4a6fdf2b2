"""Whether a frame's events hold nothing but unsigned numbers, told from the bytes that they were unpacked of.

Most frames are so, and for them this is the whole check of types and ranges, in a few passes that run
in C. Counterpart: `tracer.log.checks`, which is the rule, and judges what is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, compress, takewhile
from operator import itemgetter
from typing import Any, Final

import msgpack

from tracer.events import KINDS, LAST_KIND, REQUIRED, Event, Field
from tracer.log.checks import required


def are_plain(events: Sequence[Any], wire: bytes) -> bool:
    """Return whether all are of kinds and lengths that hold only unsigned numbers, and hold them.

    Times may be negative. `wire` is what msgpack made the events of, one behind the other. False
    says nothing: `check_events` knows more.
    """
    try:
        kinds, lengths = bytes(map(_KIND, events)), bytes(map(len, events))
        if not _none_above(kinds.translate(_LEAST), lengths):
            return False
        if not _none_above(lengths, kinds.translate(_MOST)):
            return False
        count = len(events) + sum(lengths)
        if not _is_unsigned(wire, count) and not _is_unsigned(_times_unsigned(events, wire), count):
            return False
        return _keep_limits(events, kinds, lengths)
    except (TypeError, ValueError, LookupError, OverflowError, msgpack.UnpackException):
        return False


_KIND: Final = itemgetter(0)


def _none_above(low: bytes, high: bytes) -> bool:
    """Return whether no byte of `low` is above the one of `high` at its place, all below 128.

    All at once, as two large numbers: where a byte is above, its difference borrows the top bit.
    (Lengths from 16 on may pass, and have other heads than `_is_unsigned` lets through.)
    """
    tops = int.from_bytes(b"\x80" * len(low))
    difference = (int.from_bytes(high) | tops) - int.from_bytes(low)
    return difference & tops == tops


_NEVER_USED: Final = 0xC1  # msgpack gives this byte no meaning
_UINT8, _UINT64, _INT8, _INT64 = 0xCC, 0xCF, 0xD0, 0xD3


def _as_scalar(byte: int) -> int:
    """Return what a byte of msgpack becomes so that only unsigned numbers and short arrays are left.

    A byte that begins one begins something as long, and an array's head becomes a number; anything
    else becomes a byte that nothing begins with. So bytes within a number may change as they like.
    """
    if byte < 0x80 or 0x92 <= byte <= 0x9F:
        return 0
    return byte if _UINT8 <= byte <= _UINT64 else _NEVER_USED


def _as_unsigned(byte: int) -> int:
    """Return the first byte of an unsigned number as long as the one, if any, that `byte` begins."""
    if _INT8 <= byte <= _INT64:
        return byte - _INT8 + _UINT8
    return 0 if byte >= 0xE0 else byte


_SCALARS: Final = bytes(map(_as_scalar, range(256)))
_UNSIGNED: Final = bytes(map(_as_unsigned, range(256)))
_ARRAY_HEAD: Final = b"\xdd"


def _is_unsigned(wire: bytes | bytearray, count: int) -> bool:
    """Return whether unsigned numbers and heads of arrays stand in `wire`, `count` in all.

    Events in a row are so many as they are and hold, unless there are arrays in them. msgpack steps
    over all of them as over one array of that many, and stops at anything else.
    """
    # A bytearray is translated in half the time that bytes take.
    scalars = _ARRAY_HEAD + count.to_bytes(4) + bytearray(wire).translate(_SCALARS)
    unpacker = msgpack.Unpacker(max_buffer_size=len(scalars), max_array_len=count)
    unpacker.feed(scalars)
    try:
        unpacker.skip()
    except ValueError:
        return False
    return bool(unpacker.tell() == len(scalars))


def _times_unsigned(events: Sequence[Any], wire: bytes) -> bytearray:
    """Return `wire` with as many numbers made unsigned as there are negative times.

    A time is looked for behind the one before. Where its bytes stand in a wrong place, too, it may be
    that one, and then a negative number is left. None is left only if all that there were are times.
    """
    pack = msgpack.Packer().pack
    changed = bytearray(wire)
    at = 0
    for time in map(pack, [event[1] for event in events if event[1] < 0]):
        at = wire.index(time, at + 1)
        changed[at] = _UNSIGNED[wire[at]]
    return changed


def _keep_limits(events: Sequence[Event], kinds: bytes, lengths: bytes) -> bool:
    """Return whether every field of plain events that has a limit of its own is below it."""
    are_bare = _none_above(lengths, kinds.translate(_BARE))
    for (at, limit), (of, is_one) in (_LIMITED_BARE if are_bare else _LIMITED).items():
        if any(map(kinds.__contains__, of)):
            ones = kinds.translate(is_one)
            if not are_bare:
                ones = _both(ones, lengths.translate(_LONGER[at]))
            if max(map(itemgetter(at), compress(events, ones)), default=0) >= limit:
                return False
    return True


def _both(one: bytes, other: bytes) -> bytes:
    """Return where both have ones."""
    both = int.from_bytes(one) & int.from_bytes(other)
    return both.to_bytes(len(one))


_ANY_KIND: Final = range(LAST_KIND + 1)


def _plain(kind: int) -> list[Field]:
    """Return the fields of a plain event: the first ones, as far as they are numbers."""
    fields = KINDS[kind].fields if kind in KINDS else ()
    return list(takewhile(lambda field: field.form not in ("bytes", "text"), fields))


def _limits(fields: list[Field]) -> list[tuple[int, int]]:
    """Return (position in an event, what is too much there) of fields that may not hold 2^64-1."""
    return [
        (at, 2**63 if each.form == "int" else len(each.form))
        for at, each in enumerate(fields, 2)
        if each.form == "int" or type(each.form) is tuple
    ]


def _bare(kind: int) -> list[Field]:
    """Return the fields of a plain event without those that some have and that have limits."""
    return list(
        takewhile(
            lambda field: field.default is REQUIRED or field.form in ("hex", "dec"), _plain(kind)
        )
    )


def _by_limit(
    fields_of: Callable[[int], list[Field]],
) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """Return (position, what is too much there) -> the kinds with that limit, and for each kind whether."""
    limits = [_limits(fields_of(kind)) for kind in _ANY_KIND]
    is_one = {
        place: bytes(place in each for each in limits)
        for place in sorted(set(chain.from_iterable(limits)))
    }
    return {place: (bytes(compress(_ANY_KIND, ones)), ones) for place, ones in is_one.items()}


# By kind, the least and the greatest length of its plain events; none is as short as 0.
_LEAST: Final = bytes(
    2 + required(KINDS[kind].fields) if kind in KINDS else 0 for kind in _ANY_KIND
)
_MOST: Final = bytes(2 + len(_plain(kind)) if kind in KINDS else 0 for kind in _ANY_KIND)
_BARE: Final = bytes(2 + len(_bare(kind)) for kind in _ANY_KIND)
_LIMITED: Final = _by_limit(_plain)
_LIMITED_BARE: Final = _by_limit(_bare)
# By position, for each length whether an event of it has something there.
_LONGER: Final = [bytes(length > at for length in range(256)) for at in range(max(_MOST))]
