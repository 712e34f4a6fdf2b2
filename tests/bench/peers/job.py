"""One measurement, from inside: what is asked, a stopwatch, and what is told of it.

Each runs in a process of its own (`worker`), so that neither memory nor what an earlier one left behind
counts. Only what is under `timed` is measured; files that it needs were made before, checks come after.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.peers import workload
from tests.bench.peers.workload import Told
from tracer.events import Event


class Job:
    """What a contestant is asked to do."""

    def __init__(self, folder: Path, name: str, count: int, options: dict[str, Any]) -> None:
        """`name` says whose file it is; `check`: say what was seen, behind the stopwatch."""
        self.folder = folder
        self.count = count
        self.options = options
        self.check: bool = options.get("check", False)
        self.path = folder / f"{name}-{options.get('variant', 'plain')}-{count}"
        self.facts: dict[str, Any] = {}

    def stream(self) -> Iterator[Event]:
        """Return the events as they are made; option `worn`, as the workload has it."""
        return workload.stream(self.count, worn=self.options.get("worn", False))

    def events(self) -> Iterable[Event]:
        """Return the events, all in memory unless the option `streamed` is set."""
        return self.stream() if self.options.get("streamed") else list(self.stream())

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure what is in the block: wall time, and CPU time with that of its processes."""
        cpu, wall = _cpu_seconds(), time.perf_counter()
        yield
        self.facts["seconds"] = time.perf_counter() - wall
        self.facts["cpu"] = _cpu_seconds() - cpu

    def added(self) -> None:
        """Every event was handed over, and nothing was closed yet; here a writer may be killed."""
        if self.options.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, **facts: Any) -> None:
        """Note facts of this measurement."""
        self.facts.update(facts)

    def tell_size(self, *paths: Path) -> None:
        """Note how many bytes these files have."""
        self.tell(bytes=sum(path.stat().st_size for path in paths if path.exists()))

    def saw(self, told: Told) -> None:
        """Note which events were read."""
        self.tell(told=list(told))


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_kib() -> int:
    """Return the most resident memory that this process had; ru_maxrss would count its parent's, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM")
