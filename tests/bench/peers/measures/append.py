"""(A) Append with integrity, buffered and with one write for each event."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import EVENTS, NAME, RATES, Measure, Row

MANY: Final = 500_000
FEW: Final = 20_000  # of what takes tens of microseconds an event
ONE: Final = {"bound": 1, "variant": "one"}

OURS: Final = Row("itstrace, buffered", "ours", "append", MANY, ours=True)
OURS_ONE: Final = Row("itstrace, a write an event", "ours", "append", 100_000, ONE, ours=True)
COMPILED_ONE: Final = Row(
    "itstrace, compiled, a write an event", "ours", "append", 100_000, ONE, ours=True, compiled=True
)
MCAP: Final = Row("mcap, chunks of 1 MiB, zstd", "mcap_", "append", 200_000)
MCAP_ONE: Final = Row(
    "mcap, a write a message", "mcap_", "append", 100_000, ONE | {"chunk": 0, "codec": "none"}
)
LIMIT: Final = Row("bare msgpack Packer, buffered", "bare", "append", MANY)

MEASURE: Final = Measure(
    "A",
    "append",
    "Append with integrity",
    """Events that are in memory go into a new file, up to its clean end; nobody calls fsync. itstrace: frames with
CRCs and a chain of BLAKE2b digests, zstd, buffered as by default (4,096 events, or 100 ms). mcap: CRCs of its chunks
and of its data section; without chunks only the latter, one for the whole file, where itstrace has two and a digest
for each event then. SQLite: checksums in its write-ahead log; in the database there are none, so each row has a
CRC-32 that the bench writes; `synchronous=NORMAL`, a transaction for 1,000 rows or for each. eventsourcing has no
checksums, its versions must be without holes; a save for 1,000 events or for each, of which every one waits for the
disk: it leaves SQLite at `synchronous=FULL`. The bare Packer has nothing.""",
    (
        OURS,
        Row("itstrace, compiled, buffered", "ours", "append", MANY, ours=True, compiled=True),
        OURS_ONE,
        COMPILED_ONE,
        MCAP,
        MCAP_ONE,
        Row("sqlite3, 1,000 a transaction", "sqlite_", "append", 200_000),
        Row("sqlite3, a transaction an event", "sqlite_", "append", FEW, ONE),
        Row("eventsourcing, 1,000 a save", "eventsourcing_", "append", FEW),
        Row("eventsourcing, a save an event", "eventsourcing_", "append", 500, ONE),
        LIMIT,
        Row("bare Packer, a write an event", "bare", "append", 100_000, ONE),
    ),
    (NAME, EVENTS, *RATES),
)
