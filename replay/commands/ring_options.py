"""The options of a flight recorder and its output, apart from what carries them out.

A recorder reads its options before it starts a VM, and loads the models meanwhile. Counterpart:
`replay.commands.flight`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from tracer.errors import UsageError
from tracer.log import format as fmt
from tracer.log.opening import create_output
from tracer.log.ring import END, make_folder

RESET: Final = "reset"
STALE: Final = "stale"
MIN_RING_BYTES: Final = 4096
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,15})([KMG]?)")


def add_ring_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `record` and `import` share."""
    parser.add_argument(
        "--ring", type=ring_size, metavar="SIZE",
        help="keep only the last SIZE bytes (64M); written out, numbered, as --dump-on says",
    )  # fmt: skip
    parser.add_argument(
        "--dump-on", action="append", choices=(RESET, STALE, END),
        help="when to write the ring out, besides SIGUSR1; may be repeated (default: end)",
    )  # fmt: skip


def add_bounds(parser: argparse.ArgumentParser, *, of_a_file: bool = False) -> None:
    """Declare how late an event may come into the file; without a default where a file is read."""
    parser.add_argument(
        "--bound-events", type=int, default=fmt.DEFAULT_BOUND_EVENTS, metavar="N",
        help="write a frame when it has N events (default: %(default)s)",
    )  # fmt: skip
    whole = ", of a stream; a file's events are written as they fill frames" if of_a_file else ""
    parser.add_argument(
        "--bound-ms", type=int, default=None if of_a_file else fmt.DEFAULT_BOUND_MS, metavar="MS",
        help=f"write a frame when its first event is MS old (default: {fmt.DEFAULT_BOUND_MS}{whole})",
    )  # fmt: skip
    parser.add_argument("--fsync", action="store_true", help="wait for the disk at each frame")


def ring_size(text: str) -> int:
    """Argparse type: bytes, with K, M or G."""
    match = _SIZE.fullmatch(text.upper())
    size = int(match[1]) * _UNITS[match[2]] if match else 0
    if size < MIN_RING_BYTES:
        raise argparse.ArgumentTypeError(
            f"{text!r:.40} must be a size of at least {MIN_RING_BYTES} bytes, as 64M"
        )
    return size


def check_ring_options(options: argparse.Namespace) -> None:
    """Refuse what means nothing together."""
    if options.ring is None and options.dump_on:
        raise UsageError("--dump-on needs --ring SIZE: without it everything is written")
    if options.ring is not None and options.output == "-":
        raise UsageError("--ring writes numbered files: give -o FILE")


class Folder:
    """Where a ring's segments go, in the place of an output that is one file."""

    def __init__(self, output: str) -> None:
        self.path = make_folder(output)
        self._descriptor = os.open(self.path, os.O_RDONLY)

    def fileno(self) -> int:
        """Return a descriptor, which names the recording for `itstrace reset`."""
        return self._descriptor

    def close(self) -> None:
        """Take the folder away when nothing was recorded."""
        os.close(self._descriptor)
        with suppress(OSError):
            self.path.rmdir()


@contextmanager
def opened_output(
    options: argparse.Namespace, name: str | None = None
) -> Iterator[BinaryIO | Folder]:
    """Yield the new file of a recording, or the folder of its ring; `name` instead of the output.

    Raises:
        UsageError: it is there already, or cannot be made.
    """
    check_ring_options(options)
    if options.ring is None:
        with create_output(name or options.output, force=options.force) as out:
            yield out
        return
    folder = Folder(name or options.output)
    try:
        yield folder
    finally:
        folder.close()
