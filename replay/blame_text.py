"""The words in which a blame is told: one component's history, as lines of text.

Counterparts: `replay.blamed`, which is it, and `replay.commands.blame`, which also tells it as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from replay.blamed import ALLOWS, BROKE, UNSPOKEN, Blame, Passage
from replay.commands.common import clean, paint
from replay.decode import describe
from replay.history import Act, Fetched
from replay.verdict import RoundTrip
from tracer.events import NUMBER

_COMMAND: Final = NUMBER["command"]
_SHOWN_PASSAGES: Final = 20


def lines(blame: Blame, profile: str) -> Iterator[str]:
    """Yield the lines of an answer; what a guest chose is clean."""
    value = _shown(blame) if blame.present else "not there any more"
    when = f"at event {blame.seq}" if blame.seq >= 0 else "before event 0"
    yield f"{paint(blame.target.name, 'bold')}: {value}   ({when}, as {profile})"
    if not blame.present and blame.record and blame.record.removed:
        yield from _act("removed by", blame.record.removed)
    writer = blame.writer
    if writer is None:
        yield f"  {_nobody(blame)}"
    else:
        yield from _act("first shown by" if writer.seen else "written by", writer)
        yield from _bits(blame)
        if blame.since and blame.since.seq != writer.seq and blame.target.key is not None:
            yield f"    set again to what it was since event {blame.since.seq}"
    for at in blame.losses[:1]:
        yield f"  events were lost at {at}, behind that: another may have written it since"
    chain = blame.chain()
    if chain:
        yield "  behind it"
    for act in chain:
        yield from _act("", act, indent="    ")
    yield from _passages(blame)


def _nobody(blame: Blame) -> str:
    if blame.joined:
        return "written by no event of this trace: it was there before the recording began"
    return "written by no event of this trace: it is what the device came up with"


def _bits(blame: Blame) -> Iterator[str]:
    """Yield which bits of a register an earlier event wrote."""
    if len(blame.bits) > 1:
        for act, mask in blame.bits:
            yield f"    bits {mask & (1 << 64) - 1:#018x} by event {act.seq}"


def _act(words: str, act: Act, indent: str = "  ") -> Iterator[str]:
    lead = f"{words} event {act.seq}" if words else f"event {act.seq}"
    if act.command is None:
        yield f"{indent}{lead}: {clean(describe(act.event))}"
        return
    shown = describe((_COMMAND, 0, 0, act.command.queue_offset, *act.command.words))
    yield f"{indent}{lead}: {clean(' '.join(shown.split()[2:]))}  [{_fetched(act.command)}]"
    if words:
        yield f"    fetched by {clean(' '.join(describe(act.event).split()))}"


def _fetched(command: Fetched) -> str:
    by = command.queued_by
    shown = "" if command.seq is None else f", seen at {command.seq}"
    how = "no event shows who queued it" if by is None else f"queued by {by.seq}"
    return f"queue {command.queue_offset:#x}{shown}, {how}"


def _passages(blame: Blame) -> Iterator[str]:
    lived = [each for each in blame.passages if each.lived]
    before = len(blame.passages) - len(lived)
    if lived:
        yield "  went through"
    for each in lived[:_SHOWN_PASSAGES]:
        verdict = each.verdict
        yield (
            f"    {verdict.how} at event {verdict.seq}, which {each.did}: "
            f"{paint(_judged(each), 'red' if each.clause == BROKE else 'dim')}"
        )
    if len(lived) > _SHOWN_PASSAGES:
        yield f"    and {len(lived) - _SHOWN_PASSAGES} more resets"
    for trip in blame.trips[-_SHOWN_PASSAGES:]:
        yield (
            f"    save at event {trip.saved_seq}, restore at {trip.seq}: "
            f"{'came back' if came_back(trip, blame) else 'lost'}, {trip.word}"
        )
    if before:
        yield f"  {before} earlier {'reset' if before == 1 else 'resets'}: see --json"


def came_back(trip: RoundTrip, blame: Blame) -> bool:
    """Return whether the round trip brought the component back that was gone."""
    return blame.target.key in trip.came_back.get(blame.target.component, ())


def _judged(each: Passage) -> str:
    status = each.component.status(strict=each.verdict.strict)
    clause = each.component.clause
    if each.clause == UNSPOKEN or clause is None:
        return f"no clause of the contract speaks of it ({status})"
    if each.clause == ALLOWS:
        return f"a clause allows it ({status}): {clean(clause.says)} [{clause.source}]"
    return f"{each.clause} the clause ({status}): {clean(clause.says)} [{clause.source}]"


def _shown(blame: Blame) -> str:
    if blame.target.key is None and isinstance(blame.value, int):
        return hex(blame.value)
    return _value(blame.value)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items())
    if value is None:
        return "unknown"
    return hex(value) if isinstance(value, int) and value > 0xFFFF else str(value)
