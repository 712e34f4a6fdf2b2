"""(I) Peak memory at one million and at ten million events."""

from __future__ import annotations

from typing import Any, Final

from tests.bench.peers.measure import EVENTS, NAME, Measure, Row, fact

SIZES: Final = (1_000_000, 10_000_000)
STREAMED: Final = {"streamed": True}


def _rows(name: str, module: str, task: str, *, ours: bool = False, **more: Any) -> tuple[Row, ...]:
    before = () if task == "append" else ("append",)
    return tuple(
        Row(name, module, task, size, STREAMED | more, before, rounds=1, ours=ours)
        for size in SIZES
    )


APPEND: Final = _rows("itstrace, append", "ours", "append", ours=True)
READ: Final = _rows("itstrace, read", "ours", "read", ours=True)
REPLAY: Final = _rows("itstrace, replay", "ours", "replay", ours=True)

MEASURE: Final = Measure(
    "I",
    "memory",
    "Peak memory",
    """The most resident memory (`VmHWM`) of a process that makes the events as it appends them, or reads them from a file,
interpreter and packages with it. Once each: memory does not waver as time does. eventsourcing holds an aggregate's
events in memory and would write ten million in a quarter of an hour: it is left out.""",
    (
        *APPEND,
        *READ,
        *REPLAY,
        *_rows("mcap, append", "mcap_", "append"),
        *_rows("mcap, read by `NonSeekingReader`", "mcap_", "read"),
        *_rows("sqlite3, append", "sqlite_", "append"),
        *_rows("sqlite3, read", "sqlite_", "read"),
        *_rows("bare Unpacker, read", "bare", "read"),
    ),
    (NAME, EVENTS, fact("MiB", "peak_kib", ".1f", 1 / 1024), fact("s", "seconds", ".1f")),
)
