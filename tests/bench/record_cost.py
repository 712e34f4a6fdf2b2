"""What recording costs: a Linux guest's boot to its init, beside QEMU's own trace into a file.

Usage: record_cost.py [PAIRS] [RECORD OPTION...]

Each pair boots the guest twice with the same events traced, once with `-D FILE` and once under
`record qemu`, from the start of the command to the first line of the guest's init; which comes
first alternates. The last line is the ratio of the medians. Wants a quiet machine.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import linux_guest  # noqa: E402 - a script finds its packages itself
from tests.support.recorded_vm import MACHINE, QEMU  # noqa: E402
from tracer.sources.qemu_start import TRACED  # noqa: E402

GOAL = 1.15
SMALL = ("-accel", "tcg,thread=multi", "-m", "512", "-smp", "2")


def boot(directory: Path, *, record: tuple[str, ...] | None) -> float:
    """Return the seconds from the command's start to the guest's init."""
    guest = linux_guest.guest(["wait"], directory)
    console = directory / "console"
    console.unlink(missing_ok=True)
    command = [QEMU, *MACHINE, *SMALL, *guest]
    if record is None:
        traces = [word for pattern in TRACED for word in ("-trace", pattern)]
        command += [*traces, "-msg", "timestamp=on", "-D", str(directory / "log")]
    else:
        words = ("record", "qemu", "--force", "-o", str(directory / "t.itstrace"), *record, "--")
        command = [sys.executable, "-m", "replay.cli", *words, *command]
    started = monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as vm:
        while not console.exists() or linux_guest.READY not in console.read_text():
            assert vm.poll() is None, "the guest ended before its init"
            sleep(0.005)
        took = monotonic() - started
        os.killpg(vm.pid, signal.SIGTERM)
    return took


def main(pairs: int, record: tuple[str, ...]) -> None:
    """Print each pair, and the ratio."""
    plain, recorded = [], []
    with tempfile.TemporaryDirectory() as name:
        boot(Path(name), record=None)  # the first one reads the kernel from the disk
        for n in range(pairs):
            for is_recorded in (n % 2, 1 - n % 2):
                times = recorded if is_recorded else plain
                times.append(boot(Path(name), record=record if is_recorded else None))
            print(f"{plain[-1]:.2f} s with -D, {recorded[-1]:.2f} s recorded", flush=True)
    ratio = statistics.median(recorded) / statistics.median(plain)
    print(f"record / -D: {ratio:.3f} of medians over {pairs} pairs; at most {GOAL} is wanted")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, tuple(sys.argv[2:]))
