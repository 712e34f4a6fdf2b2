"""`itstrace corpus run --jobs`: the same bytes as from one process, and processes that are lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from replay import cli, corpus_jobs
from replay.corpus import find_traces, run_trace
from replay.corpus_jobs import run_traces
from replay.pools import Processes
from tests.support.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
LIFE = "F1-lpi-outlives-ctrl-reset"
COUNT = 40  # chunks of two, for two processes


@pytest.fixture
def traces(tmp_path):
    """Traces of which each differs in what is said of it."""
    text = (SCENARIOS / f"{LIFE}.its.txt").read_text()
    for at in range(COUNT):
        (tmp_path / f"{at:02}.its.txt").write_text(text)
        if at % 4 == 3:
            continue  # without a manifest
        word = "equal" if at % 4 == 2 else "stale"  # not met, or met
        (tmp_path / f"{at:02}.toml").write_text(f'expect = "{word}"\n')
    return find_traces([str(tmp_path)])


def in_two(traces):
    with closing(Processes(2)) as pool:
        yield from run_traces(traces, pool)


@pytest.fixture
def alone(traces):
    return [run_trace(each) for each in traces]


def test_two_processes_print_the_same_bytes_as_one(traces):
    folder = traces[0].parent
    (folder / "left.toml").write_text('expect = "equal"\n')
    (folder / os.fsdecode(b"\xff.its.txt")).write_text(traces[0].read_text())
    for more in ([], ["--json"]):
        told = []
        for jobs in ("1", "2"):
            words = ["corpus", "run", str(SCENARIOS), str(folder), "--jobs", jobs, *more]
            command = [sys.executable, "-m", "replay.cli", *words]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
            told.append((done.returncode, done.stdout, done.stderr))
        assert told[0] == told[1]
        assert told[0][0] == 1
        assert told[0][1].count(LIFE.encode()) > 0


def test_results_come_in_order_from_processes_of_their_own(traces, alone, monkeypatch):
    mine = os.getpid()

    def elsewhere(trace):
        assert os.getpid() != mine
        return run_trace(trace)

    monkeypatch.setattr(corpus_jobs, "run_trace", elsewhere)
    assert list(in_two(traces)) == alone
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_in_the_middle_changes_nothing(traces, alone):
    found = in_two(traces)
    first = next(found)
    (victim, _) = multiprocessing.active_children()
    os.kill(victim.pid, signal.SIGKILL)
    assert [first, *found] == alone


def test_a_trace_whose_process_is_lost_once_is_run_again(traces, alone, monkeypatch, tmp_path):
    def killed(trace):
        if trace == traces[7] and not (tmp_path / "been").exists():
            (tmp_path / "been").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return run_trace(trace)

    monkeypatch.setattr(corpus_jobs, "run_trace", killed)
    assert list(in_two(traces)) == alone
    assert (tmp_path / "been").exists()


def test_a_trace_that_loses_two_is_named_and_no_other_is(traces, alone, monkeypatch):
    def killed(trace):
        if trace == traces[7]:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_trace(trace)

    monkeypatch.setattr(corpus_jobs, "run_trace", killed)
    found = list(in_two(traces))
    (lost,) = found[7]
    assert (lost.trace, lost.passed, lost.code) == (traces[7], False, 4)
    assert "its process lost twice, the last time with signal 9" in lost.sentence()
    assert found[:7] + found[8:] == alone[:7] + alone[8:]
    assert multiprocessing.active_children() == []


def test_a_bug_of_ours_in_a_process_is_one_here(traces, monkeypatch, capsys):
    monkeypatch.setattr(corpus_jobs, "run_trace", lambda _: 1 // 0)
    told = [cli.main(["corpus", "run", str(traces[0].parent), "--jobs", n]) for n in ("1", "2")]
    assert told == [70, 70]
    assert capsys.readouterr().err.count("ZeroDivisionError: integer division or modulo") == 2


def test_many_small_traces_do_not_cost_a_message_each(monkeypatch):
    asked = []
    answer = Processes.answer
    monkeypatch.setattr(Processes, "answer", lambda self: asked.append(1) or answer(self))
    monkeypatch.setattr(corpus_jobs, "run_trace", lambda _: [])
    assert list(in_two([Path(str(at)) for at in range(1000)])) == [[]] * 1000
    assert sum(asked) <= 1000 / 31 + 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--jobs", "0"], "--jobs must be 1 to 256, not 0"),
        (["--jobs", "257"], "--jobs must be 1 to 256, not 257"),
        (["--jobs", "2", "--matrix"], "not with --target or --matrix"),
        (["--jobs", "2", "--target", "model:linux-6.1.192"], "not with --target or --matrix"),
    ],
)
def test_jobs_that_cannot_be_had(traces, capsys, words, why):
    assert cli.main(["corpus", "run", str(traces[0]), *words]) == 2
    assert why in capsys.readouterr().err
