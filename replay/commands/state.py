"""`itstrace state`: the ITS at any event of a trace, or what differs between two of them."""

from __future__ import annotations

import argparse
from itertools import groupby
from typing import Any

from replay.commands.common import EXIT_FINDING, clean, paint, print_json, say
from replay.commands.replaying import (
    add_cache_option,
    add_replay_options,
    caveats,
    exit_code,
    json_caveats,
    opened_timeline,
)
from replay.timetravel.moments import changes, resolve, resolve_pair
from replay.timetravel.timeline import Timeline, state_of

# What has no value where there is no such thing; of everything else it is not known.
_NONE = (".queued", ".icid")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    moments = parser.add_mutually_exclusive_group()
    moments.add_argument(
        "--at", metavar="MOMENT",
        help="after event SEQ, -1 for the last, reset:0 for the first reset (default: the last)",
    )  # fmt: skip
    moments.add_argument(
        "--diff", metavar="A..B", help="what differs between two moments; 1 when anything does"
    )
    add_cache_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the state after the chosen event, or how it differs from another."""
    with opened_timeline(options) as timeline:
        if options.diff is not None:
            return _diff(timeline, *resolve_pair(options.diff, timeline), options)
        seq = None if options.at is None else resolve(options.at, timeline)
        engine = timeline.engine_at(seq)
        answer = state_of(engine)
        if options.json:
            print_json(answer | json_caveats(timeline.reader, engine))
        else:
            _print(answer)
            for sentence in caveats(timeline.reader, engine):
                say(sentence)
        return exit_code(timeline.reader, engine, finding=False)


def _diff(timeline: Timeline, first: int, second: int, options: argparse.Namespace) -> int:
    before = timeline.state_at(first)
    engine = timeline.engine_at(second)
    found = changes(before, state_of(engine))
    if options.json:
        answer = {
            "schema": "itstrace.state_diff/1", "profile": before["profile"],
            "from": first, "to": second, "changes": found,
        }  # fmt: skip
        print_json(answer | json_caveats(timeline.reader, engine))
    else:
        print(f"from event {first} to event {second}, as {before['profile']}")
        for line in change_lines(found):
            print(line)
        if not found:
            print("  nothing differs")
    code = exit_code(timeline.reader, engine, finding=bool(found))
    return EXIT_FINDING if found and not code else code


def change_lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a difference: fields that changed, entries that are gone or new."""
    lines: list[str] = []
    for (sign, entry), group in groupby(found, _entry_of):
        if sign == " ":
            lines += [
                f"  {each['path']} {_word(each, 'from')} -> {_word(each, 'to')}" for each in group
            ]
            continue
        end, colour = ("from", "red") if sign == "-" else ("to", "green")
        fields = [
            (each["path"].removeprefix(entry).lstrip("."), _word(each, end)) for each in group
        ]
        told = "  ".join(f"{name} {value}".lstrip() for name, value in fields)
        lines.append(paint(f"{sign} {entry}  {told}", colour))
    return lines


def _entry_of(change: dict[str, Any]) -> tuple[str, str]:
    """Return whether a field is gone, new or changed, and the entry that it is of."""
    sign = "-" if "to" not in change else "+" if "from" not in change else " "
    entry = change["path"].rpartition("]")[0] + "]"
    return sign, "" if sign == " " else entry


def _word(change: dict[str, Any], end: str) -> str:
    value = change[end]
    if value is None and change["path"].endswith(_NONE):
        return "none"
    return clean(_known(value))


def _print(answer: dict[str, Any]) -> None:
    seq = answer["seq"]
    print(f"{f'after event {seq}' if seq >= 0 else 'before event 0'}, as {answer['profile']}")
    for name, its in answer["its"].items():
        print(paint(f"ITS {name}", "bold"))
        for register, value in its["registers"].items():
            print(f"  {register:16} {_known(value):>18}")
        for device_id, device in its["devices"].items():
            mark = _mark(device)
            print(
                f"  device {device_id:>10}  ITT {_known(device['itt_addr']):>14}  "
                f"{_known(device['eventid_bits']):>2} EventID bits{mark}"
            )
            for event_id, event in device["events"].items():
                where = " ".join(f"{k} {v}" for k, v in event.items() if k != "confirmed")
                print(f"    event {event_id:>8}  {where}{_mark(event)}")
        for icid, collection in its["collections"].items():
            print(f"  collection {icid:>6}  target {collection['rdbase']}{_mark(collection)}")
        for vpe_id, vpe in its["vpes"].items():
            print(f"  vPE {vpe_id:>13}  {vpe}")
    for cpu, registers in answer["redistributors"].items():
        shown = "  ".join(f"{k} {_known(v)}" for k, v in registers.items())
        print(f"redistributor {cpu}  {shown}")
    for intid, lpi in answer["lpis"].items():
        print(f"LPI {intid}  pending {lpi['pending']}  target {lpi['target']}")
    print(f"digest {answer['digest']}")


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _mark(entry: dict[str, Any]) -> str:
    return "" if entry["confirmed"] else paint("  (unconfirmed)", "yellow")
