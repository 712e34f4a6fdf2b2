"""How many events real VMs have: a boot, an idle second, a busy second; and what an event of each weighs.

Boots are those of the captures in traces/. Idle and busy is a Linux guest on a real QEMU under `record qemu`:
it sleeps, or reads its virtio disk without a pause.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replay import cli
from replay.judge import judge_file
from tests.bench.peers.asking import ROOT
from tests.support import linux_guest
from tests.support.both_sources import BUSY, after
from tracer.events import NUMBER, Event
from tracer.log.opening import open_trace

TRACES: Final = ROOT / "traces"
BOOTS: Final = (
    ("QEMU's ITS, one disk, 2 CPUs", "qemu-7.2.22-linux-6.1-one-disk.log.gz"),
    ("QEMU's ITS, two disks, 2 CPUs", "qemu-7.2.22-linux-6.1-two-disks.log.gz"),
    ("QEMU's ITS, 4 CPUs", "qemu-7.2.22-linux-6.1-four-cpus.log.gz"),
    ("QEMU's ITS, 4 devices, two boots", "qemu-7.2.22-linux-6.1-two-boots.timestamps.log"),
    ("KVM 6.1, disk and rng, 4 CPUs, two boots", "kvm-6.1.192-boot-stop-reset-boot.stream.txt.gz"),
    ("KVM 6.12, the same", "kvm-6.12.117-boot-stop-reset-boot.stream.txt.gz"),
)
QEMU: Final = "qemu-system-aarch64"
MACHINE: Final = (
    "-nodefaults", "-M", "virt,gic-version=3,its=on", "-cpu", "cortex-a57", "-m", "512", "-smp", "2",
    "-accel", "tcg,thread=multi", "-display", "none",
)  # fmt: skip
WAIT_SECONDS: Final = 120
TIMES: Final = 5  # of which the fastest counts
_MSI, _RESET = NUMBER["msi"], NUMBER["reset"]


@dataclass(frozen=True)
class Life:
    """What a trace holds of a VM's life, or a stretch of it."""

    name: str
    events: int
    msis: int
    seconds: float
    bytes: int
    boots: int = 0
    judging: float = 0.0  # CPU seconds, in a process that is there already


def _events(path: Path) -> Iterator[Event]:
    with open_trace(str(path)) as reader:
        for _, block in reader:
            yield from block


def boots(folder: Path) -> Iterator[Life]:
    """Yield the captures' lives, imported."""
    for name, capture in BOOTS:
        trace = folder / "boots.itstrace"
        _import(TRACES / capture, trace)
        kinds = Counter(event[0] for event in _events(trace))
        # A capture of KVM begins with a device that is made; one of QEMU with its first reset.
        is_kvm = capture.startswith("kvm")
        lives = 2 if is_kvm else kinds[_RESET]
        size = trace.stat().st_size
        judging = min(_judge(trace) for _ in range(TIMES))
        yield Life(name, kinds.total(), kinds[_MSI], 0.0, size, lives, judging)


def reading(folder: Path) -> float:
    """Return the CPU seconds an event of reading what is recorded of a busy VM on a KVM host."""
    text, trace = folder / "busy.txt", folder / "busy.itstrace"
    text.write_text("".join(after(BUSY)))
    cpu = min(_import(text, trace) for _ in range(TIMES))
    return cpu / sum(1 for _ in _events(trace))


def _import(capture: Path, trace: Path) -> float:
    """Import a capture in this process; return the CPU seconds."""
    began = time.process_time()
    with redirect_stderr(io.StringIO()):
        code = cli.main(["import", str(capture), "-o", str(trace), "--force"])
    if code:
        raise RuntimeError(f"{capture.name}: import ended with {code}")
    return time.process_time() - began


def _judge(trace: Path) -> float:
    """Judge a trace with every check; return the CPU seconds."""
    began = time.process_time()
    judge_file(str(trace))
    return time.process_time() - began


def stretch(name: str, life: str, seconds: float, folder: Path) -> Life:
    """Return what `seconds` of a real guest's life recorded, once it has booted."""
    trace, console = folder / "life.itstrace", folder / "console"
    console.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "replay.cli", "record", "qemu", "--force", "-o", str(trace), "--",
        QEMU, *MACHINE, *linux_guest.guest([life], folder),
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as vm:
        end = time.monotonic() + WAIT_SECONDS
        while not console.exists() or linux_guest.READY not in console.read_text():
            if vm.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name}: the guest did not come to its init")
            time.sleep(0.05)
        time.sleep(1)
        began = _measured(trace)
        time.sleep(seconds)
        ended = _measured(trace)
        os.killpg(vm.pid, signal.SIGTERM)
    count, msis, size = (after - before for before, after in zip(began, ended, strict=True))
    return Life(name, count, msis, seconds, size)


def _measured(trace: Path) -> tuple[int, int, int]:
    """Return events, MSIs and bytes of a trace that is still written."""
    size = trace.stat().st_size
    kinds = Counter(event[0] for event in _events(trace))
    return kinds.total(), kinds[_MSI], size
