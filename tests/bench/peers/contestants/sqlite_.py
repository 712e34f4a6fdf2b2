"""Python's sqlite3: write-ahead log, synchronous=NORMAL.

SQLite has checksums in its write-ahead log, which it checks as it recovers; in the database file proper
there are none. So each row has a CRC-32 of its event that the bench writes, and checks as it reads.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack

from tests.bench.peers import workload
from tests.bench.peers.job import Job
from tracer.events import Event

IN_A_TRANSACTION = 1000
_TABLE = "CREATE TABLE events (seq INTEGER PRIMARY KEY, time_ns INTEGER, event BLOB, crc INTEGER)"
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?)"
_COLUMNS = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, kind INTEGER, dt_ns INTEGER, first INTEGER)"
)
_GROUP = """SELECT kind, first, count(*), sum(dt_ns) FROM events GROUP BY kind, first
            ORDER BY kind, first"""


def _opened(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("PRAGMA synchronous = NORMAL")
    return base


def _new(path: Path) -> sqlite3.Connection:
    for each in path.parent.glob(f"{path.name}*"):
        if each.name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            each.unlink()
    return _opened(path)


def _rows(events: Iterator[Event]) -> Iterator[tuple[int, int, bytes, int]]:
    pack, time_ns = msgpack.Packer().pack, 0
    for seq, event in enumerate(events):
        time_ns += event[1]
        packed = pack(event)
        yield seq, time_ns, packed, zlib.crc32(packed)


def append(job: Job) -> None:
    """Options: `bound` 1 is one transaction for each event, otherwise it is one for a thousand."""
    events = job.events()
    size = job.options.get("bound", IN_A_TRANSACTION)
    with job.timed():
        base = _new(job.path)
        base.execute(_TABLE)
        rows = _rows(iter(events))
        while some := list(islice(rows, size)):
            base.execute("BEGIN")
            base.executemany(_INSERT, some)
            if len(some) == size:
                base.execute("COMMIT")
        job.added()
        if base.in_transaction:
            base.execute("COMMIT")
        base.close()
    job.tell_size(job.path)


def _events(base: sqlite3.Connection) -> Iterator[Event]:
    unpack, crc32 = msgpack.unpackb, zlib.crc32
    for packed, crc in base.execute("SELECT event, crc FROM events ORDER BY seq"):
        if crc32(packed) != crc:
            raise ValueError("a row is damaged")
        yield unpack(packed, use_list=False)


def read(job: Job) -> None:
    count = 0
    with job.timed():
        base = _opened(job.path)
        unpack, crc32 = msgpack.unpackb, zlib.crc32
        for packed, crc in base.execute("SELECT event, crc FROM events ORDER BY seq"):
            if crc32(packed) != crc:
                raise ValueError("a row is damaged")
            unpack(packed, use_list=False)
            count += 1
        base.close()
    job.tell(events=count)
    if job.check:
        readable(job)


def readable(job: Job) -> None:
    base = _opened(job.path)
    job.saw(workload.told(_events(base)))
    base.close()


def replay(job: Job) -> None:
    """Keeps the simple state, since it has no model."""
    with job.timed():
        base = _opened(job.path)
        fold = workload.folded(_events(base))
        base.close()
    job.tell(events=job.count, final=fold.final)


def columns(job: Job) -> None:
    """A table whose columns SQL can group by."""
    base = _new(job.path)
    base.execute(_COLUMNS)
    rows: Iterator[Any] = (
        (seq, event[0], event[1], event[2]) for seq, event in enumerate(job.stream())
    )
    base.execute("BEGIN")
    base.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    base.execute("COMMIT")
    base.close()
    job.tell_size(job.path)


def group(job: Job) -> None:
    """The query alone: the columns were filled before."""
    with job.timed():
        base = _opened(job.path)
        found = [list(row) for row in base.execute(_GROUP)]
        base.close()
    job.tell(groups=found)
