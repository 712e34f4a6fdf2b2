"""10,000 small traces in one process and in two: the same bytes, a process killed or not, and the ratio.

`make bench-corpus`. The traces are 100 generated lives, each under 100 names: `corpus run` knows nothing of
that and replays each. It judges by the ratio, inside this run; another load on the cores spoils it.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from replay.corpus_add import manifest_text
from replay.generator.answers import generate, header_of
from replay.profiles import find
from tracer.log.stream import Writer

LIVES: Final = 100
NAMES: Final = 100
EVENTS: Final = 50  # that a life is asked for
MIN_RATIO: Final = 1.7


def make(folder: Path) -> int:
    """Write the traces and their manifests; return the bytes of the traces."""
    profile = find("linux-6.1.192")[0]
    size = 0
    for seed in range(LIVES):
        first = folder / f"{seed:03}-00.itstrace"
        with first.open("wb", buffering=0) as out:
            writer = Writer(out, header_of(seed, profile, EVENTS), bound_ms=0)
            for event in generate(seed, profile, EVENTS):
                writer.add(event)
            writer.close()
        data, told = first.read_bytes(), manifest_text(first, "a bench", force=True)
        for at in range(NAMES):
            first.with_name(f"{seed:03}-{at:02}.itstrace").write_bytes(data)
            first.with_name(f"{seed:03}-{at:02}.toml").write_text(told)
        size += NAMES * len(data)
    return size


def cpu_seconds() -> float:
    """Return what the processes that have ended took of the cores, which no other load lengthens much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path, jobs: int, *, kill: bool = False) -> tuple[float, float, bytes]:
    """Return seconds, those of the cores, and what was printed; `kill` ends one process in the middle."""
    before = cpu_seconds()
    command = [sys.executable, "-m", "replay.cli", "corpus", "run", str(folder)]
    began = time.perf_counter()
    with subprocess.Popen([*command, "--jobs", str(jobs)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        out = process.stdout.read(100_000)
        if kill:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            os.kill(int(children.split()[0]), signal.SIGKILL)
        out += process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"--jobs {jobs}: exit code {process.returncode}")
    return time.perf_counter() - began, cpu_seconds() - before, out


def main() -> int:
    """Print a line a run; 1 when bytes differ or two processes are not worth it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make(folder)
        print(f"{LIVES * NAMES:,} traces, {size / 1e6:.1f} MB")
        run(folder, 2)  # what the first run alone would wait for, the disk
        one, one_cpu, wanted = run(folder, 1)
        two, two_cpu, found = run(folder, 2)
        killed, killed_cpu, despite = run(folder, 2, kill=True)
    ratio = one / two
    print(f"1 process   {one:6.1f} s, {one_cpu:6.1f} s of the cores")
    print(f"2 processes {two:6.1f} s, {two_cpu:6.1f} s; same bytes: {found == wanted}")
    print(f"one killed  {killed:6.1f} s, {killed_cpu:6.1f} s; same bytes: {despite == wanted}")
    print(f"two are {ratio:.2f} times as fast as one, of {MIN_RATIO} wanted")
    return int(found != wanted or despite != wanted or ratio < MIN_RATIO)


if __name__ == "__main__":
    sys.exit(main())
