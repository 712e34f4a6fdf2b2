"""Moments of a trace as people name them, and how two states differ, field by field.

`1129` is after event 1129, `-1` after the last one that can be reached, `-2` before it; `reset:2` is
after the reset event 2 as `info` lists them, counting from 0, `reset:-1` after the last.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from tracer.errors import UsageError

_MOMENT: Final = re.compile(r"(reset:)?(-?)([0-9]{1,19}|0x[0-9a-f]{1,16})", re.IGNORECASE)


class Events(Protocol):
    """What moments are named in: a trace of which it is known where it ends and has resets."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def first_seq(self) -> int:
        """The first event."""

    def last(self) -> int:
        """Return the last event."""

    def resets(self, count: int | None = None) -> list[int]:
        """Return every reset event, or at least the first `count`."""


def resolve(text: str, timeline: Events) -> int:
    """Return the sequence number that a moment names.

    Raises:
        UsageError: it names none, or none of this trace.
    """
    match = _MOMENT.fullmatch(text)
    if not match:
        raise UsageError(
            f"a moment must be SEQ, -N from the end, reset:N or reset:-N, not {text!r:.40}"
        )
    number = int(match[3], 0 if match[3].startswith(("0x", "0X")) else 10)
    backwards = bool(match[2])
    if match[1]:
        return _of_reset(-number if backwards else number, timeline)
    if not backwards:
        return number
    seq = timeline.last() + 1 - number
    if not number or seq < timeline.first_seq:
        count = timeline.last() + 1 - timeline.first_seq
        raise UsageError(f"{timeline.name}: has {count} events: -{number} is none of them")
    return seq


def _of_reset(number: int, timeline: Events) -> int:
    resets = timeline.resets(number + 1 if number >= 0 else None)
    if not -len(resets) <= number < len(resets):
        raise UsageError(
            f"{timeline.name}: has {len(resets)} resets: reset:{number} is none of them"
        )
    return resets[number]


def resolve_pair(text: str, timeline: Events) -> tuple[int, int]:
    """Return the two sequence numbers that `A..B` names; UsageError when it does not."""
    first, dots, second = text.partition("..")
    if not dots:
        raise UsageError(f"two moments must be A..B, not {text!r:.60}")
    return resolve(first, timeline), resolve(second, timeline)


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Return {path, from, to} of each field that two states do not share, as they are printed.

    A path is one that a predicate understands; `from` or `to` is missing where there is no such
    field, and None where it is not known.
    """
    old, new = dict(_fields(before)), dict(_fields(after))
    found = []
    for path in [*old, *(path for path in new if path not in old)]:
        ends = {key: side[path] for key, side in (("from", old), ("to", new)) if path in side}
        if len(ends) < 2 or ends["from"] != ends["to"]:
            found.append({"path": path, **ends})
    return found


def _fields(state: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return (path, value) of every leaf of a state's document."""
    found: list[tuple[str, Any]] = []
    for number, its in state["its"].items():
        prefix = "" if number == "0" else f"its[{number}]."
        for name, value in its["registers"].items():
            found.append((f"{prefix}registers.{name}", value))
        for device_id, device in its["devices"].items():
            _leaves(f"{prefix}devices[{device_id}]", device, found)
        for part in ("collections", "vpes"):
            for key, entry in its[part].items():
                _leaves(f"{prefix}{part}[{key}]", entry, found)
        for device_id, event_id, intid in its["translation_cache"]:
            found.append((f"{prefix}translation_cache[{device_id}][{event_id}]", intid))
    for part in ("redistributors", "lpis"):
        for key, entry in state[part].items():
            _leaves(f"{part}[{key}]", entry, found)
    return found


def _leaves(path: str, entry: dict[str, Any], found: list[tuple[str, Any]]) -> None:
    for name, value in entry.items():
        if name == "events":
            for event_id, event in value.items():
                _leaves(f"{path}.events[{event_id}]", event, found)
        else:
            found.append((f"{path}.{name}", value))
