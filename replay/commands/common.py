"""What the verbs share: the parser, errors into exit codes, colour, JSON, numbers, progress."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from replay.cli import (
    EXIT_BUG,
    EXIT_CODES,
    EXIT_INTERRUPTED,
    EXIT_UNREAD,
    EXIT_USAGE,
    drop_output,
)
from tracer import oplog
from tracer.errors import TracerError, UsageError
from tracer.log.files import fetching, is_local

EXIT_FINDING: Final = 1
EXIT_LOST: Final = 3
EXIT_CANNOT_JUDGE: Final = 4

# What this machine refuses, and no bug of ours: a full disk, a file that nobody may write, ...
_FORBIDDEN: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_REFUSED: Final = _FORBIDDEN | {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM
}  # fmt: skip
_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
# Control characters, a newline too, and those that turn the order of what is shown around.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def build_parser(verb: str, text: str) -> argparse.ArgumentParser:
    """Return the parser of one verb, with the options that every verb has."""
    parser = Parser(
        prog=f"itstrace {verb}",
        description=text[0].upper() + text[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="operational messages on stderr (default: %(default)s)",
    )
    return parser


class Parser(argparse.ArgumentParser):
    """A parser whose errors may have the name of a file in them, which others chose."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        super().error(clean(message))


class LazyParser(Parser):
    """A parser whose options are declared when it is used, since their module imports much."""

    module = ""

    def declare(self) -> None:
        """Declare the options, once."""
        if self.module:
            module, self.module = self.module, ""
            import_module(module).configure(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with the options declared."""
        self.declare()
        return super().parse_known_args(args, namespace)


Actions = dict[str, tuple[str, str]]  # name -> (module in replay.commands, one line)


def add_actions(parser: argparse.ArgumentParser, dest: str, actions: Actions) -> None:
    """Declare what a verb can do; each action declares its options when it is the one."""
    choices = parser.add_subparsers(
        dest=dest, required=True, metavar=dest.upper(), parser_class=LazyParser
    )
    for name, (module, text) in actions.items():
        choice = choices.add_parser(
            name, help=text, description=text, formatter_class=parser.formatter_class
        )
        choice.module = f"replay.commands.{module}"


def run_action(options: argparse.Namespace, dest: str, actions: Actions) -> int:
    """Do the one that was chosen."""
    module, _ = actions[getattr(options, dest)]
    code: int = import_module(f"replay.commands.{module}").run(options)
    return code


def guarded(verb: str, entry: tuple[str, str], argv: list[str]) -> int:
    """Run one verb: TracerErrors become a sentence and their exit code, our bugs become 70."""
    _open_streams()
    try:
        module = import_module(f"replay.commands.{entry[0]}")
        parser = build_parser(verb, entry[1])
        module.configure(parser)
        options = parser.parse_args(argv)
        oplog.configure(options.log_level)
        with fetching():
            code: int = module.run(options)
        sys.stdout.flush()
        return code
    except TracerError as error:
        print(f"itstrace {verb}: {clean(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        drop_output()  # its reader went away, and may have missed a finding
        return EXIT_UNREAD
    except SystemExit as error:  # argparse
        return error.code if isinstance(error.code, int) else EXIT_USAGE
    except OSError as error:
        if error.errno not in _REFUSED:
            return _our_bug(verb)
        drop_output()
        say(f"itstrace {verb}: {error.filename or 'input or output'}: {error.strerror}")
        return EXIT_USAGE if error.errno in _FORBIDDEN else EXIT_LOST
    except Exception:  # noqa: BLE001 (the last resort: a bug of ours must not look like a finding)
        return _our_bug(verb)


def _our_bug(verb: str) -> int:
    import traceback

    for line in traceback.format_exc().splitlines():
        say(line)
    print(f"itstrace {verb}: this is a bug of itstrace, not of your input", file=sys.stderr)
    return EXIT_BUG


def _open_streams() -> None:
    """Give the standard streams that we were started without (`>&-`) an end that goes nowhere.

    A trace would else be opened in their place, and a child write into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115


def clean(text: str) -> str:
    """Return `text` as one line with control characters made visible: a guest may have chosen it.

    And in characters that any output takes: the name of a file may be no UTF-8.
    """
    shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return shown.encode("utf-8", "backslashreplace").decode()


def paint(text: str, colour: str) -> str:
    """Return `text` in `colour` when standard output is a terminal that wants it."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def say(text: str) -> None:
    """Print a diagnostic to stderr."""
    print(clean(text), file=sys.stderr)


def print_json(value: Any, *, lines: bool = False) -> None:
    """Print one JSON document, on one line where more follow."""
    json.dump(value, sys.stdout, indent=None if lines else 1, default=str)
    sys.stdout.write("\n")


def once_only(*names: str) -> bool:
    """Return whether one of the names is of what can be read only once: standard input, a pipe."""
    return any(
        name == "-" or (is_local(name) and (Path(name).is_fifo() or Path(name).is_socket()))
        for name in names
    )


def number(text: str) -> int:
    """Argparse type: a number, decimal or 0x hexadecimal."""
    try:
        return int(text, 0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number") from error


def ram_range(text: str) -> list[int]:
    """Return the base and the size that BASE:SIZE names.

    Raises:
        UsageError: it is none.
    """
    base, colon, size = text.partition(":")
    try:
        if colon:
            return [int(base, 0), int(size, 0)]
    except ValueError:
        pass
    raise UsageError(f"--ram must be BASE:SIZE, as 0x40000000:0x40000000, not {text!r:.40}")


def progress(
    frames: Iterable[Any], title: str, *, every: Callable[[], int] | None = None
) -> Iterator[Any]:
    """Yield from `frames`; on a terminal show a counter once it takes longer than a second."""
    if not sys.stderr.isatty():
        yield from frames
        return
    from time import monotonic

    started = shown = monotonic()
    width = 0
    for frame in frames:
        yield frame
        now = monotonic()
        if now - started > 1 and now - shown > 0.2:
            shown = now
            done = f" {every():,}" if every else ""
            line = f"\r{title}{done}"
            width = max(width, len(line))
            print(line, end="", file=sys.stderr, flush=True)
    if width:
        print("\r" + " " * width + "\r", end="", file=sys.stderr)
