"""Compares what an input did on a model with the outputs that a trace has of it.

Nearly always all of it is the same, and that is asked first. Counterpart: `replay.engine`, which
puts each output into its class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from replay.model import effects
from tracer import events as ev
from tracer.events import Event

_MAX_FIELDS: Final = max(len(cls.fields) for cls in ev.KINDS.values())
# Length of an effect -> what of an output stands beside it: the kind, and its fields behind time and
# cause; an output may tell more.
_BESIDE: Final[tuple[Callable[[Event], Any], ...]] = tuple(
    itemgetter(0, *range(3, length + 2)) if length > 1 else itemgetter(slice(1))
    for length in range(_MAX_FIELDS + 2)
)


def all_match(done: Sequence[effects.Effect], outputs: Sequence[Event]) -> bool:
    """Return whether the outputs are what the model has, one by one."""
    if len(done) != len(outputs):
        return False
    try:
        for at, effect in enumerate(done):
            if effect != _BESIDE[len(effect)](outputs[at]):
                return False
    except IndexError:  # the output tells less
        return False
    return True


def difference(effect: effects.Effect, output: Event) -> tuple[str, Any, Any] | None:
    """Return (field, expected, got) of the first observed field that differs, or None."""
    if output[3 : len(effect) + 2] == effect[1:]:
        return None
    if output[0] == effects.COMMAND:
        return _command_difference(effect, output)
    names = [each.name for each in ev.KINDS[output[0]].fields[1:]]
    for name, expected, got in zip(names, effect[1:], output[3:], strict=False):
        if got is not None and got != expected:
            return name, expected, got
    return None


def _command_difference(effect: effects.Effect, output: Event) -> tuple[str, Any, Any] | None:
    if output[3] != effect[1]:
        return "queue_offset", effect[1], output[3]
    for at in range(4):
        known = output[8 + at] if len(output) > 8 + at else -1
        if (effect[2 + at] ^ output[4 + at]) & known:
            return f"dw{at}", effect[2 + at] & known, output[4 + at]
    return None
