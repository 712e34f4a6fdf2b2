"""A dask scheduler and workers of this machine, each a process of its own, that a bench may kill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_DASK: Final = str(Path(sys.executable).with_name("dask"))
_SECONDS: Final = 60


class DaskCluster:
    """A scheduler on the loopback, with so many workers of one thread."""

    def __init__(self, workers: int, folder: Path) -> None:
        self._folder = folder
        scheduler = _started(
            [
                "scheduler",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--no-show",
                "--dashboard-address",
                "127.0.0.1:0",
            ],
            folder / "scheduler.log",
        )
        self._processes = [scheduler]
        self.address = _said(folder / "scheduler.log", r"Scheduler at:\s+(tcp://\S+)")
        self.workers = [self.add_worker(str(at)) for at in range(workers)]

    def add_worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start one, and wait until the scheduler knows it."""
        log = self._folder / f"worker-{name}.log"
        worker = _started(
            [
                "worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny",
                "--dashboard-address", "127.0.0.1:0", "--local-directory", str(self._folder / name),
            ],
            log,
        )  # fmt: skip
        self._processes.append(worker)
        _said(log, r"Registered to:")
        return worker

    def close(self) -> None:
        """End all of them."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@contextmanager
def dask_cluster(workers: int, folder: Path) -> Iterator[DaskCluster]:
    """Yield a cluster that is there until then."""
    cluster = DaskCluster(workers, folder)
    try:
        yield cluster
    finally:
        cluster.close()


def _started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with log.open("wb") as out:
        return subprocess.Popen([_DASK, *words], stdout=out, stderr=out, env=environment)


def _said(log: Path, pattern: str) -> str:
    """Return what a process says of itself, once it does."""
    for _ in range(_SECONDS * 10):
        found = re.search(pattern, log.read_text())
        if found:
            return found[found.lastindex or 0]
        time.sleep(0.1)
    raise RuntimeError(f"{log}: {pattern} did not come:\n{log.read_text()}")
