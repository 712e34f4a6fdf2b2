"""A process that answers what a pipe brings, and that may be lost at any time.

It is forked, so that it has whatever its parent had; what goes through the pipe is bytes. Who asks
says what a lost one means. Counterparts: `replay.minimize.crew` and `replay.corpus_jobs`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self


@dataclass(slots=True)
class Worker:
    """A process, and our end of its pipe."""

    process: Any  # a context's Process
    pipe: Connection

    @classmethod
    def started(cls, serve: Callable[..., None], *given: object) -> Self:
        """Start one that runs `serve(*given, its end of the pipe, our end, which it closes)`."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(*given, theirs, ours), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def send(self, packed: bytes) -> None:
        """Ask for something."""
        with suppress(OSError):  # it is lost: so it will not answer
            self.pipe.send_bytes(packed)

    def end(self) -> None:
        """End one that is not needed any more."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()

    def let_go(self, grace_seconds: float = 0) -> None:
        """Bury one that was lost; it has so long to end by itself."""
        self.pipe.close()
        self.process.join(grace_seconds)
        self.process.kill()
        self.process.join()
