"""Of what is stale after a reset: who planted it, what that rested on, and what it lived through.

One more replay, with the history that `itstrace blame` keeps, asked at each reset that left something.
Counterparts: `replay.blame`, whose answers these are, and assets/resets.js, which shows them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from replay.blame import Blamer
from replay.blamed import Blame, add_verdicts
from replay.components import Target
from replay.decode import describe
from replay.engine import Engine
from replay.history import Act, History
from replay.judge import AnyModel
from replay.protocols import Frames
from replay.verdict import Component, ResetVerdict, RoundTrip
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import NUMBER, Event
from tracer.log.header import IN_PROCESS

MAX_STORIES: Final = 100  # of one report
_MAX_KEYS: Final = 64  # of one list that are asked who wrote them
_NOBODY: Final = Target("")
_COMMAND: Final = NUMBER["command"]
Place = tuple[int, str]  # the reset or restore, and the component
Story = dict[str, Any]


@dataclass(slots=True)
class Question:
    """What may be the stale part of a component, and who is known to have planted it."""

    seq: int
    component: str
    planted: int
    targets: list[Target]


def questions(resets: Sequence[ResetVerdict], trips: Sequence[RoundTrip]) -> list[Question]:
    """Return what is to be asked of whom, in the order of the trace."""
    found = [
        Question(verdict.seq, each.name, each.blame, list(_targets(each)))
        for verdict in resets
        for each in verdict.components
        if each.blame is not None
    ]
    for trip in trips:
        for name, keys in trip.came_back.items():
            if trip.blame is not None and keys:
                found.append(Question(trip.seq, name, trip.blame, [Target(name, keys[0])]))
    return sorted(found, key=lambda each: each.seq)[:MAX_STORIES]


def _targets(component: Component) -> Iterator[Target]:
    """Yield what of a component may be stale: a register, or keys that a fresh device has not."""
    now, before = component.replayed, component.before
    if not isinstance(component.fresh, dict):
        yield Target(component.name)
        return
    keys = [key for key, item in (now or {}).items() if item != component.fresh.get(key)]
    if isinstance(before, dict):
        keys += [key for key in before if key not in keys]
    yield from (Target(component.name, key) for key in keys[:_MAX_KEYS])


class Historian(Blamer):
    """A blamer that is asked several times on its way."""

    def __init__(self, model: AnyModel, verifier: Verifier, asked: Sequence[Question]) -> None:
        super().__init__(model, verifier, _NOBODY, None)
        self._asked = deque(asked)
        self.answers: dict[Place, Blame] = {}

    def before_input(self, seq: int, event: Event) -> None:
        """Answer what is asked of the state before this."""
        self._answer(seq)
        super().before_input(seq, event)

    def _answer(self, seq: int) -> None:
        while self._asked and self._asked[0].seq < seq:
            self._ask(self._asked.popleft())

    def _ask(self, question: Question) -> None:
        """Keep the first answer in which the planting event is."""
        for target in question.targets:
            self.target = target
            if self.blame is None:
                self.freeze(question.seq)
            blame, self.blame = self.blame, None
            self.target = _NOBODY
            assert blame
            acts = [*blame.chain(), *([blame.writer] if blame.writer else [])]
            if question.planted in {act.seq for act in acts}:
                self.answers[question.seq, question.component] = blame
                return

    def close(self) -> None:
        """Answer what is asked of the end; say what the verdicts say of each."""
        self._answer(1 << 64)
        for blame in self.answers.values():
            add_verdicts(blame, self.verifier.resets, self.verifier.round_trips)


def stories(reader: Frames, model: AnyModel, asked: Sequence[Question]) -> dict[Place, Story]:
    """Replay a trace and return the stories of what is asked."""
    verifier = Verifier(model, under_test=reader.header.source == IN_PROCESS, writers=History())
    historian = Historian(model, verifier, asked)
    Engine(reader, model, historian).run()
    with suppress(UsageError):
        historian.close()
    return {place: _story(blame) for place, blame in historian.answers.items()}


def _story(blame: Blame) -> Story:
    acts = [*blame.chain(), *([blame.writer] if blame.writer else [])]
    return {
        "name": blame.target.name,
        "behind": [_act(act) for act in sorted(acts)],
        "resets": [
            {"seq": each.verdict.seq, "kind": each.verdict.how, "did": each.did}
            for each in blame.passages
            if each.lived
        ],
        "round_trips": [{"seq": trip.seq, "saved_seq": trip.saved_seq} for trip in blame.trips],
    }


def _act(act: Act) -> dict[str, Any]:
    """Return an act as the event that shows it: a command's own where the trace has it."""
    command = act.command
    if command is None:
        return {"seq": act.seq, "by": act.seq, "event": _line(act.event)}
    line = _line((_COMMAND, 0, 0, command.queue_offset, *command.words))
    seq = act.seq if command.seq is None else command.seq
    return {"seq": seq, "by": act.seq, "event": line}


def _line(event: Event) -> str:
    return " ".join(describe(event).split())[:200]
