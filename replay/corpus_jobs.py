"""A corpus over several local processes: the same results, in the same order, as in one.

Each process has the list of traces and is asked for chunks of it, so that many small traces do not cost a
message each. A process that is lost takes its chunk with it: its traces are asked for once more, one by one,
and one that is lost again is named. A trace may take as long as it takes: a slow process is not a lost one.
Counterparts: `replay.corpus`, which runs one trace, and `replay.minimize.crew`.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import fields
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, cast

import msgpack

from replay.corpus import CANNOT_JUDGE, Result, run_trace
from replay.workers import Worker

MAX_JOBS: Final = 256  # processes; one for each core is what there is without being asked
_CHUNK_TRACES: Final = 32  # traces that one message asks for
_CHUNKS_EACH: Final = 8  # a process gets at least, so that all end at about the same time
_GRACE_SECONDS: Final = 1  # for a process to end whose pipe has ended
_TEXT: Final = "surrogatepass"  # the name of a file may be no UTF-8
_SENT: Final = tuple(each.name for each in fields(Result) if each.name != "trace")


def run_traces(traces: Sequence[Path], jobs: int) -> Iterator[list[Result]]:
    """Yield the results of each trace, in order, as soon as those of all before it are known."""
    if min(jobs, len(traces)) < 2:
        yield from map(run_trace, traces)
        return
    with closing(_Crew(traces, jobs)) as crew:
        for at in range(len(traces)):
            while at not in crew.found:
                crew.turn()
            yield crew.found.pop(at)


class _Crew:
    """Processes, what each was asked for, what is to be asked for, and what was found."""

    def __init__(self, traces: Sequence[Path], jobs: int) -> None:
        count = len(traces)
        size = max(1, min(_CHUNK_TRACES, count // (jobs * _CHUNKS_EACH)))
        self._traces = traces
        self._jobs = jobs
        self._todo = deque(range(at, min(at + size, count)) for at in range(0, count, size))
        self._again: set[int] = set()  # traces that have cost a process
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, range]] = {}
        self.found: dict[int, list[Result]] = {}

    def turn(self) -> None:
        """Give work to whoever has none, and take what comes next."""
        while self._todo and len(self._busy) < self._jobs:
            worker = self._idle.pop() if self._idle else Worker.started(_serve, self._traces)
            chunk = self._todo.popleft()
            self._busy[worker.pipe] = worker, chunk
            worker.send(msgpack.packb((chunk.start, chunk.stop)))
        for pipe in wait(list(self._busy)):
            worker, chunk = self._busy.pop(cast("Connection", pipe))
            answer = _received(worker.pipe)
            if answer is None:
                self._lost(worker, chunk)
            else:
                self._idle.append(worker)
                self._take(chunk, answer)

    def close(self) -> None:
        """End the processes."""
        for worker in [*self._idle, *(each for each, _ in self._busy.values())]:
            worker.end()

    def _take(self, chunk: range, answer: Any) -> None:
        for at, results in zip(chunk, answer, strict=True):
            trace = self._traces[at]
            self.found[at] = [
                Result(trace, **dict(zip(_SENT, each, strict=True))) for each in results
            ]

    def _lost(self, worker: Worker, chunk: range) -> None:
        """Ask for each trace of a chunk once more, alone; give up one that was asked for so."""
        worker.let_go(_GRACE_SECONDS)
        if chunk.start in self._again:  # then it was alone
            trace = self._traces[chunk.start]
            self.found[chunk.start] = [_given_up(trace, worker.process.exitcode)]
            return
        self._again.update(chunk)
        self._todo.extendleft(range(at, at + 1) for at in reversed(chunk))


def _given_up(trace: Path, exit_code: int) -> Result:
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return Result(
        trace, "trace", "a judgement", f"its process lost twice, the last time with {how}", None,
        code=CANNOT_JUDGE, why=("where memory ran out: fewer --jobs",),
    )  # fmt: skip


def _received(pipe: Connection) -> Any:
    """Return for each trace of a chunk its results; None when the process was lost.

    Raises:
        RuntimeError: it met a bug of ours, as it would be met in one process.
    """
    with suppress(OSError, EOFError):
        answer = msgpack.unpackb(pipe.recv_bytes(), use_list=False, unicode_errors=_TEXT)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer
    return None


def _serve(traces: Sequence[Path], pipe: Connection, others_end: Connection) -> None:
    """Answer until the pipe ends."""
    others_end.close()
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            start, stop = msgpack.unpackb(pipe.recv_bytes())
            pipe.send_bytes(msgpack.packb(_answer(traces[start:stop]), unicode_errors=_TEXT))


def _answer(traces: Sequence[Path]) -> Any:
    """Return for each trace its results, each as a list; or the text of a bug of ours."""
    try:
        return [
            [[getattr(each, name) for name in _SENT] for each in run_trace(trace)]
            for trace in traces
        ]
    except Exception:  # noqa: BLE001 (it is raised again where the results are awaited)
        return traceback.format_exc()
