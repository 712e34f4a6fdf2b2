"""An oracle over several processes, each with a copy of the oracle that it is made of.

Only large candidates are worth sending: small ones are answered here. Who answers never changes
what is answered. A worker that is lost takes its candidate with it once; a candidate that loses
two counts as one that does not show the bug, and is named. Counterpart: `model_oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Final

import msgpack

from replay.minimize.model_oracle import ModelOracle
from replay.minimize.oracle import Candidate
from replay.minimize.speaks import Thing
from replay.workers import Worker
from tracer.log.header import Header

WORTH_SENDING: Final = 1500  # events of a candidate
MAX_SECONDS: Final = 120  # a candidate takes; a worker that needs more is lost
_MAX_LOST: Final = 2  # workers that one candidate may cost


class Crew:
    """A model oracle that asks for several large candidates at once."""

    def __init__(self, oracle: ModelOracle, header: Header, jobs: int) -> None:
        """`header` is that of the original: candidates differ from it in the VM's size only."""
        self._oracle = oracle
        self._header = header
        self._jobs = jobs
        self._workers: list[Worker] = []
        self._large = False
        self.signature = oracle.signature
        self.lost: list[str] = []  # what became of candidates that nobody could answer

    @property
    def at_once(self) -> int:
        """As many as there are processes, while candidates are large."""
        return self._jobs if self._large else 1

    def shows(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Return for each candidate whether it shows the bug."""
        self._large = self._jobs > 1 and any(
            len(each.events) >= WORTH_SENDING for each in candidates
        )
        if len(candidates) < 2 or not self._large:
            return self._oracle.shows(candidates)
        answers: list[bool] = []
        for at in range(0, len(candidates), self._jobs):
            answers += self._together(candidates[at : at + self._jobs])
        return answers

    def about(self, candidate: Candidate) -> int | None:
        """Return the index of the event at which the signature shows."""
        return self._oracle.about(candidate)

    def places(self, candidate: Candidate) -> tuple[int, ...]:
        """Return all events at which the original shows it."""
        return self._oracle.places(candidate)

    def concerns(self, candidate: Candidate) -> tuple[Thing, ...]:
        """Return what that event speaks of."""
        return self._oracle.concerns(candidate)

    def became(self, candidate: Candidate) -> str:
        """Return what a candidate shows instead."""
        return self._oracle.became(candidate)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _together(self, candidates: Sequence[Candidate]) -> list[bool]:
        """Ask each worker for one candidate."""
        answers: list[bool | None] = [None] * len(candidates)
        for _ in range(_MAX_LOST):
            open_ones = [at for at, each in enumerate(answers) if each is None]
            while len(self._workers) < len(open_ones):
                self._workers.append(Worker.started(_serve, self._oracle, self._header))
            asked = dict(zip(open_ones, list(self._workers), strict=False))
            for at, worker in asked.items():
                worker.send(_packed(candidates[at]))
            for at, worker in asked.items():
                answers[at] = self._received(worker)
        for at, answer in enumerate(answers):
            if answer is None:
                events = len(candidates[at].events)
                self.lost.append(f"a candidate of {events} events cost {_MAX_LOST} workers")
        return [bool(each) for each in answers]

    def _received(self, worker: Worker) -> bool | None:
        """Return an answer; None when the worker was lost, which is then let go."""
        with suppress(OSError, EOFError):
            if wait([worker.pipe], MAX_SECONDS):
                return worker.pipe.recv_bytes(1) == b"\x01"
        worker.let_go()
        self._workers.remove(worker)
        return None


def _packed(candidate: Candidate) -> bytes:
    header = candidate.header
    packed: bytes = msgpack.packb(
        [header.cpus, header.mpidrs, header.ram_ranges, candidate.events], use_bin_type=True
    )
    return packed


def _serve(oracle: ModelOracle, header: Header, pipe: Connection, others_end: Connection) -> None:
    """Answer until the pipe ends."""
    others_end.close()
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            cpus, mpidrs, ranges, events = msgpack.unpackb(
                pipe.recv_bytes(), use_list=False, strict_map_key=False
            )
            candidate = Candidate(
                replace(
                    header, cpus=cpus, mpidrs=mpidrs and list(mpidrs),
                    ram_ranges=ranges and [list(each) for each in ranges],
                ),
                events,
            )  # fmt: skip
            pipe.send_bytes(b"\x01" if oracle.shows([candidate])[0] else b"\x00")
