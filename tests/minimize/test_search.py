"""The search with oracles that say this or that: what it keeps, that it ends, that it repeats."""

from __future__ import annotations

from random import Random

import pytest

from replay.minimize import cuts
from replay.minimize.items import Item
from replay.minimize.journal import Journal
from replay.minimize.oracle import Candidate
from replay.minimize.run import minimize, why
from replay.minimize.script import Script, lift
from replay.minimize.search import Search, cost, digest
from tests.support.planted import read
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.header import Header

S06 = SCENARIOS / "S06-K17-F3-mapd-unmap-leaves-its-entry.its.txt"


class Says:
    """An oracle that says what a function says."""

    signature = "said"

    def __init__(self, says, at_once=1):
        self.says = says
        self.at_once = at_once
        self.asked = []

    def shows(self, candidates):
        self.asked += candidates
        return [self.says(each) for each in candidates]

    def close(self):
        pass


def numbered(*numbers):
    events = tuple(make("msi", 0, device_id=number, event_id=0) for number in numbers)
    return Candidate(Header(), events)


def numbers(candidate):
    return [event[2] for event in candidate.events]


def has(*wanted):
    return lambda candidate: set(wanted) <= set(numbers(candidate))


def test_an_oracle_that_accepts_everything_gives_the_empty_trace():
    result = minimize(read(S06), Says(lambda _: True))
    assert result.candidate.events == ()
    assert result.minimal


def test_an_oracle_that_accepts_nothing_is_told_of():
    with pytest.raises(UsageError, match="does not show said in the first place"):
        minimize(read(S06), Says(lambda _: False))


def test_an_oracle_that_accepts_only_the_original_gives_it_back():
    original = lift(read(S06), outputs=True)
    events = read(S06).events
    raw = {event for event in events if event[0] == 6}
    oracle = Says(
        lambda each: (
            {e for e in each.events if e[0] == 6} == raw and len(each.events) == len(events)
        )
    )
    assert len(minimize(read(S06), oracle).script.items) == len(original.items)


@pytest.mark.parametrize("seed", range(8))
def test_an_oracle_that_answers_at_random_does_not_hang(seed):
    dice = Random(seed)
    first = []

    def says(candidate):
        first.append(candidate)
        return len(first) < 3 or dice.random() < 0.3

    result = minimize(read(S06), Says(says))
    assert len(result.candidate.events) <= len(read(S06).events)


@pytest.mark.parametrize("wanted", [(3,), (0, 99), (17, 18, 19, 50)])
def test_what_is_wanted_stays_and_nothing_else(wanted):
    result = minimize(numbered(*range(100)), Says(lambda c: len(c.events) >= 0 and has(*wanted)(c)))
    assert numbers(result.candidate) == list(wanted)


def test_two_that_need_each_other_go_together():
    def balanced(candidate):
        found = set(numbers(candidate))
        return 1 in found and (2 in found) == (3 in found)

    result = minimize(numbered(1, 2, 3), Says(balanced))
    assert numbers(result.candidate) == [1]


@pytest.mark.parametrize("at_once", [2, 3, 7, 64])
def test_how_many_are_asked_at_once_changes_nothing(at_once):
    alone, together = Says(has(17, 40, 41)), Says(has(17, 40, 41), at_once)
    one = minimize(numbered(*range(60)), alone)
    other = minimize(numbered(*range(60)), together)
    assert one.candidate == other.candidate
    assert one.count == other.count


def test_nothing_is_asked_twice():
    oracle = Says(has(5, 9))
    minimize(numbered(*range(20)), oracle)
    digests = [digest(each) for each in oracle.asked]
    assert len(digests) == len(set(digests))


def test_the_answers_of_a_journal_are_not_asked_for_again():
    journal, oracle = Journal(), Says(has(5, 9))
    first = minimize(numbered(*range(20)), oracle, journal=journal)
    again = Says(has(5, 9))
    assert minimize(numbered(*range(20)), again, journal=journal).candidate == first.candidate
    assert again.asked == []


def test_out_of_time_what_there_is_by_then_comes_back():
    oracle = Says(has(5, 9))
    whole = minimize(numbered(*range(64)), oracle, spent=lambda: True)
    assert (numbers(whole.candidate), whole.minimal) == (list(range(64)), False)
    some = minimize(numbered(*range(64)), oracle, spent=lambda: len(oracle.asked) > 9)
    assert not some.minimal
    assert has(5, 9)(some.candidate)
    assert len(some.candidate.events) < 64


def test_a_script_is_only_replaced_by_a_smaller_one():
    item = Item(make("msi", 0, device_id=1, event_id=0))
    script = Script(Header(), (item,))
    larger = Script(Header(), (Item(make("msi", 0, device_id=3, event_id=0)),))
    assert cost(larger) > cost(script)
    search = Search(script, Says(lambda _: True), Journal())
    assert not search.rewrite([lambda _: larger])
    assert search.best == script


def test_the_last_sweep_says_why_each_item_stays():
    oracle = Says(has(5, 9))
    oracle.became = lambda candidate: f"only {numbers(candidate)}"
    result = minimize(numbered(*range(20)), oracle)
    assert [each.without for each in why(result, oracle)] == ["only [9]", "only [5]"]


def test_units_are_halved_from_the_end():
    units = [frozenset((at,)) for at in range(4)]
    assert list(cuts.halved(units)) == [
        {0, 1, 2, 3}, {2, 3}, {0, 1}, {3}, {2}, {1}, {0},
    ]  # fmt: skip
    assert list(cuts.halved([])) == []
