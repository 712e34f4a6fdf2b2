"""A ring keeps the last part of a life, in files that anybody can read, whatever happens to it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

from tests.support.traces import all_kinds, small_events, small_header
from tracer.errors import SourceError, UsageError, WriteError
from tracer.events import make
from tracer.log import ring as ring_module
from tracer.log.opening import open_trace
from tracer.log.ring import Ring, join, segments_of

ROOT = Path(__file__).parents[2]


class Notes:
    """Runs along: its state is how many events there were."""

    def __init__(self, why=None):
        self.fed = []
        self.why = why or {}

    def feed(self, first_seq, events):
        assert first_seq == len(self.fed)
        self.fed += events
        return self.why.pop(len(self.fed), None)

    def checkpoint(self, seq):
        assert seq == len(self.fed)
        return b"%d" % seq


def ring(tmp_path, *, size_bytes=2000, bound_events=7, header=None, along=None, **more):
    return Ring(
        str(tmp_path / "t.itstrace"), header or small_header(clock="monotonic"),
        size_bytes=size_bytes, bound_events=bound_events, bound_ms=0, along=along or Notes(), **more,
    )  # fmt: skip


def read(path):
    with open_trace(str(path)) as reader:
        events = [(f + at, e) for f, block in reader for at, e in enumerate(block)]
        return reader, events


def timed(events, before_ns=0):
    """Return (seq, absolute time, event without its time)."""
    found = []
    for seq, event in events:
        before_ns += event[1]
        found.append((seq, before_ns, (event[0], *event[2:])))
    return found


LIFE = [make("reg.write", n * 1000 + 7, offset=0x80, value=n) for n in range(600)]


@pytest.mark.parametrize("size_bytes", [4096, 1000, 300, 50, 1])
@pytest.mark.parametrize("life", [LIFE, small_events() * 30], ids=["inputs", "small"])
def test_a_dump_has_the_last_events_with_their_numbers_and_times(tmp_path, size_bytes, life):
    kept = ring(tmp_path, size_bytes=size_bytes)
    for event in life:
        kept.add(event)
    kept.close()
    [name] = kept.dumps
    assert name == str(tmp_path / "t-0001.itstrace")
    reader, events = read(name)
    assert reader.status == "clean"
    first = reader.header.first_seq
    assert events
    assert timed(events) == timed(list(enumerate(life)))[first:]
    assert (first > 0) == (reader.checkpoint is not None)
    if first:
        assert reader.checkpoint == b"%d" % first
        assert reader.header.starts == "power_on", "from there on everything is known"
        assert life[first][0] < 66 or life[first][0] > 127, "no output is cut from its input"
    assert reader.header.parent_uuid == small_header().uuid
    assert reader.header.annotations == {"note": "golden", "ring": "end"}
    assert not kept.folder.exists()


def test_at_least_the_size_is_kept_and_little_more(tmp_path):
    kept = ring(tmp_path, size_bytes=4000, codec=0)
    for event in LIFE * 10:
        kept.add(event)
        sizes = [each.size_bytes for each in kept._segments]
        assert sum(sizes) <= 4000 + 3 * 500
    assert sum(sizes) >= 4000
    on_disk = sum(path.stat().st_size for path in kept.folder.iterdir())
    assert on_disk < 4000 + 1500 + len(sizes) * 1500  # headers and checkpoints beside the events
    kept.close()


def test_outputs_alone_do_not_let_a_ring_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(ring_module, "MAX_OUTPUTS_BYTES", 500)
    kept = ring(tmp_path, size_bytes=1000, codec=0)
    for _ in range(2000):
        kept.add(make("command.done", 1, cause=1, creadr=0))
        assert sum(each.size_bytes for each in kept._segments) < 3000
    kept.close()


def test_dumps_are_numbered_and_overwrite_nothing(tmp_path):
    (tmp_path / "t-0002.itstrace").write_text("mine")
    kept = ring(tmp_path, along=Notes({21: "first", 42: "second", 63: "third"}))
    for event in LIFE[:70]:
        kept.add(event)
    kept.close()
    assert [Path(name).name for name in kept.dumps] == [
        "t-0001.itstrace", "t-0003.itstrace", "t-0004.itstrace", "t-0005.itstrace",
    ]  # fmt: skip
    assert (tmp_path / "t-0002.itstrace").read_text() == "mine"
    headers = [read(name)[0].header for name in kept.dumps]
    assert [each.annotations["ring"] for each in headers] == ["first", "second", "third", "end"]
    assert len({each.uuid for each in headers}) == 4
    assert [len(read(name)[1]) for name in kept.dumps] == [21, 42, 63, 70]


def test_what_is_asked_for_from_outside_is_written_at_the_next_step(tmp_path):
    kept = ring(tmp_path, at_end=False)
    kept.add(LIFE[0])
    kept.ask("SIGUSR1")
    assert kept.dumps == []
    kept.flush()
    [name] = kept.dumps
    assert [seq for seq, _ in read(name)[1]] == [0]
    kept.close()
    assert kept.dumps == [name]


def test_every_kind_of_event_goes_through_a_ring(tmp_path):
    kept = ring(tmp_path, size_bytes=100)
    for event in all_kinds() * 3:
        kept.add(event)
    kept.close()
    reader, events = read(kept.dumps[0])
    assert timed(events) == timed(list(enumerate(all_kinds() * 3)))[reader.header.first_seq :]


def test_without_a_state_the_dump_says_that_the_vm_ran_before(tmp_path):
    class Nobody(Notes):
        def checkpoint(self, seq):
            return None

    kept = ring(tmp_path, size_bytes=300, along=Nobody())
    for event in LIFE:
        kept.add(event)
    kept.close()
    reader, _ = read(kept.dumps[0])
    assert reader.header.first_seq > 0
    assert (reader.checkpoint, reader.header.base_digest) == (None, None)
    assert reader.header.starts == "running"


def test_an_earlier_ring_is_not_overwritten(tmp_path):
    ring(tmp_path).abandon()
    with pytest.raises(UsageError, match=r"t\.itstrace\.ring: a ring is there already"):
        ring(tmp_path)


def test_what_was_abandoned_can_be_joined(tmp_path):
    kept = ring(tmp_path, size_bytes=600)
    for event in LIFE:
        kept.add(event)
    kept.abandon()
    assert kept.dumps == []
    paths = segments_of(kept.folder)
    assert len(paths) > 3
    for path in paths:
        assert read(path)[1], "each segment is a trace of its own"
    with (tmp_path / "joined.itstrace").open("xb") as out:
        assert join(paths, out, "joined", "segments") == len(LIFE)
    reader, events = read(tmp_path / "joined.itstrace")
    assert timed(events) == timed(list(enumerate(LIFE)))[reader.header.first_seq :]


def test_a_segment_that_is_missing_is_told(tmp_path):
    kept = ring(tmp_path, size_bytes=600)
    for event in LIFE:
        kept.add(event)
    kept.abandon()
    paths = segments_of(kept.folder)
    with (tmp_path / "joined").open("xb") as out, pytest.raises(SourceError, match="not the next"):
        join([*paths[:1], *paths[2:]], out, "joined", "segments")
    for path in paths:
        path.unlink()
    with pytest.raises(SourceError, match="no segment of a ring"):
        segments_of(kept.folder)


def test_a_dump_that_cannot_be_written_leaves_the_ring(tmp_path):
    kept = ring(tmp_path)
    kept.add(LIFE[0])
    kept._output = tmp_path / "no such folder" / "t.itstrace"
    kept.ask("now")
    kept.flush()
    kept.add(LIFE[1])
    with pytest.raises(WriteError, match=r"no dump of the ring: .*No such file.*has what the ring"):
        kept.close()
    [segment] = segments_of(kept.folder)
    assert len(read(segment)[1]) == 2


KILLED = """
import sys
from tracer.events import make
from tracer.log.header import Header
from tracer.log import ring as ring_module
from tracer.log.ring import Ring
kept = Ring(sys.argv[1], Header(), size_bytes=20000, bound_events=50, bound_ms=20)
for number in range(1_000_000_000):
    kept.add(make("reg.write", 5, offset=0x80, value=number))
    if number == 30_000:
        print("go", flush=True)
"""


def test_a_killed_recorder_leaves_segments_that_join(tmp_path):
    output = str(tmp_path / "t.itstrace")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, output], cwd=ROOT, stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        sleep(0.1)
        process.send_signal(signal.SIGKILL)
    done = subprocess.run(
        [sys.executable, "-m", "replay.cli", "import", output + ".ring"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "segments" in done.stderr
    reader, events = read(output)
    first = reader.header.first_seq
    assert first > 0
    assert events[-1][0] >= 30_000 - 50
    assert [e[3] for _, e in events] == list(range(first, first + len(events)))
