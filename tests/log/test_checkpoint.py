"""A checkpoint in a trace: whole, cut at every byte, out of order, and of somebody else."""

from __future__ import annotations

import io
import re

import msgpack
import pytest

from replay import cli
from tests.support.traces import (
    EVENTS,
    Frame,
    build,
    forge,
    packed,
    small_events,
    small_header,
    split,
)
from tracer.log import format as fmt
from tracer.log.checkpoint import digest
from tracer.log.stream import Reader, Writer

CHECKPOINT = 5
STATE = bytes(range(256)) * 40
LARGE = bytes(range(251)) * 12_000  # 3 MB: three parts


def trace(state=STATE, *, codec=0, **header):
    out = io.BytesIO()
    writer = Writer(out, small_header(**header), codec=codec, bound_ms=0, checkpoint=state)
    for event in small_events():
        writer.add(event)
    writer.close()
    return out.getvalue()


def opened(data):
    reader = Reader(io.BytesIO(data), "t")
    return reader, [event for _, block in reader for event in block]


@pytest.mark.parametrize("state", [b"x", STATE, LARGE], ids=len)
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_what_was_written_is_read(state, codec):
    reader, events = opened(trace(state, codec=codec))
    assert reader.checkpoint == state
    assert reader.header.base_digest == digest(state)
    assert events == small_events()
    assert (reader.status, reader.unknown_frames) == ("clean", 0)


def test_a_trace_without_one_has_none():
    reader, events = opened(build(small_events()))
    assert reader.checkpoint is None
    reader, events = opened(build(small_events(), small_header(base_digest="00ff")))
    assert (reader.checkpoint, reader.status) == (None, "clean"), "cut off elsewhere, as by `cut`"
    assert events == small_events()


def test_it_stands_between_the_header_and_the_events():
    frames = split(trace())
    kinds = [frame.kind for frame in frames]
    assert kinds[:3] == [1, CHECKPOINT, EVENTS]
    assert kinds.count(CHECKPOINT) == 1
    assert msgpack.unpackb(frames[1].stored) == [0, 1, STATE]


def test_cut_at_every_byte_it_is_whole_or_not_there():
    data = trace(bytes(300))
    whole = 0
    for size in range(split(data)[1].start, len(data)):
        reader, events = opened(data[:size])
        assert reader.status == "cut"
        if reader.checkpoint is None:
            assert events == []
        else:
            whole += 1
            assert reader.checkpoint == bytes(300)
    assert whole > 100


def part(number, count, data):
    return Frame(CHECKPOINT, msgpack.packb([number, count, data]))


def forged(*frames, state=b"onetwo"):
    header = small_header(base_digest=digest(state))
    first = split(build([], header))[0]
    return forge([first, *frames, Frame(EVENTS, packed(*small_events()))])


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        ([part(1, 2, b"one"), part(0, 2, b"two")], "must come in parts"),
        ([part(0, 2, b"one"), part(0, 2, b"two")], "must come in parts"),
        ([part(0, 0, b"onetwo")], "must come in parts"),
        ([part(0, 9, b"onetwo")], "at most 4194304 bytes"),
        ([part(-1, 1, b"onetwo")], "must come in parts"),
        ([part(0, 1, "onetwo")], "msgpack"),
        ([part(0, 1, [b"onetwo"])], "must come in parts"),
        ([part(0, 2, b"one")], "not the one that the header names"),
        ([part(0, 1, b"one")], "not the one that the header names"),
        ([part(0, 2, b"one"), part(1, 2, b"tw0")], "not the one that the header names"),
        ([Frame(CHECKPOINT, b"\xc1")], "msgpack"),
        ([Frame(CHECKPOINT, b"\xdd\xff\xff\xff\xff")], "msgpack"),
        ([Frame(CHECKPOINT, b"\x80")], "msgpack|must be a list"),
    ],
)
def test_parts_that_are_not_the_checkpoint_wrong(frames, what):
    reader, _ = opened(forged(*frames))
    assert reader.checkpoint is None
    assert reader.status == "damaged"
    assert re.search(what, reader.problems[0].what)


def test_the_parts_of_one_wrong_are_right():
    reader, events = opened(forged(part(0, 2, b"one"), part(1, 2, b"two")))
    assert (reader.checkpoint, len(events)) == (b"onetwo", len(small_events()))


def test_a_trace_whose_state_is_damaged_is_not_replayed_from_a_fresh_device(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(forged(part(0, 1, b"other")))
    assert cli.main(["check", str(path)]) == 3
    assert "0 outputs" in capsys.readouterr().out


def test_a_state_that_no_model_can_take_is_damage(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(trace(msgpack.packb({"format": 1})))
    assert cli.main(["check", str(path)]) == 3
    assert "checkpoint: a checkpoint must have format, family" in capsys.readouterr().err


def test_too_large_a_state_is_refused_by_every_reader():
    state = bytes(fmt.MAX_CHECKPOINT_BYTES + 1)
    reader, _ = opened(trace(state, codec=2))
    assert (reader.checkpoint, reader.status) == (None, "damaged")
    reader, _ = opened(trace(bytes(fmt.MAX_CHECKPOINT_BYTES), codec=2))
    assert (len(reader.checkpoint), reader.status) == (fmt.MAX_CHECKPOINT_BYTES, "clean")
