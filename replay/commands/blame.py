"""`itstrace blame`: who wrote a component, what that rested on, and what every reset did to it."""

from __future__ import annotations

import argparse
from typing import Any, Final

from replay.blame import Blamer
from replay.blame_text import came_back, lines
from replay.blamed import Blame
from replay.commands.common import once_only, print_json, say
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
from replay.history import Act, History
from replay.one_its import OneIts
from replay.timetravel.moments import resolve
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.its.commands import decode
from tracer.log.header import IN_PROCESS
from tracer.log.opening import open_trace

_RESET: Final = NUMBER["reset"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    parser.add_argument("component", nargs="+", help=f"what is asked for: {FORMS}")
    parser.add_argument(
        "--at",
        metavar="MOMENT",
        help="as of event SEQ, -1 for the last, reset:0 for the first reset",
    )
    parser.add_argument("--strict", choices=("bits",), help="as verify has it")


class _Events:
    """The events of a trace as far as moments need them: read once, not replayed."""

    def __init__(self, path: str) -> None:
        if once_only(path):
            raise UsageError("--at reset:N and -N need a file: a pipe is read once")
        self._resets: list[int] = []
        with open_trace(path) as reader:
            self.name, self.first_seq = reader.name, reader.header.first_seq
            self._last = self.first_seq - 1
            for first_seq, events in reader:
                if reader.status == "damaged":
                    break
                self._last = first_seq + len(events) - 1
                self._resets += [
                    seq for seq, event in enumerate(events, first_seq) if event[0] == _RESET
                ]

    def last(self) -> int:
        """Return the last event."""
        return self._last

    def resets(self, count: int | None = None) -> list[int]:
        """Return every reset event."""
        return self._resets


def _at(options: argparse.Namespace) -> int | None:
    """Return the event as of which is asked, None for the last."""
    if options.at is None or options.at.isdecimal():
        return None if options.at is None else int(options.at)
    return resolve(options.at, _Events(options.trace))


def run(options: argparse.Namespace) -> int:
    """Print who wrote the component; 2 for one that there never was."""
    target = parse_target(" ".join(options.component))
    at = _at(options)
    with open_trace(options.trace) as reader:
        header = reader.header
        model = make_model(header, options)
        verifier = Verifier(
            model,
            strict=options.strict == "bits",
            under_test=header.source == IN_PROCESS,
            writers=History(),
        )
        blamer = Blamer(model, verifier, target, at)
        engine = Engine(OneIts(reader, target.its), model, blamer)
        engine.run()
        if at is not None and not header.first_seq - 1 <= at <= engine.seq:
            raise UsageError(
                f"{reader.name}: the events are {header.first_seq} to {engine.seq}, not {at}"
            )
        blame = blamer.finish(engine.seq, reader.name)
        if options.json:
            print_json(_json(blame, model.name) | json_caveats(reader, engine))
        else:
            print("\n".join(lines(blame, model.name)))
            for sentence in caveats(reader, engine):
                say(sentence)
        return exit_code(reader, engine, finding=False)


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
                "came_back": came_back(trip, blame),
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
