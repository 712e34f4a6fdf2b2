"""What `itstrace minimize` answers, as JSON and as words, and its progress."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from replay.commands.common import clean, paint, print_json
from replay.decode import describe
from replay.minimize.items import COMMAND, KICK, Item
from replay.minimize.journal import Journal
from replay.minimize.oracle import Candidate
from replay.minimize.run import Result, why
from replay.minimize.script import Script, count_inputs
from replay.minimize.search import Count
from replay.minimize.written import flags_beside, outputs_of
from tracer.its.commands import decode

if TYPE_CHECKING:
    from replay.commands.minimize import Session

_SHOWN_EVERY_SECONDS: Final = 0.2


class Progress:
    """A line on a terminal: the pass, what is left, what was asked."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._at = monotonic()
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr)

    def told(self, name: str, best: Script, count: Count) -> None:
        """Take in that a candidate was answered."""
        now = monotonic()
        if not self._shows or now - self._at < _SHOWN_EVERY_SECONDS:
            return
        self._at = now
        line = f"{name}: {len(best.items):,} left, {count.asked:,} candidates"
        self._width = max(self._width, len(line))
        print(f"\r{line:{self._width}}", end="", file=sys.stderr, flush=True)


def result_json(
    original: Candidate, session: Session, result: Result, journal: Journal, confirmed: str | None
) -> dict[str, Any]:
    """Return the whole answer."""
    opened = session.opened
    return {
        "schema": "itstrace.minimize/1",
        "signature": session.oracle.signature,
        "beside": list(opened.beside) if opened else [],
        "targets": list(session.targets),
        "profile": opened.case.profile.name if opened else None,
        "flags": flags_beside(opened.case.profile) if opened else {},
        "cured_by": (
            {
                name: value
                for name, (value, _) in opened.case.cure.flags().items()
                if value != opened.case.profile.flags()[name][0]
            }
            if opened and opened.case.cure
            else None
        ),
        "outputs": outputs_of(opened.case) if opened else "asked of the target",
        "minimal": result.minimal,
        "before": {"events": len(original.events), "inputs": count_inputs(original)},
        "after": {"events": len(result.candidate.events), "inputs": count_inputs(result.candidate)},
        "asked": result.count.asked,
        "shown": result.count.shown,
        "resumed": journal.resumed,
        "lost": list(getattr(session.oracle, "lost", ())),
        "removed": [{"pass": name, "items": n} for name, n in result.count.by_pass.items()],
        "kept": [
            {"item": _item(each.item), "without": each.without}
            for each in why(result, session.oracle)
        ],
        "confirmed": confirmed,
    }


def _item(item: Item) -> str:
    event = item.event
    if event[0] == COMMAND:
        name, fields = decode(*event[2:6])
        return f"{name}({', '.join(f'{key}={value:#x}' for key, value in fields if value)})"
    if event[0] == KICK:
        return "write GITS_CWRITER: the commands above are submitted"
    return " ".join(describe(event).split())


def print_result(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print_json(answer)
        return
    before, after = answer["before"], answer["after"]
    print(paint(clean(answer["signature"]), "bold"))
    for name in answer["beside"]:
        print(f"  not this one: {clean(name)} (minimize it with --signature)")
    print(f"  outputs: {clean(answer['outputs'])}")
    if answer["cured_by"]:
        flags = ", ".join(f"{name} = {value}" for name, value in answer["cured_by"].items())
        print(f"  absent with {flags}, as in the original")
    print(
        f"{before['events']:,} events with {before['inputs']:,} inputs -> "
        f"{after['events']} events with {after['inputs']} inputs; "
        f"{answer['asked']:,} candidates, {answer['resumed']:,} answers from the journal"
    )
    for each in answer["removed"]:
        if each["items"]:
            print(f"  {each['items']:7,} items went: {each['pass']}")
    print("kept:")
    width = max((len(each["item"]) for each in answer["kept"]), default=0)
    for each in answer["kept"]:
        why = f"without it: {each['without']}" if each["without"] else ""
        print(clean(f"  {each['item']:{min(width, 100)}}  {why}".rstrip()))
    _print_end(answer)


def _print_end(answer: dict[str, Any]) -> None:
    for sentence in answer["lost"]:
        print(paint(clean(sentence), "yellow"))
    if answer["confirmed"]:
        print(paint(clean(answer["confirmed"]), "yellow"))
    elif answer["confirmed"] is not None:
        print("it was asked again alone, on fresh targets, and they show it")
    if answer["minimal"]:
        print("every single one of these is needed: each was left out alone, and the bug was gone")
    else:
        print(paint("time ran out: this is not the smallest", "yellow"))
