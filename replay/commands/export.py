"""`itstrace export TRACE --to FORM`: a reproducer that needs no itstrace, or events for other tools.

A reproducer (kvm-c, qtest) is made of a whole life; the other forms stream. What a form cannot say
is counted on stderr. Counterparts: `replay.export`, a module a form, and docs/export.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from importlib import import_module
from itertools import islice
from typing import Final

from replay.commands.common import EXIT_CANNOT_JUDGE, EXIT_LOST, number, progress, say
from replay.export.plot import WAYS, plot_of
from replay.export.result import Result
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.log.opening import AnyReader, open_trace, write_output

# form -> its module; a reproducer's has export(header, plot), another's write(reader, frames, path)
REPRODUCERS: Final = {"kvm-c": "kvm_c", "qtest": "qtest_shell"}
STREAMS: Final = {
    "text": "text", "jsonl": "jsonl", "sqlite": "sqlite", "parquet": "parquet",
    "ctf": "ctf", "perfetto": "perfetto",
}  # fmt: skip
_LOST: Final = (NUMBER["loss"], NUMBER["source.gap"])


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument(
        "--to", required=True, choices=(*REPRODUCERS, *STREAMS), metavar="FORM",
        help="kvm-c: a C file of KVM ioctls, as a kernel selftest; qtest: a shell line that asks a "
        "stock QEMU; perfetto: a timeline; text, jsonl, sqlite, parquet, ctf: every event",
    )  # fmt: skip
    parser.add_argument(
        "--ask", choices=WAYS,
        help="what a kvm-c file asserts; default: as the manifest beside the trace and its events "
        "suggest",
    )  # fmt: skip
    parser.add_argument(
        "--at", type=number, metavar="SEQ", help="the reset or the save that --ask is about"
    )
    parser.add_argument("-o", "--output", default="-", help="default: standard output")
    parser.add_argument("--force", action="store_true", help="overwrite the output")


def run(options: argparse.Namespace) -> int:
    """Write the export; 3 for a damaged trace, 4 where the form cannot show what the trace shows."""
    if options.to != "kvm-c" and (options.ask or options.at is not None):
        raise UsageError("--ask and --at are for --to kvm-c")
    with open_trace(options.trace) as reader:
        code = (
            _reproducer(reader, options) if options.to in REPRODUCERS else _stream(reader, options)
        )
        for problem in reader.problems:
            say(f"{reader.name}: byte {problem.offset:#x}: {problem.what}")
        return EXIT_LOST if reader.status == "damaged" else code


def _reproducer(reader: AnyReader, options: argparse.Namespace) -> int:
    module = import_module(f"replay.export.{REPRODUCERS[options.to]}")
    each = (event for _, frame in progress(reader, "events") for event in frame)
    events = list(islice(each, module.MAX_EVENTS + 1))  # one more is refused, and none is kept
    plot = plot_of(events, options.trace, options.ask or module.DEFAULT_WAY, options.at)
    result: Result = module.export(reader.header, plot)
    if reader.checkpoint is not None or reader.header.first_seq:
        result.meaningless = "it begins in the middle of a VM's life"
    if lost := sum(event[0] in _LOST for event in events):
        result.left_out["places where events were lost"] = lost
    _tell("left out", "the form cannot say it", result.left_out)
    _tell("assumed", "the trace does not show it", result.assumed)
    if result.meaningless:
        say(f"itstrace export: nothing written: {result.meaningless}")
        return EXIT_CANNOT_JUDGE
    write_output(options.output, result.text.encode("ascii"), force=options.force)
    return 0


def _tell(what: str, why: str, counts: Counter[str]) -> None:
    if counts:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        say(f"itstrace export: {what} ({why}): {listed}")


def _stream(reader: AnyReader, options: argparse.Namespace) -> int:
    module = import_module(f"replay.export.{STREAMS[options.to]}")
    frames = progress(reader, "events", every=lambda: reader.next_seq)
    module.write(reader, frames, options.output, force=options.force)
    return 0
