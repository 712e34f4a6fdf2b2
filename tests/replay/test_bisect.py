"""The first event after which something holds: found by search, by scan, and never a later one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from replay import bisect
from replay.bisect import ASSUMED, NOT_MONOTONE, NOTED, SCAN, SEARCH
from replay.engine import Engine
from replay.generator.answers import generate, header_of
from replay.held import Looking, last_held, shown
from replay.judge import model_of
from replay.model.kvm.vm import KvmVm
from replay.predicate import compile_predicate
from replay.profiles import find
from replay.timetravel import timeline as timeline_module
from replay.timetravel.timeline import Timeline
from tests.replay.test_timetravel import Everywhere, life, written
from tests.support.captures import TRACES
from tests.support.linear import model_for
from tracer.errors import UsageError
from tracer.log.opening import open_trace

SCENARIOS = sorted((TRACES / "scenarios").glob("*.its.txt"))
F1 = next(path for path in SCENARIOS if path.name.startswith("F1-lpi-outlives"))
PREDICATES = (
    "devices[0x8].valid",
    "devices[0x8].valid changes",
    "devices[0x2005].valid and not devices[0x10].valid",
    "lpis[8193].pending == set",
    "registers.GITS_CTLR.Enabled changes",
    "count(devices) >= 4",
    "collections[2].rdbase == 1",
    "redistributors[1].GICR_CTLR.EnableLPIs",
    "devices[0x4001].events[3].intid == 8260",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _stops_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(timeline_module, "Pace", Everywhere)
    monkeypatch.setattr(timeline_module, "_BLOCK_EVENTS", 61)


def open_at(path) -> Timeline:
    return Timeline(str(path), model_for, keep=False)


def by_hand(path, text):
    """Return every event after which a predicate holds, asked one by one of one replay."""
    held = []
    with open_trace(str(path)) as reader:
        events = [event for _, block in reader for event in block]
        model = model_for(reader.header)
        predicate = compile_predicate(text)
        predicate.begin(model)
        engine = Engine(reader, model)
        waiting = []
        for seq, event in enumerate(events):
            engine.feed(seq, (event,))
            waiting.append(seq)
            if seq + 1 < len(events) and events[seq + 1][0] >= 64 and event[0] < 64:
                continue  # its outputs come first
            if seq + 1 < len(events) and 64 <= events[seq + 1][0] < 128 and engine.held is not None:
                continue
            assert engine.standing
            first = predicate.holds(model)
            still = predicate.still_holds(model) if predicate.changing else first
            held += [at for at in waiting if (first if at == waiting[0] else still)]
            waiting.clear()
    return held


@pytest.mark.parametrize("text", PREDICATES)
@pytest.mark.parametrize("profile", ["linux-6.1.192", "qemu-7.2.22"])
def test_first_last_and_all_are_those_found_by_hand(tmp_path, profile, text):
    path = life(tmp_path, profile, 700)
    expected = by_hand(path, text)
    with open_at(path) as line:
        found = bisect.by_predicate(line, compile_predicate(text), monotone=False)
        assert (found.seq, found.method) == (expected[0] if expected else None, SCAN)
        assert found.monotone == NOT_MONOTONE
        assert last_held(line, compile_predicate(text)) == (expected[-1] if expected else None)
    assert all_shown(path, text) == expected


def all_shown(path, text):
    with open_trace(str(path)) as reader:
        model = model_for(reader.header)
        looking = Looking(compile_predicate(text), model)
        engine = Engine(reader, model, looking)
        looking.begin(reader.header.first_seq)
        frames = (
            [(seq, 0, event) for seq, event in enumerate(events, first)] for first, events in reader
        )
        return [seq for seq, _, _ in shown(frames, engine, looking)]


def mapping_only(tmp_path) -> Path:
    """A trace in which the ITS is enabled in its middle and stays so: that is monotone."""
    profile = find("linux-6.1.192")[0]
    events = list(generate(3, profile, 1500))
    on = next(k for k, e in enumerate(events) if e[0] == 1 and e[2:4] == (0, 1))
    quiet = [e for e in events[:on] if e[0] >= 64 or e[0] == 6] * 40
    rest = [e for e in events if e[0] == 6] * 3
    return written(
        tmp_path / "m.itstrace",
        header_of(3, profile, 1500),
        [*quiet, *events[: on + 2], *rest],
        bound_events=100,
    )


def test_what_is_monotone_is_searched_for(tmp_path):
    path = mapping_only(tmp_path)
    predicate = "registers.GITS_CTLR.Enabled"
    expected = by_hand(path, predicate)[0]
    with open_at(path) as line:
        found = bisect.by_predicate(line, compile_predicate(predicate), monotone=True)
        assert (found.seq, found.method, found.monotone) == (expected, SEARCH, ASSUMED)
        stops = len(line.course.stops)
    assert 2 < found.probes < stops / 2


def test_an_assumption_that_proves_wrong_is_told_and_every_event_looked_at(tmp_path):
    path = life(tmp_path, "linux-6.1.192", 1500)
    wrong = 0
    for text in PREDICATES[3::3]:
        expected = by_hand(path, text)
        with open_at(path) as line:
            found = bisect.by_predicate(line, compile_predicate(text), monotone=True)
        if found.method == SCAN and found.monotone == NOT_MONOTONE:
            assert "proved wrong after event" in found.note or "at the end" in found.note
            assert found.seq == (expected[0] if expected else None)
            wrong += 1
    assert wrong >= 1


@pytest.mark.parametrize(
    ("held", "wrong"), [((2, *range(11, 21)), 2), (range(11, 15), 16), (range(11, 21), None)]
)
def test_an_assumption_is_tried_on_either_side(held, wrong):
    """Between stops 10 and 11 it begins to hold; there are 20, and the end."""
    assert bisect._refuted(lambda at: at in held, 10, 11, 20) == wrong


def test_what_changes_is_not_monotone(tmp_path):
    with open_at(F1) as line, pytest.raises(UsageError, match="`changes` holds at single events"):
        bisect.by_predicate(line, compile_predicate("devices[0].valid changes"), monotone=True)


def test_what_holds_before_anything_happened(tmp_path):
    with open_at(F1) as line:
        found = bisect.by_predicate(line, compile_predicate("count(devices) == 0"), monotone=False)
        assert found.seq == -1


# -- divergences, crashes, invariants, resets


def diverging(tmp_path) -> tuple[Path, dict[str, int]]:
    """A life in which two reads were given other values."""
    profile = find("linux-6.1.192")[0]
    events = list(generate(5, profile, 1500))
    reads = [k for k, e in enumerate(events) if e[0] == 64 and len(e) < 7]
    results = [k for k, e in enumerate(events) if e[0] == 69]
    rng = random.Random(3)
    first, then, result = *sorted(rng.sample(reads[5:], 2)), rng.choice(results[5:])
    for at in (first, then):
        events[at] = (*events[at][:3], events[at][3] ^ 4, *events[at][4:])
    events[result] = (*events[result][:3], events[result][3] ^ 1)
    path = written(tmp_path / "d.itstrace", header_of(5, profile, 1500), events)
    return path, {"reg.read:value": first, "msi.result:result": result}


def test_divergences_are_noted_by_kind(tmp_path):
    path, planted = diverging(tmp_path)
    for kind, seq in [*planted.items(), (None, min(planted.values())), ("reg.read:bad", None)]:
        with open_at(path) as line:
            found = bisect.by_divergence(line, kind)
        assert (found.seq, found.method, found.monotone) == (seq, NOTED, "by construction"), kind
    with open_at(path) as line, pytest.raises(UsageError, match="must be KIND:FIELD, not 'value'"):
        bisect.by_divergence(line, "value")


def test_divergences_that_a_cache_remembers(tmp_path, monkeypatch):
    path, planted = diverging(tmp_path)
    with Timeline(str(path), model_for) as line:
        line.last()
    monkeypatch.setattr(Timeline, "_go_on", lambda *_: pytest.fail("this was replayed before"))
    with Timeline(str(path), model_for) as line:
        assert bisect.by_divergence(line, None).seq == min(planted.values())


def test_the_hosts_death_is_found():
    path = next(path for path in SCENARIOS if "F4-save-after-mapc-unmap" in path.name)
    with Timeline(
        str(path), lambda header: model_of(header, find("linux-6.1.176")[0]), keep=False
    ) as line:
        found = bisect.by_crash(line)
        ((seq, event),) = line.events(found.seq, found.seq)
    assert seq == found.seq
    assert event[0] == 9  # save
    assert found.note.startswith("the host dies in vgic_its_save")
    with open_at(F1) as line:
        assert bisect.by_crash(line).seq is None


def test_a_broken_invariant_is_found_at_the_first_input_that_breaks_it(tmp_path, monkeypatch):
    path = life(tmp_path, "linux-6.1.192", 600)
    violations = KvmVm.violations

    def broken(self):
        yield from violations(self)
        if len(self.state.by_id) == 5:
            yield "five devices"

    with open_at(path) as line:
        assert bisect.by_invariant(line, None).seq is None
    expected = by_hand(path, "count(devices) == 5")[0]
    monkeypatch.setattr(KvmVm, "violations", broken)
    for name, seq in ((None, expected), ("five devices", expected), ("another", None)):
        with open_at(path) as line:
            assert bisect.by_invariant(line, name).seq == seq


def test_a_stale_component_is_found_at_its_reset_with_who_planted_it():
    with open_at(F1) as line:
        found = bisect.by_stale(line, "lpi")
        assert (found.seq, found.method) == (18, SCAN)
        assert found.note == "stale:ctrl_reset:lpi, planted by event 16"
        assert bisect.by_stale(line, "lpis").seq == 18
        assert bisect.by_stale(line, "device").seq is None
        with pytest.raises(UsageError, match=r"a component must be one of .*collection.*, not 'x'"):
            bisect.by_stale(line, "x")
