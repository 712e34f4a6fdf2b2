"""Older versions of the format: one converter a step, from each version to the next.

A reader takes a trace of any version through the steps that are missing, so that nothing else in
itstrace knows an old one; `itstrace migrate` writes what it reads. The first step comes with
version 2. Counterpart: tests/golden, which keeps files of every version for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from tracer.events import Event
from tracer.log import format as fmt


class Step(NamedTuple):
    """What makes of a trace of one version one of the next: event for event, for others count."""

    header: Callable[[dict[str, Any]], dict[str, Any]]
    event: Callable[[Event], Event]


STEPS: Final[dict[int, Step]] = {}  # version -> what makes the next one of it


def steps_from(version: int) -> tuple[Step, ...]:
    """Return what makes the version of this itstrace of an older one, step by step."""
    return tuple(STEPS[each] for each in range(version, fmt.VERSION))


def header_now(values: dict[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Return the map of an older header as this version has it."""
    for step in steps:
        values = step.header(values)
    return values | {"version": fmt.VERSION} if steps else values


def events_now(events: tuple[Event, ...], steps: Sequence[Step]) -> tuple[Event, ...]:
    """Return older events as this version has them."""
    for step in steps:
        events = tuple(map(step.event, events))
    return events
