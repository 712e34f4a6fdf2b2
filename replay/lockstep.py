"""Several targets on one trace, step by step: where do two of them answer differently?

No trace's output and no model is trusted: the same inputs go to each target, and their answers are
compared with each other. Counterpart: `replay.engine`, which compares one with the trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from replay.equivalence.inventory import Events
from replay.model import effects
from replay.model.effects import Effect, HostCrash
from replay.protocols import NOT_JUDGED, Frames
from replay.targets.ahead import FAILED, Group, Grouper, Item, Target
from replay.targets.common import Answer
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets
from tracer.events import NUMBER, Event, kind_name
from tracer.log.header import Header

CONTEXT_EVENTS: Final = 5
_REG_READ, _PROBE = NUMBER["reg.read"], NUMBER["probe"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event that two targets answer differently, with the registers of each there."""

    seq: int
    event: Event
    answers: tuple[tuple[str, Any], ...]  # by target: name, answer
    registers: tuple[dict[str, int], ...]  # of each, a frame's end later at most
    before: tuple[tuple[int, Event], ...]


@dataclass(slots=True)
class Lockstep:
    """What came of it: how many answers agreed, and what could not be compared or differs."""

    agreed: int = 0
    not_judged: int = 0
    difference: Difference | None = None


def run(reader: Frames, targets: Sequence[Target]) -> Lockstep:
    """Carry a trace out on all targets, up to the first event that they answer differently."""
    found = Lockstep()
    asked = frozenset.intersection(*(each.asked for each in targets))
    kinds = frozenset.intersection(*(each.expresses for each in targets))
    recent: deque[tuple[int, Event]] = deque(maxlen=CONTEXT_EVENTS)
    for groups in _steps(reader, asked):
        rows = zip(*(each.carry_out(groups) for each in targets), strict=True)
        for (seq, event, _), row in zip(groups, rows, strict=True):
            answers = [_comparable(item, kinds) for item in row]
            if None in answers:
                found.not_judged += 1
            elif not all(_alike(answers[0], each) for each in answers[1:]):
                found.difference = Difference(
                    seq,
                    event,
                    tuple(
                        (each.name, answer) for each, answer in zip(targets, answers, strict=True)
                    ),
                    tuple(each.registers() for each in targets),
                    tuple(recent),
                )
                return found
            else:
                found.agreed += 1
            recent.append((seq, event))
    return found


def signature(difference: Difference) -> str:
    """Return what names a difference: the kind of the event, and how the targets differ there."""
    answers = [answer for _, answer in difference.answers]
    for answer in answers:
        if isinstance(answer, str) and answer.startswith("crash in "):
            return f"crash:{answer.removeprefix('crash in ')}"
    kind = kind_name(difference.event[0])
    lists = [answer for answer in answers if isinstance(answer, list)]
    if len(lists) < len(answers):
        return f"divergent:{kind}:value"
    if len({len(each) for each in lists}) > 1:
        return f"divergent:{kind}:count"
    for row in zip(*lists, strict=True):
        if len(set(row)) > 1:
            return f"divergent:{kind}:{kind_name(row[0][0])}"
    return f"divergent:{kind}:value"


def _steps(reader: Frames, asked: frozenset[int]) -> Iterator[list[Group]]:
    """Yield what can be carried out, a frame at a time."""
    grouper = Grouper(asked)
    for first_seq, events in reader:
        if reader.status == "damaged":
            return
        yield grouper.take(first_seq, events)
    yield grouper.rest()


def _comparable(item: Item, kinds: frozenset[int]) -> Any:
    """Return an answer in a form that two targets share, or None where one cannot judge."""
    event, answer, bound = item
    if isinstance(answer, HostCrash):
        return f"crash in {answer.function}"
    if FAILED in bound:
        return f"errno {bound[FAILED]}"
    if event[0] == _REG_READ:
        return "bad" if answer is None else answer
    if event[0] == _PROBE:
        return None if answer is None else tuple(sorted(answer))
    if isinstance(answer, Answer):
        return answer.expected
    if answer is None or NOT_JUDGED in bound.values():
        return None
    return [effect for effect in answer if effect[0] in kinds]


def _alike(one: Any, other: Any) -> bool:
    """Return whether two answers agree in all that both show."""
    if not isinstance(one, list) or not isinstance(other, list):
        return bool(one == other)
    return len(one) == len(other) and all(map(_alike_effects, one, other))


def _alike_effects(one: Effect, other: Effect) -> bool:
    if one[0] != other[0]:
        return False
    if one[0] != effects.COMMAND:
        pairs = zip(one[1:], other[1:], strict=False)  # what is not observed is left out
        return all(a == b for a, b in pairs if a is not None and b is not None)
    known = [a & b for a, b in zip(_known(one), _known(other), strict=True)]
    words = zip(one[2:6], other[2:6], known, strict=True)
    return one[1] == other[1] and not any((a ^ b) & mask for a, b, mask in words)


def _known(command: Effect) -> tuple[int, ...]:
    """Return which bits of its doublewords a command shows."""
    return command[6:10] if len(command) > 6 else (-1,) * 4


def lockstep(
    made: Targets, specs: Sequence[Spec], header: Header, events: Sequence[Event]
) -> Lockstep:
    """Run one life on fresh targets."""
    needs = Needs.of(events)
    reader = Events(header, events, "a life")
    with ExitStack() as stack:
        targets = [stack.enter_context(made.opened(spec, header, needs)) for spec in specs]
        return run(reader, targets)
