"""`itstrace report`: a page that shows a trace, two side by side, or a corpus; it opens from disk."""

from __future__ import annotations

import argparse
from pathlib import PurePath
from typing import Any

from replay.commands.common import progress
from replay.commands.replaying import add_model_options, caveats, exit_code, make_model
from replay.commands.verify import observation_document, reset_document, trip_document
from replay.report.build import Replayed, blocks, replayed
from replay.report.page import page
from replay.report.stories import Place, Story, questions, stories
from tracer.log.opening import AnyReader, create_output, open_trace


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the page")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the page; 3 for a damaged or lossy trace, 4 for one of a newer itstrace."""
    with open_trace(options.trace) as reader:
        found = _replayed(reader, options)
        made = blocks(found, caveats(reader, found.engine), _verdicts(found, options))
        with create_output(options.output, force=options.force) as out:
            out.write(page(f"{PurePath(reader.name).name}: itstrace report", "trace", made))
        return exit_code(reader, found.engine, finding=False)


def _replayed(reader: AnyReader, options: argparse.Namespace) -> Replayed:
    model = make_model(reader.header, options)
    return replayed(reader, model, lambda frames: progress(frames, f"{reader.name}: replaying"))


def _verdicts(found: Replayed, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is said of each reset, and of what is stale, its story."""
    verifier = found.verifier
    told = _stories(found, options)
    resets = [reset_document(each) for each in verifier.resets]
    for verdict, document in zip(verifier.resets, resets, strict=True):
        for component, row in zip(verdict.components, document["components"], strict=True):
            row["wrong"] = component.wrong and observation_document(component.wrong)
            if row["blame"]:
                row["blame"]["story"] = told.get((verdict.seq, component.name))
    trips = [trip_document(each) for each in verifier.round_trips]
    for trip in trips:
        if trip["blame"]:
            keys = ((trip["seq"], name) for name in trip["came_back"])
            trip["blame"]["story"] = next((told[key] for key in keys if key in told), None)
    return {"resets": resets, "round_trips": trips}


def _stories(found: Replayed, options: argparse.Namespace) -> dict[Place, Story]:
    """Return the stories of what is stale; a trace that came by a pipe is not read twice."""
    asked = questions(found.verifier.resets, found.verifier.round_trips)
    if not asked or options.trace == "-":
        return {}
    with open_trace(options.trace) as reader:
        model = make_model(reader.header, options)
        return stories(reader, model, asked)
