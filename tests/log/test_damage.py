"""Every prefix, every bit flip and random damage: nothing readable is thrown away, nothing damaged
is passed as good. What is readable says a scanner that knows only the page (support/naive_frames).

CI takes a sample; `make test-damage` takes them all.
"""

from __future__ import annotations

import io
import os
from functools import cache
from itertools import accumulate
from random import Random

import pytest

from tests.support.naive_frames import scan
from tests.support.traces import GOLDEN, Frame, forge, read, small_events, small_header, split
from tracer.errors import TraceError
from tracer.events import KINDS, make
from tracer.log import codec, format as fmt
from tracer.log.splice import is_as_written, recover
from tracer.log.stream import Reader, Writer
from tracer.log.survey import survey

ALL = bool(os.environ.get("ITSTRACE_DAMAGE"))
NAMES = sorted(path.stem for path in GOLDEN.glob("*.itstrace"))
DATA = {name: (GOLDEN / f"{name}.itstrace").read_bytes() for name in NAMES}


def with_state():
    """Return a part of a trace, which begins with a state in three frames, and goes on elsewhere."""
    out = io.BytesIO()
    state = Random(3).randbytes(700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fmt, "CHECKPOINT_PART_BYTES", 256)
        header = small_header(first_seq=5)
        writer = Writer(out, header, bound_events=6, bound_ms=0, checkpoint=state)
    for event in small_events()[5:]:
        writer.add(event)
    writer.close(goes_on=True)
    return out.getvalue()


DATA["with a state"] = with_state()
CAUSED = {kind for kind, cls in KINDS.items() if cls.fields and cls.fields[0].name == "cause"}
LOSS = 128
UNREAD = ("not a trace", "newer")


def saved(data):
    """Return the survey of a file, and what was saved of it as (splice, output) or None."""
    found = survey(io.BytesIO(data), "t")
    assert found.size_bytes == len(data)
    if found.state in ("not a trace", "newer") or not (found.header or found.pieces):
        return found, None
    out = io.BytesIO()
    splice = recover(io.BytesIO(data), found, out, "out")
    assert is_as_written(io.BytesIO(out.getvalue()), splice, "out")
    return found, (splice, out.getvalue())


def bare(event):
    """Return an event without its time and its cause, which are relative."""
    return (event[0], *event[3:]) if event[0] in CAUSED else (event[0], *event[2:])


@cache
def originally(data):
    return scan(data)


def check(data, original):
    """Hold what is said and saved of changed bytes to what is in them; return the survey."""
    readable, good = scan(data), originally(original)
    # The damages of this test forge no frame.
    assert all(good.events[seq] == event for seq, event in readable.events.items())
    found, done = saved(data)
    if data != original:
        assert found.state != "clean"
        assert found.damage_count or found.cut_at is not None or found.state in UNREAD
    if done is None:
        assert found.state == "newer" or not (readable.header or readable.events), found
        return found
    splice, output = done
    outcome = read(output)
    assert (outcome.status, outcome.problems) == ("clean", [])
    now = dict(outcome.events)
    moved = {
        seq: seq + island.shift
        for island in splice.islands
        for seq in range(island.first_seq, island.next_seq)
    }
    # Exactly what is readable is saved, each under its new number, and beside it only losses.
    assert moved.keys() == readable.events.keys()
    assert {seq: bare(now[moved[seq]]) for seq in moved} == {
        seq: bare(event) for seq, event in readable.events.items()
    }
    places = set(moved.values())
    told = [event for seq, event in outcome.events if seq not in places]
    assert all(event[0] == LOSS for event in told)
    check_causes(now, moved, readable.events)
    check_holes(found, told, readable, good)
    assert (found.header is not None) == readable.header
    return found


def check_causes(now, moved, events):
    """An output names the same input as before, or says that it is not known."""
    for seq, event in events.items():
        if event[0] not in CAUSED or not event[2]:
            continue
        cause = moved.get(seq - event[2])
        got = now[moved[seq]][2]
        assert got == (0 if cause is None else moved[seq] - cause), seq


def check_holes(found, told, readable, good):
    """Between the first and the last event that are left every one that is missing is told."""
    first = found.first_seq
    last = max(readable.events, default=first - 1)
    gone = {seq for seq in range(first, last) if seq not in readable.events}
    holes = {
        seq
        for hole in found.holes
        for seq in range(hole.first_seq, hole.first_seq + (hole.count or 0))
    }
    assert gone <= holes
    assert holes <= good.events.keys() - readable.events.keys()
    # Events behind the last one that is left are told too, or the file was only cut.
    if max(good.events, default=0) > last and found.cut_at is None:
        assert any(hole.count is None or hole.first_seq > last for hole in found.holes)
    missing = (found.header is None) + found.checkpoint_lost
    assert len(told) == len(found.holes) + missing


@pytest.mark.parametrize("name", DATA)
def test_every_prefix(name):
    data = DATA[name]
    ends = {frame.end for frame in split(data)}
    header_end = split(data)[0].end
    for size in range(len(data)) if ALL else range(0, len(data), 11):
        found = check(data[:size], data)
        if size < 12:
            assert found.state == "not a trace"
        elif size < header_end:
            assert found.state == "damaged"
        else:
            assert (found.state, found.cut_at) == (
                "lossy" if found.losses else "cut",
                max(end for end in ends if end <= size),
            )


@pytest.mark.parametrize("name", DATA)
def test_every_bit_flip(name):
    data = DATA[name]
    for bit in range(8 * len(data)) if ALL else range(len(name), 8 * len(data), 83):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        found = check(bytes(changed), data)
        assert found.state == "damaged", bit
        assert any(
            each.start <= bit // 8 < max(each.end, each.start + 1) for each in found.damage
        ), (bit, found.damage)


# -- a large one, in random ways


def large():
    """Return a trace of many frames, with outputs of inputs far back."""
    out = io.BytesIO()
    writer = Writer(out, small_header(), bound_events=64, bound_ms=0, name="large")
    random = Random(5)
    for seq in range(12_000 if ALL else 2_000):
        if seq % 3 == 2:
            back = 1 if random.random() < 0.9 else random.randrange(1, min(seq, 300) + 1)
            writer.add(make("lpi", 7, cause=back, intid=8192 + seq % 50, cpu=0))
        elif seq % 50 == 0:
            data = random.randbytes(random.randrange(900))
            writer.add(make("mem.write", 1, gpa=seq * 4096, data=data))
        else:
            writer.add(make("msi", random.randrange(-5, 1000), device_id=seq, event_id=seq % 7))
    writer.close()
    return out.getvalue()


LARGE = large()


def flip(data, random):
    for _ in range(random.choice((1, 1, 2, 20))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data


def overwrite(data, random):
    start, size = stretch(data, random)
    data[start : start + size] = random.choice((bytes, random.randbytes))(size)
    return data


def take_out(data, random):
    start, size = stretch(data, random)
    return data[:start] + data[start + size :]


def put_in(data, random):
    start, size = stretch(data, random)
    return data[:start] + random.randbytes(size) + data[start:]


def repeat(data, random):
    start, size = stretch(data, random)
    at = random.choice((start, start + size, random.randrange(len(data))))
    return data[:at] + data[start : start + size] + data[at:]


def swap(data, random):
    one, two, three = sorted(random.randrange(len(data)) for _ in range(3))
    return data[:one] + data[two:three] + data[one:two] + data[three:]


def cut(data, random):
    return data[: random.randrange(len(data))]


def stretch(data, random):
    size = random.choice((1, 40, 700, 4096, 30_000))
    return random.randrange(len(data)), random.randrange(1, size + 1)


WAYS = (flip, overwrite, take_out, put_in, repeat, swap, cut)
SEEDS = range(1000) if ALL else range(0, 1000, 84)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_large_trace_with_random_damage(seed):
    random = Random(seed)
    data = bytearray(LARGE)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(WAYS)(data, random) or data
    found = check(bytes(data), LARGE)
    if found.state == "newer":  # two damages that leave a newer file's preamble and no header
        assert data[8:12] != LARGE[8:12]
        assert not scan(bytes(data)).header
    if found.header and found.holes and found.times_ns and not found.times_ns.keys() ^ INDEXED:
        check_times(data, found)


INDEXED = survey(io.BytesIO(LARGE), "t").times_ns.keys()
TIMES = dict(enumerate(accumulate(event[1] for event in scan(LARGE).events.values())))


def check_times(data, found):
    """Where the index is left the time of every event is what it was."""
    splice, output = saved(bytes(data))[1]
    now = list(accumulate(event[1] for _, event in read(output).events))
    for island in splice.islands:
        for seq in range(island.first_seq, island.next_seq):
            assert now[seq + island.shift] == TIMES[seq], seq


# -- by somebody who makes every CRC and chain right again


@pytest.mark.parametrize("name", DATA)
def test_forged_payloads_are_saved_or_told_and_nothing_else_happens(name):
    random = Random(name)
    frames = split(DATA[name])
    for _ in range(5000 if ALL else 60):
        forged = []
        for frame in frames:
            stored = bytearray(codec.decompress(frame.stored, frame.codec, frame.raw_size))
            for _ in range(random.choice((0, 0, 1, 3))):
                at = random.randrange(len(stored))
                stored[at : at + random.randrange(2)] = random.randbytes(random.randrange(3))
            forged.append(Frame(frame.kind, bytes(stored)))
        if random.random() < 0.3:
            random.shuffle(forged)
        data = forge(forged)
        found, done = saved(data)
        if done is not None:
            output = read(done[1])
            assert output.status == "clean"
            assert done[0].count == len(output.events)
        try:
            reader = Reader(io.BytesIO(data))
            kinds = [event[0] for _, events in reader for event in events]
        except TraceError:
            assert found.state in ("damaged", "not a trace", "newer")
            continue
        # What a reader calls clean is no more than that here, too.
        inputs = any(kind < 64 and kind not in KINDS for kind in kinds)
        if found.state in ("clean", "lossy", "cut") or (found.state == "newer" and inputs):
            told = (found, reader.problems)
            assert reader.status == ("clean" if found.cut_at is None else "cut"), told
        else:
            assert reader.status == "damaged"
