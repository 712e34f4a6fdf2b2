"""Several processes: the same answers, and a worker that is lost."""

from __future__ import annotations

import os
import signal

import pytest

from replay.minimize import crew
from replay.minimize.case import open_case
from replay.minimize.crew import Crew
from replay.minimize.run import minimize
from tests.support.compiled import pure_only
from tests.support.planted import cases, name_of, plant


@pytest.fixture(scope="module")
def planted():
    (chosen,) = (each for each in cases() if name_of(*each).startswith("S10"))
    return plant(*chosen, events=2500)


@pytest.fixture
def opened(planted, monkeypatch):
    monkeypatch.setattr(crew, "WORTH_SENDING", 20)
    return open_case(planted.large, planted.profile, planted.told)


def test_three_processes_answer_as_one_does(planted, opened):
    alone = minimize(opened.candidate, opened.oracle)
    together = Crew(opened.oracle, planted.large.header, 3)
    try:
        result = minimize(opened.candidate, together)
        assert len(together._workers) == 3
    finally:
        together.close()
    assert result.candidate == alone.candidate
    assert result.count == alone.count
    assert together.lost == []


def test_a_lost_worker_costs_its_candidate_a_second_one(opened):
    together = Crew(opened.oracle, opened.candidate.header, 2)
    half = opened.candidate._replace(events=opened.candidate.events[:30])
    try:
        assert together.shows([opened.candidate, half]) == [True, False]
        os.kill(together._workers[0].process.pid, signal.SIGKILL)
        together._workers[0].process.join()
        assert together.shows([opened.candidate, half]) == [True, False]
        assert together.lost == []
    finally:
        together.close()


@pure_only
def test_a_candidate_that_kills_every_worker_shows_nothing_and_is_named(opened, monkeypatch):
    monkeypatch.setattr(opened.oracle, "shows", lambda _: os._exit(1))
    together = Crew(opened.oracle, opened.candidate.header, 2)
    try:
        assert together.shows([opened.candidate, opened.candidate]) == [False, False]
        assert len(together.lost) == 2
        assert together.lost[0].endswith("cost 2 workers")
    finally:
        together.close()


@pure_only
def test_a_worker_that_does_not_answer_is_lost(opened, monkeypatch):
    monkeypatch.setattr(crew, "MAX_SECONDS", 0.1)
    monkeypatch.setattr(opened.oracle, "shows", lambda _: signal.pause())
    together = Crew(opened.oracle, opened.candidate.header, 2)
    try:
        assert together.shows([opened.candidate, opened.candidate]) == [False, False]
        assert together._workers == []
    finally:
        together.close()
