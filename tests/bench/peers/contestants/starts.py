"""Processes that do as little as they can."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.peers.contestants import ours
from tests.bench.peers.job import Job

_ITSTRACE = (sys.executable, "-m", "replay.cli")


def append(job: Job) -> None:
    """Make the trace that `info` and `check` are asked about."""
    ours.append(job)


def _run(job: Job, *command: str) -> None:
    with job.timed():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def python(job: Job) -> None:
    _run(job, sys.executable, "-c", "pass")


def help_(job: Job) -> None:
    _run(job, *_ITSTRACE, "--help")


def info(job: Job) -> None:
    _run(job, *_ITSTRACE, "info", str(ours.trace(job)))


def check(job: Job) -> None:
    _run(job, *_ITSTRACE, "check", str(ours.trace(job)))


def mcap(job: Job) -> None:
    _run(job, sys.executable, "-c", "import mcap.reader")


def eventsourcing(job: Job) -> None:
    _run(job, sys.executable, "-c", "import eventsourcing.application")


def duckdb(job: Job) -> None:
    _run(job, sys.executable, "-c", "import duckdb")


def sqlite3(job: Job) -> None:
    _run(job, sys.executable, "-c", "import sqlite3")


def babeltrace2(job: Job) -> None:
    _run(job, "babeltrace2", "--version")
