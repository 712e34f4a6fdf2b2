"""Who carries out tasks: local processes here, the workers of a cluster in `replay.cluster`.

Both take bytes and give bytes, in whatever order they are done; a lost process is an answer, too, and who
asked says what it means. Counterpart: `replay.tasks`, which is what each of them runs.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Final, Protocol, cast

from replay import tasks
from replay.workers import Worker

MAX_JOBS: Final = 256  # processes; one for each core is what there is without being asked
_GRACE_SECONDS: Final = 1  # for a process to end whose pipe has ended


@dataclass(frozen=True, slots=True)
class Lost:
    """Whoever carried out a task is lost; `how` says by what, `often` how often already."""

    how: str
    often: int = 1


class Pool(Protocol):
    """Whoever carries out tasks."""

    @property
    def width(self) -> int:
        """How many tasks are carried out at the same time."""

    @property
    def shares_files(self) -> bool:
        """Whether a file can be opened there by its name here."""

    def ask(self, task: bytes) -> int:
        """Have a task carried out, sooner or later; return the number that its answer will have."""

    def answer(self) -> tuple[int, bytes | Lost]:
        """Wait for the next answer, be it to somebody who is gone; return its number, and it."""

    def close(self) -> None:
        """Let go of everything, also of what was not answered yet."""


class Processes:
    """Local processes, forked as they are needed."""

    shares_files = True

    def __init__(self, jobs: int) -> None:
        self.width = jobs
        self._asked = 0
        self._todo: deque[tuple[int, bytes]] = deque()
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, int]] = {}

    def ask(self, task: bytes) -> int:
        """Have a task carried out as soon as a process has nothing else to do."""
        self._asked += 1
        self._todo.append((self._asked, task))
        return self._asked

    def answer(self) -> tuple[int, bytes | Lost]:
        """Give work to whoever has none, and return what comes next."""
        while self._todo and len(self._busy) < self.width:
            worker = self._idle.pop() if self._idle else Worker.started(_serve)
            number, task = self._todo.popleft()
            self._busy[worker.pipe] = worker, number
            worker.send(task)
        worker, number = self._busy.pop(cast("Connection", wait(list(self._busy))[0]))
        with suppress(OSError, EOFError):
            found = worker.pipe.recv_bytes()
            self._idle.append(worker)
            return number, found
        worker.let_go(_GRACE_SECONDS)
        code = worker.process.exitcode
        return number, Lost(f"signal {-code}" if code < 0 else f"exit code {code}")

    def close(self) -> None:
        """End the processes."""
        for worker in [*self._idle, *(each for each, _ in self._busy.values())]:
            worker.end()


def _serve(pipe: Connection, others_end: Connection) -> None:
    """Answer until the pipe ends."""
    others_end.close()
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            pipe.send_bytes(tasks.answer(pipe.recv_bytes()))
