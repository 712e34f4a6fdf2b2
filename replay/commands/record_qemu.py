"""`itstrace record qemu`: starts or joins a QEMU and writes its trace while it runs.

The VM comes first: it keeps its console, and goes on when the trace cannot. It is also started first:
what takes long to import, the models, is imported while it starts.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final, cast

from replay.commands.common import EXIT_LOST, say
from replay.commands.ring_options import Folder, add_bounds, add_ring_options, opened_output
from tracer.errors import SourceError, TracerError, UsageError
from tracer.log.header import RUNNING, Header
from tracer.log.ring import Ring
from tracer.log.stream import Writer
from tracer.sources import qemu_live, qemu_log, qemu_probe, qemu_start
from tracer.sources.lines import LineReader
from tracer.sources.qemu_attach import Attached
from tracer.sources.qemu_control import Control
from tracer.sources.qemu_machine import Machine
from tracer.sources.qemu_start import Started

_EPILOG: Final = (
    "exit codes: 0 when all of QEMU's log is in the trace, whatever QEMU's own status was (it is\n"
    "            printed and the trace's last marker); 3 when the trace lacks something, or QEMU\n"
    "            did not start or was killed.\n\n"
    "SIGINT, SIGTERM and SIGHUP are passed on to a QEMU that was started here, unless they came\n"
    "from the terminal that it shares; the trace then ends when QEMU has ended. With --attach they\n"
    "end the recording, and the VM goes on."
)
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("command", nargs="*", help="-- and QEMU's own command line")
    parser.add_argument("-o", "--output", default="qemu.itstrace", help="(default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument(
        "--probe-resets",
        action="store_true",
        help="pause the VM at each reset, its own too, and read every register and the old tables",
    )
    parser.add_argument(
        "--skip-probe",
        action="append",
        default=[],
        metavar="NAME",
        help="a register, or `tables`, that is left out when looking; may be repeated",
    )
    parser.add_argument(
        "--drop",
        action="store_true",
        help="when the trace cannot be written fast enough, drop and count lines; "
        "otherwise the VM waits",
    )
    parser.add_argument("--attach", action="store_true", help="join a QEMU that runs already")
    parser.add_argument("--qmp", metavar="SOCKET", help="with --attach: a QMP socket of it")
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="with --attach: what its -D names; where nothing is, a pipe is made and QEMU told",
    )
    add_bounds(parser)
    add_ring_options(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Record one VM until it ends, or until we are told to leave one that was joined."""
    _check(options)
    with opened_output(options) as out:
        try:
            return _reach_and_record(out, options)
        finally:
            made = os.fstat(out.fileno())
            if stat.S_ISREG(made.st_mode) and not made.st_size:
                Path(options.output).unlink()  # QEMU did not start: there is nothing to read


def _reach_and_record(out: BinaryIO | Folder, options: argparse.Namespace) -> int:
    vm = _reach(options)
    try:
        return _record(vm, out, options)
    finally:
        vm.close()


def _check(options: argparse.Namespace) -> None:
    if options.output == "-":
        raise UsageError("give -o FILE: standard output belongs to the VM")
    qemu_probe.check_names(options.skip_probe)
    if options.attach:
        if options.command or not (options.qmp and options.log):
            raise UsageError("--attach takes --qmp SOCKET and --log FILE, and no command")
        return
    if not options.command or options.qmp or options.log:
        raise UsageError("give -- and QEMU's command line, or --attach --qmp SOCKET --log FILE")
    qemu_start.check_command(options.command)
    if options.probe_resets:
        qemu_probe.check_command(options.command)


def _reach(options: argparse.Namespace) -> Started | Attached:
    if options.attach:
        return Attached(options.qmp, options.log)
    return Started(options.command, probe=options.probe_resets)


def _record(vm: Started | Attached, out: BinaryIO | Folder, options: argparse.Namespace) -> int:
    """Record a QEMU; never leave it behind waiting for its log to be read."""
    control = _control(options.output)
    qemu = qemu_live.LiveQemu(
        vm,
        control=control,
        drop=options.drop,
        probe=options.probe_resets,
        skip=frozenset(options.skip_probe),
    )
    try:
        with _signals(vm, qemu):
            log, writer = _follow(vm, qemu, out, options)
    finally:
        qemu.close()
        if control:
            control.close()
    from replay.commands.flight import tell_dumps
    from replay.commands.import_ import report

    report(log.stats, "QEMU's log", options.output, writer)
    tell_dumps(writer)
    if log.lost:
        say(
            f"{options.output}: {log.lost} lines were dropped: the trace was not written fast enough"
        )
    killed = False
    if isinstance(vm, Started) and vm.process.returncode:
        say(f"QEMU ended with {vm.status()}")
        killed = vm.process.returncode < 0
    return EXIT_LOST if log.stats.gap_count or log.lost or killed else 0


def _control(output: str) -> Control | None:
    try:
        return Control(output)
    except OSError as error:
        say(f"`itstrace reset` will not reach this recording: {error.strerror}")
        return None


def _follow(
    vm: Started | Attached,
    qemu: qemu_live.LiveQemu,
    out: BinaryIO | Folder,
    options: argparse.Namespace,
) -> tuple[qemu_log.QemuLog, Writer | Ring]:
    try:
        from replay.commands.record_header import make_header  # while QEMU starts

        machine = qemu.learn()
        _check_started(vm, qemu)
        _warn(machine)
        header = make_header(qemu.feed.start(), machine)
        if isinstance(vm, Attached):
            header.starts = RUNNING
        else:
            header.command_line = list(options.command)
        reader = LineReader(cast(BinaryIO, qemu.feed), "QEMU's log", plain=True)
        log = qemu_log.QemuLog(reader, running=isinstance(vm, Attached))
        qemu.log = log
        return log, _write(vm, out, header, log, options)
    except BaseException as error:
        if isinstance(vm, Attached):
            qemu.leave()
        if not vm.gone():
            say(f"the recording has ended, the VM goes on: {error}")
        qemu.drain()
        raise


def _check_started(vm: Started | Attached, qemu: qemu_live.LiveQemu) -> None:
    """Tell a QEMU that ended in an error from one that is only slow to answer."""
    if isinstance(vm, Attached) or qemu.machine.version or not qemu.ended or not vm.process.wait():
        return
    raise SourceError(f"QEMU did not start: it ended with {vm.status()}; its own message says why")


def _write(
    vm: Started | Attached,
    out: BinaryIO | Folder,
    header: Header,
    log: qemu_log.QemuLog,
    options: argparse.Namespace,
) -> Writer | Ring:
    from replay.commands.flight import dumps_on_signal, make_writer

    writer = make_writer(out, options.output, header, options)
    try:
        with dumps_on_signal(writer):
            for event in log.events():
                writer.add(event)
        log.note(f"QEMU ended with {vm.status()}" if isinstance(vm, Started) else "left")
        for event in log.rest():
            writer.add(event)
    except BaseException:
        with suppress(TracerError):
            writer.abandon()
        raise
    writer.close()
    return writer


def _warn(machine: Machine) -> None:
    """Say when the VM cannot show anything of an ITS."""
    if machine.kvm:
        say("this VM runs on KVM: its ITS is the kernel's, and QEMU sees almost nothing of it")
    if machine.has_no_its:
        say("this machine has no ITS: give it -machine virt,gic-version=3,its=on")


@contextmanager
def _signals(vm: Started | Attached, qemu: qemu_live.LiveQemu) -> Iterator[None]:
    """Let a signal end the recording: it ends when QEMU does, or when we have left."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if isinstance(vm, Started) and (
            number == signal.SIGTERM or not _shares_terminal(vm.process.pid)
        ):
            vm.process.send_signal(number)

    def leave(number: int, frame: FrameType | None) -> None:
        qemu.leave()

    handler: Callable[[int, FrameType | None], None]
    handler = pass_on if isinstance(vm, Started) else leave
    numbers = [n for n in _ENDING if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _shares_terminal(pid: int) -> bool:
    """Return whether a terminal's ^C goes to us and to process `pid` alike: it got it, too."""
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp() == os.getpgid(pid)
    except OSError:
        return False
