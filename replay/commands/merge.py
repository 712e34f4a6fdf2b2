"""`itstrace merge`: files of one recording as one trace.

Only what belongs together is merged: parts of one recording, told by its identity and by the
numbers of their events. Two VMs are two traces: no device saw their events in one order, and no
model could replay them as one.
"""

from __future__ import annotations

import argparse
import io
from contextlib import ExitStack
from typing import BinaryIO, cast

from replay.commands.common import EXIT_LOST, clean, once_only, print_json
from replay.commands.recover import verify_written
from tracer.errors import DamagedTrace, UsageError
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.opening import create_output, open_input
from tracer.log.splice import Part, lineage, merge
from tracer.log.survey import survey

# Keys that differ between the parts of a recording.
_OF_A_PART = ("uuid", "parent_uuid", "first_seq", "base_digest", "starts", "annotations")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "trace", nargs="+", help="files of one recording, in any order: cuts of it, a ring's"
    )
    parser.add_argument("-o", "--output", required=True, help="the new trace")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Write the whole; 3 when events are in none of the files."""
    output = options.output
    if output == "-" or once_only(*options.trace):
        raise UsageError("merge reads files, and writes one")
    with ExitStack() as files:
        parts = [_part(files, name) for name in options.trace]
        for part in parts[1:]:
            _belong_together(parts[0], part)
        with create_output(output, force=options.force) as out:
            splice, missing = merge(parts, out, output)
    verify_written(output, splice)
    answer = {
        "schema": "itstrace.merge/1",
        "output": output,
        "files": len(parts),
        "events": splice.count,
        "lost": missing,
    }
    if options.json:
        print_json(answer)
    else:
        print(f"{clean(output)}: {splice.count:,} events of {len(parts)} files, and read again")
        for what in missing:
            print(f"  lost       {clean(what)}")
    return EXIT_LOST if missing else 0


def _part(files: ExitStack, name: str) -> Part:
    raw = cast(io.RawIOBase, files.enter_context(open_input(name)))
    stream = cast(BinaryIO, io.BufferedReader(raw))
    found = survey(stream, name)
    if found.header is None or (found.version or fmt.VERSION) > fmt.VERSION:
        what = f"{found.state}: its header cannot be read; `itstrace doctor` says what to do"
        raise DamagedTrace(name, 0, what)
    return Part(stream, found, found.header)


def _belong_together(one: Part, two: Part) -> None:
    names = f"{one.found.name} and {two.found.name}"
    if lineage(one.header) != lineage(two.header):
        raise UsageError(
            f"{names} are of two recordings: of two VMs no device saw the events in one order, "
            "and no model replays them as one; keep them apart"
        )
    if not lineage(one.header) and _common(one.header) != _common(two.header):
        raise UsageError(f"{names} have no identity, and headers that differ: two recordings")


def _common(header: Header) -> dict[str, object]:
    return {key: value for key, value in header.to_map().items() if key not in _OF_A_PART}
