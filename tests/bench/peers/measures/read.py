"""(B) A full read with CRCs and decoding."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import EVENTS, NAME, RATES, Measure, Row

MANY: Final = 500_000
OURS: Final = Row("itstrace", "ours", "read", MANY, before=("append",), ours=True)
UNTYPED: Final = Row(
    "itstrace, types not checked", "ours", "read_untyped", MANY, before=("append",), ours=True
)
COMPILED: Final = Row(
    "itstrace, compiled", "ours", "read", MANY, before=("append",), ours=True, compiled=True
)
MCAP: Final = Row(
    "mcap, `make_reader`", "mcap_", "read", 200_000, {"usual": True}, before=("append",)
)
STREAMING: Final = Row("mcap, `NonSeekingReader`", "mcap_", "read", 200_000, before=("append",))
LIMIT: Final = Row("bare msgpack Unpacker", "bare", "read", MANY, before=("append",))

MEASURE: Final = Measure(
    "B",
    "read",
    "Full read with CRC and decode",
    """Every event of the file as a tuple (eventsourcing: as an object), from a page cache that has it. itstrace checks
CRCs, the chain, and every event's fields and ranges; *types not checked* is the same frames (`Reader.event_frames`)
with `msgpack.unpackb` behind them, which no verb does. mcap: `validate_crcs=True`, the payload with `msgpack.unpackb`; by the
reader that one is given, which sorts by time, and by the one that streams, which is faster and keeps the order. SQLite: `SELECT`, the bench's CRC of each row, `msgpack.unpackb`. babeltrace2 is C, is a process with its start, and
its CTF has no checksums: once it decodes and counts, once it prints to nowhere; of `export --to ctf`, which names and
fills every field, and of mcap's sorted reader only the number of events is compared. Every other contestant proves once that it
saw the same events: their number, and a CRC-32 over all of them in order.""",
    (
        OURS,
        COMPILED,
        UNTYPED,
        MCAP,
        STREAMING,
        Row("sqlite3", "sqlite_", "read", MANY, before=("append",)),
        Row("eventsourcing", "eventsourcing_", "read", 20_000, before=("append",)),
        Row("babeltrace2, counts", "babeltrace", "read", MANY, before=("append",)),
        Row("babeltrace2, prints", "babeltrace", "read_text", MANY, before=("append",)),
        Row(
            "babeltrace2, counts `export --to ctf`",
            "babeltrace",
            "read",
            MANY,
            {"variant": "exported", "exported": True},
            before=("export",),
        ),
        LIMIT,
    ),
    (NAME, EVENTS, *RATES),
    agree=("told",),
)
