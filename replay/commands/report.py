"""`itstrace report`: a page that shows a trace, two side by side, or a corpus; it opens from disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from replay.commands.common import EXIT_CANNOT_JUDGE, EXIT_FINDING, EXIT_LOST, once_only
from replay.commands.replaying import add_model_options
from replay.commands.report_pages import blocks_of, made_by, write
from replay.report.build import Blocks
from replay.report.page import page
from tracer.errors import UsageError
from tracer.log.opening import open_trace

# Of two exit codes, the first of these stands for both.
_WORST = (EXIT_LOST, EXIT_FINDING, EXIT_CANNOT_JUDGE, 0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "trace", help="a trace, in either form, - for standard input; or a folder of traces"
    )
    parser.add_argument("other", nargs="?", metavar="B", help="a trace to be shown beside it")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE",
        help="the page; of a folder of traces: the folder for an index and their pages",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the page; 3 for a damaged or lossy trace, 4 for one of a newer itstrace."""
    if Path(options.trace).is_dir():
        if options.other is not None:
            raise UsageError("a folder of traces is shown alone, not beside another")
        from replay.commands.report_corpus import run as run_corpus

        return run_corpus(options)
    if options.other is None:
        made, code, name = blocks_of(options.trace, made_by(options))
        write(page(f"{name}: itstrace report", "trace", made), options.output, options)
        return code
    if once_only(options.trace, options.other):
        raise UsageError("two traces are read more than once: not from standard input")
    return _two(options)


def _two(options: argparse.Namespace) -> int:
    from replay.report.compare import compared

    made: Blocks = {}
    codes, names = [], []
    for side, path in (("a", options.trace), ("b", options.other)):
        of_side, code, name = blocks_of(path, made_by(options))
        made |= {f"{side}-{key}": block for key, block in of_side.items()}
        codes.append(code)
        names.append(name)
    with open_trace(options.trace) as one, open_trace(options.other) as other:
        made |= compared(one, other)
    title = f"{names[0]}, {names[1]}: itstrace report"
    write(page(title, "diff", made), options.output, options)
    return next(code for code in _WORST if code in codes)
