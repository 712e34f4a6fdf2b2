"""How an answer of `verify --on` is told, as text and as JSON. Counterpart: `verify_on`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from replay.commands.common import clean, paint
from replay.commands.folding import folded, wrapped
from replay.equivalence.comparison import Row
from replay.equivalence.run import Outcome
from replay.equivalence.words import CARRIED, CRASHED, EQUAL, Difference
from replay.verdict import STALE
from tracer.events import Event
from tracer.its.lpi import FIRST_LPI
from tracer.log.text import format_event

_COLOUR: Final = {STALE: "red", CARRIED: "red", CRASHED: "red", EQUAL: "green"}
_INDEXED: Final = "GI"  # registers
MAX_KEYS: Final = 8  # of one component
MAX_TOLD: Final = 3  # differences of one key


def print_target(outcomes: Sequence[Outcome]) -> None:
    """Print who was asked, with what it says of its version."""
    for name in dict.fromkeys((each.target, each.about) for each in outcomes):
        print(clean(f"{name[0]}: {name[1]}" if name[1] else name[0]))


def print_outcome(outcome: Outcome, events: Sequence[Event], *, verbose: bool) -> None:
    """Print one question and what came of it."""
    word = outcome.word
    print(
        f"{outcome.title()} on {clean(outcome.target)}: {paint(word, _COLOUR.get(word, 'yellow'))}"
    )
    if outcome.crash:
        chapter, function, lines = outcome.crash
        print(paint(f"  {chapter}: the host dies in {function}", "red"))
        for line in lines:
            print(f"    {clean(line)}")
    for line in outcome.complaints:
        print(paint(f"  the host's kernel complains: {clean(line)}", "red"))
    for (component, key), told in _grouped(outcome.differences, verbose=verbose):
        if verbose or told[0].word in _COLOUR:
            _print(component, key, told, events)
    quiet = [each for each in outcome.differences if each.word not in _COLOUR]
    if quiet and not verbose:
        print(wrapped(f"  {_quietly(quiet)}"))
    differ = {each.component for each in outcome.differences}
    equal = folded(sorted(set(outcome.looked) - differ))
    print(wrapped(f"  equal: {equal or 'nothing'}"))
    if outcome.not_looked:
        unseen = clean(folded(sorted(outcome.not_looked), "; "))
        print(wrapped(f"  not looked at: {unseen}"))
    for note in outcome.notes:
        print(f"  {clean(note)}")


def _quietly(differences: Sequence[Difference]) -> str:
    """Return what is no finding in one line: a word, and the components that it is said of."""
    by_word: dict[str, dict[str, None]] = {}
    for each in differences:
        name = each.component if _is_register(each) else _named(each.component, each.key)
        by_word.setdefault(each.word, {})[name] = None
    return "; ".join(f"{word}: {folded(sorted(names))}" for word, names in by_word.items())


def _named(component: str, key: Any) -> str:
    return component if key is None else f"{component} {_key(key)}"


def _grouped(
    differences: Sequence[Difference], *, verbose: bool
) -> list[tuple[tuple[str, Any], list[Difference]]]:
    """Return the differences by component and key, so many of each component."""
    found: dict[tuple[str, Any], list[Difference]] = {}
    for each in differences:
        found.setdefault((each.component, None if _is_register(each) else each.key), []).append(
            each
        )
    shown: dict[str, int] = {}
    rows = []
    for place, told in found.items():
        shown[place[0]] = shown.get(place[0], 0) + 1
        if verbose or shown[place[0]] <= MAX_KEYS:
            rows.append((place, told))
    return rows


def _is_register(each: Difference) -> bool:
    return each.component.startswith(_INDEXED)


def _print(component: str, key: Any, told: list[Difference], events: Sequence[Event]) -> None:
    first = told[0]
    print(f"  {_named(component, key):24} {paint(first.word, _COLOUR.get(first.word, 'yellow'))}")
    for each in told[:MAX_TOLD]:
        print(f"    {each.chapter}: {_value(each.one)}, should be {_value(each.other)}")
    if len(told) > MAX_TOLD:
        print(f"    and {len(told) - MAX_TOLD} more")
    if first.blame is not None:
        print(f"    planted by event {first.blame}: {_event(events, first.blame)}")
    for each in told:
        if each.written is not None:
            by = "" if each.written.seq is None else f" at event {each.written.seq}"
            print(
                f"    in RAM at {each.gpa:#x}: {each.written.value:#x}, by the {each.written.who}{by}"
            )
            break
    if first.handed_over is not None:
        print(
            f"    the guest handed the table over at event {first.handed_over} and had not zeroed it"
        )
    if first.reason:
        print(f"    {first.reason}")
    elif first.clause:
        print(f"    {clean(first.clause.says)} [{first.clause.source}]")
    elif first.word != CARRIED:
        print("    no clause of the contract speaks of what differs")


def _event(events: Sequence[Event], seq: int) -> str:
    return clean(format_event(seq, events[seq])) if seq < len(events) else ""


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return "/".join(map(hex, key))
    return str(key) if isinstance(key, int) and FIRST_LPI <= key < 1 << 16 else hex(key)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Row):
        words = ["pending"] if value.pending else []
        words += [f"queued on {value.queued}"] if value.queued >= 0 else []
        return (
            f"(vCPU {value.target}, priority {value.priority:#x}{''.join(f', {w}' for w in words)})"
        )
    if isinstance(value, tuple):
        return f"{value[1]:#x}"
    return hex(value) if isinstance(value, int) and value > 9 else str(value)


def as_json(outcomes: Sequence[Outcome], left: int) -> dict[str, Any]:
    """Return all of it as JSON has it."""
    return {
        "schema": "itstrace.equivalence/1",
        "checks": ["equivalence"],
        "not_asked": left,
        "questions": [_outcome(each) for each in outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    question = outcome.question
    crash = outcome.crash
    return {
        "what": question.what,
        "seq": question.at,
        "kind": question.kind,
        "unit": question.unit if question.how is not None else None,
        "target": outcome.target,
        "about": outcome.about,
        "complaints": outcome.complaints,
        "verdict": outcome.word,
        "crash": crash and {"chapter": crash[0], "function": crash[1], "oops": crash[2]},
        "differences": [_difference(each) for each in outcome.differences],
        "equal": outcome.looked,
        "not_looked_at": outcome.not_looked,
        "notes": outcome.notes,
    }


def _difference(each: Difference) -> dict[str, Any]:
    written = each.written
    return {
        "component": each.component,
        "key": None if each.key is None or _is_register(each) else _key(each.key),
        "chapter": each.chapter,
        "one": _value(each.one),
        "other": _value(each.other),
        "status": each.word,
        "clause": f"{each.clause.says} ({each.clause.source})" if each.clause else None,
        "reason": each.reason,
        "blame": None if each.blame is None else {"seq": each.blame},
        "ram": written
        and {
            "gpa": hex(each.gpa or 0),
            "value": hex(written.value),
            "by": written.who,
            "seq": written.seq,
            "handed_over": each.handed_over,
        },
    }
