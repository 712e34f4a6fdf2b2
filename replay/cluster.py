"""The workers of a dask.distributed cluster that is there already, as `replay.pools` has a pool.

Our own function goes there by its name, and its argument and its answer are bytes. A worker that is lost is
replaced by the scheduler, which gives its tasks to others; a task that has cost it several is given up by
it, and is an answer. What a cluster may do to whoever uses it is in docs/security.md.
"""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from queue import Empty, Queue
from time import monotonic
from typing import Any, Final

from replay import tasks
from replay.pools import Lost
from tracer.errors import TracerError, UsageError

CONNECT_SECONDS: Final = 15  # for a scheduler to answer, and then for a first worker to be there
ALONE_SECONDS: Final = 60  # without any worker before this is given up
_LOOK_SECONDS: Final = 2
_FETCH_SECONDS: Final = 60  # for an answer to come from a worker that has it


class NoCluster(TracerError):
    """Nobody is there who could carry out anything."""

    exit_code = 4


class Cluster:
    """The workers of the scheduler at an address."""

    shares_files = False

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            UsageError: the extra is not installed, or that is no address.
            NoCluster: nobody answers there, or there is no worker.
        """
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise UsageError(
                "--cluster needs dask.distributed: pip install 'itstrace[cluster]'"
            ) from error
        # It tells on standard error what we tell ourselves, or what its user cannot change.
        for name in ("distributed", "distributed.client", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._address = address
        self._distributed = distributed
        self._asked = 0
        self._alone_since: float | None = None
        self._futures: dict[Any, int] = {}
        self._done: Queue[Any] = Queue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions of dask that differ, and large tasks
            self._client = self._connected(address)
        self.width = self._threads()

    def _connected(self, address: str) -> Any:
        try:
            client = self._distributed.Client(
                address, timeout=CONNECT_SECONDS, set_as_default=False, name="itstrace"
            )
        except ValueError as error:
            raise UsageError(f"{address}: this is no address of a scheduler: {error}") from error
        except (OSError, TimeoutError) as error:
            raise NoCluster(
                f"{address}: no scheduler answers within {CONNECT_SECONDS} s: start one with "
                "`dask scheduler`, or leave --cluster away"
            ) from error
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            client.close()
            raise NoCluster(
                f"{address}: the scheduler has no worker: start some with `dask worker {address}`"
            ) from error
        return client

    def _threads(self) -> int:
        """Return how many tasks the workers that are there now carry out at the same time."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return sum(int(each["nthreads"]) for each in workers.values())

    def ask(self, task: bytes) -> int:
        """Give a task to the scheduler."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            future = self._client.submit(tasks.answer, task, pure=False)
        self._asked += 1
        self._futures[future] = self._asked
        future.add_done_callback(self._done.put)  # in a thread of dask's
        return self._asked

    def answer(self) -> tuple[int, bytes | Lost]:
        """Wait for the next answer; NoCluster when nobody is there any more who could give one."""
        while True:
            future = self._next()
            found = self._found(future)
            if found is not None:
                future.release()
                return self._futures.pop(future), found
            # What was found was lost with the worker that had it, and is looked for again.
            future.add_done_callback(self._done.put)

    def _next(self) -> Any:
        while True:
            try:
                return self._done.get(timeout=_LOOK_SECONDS)
            except Empty:
                self._look()

    def _found(self, future: Any) -> bytes | Lost | None:
        """Return the answer that a task has; None where it went with its worker."""
        status = future.status
        if status == "error":
            error = future.exception()
            if isinstance(error, self._distributed.KilledWorker):
                return Lost("the workers that had it died one after the other", often=4)
            raise NoCluster(f"{self._address}: a worker cannot run itstrace: {error}")
        if status == "cancelled":
            raise NoCluster(f"{self._address}: the scheduler gave everything up")
        if status == "finished":
            try:
                found: bytes = future.result(timeout=_FETCH_SECONDS)
            except TimeoutError:
                self._look()
            else:
                return found
        return None

    def _look(self) -> None:
        """See whether there is still somebody to wait for.

        Raises:
            NoCluster: there is not, or has not been for a while.
        """
        if self._client.status != "running":
            raise NoCluster(f"{self._address}: the scheduler is gone")
        if self._threads():
            self._alone_since = None
            return
        self._alone_since = self._alone_since or monotonic()
        if monotonic() - self._alone_since > ALONE_SECONDS:
            raise NoCluster(f"{self._address}: there has been no worker for {ALONE_SECONDS} s")

    def close(self) -> None:
        """Take back what was not answered, and disconnect."""
        self._client.cancel(list(self._futures))
        self._client.close()
