"""Whatever events a trace holds, and whatever their times: every form takes them, each event once."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings, strategies as st

from tests.support.any_events import EVENTS
from tests.support.exported import export, write
from tests.support.perfetto_reader import by_hand, read
from tests.support.traces import small_header
from tracer.events import kind_name

TIMES = st.lists(st.sampled_from((0, 1, -1, 5, -(2**63), 2**63, 2**64 - 1)), min_size=1, max_size=5)
HEADERS = st.fixed_dictionaries(
    {
        "profile": st.sampled_from(("qemu-7.2.22", "linux-6.1.192", "linux-5.10.223", None)),
        "order": st.sampled_from(("total", "per_cpu")),
        "clock": st.sampled_from(("none", "realtime", "mono")),
    }
)


def timed(events, times):
    return [(event[0], times[at % len(times)], *event[2:]) for at, event in enumerate(events)]


@settings(max_examples=15, deadline=None)
@given(EVENTS.filter(bool), TIMES, HEADERS)
def test_every_form_takes_any_events(events, times, header):
    kinds = Counter(kind_name(event[0]) for event in events)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "a.itstrace", small_header(**header), timed(events, times))
        for form in ("jsonl", "sqlite", "parquet", "ctf", "perfetto"):
            assert export(folder / "a.itstrace", form, folder / form) == 0
        lines = (folder / "jsonl").read_text().splitlines()
        assert Counter(json.loads(line)["kind"] for line in lines) == kinds
        with closing(sqlite3.connect(folder / "sqlite")) as base:
            assert dict(base.execute("SELECT kind, count(*) FROM events GROUP BY kind")) == kinds
        shown = read(by_hand((folder / "perfetto").read_bytes()))
    del kinds["context"]
    drawn = Counter(each.category for each in shown.slices)
    for beside in ("queue", "verdict"):
        del drawn[beside]
    assert drawn == kinds
