"""A part of a trace, as `diff` takes it: TRACE, TRACE@reset:1, TRACE@100..200, TRACE@..reset:0.

`reset:N` alone is one life: what stands behind reset N, up to the next reset. As the beginning of a
range it is the event behind that reset, as its end the one before it. Resets are counted from 0, as
they stand in the trace; a reinit is no reset event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracer.errors import UsageError
from tracer.events import NUMBER, Event
from tracer.log.opening import AnyReader

_RESET: Final = NUMBER["reset"]
_CONTEXT: Final = NUMBER["context"]
_PLACE: Final = re.compile(r"(reset:)?(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Place:
    """An event, or a reset by its number."""

    number: int
    reset: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A trace and the range of it that is compared."""

    path: str
    first: Place | None = None
    last: Place | None = None
    life: bool = False  # up to the next reset
    text: str = ""


def parse_part(text: str) -> Part:
    """Return what a command line names.

    Raises:
        UsageError: behind the last @ stands something that is no range.
    """
    path, at, where = text.rpartition("@")
    if not at or _exists(text):
        return Part(text, text=text)
    begin, dots, end = where.partition("..")
    first, last = _place(begin, text), _place(end, text)
    if first is None and last is None:
        raise _wrong(text)
    if dots:
        return Part(path, first, last, text=text)
    if first and not first.reset:
        return Part(path, first, first, text=text)
    return Part(path, first, life=True, text=text)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False  # no file can have such a name


def _place(text: str, whole: str) -> Place | None:
    if not text:
        return None
    match = _PLACE.fullmatch(text)
    if not match:
        raise _wrong(whole)
    return Place(int(match[2]), match[1] is not None)


def _wrong(text: str) -> UsageError:
    return UsageError(f"{text:.80}: behind @ must stand reset:N, A..B, A.. or ..B")


def events_of(reader: AnyReader, part: Part) -> Iterator[tuple[int, Event]]:
    """Yield (seq, event) of the part; contexts before it, too, as they say what follows it.

    Raises:
        UsageError: there is no such place in the trace.
    """
    resets = -1
    begun = part.first is None
    for first_seq, events in reader:
        if reader.status == "damaged":
            return
        for seq, event in enumerate(events, first_seq):
            if event[0] == _RESET:
                resets += 1
                if begun and (part.life or _is_reset(part.last, resets)):
                    return
                if not begun and _is_reset(part.first, resets):
                    begun = True
                    continue
            if not begun and part.first and not part.first.reset:
                begun = seq >= part.first.number
            if part.last and not part.last.reset and seq > part.last.number:
                return
            if begun or event[0] == _CONTEXT:
                yield seq, event
    _reached(reader, part, resets, begun=begun)


def _is_reset(place: Place | None, number: int) -> bool:
    return place is not None and place.reset and place.number == number


def _reached(reader: AnyReader, part: Part, resets: int, *, begun: bool) -> None:
    missing = part.last if part.last and part.last.reset else None if begun else part.first
    if missing is None:
        return
    if missing.reset:
        raise UsageError(f"{reader.name}: there is no reset {missing.number}; the last is {resets}")
    raise UsageError(f"{reader.name}: there is no event {missing.number}")
