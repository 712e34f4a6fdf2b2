"""A candidate lifted into items, and lowered again.

Times, causes and the queue's offsets are not in it: they follow from what there is. Counterparts:
`passes`, which make a script smaller, and `oracle`, whose candidates are lowered scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from replay.minimize import queue
from replay.minimize.items import COMMAND, KICK, Item, Items
from replay.minimize.oracle import Candidate
from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.log.header import Header

_PROBE: Final = NUMBER["probe"]
_MEM_READ: Final = NUMBER["mem.read"]
# Reads: what was asked stands in them beside what came.
QUESTIONS: Final = frozenset(
    (NUMBER["reg.read"], NUMBER["gicr.read"], NUMBER["gicd.read"], _MEM_READ)
)
# What the engine asks of a model without an input that caused it.
_ASKED: Final = frozenset((NUMBER["its.live"], NUMBER["xlat.miss"], NUMBER["lpi.ack"]))
_LISTED: Final = frozenset((NUMBER["lpi.live"], NUMBER["its.live"]))
# Inputs that are no operation of a guest or VMM: contents of RAM, and where it is.
_NOT_COUNTED: Final = frozenset(NUMBER[name] for name in ("mem.write", "ram", "context"))


class Script(NamedTuple):
    """A trace as items."""

    header: Header
    items: Items

    def but(self, items: Iterable[Item]) -> Script:
        """Return it with other items."""
        return Script(self.header, tuple(items))


def lift(candidate: Candidate, *, outputs: bool, commands: bool = True) -> Script:
    """Return a candidate as a script; without `outputs`, those with a cause are left out."""
    items = tuple(_items(candidate.events, outputs=outputs))
    return Script(candidate.header, queue.lift(items) if commands else items)


def _items(events: Iterable[Event], *, outputs: bool) -> Iterator[Item]:
    """Yield items: an output belongs to the input right before it, a row to its listing."""
    held: Event | None = None
    of_held: list[Event] = []
    at = listing = -1
    for seq, event in enumerate(events):
        kind = event[0]
        if listing >= 0 and (kind in _LISTED or kind == _PROBE):
            of_held.append(_undated(event))
            listing = -1 if kind == _PROBE else listing
        elif _stands_alone(kind, outputs=outputs):
            if held is not None:
                yield Item(held, tuple(of_held) if outputs else ())
            held, of_held, at = _undated(event), [], seq
            listing = seq if kind == _PROBE and event[2] == 0 else -1
        elif kind < ev.FIRST_NOTE and kind in ev.KINDS and seq - event[2] == at:
            of_held.append(_undated(event))
    if held is not None:
        yield Item(held, tuple(of_held) if outputs else ())


def _stands_alone(kind: int, *, outputs: bool) -> bool:
    if kind < ev.FIRST_OUTPUT or kind in QUESTIONS or kind == _PROBE:
        return True
    return outputs and (kind in _ASKED or kind >= ev.FIRST_NOTE)


def _undated(event: Event) -> Event:
    """Return an event without its time and, where it is a read of RAM, its cause."""
    return (event[0], 0, 0, *event[3:]) if event[0] == _MEM_READ else (event[0], 0, *event[2:])


def lower(script: Script) -> Candidate:
    """Return a script as a candidate."""
    events: list[Event] = []
    for item in queue.lay(script.items):
        events.append(item.event)
        if item.outputs:
            at = len(events) - 1
            events += (_caused(each, at, seq) for seq, each in enumerate(item.outputs, at + 1))
    return Candidate(script.header, tuple(events))


def _caused(output: Event, cause: int, seq: int) -> Event:
    """Return an output that names event `cause`; rows and ends of listings name none."""
    if output[0] >= ev.FIRST_NOTE or output[0] in _LISTED:
        return output
    return (output[0], 0, seq - cause, *output[3:])


def is_input(item: Item) -> bool:
    """Return whether an item counts as an input: a command, a register, an MSI, an attribute.

    Four zero doublewords are no command, but RAM that nobody wrote.
    """
    kind = item.event[0]
    if kind == COMMAND:
        return any(item.event[2:])
    return kind == KICK or (kind < ev.FIRST_OUTPUT and kind not in _NOT_COUNTED)


def count_inputs(candidate: Candidate) -> int:
    """Return how many inputs a trace has beside contents of RAM: what its size is told by."""
    return sum(map(is_input, lift(candidate, outputs=False).items))
