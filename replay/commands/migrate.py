"""`itstrace migrate`: a trace of an older format version as one of this version.

Every verb reads older traces as they are; a migrated one is for who hands traces on, or reads many
of them often.
"""

from __future__ import annotations

import argparse
from typing import BinaryIO

from replay.commands.common import clean, print_json, progress
from replay.commands.recover import verify_written
from tracer.errors import DamagedTrace, UsageError
from tracer.log import format as fmt
from tracer.log.opening import create_output, open_input
from tracer.log.splice import Splice
from tracer.log.stream import Reader, Writer


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace; - for standard input")
    parser.add_argument("-o", "--output", required=True, help="the new trace")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Write the new trace, and read it again; nothing for a trace of this version."""
    name, output = options.trace, options.output
    if output == "-":
        raise UsageError("migrate reads again what it wrote: -o must name a file")
    with open_input(name) as stream:
        reader = Reader(stream, name)
        is_old = reader.version < fmt.VERSION
        if is_old:
            with create_output(output, force=options.force) as out:
                splice = _write(reader, out, output)
            verify_written(output, splice)
    answer = {
        "schema": "itstrace.migrate/1",
        "from": reader.version,
        "to": fmt.VERSION,
        "output": output if is_old else None,
    }
    if options.json:
        print_json(answer)
    elif is_old:
        print(f"{clean(output)}: of version {fmt.VERSION}, was {reader.version}; read again")
    else:
        print(f"{clean(name)}: is of version {fmt.VERSION} already: nothing was written")
    return 0


def _write(reader: Reader, out: BinaryIO, name: str) -> Splice:
    writer = Writer(out, reader.header, bound_ms=0, name=name, checkpoint=reader.checkpoint)
    splice = Splice(writer)
    for first_seq, events in progress(reader, "events", every=lambda: reader.events):
        splice.add(first_seq, events, splice.time_ns)
    for problem in reader.problems:
        if problem.kind == "damaged":
            what = f"{problem.what}; `itstrace recover` saves what can be read, in this version"
            raise DamagedTrace(reader.name, problem.offset, what)
    writer.close(goes_on=reader.open_end)
    return splice
