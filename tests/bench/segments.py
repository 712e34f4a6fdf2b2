"""One large trace in one process and in two, on this machine's cores and on a dask cluster: `make bench-segments`.

The traces are generated lives of a VM, one behind the other, made once in .cache/. Each is checked in one
process, with the digest of its last state; then by two, first without checkpoints, which leaves them, then
with them, and with one of the two killed in the middle. The answers must be the same bytes. It judges by
the ratio of runs that follow each other, in pairs; another load on the cores spoils it.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from tests.bench.dask_cluster import DaskCluster, dask_cluster
from tests.bench.time_travel import KINDS, write

FOLDER: Final = Path(".cache/bench-segments")
EVENTS: Final = (5_000_000, 10_000_000)
MIN_RATIO: Final = 1.7
VERBS: Final = {"check": ["check", "--digest"], "verify": ["verify", "--json"]}


class Run:
    """One run of the command: its seconds, those of the cores, its memory, and what it printed."""

    def __init__(
        self, words: list[str], *, cluster: DaskCluster | None = None, kill_after: float = 0
    ) -> None:
        """`kill_after` so many seconds one of those who replay is killed."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "replay.cli", *words], stdout=subprocess.PIPE
        ) as process:
            timer = threading.Timer(kill_after, _kill, (process.pid, cluster))
            if kill_after:
                timer.start()
            assert process.stdout is not None
            self.out = process.stdout.read()
            self.code = process.wait()
        timer.cancel()
        self.seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cores = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        if self.code not in (0, 1):
            raise RuntimeError(f"{' '.join(words)}: exit code {self.code}")

    def told(self, name: str, wanted: Run | None = None) -> None:
        """Print a line."""
        same = "" if wanted is None else f"; same bytes: {self.out == wanted.out}"
        ratio = "" if wanted is None else f", {wanted.seconds / self.seconds:.2f} x as fast"
        print(f"  {name:34} {self.seconds:7.1f} s, {self.cores:7.1f} s of the cores{ratio}{same}")
        sys.stdout.flush()


def _kill(pid: int, cluster: DaskCluster | None) -> None:
    if cluster is not None:
        cluster.workers[0].kill()
        cluster.workers[0] = cluster.add_worker("another")
        return
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


def trace_of(kind: str, events: int) -> Path:
    """Return a trace of so many events, made where it is not there yet."""
    path = FOLDER / f"{kind}-{events}.itstrace"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        write(new, KINDS[kind](events), events)
        new.replace(path)
    for cache in FOLDER.glob(f"{path.name}.*.states"):
        cache.unlink()
    return path


def measure(path: Path, verb: str, pairs: int) -> bool:
    """Print the runs of one trace; return whether all is as it must be."""
    print(f"{path.name}: {path.stat().st_size:,} bytes; {verb}")
    command = [*VERBS[verb], str(path)]
    two = [*command, "--jobs", "2"]
    one = Run(command)
    one.told("1 process")
    built = Run(two)
    built.told("the same, leaving checkpoints", one)
    size = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}.*.states"))
    print(f"  {size:,} bytes of checkpoints")
    good = built.out == one.out
    ratios = []
    for _ in range(pairs):
        alone, both = Run(command), Run(two)
        alone.told("1 process")
        both.told("2 processes", alone)
        ratios.append(alone.seconds / both.seconds)
        good &= both.out == one.out
    killed = Run(two, kill_after=both.seconds / 2)
    killed.told("2 processes, one killed", alone)
    good &= killed.out == one.out
    with tempfile.TemporaryDirectory() as name, dask_cluster(2, Path(name)) as cluster:
        far = [*command, "--cluster", cluster.address]
        alone, spread = Run(command), Run(far, cluster=cluster)
        alone.told("1 process")
        spread.told("a cluster of 2 workers", alone)
        on_cluster = alone.seconds / spread.seconds
        lossy = Run(far, cluster=cluster, kill_after=spread.seconds / 2)
        lossy.told("the cluster, a worker killed", alone)
        good &= spread.out == one.out == lossy.out
    best = max(ratios)
    print(
        f"  two are {best:.2f} times as fast as one, a cluster of two {on_cluster:.2f} times, of {MIN_RATIO} wanted"
    )
    return good and best >= MIN_RATIO


def main() -> int:
    """Measure each; 1 when bytes differ or two processes are not worth it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=list(EVENTS))
    parser.add_argument("--kind", default="kvm-generated", help=", ".join(KINDS))
    parser.add_argument("--verb", choices=VERBS, default="check")
    parser.add_argument("--pairs", type=int, default=2)
    options: Any = parser.parse_args()
    good = True
    for events in options.events:
        good &= measure(trace_of(options.kind, events), options.verb, options.pairs)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
