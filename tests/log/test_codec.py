from __future__ import annotations

import zlib
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.support.traces import all_kinds, packed, small_events
from tracer.events import KINDS, REQUIRED, Event, Field
from tracer.log import codec, format as fmt
from tracer.log.codec import PayloadError, fits, unpack_events, unpack_map

seeded = settings(derandomize=True, database=None, deadline=None)
CODECS = (fmt.CODEC_NONE, fmt.CODEC_ZLIB, fmt.CODEC_ZSTD)


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(PayloadError) as error:
        call(*args)
    return str(error.value)


# -- compression


@pytest.mark.parametrize("number", CODECS)
@seeded
@given(st.binary(max_size=300) | st.binary(max_size=20).map(lambda part: part * 100))
def test_decompress_undoes_compress(number: int, raw: bytes):
    assert codec.decompress(codec.compress(raw, number), number, len(raw)) == raw


@pytest.mark.parametrize("number", CODECS)
@pytest.mark.parametrize("claimed", [0, 1, 99, 101, 8 << 20])
def test_a_payload_of_another_size_than_claimed_wrong(number: int, claimed: int):
    stored = codec.compress(b"x" * 100, number)
    assert (
        refusal(codec.decompress, stored, number, claimed)
        == f"payload must unpack to {claimed} bytes, as its frame says"
    )


def test_decompress_wrong():
    for number in (3, 7, 255):
        assert (
            refusal(codec.decompress, b"", number, 0)
            == f"codec {number} is not known to this version"
        )
    assert refusal(codec.decompress, b"nonsense", fmt.CODEC_ZLIB, 4).startswith("zlib: ")
    assert refusal(codec.decompress, b"nonsense", fmt.CODEC_ZSTD, 4).startswith("zstd: ")


@pytest.mark.parametrize("number", [fmt.CODEC_ZLIB, fmt.CODEC_ZSTD])
def test_a_cut_payload_wrong(number: int):
    raw = Random(1).randbytes(400) + b"a" * 400
    stored = codec.compress(raw, number)
    checksums = 4 if number == fmt.CODEC_ZLIB else 0  # the frame has CRCs of its own
    for size in range(len(stored) - checksums - 1):
        message = refusal(codec.decompress, stored[:size], number, len(raw))
        assert message.startswith(("payload must unpack to 800", "zlib: ", "zstd: "))


# -- event frames: what is let through


def test_events_come_back_as_they_were():
    for events in (small_events(), all_kinds(), [(1, -5, 0, 0)], [(200, 0, None, "x", (1, (2,)))]):
        raw = codec.pack_events(7, events)
        assert unpack_events(raw) == (7, tuple(events))


def test_a_frame_holds_1_to_65536_events():
    assert len(unpack_events(packed(*[(9, 0)] * 65_536))[1]) == 65_536
    wrong = "events must be an array of 1 to 65536"
    assert refusal(unpack_events, packed()) == wrong
    assert refusal(unpack_events, packed(*[(9, 0)] * 65_537)).startswith("msgpack: ")


@pytest.mark.parametrize(
    "payload",
    [None, 5, "text", b"bytes", [], [0], [0, [[9, 0]], 1], [[9, 0]]],
    ids=repr,
)
def test_what_is_no_event_frame_wrong(payload: object):
    message = refusal(unpack_events, msgpack.packb(payload))
    assert message == "payload must be [first sequence number, events]"


@pytest.mark.parametrize("first", [-1, 2**62, 2**64 - 1, None, "0", 0.0, [0]], ids=repr)
def test_a_first_sequence_number_out_of_range_wrong(first: object):
    message = refusal(unpack_events, msgpack.packb([first, [[9, 0]]]))
    assert message == "first sequence number must be a small integer"


@pytest.mark.parametrize("events", [None, 0, "text", b"\x09\x00", 1.5], ids=repr)
def test_events_that_are_no_array_wrong(events: object):
    message = refusal(unpack_events, msgpack.packb([0, events]))
    assert message == "events must be an array of 1 to 65536"


SHAPE = "event 1 of its frame must be an array of 2 or more"
START = "event 1 of its frame must begin with a kind and a time"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ((), SHAPE),
        ((9,), SHAPE),
        (None, SHAPE),
        (7, SHAPE),
        ("ab", SHAPE),
        (b"\x01\x00\x08\x08", SHAPE),  # four bytes are no event, though each of them is a number
        (b"\x09\x00", SHAPE),
        ((200, 0, *[0] * 63), SHAPE),
        ((1, 0, *[0] * 63), SHAPE),
        ((None, 0), START),
        (("1", 0), START),
        ((1.0, 0, 0, 0), START),
        ((True, 0, 0, 0), START),
        ((-1, 0), START),
        ((256, 0), START),
        ((9, None), START),
        ((9, 1.0), START),
        ((9, True), START),
        ((9, "0"), START),
        ((1, 0), "event 1 of its frame (reg.write) lacks fields"),
        ((1, 0, 5), "event 1 of its frame (reg.write) lacks fields"),
        ((128, 0, 5), "event 1 of its frame (loss) lacks fields"),
        ((131, 0), "event 1 of its frame (source.gap) lacks fields"),
        ((131, 0, None), "event 1 of its frame (source.gap) lacks fields"),
        ((1, 0, -1, 0), "event 1 of its frame (reg.write): offset must not be -1"),
        ((1, 0, 0, None), "event 1 of its frame (reg.write): value must not be None"),
        ((1, 0, 0, 1.5), "event 1 of its frame (reg.write): value must not be 1.5"),
        ((1, 0, 0, float("nan")), "event 1 of its frame (reg.write): value must not be nan"),
        ((1, 0, 0, True), "event 1 of its frame (reg.write): value must not be True"),
        ((1, 0, 0, "1"), "event 1 of its frame (reg.write): value must not be '1'"),
        ((1, 0, 0, (1,)), "event 1 of its frame (reg.write): value must not be (1,)"),
        ((1, 0, 0, 0, 8, 3), "event 1 of its frame (reg.write): origin must not be 3"),
        ((8, 0, 5), "event 1 of its frame (reset): how must not be 5"),
        ((8, 0, -1), "event 1 of its frame (reset): how must not be -1"),
        ((8, 0, "system"), "event 1 of its frame (reset): how must not be 'system'"),
        ((72, 0, 0, 5, 0, 0, 0), "event 1 of its frame (table.write): table must not be 5"),
        ((2, 0, 0, 0, None, 4, 0, 4), "event 1 of its frame (msi): path must not be 4"),
        ((6, 0, 0, "text"), "event 1 of its frame (mem.write): data must not be 'text'"),
        ((6, 0, 0, 7), "event 1 of its frame (mem.write): data must not be 7"),
        ((129, 0, b"bytes"), "event 1 of its frame (marker): text must not be b'bytes'"),
        ((69, 0, 0, 2**63), f"event 1 of its frame (msi.result): result must not be {2**63}"),
        (
            (6, 0, 0, "x" * 1000),
            f"event 1 of its frame (mem.write): data must not be '{'x' * 39}",
        ),
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_an_event_of_the_wrong_shape_wrong(event: object, message: str):
    good = (1, 0, 0, 0)
    assert refusal(unpack_events, packed(good, event)) == message
    assert refusal(unpack_events, packed(good, event, good)) == message


@pytest.mark.parametrize(
    "value",
    [
        msgpack.ExtType(5, b""),
        msgpack.ExtType(5, b"x"),
        msgpack.ExtType(5, b"x" * 300),
        msgpack.Timestamp(1, 2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [1, 129, 200])
def test_extension_types_do_not_occur_wrong(kind: int, value: object):
    assert refusal(unpack_events, packed((kind, 0, value, value))).startswith("msgpack: ")


def test_nesting_deeper_than_the_limit_wrong():
    # The frame, its events and the event are three levels of four.
    assert unpack_events(packed((200, 0, (1, 2))))[1] == ((200, 0, (1, 2)),)
    deep: Any = 1
    for _ in range(fmt.MAX_NESTING):
        deep = (deep,)
    assert "nest" in refusal(unpack_events, packed((200, 0, deep)))
    assert "nest" in refusal(unpack_events, packed((8, 0, 1, 0, deep)))


def test_trailing_bytes_and_cut_payloads_wrong():
    raw = packed((1, 0, 0, 0), (129, 0, "note"))
    assert refusal(unpack_events, raw + b"\0").startswith("msgpack: ")
    for size in range(len(raw)):
        assert refusal(unpack_events, raw[:size]).startswith("msgpack: ")


# -- the fast check against the slow and obvious one


def obvious(event: Any) -> bool:
    """Say from the schema alone whether a reader lets `event` through."""
    if type(event) is not tuple or not 2 <= len(event) <= 64:
        return False
    kind, dt_ns, *values = event
    if type(kind) is not int or not 0 <= kind <= 255 or type(dt_ns) is not int:
        return False
    if kind not in KINDS:
        return True
    for at, field in enumerate(KINDS[kind].fields):
        if at < len(values):
            if not obviously_fits(field, values[at]):
                return False
        elif field.default is REQUIRED:
            return False
    return True


def obviously_fits(field: Field, value: object) -> bool:
    if value is None:
        return field.default is None
    if field.form == "bytes":
        return type(value) is bytes
    if field.form == "text":
        return type(value) is str
    low, high = 0, 2**64 - 1
    if field.form == "int":
        low, high = -(2**63), 2**63 - 1
    if type(field.form) is tuple:
        high = len(field.form) - 1
    return type(value) is int and low <= value <= high


NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63)])
ODD = st.sampled_from([None, True, False, 1.0, float("inf"), "", "x", b"", b"\x01\0\x08\x08", ()])
MOSTLY_NUMBERS = st.one_of(NUMBERS, NUMBERS, NUMBERS, ODD)
ANY_EVENT = st.builds(
    lambda kind, dt_ns, values: (kind, dt_ns, *values),
    st.sampled_from([*KINDS, 0, 63, 127, 200, 255]),
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]),
    st.lists(MOSTLY_NUMBERS, max_size=12) | st.lists(st.integers(0, 5), max_size=12),
)


@settings(seeded, max_examples=3000)
@given(st.lists(ANY_EVENT, min_size=1, max_size=4))
@example([(8, 0, 1), (8, 0, 5)])
@example([(1, 0, 1, 2), (1, -1, 1, 2, 8, 3)])
@example([(64, 2**63, 1, 2), (64, -1, 1, 2)])
def test_the_fast_check_lets_through_what_the_schema_does(events: list[Event]):
    raw = packed(*events)
    if all(obvious(event) for event in events):
        assert unpack_events(raw) == (0, tuple(events))
    else:
        assert refusal(unpack_events, raw).startswith("event ")


@settings(seeded, max_examples=1000)
@given(
    st.sampled_from([field for cls in KINDS.values() for field in cls.fields]),
    NUMBERS | ODD | st.integers(-10, 10),
)
def test_fits_is_what_the_schema_says(field: Field, value: object):
    assert fits(field, value) == obviously_fits(field, value)


# -- maps


def test_a_map_comes_back_with_its_keys_in_order():
    value = {"b": 1, "a": None, "list": [1, "x"], "map": {"k": "v"}}
    raw = codec.pack_map(value)
    assert unpack_map(raw) == {"b": 1, "a": None, "list": (1, "x"), "map": {"k": "v"}}
    assert list(unpack_map(raw)) == ["b", "a", "list", "map"]


@pytest.mark.parametrize("payload", [None, 1, [], [["a", 1]], "a", {b"a": 1}], ids=repr)
def test_what_is_no_map_with_text_keys_wrong(payload: object):
    assert refusal(unpack_map, msgpack.packb(payload)) == "payload must be a map with text keys"


@pytest.mark.parametrize("key", [1, None, True, (1,)], ids=repr)
def test_keys_that_are_not_text_wrong(key: object):
    raw = b"\x81" + msgpack.packb(key) + b"\x01"
    assert refusal(unpack_map, raw).startswith("msgpack: ")


def test_keys_of_inner_maps_are_text_too_wrong():
    raw = msgpack.packb({"a": {b"bytes": 1, "text": 2}})
    assert refusal(unpack_map, raw) == "payload must be a map with text keys"


def test_zlib_level_is_read_whatever_it_is():
    raw = b"abc" * 100
    for level in range(10):
        assert codec.decompress(zlib.compress(raw, level), fmt.CODEC_ZLIB, 300) == raw
