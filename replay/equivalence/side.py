"""One instance of a target: what it was asked, and all that it answered, as a trace has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from replay.equivalence.comparison import value_of
from replay.model.effects import HostCrash
from replay.protocols import NOT_JUDGED
from replay.targets.ahead import Group, Grouper, Inspectable, Item
from tracer import events as ev
from tracer.events import NUMBER, Event, make

_BATCH: Final = 4096
_PROBE: Final = NUMBER["probe"]


class Crashed(Exception):
    """A host died of what an instance was asked."""

    def __init__(self, crash: HostCrash, oops: Sequence[str]) -> None:
        super().__init__(str(crash))
        self.function = crash.function
        self.oops = list(oops)


class Side:
    """One instance, and what it was asked and answered."""

    def __init__(self, target: Inspectable) -> None:
        self.target = target
        self.tape: list[Event] = []

    def live(self, events: Iterable[Event]) -> None:
        """Carry out a life."""
        grouper = Grouper(self.target.asked)
        groups = [*grouper.take(0, list(events)), *grouper.rest()]
        for at in range(0, len(groups), _BATCH):
            self._carry_out(groups[at : at + _BATCH])

    def ask(self, events: Sequence[Event]) -> list[Any]:
        """Carry out events, and return what each answered."""
        items = self._carry_out([Group(0, event, ()) for event in events])
        return [value_of(item) for item in items]

    def _carry_out(self, groups: Sequence[Group]) -> list[Item]:
        known = [group for group in groups if group.event[0] < ev.FIRST_OUTPUT or self._asks(group)]
        items = self.target.carry_out(known)
        for item in items:
            self.tape += _recorded(item)
        crash = next((item[1] for item in items if isinstance(item[1], HostCrash)), None)
        if crash is not None:
            raise Crashed(crash, self.target.oops)
        return items

    def _asks(self, group: Group) -> bool:
        return group.event[0] in self.target.asked


def _recorded(item: Item) -> list[Event]:
    """Return an event as it happened here, with what it answered."""
    event, value = item[0], value_of(item)
    if event[0] == _PROBE:
        if not isinstance(value, dict):  # it lists none here, or died of what came before
            return [event]
        rows = [
            make("lpi.live", 0, cause=0, intid=intid, **row._asdict())
            for intid, row in sorted(value.items())
        ]
        return [event, *rows, make("probe", 0, edge=1, lists=1)]
    if event[0] >= ev.FIRST_OUTPUT:
        known = value not in (None, NOT_JUDGED) and not isinstance(value, HostCrash)
        return [_answered(event, value)] if known else []
    kind = {"msi": "msi.result"}.get(ev.kind_name(event[0]))
    if value in (None, NOT_JUDGED) or isinstance(value, HostCrash):
        return [event]
    if kind:
        return [event, make(kind, 0, cause=1, result=value)]
    return [event, make("attr.result", 0, cause=1, errno=value)]


def _answered(event: Event, value: Any) -> Event:
    fields = ev.fields_of(event)
    for name in ("value", "data"):
        if name in fields:
            fields[name] = value
    if value == "bad":
        fields |= {"value": 0, "bad": 1}
    return make(ev.kind_name(event[0]), 0, **fields)
