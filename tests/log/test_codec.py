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
from tracer.log.checks import PayloadError, check_event, check_events, fits
from tracer.log.codec import check_plain, unpack_events, unpack_map

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
    assert refusal(unpack_events, packed(*[(9, 0)] * 65_537)) == wrong


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


SHAPE = "event 1 of its frame: an event must be an array of 2 to 64"
KIND = "event 1 of its frame: a kind must be 0 to 255, not "
TIME = "event 1 of its frame: a time must be -2^63 to 2^64-1 nanoseconds, not "
UNKNOWN = (
    "must hold null, integers, texts, bytes and arrays of these, 4 deep and 64 long at most, not "
)


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
        ((200, 0, *[0] * 63), "msgpack: 65 exceeds max_array_len(64)"),
        ((1, 0, *[0] * 63), "msgpack: 65 exceeds max_array_len(64)"),
        ((None, 0), KIND + "None"),
        (("1", 0), KIND + "'1'"),
        ((1.0, 0, 0, 0), KIND + "1.0"),
        ((True, 0, 0, 0), KIND + "True"),
        ((-1, 0), KIND + "-1"),
        ((256, 0), KIND + "256"),
        ((9, None), TIME + "None"),
        ((9, 1.0), TIME + "1.0"),
        ((9, True), TIME + "True"),
        ((9, "0"), TIME + "'0'"),
        ((1, 0), "event 1 of its frame: reg.write needs offset"),
        ((1, 0, 5), "event 1 of its frame: reg.write needs value"),
        ((128, 0), "event 1 of its frame: loss needs reason"),
        ((128, 0, 5), "event 1 of its frame: loss: reason must not be 5"),
        ((128, 0, "ring", "5"), "event 1 of its frame: loss: count must not be '5'"),
        ((131, 0), "event 1 of its frame: source.gap needs reason"),
        ((131, 0, None), "event 1 of its frame: source.gap: reason must not be None"),
        ((1, 0, -1, 0), "event 1 of its frame: reg.write: offset must not be -1"),
        ((1, 0, 0, None), "event 1 of its frame: reg.write: value must not be None"),
        ((1, 0, 0, 1.5), "event 1 of its frame: reg.write: value must not be 1.5"),
        ((1, 0, 0, float("nan")), "event 1 of its frame: reg.write: value must not be nan"),
        ((1, 0, 0, True), "event 1 of its frame: reg.write: value must not be True"),
        ((1, 0, 0, "1"), "event 1 of its frame: reg.write: value must not be '1'"),
        ((1, 0, 0, (1,)), "event 1 of its frame: reg.write: value must not be a tuple of 1"),
        ((1, 0, 0, 0, 8, 0, 0, True), f"event 1 of its frame: reg.write: field.5 {UNKNOWN}True"),
        ((200, 0, 1.5), f"event 1 of its frame: kind.200: field.0 {UNKNOWN}1.5"),
        ((200, 0, 1, (False,)), f"event 1 of its frame: kind.200: field.1 {UNKNOWN}a tuple of 1"),
        ((200, 0, {}), f"event 1 of its frame: kind.200: field.0 {UNKNOWN}a dict of 0"),
        ((200, 0, {"a": 1}), "msgpack: 1 exceeds max_map_len(0)"),
        ((1, 0, 0, 0, 8, 3), "event 1 of its frame: reg.write: origin must not be 3"),
        ((8, 0, 5), "event 1 of its frame: reset: how must not be 5"),
        ((8, 0, -1), "event 1 of its frame: reset: how must not be -1"),
        ((8, 0, "system"), "event 1 of its frame: reset: how must not be 'system'"),
        ((72, 0, 0, 5, 0, 0, 0), "event 1 of its frame: table.write: table must not be 5"),
        ((2, 0, 0, 0, None, 4, 0, 4), "event 1 of its frame: msi: path must not be 4"),
        ((6, 0, 0, "text"), "event 1 of its frame: mem.write: data must not be 'text'"),
        ((6, 0, 0, 7), "event 1 of its frame: mem.write: data must not be 7"),
        ((129, 0, b"bytes"), "event 1 of its frame: marker: text must not be b'bytes'"),
        ((69, 0, 0, 2**63), f"event 1 of its frame: msi.result: result must not be {2**63}"),
        (
            (6, 0, 0, "x" * 1000),
            f"event 1 of its frame: mem.write: data must not be '{'x' * 39}",
        ),
        (
            (6, 0, 0, "x" * 1001),
            "event 1 of its frame: mem.write: data must not be a str of 1001",
        ),
        ((129, 0, "x" * 65_537), "msgpack: 65537 exceeds max_str_len(65536)"),
        ((6, 0, 0, b"x" * 1_048_577), "msgpack: 1048577 exceeds max_bin_len(1048576)"),
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


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = (value,)
    return value


def test_nesting_deeper_than_the_limit_wrong():
    for depth in range(fmt.MAX_NESTING + 1):
        event = (200, 0, nested(depth))
        assert unpack_events(packed(event))[1] == (event,)
    deep = nested(fmt.MAX_NESTING + 1)
    assert refusal(unpack_events, packed((200, 0, deep))) == (
        f"event 0 of its frame: kind.200: field.0 {UNKNOWN}a tuple of 1"
    )
    assert refusal(unpack_events, packed((8, 0, 1, 0, deep))) == (
        f"event 0 of its frame: reset: field.2 {UNKNOWN}a tuple of 1"
    )


def test_arrays_longer_than_the_limit_wrong():
    event = (200, 0, (0,) * 64, ((0,) * 64,))
    assert unpack_events(packed(event))[1] == (event,)
    for wrong in ((200, 0, (0,) * 65), (200, 0, ((0,) * 65,)), (8, 0, 1, 0, (0,) * 65)):
        assert refusal(unpack_events, packed(wrong)) == "msgpack: 65 exceeds max_array_len(64)"


@pytest.mark.parametrize("place", range(2, 7))
def test_a_boolean_is_told_from_a_number_wrong(place: int):
    # 0xc2 and 0xc3 are bytes of numbers, too: those frames are only looked at once more.
    good = (1, 0, 0xC2C3, 0xC2C3, 8, 0, 0)
    assert unpack_events(packed(good)) == (0, (good,))
    for value in (True, False):
        event = (*good[:place], value, *good[place + 1 :])
        name = KINDS[1].fields[place - 2].name
        assert refusal(unpack_events, packed(good, event)) == (
            f"event 1 of its frame: reg.write: {name} must not be {value}"
        )


@pytest.mark.parametrize("dt_ns", [-(2**63), -1, 2**63 - 1, 2**63, 2**64 - 1])
def test_any_time_of_64_bits_is_read(dt_ns: int):
    for kind in (9, 200):
        assert unpack_events(packed((kind, dt_ns))) == (0, ((kind, dt_ns),))


def test_a_time_that_no_file_can_hold_wrong():
    for dt_ns in (-(2**63) - 1, 2**64):
        assert refusal(check_event, (9, dt_ns)) == (
            f"a time must be -2^63 to 2^64-1 nanoseconds, not {dt_ns}"
        )


def test_trailing_bytes_and_cut_payloads_wrong():
    raw = packed((1, 0, 0, 0), (129, 0, "note"))
    more = "payload must hold as many events as it says and nothing else"
    for byte in (b"\0", b"\x93", b"\xc1"):
        assert refusal(unpack_events, raw + byte) == more
    for size in range(len(raw)):
        message = "msgpack: No more data to unpack." if size < 3 else more
        assert refusal(unpack_events, raw[:size]) == message


def test_what_is_no_msgpack_has_a_message_that_says_so():
    assert refusal(unpack_events, b"\x92\xc1") == "msgpack: FormatError"
    assert refusal(unpack_events, b"\x92\x00\x91\xc1") == "msgpack: FormatError"
    assert refusal(unpack_events, b"\x92\x00" + b"\x91" * 5000) == "msgpack: StackError"
    assert refusal(unpack_map, b"\x91" * 5000) == "msgpack: StackError"
    assert refusal(unpack_map, b"\x81\xa1a\xc1") == "msgpack: FormatError"
    assert refusal(unpack_map, b"\x81\xa1a") == "msgpack: No more data to unpack."
    assert refusal(unpack_map, b"\x80\x80") == "msgpack: unpack(b) received extra data."


# -- the fast check against the slow and obvious one


def obvious(event: Any) -> bool:
    """Say from the schema and the page alone whether a reader lets `event` through."""
    if type(event) is not tuple or not 2 <= len(event) <= 64:
        return False
    kind, dt_ns, *values = event
    if type(kind) is not int or not 0 <= kind <= 255 or type(dt_ns) is not int:
        return False
    appended = values[len(KINDS[kind].fields) :] if kind in KINDS else values
    if any(type(value) in (bool, float) for value in appended):
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


@pytest.mark.parametrize("size", [13, 64, 65, 127, 128, 129, 200, 255, 256, 300])
def test_a_length_that_no_kind_has_is_told_before_it_is_packed_wrong(size: int):
    long = (1, 0, *[0] * (size - 2))
    for events in ([long], [long, (1, 0, 0, 0)], [(1, 0, 0, 0), long], [(71, *[0] * 11), long]):
        if size <= fmt.MAX_EVENT_FIELDS:
            check_events(events)  # fields that a newer version appended
        else:
            assert "an array of 2 to 64" in refusal(check_events, events)


def test_many_events_are_judged_as_each_of_them_is():
    # Both ways of unpacking, and every kind in one frame: what one event may hold, many may.
    for events in (all_kinds() * 200, small_events() * 300, all_kinds() * 40):
        assert unpack_events(packed(*events)) == (0, tuple(events))
        for odd in ((1, 0, 0, True), (72, 0, 0, 5, 0, 0, 0), (6, 0, 0, "text"), b"\x01\0\0\0"):
            at = len(events)
            message = refusal(unpack_events, packed(*events, odd))
            assert message.startswith(f"event {at} of its frame: ")


def test_arrays_claim_no_more_where_many_events_are_wrong():
    long, few, many = (200, 0, *[0] * 63), [(9, 0)] * 4095, [(9, 0)] * 4096
    assert "event 4095 of its frame: an event must be" in refusal(unpack_events, packed(*few, long))
    limit = "msgpack: 65 exceeds max_array_len(64)"
    assert refusal(unpack_events, packed(*many, long)) == limit


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
    assert unpack_map(raw) == value
    assert list(unpack_map(raw)) == ["b", "a", "list", "map"]


@pytest.mark.parametrize("payload", [None, 1, [], [["a", 1]], "a"], ids=repr)
def test_what_is_no_map_wrong(payload: object):
    assert refusal(unpack_map, msgpack.packb(payload)) == "payload must be a map"


@pytest.mark.parametrize("key", [1, None, True, (1,)], ids=repr)
def test_keys_that_are_not_text_wrong(key: object):
    raw = b"\x81" + msgpack.packb(key) + b"\x01"
    assert refusal(unpack_map, raw).startswith("msgpack: ")


KEY = "a key must be a name of letters, digits, _ . and -, not "
VALUE = "a value must be null, a boolean, a number or a text of at most 65536 bytes, not "


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"bytes", "b'bytes'"),
        ("", "''"),
        ("a b", "'a b'"),
        ("é", "'é'"),
        ("a\n", r"'a\n'"),
        ("k" * 201, f"'{'k' * 39}"),
        ("k" * 5000, "a str of 5000"),
        (1, "1"),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_keys_are_names_in_inner_maps_too_wrong(key: object, shown: str):
    for value in ({key: 1}, {"a": {key: 1, "text": 2}}, {"a": [{"b": {key: 1}}]}):
        assert refusal(check_plain, value) == KEY + shown
    check_plain({"AZaz09_.-": {"k" * 200: 1}})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"bytes", "b'bytes'"),
        ("x" * 65_537, "a str of 65537"),
        ("é" * 32_769, "a str of 32769"),
        ("\ud800", r"'\ud800'"),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        ({1, 2}, "{1, 2}"),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_values_of_a_header_are_plain_wrong(value: object, shown: str):
    for outer in ({"a": value}, {"a": [1, value]}, {"a": {"b": [value]}}):
        assert refusal(check_plain, outer) == VALUE + shown


def test_values_of_a_header_are_at_most_8_deep_wrong():
    for deep in (lambda inner: [inner], lambda inner: {"k": inner}):
        value: Any = 1
        for _ in range(8):
            value = deep(value)
        check_plain({"a": value})
        assert refusal(check_plain, {"a": deep(value)}) == "values must not be nested over 8 deep"


def test_zlib_level_is_read_whatever_it_is():
    raw = b"abc" * 100
    for level in range(10):
        assert codec.decompress(zlib.compress(raw, level), fmt.CODEC_ZLIB, 300) == raw
