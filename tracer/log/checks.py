"""Whether events are what their kinds say: shapes, types and ranges, of one event and of many.

`check_event` is the rule, in the order in which its messages name things. `check_events` judges
the same of thousands at once, in passes that run in C. Counterpart: `tracer.events`, which says
what each kind holds.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final

from tracer.events import KINDS, LAST_KIND, REQUIRED, Field, kind_name
from tracer.log import format as fmt


class PayloadError(ValueError):
    """A payload that no writer of this version wrote."""


MAX_SHOWN: Final = 1000


def brief(value: object) -> str:
    """Return a value for a message: short, and never by walking into a long one."""
    if isinstance(value, list | tuple | dict) or (
        isinstance(value, str | bytes) and len(value) > MAX_SHOWN
    ):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.40}"


# -- one event


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
    if len(values) < required(fields):
        raise PayloadError(f"{name} needs {fields[len(values)].name}")
    for at, value in enumerate(values[len(fields) :], len(fields)):
        if not _fits_unknown(value):
            raise PayloadError(
                f"{name}: field.{at} must hold null, integers, texts, bytes and arrays of these, "
                f"{fmt.MAX_NESTING} deep and {fmt.MAX_EVENT_FIELDS} long at most, "
                f"not {brief(value)}"
            )


def required(fields: tuple[Field, ...]) -> int:
    """Return how many fields an event must have."""
    return sum(1 for field in fields if field.default is REQUIRED)


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
        return is_text(item)
    return item is None or (type(item) is bytes and len(item) <= fmt.MAX_EVENT_BYTES)


def is_text(text: str) -> bool:
    """Return whether a text can be written: no lone surrogate, not too long."""
    try:
        return len(text.encode()) <= fmt.MAX_TEXT_BYTES
    except UnicodeEncodeError:
        return False


def fits(field: Field, value: object) -> bool:
    """Return whether `value` has the type and range of `field`."""
    form = field.form
    if value is None:
        return field.default is None
    if form == "bytes":
        return type(value) is bytes and len(value) <= fmt.MAX_EVENT_BYTES
    if form == "text":
        return type(value) is str and is_text(value)
    if type(value) is not int:
        return False
    if form == "int":
        return -(2**63) <= value < 2**63
    if isinstance(form, tuple):
        return 0 <= value < len(form)
    return 0 <= value < 2**64


# -- many events


def check_events(events: Sequence[Any]) -> None:
    """Check every event; PayloadError names the first bad one."""
    if len(events) > 1 and are_usual(events):  # which takes longer than to look at a single one
        return
    for at, event in enumerate(events):
        try:
            check_event(event)
        except PayloadError as error:
            raise PayloadError(f"event {at} of its frame: {error}") from error


def are_usual(events: Sequence[Any]) -> bool:
    """Return whether every event passes; False, too, where some must be looked at one by one.

    Those of one kind and length are laid side by side, and a field is judged of all of them at
    once. False for what is neither: an unknown kind, or more fields than this version knows.
    """
    try:
        return _all_of(tuple, events) and _fit_by_columns(events)
    except (TypeError, ValueError, LookupError, OverflowError):
        return False


def _all_of(wanted: type, values: Collection[object]) -> bool:
    """Return whether all are of this very type."""
    return list(map(type, values)).count(wanted) == len(values)


def _fit_by_columns(events: Sequence[Any]) -> bool:
    """Return whether all are of known kinds, and every field of theirs fits."""
    alike: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
    for event in events:
        alike[event[0], len(event)].append(event)
    return all(_fit(_COLUMNS[kind], size, same) for (kind, size), same in alike.items())


def _fit(fits_columns: Columns, size: int, events: list[Any]) -> bool:
    """Return whether events of one kind and size fit."""
    least, checks = fits_columns
    if not least <= size <= len(checks):
        return False
    return all(
        check(column) for check, column in zip(checks, zip(*events, strict=True), strict=False)
    )


def _fits_all(field: Field) -> Callable[[Collection[Any]], bool]:
    """Return `fits` of many values of a field."""
    form = field.form
    if form == "bytes":
        check: Callable[[Collection[Any]], bool] = _are_bytes
    elif form == "text":
        check = _are_texts
    elif form == "int":
        check = partial(_are_numbers, -(2**63), 2**63)
    elif isinstance(form, tuple):
        check = partial(_are_numbers, 0, len(form))
    else:
        check = _are_unsigned_numbers
    return partial(_are_null_or, check) if field.default is None else check


def _are_numbers(low: int, end: int, values: Collection[Any]) -> bool:
    return _all_of(int, values) and low <= min(values) and max(values) < end


def _are_unsigned_numbers(values: Collection[Any]) -> bool:
    """Return whether all are 0 to 2^64-1; OverflowError when one is not."""
    return _all_of(int, values) and len(array("Q", values)) > 0


def _are_bytes(values: Collection[Any]) -> bool:
    return _all_of(bytes, values) and max(map(len, values)) <= fmt.MAX_EVENT_BYTES


def _are_texts(values: Collection[Any]) -> bool:
    return _all_of(str, values) and all(map(is_text, values))


def _are_null_or(check: Callable[[Collection[Any]], bool], values: Collection[Any]) -> bool:
    given = [value for value in values if value is not None]
    return not given or check(given)


Columns = tuple[int, tuple[Callable[[Collection[Any]], bool], ...]]
# kind -> the least length of its events, and what judges each position
_COLUMNS: Final[dict[int, Columns]] = {
    kind: (
        2 + required(cls.fields),
        (
            partial(_all_of, int),  # and equal, being laid side by side: but so are 1, True and 1.0
            partial(_are_numbers, -(2**63), 2**64),
            *map(_fits_all, cls.fields),
        ),
    )
    for kind, cls in KINDS.items()
}
