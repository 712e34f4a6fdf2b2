"""Three ways to make the same trace smaller, of which two start a QEMU for each candidate.

One of these has itstrace's search, which knows what an ITS is; the other is how QEMU's scripts/oss-fuzz/minimize_qtest_trace.py goes about it, told again from its
description: leave out lines, twice as many after each success and one after a failure, and start QEMU anew
for every candidate, until a whole pass changes nothing.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from replay.minimize.case import Told, open_case
from replay.minimize.lockstep_oracle import LockstepOracle
from replay.minimize.oracle import Candidate
from replay.minimize.run import Result, minimize
from replay.targets.spec import Targets, parse
from tests.bench.peers import needle
from tests.bench.peers.contestants.qemu import machine
from tests.bench.peers.job import Job

ON_TARGETS = "divergent:mem.read:value"  # as lockstep spells the signature


def ours(job: Job) -> None:
    """On the model, with the first replay, which finds out how the trace shows its signature."""
    planted = needle.planted(job.options["noise"])
    with job.timed():
        opened = open_case(planted, needle.FIXED, Told(needle.SIGNATURE, (needle.BUGGY,)))
        result = minimize(opened.candidate, opened.oracle)
    _tell(job, planted, result)


def ours_on_qemu(job: Job) -> None:
    """The same search, asking a QEMU beside a model of the old one."""
    planted = needle.planted(job.options["noise"])
    with Targets() as targets, job.timed():
        specs = [parse("model:qemu-6.2"), parse("qemu")]
        oracle = LockstepOracle(targets, specs, planted, ON_TARGETS)
        result = minimize(oracle.first, oracle)
    _tell(job, planted, result)


def _tell(job: Job, planted: Candidate, result: Result) -> None:
    lines, answer = needle.qtest_lines(result.candidate)
    job.tell(
        before=len(needle.qtest_lines(planted)[0]), lines=len(lines), tests=result.count.asked,
        shown=_differs(lines, answer),
    )  # fmt: skip


def start_for_each(job: Job) -> None:
    """A process of QEMU for each candidate."""
    lines, answer = needle.qtest_lines(needle.planted(job.options["noise"]))
    tests = 0

    def shows(candidate: list[str]) -> bool:
        nonlocal tests
        tests += 1
        return _differs(candidate, answer)

    with job.timed():
        least = _without_lines(lines, shows)
    job.tell(before=len(lines), lines=len(least), tests=tests, shown=_differs(least, answer))


def _without_lines(lines: list[str], shows: Callable[[list[str]], bool]) -> list[str]:
    """Leave out lines before the last one until a pass over them all finds none that can go."""
    changed = True
    while changed:
        changed, at, step = False, 0, 1
        while at < len(lines) - 1:
            fewer = lines[:at] + lines[min(at + step, len(lines) - 1) :]
            if shows(fewer):
                lines, changed, step = fewer, True, 2 * step
            elif step > 1:
                step = 1
            else:
                at += 1
    return lines


def _differs(lines: list[str], recorded: str) -> bool:
    """Return whether a new QEMU answers the last line otherwise than was recorded."""
    command = [*machine(), "-qtest", "stdio", "-qtest-log", "/dev/null"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in lines]
        process.kill()
    return bool(answers[-1]) and answers[-1].decode().strip() != recorded
