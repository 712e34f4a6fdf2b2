"""`itstrace scrub`: a trace without the names of the house, for who hands it on.

What a VM's memory and registers held is what the trace is of, and stays: so do guest addresses.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import Final

from replay.commands.common import EXIT_LOST, clean, print_json, progress, say
from replay.commands.recover import verify_written
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.log.header import Header
from tracer.log.opening import create_output, open_trace
from tracer.log.splice import OF_PARTS, Splice
from tracer.log.stream import Writer

_TEXTS: Final = frozenset(NUMBER[name] for name in ("marker", "loss", "source.gap"))
_NUMBER: Final = re.compile(r"-?(0x)?[0-9a-fA-F]{1,20}")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument("-o", "--output", required=True, help="the new trace")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Write the new trace, and say what is not in it; 3 for a damaged one."""
    output = options.output
    if output == "-":
        raise UsageError("scrub reads again what it wrote: -o must name a file")
    texts = 0
    with open_trace(options.trace) as reader:
        header, removed = scrubbed(reader.header)
        with create_output(output, force=options.force) as out:
            writer = Writer(out, header, bound_ms=0, name=output, checkpoint=reader.checkpoint)
            splice = Splice(writer)
            for first_seq, events in progress(reader, "events", every=lambda: reader.events):
                splice.add(first_seq, events, splice.time_ns)
                texts += sum(event[0] in _TEXTS for event in events)
                if reader.status == "damaged":
                    break
            writer.close(goes_on=reader.open_end)
        status, problems = reader.status, reader.problems
    verify_written(output, splice)
    if options.json:
        print_json({"schema": "itstrace.scrub/1", "removed": removed, "texts_left": texts})
    else:
        print(f"{clean(output)}: without {', '.join(removed) or 'anything less'}; read again")
        if texts:
            print(f"  to look at  {texts} events that hold a text of whoever recorded")
    if status == "damaged":
        say(
            f"{options.trace}: byte {problems[0].offset:#x}: {problems[0].what}: `itstrace recover`"
        )
        return EXIT_LOST
    return 0


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
