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
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._address = address
        self._distributed = distributed
        self._asked = 0
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
        future = self._next()
        number = self._futures.pop(future)
        error = future.exception() if future.status == "error" else None
        found = None if error or future.status != "finished" else future.result()
        future.release()
        if found is not None:
            return number, found
        if isinstance(error, self._distributed.KilledWorker):
            return number, Lost("the workers that had it died one after the other", often=4)
        if error is not None:
            raise NoCluster(f"{self._address}: a worker cannot run itstrace: {error}")
        raise NoCluster(f"{self._address}: the scheduler gave a task up ({future.status})")

    def _next(self) -> Any:
        alone = None
        while True:
            try:
                return self._done.get(timeout=_LOOK_SECONDS)
            except Empty:
                alone = self._alone(alone)

    def _alone(self, since: float | None) -> float | None:
        """Return since when there is nobody; None while there is somebody."""
        if self._client.status != "running":
            raise NoCluster(f"{self._address}: the scheduler is gone")
        if self._threads():
            return None
        since = since or monotonic()
        if monotonic() - since > ALONE_SECONDS:
            raise NoCluster(f"{self._address}: there has been no worker for {ALONE_SECONDS} s")
        return since

    def close(self) -> None:
        """Take back what was not answered, and disconnect."""
        self._client.cancel(list(self._futures))
        self._client.close()
