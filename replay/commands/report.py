"""`itstrace report`: a page that shows a trace, two side by side, or a corpus; it opens from disk."""

from __future__ import annotations

import argparse
from pathlib import PurePath

from replay.commands.common import EXIT_CANNOT_JUDGE, EXIT_FINDING, EXIT_LOST, progress
from replay.commands.replaying import add_model_options, caveats, exit_code, make_model
from replay.report.build import Blocks, Replayed, blocks, replayed
from replay.report.page import page
from replay.report.stories import Place, Story, questions, stories
from tracer.errors import UsageError
from tracer.log.opening import create_output, open_trace

# Of two exit codes, the first of these stands for both.
_WORST = (EXIT_LOST, EXIT_FINDING, EXIT_CANNOT_JUDGE, 0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument("other", nargs="?", metavar="B", help="another, to be shown beside it")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the page")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the page; 3 for a damaged or lossy trace, 4 for one of a newer itstrace."""
    if options.other is None:
        return _one(options)
    if "-" in (options.trace, options.other):
        raise UsageError("two traces are read more than once: not from standard input")
    return _two(options)


def _one(options: argparse.Namespace) -> int:
    made, code, name = _blocks(options.trace, options)
    _write(page(f"{name}: itstrace report", "trace", made), options)
    return code


def _two(options: argparse.Namespace) -> int:
    from replay.report.compare import compared

    made: Blocks = {}
    codes, names = [], []
    for side, path in (("a", options.trace), ("b", options.other)):
        of_side, code, name = _blocks(path, options)
        made |= {f"{side}-{key}": block for key, block in of_side.items()}
        codes.append(code)
        names.append(name)
    with open_trace(options.trace) as one, open_trace(options.other) as other:
        made |= compared(one, other)
    _write(page(f"{names[0]}, {names[1]}: itstrace report", "diff", made), options)
    return next(code for code in _WORST if code in codes)


def _write(text: bytes, options: argparse.Namespace) -> None:
    with create_output(options.output, force=options.force) as out:
        out.write(text)


def _blocks(path: str, options: argparse.Namespace) -> tuple[Blocks, int, str]:
    """Return what a page shows of a trace, the exit code for it, and its name."""
    with open_trace(path) as reader:
        model = make_model(reader.header, options)
        watch = f"{reader.name}: replaying"
        found = replayed(reader, model, lambda frames: progress(frames, watch))
        told = _stories(path, found, options)
        made = blocks(found, caveats(reader, found.engine), told)
        code = exit_code(reader, found.engine, finding=False)
        return made, code, PurePath(reader.name).name


def _stories(path: str, found: Replayed, options: argparse.Namespace) -> dict[Place, Story]:
    """Return the stories of what is stale; a trace that came by a pipe is not read twice."""
    asked = questions(found.verifier.resets, found.verifier.round_trips)
    if not asked or path == "-":
        return {}
    with open_trace(path) as reader:
        return stories(reader, make_model(reader.header, options), asked)
