"""What a stream says of itself: the kernel, what it could not probe, which VMs ran already.

Lines `#its KEY: VALUE` are our recorder's; the header of `perf script` tells the release too. One
`Facts` a stream, which every VM of it shares. Counterpart: the script that prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tracer.sources import ftrace_formats as ft

MAX_THREADS: Final = 4096
MAX_LISTED: Final = 256  # VMs, and symbols that are missing: what is said beyond is dropped


@dataclass(slots=True)
class VmFact:
    """What is said of one VM: how many vCPUs, where its ITSes are."""

    tgid: int
    vcpus: int | None = None
    its_bases: list[int] = field(default_factory=list)
    ran: bool = False  # whether it ran before the stream began


@dataclass(slots=True)
class Facts:
    """All that is said; None and empty until it is."""

    stream: int | None = None  # the version of our recorder's stream
    release: str | None = None  # 6.1.0-56-arm64
    version: str | None = None  # 6.1.192, where the kernel's text tells more than the release
    clock: str = "trace"
    missing: list[str] = field(default_factory=list)  # SYMBOL what cannot be seen
    vms: dict[int, VmFact] = field(default_factory=dict)  # by process
    missed: list[tuple[str, int]] = field(default_factory=list)  # probe, how often it was not run
    lost: int = 0  # records that the kernel counted as lost, over all CPUs
    threads: dict[int, int] = field(default_factory=dict)  # thread -> process
    commands: dict[int, list[str]] = field(default_factory=dict)  # process -> command line
    ended: str | None = None  # why the recorder ended
    error: str | None = None  # why it did not begin

    @property
    def kernel(self) -> str | None:
        """The kernel's version as profiles are named after it."""
        release = None if self.release is None else ft.RELEASE.match(self.release.encode())
        return self.version or (None if release is None else release[1].decode())

    def take(self, line: bytes) -> bool:
        """Return whether `line` says something of the stream that could be read."""
        match = ft.FACT.match(line)
        if match is not None:
            known = _KEYS.get(match[1])
            return known is not None and known(self, match[2].rstrip())
        perf = ft.PERF_RELEASE.match(line)
        if perf is not None and self.release is None:
            self.release = perf[1].decode()
        return perf is not None

    def thread(self, thread: int, tgid: int) -> None:
        """Take the process of a thread."""
        if len(self.threads) >= MAX_THREADS and thread not in self.threads:
            del self.threads[next(iter(self.threads))]
        self.threads[thread] = tgid

    def say(self, key: bytes, text: bytes) -> bool:
        """Take what was said in the middle of the stream; False when it cannot be read."""
        if key == b"vm":
            return self.vm(text, ran=False)
        return _KEYS[key](self, text.rstrip())

    def vm(self, text: bytes, *, ran: bool) -> bool:
        """Take `PID-FD key=value ...` of one VM; PID is the thread that made it."""
        match = ft.VM.fullmatch(text.strip())
        if match is None:
            return False
        values = dict(part.split(b"=", 1) for part in match[3].split())
        tgid = _decimal(values.get(b"tgid")) or int(match[1])
        if len(self.vms) >= MAX_LISTED and tgid not in self.vms:
            return True
        fact = self.vms.setdefault(tgid, VmFact(tgid))
        fact.ran = fact.ran or ran
        fact.vcpus = _decimal(values.get(b"vcpus")) or fact.vcpus
        bases = [int(each, 16) for each in values.get(b"its", b"").split(b",") if each[:16]]
        fact.its_bases = [base for base in bases if base < 1 << 64] or fact.its_bases
        return True


def _decimal(text: bytes | None) -> int | None:
    return int(text) if text and text.isdigit() and len(text) <= 10 else None


def _stream(facts: Facts, text: bytes) -> bool:
    facts.stream = _decimal(text)
    return facts.stream is not None


def _release(facts: Facts, text: bytes) -> bool:
    facts.release = text[:100].decode(errors="replace")
    return True


def _version(facts: Facts, text: bytes) -> bool:
    found = ft.DEBIAN_VERSION.match(text)
    facts.version = found[1].decode() if found else None
    return True


def _clock(facts: Facts, text: bytes) -> bool:
    facts.clock = text[:40].decode(errors="replace")
    return True


def _missing(facts: Facts, text: bytes) -> bool:
    if len(facts.missing) < MAX_LISTED:
        facts.missing.append(text[:200].decode(errors="replace"))
    return True


def _error(facts: Facts, text: bytes) -> bool:
    facts.error = text[:400].decode(errors="replace")
    return True


def _threads(facts: Facts, text: bytes) -> bool:
    """`TGID TID TID ...`; the oldest are forgotten first, as thread numbers come round again."""
    match = ft.THREADS.fullmatch(text)
    if match is None:
        return False
    tgid = int(match[1])
    for thread in (tgid, *map(int, match[2].split())):
        facts.thread(thread, tgid)
    return True


def _command(facts: Facts, text: bytes) -> bool:
    match = ft.COMMAND_LINE.fullmatch(text)
    if match is not None and len(facts.commands) < MAX_LISTED:
        facts.commands[int(match[1])] = match[2].decode(errors="replace").split()
    return match is not None


def _lost(facts: Facts, text: bytes) -> bool:
    match = ft.LOST.match(text)
    if match is not None:
        facts.lost += int(match[2]) + int(match[3])
    return match is not None


def _missed(facts: Facts, text: bytes) -> bool:
    match = ft.MISSED.match(text)
    if match is not None and len(facts.missed) < MAX_LISTED:
        facts.missed.append((match[1].decode(), int(match[2])))
    return match is not None


def _end(facts: Facts, text: bytes) -> bool:
    facts.ended = text[:200].decode(errors="replace")
    return True


_KEYS: Final[dict[bytes, Callable[[Facts, bytes], bool]]] = {
    b"stream": _stream,
    b"release": _release,
    b"version": _version,
    b"clock": _clock,
    b"cpus": lambda facts, text: text.isdigit(),
    b"group": lambda facts, text: True,
    b"missing": _missing,
    b"vm": lambda facts, text: facts.vm(text, ran=True),
    b"threads": _threads,
    b"command": _command,
    b"note": lambda facts, text: True,
    b"error": _error,
    b"lost": _lost,
    b"missed": _missed,
    b"end": _end,
}
