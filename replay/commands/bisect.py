"""`itstrace bisect`: the first event of a trace after which something holds.

What is looked for is an expression, a stale component, a broken invariant, a divergence or the host's
death. Over a list of builds instead of events it is `bisect_over`.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from replay import bisect
from replay.bisect import Found
from replay.commands.bisect_over import configure_over, run as run_over
from replay.commands.common import clean, once_only, paint, print_json, say
from replay.commands.replaying import (
    add_cache_option,
    add_replay_options,
    caveats,
    exit_code,
    json_caveats,
    opened_timeline,
)
from replay.commands.state import change_lines
from replay.decode import describe
from replay.predicate import compile_predicate
from replay.timetravel.moments import changes
from replay.timetravel.timeline import Timeline
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.text import format_event

BEFORE_EVENTS: Final = 5
BEHIND_EVENTS: Final = 3
MAX_CHANGES: Final = 40
_ANY: Final = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--when", metavar="EXPR", help="this holds of the ITS's state")
    wanted.add_argument("--stale", metavar="COMPONENT", help="a reset left this as it was before")
    wanted.add_argument(
        "--invariant", metavar="NAME", nargs="?", const=_ANY, help="an invariant does not hold"
    )
    wanted.add_argument(
        "--divergence", metavar="KIND:FIELD", nargs="?", const=_ANY,
        help="an output is not what the model answers",
    )  # fmt: skip
    wanted.add_argument("--crash", action="store_true", help="the host dies, on the model")
    parser.add_argument(
        "--target", help="with --divergence: what this target answers, not the model"
    )
    parser.add_argument(
        "--monotone", action="store_true",
        help="with --when: once it holds it holds from there on; searched, not scanned",
    )  # fmt: skip
    add_cache_option(parser)
    configure_over(parser)


def run(options: argparse.Namespace) -> int:
    """Print the event, what stands around it and what it changed; 1 when there is one."""
    if options.over:
        return run_over(options)
    with opened_timeline(options) as timeline:
        found = _find(timeline, options)
        engine = timeline.latest or timeline.engine_at()
        notes, code = caveats(timeline.reader, engine), 0
        code = exit_code(timeline.reader, engine, finding=found.seq is not None)
        answer = _answer(timeline, found, options) | json_caveats(timeline.reader, engine)
        if options.json:
            print_json(answer)
        else:
            _print(answer, _around(timeline, found.seq))
            for sentence in notes:
                say(sentence)
        return code


def _find(timeline: Timeline, options: argparse.Namespace) -> Found:
    if options.when is not None:
        predicate = compile_predicate(options.when)
        return bisect.by_predicate(timeline, predicate, monotone=options.monotone)
    if options.stale is not None:
        return bisect.by_stale(timeline, options.stale)
    if options.invariant is not None:
        return bisect.by_invariant(timeline, options.invariant or None)
    if options.divergence is not None:
        kind = options.divergence or None
        if options.target is None:
            return bisect.by_divergence(timeline, kind)
        if once_only(options.trace):
            raise UsageError("a target is made for a trace that was read before: give a file")
        return bisect.by_target(options.trace, options.cpus, options.target, kind)
    if options.crash:
        return bisect.by_crash(timeline)
    raise UsageError(
        "give --when, --stale, --invariant, --divergence, --crash, or --over TARGET..."
    )


def _asked(options: argparse.Namespace) -> str:
    """Return what was asked, as it was given."""
    for name in ("when", "stale", "invariant", "divergence"):
        value = getattr(options, name)
        if value is not None:
            at = f" on {options.target}" if options.target else ""
            return f"{name} {value}".strip() + at
    return "crash"


def _answer(timeline: Timeline, found: Found, options: argparse.Namespace) -> dict[str, Any]:
    around = _around(timeline, found.seq)
    return {
        "schema": "itstrace.bisect/1",
        "asked": _asked(options),
        "seq": found.seq,
        "method": found.method,
        "monotone": found.monotone,
        "probes": found.probes,
        "note": found.note or None,
        "events": [format_event(seq, event) for seq, event in around],
        "changes": _changes(timeline, found.seq),
    }


def _around(timeline: Timeline, seq: int | None) -> list[tuple[int, Event]]:
    """Return the event and its neighbours."""
    return [] if seq is None else timeline.events(seq - BEFORE_EVENTS, seq + BEHIND_EVENTS)


def _changes(timeline: Timeline, seq: int | None) -> list[dict[str, Any]]:
    """Return what the event changed; nothing where the host did not live to tell."""
    crash = timeline.course.crash
    first = timeline.header.first_seq
    if seq is None or seq < first or (crash and crash[0] <= seq):
        return []
    return changes(timeline.state_at(seq - 1), timeline.state_at(seq))


def _print(answer: dict[str, Any], around: list[tuple[int, Event]]) -> None:
    seq = answer["seq"]
    for at, event in around:
        line = f"{at:>8}  {clean(describe(event))}"
        print(paint(line, "red" if at == seq else "dim"))
    lines = change_lines(answer["changes"])
    for line in lines[:MAX_CHANGES]:
        print(f"          {line}")
    if len(lines) > MAX_CHANGES:
        print(f"            and {len(lines) - MAX_CHANGES} more")
    note = f"; {answer['note']}" if answer["note"] else ""
    how = f"{answer['method']}, monotone: {answer['monotone']}"
    if answer["probes"]:
        how += f", {answer['probes']} states probed"
    told = "never" if seq is None else f"first after event {seq}" if around else "from the start"
    print(clean(f"{answer['asked']}: {told} ({how}){note}"))
