"""10,000 small traces and a large one, in one process, in two and on a dask cluster of two workers: the same bytes.

`make bench-corpus`. The small traces are 100 generated lives, each under 100 names: `corpus run` knows
nothing of that and replays each. The large one is of 5,000,000 events, and has left its checkpoints. Each of
the three is also run with a process killed in the middle. It judges by the ratio, inside this run; another
load on the cores spoils it.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from replay.corpus_add import manifest_text
from replay.generator.answers import generate, header_of
from replay.profiles import find
from tests.bench.dask_cluster import DaskCluster, dask_cluster
from tests.bench.time_travel import KINDS, write
from tracer.log.stream import Writer

LIVES: Final = 100
NAMES: Final = 100
EVENTS: Final = 50  # that a life is asked for
LARGE: Final = 5_000_000
MIN_RATIO: Final = 1.7


def make(folder: Path) -> int:
    """Write the small traces and their manifests; return the bytes of the traces."""
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


def make_large(folder: Path, events: int) -> int:
    """Write a large trace and a manifest that it does not fail; return its bytes."""
    path = folder / "large.itstrace"
    write(path, KINDS["kvm-generated"](events), events)
    path.with_suffix(".toml").write_text('expect = "stale"\n')
    return path.stat().st_size


def cpu_seconds() -> float:
    """Return what the processes that have ended took of the cores, which no other load lengthens much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Done = tuple[float, float, bytes]  # seconds, those of the cores, what was printed


def run(
    folder: Path, *more: str, kill: Callable[[int], Any] | None = None, after: float = 0
) -> Done:
    """Run the corpus; `kill` is called with the process's number `after` so many seconds."""
    before = cpu_seconds()
    command = [sys.executable, "-m", "replay.cli", "corpus", "run", str(folder), *more]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if kill:
            time.sleep(after)
            kill(process.pid)
        out = process.stdout.read()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(more)}: exit code {process.returncode}")
    return time.perf_counter() - began, cpu_seconds() - before, out


def one_of_two(pid: int) -> None:
    """Kill one of the processes that a run has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)


def a_worker(cluster: DaskCluster) -> Callable[[int], None]:
    """Return what kills a worker and starts another."""

    def kill(pid: int) -> None:
        cluster.workers[0].kill()
        cluster.workers[0] = cluster.add_worker("another")

    return kill


def measure(folder: Path) -> bool:
    """Print a line a run; return whether all printed the same, and two were worth it."""
    run(folder, "--jobs", "2")  # what the first run alone would wait for: the disk, checkpoints
    one = run(folder, "--jobs", "1")
    print(f"  1 process                {one[0]:7.1f} s, {one[1]:7.1f} s of the cores", flush=True)
    runs = {}

    def told(name: str, done: Done) -> None:
        runs[name] = done
        same, ratio = done[2] == one[2], one[0] / done[0]
        print(
            f"  {name:24} {done[0]:7.1f} s, {done[1]:7.1f} s of the cores, "
            f"{ratio:.2f} x as fast; same bytes: {same}", flush=True,
        )  # fmt: skip

    told("2 processes", run(folder, "--jobs", "2"))
    half = runs["2 processes"][0] / 2
    told("one of the two killed", run(folder, "--jobs", "2", kill=one_of_two, after=half))
    with tempfile.TemporaryDirectory() as name, dask_cluster(2, Path(name)) as cluster:
        far = ["--cluster", cluster.address]
        told("a cluster of 2 workers", run(folder, *far))
        half = runs["a cluster of 2 workers"][0] / 2
        told("a worker killed", run(folder, *far, kill=a_worker(cluster), after=half))
    same = all(done[2] == one[2] for done in runs.values())
    enough = all(
        one[0] / runs[name][0] >= MIN_RATIO for name in ("2 processes", "a cluster of 2 workers")
    )
    print(f"  the same bytes: {same}; at least {MIN_RATIO} times as fast: {enough}")
    return same and enough


def main() -> int:
    """Measure both; 1 when bytes differ or two are not worth it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=LARGE, help="events; 0 for no large trace")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        size = make(Path(name))
        print(f"{LIVES * NAMES:,} traces, {size / 1e6:.1f} MB")
        good &= measure(Path(name))
    if options.large:
        with tempfile.TemporaryDirectory() as name:
            size = make_large(Path(name), options.large)
            print(f"one trace of {options.large:,} events, {size / 1e6:.1f} MB")
            good &= measure(Path(name))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
