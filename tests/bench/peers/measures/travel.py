"""(D) The state at a random event, cold and warm."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import EVENTS, NAME, Measure, Row, fact

PLACES: Final = {"places": 200}
OURS: Final = Row(
    "itstrace, a model's state", "ours", "states", 1_000_000, PLACES, before=("append",), ours=True
)

MEASURE: Final = Measure(
    "D",
    "travel",
    "State at a random event",
    """*First*: nothing but the trace is there; it is replayed to its end once and leaves checkpoints. *Cold*: the trace
is opened with these beside it, for one state. *Warm*: it is open; 200 states at random events, the median and the
worst of a run. eventsourcing has a snapshot for every 1,000 events and no more than 20,000 events, since more take
minutes to write. mcap and SQLite have no states; a dict of their events is measured in C.""",
    (
        OURS,
        Row(
            "eventsourcing, with snapshots", "eventsourcing_", "states", 20_000,
            PLACES | {"snapshots": True, "variant": "snapshots"}, before=("append",),
        ),
    ),
    (
        NAME, EVENTS, fact("first, s", "first", ".2f"), fact("cold, ms", "cold", ".1f", 1000),
        fact("warm, ms", "warm", ".2f", 1000), fact("warm, the worst", "worst", ".1f", 1000),
    ),
)  # fmt: skip
