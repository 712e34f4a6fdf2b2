"""Input that somebody made to hurt: documented errors only, and little memory."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from tests.support.compiled import pure_only
from tests.support.traces import (
    END,
    EVENTS,
    HEADER,
    INDEX,
    PREAMBLE,
    Frame,
    all_kinds,
    build,
    forge,
    header_frame,
    join,
    numbered,
    packed,
    read,
    read_text,
    small_events,
    small_header,
    split,
    text_of,
    with_events,
)
from tracer.errors import DamagedTrace, NewerTrace, TraceError
from tracer.events import Event
from tracer.log import codec, format as fmt, frames as one_frame, stream
from tracer.log.header import Header
from tracer.log.stream import Reader
from tracer.log.text import format_event, write_text

MB = 1_000_000
MOST = 2 << 20  # bytes of a frame, stored and unpacked
GOOD = packed(*small_events())


def told(data: bytes, limit: int = 40 * MB) -> list[str]:
    """Return what is said of `data`, which must be read without using much memory."""
    source = io.BytesIO(data)
    tracemalloc.start()
    try:
        try:
            reader = Reader(source, "t")
            for _ in reader:
                pass
            messages = [problem.what for problem in reader.problems]
        except TraceError as error:
            messages = [str(error)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak / MB:.0f} MB for a file of {len(data)} bytes"
    return messages


def damage(data: bytes, limit: int = 40 * MB) -> str:
    """Return what is said of the one frame of `data`; no event may come of it."""
    messages = told(data, limit)
    assert read(data).events == []
    assert messages[1:] in ([], ["no clean end: the recorder was cut off here"])
    return messages[0]


# -- sizes


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"stored_size": 2**32 - 1}, 2**32 - 1),
        ({"stored_size": 2**31}, 2**31),
        ({"stored_size": MOST + 1}, MOST + 1),
        ({"raw_size": 2**32 - 1}, 2**32 - 1),
        ({"raw_size": MOST + 1}, MOST + 1),
        ({"raw_size": 2**32 - 1, "stored_size": 2**32 - 1}, 2**32 - 1),
    ],
)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_length_of_gigabytes(changes: dict[str, int], size: int, number: int):
    data = with_events(GOOD, codec=number, **changes)
    assert damage(data) == f"a frame of {size} bytes"
    header = forge([Frame(HEADER, b"\x80", codec=number, **changes)])
    assert damage_of_header(header) == f"t: byte 0xc: header: a frame of {size} bytes"


def damage_of_header(data: bytes) -> str:
    [message] = told(data)
    return message


def test_the_largest_length_that_is_believed_is_a_cut():
    data = with_events(GOOD, stored_size=MOST)
    assert damage(data) == "the last frame is cut off"


@pytest.mark.parametrize("raw_size", [0, 1, MOST])
def test_a_raw_size_that_is_not_the_payloads(raw_size: int):
    message = f"payload must unpack to {raw_size} bytes, as its frame says"
    for number in (0, 1, 2):
        stored = codec.compress(GOOD, number)
        assert damage(with_events(stored, codec=number, raw_size=raw_size)) == message


# -- bombs


def zstd_rle(total: int, window: int = 0x58, size: bytes = b"") -> bytes:
    """Return a zstd frame of RLE blocks that unpacks to `total` zeros; 4 bytes make 128 KiB."""
    blocks, rest = divmod(total, 1 << 17)
    assert rest == 0
    middle = ((1 << 1) | (1 << 17 << 3)).to_bytes(3, "little") + b"\0"
    last = ((1 << 1) | (1 << 17 << 3) | 1).to_bytes(3, "little") + b"\0"
    head = b"\xe0" + size if size else bytes((0, window))
    return b"\x28\xb5\x2f\xfd" + head + middle * (blocks - 1) + last


def test_the_bombs_are_what_they_claim():
    assert codec.decompress(zstd_rle(1 << 20), fmt.CODEC_ZSTD, 1 << 20) == bytes(1 << 20)
    assert len(zstd_rle(4 << 30)) < 140_000
    assert codec.decompress(zlib.compress(bytes(1 << 20)), fmt.CODEC_ZLIB, 1 << 20) == bytes(
        1 << 20
    )


@pytest.mark.parametrize("raw_size", [0, 100, MOST])
def test_a_zstd_bomb_is_unpacked_no_further_than_its_frame_says(raw_size: int):
    data = with_events(zstd_rle(4 << 30), codec=2, raw_size=raw_size)
    assert damage(data) == f"payload must unpack to {raw_size} bytes, as its frame says"


@pytest.mark.parametrize("raw_size", [0, 100, MOST])
def test_a_zstd_frame_that_claims_gigabytes_itself(raw_size: int):
    claim = struct.pack("<Q", 1 << 40)
    data = with_events(zstd_rle(1 << 30, size=claim), codec=2, raw_size=raw_size)
    assert damage(data).startswith("zstd: ")


@pytest.mark.parametrize("log", [24, 27, 31, 41])
def test_a_zstd_frame_with_a_huge_window(log: int):
    data = with_events(zstd_rle(1 << 20, window=(log - 10) << 3), codec=2, raw_size=1 << 20)
    assert damage(data).startswith("zstd: ")


def test_a_zstd_frame_within_the_window_is_read():
    data = with_events(zstd_rle(1 << 20, window=(23 - 10) << 3), codec=2, raw_size=1 << 20)
    # zeros are no events, but they were unpacked
    assert damage(data) == "payload must be [first sequence number, events]"


@pytest.mark.parametrize("raw_size", [0, 100, MOST])
def test_a_zlib_bomb_is_unpacked_no_further_than_its_frame_says(raw_size: int):
    bomb = zlib.compress(bytes(64 << 20), 1)
    data = with_events(bomb, codec=1, raw_size=raw_size)
    assert damage(data) == f"payload must unpack to {raw_size} bytes, as its frame says"


@pytest.mark.parametrize("number", [1, 2])
def test_a_header_that_is_a_bomb(number: int):
    bomb = zlib.compress(bytes(64 << 20), 1) if number == 1 else zstd_rle(4 << 30)
    for raw_size in (0, 1 << 20, MOST):
        data = forge([Frame(HEADER, bomb, codec=number, raw_size=raw_size)])
        assert damage_of_header(data) == (
            f"t: byte 0xc: header: payload must unpack to {raw_size} bytes, as its frame says"
        )


# -- msgpack that claims much

START = b"\x92\x00"  # [0, ...
ONE = b"\x91"
EVENT = b"\x93\x64\x00"  # [[100, 0, ...]]

CLAIMS = {
    "array16": b"\xdc\xff\xff",
    "array32": b"\xdd\xff\xff\xff\xff",
    "array of 64 Ki": b"\xdd\x00\x01\x00\x00",
    "map16": b"\xde\xff\xff",
    "map32": b"\xdf\xff\xff\xff\xff",
    "str32": b"\xdb\xff\xff\xff\xff",
    "str of 64 Ki": b"\xdb\x00\x01\x00\x00",
    "bin32": b"\xc6\xff\xff\xff\xff",
    "bin of 1 MiB": b"\xc6\x00\x10\x00\x00",
    "ext32": b"\xc9\xff\xff\xff\xff\x01",
    "ext8": b"\xc7\xff\x01",
    "never used": b"\xc1",
}


IN_AN_EVENT = (
    "payload must hold as many events as it says and nothing else",
    "msgpack: FormatError",
)
TOLD = {
    b"": ("payload must be [first sequence number, events]",),
    START: (
        "events must be an array of 1 to 65536",
        "payload must hold as many events as it says and nothing else",
    ),
    START + ONE: IN_AN_EVENT,
    START + ONE + EVENT: IN_AN_EVENT,
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("place", TOLD, ids=repr)
def test_a_payload_that_claims_more_than_it_holds(place: bytes, claim: bytes):
    message = damage(with_events(place + claim), 2 * MB)
    assert message in TOLD[place] or (
        len(place) > 2 and re.fullmatch(r"msgpack: \d+ exceeds max_[a-z]+_len\(\d+\)", message)
    )


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("place", [b"", b"\x81\xa1a", b"\x81"], ids=repr)
def test_a_header_that_claims_more_than_it_holds(place: bytes, claim: bytes):
    [message] = told(forge([Frame(HEADER, place + claim)]), 2 * MB)
    assert message in (
        "t: byte 0xc: msgpack: No more data to unpack.",
        "t: byte 0xc: msgpack: FormatError",
        "t: byte 0xc: msgpack: 0 exceeds max_ext_len(0)",
    )


@pytest.mark.parametrize("level", [b"\xdd\x00\x01\x00\x00", b"\xdf\x00\x01\x00\x00\xa1a"])
@pytest.mark.parametrize("depth", [100, 900, 1022, 5000])
def test_a_map_that_claims_much_on_every_level(level: bytes, depth: int):
    payload = b"\x81\xa1a" + level * depth
    for frames in (
        [Frame(HEADER, payload)],
        [header_frame(), Frame(INDEX, payload)],
        [header_frame(), Frame(END, payload)],
    ):
        message = told(forge(frames), 2 * MB)[0]
        assert message.removeprefix("t: byte 0xc: ") in (
            "msgpack: No more data to unpack.",
            "msgpack: StackError",
        )


@pytest.mark.parametrize("depth", [20, 200, 900, 1020, 5000, 1_000_000])
@pytest.mark.parametrize(
    "level", [b"\x91", b"\xdd\x00\x01\x00\x00", b"\x81\xa1a", b"\xdc\x00\x01"], ids=repr
)
@pytest.mark.parametrize("place", [b"", START, START + ONE, START + ONE + EVENT], ids=repr)
def test_nesting_without_end(place: bytes, level: bytes, depth: int):
    assert damage(with_events(place + level * depth))


@pytest.mark.parametrize("depth", [20, 200, 500, 900, 1010])
@pytest.mark.parametrize("kind", [1, 100, 129])
def test_nesting_that_ends(kind: int, depth: int):
    event = bytes((0x95 if kind < 128 else 0x94,)) + msgpack.packb(kind) + b"\x00"
    event += b"\x00" * (event[0] - 0x93) + b"\x91" * depth + b"\x00"
    assert damage(with_events(START + ONE + event))


@pytest.mark.parametrize("depth", [20, 200, 500, 900, 1010])
@pytest.mark.parametrize("key", ["host", "flags", "its_bases", "newer"])
def test_a_header_with_nesting(key: str, depth: int):
    for level in (b"\x91", b"\x81\xa1a"):
        payload = b"\x81" + msgpack.packb(key) + level * depth + b"\x00"
        message = damage_of_header(forge([Frame(HEADER, payload)]))
        assert message.startswith("t: byte 0xc: ")


def bomb(raw: bytes) -> bytes:
    stored = codec.compress(raw, fmt.CODEC_ZSTD)
    assert len(stored) < 20_000
    return with_events(stored, codec=2, raw_size=len(raw))


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"\x00" * 61, id="numbers"),
        pytest.param(b"\xc0" * 61, id="nulls"),
        pytest.param(b"\xa0" * 61, id="empty texts"),
        pytest.param(b"\xa2xx" * 41, id="texts"),
        pytest.param(b"\x90" * 61, id="empty arrays"),
        pytest.param(b"\x91\x00" * 61, id="arrays of one"),
    ],
)
def test_a_small_file_of_a_great_many_values(field: bytes):
    # A full frame of honest events takes up to 70 MB; no other may take much more.
    count = {61: 61, 122: 61, 123: 41}[len(field)] + 2
    event = b"\xdc\x00" + bytes((count,)) + b"\x64\x00" + field
    number = min(65_536, MOST // len(event) - 1)
    raw = START + b"\xdd" + struct.pack(">I", number) + event * number
    messages = told(bomb(raw), 100 * MB)
    assert messages


def test_a_header_of_2_mb():
    payload = msgpack.packb({"version": 1, "command_line": ["x" * 60_000] * 35})
    assert damage_of_header(forge([Frame(HEADER, payload)])).startswith("t: byte 0xc: ")
    stored = codec.compress(payload, fmt.CODEC_ZSTD)
    data = forge([Frame(HEADER, stored, codec=2, raw_size=len(payload))])
    assert damage_of_header(data).startswith("t: byte 0xc: ")


@pytest.mark.parametrize(
    "keys",
    [
        {b"version": 1},
        {1: 1},
        {None: 1},
        {True: 1},
        {1.5: 1},
    ],
    ids=repr,
)
def test_header_keys_that_are_not_text(keys: dict[Any, Any]):
    assert damage_of_header(forge([Frame(HEADER, msgpack.packb(keys))])).startswith("t: byte 0xc: ")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -1, 2**64 - 1, True, b"", [], {}, [[]]], ids=repr
)
@pytest.mark.parametrize("key", [*Header().to_map()])
def test_a_header_of_any_types(key: str, value: object):
    data = forge([Frame(HEADER, msgpack.packb({"version": 1, key: value}))])
    for message in told(data):
        assert message == "no clean end: the recorder was cut off here" or message.startswith(
            "t: byte 0xc: "
        )


# -- numbers


@pytest.mark.parametrize("first", [2**62, 2**63, 2**64 - 1, 2**64 - 2])
def test_sequence_numbers_near_the_end_of_64_bits(first: int):
    assert damage(with_events(packed((9, 0), first_seq=first))) == (
        "first sequence number must be a small integer"
    )
    header = forge([header_frame(first_seq=first)])
    assert damage_of_header(header) == f"t: byte 0xc: header: first_seq must not be {first}"


def test_a_hole_of_2_to_the_62_events_costs_nothing():
    data = with_events(packed((9, 0), first_seq=2**62 - 1))
    assert told(data)[0] == f"events 0 to {2**62 - 2} are missing"


@pytest.mark.parametrize("version", [2, 2**31, 2**32 - 1])
def test_a_newer_version_is_newer(version: int):
    with pytest.raises(NewerTrace) as error:
        read(PREAMBLE[:8] + struct.pack("<I", version) + bytes(100))
    assert error.value.exit_code == 4


def test_version_0_is_damage():
    with pytest.raises(DamagedTrace) as error:
        read(PREAMBLE[:8] + bytes(200))
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", b"\x80", b"\x81\xa6events\xcb" + bytes(8), b"\x81\xa6events\xc3", b"\x90"],
    ids=repr,
)
@pytest.mark.parametrize("kind", [INDEX, END])
def test_an_index_or_an_end_of_anything(kind: int, payload: bytes):
    data = forge([header_frame(), Frame(EVENTS, packed((9, 0), (9, 0))), Frame(kind, payload)])
    outcome = read(data)
    assert [seq for seq, _ in outcome.events] == [0, 1]
    if kind == END or payload in (b"", b"\xc0", b"\x90"):
        assert outcome.status == "damaged"
    assert told(data)


# -- work and memory in proportion to the file


class Endless(io.RawIOBase):
    """A trace of a great many broken frames, which is never in memory as a whole."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.left = chunks
        self.next = forge([header_frame()])
        self.chunk = Frame(EVENTS, b"?").pack() * 300

    def read(self, size: int = -1) -> bytes:
        now, self.next = self.next, self.chunk if self.left else b""
        self.left -= bool(self.left)
        return now


def test_broken_frames_without_end_are_not_all_remembered():
    endless = Endless(150)
    tracemalloc.start()
    try:
        reader = Reader(endless)  # type: ignore[arg-type]
        assert list(reader) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reader.status == "damaged"
    # 45,000 frames; a file of gigabytes must not take more.
    assert peak < 2 * MB, f"{peak / MB:.0f} MB for {len(reader.problems)} problems"


@pure_only
def test_frames_that_claim_what_follows_are_not_read_over_and_over(monkeypatch: pytest.MonkeyPatch):
    # Every head is right and claims the rest of the file, whose CRC is then wrong.
    work = 0

    def crc32(data: Any) -> int:
        nonlocal work
        work += len(data)
        return zlib.crc32(data)

    count = 60_000
    head = Frame(EVENTS, b"", stored_size=MOST // 2).pack()[:-4]
    data = forge([header_frame()]) + head * count
    monkeypatch.setattr(one_frame, "zlib", SimpleNamespace(crc32=crc32))
    assert read(data).status == "damaged"
    # A large share of them is read over 16 MiB; all of them would be 60 GB.
    assert len(data) < work < 20 * len(data), f"{work / len(data):.0f} times the size of the file"


def matryoshka(count: int) -> bytes:
    """Return a frame within a frame, and so on: every CRC holds, but none is of this version."""
    data = b""
    for _ in range(count):
        data = Frame(EVENTS, data, flags=1).pack()
    return data


@pure_only
@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(Frame(EVENTS, b"", stored_size=MOST).pack()[:-4] * 30_000, id="cut"),
        pytest.param(matryoshka(4000), id="within another"),
    ],
)
def test_frames_that_are_none_are_not_read_over_and_over(
    frames: bytes, monkeypatch: pytest.MonkeyPatch
):
    work = 0
    peek = stream.Source.peek

    def counting(source: Any, size: int) -> bytes:
        nonlocal work
        found = peek(source, size)
        work += len(found)
        return found

    data = forge([header_frame()]) + frames
    monkeypatch.setattr(stream.Source, "peek", counting)
    assert read(data).status == "damaged"
    assert work < 4 * len(data) + (24 << 20), f"{work / MB:.0f} MB for {len(data) / MB:.1f}"


# -- mutations


def mutations(seed: int, samples: list[bytes], count: int) -> Iterator[bytes]:
    """Yield `count` changed copies of the samples, the same ones in every run."""
    random = Random(seed)
    for _ in range(count):
        data = bytearray(random.choice(samples))
        for _ in range(random.choice((1, 1, 2, 5))):
            CHANGES[random.randrange(len(CHANGES))](data, random, samples)
        yield bytes(data)


def flip(data: bytearray, random: Random, samples: list[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f\xff",
    b"\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xcb" + b"\x7f" * 8,
    b"\xc0",
    b"\xc1",
    b"\xdd\xff\xff",
    b"\xf5ITS",
)


def overwrite(data: bytearray, random: Random, samples: list[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    more = random.choice(INTERESTING)
    data[at : at + len(more)] = more


def delete(data: bytearray, random: Random, samples: list[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.choice((1, 2, 8, 100))]


def insert(data: bytearray, random: Random, samples: list[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.choice((1, 2, 8, 40)))


def double(data: bytearray, random: Random, samples: list[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    end = at + random.choice((1, 4, 36, 200))
    data[end:end] = data[at:end]


def truncate(data: bytearray, random: Random, samples: list[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def splice(data: bytearray, random: Random, samples: list[bytes]) -> None:
    other = random.choice(samples)
    data[random.randrange(len(data) + 1) :] = other[random.randrange(len(other)) :]


CHANGES: list[Callable[[bytearray, Random, list[bytes]], None]] = [
    flip,
    flip,
    overwrite,
    overwrite,
    delete,
    insert,
    double,
    truncate,
    splice,
]

SAMPLES = [
    build(events, small_header(), codec=name, bound_events=9)
    for events in (small_events(), all_kinds())
    for name in ("none", "zlib", "zstd")
]
PLAIN = [data for at, data in enumerate(SAMPLES) if at % 3 == 0]


def repaired(seed: int, count: int) -> Iterator[bytes]:
    """Yield traces with a mutated payload in one frame, every CRC and chain right again."""
    random = Random(seed)
    frames = [split(data) for data in PLAIN]
    payloads = [frame.stored for each in frames for frame in each]
    for payload in mutations(seed, payloads, count):
        chosen = random.choice(frames)
        at = random.randrange(len(chosen))
        changed = replace(chosen[at], stored=payload, raw_size=None)
        yield forge([*chosen[:at], changed, *chosen[at + 1 :]])


def drain(data: bytes) -> list[Event]:
    try:
        return [event for _, event in read(data).events]
    except TraceError as error:
        return [(str(error),)]


def bounded(work: Callable[[], int]) -> int:
    tracemalloc.start()
    try:
        result = work()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MB, f"{peak / MB:.0f} MB"
    return result


def test_mutated_traces_raise_only_documented_errors():
    counted = bounded(lambda: sum(drain(data) != [] for data in mutations(1, SAMPLES, 4000)))
    assert counted > 3000


def test_mutated_payloads_with_right_crcs_raise_only_documented_errors():
    counted = bounded(lambda: sum(drain(data) != [] for data in repaired(2, 6000)))
    assert counted > 3000


def test_what_is_read_of_a_mutated_trace_has_a_text_form_that_is_read_back():
    texts = 0
    for data in repaired(3, 4000):
        try:
            outcome = read(data)
        except TraceError:
            continue
        out = io.StringIO()
        write_text(outcome.header, list(enumerate(event for _, event in outcome.events)), out)
        first = outcome.header.first_seq
        text = out.getvalue()
        if first == 0:
            lines = [format_event(at, event) for at, (_, event) in enumerate(outcome.events)]
            back = [format_event(at, event) for at, event in read_text(text)[1]]
            assert back == lines
        texts += 1
    assert texts > 1000


TEXTS = [text_of(data).encode() for data in PLAIN]


def text_changes(seed: int, count: int) -> Iterator[str]:
    """Yield mutated texts: bytes, lines and words."""
    random = Random(seed)
    words = [
        word for text in TEXTS for line in text.decode().split("\n") for word in line.split(" ")
    ]
    words += [
        "-",
        ".",
        "##",
        '"',
        "=",
        "\\",
        "kind.200",
        'field.5="[1]"',
        "0x" + "f" * 17,
        "[" * 50,
    ]
    for data in mutations(seed, TEXTS, count // 2):
        yield data.decode("utf-8", "replace")
    for _ in range(count // 2):
        lines = random.choice(TEXTS).decode().split("\n")
        for _ in range(random.choice((1, 1, 3))):
            at = random.randrange(1, len(lines))
            parts = lines[at].split(" ")
            parts[random.randrange(len(parts))] = random.choice(words)
            lines[at] = " ".join(parts)
            if random.random() < 0.2:
                lines.insert(random.randrange(len(lines)), random.choice(lines))
        yield "\n".join(lines)


def verdict_of(text: str) -> str:
    try:
        read_text(text)
    except TraceError as error:
        return str(error)
    return ""


def test_mutated_texts_raise_only_documented_errors():
    def work() -> int:
        verdicts = [verdict_of(text) for text in text_changes(4, 4000)]
        assert all(verdict == "" or verdict.startswith("t:") for verdict in verdicts)
        return verdicts.count("")

    assert bounded(work) > 50


def test_what_is_read_of_a_mutated_text_is_a_good_binary_trace():
    good = 0
    for text in text_changes(5, 4000):
        try:
            header, events = read_text(text)
        except TraceError:
            continue
        outcome = read(build([event for _, event in events], header))
        assert (outcome.status, outcome.problems) == ("clean", [])
        assert outcome.events == events
        good += 1
    assert good > 50


def test_mutated_frame_orders_raise_only_documented_errors():
    random = Random(6)
    frames = [frame for data in SAMPLES for frame in split(data)]
    header = split(SAMPLES[0])[0]
    for _ in range(1500):
        chosen = [header, *random.choices(frames, k=random.randrange(1, 8))]
        data = random.choice((join, forge))(chosen)
        reader = Reader(io.BytesIO(data), "t")
        events = numbered(reader)
        assert reader.status in ("clean", "cut", "damaged")
        assert len(events) == reader.events
