"""`itstrace import`: a trace of what another tool wrote."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from replay.commands.common import EXIT_LOST, number, progress, ram_range, say
from replay.commands.flight import dumps_on_signal, make_writer, tell_dumps
from replay.commands.import_vms import import_vms
from replay.commands.ring_options import Folder, add_bounds, add_ring_options, opened_output
from tracer import oplog
from tracer.errors import SourceError, UsageError
from tracer.events import Event
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.opening import create_output, open_input
from tracer.log.ring import FOLDER_SUFFIX, KILLED, Ring, join, segments_of
from tracer.log.stream import Writer
from tracer.sources import ftrace, qemu_log, vectors
from tracer.sources.lines import LineReader
from tracer.sources.stats import Stats

MAX_GAPS_SHOWN = 5
_ENOUGH = (qemu_log.enough, ftrace.recognise, vectors.recognise)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "input",
        help="the capture; - for standard input; gzip is recognised; or the folder of a ring, "
        "which a killed recorder left",
    )
    parser.add_argument(
        "-o",
        "--output",
        help="the trace (default: INPUT with .itstrace); %%p in it stands for the VM, of a KVM host",
    )
    parser.add_argument("--pid", type=int, help="the process of the VM, of a KVM host with several")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument(
        "--from",
        dest="source",
        choices=(qemu_log.NAME, ftrace.NAME, vectors.NAME),
        help="what wrote it",
    )
    parser.add_argument("--life", help="the seed of the life, of operation vectors")
    parser.add_argument("--profile", help="the implementation, if known better than guessed")
    parser.add_argument("--cpus", type=int, help="the number of CPUs")
    parser.add_argument("--its-base", type=number, help="the address of the ITS")
    parser.add_argument(
        "--ram", action="append", metavar="BASE:SIZE", help="guest RAM; may be repeated"
    )
    parser.add_argument(
        "--codec", choices=tuple(fmt.CODEC_NAMES), default="zstd",
        help="how frames are packed (default: %(default)s)",
    )  # fmt: skip
    add_bounds(parser, of_a_file=True)
    add_ring_options(parser)


def run(options: argparse.Namespace) -> int:
    """Import one capture; 3 when a line of it could not be understood."""
    output = options.output or _default_output(options.input)
    options.output = output
    if Path(options.input).is_dir():
        return _import_ring(Path(options.input), output, options)
    with open_input(options.input) as stream:
        lines = LineReader(stream, options.input)
        start = lines.sniff(lambda start: any(enough(start) for enough in _ENOUGH))
        source = options.source or _recognise(start, options.input)
        if source == vectors.NAME:
            return _import_life(lines, output, options)
        messages = oplog.get(source, input=options.input, output=output)
        messages.info("import begins", sniffed_bytes=len(start))
        if source == ftrace.NAME:
            return _import_vms(lines, output, options)
        header = _given(qemu_log.header(start), options)
        log = qemu_log.QemuLog(lines)
        writer = _write(header, log.events(), output, options)
    stats = log.stats
    messages.info("import ends", events=writer.next_seq, lines=stats.lines, gaps=stats.gap_count)
    report(stats, options.input, output, writer)
    return EXIT_LOST if stats.gap_count else 0


def _import_vms(lines: LineReader, output: str, options: argparse.Namespace) -> int:
    """Import every VM of a KVM host's kernel trace text, or the one that is wanted."""

    def make(out: BinaryIO | Folder, header: Header, name: str) -> Writer | Ring:
        return _writer(out, _given(header, options), name, options)

    vms, writers = import_vms(lines, output, options, make)
    for name, writer in writers.items():
        tell_dumps(writer)
        report(vms.stats, options.input, output.replace("%p", name), writer)
    return EXIT_LOST if vms.stats.gap_count else 0


def _recognise(start: bytes, path: str) -> str:
    if qemu_log.recognise(start):
        return qemu_log.NAME
    if ftrace.recognise(start):
        return ftrace.NAME
    if vectors.recognise(start):
        return vectors.NAME
    raise SourceError(
        f"{path}: this is no capture that itstrace knows; a QEMU trace log is made with "
        "-trace 'gicv3_its_*' -trace resettable_phase_hold_exec -D FILE, kernel trace text of a KVM "
        "host with `trace-cmd record -e kvm:kvm_mmio` and `trace-cmd report`"
    )


def _import_life(lines: LineReader, output: str, options: argparse.Namespace) -> int:
    """Import one life of a file of vectors."""
    profile = options.profile or vectors.profile_of(options.input)
    if profile is None:
        raise UsageError("the file's name does not say what answered: give --profile")
    life = vectors.Life(options.input, options.life, profile)
    events = life.events(lines)
    first = next(events, None)
    header = life.header
    if header is None or first is None:
        raise SourceError(f"{options.input}: the life is empty")
    writer = _write(_given(header, options), chain((first,), events), output, options)
    say(f"{output}: {writer.next_seq} events of the life with seed {life.seed}")
    return 0


def _default_output(path: str) -> str:
    if path == "-":
        raise UsageError("give -o FILE when the capture comes from standard input")
    plain = path.removesuffix("/").removesuffix(".gz")
    if plain.endswith(FOLDER_SUFFIX):
        return plain.removesuffix(FOLDER_SUFFIX)
    return str(Path(plain).with_suffix(".itstrace"))


def _given(header: Header, options: argparse.Namespace) -> Header:
    """Return the header with what the command line knows better."""
    given = {
        "profile": options.profile,
        "cpus": options.cpus,
        "its_bases": None if options.its_base is None else [options.its_base],
        "ram_ranges": None if options.ram is None else [ram_range(text) for text in options.ram],
    }
    for key, value in given.items():
        if value is not None:
            setattr(header, key, value)
            header.guessed = [name for name in header.guessed if name != key]
    return header


def _write(
    header: Header, events: Iterable[Event], output: str, options: argparse.Namespace
) -> Writer | Ring:
    with ExitStack() as stack:
        out = stack.enter_context(opened_output(options))
        writer = _writer(out, header, output, options)
        stack.enter_context(dumps_on_signal(writer))
        try:
            add = writer.add
            for event in progress(events, "events", every=lambda: writer.next_seq):
                add(event)
        except BaseException:
            writer.abandon()
            raise
        writer.close()
    tell_dumps(writer)
    return writer


def _writer(
    out: BinaryIO | Folder, header: Header, output: str, options: argparse.Namespace
) -> Writer | Ring:
    codec = fmt.CODEC_NAMES[options.codec]
    if options.bound_ms is None:  # of a file, the trace must not depend on how fast it was read
        options.bound_ms = 0 if Path(options.input).is_file() else fmt.DEFAULT_BOUND_MS
    return make_writer(out, output, header, options, codec=codec)


def _import_ring(folder: Path, output: str, options: argparse.Namespace) -> int:
    """Make one trace of the segments that a killed recorder left."""
    paths = segments_of(folder)
    with create_output(output, force=options.force) as out:
        next_seq = join(paths, out, output, KILLED)
    say(f"{output}: the events up to {next_seq - 1}, of {len(paths)} segments")
    return 0


def report(stats: Stats, path: str, output: str, writer: Writer | Ring) -> None:
    """Say what was written, and what was not understood."""
    for line, reason in stats.gaps[:MAX_GAPS_SHOWN]:
        say(f"{path}:{line}: {reason}")
    if stats.gap_count > MAX_GAPS_SHOWN:
        say(f"{path}: and {stats.gap_count - MAX_GAPS_SHOWN} more lines that were not understood")
    if stats.cut_last_line:
        say(f"{path}:{stats.lines}: the last line is cut off and was not used")
    say(
        f"{output}: {writer.next_seq} events of {stats.ours} lines; "
        f"{stats.skipped} lines of other devices and messages skipped"
    )
