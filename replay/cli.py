"""The command line: `itstrace VERB`. The verbs are a literal table; each lives in a file of its own.

`--help` is printed from that table without building a parser, and only the chosen verb's module is
imported, because start-up is what a user of a small tool feels.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from replay.ruled import EXIT_SKIP, GIT_BISECT, Ruled

# verb -> (module in replay.commands, one line); those that a newcomer needs come first
VERBS: Final = {
    "import": ("import_", "make a trace of what another tool wrote"),
    "check": ("check", "replay a trace on the model and compare every output"),
    "verify": ("verify", "say of each reset whether the device came back equal to a fresh one"),
    "run": ("run", "carry out a trace on a real QEMU, or on several targets in lockstep"),
    "minimize": ("minimize", "the smallest trace that still shows the same bug"),
    "export": ("export", "a reproducer without itstrace, or events for other tools"),
    "record": ("record", "run a VM and write its trace while it runs"),
    "reset": ("reset", "reset a VM that is being recorded, with nothing running meanwhile"),
    "info": ("info", "what a trace holds, and in which state the file is"),
    "show": ("show", "print events, decoded, filtered, as text or JSON"),
    "state": ("state", "the ITS at any event of a trace"),
    "blame": ("blame", "who wrote a component, what that rested on, and what resets did to it"),
    "diff": ("diff", "where two traces of what should be the same boot first differ"),
    "report": ("report", "a page that shows a trace, two side by side, or a corpus"),
    "bisect": ("bisect", "the first event after which something holds, or the first build"),
    "doctor": ("doctor", "which state a file is in, where it is damaged, and what to do"),
    "recover": ("recover", "write what of a damaged or cut file can be saved"),
    "migrate": ("migrate", "a trace of an older format version as one of this version"),
    "scrub": ("scrub", "a trace without command lines, host names and notes"),
    "cut": ("cut", "a part of a trace, by reset or range, as a trace that replays as before"),
    "merge": ("merge", "put the parts of one recording together again"),
    "corpus": ("corpus", "traces as tests: run them against their manifests, list, add, count"),
    "fingerprint": ("fingerprint", "short lives that tell an image's behaviour flags"),
    "kernels": ("kernels", "fetch arm64 kernels to run traces on, or list those that are here"),
    "generate": ("generate", "a seeded life of a VM as a trace"),
    "fuzz": ("fuzz", "run seeded lives on several targets and keep what they answer differently"),
    "demo": ("demo", "import a real capture and verify its resets"),
    "completion": ("completion", "a completion script for your shell"),
}

EXIT_CODES: Final = (
    "exit codes: 0 nothing found, 1 a finding, 2 wrong usage,\n"
    "            3 input damaged or data lost, 4 cannot judge,\n"
    "            70 a bug of itstrace, 130 interrupted"
)

EXIT_USAGE: Final = 2
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_UNREAD: Final = 141  # as a shell has it of SIGPIPE: not all of the answer was taken


def usage() -> str:
    """Return the text of `itstrace --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: itstrace VERB [OPTIONS] ...",
            "",
            "Record, replay and verify the Arm GICv3 ITS of virtual machines.",
            "",
            *lines,
            "",
            "`itstrace VERB --help` tells a verb's options.",
            EXIT_CODES,
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    args = sys.argv[1:] if argv is None else argv
    try:
        code = _ruled(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        drop_output()
        return EXIT_SKIP if _is_git_bisect(args) else EXIT_UNREAD
    except OSError as error:
        from replay.commands.common import EXIT_LOST

        drop_output()
        print(f"itstrace: standard output: {error.strerror}", file=sys.stderr)
        return EXIT_SKIP if _is_git_bisect(args) else EXIT_LOST
    return code


def drop_output() -> None:
    """Let what is still to be printed go nowhere: Python would complain of it at exit."""
    with suppress(OSError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_git_bisect(args: list[str]) -> bool:
    return any(len(each) > 2 and GIT_BISECT.startswith(each) for each in args)


def _ruled(args: list[str]) -> int:
    if not _is_git_bisect(args):
        return _main(args)
    try:
        code = _main(args)
    except Exception:  # noqa: BLE001 (Python would exit with 1, which is a bad build)
        import traceback

        for line in traceback.format_exc().splitlines():  # by hand: an import may have failed
            print("".join(c if c.isprintable() else ascii(c) for c in line), file=sys.stderr)
        return EXIT_SKIP
    return code if isinstance(code, Ruled) or code == EXIT_INTERRUPTED else EXIT_SKIP


def _main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if args else sys.stderr)
        return 0 if args else EXIT_USAGE
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"itstrace {version('itstrace')}")
        return 0
    if args[0] not in VERBS:
        import difflib

        near = difflib.get_close_matches(args[0], VERBS, 1)
        hint = f"did you mean {near[0]}?" if near else "`itstrace --help` lists them"
        print(f"itstrace: there is no verb {args[0]!r:.40}; {hint}", file=sys.stderr)
        return EXIT_USAGE
    from replay.commands.common import guarded

    return guarded(args[0], VERBS[args[0]], args[1:])


if __name__ == "__main__":
    sys.exit(main())
