"""`itstrace report`: a page that shows a trace, two side by side, or a corpus; it opens from disk."""

from __future__ import annotations

import argparse
from pathlib import PurePath

from replay.commands.common import progress
from replay.commands.replaying import add_model_options, caveats, exit_code, make_model
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
        told = _stories(found, options)
        made = blocks(found, caveats(reader, found.engine), told)
        with create_output(options.output, force=options.force) as out:
            out.write(page(f"{PurePath(reader.name).name}: itstrace report", "trace", made))
        return exit_code(reader, found.engine, finding=False)


def _replayed(reader: AnyReader, options: argparse.Namespace) -> Replayed:
    model = make_model(reader.header, options)
    return replayed(reader, model, lambda frames: progress(frames, f"{reader.name}: replaying"))


def _stories(found: Replayed, options: argparse.Namespace) -> dict[Place, Story]:
    """Return the stories of what is stale; a trace that came by a pipe is not read twice."""
    asked = questions(found.verifier.resets, found.verifier.round_trips)
    if not asked or options.trace == "-":
        return {}
    with open_trace(options.trace) as reader:
        model = make_model(reader.header, options)
        return stories(reader, model, asked)
