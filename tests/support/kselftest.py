"""Runs an exported C file as its reader would: built, on a kernel that is a KVM host, TAP parsed.

The machine is a TCG QEMU whose initramfs holds a small init and the test; nothing of itstrace runs
in it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from replay.targets.kvm_boot import initramfs

COMPILER = "aarch64-linux-gnu-gcc"
FLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror")
_INIT = Path(__file__).with_name("kselftest_init.c")
_TAP = re.compile(r"^(not ok|ok) (\d+) - (.*?)(?: # SKIP (.*))?$")
_EXIT = re.compile(r"kselftest exit (\d+)")
_OOPS = re.compile(r"\bpc : ([A-Za-z_]\w*)")


@dataclass
class Tap:
    """What a test printed, and what became of the host."""

    console: str
    plan: int | None = None
    good: dict[int, str] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    exit: int | None = None  # None: it never ended
    died_in: str | None = None

    def whole(self) -> bool:
        """Whether every planned test has a line."""
        return self.plan is not None and (
            sorted([*self.good, *self.bad, *self.skipped]) == list(range(1, self.plan + 1))
        )


def parse(console: str) -> Tap:
    """Return what a console shows."""
    tap = Tap(console)
    for line in console.replace("\r", "").splitlines():
        if match := _TAP.match(line):
            kind = "skipped" if match[4] else "good" if match[1] == "ok" else "bad"
            getattr(tap, kind)[int(match[2])] = match[3]
        elif match := re.fullmatch(r"1\.\.(\d+)(?: # .*)?", line):
            tap.plan = int(match[1])
        elif match := _EXIT.search(line):
            tap.exit = int(match[1])
        elif (match := _OOPS.search(line)) and tap.died_in is None:
            tap.died_in = match[1]
    return tap


def build(source: Path, program: Path) -> None:
    """Build a C file as its head says, warnings being errors."""
    command = [COMPILER, *FLAGS, "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@cache
def _init() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "init"
        command = [COMPILER, "-static", "-O1", "-o", str(program), str(_INIT)]
        subprocess.run(command, check=True)
        return program.read_bytes()


def run(source: Path, kernel: Path, *, options: str = "oops=panic panic=-1") -> Tap:
    """Run a C file on a kernel; `options` are the kernel's."""
    with tempfile.TemporaryDirectory() as folder:
        program, archive = Path(folder) / "test", Path(folder) / "initramfs"
        build(source, program)
        archive.write_bytes(initramfs(_init(), test=program.read_bytes()))
        command = [
            *("qemu-system-aarch64", "-nodefaults", "-accel", "tcg", "-cpu", "cortex-a57"),
            *("-machine", "virt,gic-version=3,its=on,virtualization=on", "-m", "1024"),
            *("-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(kernel), "-initrd", str(archive)),
            *("-append", f"console=ttyAMA0 loglevel=4 rdinit=/init {options}"),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
            errors="replace", check=False,
        )  # fmt: skip
    return parse(done.stdout)
