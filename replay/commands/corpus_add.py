"""`itstrace corpus add`: make a trace a test: write its manifest from what it shows now."""

from __future__ import annotations

import argparse
from pathlib import Path

from replay.commands.common import clean, print_json
from replay.corpus import run_trace
from replay.corpus_add import add
from tracer.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form")
    parser.add_argument(
        "--reason",
        required=True,
        metavar="TEXT",
        help="why it is kept: whoever sees it fail reads it",
    )
    parser.add_argument(
        "--profile", help="what it is to be replayed as (default: as its header says)"
    )
    parser.add_argument("--strict", choices=("bits",), help="as verify has it")
    parser.add_argument(
        "--force", action="store_true",
        help="overwrite a manifest; take a trace that shows nothing, too",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Write the manifest, then run the trace against it."""
    trace = Path(options.trace)
    if not trace.is_file():
        raise UsageError(f"{trace}: no such trace")
    path = add(
        trace, options.reason, profile=options.profile, strict=options.strict == "bits",
        force=options.force,
    )  # fmt: skip
    (result,) = run_trace(trace)
    assert result.passed, result.sentence()
    if options.json:
        found = {"manifest": str(path), "expect": result.expected, "signature": result.signature}
        print_json({"schema": "itstrace.corpus_add/1"} | found)
    else:
        shown = f" ({result.signature})" if result.signature else ""
        print(f"{clean(str(path))}: expects {result.expected}{shown}")
    return 0
