"""`itstrace recover`: write what of a file can be saved, and say what cannot.

0 only when nothing was lost and what was written was read again and is what was saved.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from replay.commands.common import EXIT_LOST, clean, once_only, print_json, progress
from replay.commands.doctor import answer_of
from tracer.errors import DamagedTrace, NewerTrace, NotATrace, UsageError
from tracer.log import format as fmt
from tracer.log.opening import create_output
from tracer.log.splice import Splice, is_as_written, recover
from tracer.log.survey import NEWER, NO_TRACE, Survey, survey
from tracer.log.text import SUFFIX


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace file; in text form, an editor is the tool")
    parser.add_argument("-o", "--output", required=True, help="the new trace")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Write the new trace; 3 when something is not in it."""
    name, output = options.trace, options.output
    if name.endswith(SUFFIX) or output == "-" or once_only(name):
        raise UsageError("recover reads a binary trace from a file, and writes one")
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    with stream:
        if Path(output).exists() and Path(output).samefile(name):
            raise UsageError(f"{output}: is the damaged file itself, which stays as it is")
        found = survey(stream, name, lambda steps: progress(steps, "frames"))
        _refuse(found)
        with create_output(output, force=options.force) as out:
            splice = recover(stream, found, out, output, lambda them: progress(them, "saved"))
    verify_written(output, splice)
    answer = _answer(found, splice, output)
    if options.json:
        print_json(answer)
    else:
        _print(answer)
    return EXIT_LOST if answer["lost"] else 0


def verify_written(output: str, splice: Splice) -> None:
    """Read a new trace again.

    Raises:
        DamagedTrace: it is not what was written.
    """
    with Path(output).open("rb") as again:
        if not is_as_written(again, splice, output):
            raise DamagedTrace(output, 0, "read again, this is not what was written: keep the old")


def _refuse(found: Survey) -> None:
    """Raise what keeps a file from being saved."""
    if found.state == NO_TRACE:
        raise NotATrace(found.name, 0, "nothing of a trace was found in this file")
    if found.state == NEWER and found.version and found.version > fmt.VERSION:
        raise NewerTrace(found.name, 8, f"format version {found.version}: use a newer itstrace")
    if found.header is None and not found.pieces:
        what = "neither the header nor an event can be read: there is nothing to save"
        raise DamagedTrace(found.name, 0, what)


def _answer(found: Survey, splice: Splice, output: str) -> dict[str, Any]:
    return {
        "schema": "itstrace.recover/1",
        "file": found.name,
        "state": found.state,
        "output": output,
        "events": sum(each.next_seq - each.first_seq - each.skip for each in found.pieces),
        "lost": _lost(found),
        "renumbered": [
            {"first": each.first_seq, "last": each.next_seq - 1, "now": each.first_seq + each.shift}
            for each in splice.islands
            if each.shift
        ],
        "times_behind_a_hole": _times(found),
        "damage": answer_of(found)["damage"],
    }


def _lost(found: Survey) -> list[str]:
    lost = []
    if found.header is None:
        lost.append("the header")
    if found.checkpoint_lost:
        lost.append("the state before the first event")
    for hole in found.holes:
        if hole.count is None:
            lost.append(f"events from {hole.first_seq} on, nobody knows how many")
        else:
            last = hole.first_seq + hole.count - 1
            lost.append(f"events {hole.first_seq} to {last}")
    if found.cut_short:
        lost.append(f"the last frame, which is cut off at byte {found.size_bytes:#x}")
    if found.unknown_frames:
        lost.append(f"{found.unknown_frames} frames of a type that this version does not know")
    return lost


def _times(found: Survey) -> str:
    behind = {each.first_seq + (each.count or 0) for each in found.holes}
    starts = {each.first_seq for each in found.pieces}
    if not behind & starts:
        return "as recorded"
    return "as recorded" if behind & starts <= found.times_ns.keys() else "too early"


def _print(answer: dict[str, Any]) -> None:
    print(f"{clean(answer['output'])}: {answer['events']:,} events saved, and read again")
    for what in answer["lost"]:
        print(f"  lost       {what}")
    for each in answer["renumbered"]:
        last = each["now"] + each["last"] - each["first"]
        print(f"  renumbered events {each['first']} to {each['last']} are {each['now']} to {last}")
    if answer["times_behind_a_hole"] != "as recorded":
        print("  times      behind a hole are too early, by what nobody knows")
