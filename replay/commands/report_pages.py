"""What the forms of `itstrace report` share: the blocks of one trace, and writing a page."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePath

from replay.commands.common import progress
from replay.commands.replaying import caveats, exit_code, make_model
from replay.judge import AnyModel
from replay.report.build import Blocks, Replayed, blocks, replayed
from replay.report.stories import Place, Story, questions, stories
from tracer.log.files import is_url
from tracer.log.header import Header
from tracer.log.opening import open_input, open_trace, write_output

Maker = Callable[[Header], AnyModel]


def made_by(options: argparse.Namespace) -> Maker:
    """Return what makes the model that the options ask for."""
    return lambda header: make_model(header, options)


def blocks_of(path: str, make: Maker) -> tuple[Blocks, int, str]:
    """Return what a page shows of a trace, the exit code for it, and its name."""
    with open_trace(path) as reader:
        model = make(reader.header)
        watch = f"{reader.name}: replaying"
        found = replayed(reader, model, lambda frames: progress(frames, watch))
        made = blocks(found, caveats(reader, found.engine), _stories(path, found, make))
        code = exit_code(reader, found.engine, finding=False)
        return made, code, PurePath(reader.name).name


def _stories(path: str, found: Replayed, make: Maker) -> dict[Place, Story]:
    """Return the stories of what is stale; a trace that came by a pipe is not read twice."""
    asked = questions(found.verifier.resets, found.verifier.round_trips)
    if not asked or path == "-":
        return {}
    with open_trace(path) as reader:
        return stories(reader, make(reader.header), asked)


def write(text: bytes, path: str, options: argparse.Namespace) -> None:
    """Write a page, to a file that is not there yet unless --force is given, and to no trace."""
    with ExitStack() as kept:
        for each in (options.trace, options.other):
            if each and each != "-" and not is_url(each) and not Path(each).is_dir():
                kept.enter_context(open_input(each))
        write_output(path, text, force=options.force)
