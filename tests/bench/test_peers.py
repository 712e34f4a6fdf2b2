"""The bench itself: that it would notice a contestant that does other work, and says which aims are missed."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from tests.bench.peers import page, workload
from tests.bench.peers.aims import AIMS, key
from tests.bench.peers.asking import ROOT
from tests.bench.peers.contestants import bare, ours, sqlite_
from tests.bench.peers.expected import Disagreement, check
from tests.bench.peers.job import Job
from tests.bench.peers.measure import times_as_long
from tests.bench.peers.measures import append, killed, memory, read, replay, size
from tests.bench.peers.next_steps import NEXT
from tests.bench.peers.run import MEASURES
from tracer.events import NUMBER

COUNT = 1500
CONTESTANTS = ROOT / "tests" / "bench" / "peers" / "contestants"
FILES = {"ours": ours, "bare": bare, "sqlite_": sqlite_}


def asked(tmp_path, name, task, **options):
    job = Job(tmp_path, name, COUNT, options)
    getattr(FILES[name], task)(job)
    return job.facts


@pytest.mark.parametrize("name", FILES)
def test_contestants_without_packages_of_their_own_saw_the_events(tmp_path, name):
    asked(tmp_path, name, "append")
    for task in ("read", "replay"):
        row = replace(read.OURS, name=name, count=COUNT)
        check(row, asked(tmp_path, name, task, check=True))


def test_groups_are_the_same_in_a_loop_and_in_sql(tmp_path):
    asked(tmp_path, "ours", "append")
    asked(tmp_path, "sqlite_", "columns", variant="columns")
    row = replace(read.OURS, count=COUNT)
    for name, variant in (("ours", "plain"), ("sqlite_", "columns")):
        found = asked(tmp_path, name, "group", variant=variant)
        assert len(found["groups"]) > 20
        check(row, found)


def test_a_contestant_that_saw_other_events_ends_the_run():
    events = list(workload.stream(COUNT))
    row = replace(read.OURS, count=COUNT)
    check(row, {"told": list(workload.told(events))})
    short, swapped = events[:-1], [*events[:-2], events[-1], events[-2]]
    other = [*events[:-1], (*events[-1][:-1], events[-1][-1] + 1)]
    for wrong in (short, swapped, other):
        with pytest.raises(Disagreement):
            check(row, {"told": list(workload.told(wrong))})
    with pytest.raises(Disagreement):
        check(row, {"final": workload.folded(_without_the_last_write(events)).final})
    with pytest.raises(Disagreement):
        check(row, {"registers": {"GITS_CTLR": "0x0"}})


def _without_the_last_write(events):
    last = max(at for at, event in enumerate(events) if event[0] == NUMBER["command"])
    return events[:last] + events[last + 1 :]


def test_behind_a_kill_the_first_events_count_and_no_others():
    events = list(workload.stream(COUNT))
    row = replace(read.OURS, count=COUNT, options={"kill": True})
    check(row, {"told": list(workload.told(events[:900]))})
    check(row, {"told": [0, 0]})
    with pytest.raises(Disagreement):
        check(row, {"told": list(workload.told(events[1:900]))})


def test_every_row_names_a_task_that_its_contestant_has():
    for measure in MEASURES:
        for row in measure.rows:
            tree = ast.parse((CONTESTANTS / f"{row.module}.py").read_text())
            has = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert {row.task, *row.before} <= has, row
        keys = [key(row) for row in measure.rows]
        assert len(set(keys)) == len(keys)
    assert [measure.letter for measure in MEASURES] == list("ABCDEFGHIJ")


def test_a_next_step_is_one_of_an_aim():
    assert set(NEXT) <= {(aim.letter, aim.what) for aim in AIMS}


def results_with(ratio):
    """Results in which we take `ratio` of what everybody else takes."""
    found: dict = {}
    for measure in (append, read, replay, killed, size, memory):
        rows = found[measure.MEASURE.name] = {}
        for row in measure.MEASURE.rows:
            took = row.count * (ratio if row.ours else 1)
            rows[key(row)] = [
                {"seconds": took, "peak_kib": took, "bytes": 4 * took, "told": [row.count, 0]}
            ]
    return found


def test_aims_are_told_as_reached_and_as_missed():
    fast, slow = results_with(0.01), results_with(3)
    for aim in AIMS:
        if aim.letter != "I" and "replay, times read's time" not in aim.what and aim.letter != "E":
            assert aim.is_reached(aim.figure(fast)), aim.what
            assert not aim.is_reached(aim.figure(slow)), aim.what
        elif aim.letter == "I":
            assert aim.figure(fast) == pytest.approx(10)
            assert not aim.is_reached(aim.figure(fast))
    table = page.aims_table(slow)
    assert "**missed**" in table
    assert "at least 10x | 0.33x" in table


def test_a_ratio_is_of_cpu_time_where_both_tell_it_and_else_of_wall_time():
    row, other = replace(read.OURS, count=10), replace(read.MCAP, count=5)
    ours, theirs = [{"seconds": 9, "cpu": 2}, {"seconds": 8, "cpu": 3}], [{"seconds": 2, "cpu": 4}]
    assert times_as_long(row, ours, other, theirs) == (2 / 10) / (4 / 5)
    service = [{"seconds": 2, "cpu": None}]
    assert times_as_long(row, ours, other, service) == (8 / 10) / (2 / 5)
