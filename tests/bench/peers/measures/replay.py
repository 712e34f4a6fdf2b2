"""(C) Replay to the final state."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import EVENTS, NAME, RATES, Measure, Row

MANY: Final = 200_000
OURS: Final = Row("itstrace, the full model", "ours", "replay", MANY, before=("append",), ours=True)
COMPILED: Final = Row(
    "itstrace, compiled", "ours", "replay", MANY, before=("append",), ours=True, compiled=True
)
QEMU: Final = Row("QEMU, write, wait, read", "qemu", "replay", 40_000)
EVENTSOURCING: Final = Row("eventsourcing", "eventsourcing_", "replay", 20_000, before=("append",))

MEASURE: Final = Measure(
    "C",
    "replay",
    "Replay to the final state",
    """From the file to the state after the last event. itstrace runs the whole model of QEMU's ITS and compares every
recorded output with what the model gives. QEMU is the device: it is sent each recorded access as a line of qtest and
answers it, and each command and table is put into its RAM first, as the trace shows them fetched; its events count
as the trace's do, so an input with its outputs takes one answer; the time of its system resets is left out. In batches
is `itstrace run --target qemu`. Its last registers are compared with our model's. All others have no model: they keep the last value of every register and the
number of each command, and must end with the same.""",
    (
        OURS,
        COMPILED,
        QEMU,
        Row("QEMU, in batches", "qemu", "replay_in_batches", 40_000),
        EVENTSOURCING,
        Row("mcap and a dict", "mcap_", "replay", MANY, before=("append",)),
        Row("sqlite3 and a dict", "sqlite_", "replay", MANY, before=("append",)),
        Row("bare Unpacker and a dict", "bare", "replay", MANY, before=("append",)),
    ),
    (NAME, EVENTS, *RATES),
    agree=("final",),
)
