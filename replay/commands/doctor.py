"""`itstrace doctor`: in which state a file is, where it is damaged, and what to do.

A file that was cut off is in a good state (its recorder was stopped): 0, as for a clean one. 3 is
for what is damaged, lossy or no trace, 4 for what a newer itstrace wrote.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from replay.checkpoints import NewerCheckpoint, load
from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_LOST,
    clean,
    paint,
    print_json,
    progress,
)
from tracer.errors import DamagedTrace, NewerTrace, NotATrace, UsageError
from tracer.log import format as fmt
from tracer.log.checks import PayloadError
from tracer.log.foreign import way_out
from tracer.log.opening import open_input
from tracer.log.survey import CLEAN, CUT, DAMAGED, LOSSY, NEWER, NO_TRACE, Survey, survey
from tracer.log.text import SUFFIX, TextReader

MAX_SHOWN: Final = 20
_CODES: Final = {
    CLEAN: 0, CUT: 0, LOSSY: EXIT_LOST, DAMAGED: EXIT_LOST, NO_TRACE: EXIT_LOST,
    NEWER: EXIT_CANNOT_JUDGE,
}  # fmt: skip
_COLOURS: Final = {CLEAN: "green", CUT: "yellow"}
_WORST: Final = (EXIT_LOST, EXIT_CANNOT_JUDGE, 0)
_IN_TEXT: Final = "mend that line in an editor"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "trace", nargs="+", help="files, in either form; - for standard input, or a folder"
    )
    parser.add_argument("--json", action="store_true", help="answer as one JSON document a file")


def run(options: argparse.Namespace) -> int:
    """Say what state each file is in; the worst one's exit code."""
    paths = [path for each in options.trace for path in _files(each)]
    codes = set()
    for path in paths:
        answer = diagnose(path)
        codes.add(_CODES[answer["state"]])
        if options.json:
            print_json(answer, lines=len(paths) > 1)
        else:
            _print(answer)
    return next(code for code in _WORST if code in codes)


def _files(name: str) -> list[str]:
    """Return the traces of a folder, and of anything else itself.

    Raises:
        UsageError: a folder without a trace.
    """
    if name == "-" or not Path(name).is_dir():
        return [name]
    found = [
        str(path)
        for path in sorted(Path(name).rglob("*"))
        if path.name.endswith((".itstrace", SUFFIX)) and path.is_file()
    ]
    if not found:
        raise UsageError(f"{name}: there is no .itstrace and no {SUFFIX} in this folder")
    return found


def diagnose(path: str) -> dict[str, Any]:
    """Return the answer about one file.

    Raises:
        UsageError: it cannot be opened.
    """
    with open_input(path) as raw:
        stream = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, raw), 1 << 16))
        start = cast(io.BufferedReader, stream).peek(11)[:11]
        if path.endswith(SUFFIX) or start == b"# itstrace:":
            answer = _of_text(stream, path)
        else:
            found = survey(stream, path, lambda steps: progress(steps, clean(path)))
            answer = answer_of(found) | _of_state(found)
    return answer | ({"do": [way_out(start)]} if answer["state"] == NO_TRACE else {})


def _of_state(found: Survey) -> dict[str, Any]:
    """Return what is otherwise in the answer where the state at the beginning cannot be used."""
    if found.checkpoint is None or found.state in (DAMAGED, NEWER, NO_TRACE):
        return {}
    try:
        load(found.checkpoint)
    except NewerCheckpoint:
        return {"state": NEWER, "do": _what_to_do(found, NEWER)}
    except PayloadError as error:
        what = f"the state at the beginning: {error}"
        damage = [{"start": None, "end": None, "what": what}]
        return {"state": DAMAGED, "damage": damage, "do": [_COPY_AGAIN]}
    return {}


def _of_text(stream: BinaryIO, path: str) -> dict[str, Any]:
    """Diagnose the text form, which somebody may have written by hand: a wrong line ends it."""
    found = Survey(path, version=fmt.VERSION, is_trace=True)
    state, wrong, reader = CLEAN, "", None
    try:
        reader = TextReader(stream, path)
        for _, events in reader:
            found.note(events)
        found.header = reader.header
        state = found.state
    except NewerTrace as error:
        state, wrong = NEWER, str(error)
    except DamagedTrace as error:
        state, wrong = DAMAGED, str(error)
    except NotATrace as error:
        state, wrong = NO_TRACE, str(error)
    answer = answer_of(found) | {"form": "text", "state": state}
    answer["do"] = [_IN_TEXT] if state == DAMAGED else _what_to_do(found, state)
    if wrong:
        answer["damage"] = [{"start": None, "end": None, "what": wrong}]
    return answer


def answer_of(found: Survey) -> dict[str, Any]:
    """Return what is said of a file, by the schema itstrace.doctor/1."""
    header = found.header
    return {
        "schema": "itstrace.doctor/1",
        "file": found.name,
        "form": "binary",
        "state": found.state,
        "version": found.version,
        "size_bytes": found.size_bytes,
        "header": header is not None,
        "checkpoint": "lost" if found.checkpoint_lost else found.checkpoint is not None,
        "events": sum(each.next_seq - each.first_seq - each.skip for each in found.pieces)
        or found.events,
        "first_seq": found.first_seq,
        "clean_end": found.cut_at is None and not found.damage_count,
        "cut_at": found.cut_at,
        "damage": [{"start": d.start, "end": d.end, "what": d.what} for d in found.damage],
        "damage_count": found.damage_count,
        "holes": [
            {
                "first": hole.first_seq,
                "last": hole.first_seq + hole.count - 1 if hole.count else None,
                "bytes": None if hole.start is None else [hole.start, hole.end],
            }
            for hole in found.holes
        ],
        "losses": found.losses,
        "lost_while_recording": found.lost,
        "unknown_inputs": found.unknown_inputs,
        "unknown_frames": found.unknown_frames,
        "do": _what_to_do(found, found.state),
    }


_RECOVER: Final = "`itstrace recover {name} -o OUT` {does}"
_COPY_AGAIN: Final = "copy the file again from where it was recorded"


def _what_to_do(found: Survey, state: str) -> list[str]:
    name = found.name
    match state:
        case "cut":
            ended = _RECOVER.format(name=name, does="gives it an end")
            return ["nothing: its recorder was stopped, and all that it wrote is read", ended]
        case "damaged" if found.pieces or found.header:
            return [_COPY_AGAIN, _RECOVER.format(name=name, does="saves what can be read")]
        case "damaged":
            return [f"{_COPY_AGAIN}: nothing of this one can be read"]
        case "lossy":
            return ["nothing: every replay of it says so"]
        case "newer":
            return [f"use a newer itstrace: this one reads format version {fmt.VERSION}"]
    return []


def _print(answer: dict[str, Any]) -> None:
    state = answer["state"]
    print(f"{clean(answer['file'])}: {paint(state, _COLOURS.get(state, 'red'))}")
    if answer["header"] or answer["events"]:
        print(f"  events     {answer['events']:,}, from {answer['first_seq']} on")
    if state == NEWER and answer["version"]:
        print(f"  version    {answer['version']}")
    if answer["cut_at"] is not None:
        print(f"  cut off    at byte {answer['cut_at']:#x}")
    _print_damage(answer)
    for hole in answer["holes"][:MAX_SHOWN]:
        last = "an unknown one" if hole["last"] is None else hole["last"]
        where = f", bytes {hole['bytes'][0]:#x} to {hole['bytes'][1]:#x}" if hole["bytes"] else ""
        print(f"  missing    events {hole['first']} to {last}{where}")
    if answer["losses"]:
        counted = answer["lost_while_recording"] or "an unknown number of"
        print(f"  lossy      in {answer['losses']} places, {counted} events")
    for name, count in answer["unknown_inputs"].items():
        print(f"  newer      {count} inputs of an unknown kind: {name}")
    for what in answer["do"]:
        print(f"  to do      {clean(what)}")


def _print_damage(answer: dict[str, Any]) -> None:
    for each in answer["damage"][:MAX_SHOWN]:
        place = ""
        if each["start"] is not None:
            place = f"bytes {each['start']:#x} to {each['end']:#x}: "
        print(f"  damaged    {place}{clean(each['what'])}")
    more = answer["damage_count"] - MAX_SHOWN
    if more > 0:
        print(f"  damaged    in {more} places more")
