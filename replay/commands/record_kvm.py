"""`itstrace record kvm`: the ITSes of a KVM host, one trace for each VM, while they run.

No VM is stopped, started or asked anything. The counterpart is `import`, which makes the same of
the text that the script printed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final, cast

from replay.commands.common import EXIT_LOST, say
from replay.commands.flight import make_writer, tell_dumps
from replay.commands.import_ import report
from replay.commands.import_vms import PLACE, Outputs
from replay.commands.ring_options import Folder, add_bounds, add_ring_options, opened_output
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import Header
from tracer.log.opening import create_output
from tracer.log.ring import Ring
from tracer.log.stream import Writer
from tracer.sources.ftrace_vms import Vm, Vms
from tracer.sources.kvm_live import KvmHost
from tracer.sources.kvm_script import script
from tracer.sources.lines import LineReader

_EPILOG: Final = (
    "SIGINT, SIGTERM and SIGHUP end the recording and leave nothing on the host; SIGUSR1 looks at\n"
    "the live LPIs at once, and writes a ring out. 0 when everything is in the traces; 3 when something was lost, when\n"
    "the connection broke, or when no VM showed an ITS.\n\n"
)
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STREAM: Final = "the host's records"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "-o",
        "--output",
        default=f"kvm-{PLACE}.itstrace",
        help="%%p in it stands for the VM's process (default: kvm-%%p.itstrace)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the outputs")
    parser.add_argument(
        "--via", metavar="COMMAND", help="what gives a root shell on the host: 'ssh root@host sh'"
    )
    parser.add_argument("--pid", type=int, help="record only the VM of this process")
    parser.add_argument("--raw", metavar="FILE", help="keep the host's text, too")
    parser.add_argument(
        "--print-script", action="store_true", help="print what would run on the host, and end"
    )
    add_bounds(parser)
    add_ring_options(parser)
    parser.epilog = _EPILOG + (parser.epilog or "")


def run(options: argparse.Namespace) -> int:
    """Record until told to end."""
    if options.print_script:
        sys.stdout.write(script())
        return 0
    _check_outputs(options.output, force=options.force)
    with ExitStack() as files:
        raw: BinaryIO | None = None
        if options.raw:
            raw = files.enter_context(create_output(options.raw, force=options.force))
        host = KvmHost(options.via, raw)
        try:
            recording = Recording(host, options)
            with _signals(host, recording):
                recording.follow()
        finally:
            host.close()
    return recording.end()


class Recording:
    """What comes from the host, on its way into the traces."""

    def __init__(self, host: KvmHost, options: argparse.Namespace) -> None:
        self._host = host
        self._options = options
        self._vms = Vms(only=options.pid)
        self._outputs = Outputs(
            options.output, open_output=partial(opened_output, options), make=self._writer
        )
        self._left_out: set[str] = set()

    def follow(self) -> None:
        """Write the traces until the script ends."""
        lines = LineReader(cast(BinaryIO, self._host), _STREAM)
        try:
            for line in lines:
                self._host.saw(line)
                for vm, events in self._vms.take(line, complete=lines.complete):
                    self._add(vm, events)
            self._host.check()
            for vm, events in self._vms.end():
                self._add(vm, events)
        except BaseException:
            self._outputs.abandon(remove=False)
            raise
        self._outputs.close()

    def _add(self, vm: Vm, events: list[Event]) -> None:
        writers = self._outputs.writers
        if writers and vm.id not in writers and PLACE not in self._options.output:
            if vm.id not in self._left_out:
                self._left_out.add(vm.id)
                say(f"the VM of process {vm.id} is not recorded: -o needs a {PLACE} for each VM")
            return
        self._outputs.add(vm, events)

    def dump(self, reason: str) -> None:
        """Have every ring written out."""
        for writer in list(self._outputs.writers.values()):
            if isinstance(writer, Ring):
                writer.ask(reason)

    def _writer(self, out: BinaryIO | Folder, header: Header, name: str) -> Writer | Ring:
        header.source = "record-kvm"
        command = " ".join(header.command_line or ["its command line is unknown"])
        say(f"{name}: {command[:100]}")
        return make_writer(out, name, header, self._options)

    def end(self) -> int:
        """Say what was recorded and what was not."""
        facts, stats = self._vms.facts, self._vms.stats
        for name, writer in self._outputs.writers.items():
            report(stats, _STREAM, self._options.output.replace(PLACE, name), writer)
            tell_dumps(writer)
        if not self._outputs.writers:
            say("no VM showed an ITS")
        if facts.lost:
            say(f"the kernel lost {facts.lost} records: its buffer was full")
        for probe, count in facts.missed:
            say(f"the kernel did not run the probe {probe} {count} times")
        if facts.ended is None:
            say("the connection broke: what the host would have said last is missing")
        whole = self._outputs.writers and facts.ended and not facts.lost and not facts.missed
        return 0 if whole and not stats.gap_count else EXIT_LOST


def _check_outputs(name: str, *, force: bool) -> None:
    """Refuse before anything runs what would be refused in the middle of the recording."""
    path = Path(name)
    if PLACE in str(path.parent):
        raise UsageError(f"-o may have {PLACE} in the file's name, not in its folder's")
    found = sorted(path.parent.glob(path.name.replace("[", "[[]").replace(PLACE, "*")))
    if found and not force:
        raise UsageError(f"{found[0]} exists: give --force, or another -o")


@contextmanager
def _signals(host: KvmHost, recording: Recording) -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        host.ask("stop")

    def sample(number: int, frame: FrameType | None) -> None:
        host.ask("sample")
        recording.dump("SIGUSR1")

    handlers = dict.fromkeys(_ENDING, end) | {signal.SIGUSR1: sample}
    wanted = [n for n in handlers if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handlers[number]) for number in wanted}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
