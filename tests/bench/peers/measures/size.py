"""(F) Bytes an event."""

from __future__ import annotations

from typing import Any, Final

from tests.bench.peers.measure import EVENTS, NAME, Column, Measure, Row

COUNT: Final = 200_000


def _row(
    name: str, module: str, task: str = "append", *, ours: bool = False, **options: Any
) -> Row:
    count = 20_000 if module == "eventsourcing_" else COUNT
    return Row(name, module, task, count, options, rounds=1, ours=ours)


OURS: Final = _row("itstrace, zstd", "ours", ours=True)
WORN: Final = _row("itstrace, zstd, no two times alike", "ours", ours=True, worn=True, variant="w")
BYTES: Final = Column("bytes an event", lambda row, got: f"{got[0]['bytes'] / row.count:.2f}")

MEASURE: Final = Measure(
    "F",
    "size",
    "Bytes an event",
    """The size of the file over its events. The capture has 604 of them, so that 4,096 hold it six times and a codec
finds that: *no two times alike* has another time at every event, within a tenth of the recorded one, which is nearer
to what a long life compresses to. What a write for each event costs is the price of E.""",
    (
        OURS,
        WORN,
        _row("itstrace, zlib", "ours", ours=True, codec="zlib", variant="z"),
        _row("itstrace, uncompressed", "ours", ours=True, codec="none", variant="n"),
        _row("itstrace, a write an event", "ours", ours=True, bound=1, variant="one"),
        _row("mcap, zstd", "mcap_"),
        _row("mcap, zstd, no two times alike", "mcap_", worn=True, variant="w"),
        _row("mcap, a write a message", "mcap_", bound=1, chunk=0, codec="none", variant="one"),
        _row("sqlite3", "sqlite_"),
        _row("eventsourcing", "eventsourcing_"),
        _row("CTF, the leanest", "babeltrace"),
        _row("CTF, `itstrace export`", "babeltrace", "export", variant="exported"),
        _row("bare msgpack", "bare"),
        _row("bare msgpack, zstd over all", "bare", "compressed"),
        _row("the same, no two times alike", "bare", "compressed", worn=True),
    ),
    (NAME, EVENTS, BYTES),
)
