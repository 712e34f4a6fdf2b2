"""(J) Start-up."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import NAME, Measure, Row, seconds

_SMALL: Final = 604


def _row(name: str, task: str, *, ours: bool = False) -> Row:
    before = ("append",) if task in ("info", "check") else ()
    return Row(name, "starts", task, _SMALL, before=before, ours=ours)


OURS: Final = _row("itstrace --help", "help_", ours=True)

MEASURE: Final = Measure(
    "J",
    "startup",
    "Start-up",
    """From the start of a process to its end (QEMU: to its first answer). `info` and `check` have the capture's 604
events before them; the others only load what a first event needs.""",
    (
        _row("python, doing nothing", "python"),
        OURS,
        _row("itstrace info", "info", ours=True),
        _row("itstrace check", "check", ours=True),
        _row("import mcap.reader", "mcap"),
        _row("import eventsourcing.application", "eventsourcing"),
        _row("import duckdb", "duckdb"),
        _row("import sqlite3", "sqlite3"),
        _row("babeltrace2 --version", "babeltrace2"),
        Row("QEMU, to its first answer", "qemu", "start", _SMALL),
    ),
    (NAME, *seconds("ms", 1000, ".0f")),
)
