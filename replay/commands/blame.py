"""`itstrace blame`: who wrote a component, what that rested on, and what every reset did to it."""

from __future__ import annotations

import argparse
from typing import Any

from replay.blame import Blamer
from replay.blamed import BROKE, UNSPOKEN, Blame, Passage
from replay.commands.common import clean, paint, print_json, say
from replay.commands.replaying import (
    add_replay_options,
    caveats,
    exit_code,
    json_caveats,
    make_model,
)
from replay.components import FORMS, parse_target
from replay.decode import describe
from replay.engine import Engine
from replay.history import Act, Fetched, History
from replay.one_its import OneIts
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.its.commands import decode
from tracer.log.header import IN_PROCESS
from tracer.log.opening import open_trace

_COMMAND = NUMBER["command"]
_SHOWN_PASSAGES = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    parser.add_argument("component", nargs="+", help=f"what is asked for: {FORMS}")
    parser.add_argument(
        "--at",
        metavar="WHERE",
        type=_where,
        help="as of event SEQ, or behind reset:N (default: -1, the end)",
    )
    parser.add_argument("--strict", choices=("bits",), help="as verify has it")


def _where(text: str) -> int | str | None:
    number = text.removeprefix("reset:")
    try:
        value = int(number, 0)
    except ValueError:
        value = -2
    if number != text and value >= 0:
        return f"reset:{value}"
    if number == text and value >= -1:
        return None if value == -1 else value
    raise argparse.ArgumentTypeError(f"{text!r:.40} must be an event, reset:N, or -1 for the end")


def run(options: argparse.Namespace) -> int:
    """Print who wrote the component; 2 for one that there never was."""
    target = parse_target(" ".join(options.component))
    with open_trace(options.trace) as reader:
        header = reader.header
        model = make_model(header, options)
        verifier = Verifier(
            model,
            strict=options.strict == "bits",
            under_test=header.source == IN_PROCESS,
            writers=History(),
        )
        blamer = Blamer(model, verifier, target, options.at)
        engine = Engine(OneIts(reader, target.its), model, blamer)
        engine.run()
        if isinstance(options.at, int) and not header.first_seq - 1 <= options.at <= engine.seq:
            raise UsageError(
                f"{reader.name}: the events are {header.first_seq} to {engine.seq}, not {options.at}"
            )
        blame = blamer.finish(engine.seq, reader.name)
        if options.json:
            print_json(_json(blame, model.name) | json_caveats(reader, engine))
        else:
            _print(blame, model.name)
            for sentence in caveats(reader, engine):
                say(sentence)
        return exit_code(reader, engine, finding=False)


# -- text


def _print(blame: Blame, profile: str) -> None:
    value = _shown(blame) if blame.present else "not there any more"
    print(f"{paint(blame.target.name, 'bold')}: {value}   (at event {blame.seq}, as {profile})")
    if not blame.present and blame.record and blame.record.removed:
        _act("removed by", blame.record.removed)
    writer = blame.writer
    if writer is None:
        print(f"  {_nobody(blame)}")
    else:
        _act("first shown by" if writer.seen else "written by", writer)
        _print_bits(blame)
        if blame.since and blame.since.seq != writer.seq and blame.target.key is not None:
            print(f"    set again to what it was since event {blame.since.seq}")
    for at in blame.losses[:1]:
        print(f"  events were lost at {at}, behind that: another may have written it since")
    chain = blame.chain()
    if chain:
        print("  behind it")
    for act in chain:
        _act("", act, indent="    ")
    _print_passages(blame)


def _nobody(blame: Blame) -> str:
    if blame.joined:
        return "written by no event of this trace: it was there before the recording began"
    return "written by no event of this trace: it is what the device came up with"


def _print_bits(blame: Blame) -> None:
    """Say which bits of a register an earlier event wrote."""
    if len(blame.bits) > 1:
        for act, mask in blame.bits:
            print(f"    bits {mask & (1 << 64) - 1:#018x} by event {act.seq}")


def _act(words: str, act: Act, indent: str = "  ") -> None:
    lead = f"{words} event {act.seq}" if words else f"event {act.seq}"
    if act.command is None:
        print(f"{indent}{lead}: {clean(describe(act.event))}")
        return
    shown = describe((_COMMAND, 0, 0, act.command.queue_offset, *act.command.words))
    print(f"{indent}{lead}: {clean(' '.join(shown.split()[2:]))}  [{_fetched(act.command)}]")
    if words:
        print(f"    fetched by {clean(' '.join(describe(act.event).split()))}")


def _fetched(command: Fetched) -> str:
    by = command.queued_by
    shown = "" if command.seq is None else f", seen at {command.seq}"
    how = "no event shows who queued it" if by is None else f"queued by {by.seq}"
    return f"queue {command.queue_offset:#x}{shown}, {how}"


def _print_passages(blame: Blame) -> None:
    lived = [each for each in blame.passages if each.lived]
    before = len(blame.passages) - len(lived)
    if lived:
        print("  went through")
    for each in lived[:_SHOWN_PASSAGES]:
        verdict = each.verdict
        print(
            f"    {verdict.how} at event {verdict.seq}, which {each.did}: "
            f"{paint(_judged(each), 'red' if each.clause == BROKE else 'dim')}"
        )
    if len(lived) > _SHOWN_PASSAGES:
        print(f"    and {len(lived) - _SHOWN_PASSAGES} more resets")
    for trip in blame.trips:
        print(
            f"    save at event {trip.saved_seq}, restore at {trip.seq}: "
            f"{'came back' if _came_back(trip, blame) else 'lost'}, {trip.word}"
        )
    if before:
        print(f"  {before} earlier {'reset' if before == 1 else 'resets'}: see --json")


def _came_back(trip: Any, blame: Blame) -> bool:
    return blame.target.key in trip.came_back.get(blame.target.component, ())


def _judged(each: Passage) -> str:
    status = each.component.status(strict=each.verdict.strict)
    clause = each.component.clause
    if each.clause == UNSPOKEN or clause is None:
        return f"no clause of the contract speaks of it ({status})"
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


# -- JSON


def _json(blame: Blame, profile: str) -> dict[str, Any]:
    target = blame.target
    removed = blame.record.removed if blame.record and not blame.present else None
    return {
        "schema": "itstrace.blame/1",
        "profile": profile,
        "name": target.name,
        "its": target.its,
        "component": target.component,
        "at": blame.seq,
        "present": blame.present,
        "value": _plain(blame.value),
        "written": _plain_act(blame.writer),
        "since": _plain_act(blame.since),
        "removed": _plain_act(removed),
        "bits": [{"mask": hex(mask), "seq": act.seq} for act, mask in blame.bits],
        "chain": [_plain_act(act) for act in blame.chain()],
        "raised_through": None if blame.raised is None else list(map(hex, blame.raised.pair)),
        "before_recording": blame.joined and blame.writer is None,
        "lost_since": blame.losses,
        "resets": [
            {
                "seq": each.verdict.seq,
                "kind": each.verdict.how,
                "lived": each.lived,
                "did": each.did,
                "clause": each.clause,
                "status": each.component.status(strict=each.verdict.strict),
                "says": each.component.clause and each.component.clause.says,
                "source": each.component.clause and each.component.clause.source,
            }
            for each in blame.passages
        ],
        "round_trips": [
            {
                "seq": trip.seq,
                "saved_seq": trip.saved_seq,
                "came_back": _came_back(trip, blame),
                "verdict": trip.word,
            }
            for trip in blame.trips
        ],
    }


def _plain_act(act: Act | None) -> dict[str, Any] | None:
    if act is None:
        return None
    found: dict[str, Any] = {"seq": act.seq, "event": describe(act.event), "seen": act.seen}
    command = act.command
    if command is None:
        return found | {"command": None}
    name, fields = decode(*command.words)
    return found | {
        "command": {
            "name": name,
            "fields": {field: hex(value) for field, value in fields},
            "queue_offset": hex(command.queue_offset),
            "seq": command.seq,
            "queued_by": None if command.queued_by is None else command.queued_by.seq,
        }
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else value
