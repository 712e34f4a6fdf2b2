"""`itstrace record`: a trace of a VM, written while it runs.

The counterpart is `import`, which reads what another tool left behind. The VM comes first: it keeps
its console, and goes on when the trace cannot.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Final, cast

from replay.commands.common import EXIT_LOST, say
from replay.commands.import_ import report
from replay.profiles import PROFILES
from tracer.errors import TracerError, UsageError
from tracer.log import format as fmt
from tracer.log.header import MAX_CPUS, Header
from tracer.log.opening import create_output
from tracer.log.stream import Writer
from tracer.sources import qemu_live, qemu_log
from tracer.sources.lines import LineReader

_EPILOG: Final = (
    "0 when all of QEMU's log is in the trace, whatever QEMU's own status was (it is printed\n"
    "and the trace's last marker); 3 when the trace lacks something, or QEMU did not start or\n"
    "was killed. SIGINT, SIGTERM and SIGHUP are passed on to QEMU, unless they came from the\n"
    "terminal that it shares; the trace then ends when QEMU has ended.\n\n"
)
_QEMU_PROFILE: Final = re.compile(r"qemu-([0-9.]+)(-gicv4)?")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", choices=("qemu",), help="what runs the VM")
    parser.add_argument("command", nargs="+", help="-- and QEMU's own command line")
    parser.add_argument("-o", "--output", default="qemu.itstrace", help="(default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument("--bound-events", type=int, default=fmt.DEFAULT_BOUND_EVENTS)
    parser.add_argument("--bound-ms", type=int, default=fmt.DEFAULT_BOUND_MS)
    parser.add_argument("--fsync", action="store_true", help="wait for the disk at each frame")
    parser.epilog = _EPILOG + (parser.epilog or "")


def run(options: argparse.Namespace) -> int:
    """Record one VM until it ends."""
    if options.output == "-":
        raise UsageError("give -o FILE: standard output belongs to the VM")
    qemu_live.check_command(options.command)
    with create_output(options.output, force=options.force) as out:
        try:
            qemu = qemu_live.LiveQemu(options.command)
            with _signals_for(qemu):
                return _record(qemu, out, options)
        finally:
            made = os.fstat(out.fileno())
            if stat.S_ISREG(made.st_mode) and not made.st_size:
                Path(options.output).unlink()  # QEMU did not start: there is nothing to read


def _record(qemu: qemu_live.LiveQemu, out: BinaryIO, options: argparse.Namespace) -> int:
    """Record a QEMU that was started; never leave it behind waiting for its log to be read."""
    try:
        answers = qemu.learn()
        header = _header(qemu.early, answers)
        _warn(answers)
        log = qemu_log.QemuLog(LineReader(cast(BinaryIO, qemu), "QEMU's log"))
        writer = _write(qemu, out, header, log, options)
    except BaseException as error:
        if qemu.process.poll() is None:
            say(f"the recording has ended, the VM goes on: {error}")
        qemu.drain()
        raise
    finally:
        qemu.close()
    report(log.stats, "QEMU's log", options.output, writer)
    if qemu.process.returncode:
        say(f"QEMU ended with {qemu.status()}")
    return EXIT_LOST if log.stats.gap_count or qemu.process.returncode < 0 else 0


def _write(
    qemu: qemu_live.LiveQemu,
    out: BinaryIO,
    header: Header,
    log: qemu_log.QemuLog,
    options: argparse.Namespace,
) -> Writer:
    bounds = {"bound_events": options.bound_events, "bound_ms": options.bound_ms}
    writer = Writer(out, header, **bounds, fsync=options.fsync, name=options.output)
    for text in qemu.early_notes:
        log.note(text)
    qemu.on_note = log.note
    try:
        for event in log.events():
            writer.add(event)
        log.note(f"QEMU ended with {qemu.status()}")
        for event in log.rest():
            writer.add(event)
    except BaseException:
        with suppress(TracerError):
            writer.abandon()
        raise
    writer.close()
    return writer


def _header(start: bytes, answers: dict[str, Any]) -> Header:
    """Return what the log tells, with what the monitor knows better."""
    header = qemu_log.header(start)
    header.source = "record-qemu"
    known: dict[str, Any] = {"cpus": _cpus(answers.get("cpus"))}
    version = _version(answers.get("version"))
    if version:
        known["implementation_version"] = ".".join(map(str, version))
        header.profile = _nearest(version, gicv4=_is_gicv4(answers))
        if header.profile.split("-")[1] == known["implementation_version"]:
            known["profile"] = header.profile
    for key, value in known.items():
        if value is not None:
            setattr(header, key, value)
            header.guessed = [name for name in header.guessed if name != key]
    return header


def _cpus(answer: Any) -> int | None:
    return len(answer) if isinstance(answer, list) and 1 <= len(answer) <= MAX_CPUS else None


def _version(answer: Any) -> tuple[int, ...] | None:
    """Return (major, minor, micro) of an answer to query-version."""
    numbers = answer.get("qemu") if isinstance(answer, dict) else None
    if not isinstance(numbers, dict):
        return None
    parts = [numbers.get(name) for name in ("major", "minor", "micro")]
    if all(type(part) is int and 0 <= part < 1000 for part in parts):
        return cast(tuple[int, ...], tuple(parts))
    return None


def _is_gicv4(answers: dict[str, Any]) -> bool:
    """Return whether the virt machine has a GICv4: asked for, or as the best that it can have."""
    name = answers.get("gic-version")
    return name == "4" or (name == "max" and answers.get("virtualization") is True)


def _nearest(version: tuple[int, ...], *, gicv4: bool) -> str:
    """Return the newest profile that is not newer than `version`, or else the oldest."""
    known = {
        tuple(map(int, match[1].split("."))): name
        for name in PROFILES
        if (match := _QEMU_PROFILE.fullmatch(name)) and bool(match[2]) == gicv4
    }
    return known[max((each for each in known if each <= version), default=min(known))]


def _warn(answers: dict[str, Any]) -> None:
    """Say when the VM cannot show anything of an ITS."""
    kvm = answers.get("kvm")
    if isinstance(kvm, dict) and kvm.get("enabled") is True:
        say("this VM runs on KVM: its ITS is the kernel's, and QEMU sees almost nothing of it")
    if answers.get("its") is False or answers.get("gic-version") == "2":
        say("this machine has no ITS: give it -machine virt,gic-version=3,its=on")


@contextmanager
def _signals_for(qemu: qemu_live.LiveQemu) -> Iterator[None]:
    """Pass on what is to end the recording: it ends when QEMU does."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM or not _shares_terminal(qemu.process.pid):
            qemu.process.send_signal(number)

    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shares_terminal(pid: int) -> bool:
    """Return whether a terminal's ^C goes to us and to process `pid` alike: it got it, too."""
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp() == os.getpgid(pid)
    except OSError:
        return False
