"""`itstrace demo`: import a real capture and verify its resets, saying what is run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from replay.commands.common import paint
from tracer.errors import UsageError

CAPTURE = "qemu-7.2.22-linux-6.1-two-boots.log"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--capture", default=CAPTURE, help="a file in traces/ (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Run import, info, check and verify on a capture; the exit code of the last."""
    from replay.cli import main

    traces = Path(__file__).resolve().parents[2] / "traces"
    capture = traces / options.capture
    if not capture.is_file():
        raise UsageError(f"{capture}: the demo needs a checkout of itstrace, with its traces/")
    with TemporaryDirectory(prefix="itstrace-demo-") as folder:
        trace = str(Path(folder, capture.stem + ".itstrace"))
        code = 0
        for verb, *rest in (
            ("import", str(capture), "-o", trace),
            ("info", trace),
            ("check", trace),
            ("verify", trace),
        ):
            shown = [Path(word).name if "/" in word else word for word in (verb, *rest)]
            print(paint(f"$ itstrace {shlex.join(shown)}", "bold"), flush=True)
            code = main([verb, *rest])
            if code:
                return code
        return code
