"""(H) A group-by over all events."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import EVENTS, NAME, RATES, Measure, Row

COUNT: Final = 500_000

OURS: Final = Row("itstrace, a loop", "ours", "group", COUNT, before=("append",), ours=True)
DUCKDB: Final = Row("DuckDB, the query alone", "duckdb_", "group", COUNT, before=("columns",))

MEASURE: Final = Measure(
    "H",
    "group",
    "A group-by over all events",
    """How many events there are of each kind and first field (a register's offset, a device, a cause), and the sum of
their times. itstrace, mcap and the bare Unpacker decode every event and count in a dict. SQLite and DuckDB have
columns that were filled before; *load and query* includes that, from CSV, which somebody must have written.
All of them must give the same groups.""",
    (
        OURS,
        Row("mcap, a loop", "mcap_", "group", 200_000, {"alone": True}, before=("append",)),
        Row("sqlite3, the query alone", "sqlite_", "group", COUNT, {"variant": "columns"}, before=("columns",)),
        DUCKDB,
        Row("DuckDB, load and query", "duckdb_", "load_and_group", COUNT, before=("columns",)),
        Row("bare Unpacker, a loop", "bare", "group", COUNT, before=("append",)),
    ),
    (NAME, EVENTS, *RATES),
    agree=("groups",),
)  # fmt: skip
