"""A state that was travelled to is the one that a replay from the beginning passes through."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing
from operator import add
from pathlib import Path
from threading import Thread

import msgpack
import pytest

from replay import checkpoints, cli
from replay.engine import Engine
from replay.generator.answers import answered, generate, header_of
from replay.held import looked
from replay.judge import model_of
from replay.model.effects import COMMAND
from replay.predicate import compile_predicate
from replay.profiles import find
from replay.timetravel import cache_file, identity, timeline as timeline_module
from replay.timetravel.cache_file import Unusable
from replay.timetravel.moments import changes, resolve
from replay.timetravel.pace import COST_SHARE, SPACING_SECONDS, Pace
from replay.timetravel.timeline import Timeline
from tests.support.busy_lives import BusyGuest, busy_life
from tests.support.captures import TRACES, TWO_BOOTS, trace_bytes
from tests.support.compiled import pure_only
from tests.support.linear import model_for, states
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.opening import open_trace
from tracer.log.stream import Writer
from tracer.log.text import write_text

SCENARIOS = sorted((TRACES / "scenarios").glob("*.its.txt"))
CLASSES = ("matched", "learned", "assumed", "ambiguous", "not_judged", "divergent")


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Everywhere(Pace):
    """A stop at every block that can have one."""

    def wait(self):
        return 0.0


@pytest.fixture(autouse=True)
def _stops_everywhere(monkeypatch):
    monkeypatch.setattr(timeline_module, "Pace", Everywhere)
    monkeypatch.setattr(timeline_module, "_BLOCK_EVENTS", 61)


def open_at(path, **options) -> Timeline:
    return Timeline(str(path), model_for, **options)


def written(path: Path, header, events, *, bound_events=512, checkpoint=None) -> Path:
    with path.open("wb", buffering=0) as out:
        writer = Writer(
            out, header, bound_ms=0, bound_events=bound_events, checkpoint=checkpoint
        )  # fmt: skip
        for event in events:
            writer.add(event)
        writer.close()
    return path


def life(tmp_path, profile="linux-6.1.192", events=1500, seed=3) -> Path:
    return written(
        tmp_path / f"{profile}.itstrace",
        header_of(seed, find(profile)[0], events),
        list(generate(seed, find(profile)[0], events)),
    )


def busy(tmp_path, profile, events=3000) -> Path:
    header, lived = busy_life(profile, 12, events)
    return written(tmp_path / f"busy-{profile}.itstrace", header, list(lived))


def xen(tmp_path) -> Path:
    """A life that the model of Xen answers: there are no recordings of it."""
    profile = find("xen-4.20")[0]
    header = header_of(2, find("qemu-7.2.22")[0], 1500)
    header.profile, header.implementation, header.flags = profile.name, "xen", {}
    guest = BusyGuest(2, 6, kvm=False)
    events = list(answered(guest.lived(1500), model_of(header, profile), frozenset((COMMAND,))))
    return written(tmp_path / "xen.itstrace", header, events[:2500])


def stream(tmp_path) -> Path:
    """What was recorded of a QEMU on a KVM host; vCPUs run, and RAM is observed."""
    path = tmp_path / "stream.itstrace"
    text = TRACES / "kvm-6.1.192-qemu-7.2-system-reset.stream.txt.gz"
    assert cli.main(["import", str(text), "-o", str(path)]) in (0, 3)
    return path


def ring_dump(tmp_path) -> Path:
    """A trace that begins with a checkpoint, in the middle of a life."""
    profile = find("linux-6.1.192")[0]
    header = header_of(7, profile, 2000)
    events = list(generate(7, profile, 2000))
    at = next(k for k in range(1500, len(events)) if events[k][0] < 64)
    whole = written(tmp_path / "whole.itstrace", header, events)
    with open_trace(str(whole)) as reader:
        engine = Engine(reader, model_for(reader.header))
        engine.feed(0, tuple(events[:at]))
        raw = checkpoints.snapshot(engine.model, at, engine.standing)
    header.first_seq = at
    return written(tmp_path / "dump.itstrace", header, events[at:], checkpoint=raw)


def joined(tmp_path) -> Path:
    """A trace that joins a real VM's life in its middle."""
    with open_trace(str(captured(tmp_path, TWO_BOOTS))) as reader:
        header = reader.header
        events = [event for _, block in reader for event in block]
    header.starts = "running"
    at = next(k for k in range(200, len(events)) if events[k][0] < 64)
    return written(tmp_path / "joined.itstrace", header, events[at:], bound_events=64)


def lossy(tmp_path) -> Path:
    """A real VM's life of which events were lost: registers are unknown from there on."""
    with open_trace(str(stream(tmp_path))) as reader:
        header = reader.header
        events = [event for _, block in reader for event in block]
    events.insert(300, make("loss", 0, reason="test", count=3))
    return written(tmp_path / "lossy.itstrace", header, events, bound_events=50)


def cut_anywhere(tmp_path) -> Path:
    """A real QEMU's life in frames that part inputs from their outputs."""
    with open_trace(str(captured(tmp_path, TWO_BOOTS))) as reader:
        events = [event for _, block in reader for event in block]
        return written(tmp_path / "cut.itstrace", reader.header, events, bound_events=13)


def captured(tmp_path, name) -> Path:
    path = tmp_path / "capture.itstrace"
    path.write_bytes(trace_bytes(name))
    return path


def in_text(tmp_path) -> Path:
    with open_trace(str(life(tmp_path))) as reader:
        events = [event for _, block in reader for event in block]
        path = tmp_path / "life.its.txt"
        with path.open("w", encoding="utf-8") as out:
            out.write("")
            write_text(reader.header, enumerate(events), out)
    text = path.read_text().splitlines(keepends=True)
    text.insert(40, "\n## a comment, and an empty line, ümläut\n\n")
    path.write_text("".join(text), encoding="utf-8")
    return path


TRACES_OF = {
    "kvm": life,
    "qemu": lambda tmp_path: life(tmp_path, "qemu-7.2.22"),
    "kvm-busy": lambda tmp_path: busy(tmp_path, "linux-6.1.192"),
    "qemu-busy": lambda tmp_path: busy(tmp_path, "qemu-7.2.22"),
    "ring-dump": ring_dump,
    "kvm-stream": stream,
    "xen": xen,
    "joined": joined,
    "lossy": lossy,
    "two-boots": cut_anywhere,
    "text": in_text,
}


@pytest.mark.parametrize("name", TRACES_OF)
def test_states_equal_those_of_one_replay_from_the_beginning(tmp_path, monkeypatch, name):
    path = TRACES_OF[name](tmp_path)
    with open_at(path) as line:
        first, last = line.header.first_seq, line.last()
        assert len(line.course.stops) >= 3
        rng = random.Random(name)
        places = [rng.randint(first, last) for _ in range(12)]
        ends = [stop.seq + off for stop in line.course.stops[:4] for off in (-2, -1, 0, 1)]
        expected = dict(
            states(str(path), places + [each for each in ends if first <= each <= last])
        )
        assert len(expected) > 12
        for place in rng.sample(list(expected), len(expected)):
            assert line.state_at(place)["digest"] == expected[place], place


@pytest.mark.parametrize("name", TRACES_OF)
def test_a_replay_goes_on_from_a_stop_to_the_end_with_the_same_classes(tmp_path, name):
    """Not only the state: every output behind a stop is judged as in one replay."""
    path = TRACES_OF[name](tmp_path)
    with open_trace(str(path)) as reader:
        whole = Engine(reader, model_for(reader.header)).run()
    expected = tuple(getattr(whole, name) for name in CLASSES)
    with open_at(path) as line:
        end = line.last()
        for stop in random.Random(name).sample(line.course.stops, 3):
            head = tally_to(line, stop.seq)
            tail = tally_from(line, stop, end)
            assert tuple(map(add, head, tail)) == expected


def tally_from(line, stop, end):
    engine = line._resumed(stop)
    engine.run(end)
    return tuple(getattr(engine.tally, name) for name in CLASSES)


def tally_to(line, seq):
    """Count what a replay from the beginning has before event `seq`, an input."""
    engine = line._resumed(None)
    engine.run(seq - 1)
    return tuple(getattr(engine.tally, name) for name in CLASSES)


@pytest.mark.parametrize("path", SCENARIOS[::6], ids=lambda path: path.name)
def test_every_state_of_a_scenario(monkeypatch, path):
    monkeypatch.setattr(timeline_module, "_BLOCK_EVENTS", 1)
    with open_at(path, keep=False) as line:
        last = line.last()
        expected = dict(states(str(path), range(last + 1)))
        for place, digest in expected.items():
            assert line.state_at(place)["digest"] == digest, place


# -- going on


def test_what_was_not_asked_for_is_not_replayed(tmp_path):
    with open_at(life(tmp_path)) as line:
        line.state_at(700)
        assert 700 <= line.course.until < 900
        assert not line.course.complete
        stops = len(line.course.stops)
        line.state_at(2000)
        assert len(line.course.stops) > stops
        line.state_at(200)
        assert line.course.until == 2000


def test_events_that_are_not_there_are_told(tmp_path):
    path = life(tmp_path)
    with open_at(path) as line:
        last = line.last()
        with pytest.raises(UsageError, match=f"the last event is {last}, not {last + 1}"):
            line.state_at(last + 1)
        with pytest.raises(UsageError, match="the first event is 0, not -2"):
            line.state_at(-2)
        assert line.state_at(-1)["seq"] == -1


def test_where_the_host_dies_the_trace_ends():
    path = next(path for path in SCENARIOS if "F4-save-after-mapc-unmap" in path.name)

    def frail(header):
        return model_of(header, find("linux-6.1.176")[0])

    with open_trace(str(path)) as reader:
        engine = Engine(reader, frail(reader.header))
        engine.run()
    with Timeline(str(path), frail, keep=False) as line:
        assert engine.crash
        assert line.last() == engine.crash[0]
        assert line.course.crash == engine.crash
        with pytest.raises(UsageError, match="the last event is"):
            line.state_at(line.last() + 1)


def test_damage_ends_what_can_be_reached(tmp_path):
    path = life(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x40
    path.write_bytes(data)
    with open_at(path) as line:
        last = line.last()
        assert 100 < last < 5000
        assert line.reader.status == "damaged"
        assert line.state_at(last)["seq"] == last


def test_a_pipe_is_copied_before_it_is_travelled_in(tmp_path):
    path = life(tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = Thread(target=lambda: fifo.write_bytes(path.read_bytes()), daemon=True)
    writer.start()
    with open_at(fifo) as line, open_at(path) as other:
        writer.join(10)
        for seq in (2000, 100, 1500):
            assert line.state_at(seq)["digest"] == other.state_at(seq)["digest"]
    assert not list(tmp_path.glob("fifo.*"))


# -- pace


def test_stops_are_as_far_apart_as_they_are_dear():
    pace = Pace()
    assert pace.wait() == SPACING_SECONDS
    pace.paid(0.004, 10_000)
    assert pace.wait() == pytest.approx(COST_SHARE * 0.004)
    pace.paid(0.0001, 1000)
    assert pace.wait() == SPACING_SECONDS
    pace.slower()
    assert pace.wait() == 2 * SPACING_SECONDS


def test_one_slow_stop_does_not_space_out_those_behind_it():
    pace = Pace()
    for _ in range(50):
        pace.paid(0.004, 10_000)
    pace.paid(0.4, 10_000)
    assert pace.wait() < 4 * COST_SHARE * 0.004


@pure_only
def test_stops_cost_at_most_a_quarter_by_any_clock(tmp_path, monkeypatch):
    """A clock that counts what is done, not time: blocks cost 1, a stop costs 3."""
    monkeypatch.setattr(timeline_module, "Pace", Pace)
    path = busy(tmp_path, "linux-6.1.192")
    spent = {"replay": 0.0, "stops": 0.0}
    with Timeline(str(path), model_for, clock=lambda: sum(spent.values())) as line:
        leave, feed = Timeline._leave_stop, Engine.feed

        def leaving(*args):
            spent["stops"] += 3 * SPACING_SECONDS
            return leave(*args)

        def feeding(*args):
            spent["replay"] += SPACING_SECONDS
            feed(*args)

        monkeypatch.setattr(Timeline, "_leave_stop", leaving)
        monkeypatch.setattr(Engine, "feed", feeding)
        line.last()
        assert len(line.course.stops) >= 2
        assert spent["stops"] <= spent["replay"] / 4


def test_too_many_stops_are_thinned_out(tmp_path, monkeypatch):
    monkeypatch.setattr(timeline_module, "_BLOCK_EVENTS", 20)
    monkeypatch.setattr(timeline_module, "MAX_STOPS", 40)
    path = life(tmp_path)
    with open_at(path) as line:
        last = line.last()
        assert 10 <= len(line.course.stops) < 40
        expected = dict(states(str(path), range(0, last, 300)))
        assert {seq: line.state_at(seq)["digest"] for seq in expected} == expected


def test_a_state_too_large_for_a_stop_is_replayed_to(tmp_path, monkeypatch):
    path = life(tmp_path)
    monkeypatch.setattr("tracer.log.format.MAX_CHECKPOINT_BYTES", 10)
    with open_at(path) as line:
        last = line.last()
        assert line.course.stops == []
        assert dict(states(str(path), [last // 2])) == {
            last // 2: line.state_at(last // 2)["digest"]
        }


# -- the cache


def caches(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.states"))


def kept(tmp_path, monkeypatch) -> Path:
    """Return a trace that has a cache beside it, and is old enough to be known by its stamp."""
    path = life(tmp_path)
    monkeypatch.setattr(cache_file, "TICK_NS", 0)
    with open_at(path) as line:
        line.last()
    assert len(caches(path)) == 1
    return path


def used(path, **options) -> Timeline | None:
    """Return whether a new timeline takes over what a cache has."""
    with open_at(path, **options) as line:
        return bool(line.course.stops)


def test_a_cache_is_used_and_may_be_deleted(tmp_path, monkeypatch):
    path = kept(tmp_path, monkeypatch)
    monkeypatch.setattr(Timeline, "_go_on", lambda *_: pytest.fail("this was replayed before"))
    with open_at(path) as line:
        digest = line.state_at(2000)["digest"]
        assert line.resets() == line.course.resets
        assert line.course.complete
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for each in caches(path):
        each.unlink()
    assert not used(path)
    with open_at(path) as line:
        assert line.state_at(2000)["digest"] == digest
    assert not used(path, keep=False)


def test_what_ails_a_trace_is_told_from_a_cache_too(tmp_path):
    path = life(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    for stops in (False, True):
        with open_at(path) as line:
            assert bool(line.course.stops) == stops
            engine = line.engine_at()
            assert line.reader.status == "cut"
            assert engine.seq == line.last()


@pytest.mark.parametrize("most", [8192, 30])
def test_a_cache_that_ends_in_the_middle_is_gone_on_with(tmp_path, monkeypatch, most):
    path = life(tmp_path)
    with open_at(path) as line:
        line.state_at(1300)
        assert not line.course.complete
    assert len(caches(path)) == 1
    monkeypatch.setattr(timeline_module, "MAX_STOPS", most)
    with open_at(path) as line:
        assert len(line.course.stops) >= 16
        last = line.last()
        expected = dict(states(str(path), range(0, last, 250)))
        assert {seq: line.state_at(seq)["digest"] for seq in expected} == expected
    with open_at(path) as line:
        assert line.course.complete
        assert 16 <= len(line.course.stops) < most
        assert {seq: line.state_at(seq)["digest"] for seq in expected} == expected


def test_a_short_trace_leaves_no_cache(tmp_path):
    path = Path(shutil.copy(SCENARIOS[0], tmp_path))
    with open_at(path) as line:
        line.last()
    assert [each.name for each in tmp_path.iterdir() if each.name != "cache"] == [path.name]


def test_a_cache_goes_to_the_users_folder_where_the_traces_is_read_only(tmp_path, monkeypatch):
    path = life(tmp_path)
    save, places = cache_file.save, []

    def refusing(where, *args):
        places.append(where)
        if where.parent == path.parent:
            raise PermissionError(13, "Permission denied")
        save(where, *args)

    monkeypatch.setattr(timeline_module, "save", refusing)
    with open_at(path) as line:
        line.last()
    assert caches(path) == []
    assert [each.suffix for each in (tmp_path / "cache" / "itstrace").iterdir()].count(
        ".states"
    ) == 1
    assert used(path)
    assert len(places) == 2


def test_without_any_place_it_is_told_and_nothing_else_happens(tmp_path, monkeypatch):
    path = life(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    said: list[str] = []
    with open_at(path, tell=said.append) as line:
        line.last()
        assert line.state_at(10)["seq"] == 10
    assert any("cannot be kept" in each for each in said)


@pytest.mark.parametrize("touched", [True, False])
def test_a_changed_trace_uses_no_old_cache(tmp_path, monkeypatch, touched):
    """One event's value, of the same size; its times of change are set back to what they were."""
    path = kept(tmp_path, monkeypatch)
    before = path.stat()
    with open_at(path) as line:
        old = line.state_at(2000)["digest"]
    profile = find("linux-6.1.192")[0]
    other = written(
        tmp_path / "other.itstrace", header_of(3, profile, 1500),
        list(generate(4, profile, 2000)),
    )  # fmt: skip
    data = other.read_bytes()[: before.st_size].ljust(before.st_size, b"\0")
    with path.open("r+b") as out:
        out.write(data)
    if touched:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert not used(path)
    with open_at(path) as line:
        assert line.state_at(2000)["digest"] != old


def test_a_growing_trace_uses_no_old_cache(tmp_path, monkeypatch):
    path = kept(tmp_path, monkeypatch)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with open_at(path) as line:
        short = line.last()
    path.write_bytes(data)
    with open_at(path) as line:
        assert line.last() > short


def test_a_copied_trace_with_its_cache_is_known_by_its_bytes(tmp_path, monkeypatch):
    path = kept(tmp_path, monkeypatch)
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in (path, *caches(path)):
        shutil.copy(each, copy)
    assert used(copy / path.name)


def test_a_trace_that_was_just_written_is_known_by_its_bytes_alone(tmp_path, monkeypatch):
    path = life(tmp_path)
    with open_at(path) as line:
        line.last()
    with closing(cache_file.opened(caches(path)[0])) as file:
        assert file.cache.stamp is None
    assert used(path)


@pytest.mark.parametrize("changed", ["sources", "flag", "cpus"])
def test_another_model_uses_no_old_cache(tmp_path, monkeypatch, changed):
    path = kept(tmp_path, monkeypatch)

    def make(header):
        if changed == "cpus":
            header.cpus = 2
            header.mpidrs = None
        if changed == "flag":
            header.flags = {"discard_clears_ite": [False, "measured"]}
        return model_for(header)

    if changed == "sources":
        monkeypatch.setattr(identity, "sources", lambda: b"another")
    with Timeline(str(path), make) as line:
        assert not line.course.stops


def test_sources_of_every_model_decide_the_key():
    root = Path(identity.__file__).parents[2]
    hashed = {path for pattern in identity._SOURCES for path in root.glob(pattern)}
    names = {str(path.relative_to(root)) for path in hashed}
    for name in (
        "replay/engine.py", "replay/model/kvm/commands.py", "replay/model/qemu/tables.py",
        "replay/model/memory.py", "replay/targets/kvm_model.py", "replay/targets/xen_model.py",
        "replay/kept.py", "replay/timetravel/timeline.py", "tracer/its/commands.py",
    ):  # fmt: skip
        assert name in names


# -- a cache that somebody damaged, or made


def test_a_cache_of_another_user_is_not_used(tmp_path, monkeypatch):
    path = kept(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    said: list[str] = []
    assert not used(path, tell=said.append)
    assert "written here" in said[0]


def test_damaged_caches_are_told_and_made_anew(tmp_path, monkeypatch):
    path = kept(tmp_path, monkeypatch)
    (cache,) = caches(path)
    good = cache.read_bytes()
    expected = dict(states(str(path), (10, 1000, 2000)))
    always = compile_predicate("false")
    with open_at(path, keep=False) as line:
        resets = line.resets()[:2]
    rng = random.Random(1)
    told = 0
    for _ in range(30):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        cache.write_bytes(data)
        said: list[str] = []
        with open_at(path, tell=said.append) as line:
            assert {seq: line.state_at(seq)["digest"] for seq in expected} == expected
            assert line.resets(2)[:2] == resets
            assert looked(line, always, line.stops()[-1], line.last()).marks
        told += bool(said)
    assert told > 10
    assert used(path)


def test_hostile_indexes_with_a_good_seal_are_refused_or_harmless(tmp_path, monkeypatch):
    """As if our own key had sealed them: every value is checked before anything is done with it."""
    path = kept(tmp_path, monkeypatch)
    (cache,) = caches(path)
    good = cache.read_bytes()
    _, size, _ = cache_file._HEAD.unpack_from(good)
    index = msgpack.unpackb(good[cache_file._HEAD.size : cache_file._HEAD.size + size])
    rest = good[cache_file._HEAD.size + size :]
    rng = random.Random(2)
    refused = 0
    for _ in range(150):
        raw = msgpack.packb(mutated(index, rng))
        seal = cache_file._sealed(identity.secret(), raw)
        cache.write_bytes(cache_file._HEAD.pack(cache_file._MAGIC, len(raw), seal) + raw + rest)
        try:
            cache_file.opened(cache).close()
        except Unusable:
            refused += 1
            continue
        with open_at(path) as line:
            for seq in (10, 2000):
                try:
                    line.state_at(seq)
                except UsageError:
                    break
    assert refused > 60


def mutated(value, rng):
    if isinstance(value, dict):
        key = rng.choice(list(value))
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.95:
        at = rng.randrange(len(value))
        chance = rng.random()
        if chance < 0.05:
            return value[:at] + value[at + 1 :]
        if chance < 0.1:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    near = [value + 1, value - 1] if type(value) is int else []
    return rng.choice((
        None, True, -1, 0, 1, 1 << 32, (1 << 64) - 1, "", "x" * 2000, b"", bytes(16), [], {},
        *(each for each in near if -(1 << 63) <= each < 1 << 64),
    ))  # fmt: skip


# -- moments and differences


def test_moments(tmp_path):
    with open_at(captured(tmp_path, TWO_BOOTS)) as line:
        last = line.last()
        for text, seq in (
            ("7", 7), ("0x10", 16), ("-1", last), ("-2", last - 1), (f"-{last + 1}", 0),
            ("reset:0", 0), ("reset:1", 344), ("reset:-1", 344), ("reset:-2", 0),
        ):  # fmt: skip
            assert resolve(text, line) == seq, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a moment must be SEQ, -N from the end, reset:N or reset:-N, not ''"),
        ("x", "a moment must be"),
        ("reset:", "a moment must be"),
        ("reset:2", "has 2 resets: reset:2 is none of them"),
        ("reset:-3", "has 2 resets: reset:-3 is none of them"),
        ("-0", "-0 is none of them"),
        ("-99999", "-99999 is none of them"),
    ],
)
def test_moments_wrong(tmp_path, text, message):
    with open_at(captured(tmp_path, TWO_BOOTS)) as line, pytest.raises(UsageError, match=message):
        resolve(text, line)


def test_differences_name_fields_that_are_gone_new_and_changed():
    def state(devices, ctlr):
        return {
            "its": {"0": {
                "registers": {"GITS_CTLR": ctlr}, "devices": devices, "collections": {},
                "vpes": {}, "translation_cache": [],
            }},
            "redistributors": {}, "lpis": {},
        }  # fmt: skip

    device = {"itt_addr": "0x100", "events": {"0x1": {"intid": 8192}}}
    assert changes(state({"0x8": device}, "0x0"), state({"0x9": device}, None)) == [
        {"path": "registers.GITS_CTLR", "from": "0x0", "to": None},
        {"path": "devices[0x8].itt_addr", "from": "0x100"},
        {"path": "devices[0x8].events[0x1].intid", "from": 8192},
        {"path": "devices[0x9].itt_addr", "to": "0x100"},
        {"path": "devices[0x9].events[0x1].intid", "to": 8192},
    ]
    assert changes(state({}, "0x0"), state({}, "0x0")) == []
