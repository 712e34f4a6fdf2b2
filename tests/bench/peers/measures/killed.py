"""(E) Events that can be read after SIGKILL."""

from __future__ import annotations

from typing import Any, Final

from tests.bench.peers.measure import EVENTS, NAME, Column, Measure, Row, Samples

COUNT: Final = 10_000


def _row(name: str, module: str, count: int = COUNT, *, ours: bool = False, **options: Any) -> Row:
    return Row(
        name, module, "readable", count, options | {"kill": True}, before=("append",), ours=ours
    )


def readable(row: Row, samples: Samples) -> str:
    return f"{min(sample['told'][0] for sample in samples):,}"


def _default(row: Row, samples: Samples) -> str:
    return f"{samples[0]['default']:,}" if "default" in samples[0] else ""


OURS: Final = _row("itstrace, a write an event", "ours", ours=True, bound=1, variant="k1")

MEASURE: Final = Measure(
    "E",
    "killed",
    "Events readable after SIGKILL",
    f"""The writer kills itself with SIGKILL when it has handed over {COUNT:,} events and closed nothing; the worst of
all rounds. What is read must be the first of these events, to the last byte. mcap is read with `NonSeekingReader`;
the reader that `make_reader` gives wants the summary, which is written last: the second number. At full speed 10,000
events take some milliseconds, so that itstrace's bound of 100 ms never came: of a slower VM that is what is lost.""",
    (
        OURS,
        _row("itstrace, buffered", "ours", ours=True, variant="kb"),
        _row("mcap, a write a message", "mcap_", bound=1, chunk=0, codec="none", variant="k1"),
        _row("mcap, chunks of 4 KiB", "mcap_", chunk=4096, variant="k4"),
        _row("mcap, chunks of 1 MiB", "mcap_", variant="km"),
        _row("sqlite3, a transaction an event", "sqlite_", bound=1, variant="k1"),
        _row("sqlite3, 900 a transaction", "sqlite_", bound=900, variant="kb"),
        _row("eventsourcing, a save an event", "eventsourcing_", 500, bound=1, variant="k1"),
        _row("eventsourcing, 900 a save", "eventsourcing_", bound=900, variant="kb"),
        _row("bare Packer, buffered", "bare", variant="kb"),
    ),
    (NAME, EVENTS, Column("readable", readable), Column("by the default reader", _default)),
)
