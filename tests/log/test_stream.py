from __future__ import annotations

import errno
import gzip
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest

from tests.log.test_codec import UNKNOWN
from tests.support.compiled import pure_only
from tests.support.traces import (
    DIGESTS,
    END,
    EVENTS,
    GOLDEN,
    HEADER,
    INDEX,
    PREAMBLE,
    Frame,
    Outcome,
    build,
    events_of,
    forge,
    header_frame,
    join,
    link,
    numbered,
    packed,
    read,
    read_text,
    small_events,
    small_header,
    split,
    text_of,
)
from tracer.errors import DamagedTrace, NewerTrace, NotATrace, TraceError, WriteError
from tracer.events import Event, make
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.stream import Problem, Reader, Writer

CODECS = ("none", "zlib", "zstd")
SMALL = {codec: (GOLDEN / f"small-{codec}.itstrace").read_bytes() for codec in CODECS}
NUMBERED = list(enumerate(small_events()))


def marks(count: int, first: int = 0) -> list[Event]:
    return [make("marker", 0, text=str(at)) for at in range(first, first + count)]


# -- golden files of version 1


@pytest.mark.parametrize("name", json.loads(DIGESTS.read_text()))
def test_a_golden_file_reads_as_it_always_did(name: str):
    golden = json.loads(DIGESTS.read_text())[name]
    data = (GOLDEN / f"{name}.itstrace").read_bytes()
    text = (GOLDEN / f"{name}.its.txt").read_text(encoding="utf-8")
    outcome = read(data)
    assert {
        "digest": outcome.digest,
        "events": len(outcome.events),
        "status": outcome.status,
        "text_sha256": sha256(text.encode()).hexdigest(),
    } == golden
    assert text_of(data) == text
    assert read_text(text) == (outcome.header, outcome.events)


def test_the_golden_folder_holds_what_the_digests_name():
    names = json.loads(DIGESTS.read_text())
    files = {path.name for path in GOLDEN.iterdir()}
    assert files == {
        "digests.json",
        *(f"{name}.itstrace" for name in names),
        *(f"{name}.its.txt" for name in names),
    }


def test_the_writer_still_writes_the_golden_bytes():
    # Without a compressor: those may change from release to release.
    assert build(codec="none") == SMALL["none"]


@pytest.mark.parametrize("codec", CODECS)
def test_the_golden_files_are_compressed_as_their_names_say(codec: str):
    assert {frame.codec for frame in split(SMALL[codec])} == {0, CODECS.index(codec)}
    assert [frame.kind for frame in split(SMALL[codec])] == [
        HEADER,
        EVENTS,
        EVENTS,
        EVENTS,
        INDEX,
        END,
    ]


def test_the_page_says_what_a_small_trace_holds():
    frames = split(SMALL["none"])
    chain = link(b"", PREAMBLE)
    for frame in frames:
        assert frame.chain == chain
        chain = link(chain, frame.pack())
    header, *events, index, end = frames
    assert msgpack.unpackb(header.stored)["version"] == 1
    payloads = [msgpack.unpackb(frame.stored, use_list=False) for frame in events]
    assert [event for _, chunk in payloads for event in chunk] == small_events()
    assert [first for first, _ in payloads] == [0, 9, 18]
    dts = [event[1] for event in small_events()]
    assert msgpack.unpackb(index.stored) == {
        "frames": [
            [frame.start, first, sum(dts[:first])]
            for frame, first in zip(events, (0, 9, 18), strict=True)
        ]
    }
    assert msgpack.unpackb(end.stored) == {"events": 25, "digest": end.chain.hex()}
    assert read(SMALL["none"]).digest == chain.hex()


# -- every prefix


def whole_events(frames: list[Frame], size: int) -> list[tuple[int, Event]]:
    counts = [len(msgpack.unpackb(frame.stored)[1]) for frame in frames if frame.kind == EVENTS]
    ends = [frame.end for frame in frames if frame.kind == EVENTS]
    return NUMBERED[: sum(count for count, end in zip(counts, ends, strict=True) if end <= size)]


@pytest.mark.parametrize("codec", CODECS)
def test_every_prefix_gives_every_event_whose_frame_is_whole(codec: str):
    data = SMALL[codec]
    frames = split(data)
    plain = split(SMALL["none"])
    header_end = frames[0].end
    starts = {frame.start for frame in frames}
    for size in range(header_end, len(data)):
        outcome = read(data[:size])
        whole = sum(frame.end <= size for frame in frames)
        expected = whole_events(plain, plain[whole - 1].end)
        assert (outcome.status, outcome.events) == ("cut", expected), size
        what = "no clean end: the recorder was cut off here" if size in starts else None
        if whole == len(frames):
            assert outcome.problems == []
        else:
            at = frames[whole].start
            what = what or "the last frame is cut off"
            assert outcome.problems == [Problem(at, what, "cut")], size
    outcome = read(data)
    assert (outcome.status, outcome.problems, outcome.events) == ("clean", [], NUMBERED)


def test_every_prefix_of_the_header_says_what_and_where():
    data = SMALL["none"]
    header_end = split(data)[0].end
    told = []
    for size in range(header_end):
        with pytest.raises(TraceError) as error:
            read(data[:size], "dir/a.itstrace")
        assert (error.value.path, error.value.exit_code) == ("dir/a.itstrace", 3)
        told.append((type(error.value), str(error.value)))
    start = "dir/a.itstrace: byte 0x0: this is not an itstrace file; "
    empty = start + "it is empty, nothing was recorded in it: record again"
    not_a_trace = start + "`itstrace import` makes one of a log"
    cut = "cut off before its header: nothing was kept"
    assert told[:8] == [(NotATrace, empty)] + [(NotATrace, not_a_trace)] * 7
    assert told[8:12] == [
        (DamagedTrace, f"dir/a.itstrace: byte {size:#x}: {cut}") for size in range(8, 12)
    ]
    assert set(told[12:]) == {
        (DamagedTrace, "dir/a.itstrace: byte 0xc: header: the last frame is cut off")
    }


def test_an_unfinished_trace_is_cut_and_whole():
    outcome = read((GOLDEN / "unfinished.itstrace").read_bytes())
    assert (outcome.status, outcome.events) == ("cut", NUMBERED)
    assert [problem.what for problem in outcome.problems] == [
        "no clean end: the recorder was cut off here"
    ]


# -- damage of every kind: it is told, or it is harmless


def attempt(data: bytes) -> Outcome | TraceError:
    try:
        return read(data)
    except TraceError as error:
        return error


def verdict(data: bytes, original: bytes) -> str:
    """Return how a changed trace was read: error, reported or harmless; fail on anything else."""
    outcome = attempt(data)
    if isinstance(outcome, TraceError):
        assert outcome.path == "t"
        assert 0 <= outcome.offset <= len(data)
        return "error"
    if outcome.problems:
        assert outcome.status in ("cut", "damaged")
        assert all(0 <= problem.offset <= len(data) for problem in outcome.problems)
        known = dict(NUMBERED)
        # Whatever is still read is in its place and as it was written.
        assert all(known.get(seq) == event for seq, event in outcome.events)
        return "reported"
    assert outcome == read(original)
    return "harmless"


@pytest.mark.parametrize("codec", CODECS)
def test_every_single_bit_flip_is_told(codec: str):
    data = SMALL[codec]
    seen: dict[str, int] = {}
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            result = verdict(bytes(changed), data)
            seen[result] = seen.get(result, 0) + 1
    assert set(seen) == {"error", "reported"}
    assert seen["error"] == 8 * split(data)[0].end  # up to the end of the header nothing is read
    assert sum(seen.values()) == 8 * len(data)


def test_every_bit_flip_after_the_header_leaves_the_other_frames_readable():
    data = SMALL["zstd"]
    frames = split(data)
    for number, damaged in enumerate(frames[1:4]):
        others = [(seq, event) for seq, event in NUMBERED if seq // 9 != number]
        for at in range(damaged.start, damaged.end):
            changed = bytearray(data)
            changed[at] ^= 0x10
            outcome = read(bytes(changed))
            assert (outcome.status, outcome.events) == ("damaged", others)
            assert outcome.problems[0].offset == damaged.start


@pytest.mark.parametrize("codec", CODECS)
def test_every_deleted_byte_is_told(codec: str):
    data = SMALL[codec]
    for at in range(len(data)):
        assert verdict(data[:at] + data[at + 1 :], data) != "harmless" or (
            # one of several equal bytes in a row: the same file with the last of them gone
            data[at : at + 1] * (len(data) - at) == data[at:]
        )


def test_every_deleted_stretch_is_told():
    data = SMALL["none"]
    random = Random(7)
    for _ in range(3000):
        start = random.randrange(len(data))
        size = random.randrange(1, len(data) - start + 1)
        result = verdict(data[:start] + data[start + size :], data)
        assert result in ("error", "reported"), (start, size)


def test_every_inserted_byte_is_told():
    data = SMALL["zlib"]
    for at in range(len(data) + 1):
        for byte in (0x00, 0xF5, 0xFF, data[at - 1] ^ 1):
            changed = data[:at] + bytes([byte]) + data[at:]
            assert verdict(changed, data) in ("error", "reported"), at


def test_swapped_frames_are_told():
    frames = split(SMALL["none"])
    for one in range(len(frames)):
        for two in range(one):
            swapped = frames.copy()
            swapped[one], swapped[two] = swapped[two], swapped[one]
            outcome = attempt(join(swapped))
            if isinstance(outcome, TraceError):
                assert (two, outcome.what) == (0, "the first frame must be a header")
                continue
            assert outcome.status == "damaged"
            place = sum(len(frame.pack()) for frame in swapped[:two]) + len(PREAMBLE)
            assert outcome.problems[0].offset == place
            # What was moved is read once each, under its own number.
            assert sorted(outcome.events) == NUMBERED


def test_a_removed_frame_is_told_where_it_stood():
    frames = split(SMALL["none"])
    for gone in range(1, len(frames)):
        outcome = read(join(frames[:gone] + frames[gone + 1 :]))
        if gone == len(frames) - 1:
            assert outcome.problems == [
                Problem(frames[gone].start, "no clean end: the recorder was cut off here", "cut")
            ]
            continue
        assert outcome.status == "damaged"
        assert outcome.problems[0] == Problem(
            frames[gone].start, "frames before this one were changed or taken out", "damaged"
        )
        if frames[gone].kind == EVENTS and frames[gone + 1].kind == EVENTS:
            first = 9 * (gone - 1)
            assert outcome.problems[1] == Problem(
                frames[gone].start, f"events {first} to {first + 8} are missing", "damaged"
            )


def test_a_duplicated_frame_is_told():
    frames = split(SMALL["none"])
    for twice in range(1, len(frames)):
        outcome = read(join([*frames[: twice + 1], *frames[twice:]]))
        assert outcome.status == "damaged"
        assert outcome.problems[0].offset == frames[twice].end
        if frames[twice].kind == EVENTS:
            assert outcome.problems[1] == Problem(
                frames[twice].end, f"event {9 * (twice - 1)} comes a second time", "damaged"
            )


def test_frames_of_another_trace_are_told():
    ours = split(SMALL["none"])
    other = split(build([*small_events()[:-1], make("save", 0)], small_header(uuid="other")))
    for place in range(1, len(ours)):
        spliced = [*ours[:place], other[place], *ours[place + 1 :]]
        outcome = read(join(spliced))
        assert outcome.status == "damaged"
        assert outcome.problems[0] == Problem(
            ours[place].start - len(ours[0].pack()) + len(spliced[0].pack()),
            "frames before this one were changed or taken out",
            "damaged",
        )
    # The other's header before our events is no better than the other's events after our header.
    outcome = read(join([other[0], *ours[1:]]))
    assert outcome.status == "damaged"
    assert outcome.problems[0].offset == other[0].end


@pytest.mark.parametrize("codec", CODECS)
def test_zeros_where_a_file_system_lost_the_tail_are_told(codec: str):
    data = SMALL[codec]
    header_end = split(data)[0].end
    for at in range(header_end, len(data)):
        outcome = read(data[:at] + bytes(len(data) - at))
        assert outcome.status in ("cut", "damaged")
        assert outcome.problems
        assert outcome.events == NUMBERED[: len(outcome.events)]
    for more in (1, 4, 35, 36, 4096):
        outcome = read(data + bytes(more))
        assert (outcome.status, outcome.events) == ("damaged", NUMBERED)
        assert outcome.problems[0].offset == len(data)


def test_frames_after_the_end_frame_are_told():
    frames = split(SMALL["none"])
    more = Frame(EVENTS, packed((9, 0), first_seq=25))
    outcome = read(forge([*frames[:-1], frames[-1], more]))
    assert outcome.problems[-1] == Problem(frames[-1].end, "frames after the end frame", "damaged")
    assert outcome.status == "damaged"
    two = read(SMALL["none"] + SMALL["none"])
    assert two.status == "damaged"
    assert two.problems[0].offset == len(SMALL["none"])


def test_a_large_hole_does_not_hide_the_frames_behind_it():
    # What is left of the torn frame is shorter than it says, yet whole frames stand there.
    events = [make("mem.write", 0, gpa=0, data=bytes(4000)), *marks(30)]
    data = build(events, bound_events=1)
    torn = split(data)[1]
    outcome = read(data[: torn.start + 100] + data[torn.end - 100 :])
    assert outcome.events == list(enumerate(events))[1:]
    assert outcome.status == "damaged"


# -- the chain


def edit(frame: Frame, **changes: Any) -> Frame:
    """Return a frame with another first event and right CRCs."""
    first_seq, events = msgpack.unpackb(frame.stored, use_list=False)
    return replace(frame, stored=packed((9, 0), *events[1:], first_seq=first_seq), raw_size=None)


def test_an_edited_frame_with_right_crcs_is_found_and_located():
    frames = split(SMALL["none"])
    for edited in (1, 2, 3):
        changed = [*frames[:edited], edit(frames[edited]), *frames[edited + 1 :]]
        outcome = read(join(changed))
        place = 12 + sum(len(frame.pack()) for frame in changed[: edited + 1])
        assert outcome.status == "damaged"
        assert outcome.problems == [
            Problem(place, "frames before this one were changed or taken out", "damaged")
        ]


def test_an_edited_header_with_right_crcs_is_found():
    header, *rest = split(SMALL["none"])
    keys = msgpack.unpackb(header.stored)
    for key, value in (("cpus", 1), ("profile", "qemu-10.0.13"), ("guest_ram", "complete")):
        edited = replace(header, stored=msgpack.packb(keys | {key: value}), raw_size=None)
        outcome = read(join([edited, *rest]))
        assert outcome.status == "damaged"
        assert outcome.problems[0] == Problem(
            12 + len(edited.pack()), "frames before this one were changed or taken out", "damaged"
        )


def test_an_end_that_counts_other_events_is_told():
    frames = split(SMALL["none"])
    for count in (0, 24, 26, None, "25"):
        end = {"events": count, "digest": frames[-1].chain.hex()}
        outcome = read(
            join([*frames[:-1], replace(frames[-1], stored=msgpack.packb(end), raw_size=None)])
        )
        assert outcome.problems == [
            Problem(frames[-1].start, f"the end counts {count!r} events", "damaged")
        ]


def test_an_end_with_another_digest_is_told():
    # Somebody cut the file, and gave it an end that belongs to other frames.
    frames = split(SMALL["none"])
    end = msgpack.packb({"events": 25, "digest": "00" * 16})
    outcome = read(join([*frames[:-1], replace(frames[-1], stored=end, raw_size=None)]))
    assert outcome.status == "damaged"
    told = Problem(frames[-1].start, "the end names another digest", "damaged")
    assert outcome.problems == [told]
    for digest in (None, 0, "", frames[-2].chain.hex(), frames[-1].chain.hex().upper()):
        end = msgpack.packb({"events": 25, "digest": digest})
        outcome = read(join([*frames[:-1], replace(frames[-1], stored=end, raw_size=None)]))
        assert outcome.problems == [told]
    end = msgpack.packb({"events": 25})
    outcome = read(join([*frames[:-1], replace(frames[-1], stored=end, raw_size=None)]))
    assert outcome.problems == [told]


def test_after_a_gap_the_next_frame_is_the_new_anchor():
    frames = split(SMALL["none"])
    data = bytearray(SMALL["none"])
    data[frames[1].start + 40] ^= 1
    outcome = read(bytes(data))
    assert outcome.problems == [
        Problem(frames[1].start, "the payload of this frame is damaged", "damaged"),
        Problem(frames[2].start, "events 0 to 8 are missing", "damaged"),
    ]
    # An edit behind the gap is found as well.
    tail = join([*frames[:3], edit(frames[3]), *frames[4:]])[len(data[: frames[2].start]) :]
    outcome = read(bytes(data[: frames[2].start]) + tail)
    assert outcome.problems[-1].what == "frames before this one were changed or taken out"
    assert outcome.problems[-1].offset == frames[4].start + len(tail) + frames[2].start - len(data)


# -- what a reader of this version does with newer frames


def test_an_unknown_frame_type_is_counted_and_skipped():
    header, *rest = split(SMALL["none"])
    reader = Reader(io.BytesIO(forge([header, Frame(9, b"anything"), *rest[:1], Frame(255, b"")])))
    assert [first for first, _ in reader] == [0]
    assert (reader.unknown_frames, reader.events) == (2, 9)
    assert [problem.kind for problem in reader.problems] == ["cut"]


def test_unknown_flags_make_a_frame_unreadable():
    header, first, second, *_ = split(SMALL["none"])
    outcome = read(forge([header, replace(first, flags=0x8001), second]))
    assert outcome.problems[0] == Problem(
        first.start, "frame flags 0x8001 are not known to this version", "damaged"
    )
    assert [seq for seq, _ in outcome.events] == list(range(9, 18))


def test_a_newer_version_is_newer_and_never_damaged():
    for version in (2, 3, 2**31, 2**32 - 1):
        data = PREAMBLE[:8] + version.to_bytes(4, "little") + b"whatever comes then"
        with pytest.raises(NewerTrace) as error:
            read(data)
        assert str(error.value) == (
            f"t: byte 0x8: format version {version}, this itstrace reads up to 1: "
            "use a newer itstrace"
        )
        assert error.value.exit_code == 4


def test_version_0_never_was():
    with pytest.raises(DamagedTrace) as error:
        read(PREAMBLE[:8] + bytes(4) + SMALL["none"][12:])
    assert str(error.value) == "t: byte 0x8: there never was a format version 0"
    assert error.value.exit_code == 3


# -- the writer


class Raw(io.RawIOBase):
    """A raw stream that remembers each call."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.calls: list[bytes] = []
        self.limit = limit

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.calls.append(bytes(data[: self.limit]))
        return len(self.calls[-1])

    def getvalue(self) -> bytes:
        return b"".join(self.calls)


def writer_to(out: Any, header: Header | None = None, **options: Any) -> Writer:
    options = {"codec": fmt.CODEC_NONE, "bound_ms": 0, "name": "t"} | options
    return Writer(out, header or Header(), **options)


def add_all(writer: Writer, events: list[Event]) -> None:
    for event in events:
        writer.add(event)


def add_and_flush(writer: Writer, *events: Event) -> None:
    add_all(writer, [*events])
    writer.flush()


def test_each_frame_is_one_write():
    out = Raw()
    writer = writer_to(out, bound_events=10)
    assert len(out.calls) == 2  # the preamble and the header
    for at, event in enumerate(marks(35), 1):
        writer.add(event)
        assert len(out.calls) == 2 + at // 10
    writer.close()
    assert [call[:5] for call in out.calls[1:]] == [
        b"\xf5ITS" + bytes([kind]) for kind in (HEADER, EVENTS, EVENTS, EVENTS, EVENTS, INDEX, END)
    ]
    assert join(split(out.getvalue())) == out.getvalue()
    assert events_of(out.getvalue()) == marks(35)


@pytest.mark.parametrize("codec", CODECS)
def test_what_compression_makes_longer_is_stored_as_it_is(codec: str):
    out = Raw()
    writer = writer_to(out, codec=fmt.CODEC_NAMES[codec])
    add_and_flush(writer, make("mem.write", 0, gpa=0, data=Random(1).randbytes(100)))
    add_and_flush(writer, make("mem.write", 0, gpa=0, data=bytes(100)))
    codecs = [frame.codec for frame in split(out.getvalue()) if frame.kind == EVENTS]
    assert codecs == [fmt.CODEC_NONE, fmt.CODEC_NAMES[codec]]


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_short_writes_are_completed(limit: int):
    out = Raw(limit)
    writer = writer_to(out, small_header(), bound_events=9)
    for event in small_events():
        writer.add(event)
    writer.close()
    assert max(map(len, out.calls)) <= limit
    assert out.getvalue() == SMALL["none"]


def test_fsync_follows_each_frame_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sizes.append(os.fstat(fd).st_size), real(fd)))
    for fsync in (False, True):
        with (tmp_path / f"{fsync}.itstrace").open("wb", buffering=0) as out:
            writer = writer_to(out, small_header(), bound_events=9, fsync=fsync)
            for event in small_events():
                writer.add(event)
            writer.close()
        assert bool(sizes) == fsync
    assert sizes == [12, *(frame.end for frame in split(SMALL["none"]))]
    assert (tmp_path / "True.itstrace").read_bytes() == SMALL["none"]


def test_flush_writes_what_was_kept_back_once():
    out = Raw()
    writer = writer_to(out)
    writer.flush()
    assert len(out.calls) == 2
    writer.add(marks(1)[0])
    assert len(out.calls) == 2
    writer.flush()
    writer.flush()
    assert len(out.calls) == 3
    assert [event for _, event in read(out.getvalue()).events] == marks(1)


def test_abandon_keeps_the_events_and_makes_no_clean_end():
    out = Raw()
    writer = writer_to(out)
    writer.add(marks(1)[0])
    writer.abandon()
    outcome = read(out.getvalue())
    assert (outcome.status, outcome.events) == ("cut", list(enumerate(marks(1))))


@pytest.mark.parametrize("bound", [0, -1, 65_537])
def test_a_bound_out_of_range_wrong(bound: int):
    with pytest.raises(ValueError, match=r"^bound_events must be 1 to 65536$"):
        writer_to(Raw(), bound_events=bound)


@pytest.mark.parametrize("bound", [1, 2, 65_536])
def test_any_bound_keeps_the_order(bound: int):
    out = Raw()
    writer = writer_to(out, bound_events=bound)
    for event in marks(500):
        writer.add(event)
    writer.close()
    assert events_of(out.getvalue()) == marks(500)


def test_next_seq_is_the_number_of_the_next_event():
    writer = writer_to(Raw(), Header(first_seq=100), bound_events=3)
    numbers = []
    for event in marks(7):
        numbers.append(writer.next_seq)
        writer.add(event)
    assert numbers == [100, 101, 102, 103, 104, 105, 106]
    writer.flush()
    assert writer.next_seq == 107


def big(count: int) -> list[Event]:
    """Return events of which five fit into a frame."""
    return [make("mem.write", 0, gpa=at, data=bytes(400_000)) for at in range(count)]


TOO_LARGE = make("mem.write", 0, gpa=0, data=bytes((1 << 20) + 1))


def test_events_too_large_for_one_frame_are_split():
    out = Raw()
    writer = writer_to(out, bound_events=65_536)
    for event in big(20):
        writer.add(event)
    writer.close()
    assert [msgpack.unpackb(frame.stored)[0] for frame in split(out.getvalue())[1:-2]] == [
        0,
        5,
        10,
        15,
    ]
    assert events_of(out.getvalue()) == big(20)


def test_events_of_the_largest_size_are_written():
    events = [make("mem.write", 0, gpa=at, data=bytes(1 << 20)) for at in range(5)]
    events += marks(3)
    assert events_of(build(events, bound_events=65_536)) == events
    full = [(200, 0, bytes(1 << 20), bytes((1 << 20) - 17))]  # a frame of 2 MiB exactly
    data = build(full)
    assert split(data)[1].raw_size == 2 << 20
    assert events_of(data) == full


def test_next_seq_holds_while_a_split_frame_is_written():
    # A thread that adds reads it while the watcher writes.
    seen = []

    class Looking(Raw):
        def write(self, data: Any) -> int:
            seen.append(writer.next_seq if len(self.calls) >= 2 else None)
            return super().write(data)

    writer = writer_to(Looking(), bound_events=65_536)
    for event in big(20):
        writer.add(event)
    writer.flush()
    assert seen == [None, None, 20, 20, 20, 20]


def test_an_event_too_large_for_a_frame_wrong():
    out = Raw()
    writer = writer_to(out)
    writer.add((200, 0, bytes(1 << 20), bytes((1 << 20) - 16)))
    with pytest.raises(WriteError) as error:
        writer.flush()
    assert str(error.value) == (
        "t: event 0 was not written: 2097153 bytes are too many for a frame"
    )
    assert error.value.exit_code == 3
    writer.close()
    assert events_of(out.getvalue()) == []


def test_the_events_around_one_that_is_too_large_are_kept_once():
    out = Raw()
    writer = writer_to(out)
    sent = marks(5)
    with pytest.raises(WriteError) as error:
        add_and_flush(writer, *sent[:2], TOO_LARGE, *sent[2:])
    assert str(error.value) == (
        "t: event 2 was not written: mem.write: data must not be a bytes of 1048577"
    )
    assert numbered(Reader(io.BytesIO(out.getvalue()))) == list(enumerate(sent))
    add_and_flush(writer, *sent)
    writer.close()
    assert events_of(out.getvalue()) == sent * 2


REFUSED = [
    pytest.param(TOO_LARGE, "mem.write: data must not be a bytes of 1048577", id="bytes"),
    pytest.param(
        make("marker", 0, text="x" * 65_537), "marker: text must not be a str of 65537", id="text"
    ),
    pytest.param((129, 0, "\ud800"), r"marker: text must not be '\ud800'", id="surrogate"),
    pytest.param((129, 0, "a", True), f"marker: field.1 {UNKNOWN}True", id="a boolean"),
    pytest.param((9, 2**64), "Integer value out of range", id="time"),
    pytest.param((1, 0, 2**64, 0), "Integer value out of range", id="65 bits"),
    pytest.param((1, 0, object(), 0), "can not serialize 'object' object", id="an object"),
]


@pytest.mark.parametrize(("event", "why"), REFUSED)
@pytest.mark.parametrize("place", [0, 3, 8])
def test_an_event_that_no_reader_takes_does_not_take_others_with_it_wrong(
    event: Event, why: str, place: int
):
    out = Raw()
    writer = writer_to(out)
    with pytest.raises(WriteError) as error:
        add_and_flush(writer, *marks(8)[:place], event, *marks(8)[place:])
    assert str(error.value) == f"t: event {place} was not written: {why}"
    writer.close()
    assert events_of(out.getvalue()) == marks(8)


def test_one_error_counts_all_that_were_refused():
    out = Raw()
    writer = writer_to(out)
    with pytest.raises(WriteError) as error:
        add_and_flush(writer, *marks(2), TOO_LARGE, TOO_LARGE, *marks(2), TOO_LARGE)
    assert str(error.value) == (
        "t: event 2 was not written: mem.write: data must not be a bytes of 1048577; "
        "nor were 2 more events"
    )
    writer.close()
    assert events_of(out.getvalue()) == marks(2) * 2


def test_what_close_refuses_is_told_and_close_can_be_called_again():
    out = Raw()
    writer = writer_to(out)
    add_all(writer, [*marks(2), TOO_LARGE])
    with pytest.raises(WriteError, match=r"^t: event 2 was not written: "):
        writer.close()
    assert read(out.getvalue()).status == "cut"
    writer.close()
    assert events_of(out.getvalue()) == marks(2)


def test_what_abandon_refuses_is_told():
    out = Raw()
    writer = writer_to(out)
    add_all(writer, [TOO_LARGE, *marks(2)])
    with pytest.raises(WriteError, match=r"^t: event 0 was not written: "):
        writer.abandon()
    outcome = read(out.getvalue())
    assert (outcome.status, outcome.events) == ("cut", list(enumerate(marks(2))))


def test_an_event_that_the_watcher_refused_is_told_by_the_next_flush():
    out = Raw()
    writer = writer_to(out, bound_ms=1)
    add_all(writer, [marks(2)[0], TOO_LARGE])
    deadline = time.monotonic() + 30
    while writer._events and time.monotonic() < deadline:
        time.sleep(0.001)
    # It goes on: what is added later is not held back longer than the bound says.
    writer.add(marks(2)[1])
    while writer._events and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [event for _, event in read(out.getvalue()).events] == marks(2)
    with pytest.raises(WriteError) as error:
        writer.close()
    assert str(error.value) == (
        "t: event 1 was not written: mem.write: data must not be a bytes of 1048577"
    )
    writer.close()
    assert events_of(out.getvalue()) == marks(2)


def test_times_that_add_up_to_more_than_64_bits_are_written():
    events = [make("marker", 2**62, text=str(at)) for at in range(6)]
    assert events_of(build(events, bound_events=1)) == events
    events = [make("marker", -(2**62), text=str(at)) for at in range(6)]
    assert events_of(build(events, bound_events=1)) == events


def test_a_trace_of_more_frames_than_an_array_holds_ends_cleanly():
    # At 100 ms a frame, this is two hours of recording.
    out = io.BytesIO()
    writer = writer_to(out, bound_events=1)
    for _ in range(65_540):
        writer.add((9, 0))
    writer.close()
    out.seek(0)
    reader = Reader(out)
    assert sum(len(events) for _, events in reader) == 65_540
    assert (reader.problems, reader.status) == ([], "clean")


@pure_only
def test_the_index_names_every_nth_event_frame(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fmt, "MAX_INDEX_ENTRIES", 8)
    for count in range(40):
        frames = split(build([(9, 1)] * count, bound_events=1))
        index = msgpack.unpackb(frames[-2].stored)["frames"]
        step = index[1][1] if len(index) > 1 else 1
        assert step in (1, 2, 4, 8)
        assert len(index) < 8
        assert index == [[frames[1 + at].start, at, at] for at in range(0, count, step)]


# -- a writer that cannot write


class Full(Raw):
    """A disk with room for `room` bytes; it takes what fits, as a file system does."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = bytes(data[: self.room])
        self.room -= len(part)
        return super().write(part)


def test_a_full_disk_at_every_byte_leaves_all_earlier_frames():
    whole = build(marks(20), Header(), bound_events=4)
    frames = split(whole)
    for room in range(len(whole)):
        out = Full(room)
        with pytest.raises(WriteError) as error:
            build_to(out, marks(20), bound_events=4)
        kept = 4 * sum(frame.end <= room for frame in frames if frame.kind == EVENTS)
        lost = 4 if room >= frames[0].end and kept < 20 else 0
        assert str(error.value) == (
            f"t: No space left on device; everything up to event {kept} is in the file, "
            f"{lost} events are not: make room and record again"
        )
        assert out.getvalue() == whole[:room]
        if room >= frames[0].end:
            outcome = read(out.getvalue())
            assert (outcome.status, outcome.events) == ("cut", list(enumerate(marks(20)))[:kept])


def build_to(out: Any, events: list[Event], **options: Any) -> None:
    writer = writer_to(out, **options)
    for event in events:
        writer.add(event)
    writer.close()


def test_a_full_disk_in_a_split_frame_counts_what_is_lost():
    out = Full(12 + 1000 + 6 * 400_000)
    writer = writer_to(out)
    for event in big(10):
        writer.add(event)
    with pytest.raises(WriteError) as error:
        writer.flush()
    assert [seq for seq, _ in read(out.getvalue()).events] == [0, 1, 2, 3, 4]
    assert str(error.value) == (
        "t: No space left on device; everything up to event 5 is in the file, "
        "5 events are not: make room and record again"
    )


def test_after_an_error_every_call_says_the_same():
    out = Full(2000)
    writer = writer_to(out, bound_events=10)
    with pytest.raises(WriteError) as first:
        add_all(writer, marks(10_000))
    size = len(out.getvalue())
    for call in (writer.flush, writer.close, lambda: writer.add(marks(1)[0])):
        with pytest.raises(WriteError) as again:
            call()
        assert str(again.value) == str(first.value)
    writer.abandon()
    assert len(out.getvalue()) == size
    assert read(out.getvalue()).status == "cut"


def test_the_add_after_the_watcher_failed_says_so():
    writer = writer_to(Full(700), bound_ms=1)
    writer.add(make("mem.write", 0, gpa=0, data=bytes(2000)))
    assert writer._watcher is not None
    writer._watcher.join(30)
    assert not writer._watcher.is_alive()
    with pytest.raises(WriteError, match=r"^t: No space left on device; "):
        writer.add(marks(1)[0])


@pytest.fixture
def dev_full() -> Iterator[io.RawIOBase]:
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("this system has no /dev/full")
    with path.open("wb", buffering=0) as out:
        yield out


def test_dev_full_is_a_clear_error(dev_full: io.RawIOBase):
    with pytest.raises(WriteError) as error:
        writer_to(dev_full, name="/dev/full")
    assert str(error.value) == (
        "/dev/full: No space left on device; everything up to event 0 is in the file, "
        "0 events are not: make room and record again"
    )


# -- two threads


@pytest.mark.parametrize("bound", [1, 7, 4096])
def test_a_thread_that_flushes_all_the_time_loses_and_reorders_nothing(bound: int):
    out = Raw()
    writer = writer_to(out, bound_events=bound)
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            writer.flush()

    threads = [threading.Thread(target=flush) for _ in range(2)]
    for thread in threads:
        thread.start()
    sent = marks(3000)
    for event in sent:
        writer.add(event)
    done.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert events_of(out.getvalue()) == sent


def test_the_watcher_writes_what_was_added_and_nothing_twice():
    written = threading.Event()

    class Telling(Raw):
        def write(self, data: Any) -> int:
            size = super().write(data)
            if self.calls[-1][4:5] == bytes([EVENTS]):
                written.set()
            return size

    out = Telling()
    writer = writer_to(out, bound_ms=1)
    writer.add(marks(1)[0])
    assert written.wait(30)
    for event in marks(5000, 1):
        writer.add(event)
    writer.close()
    assert events_of(out.getvalue()) == marks(5001)
    assert writer._watcher is not None
    assert not writer._watcher.is_alive()


def test_no_thread_without_a_bound_in_time():
    before = threading.active_count()
    writer = writer_to(Raw(), bound_ms=0)
    assert threading.active_count() == before
    writer.close()


# -- the reader takes its bytes as they come


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__()
        self.data = data
        self.size = size

    def read(self, size: int = -1) -> bytes:
        part, self.data = self.data[: min(size, self.size)], self.data[min(size, self.size) :]
        return part


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_slow_pipe_is_read_as_a_file_is(size: int):
    data = SMALL["zstd"]
    damaged = data[:700] + b"\xff" + data[701:]
    for each in (data, data[:-1], damaged):
        reader = Reader(Dribble(each, size))  # type: ignore[arg-type]
        events = [(first + at, event) for first, found in reader for at, event in enumerate(found)]
        expected = read(each)
        assert (events, reader.status) == (expected.events, expected.status)
        assert reader.problems == expected.problems


def test_the_place_after_the_last_good_frame_is_known():
    data = SMALL["none"]
    frames = split(data)
    reader = Reader(io.BytesIO(data[: frames[3].start + 5]))
    assert len(list(reader)) == 2
    assert reader.last_good_offset == frames[3].start


def test_what_is_not_a_trace_is_called_that():
    makes_one = "`itstrace import` makes one of a log"
    for data, way_out in (
        (b"", "it is empty, nothing was recorded in it: record again"),
        (
            gzip.compress(build()),
            "it is compressed: unpack it with `gunzip`, and give what comes out",
        ),
        (b"\x7fELF" + bytes(60), makes_one),
        (b"QEMU log\n", makes_one),
        (b"\x89ITST\n\x1a\n", makes_one),
        (b"\x89PNG\r\n\x1a\n", makes_one),
    ):
        with pytest.raises(NotATrace) as error:
            read(data)
        assert str(error.value) == f"t: byte 0x0: this is not an itstrace file; {way_out}"


def test_a_header_alone_is_an_empty_trace_that_was_cut():
    outcome = read(forge([header_frame()]))
    assert (outcome.events, outcome.status) == ([], "cut")
