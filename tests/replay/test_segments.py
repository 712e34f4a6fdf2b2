"""One trace in segments: what several find is what one finds, and a wrong checkpoint is no answer."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import closing

import pytest

from replay import cli, corpus_jobs, tasks
from replay.corpus import run_trace
from replay.corpus_jobs import run_traces
from replay.engine import Engine
from replay.generator.answers import generate, header_of
from replay.judge import model_of
from replay.pools import Processes
from replay.profiles import find
from replay.segments import run as running
from replay.segments.question import Question
from replay.segments.run import SegmentLost, asked
from replay.segments.work import WrongStart
from replay.timetravel import cache_file, stops, timeline
from replay.timetravel.pace import Pace
from tests.support.here_pool import Here
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError
from tracer.events import NUMBER, make
from tracer.log.opening import open_trace
from tracer.log.stream import Writer

PROFILE = find("linux-6.1.192")[0]
SEED, EVENTS = 5, 100
CHECK = Question(invariants=True)
VERIFY = Question(verify=True, invariants=True)


@pytest.fixture(autouse=True)
def stops_everywhere(monkeypatch, tmp_path):
    """Leave a stop before every input, and keep it however short the trace is."""
    monkeypatch.setattr(timeline, "_BLOCK_EVENTS", 1)
    monkeypatch.setattr(timeline, "MIN_STOPS", 1)
    monkeypatch.setattr(Pace, "wait", lambda self: -1)
    monkeypatch.setattr(running, "_MIN_STOPS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def at_every_stop(monkeypatch):
    monkeypatch.setattr(running, "chosen", lambda kept, line, pool: list(kept))


@pytest.fixture
def busy(tmp_path):
    """A life with resets, saves and restores, played on a profile that has other bugs."""
    return written(tmp_path / "busy.itstrace", generate(SEED, PROFILE, EVENTS))


def written(path, events):
    with path.open("wb", buffering=0) as out:
        writer = Writer(out, header_of(SEED, PROFILE, EVENTS), bound_ms=0, bound_events=20)
        for event in events:
            writer.add(event)
        writer.close()
    return path


def facts(found):
    """Return all that anybody can see of what was found."""
    engine, reader = found.engine, found.reader
    verdicts = found.verifier and (found.verifier.resets, found.verifier.round_trips)
    return (
        engine.tally, engine.seq, engine.lost, engine.unknown_inputs, engine.crash,
        engine.violated, engine.reader.status, reader.problems, reader.chain, verdicts,
        found.digest,
    )  # fmt: skip


def alone(path, question):
    with open_trace(str(path)) as reader:
        model = model_of(reader.header, question.profile_for(reader.header)[0])
        verifier = question.verifier_for(model, reader.header) if question.verify else None
        engine = Engine(reader, model, verifier, invariants=question.invariants)
        engine.run()
        return facts(running.Found(reader, engine, verifier))


def spread(path, question, pool=None):
    with asked(str(path), question, pool or Here()) as found:
        return found.pieces, facts(found)


def assert_in_segments(path, question, **more):
    """Assert that the first time, then in segments, then where files are not shared, all is as in one."""
    wanted = alone(path, question)
    pieces, first = spread(path, question)
    assert (pieces, first) == (1, wanted)
    for shares_files in (True, False):
        pieces, found = spread(path, question, Here(width=4, shares_files=shares_files))
        assert pieces > 5
        assert found == wanted


@pytest.mark.parametrize("question", [CHECK, VERIFY], ids=["check", "verify"])
def test_segments_of_a_life_find_what_one_replay_finds(busy, question):
    assert_in_segments(busy, question)


@pytest.mark.parametrize("name", ["F1", "F4-", "S01-qemu", "S06", "Q7-movall"])
def test_segments_of_bugs_find_them(tmp_path, name):
    for path in sorted(SCENARIOS.glob(f"{name}*.its.txt"))[:1]:
        assert_in_segments(shutil.copy(path, tmp_path), VERIFY)


def test_divergences_and_what_stands_before_them_are_the_same(tmp_path, at_every_stop):
    def answered():
        for event in generate(SEED, PROFILE, EVENTS):
            yield event
            if event[0] == NUMBER["mem.write"]:  # which has no outputs of its own
                yield make("reg.read", 0, offset=0, value=0xDEAD, size=4)

    path = written(tmp_path / "wrong.itstrace", answered())
    tally = alone(path, CHECK)[0]
    assert {len(each.before) for each in tally.divergences} >= {5}
    assert_in_segments(path, CHECK)


@pytest.mark.parametrize("size", [-1, -300])
def test_a_cut_trace_is_as_cut_in_segments(busy, size):
    busy.write_bytes(busy.read_bytes()[:size])
    assert alone(busy, CHECK)[7]
    assert_in_segments(busy, CHECK)


def test_a_damaged_trace_ends_where_it_does_in_one(busy):
    data = bytearray(busy.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    busy.write_bytes(data)
    assert alone(busy, VERIFY)[6] == "damaged"
    assert_in_segments(busy, VERIFY)


@pytest.mark.parametrize("shares_files", [True, False])
def test_a_large_trace_of_a_corpus_is_divided_and_told_as_any(busy, monkeypatch, shares_files):
    monkeypatch.setattr(corpus_jobs, "LARGE_BYTES", 1)
    text = 'expect = "verified"\n[buggy]\nexpect = "stale"\nflags = { mapd_unmap_clears_dte = false }\n'
    busy.with_suffix(".toml").write_text(text)
    wanted = run_trace(busy)
    assert [each.passed for each in wanted].count(False)
    for tasks_asked in (0, 2 * 10):  # the first time there are no checkpoints
        pool = Here(shares_files=shares_files)
        assert list(run_traces([busy], pool)) == [wanted]
        assert len(pool.asked) >= tasks_asked


# -- checkpoints that are wrong


def forged(path, change):
    """Rewrite a cache with our own seal: as a bug of ours would, or a disk that swaps blocks."""
    (states,) = path.parent.glob(f"{path.name}*.states")
    file = cache_file.opened(states)
    with closing(file):
        cache = file.cache
        for stop in cache.course.stops:
            stop.stored = file.stored(stop)
    change(cache.course.stops)
    cache_file.save(states, cache)
    return states


@pytest.mark.parametrize("question", [CHECK, VERIFY], ids=["check", "verify"])
def test_a_checkpoint_of_another_event_is_an_error_that_names_the_file(
    busy, at_every_stop, question
):
    spread(busy, question)

    def swap(kept):
        one, other = kept[len(kept) // 2 : len(kept) // 2 + 2]
        one.stored, other.stored = other.stored, one.stored
        one.size_bytes, other.size_bytes = other.size_bytes, one.size_bytes

    states = forged(busy, swap)
    with pytest.raises(WrongStart, match=f"delete {states}, it is made anew") as told:
        spread(busy, question)
    assert told.value.exit_code == 3
    states.unlink()
    assert spread(busy, question)[1] == alone(busy, question)


def test_one_that_no_model_can_be_in_is_one_too(busy, at_every_stop):
    spread(busy, CHECK)

    def spoil(kept):
        raw = stops.unpacked(kept[20], kept[20].stored)
        kept[20].stored = stops.stored(raw[:-1] + b"\xc1")

    states = forged(busy, spoil)
    with pytest.raises(WrongStart, match=f"a checkpoint cannot be used.*delete {states}"):
        spread(busy, CHECK)


@pytest.mark.parametrize(("field", "value"), [("lost", 1), ("joined", True)])
def test_what_stands_beside_a_state_is_compared_too(busy, at_every_stop, field, value):
    spread(busy, CHECK)
    forged(busy, lambda kept: setattr(kept[20], field, value))
    with pytest.raises(WrongStart, match="is not what leads there"):
        spread(busy, CHECK)


def test_a_damaged_cache_is_made_anew(busy, at_every_stop):
    spread(busy, CHECK)
    (states,) = busy.parent.glob(f"{busy.name}*.states")
    data = bytearray(states.read_bytes())
    data[-1] ^= 1
    states.write_bytes(data)
    assert spread(busy, CHECK) == (1, alone(busy, CHECK))
    assert spread(busy, CHECK)[0] > 1


# -- processes that are lost


def test_a_segment_whose_process_is_lost_is_asked_for_again(busy):
    spread(busy, CHECK)
    pool = Here(loses=[2, 5])
    pieces, found = spread(busy, CHECK, pool)
    assert found == alone(busy, CHECK)
    assert len(pool.asked) == pieces + 2


def test_one_that_costs_process_after_process_is_named(busy, capsys):
    spread(busy, CHECK)
    with pytest.raises(SegmentLost, match=r"the events from .* on cost 4 processes") as told:
        spread(busy, CHECK, Here(loses=[3], often=4))
    assert told.value.exit_code == 4


def test_a_worker_with_other_sources_carries_out_nothing(busy, monkeypatch):
    spread(busy, CHECK)
    real = tasks.answer
    pool = Here()

    def elsewhere(task):
        monkeypatch.setattr(tasks, "sources", lambda: b"another")
        try:
            return real(task)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(tasks, "answer", elsewhere)
    with pytest.raises(tasks.OtherSources, match="install the same on all machines"):
        spread(busy, CHECK, pool)


def test_a_real_process_that_is_killed_changes_nothing(busy):
    spread(busy, CHECK)
    with closing(Processes(2)) as pool:
        real, killed = pool.answer, []

        def answer():
            found = real()
            if not killed:
                worker, _ = next(iter(pool._busy.values()))
                os.kill(worker.process.pid, signal.SIGKILL)
                killed.append(worker)
            return found

        pool.answer = answer
        assert spread(busy, CHECK, pool)[1] == alone(busy, CHECK)
        assert killed


# -- the command line


@pytest.mark.parametrize(
    "words", [["check", "--digest"], ["check", "--json"], ["verify", "--json"]]
)
def test_the_command_prints_the_same_bytes(busy, capsys, words):
    told = []
    for more in ([], ["--jobs", "2"], ["--jobs", "2"]):
        code = cli.main([*words, str(busy), *more])
        told.append((code, *capsys.readouterr()))
    assert told[0] == told[1] == told[2]
    assert list(busy.parent.glob(f"{busy.name}*.states"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["check", "-", "--jobs", "2"], "standard input is for one process"),
        (["check", "x.itstrace", "--jobs", "0"], "--jobs must be 1 to 256, not 0"),
        (["check", "x.itstrace", "--jobs", "2", "--cluster", "a:1"], "give one"),
        (["verify", "x.itstrace", "-f", "--jobs", "2"], "--follow is for one process"),
        (["verify", "x.itstrace", "--on", "qemu", "--jobs", "2"], "--on is for one process"),
    ],
)
def test_what_cannot_be_spread_says_so(capsys, words, why):
    assert cli.main(words) == UsageError.exit_code
    assert why in capsys.readouterr().err


def test_a_verifier_of_another_strictness_has_checkpoints_of_its_own(busy):
    spread(busy, VERIFY)
    strict = Question(verify=True, strict=True, invariants=True)
    assert spread(busy, strict) == (1, alone(busy, strict))
    assert spread(busy, VERIFY)[0] > 1
