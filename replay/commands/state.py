"""`itstrace state`: the ITS at any event of a trace."""

from __future__ import annotations

import argparse
from typing import Any

from replay.commands.common import paint, print_json, say
from replay.commands.replaying import (
    add_replay_options,
    caveats,
    exit_code,
    json_caveats,
    make_model,
)
from replay.engine import Engine
from tracer.errors import UsageError
from tracer.log.opening import open_trace


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    parser.add_argument(
        "--at", type=int, metavar="SEQ", help="after this event (default: the last)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the state after the chosen event."""
    with open_trace(options.trace) as reader:
        model = make_model(reader.header, options)
        engine = Engine(reader, model)
        engine.run(options.at)
        if options.at is not None and options.at < reader.header.first_seq - 1:
            first_seq = reader.header.first_seq
            raise UsageError(f"{reader.name}: the first event is {first_seq}, not {options.at}")
        if options.at is not None and engine.seq < options.at and reader.status != "damaged":
            raise UsageError(f"{reader.name}: the last event is {engine.seq}, not {options.at}")
        answer = {"schema": "itstrace.state/1", "seq": engine.seq, "profile": model.name}
        answer |= model.state()
        if options.json:
            print_json(answer | json_caveats(reader, engine))
        else:
            _print(answer)
            for sentence in caveats(reader, engine):
                say(sentence)
        return exit_code(reader, engine, finding=False)


def _print(answer: dict[str, Any]) -> None:
    print(f"after event {answer['seq']}, as {answer['profile']}")
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
