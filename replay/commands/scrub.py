"""`itstrace scrub`: a trace without the names of the house, for who hands it on.

What a VM's memory and registers held is what the trace is of, and stays. So do guest addresses,
unless they are to be moved: then both traces are judged, and must be judged alike.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from replay.commands.common import EXIT_LOST, clean, once_only, print_json, progress, ram_range, say
from replay.commands.recover import verify_written
from replay.commands.replaying import add_model_options, make_profile
from replay.judge import judge
from replay.moving import Survey, Unmovable, Walk
from replay.tally import CLASSES
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.log.header import Header
from tracer.log.opening import create_output, open_trace
from tracer.log.source import Problem
from tracer.log.splice import OF_PARTS, Splice
from tracer.log.stream import Writer

_TEXTS: Final = frozenset(NUMBER[name] for name in ("marker", "loss", "source.gap"))
_NUMBER: Final = re.compile(r"-?(0x)?[0-9a-fA-F]{1,20}")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument("-o", "--output", required=True, help="the new trace")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument(
        "--move-addresses", action="store_true",
        help="move all guest addresses by one distance, within the RAM that they lie in",
    )  # fmt: skip
    parser.add_argument(
        "--ram", action="append", metavar="BASE:SIZE",
        help="with --move-addresses: guest RAM, if the header does not say; may be repeated",
    )  # fmt: skip
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


@dataclass
class _Done:
    """What was written, and what was not."""

    splice: Splice
    removed: list[str]
    problems: list[Problem]  # that the reading ended with
    texts: int = 0


def run(options: argparse.Namespace) -> int:
    """Write the new trace, and say what is not in it; 3 for a damaged one."""
    output = options.output
    if output == "-":
        raise UsageError("scrub reads again what it wrote: -o must name a file")
    move = _moves(options) if options.move_addresses else None
    try:
        done = _written(options, move)
        verify_written(output, done.splice)
        if move and _judged(options.trace, options) != _judged(output, options):
            raise Unmovable("the verdict would be another")
    except Unmovable:
        Path(output).unlink()
        raise
    if options.json:
        answer = {"removed": done.removed, "texts_left": done.texts}
        print_json({"schema": "itstrace.scrub/1"} | answer | {"addresses_moved": bool(move)})
    else:
        print(f"{clean(output)}: without {', '.join(done.removed) or 'anything less'}; read again")
        if move:
            print("  addresses   all moved by one distance; judged as before")
        if done.texts:
            print(f"  to look at  {done.texts} events that hold a text of whoever recorded")
    for each in done.problems[:1]:
        say(f"{options.trace}: byte {each.offset:#x}: {each.what}: `itstrace recover`")
    return EXIT_LOST if done.problems else 0


def _written(options: argparse.Namespace, move: Walk | None) -> _Done:
    """Write the new trace, up to where the old one is damaged."""
    with open_trace(options.trace) as reader:
        header, removed = scrubbed(reader.header)
        with create_output(options.output, force=options.force) as out:
            writer = Writer(
                out, header, bound_ms=0, name=options.output, checkpoint=reader.checkpoint
            )
            done = _Done(Splice(writer), removed, [])
            for first_seq, events in progress(reader, "events", every=lambda: reader.events):
                made = [move(event) for event in events] if move else events
                done.splice.add(first_seq, made, done.splice.time_ns)
                done.texts += sum(event[0] in _TEXTS for event in events)
                if reader.status == "damaged":
                    break
            writer.close(goes_on=reader.open_end)
        if reader.status == "damaged":
            done.problems = list(reader.problems)
    return done


def _moves(options: argparse.Namespace) -> Walk:
    """Return what moves the addresses of a trace.

    Raises:
        UsageError: they cannot be moved.
    """
    if once_only(options.trace):
        raise UsageError("--move-addresses reads the trace several times: name a file")
    with open_trace(options.trace) as reader:
        if reader.checkpoint is not None:
            raise Unmovable("those in the state that the trace begins with would stay")
        family = make_profile(reader.header, options).family
        ram = [ram_range(text) for text in options.ram or ()] or reader.header.ram_ranges
        survey = Survey(ram or (), family)
        for _, events in reader:
            survey.find_queues(events)
        if reader.status == "damaged":
            raise Unmovable("the trace is damaged: `itstrace recover` first")
    look = survey.walk()
    with open_trace(options.trace) as reader:
        for _, events in progress(reader, "addresses", every=lambda: reader.events):
            for event in events:
                look(event)
    return survey.move(survey.distances())


def _judged(path: str, options: argparse.Namespace) -> tuple[Any, ...]:
    """Return all that is said of a trace and that no address stands in."""
    with open_trace(path) as reader:
        found = judge(reader, make_profile(reader.header, options))
    verifier, tally = found.verifier, found.engine.tally
    return (
        found.word,
        found.signatures,
        [(each.how, each.seq, each.word, each.statuses()) for each in verifier.resets],
        [(each.seq, each.word, each.witness, each.blame) for each in verifier.round_trips],
        [getattr(tally, name) for name in (*CLASSES, "divergent")],
        tally.kinds,
        found.engine.crash,
    )


def scrubbed(header: Header) -> tuple[Header, list[str]]:
    """Return the header without command line, host name, and notes that are no number."""
    kept = {
        name: value
        for name, value in header.annotations.items()
        if _NUMBER.fullmatch(value) or name in OF_PARTS
    }
    removed = [name for name in ("command_line", "host") if getattr(header, name) is not None]
    removed += [name for name in header.annotations if name not in kept]
    removed += list(header.extra)
    made = replace(header, command_line=None, host=None, annotations=kept, extra={})
    return made, removed
