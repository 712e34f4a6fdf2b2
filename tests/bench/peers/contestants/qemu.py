"""A real QEMU's ITS over qtest: it is the device, so it carries out what the trace says it was asked.

`wait` sends a line and waits for its answer, as a script would; in batches the lines of many events go at
once, which is how `itstrace run --target qemu` drives one. Commands stand in guest RAM, which the capture
does not show, so a line puts each there first, and tables are zeroed as a driver does it.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from itertools import islice
from time import perf_counter
from typing import Final, Self

from replay.targets import edu
from replay.targets.ahead import Group, Grouper
from replay.targets.handover import HandOver
from replay.targets.qemu import ITS_BASE, RAM_BASE, Needs, QemuTarget
from replay.targets.qtest_lines import QtestLines, stored
from tests.bench.peers import workload
from tests.bench.peers.job import Job
from tracer.events import NUMBER, Event

BINARY: Final = "qemu-system-aarch64"
RAM_MIB: Final = 512
_REG_READ, _RESET = NUMBER["reg.read"], NUMBER["reset"]
_FED: Final = (NUMBER["reg.write"], NUMBER["msi"])
_FINAL: Final = {"GITS_CTLR": (0, "l"), "GITS_CBASER": (0x80, "q"), "GITS_CWRITER": (0x88, "q"),
                 "GITS_CREADR": (0x90, "q"), "GITS_BASER0": (0x100, "q"), "GITS_BASER1": (0x108, "q")}  # fmt: skip


def machine(devices: Sequence[str] = ()) -> list[str]:
    """Return the command line of a VM as the capture's, without what the ITS does not need."""
    return [
        BINARY, "-M", "virt,gic-version=3,its=on", "-cpu", "cortex-a57", "-smp", "2", "-m", str(RAM_MIB),
        "-accel", "tcg", "-S", "-nodefaults", "-display", "none", *devices,
    ]  # fmt: skip


class Vm:
    """A QEMU whose qtest is on its stdio and whose monitor is on a socket, for resets."""

    def __init__(self, devices: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        self._process = subprocess.Popen(
            [
                *machine(devices), "-qtest", "stdio", "-qtest-log", "/dev/null",
                "-chardev", f"socket,id=qmp,fd={fd}", "-mon", "chardev=qmp,mode=control",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[fd],
        )  # fmt: skip
        theirs.close()
        assert self._process.stdin
        assert self._process.stdout
        self.write, self.flush = self._process.stdin.write, self._process.stdin.flush
        self.readline = self._process.stdout.readline
        self._monitor = ours.makefile("rwb")
        self._monitor.readline()
        self._execute("qmp_capabilities", "return")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._monitor.close()

    def _execute(self, command: str, until: str) -> None:
        self._monitor.write(json.dumps({"execute": command}).encode() + b"\n")
        self._monitor.flush()
        while until not in (message := json.loads(self._monitor.readline())):
            if message.get("event") == until:
                return

    def ask(self, line: str) -> bytes:
        """Send a line and wait for its answer."""
        self.write(line.encode() + b"\n")
        self.flush()
        answer: bytes = self.readline()
        while answer.startswith(b"IRQ"):
            answer = self.readline()
        return answer

    def reset(self) -> None:
        self._execute("system_reset", "RESET")


def _groups(events: Iterator[Event]) -> Iterator[Group]:
    grouper = Grouper(frozenset((_REG_READ,)))
    seq = 0
    while some := tuple(islice(events, 4096)):
        yield from grouper.take(seq, some)
        seq += len(some)
    yield from grouper.rest()


def _devices(events: Sequence[Event]) -> list[str]:
    return list(edu.options({event[2] for event in events if event[0] == NUMBER["msi"]}))


def plan(events: Sequence[Event]) -> list[list[str] | None]:
    """Return the lines of each input and read, None for a reset of the machine."""
    lines, hand_over = QtestLines(2, virtual=False), HandOver(RAM_BASE + (RAM_MIB << 20))
    planned: list[list[str] | None] = []
    for group in _groups(iter(events)):
        event = group.event
        if event[0] == _RESET:
            if planned:
                planned.append(None)
            lines.reset()
            hand_over.reset()
            continue
        before = hand_over.before(event, group.outputs)[0] if event[0] in _FED else []
        planned.append([*map(stored, before), *(lines.of(event) or [])])
    return planned


def replay(job: Job) -> None:
    """A line, its answer, the next line; the machine's resets are more than the ITS's, and do not count."""
    events = list(job.stream())
    planned = plan(events)
    resetting = 0.0
    with Vm(_devices(events)) as vm:
        with job.timed():
            for lines in planned:
                if lines is None:
                    began = perf_counter()
                    vm.reset()
                    resetting += perf_counter() - began
                else:
                    for line in lines:
                        vm.ask(line)
        job.tell(seconds=job.facts["seconds"] - resetting, cpu=None)
        job.tell(
            events=job.count, registers=_final(vm), lines=sum(len(each or ()) for each in planned)
        )


def _final(vm: Vm) -> dict[str, str]:
    found = {}
    for name, (offset, letter) in _FINAL.items():
        answer = vm.ask(f"read{letter} {ITS_BASE + offset:#x}")
        found[name] = hex(int(answer.split()[1], 16))
    return found


def replay_in_batches(job: Job) -> None:
    """As `itstrace run --target qemu` does it, a batch for each frame."""
    events = list(job.stream())
    groups = list(_groups(iter(events)))
    needs = Needs(device_ids={event[2] for event in events if event[0] == NUMBER["msi"]})
    target = QemuTarget(BINARY, workload.header(), needs)
    try:
        with job.timed():
            for at in range(0, len(groups), 1024):
                target.carry_out(groups[at : at + 1024])
    finally:
        target.close()
    job.tell(events=job.count, cpu=None)


def start(job: Job) -> None:
    """From nothing to the first answer."""
    with job.timed(), Vm() as vm:
        vm.ask(f"readl {ITS_BASE:#x}")
