"""DuckDB, a column store: the same columns that SQLite has, in a file of its own with block checksums."""

from __future__ import annotations

import csv
from pathlib import Path

import duckdb

from tests.bench.peers.job import Job

_GROUP = """SELECT kind, first, count(*), sum(dt_ns)::HUGEINT FROM events GROUP BY kind, first
            ORDER BY kind, first"""
_TABLE = "CREATE TABLE events (kind UTINYINT, dt_ns BIGINT, first UBIGINT)"


def columns(job: Job) -> None:
    """Write the events as CSV, which it reads best of what a standard library writes, and load it."""
    path = _csv(job)
    with path.open("w", newline="") as out:
        csv.writer(out).writerows(event[:3] for event in job.stream())
    _load(job)
    job.tell_size(job.path)


def _csv(job: Job) -> Path:
    return job.path.with_suffix(".csv")


def _load(job: Job) -> None:
    job.path.unlink(missing_ok=True)
    with duckdb.connect(str(job.path)) as base:
        base.execute(_TABLE)
        base.execute(f"COPY events FROM '{_csv(job)}' (HEADER false)")


def _query(job: Job) -> None:
    with duckdb.connect(str(job.path), read_only=True) as base:
        rows = base.execute(_GROUP).fetchall()
    job.tell(groups=[[int(value) for value in row] for row in rows])


def group(job: Job) -> None:
    """The query alone, threads as it likes."""
    with job.timed():
        _query(job)


def load_and_group(job: Job) -> None:
    """With the loading that somebody does who has a log."""
    with job.timed():
        _load(job)
        _query(job)
