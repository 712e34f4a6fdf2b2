"""A corpus over several processes or machines: the same results, in the same order, as in one.

Who is asked gets chunks of the list, so that many small traces do not cost a message each; where he does not
share our files, their bytes go along, under the names that they have here. A process that is lost takes
its chunk with it: its traces are asked for once more, one by one, and one that is lost again is named. A
trace may take as long as it takes: a slow process is not a lost one.
Counterparts: `replay.corpus`, which runs one trace, and `replay.pools`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from replay.corpus import (
    CANNOT_JUDGE,
    Judged,
    Judging,
    Result,
    manifest_of,
    profile_of,
    run_trace,
)
from replay.judge import judgement
from replay.manifest import Expectation, Manifest, manifest_path
from replay.pools import Lost, Pool
from replay.profile_file import MAX_BYTES
from replay.segments.question import Question
from replay.segments.run import asked
from replay.tasks import task, value_of
from tracer.errors import UsageError
from tracer.log import files
from tracer.log.files import Where, where
from tracer.log.opening import open_trace

MAX_SENT_BYTES: Final = 4 << 20  # of files that go along with a chunk of more than one trace
MAX_TRACE_BYTES: Final = 1 << 30  # of a trace that goes along
LARGE_BYTES: Final = 1 << 20  # of a trace that is divided among all: half a million events or so
_MANY: Final = 4  # large traces for each process need not be divided
_CHUNK_TRACES: Final = 32  # traces that one message asks for
_CHUNKS_EACH: Final = 8  # a process gets at least, so that all end at about the same time
_WAITING: Final = (
    3  # tasks for each that can be carried out: so many files are held at the same time
)
_SENT: Final = tuple(each.name for each in fields(Result) if each.name != "trace")


def run_traces(traces: Sequence[Where], pool: Pool | None) -> Iterator[list[Result]]:
    """Yield the results of each trace, in order, as soon as those of all before it are known."""
    if pool is None:
        yield from map(run_trace, traces)
        return
    large = [at for at, each in enumerate(traces) if _is_large(each)]
    if len(large) >= _MANY * pool.width:
        large = []  # they keep everybody busy as they are
    of_large = {at: run_trace(traces[at], in_segments(pool)) for at in large}
    crew = _Crew(traces, pool, of_large)
    for at in range(len(traces)):
        while at not in crew.found:
            crew.turn()
        yield crew.found.pop(at)


def _is_large(trace: Where) -> bool:
    """Return whether a trace is worth dividing; one that a URL names is not asked for its size."""
    return isinstance(trace, Path) and files.size_of(trace) >= LARGE_BYTES


def in_segments(pool: Pool) -> Judging:
    """Return how a large trace is judged by several: in segments between its checkpoints."""

    @contextmanager
    def judging(trace: Where, manifest: Manifest, wanted: Expectation) -> Iterator[Judged]:
        with open_trace(str(trace)) as reader:
            profile = profile_of(manifest, reader.header, wanted.flags)
        path = manifest.profile_path
        name = str(path) if path else manifest.profile
        held = {} if path is None else {str(path): files.read(path, MAX_BYTES + 1)}
        question = Question(
            name, wanted.flags, None, held, verify=True, strict=manifest.strict, invariants=True
        )
        with asked(str(trace), question, pool) as found:
            assert found.verifier
            yield Judged(judgement(found.verifier, found.engine), found.reader, profile)

    return judging


class _Crew:
    """Who is asked, what for, what is to be asked for, and what was found."""

    def __init__(self, traces: Sequence[Where], pool: Pool, found: dict[int, list[Result]]) -> None:
        """Of some `found` is known."""
        left = [at for at in range(len(traces)) if at not in found]
        size = max(1, min(_CHUNK_TRACES, len(left) // (pool.width * _CHUNKS_EACH)))
        self._traces = traces
        self._pool = pool
        self._todo = deque(left[at : at + size] for at in range(0, len(left), size))
        self._asked: dict[int, list[int]] = {}  # by the numbers of their tasks
        self._again: set[int] = set()  # traces that have cost a process
        self.found = found

    def turn(self) -> None:
        """Ask for more, and take what comes next."""
        while self._todo and len(self._asked) < _WAITING * self._pool.width:
            self._ask(self._todo.popleft())
        if not self._asked:
            return
        number, answer = self._pool.answer()
        chunk = self._asked.pop(number, None)
        if chunk is None:
            return
        if isinstance(answer, Lost):
            self._lost(chunk, answer)
        else:
            self._take(chunk, value_of(answer))

    def _ask(self, chunk: list[int]) -> None:
        held: dict[str, bytes] | None = None
        if not self._pool.shares_files:
            chunk, held = self._with_files(chunk)
        names = [str(self._traces[at]) for at in chunk]
        self._asked[self._pool.ask(task("traces", {"names": names, "files": held}))] = chunk

    def _with_files(self, chunk: list[int]) -> tuple[list[int], dict[str, bytes]]:
        """Return as much of a chunk as goes into one message, and the files that go along."""
        held: dict[str, bytes] = {}
        size = 0
        for done, at in enumerate(chunk):
            of_trace = _files_of(self._traces[at])
            size += sum(map(len, of_trace.values()))
            if held and size > MAX_SENT_BYTES:
                self._todo.appendleft(chunk[done:])
                return chunk[:done], held
            held |= of_trace
        return chunk, held

    def _take(self, chunk: list[int], answer: Any) -> None:
        for at, results in zip(chunk, answer, strict=True):
            trace = self._traces[at]
            self.found[at] = [
                Result(trace, **dict(zip(_SENT, each, strict=True))) for each in results
            ]

    def _lost(self, chunk: list[int], lost: Lost) -> None:
        """Ask for each trace of a chunk once more, alone; give up one that was asked for so."""
        first = chunk[0]
        if len(chunk) == 1 and (first in self._again or lost.often > 1):
            self.found[first] = [_given_up(self._traces[first], lost)]
            return
        self._again.update(chunk)
        self._todo.extendleft([at] for at in reversed(chunk))


def _given_up(trace: Where, lost: Lost) -> Result:
    if lost.often > 1:
        got = f"nothing: {lost.how}"
    else:
        got = f"its process lost twice, the last time with {lost.how}"
    return Result(
        trace, "trace", "a judgement", got, None, code=CANNOT_JUDGE,
        why=("where memory ran out: fewer --jobs, or workers with more of it",),
    )  # fmt: skip


def _files_of(trace: Where) -> dict[str, bytes]:
    """Return what a trace is run from: itself, its manifest, its profile's file; by name.

    What is not there or cannot be read is left out: whoever runs it says so.
    """
    manifest = manifest_of(trace)
    profile = None if isinstance(manifest, Result) else manifest.profile_path
    found = {}
    with files.fetching():
        if files.size_of(trace) > MAX_TRACE_BYTES:
            raise UsageError(f"{trace}: more than {MAX_TRACE_BYTES} bytes are not sent")
        for place in (trace, manifest_path(trace), profile):
            if place is not None and files.exists(place):
                found[str(place)] = files.read(place, MAX_TRACE_BYTES)
    return found


def judged(asked: Mapping[str, Any]) -> list[list[list[Any]]]:
    """Return for each trace its results, each as a list: what a task asks for."""
    held = asked["files"]
    with files.holding(held) if held is not None else nullcontext():
        return [
            [[getattr(each, name) for name in _SENT] for each in run_trace(where(name))]
            for name in asked["names"]
        ]
