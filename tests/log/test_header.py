from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.traces import (
    END,
    HEADER,
    Frame,
    build,
    forge,
    header_frame,
    read,
    read_text,
    small_events,
    small_header,
    text_of,
)
from tracer.errors import DamagedTrace, TraceError, WriteError
from tracer.log import format as fmt
from tracer.log.checks import PayloadError, brief
from tracer.log.header import Header
from tracer.log.stream import Reader, Writer

seeded = settings(derandomize=True, database=None, deadline=None, max_examples=150)

FULL = Header(
    uuid="u",
    parent_uuid="p",
    first_seq=2**62 - 1000,
    base_digest="00ff",
    created="2026-01-02T03:04:05Z",
    recorder="other",
    recorder_version="1",
    source="qemu-log",
    order="per_cpu",
    implementation="linux-kvm",
    implementation_version="6.1.192",
    profile="linux-6.1.192",
    flags={"a": [True, "measured"], "b": [3, "read"], "c": ["name", "assumed"]},
    its_bases=[0, 2**64 - 1],
    cpus=512,
    mpidrs=[0, 0x80000001],
    ram_ranges=[[0x40000000, 0x1000], [2**63, 1]],
    clock="monotonic",
    guest_ram="complete",
    starts="running",
    guessed=["cpus", "msi.doorbell"],
    command_line=["qemu", "-M", "virt,its=on", 'odd "one" ## \n'],
    host="build-7",
    annotations={"why": "because", "A.b-c_9": ""},
    extra={"newer": {"k": [1, None, "x", 2.5, True]}, "other": 5},
)


def wrong(header: dict[Any, Any], kind: type[TraceError] = DamagedTrace) -> str:
    with pytest.raises(kind) as error:
        read(forge([Frame(HEADER, msgpack.packb(header))]))
    assert type(error.value) is kind
    return str(error.value)


# -- what is kept


def test_every_field_has_another_value_in_the_full_header():
    default = Header()
    same = [f.name for f in fields(Header) if getattr(FULL, f.name) == getattr(default, f.name)]
    assert same == ["version"]


def test_a_full_header_comes_back_from_the_file():
    assert read(build([], FULL)).header == FULL


def test_a_full_header_comes_back_from_the_text():
    assert read_text(text_of(build([], FULL)))[0] == FULL


def test_the_default_header_comes_back_from_both():
    data = build([], Header())
    assert read(data).header == Header()
    assert text_of(data) == "# itstrace: 1\n"
    assert read_text(text_of(data))[0] == Header()


def test_unknown_keys_are_written_back():
    data = forge([header_frame(newer=[1, {"k": "v"}]), Frame(END, msgpack.packb({"events": 0}))])
    again = build([], read(data).header)
    assert read(again).header.extra == read(data).header.extra
    assert [*read(again).header.extra] == ["newer"]
    assert '# newer: [1, {"k": "v"}]\n' in text_of(again)


def test_missing_keys_have_their_defaults():
    assert read(forge([header_frame()])).header == Header()


def test_the_first_sequence_number_is_the_headers():
    outcome = read(build(small_events(), small_header(first_seq=1000)))
    assert [seq for seq, _ in outcome.events] == list(range(1000, 1025))
    assert outcome.status == "clean"


def test_a_header_called_extra_is_not_the_dictionary_of_extras():
    header = read(forge([header_frame(extra=5)])).header
    assert header.extra == {"extra": 5}
    assert header.to_map()["extra"] == 5


NAMES = st.text("aZ09_.-", min_size=1, max_size=4)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
JSON_VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(NAMES, SCALARS, max_size=3)


@seeded
@given(
    st.dictionaries(
        st.text("abcdefghij_", min_size=1, max_size=12).filter(
            lambda key: not hasattr(Header(), key)
        ),
        JSON_VALUES,
        max_size=4,
    ),
    st.dictionaries(NAMES, st.text(max_size=20), max_size=4),
    st.lists(st.text(max_size=20), max_size=3),
)
def test_any_text_survives_in_a_header(
    extra: dict[str, Any], annotations: dict[str, str], command_line: list[str]
):
    header = Header(extra=extra, annotations=annotations, command_line=command_line)
    data = build([], header)
    plain = read(data).header
    assert (plain.annotations, plain.command_line) == (annotations, command_line)
    assert list(plain.extra) == list(extra)
    assert read_text(text_of(data))[0] == header
    assert text_of(build([], read_text(text_of(data))[0])) == text_of(data)


# -- what is refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "1"),
        ("version", -1),
        ("version", 1.0),
        ("version", True),
        ("uuid", None),
        ("parent_uuid", 5),
        ("first_seq", -1),
        ("first_seq", 2**62),
        ("first_seq", None),
        ("first_seq", False),
        ("created", 0),
        ("recorder", None),
        ("recorder_version", 1),
        ("source", []),
        ("order", 1),
        ("implementation", {}),
        ("implementation_version", 7.2),
        ("profile", 7),
        ("flags", None),
        ("flags", []),
        ("flags", {"a": True}),
        ("flags", {"a": [True]}),
        ("flags", {"a": [True, "read", 1]}),
        ("flags", {"a": [None, "read"]}),
        ("flags", {"a": [True, 1]}),
        ("flags", {"a": "ab"}),
        ("its_bases", 0),
        ("its_bases", [-1]),
        ("its_bases", [True]),
        ("its_bases", ["0x0"]),
        ("cpus", 0),
        ("cpus", -1),
        ("cpus", 513),
        ("cpus", 2**32),
        ("cpus", True),
        ("mpidrs", [None]),
        ("ram_ranges", [0, 1]),
        ("ram_ranges", [[0]]),
        ("ram_ranges", [[0, 1, 2]]),
        ("ram_ranges", [[0, -1]]),
        ("clock", None),
        ("guest_ram", None),
        ("guest_ram", "some"),
        ("guest_ram", ["observed"]),
        ("starts", None),
        ("starts", "reset"),
        ("guessed", None),
        ("guessed", "cpus"),
        ("guessed", [1]),
        ("command_line", "qemu"),
        ("host", 1),
        ("annotations", None),
        ("annotations", {"a": 1}),
        ("annotations", [["a", "b"]]),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_a_key_of_the_wrong_type_wrong(key: str, value: object):
    assert wrong({"version": 1, key: value}) == (
        f"t: byte 0xc: header: {key} must not be {brief(value)}"
    )


VALUE = "a value must be null, a boolean, a number or a text of at most 65536 bytes, not "
KEY = "a key must be a name of letters, digits, _ . and -, not "


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("uuid", b"u", VALUE + "b'u'"),
        ("base_digest", b"\x00", VALUE + r"b'\x00'"),
        ("command_line", [b"qemu"], VALUE + "b'qemu'"),
        ("annotations", {b"a": "b"}, KEY + "b'a'"),
        ("annotations", {"": "b"}, KEY + "''"),
        ("annotations", {"a": b""}, VALUE + "b''"),
        ("newer", b"bytes", VALUE + "b'bytes'"),
        ("newer", [b"\xff"], VALUE + r"b'\xff'"),
        ("newer", {"k": b""}, VALUE + "b''"),
        ("newer", {"a b": 1}, KEY + "'a b'"),
        ("a b", 1, KEY + "'a b'"),
        (b"a", 1, KEY + "b'a'"),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_no_header_holds_names_its_key_wrong(key: object, value: object, message: str):
    assert wrong({"version": 1, key: value}) == f"t: byte 0xc: header: {key!r}: {message}"


def test_a_wrong_value_is_shown_in_full_or_in_part():
    assert wrong({"cpus": 513}) == "t: byte 0xc: header: cpus must not be 513"
    assert wrong({"cpus": "x" * 500}) == f"t: byte 0xc: header: cpus must not be '{'x' * 39}"
    assert wrong({"cpus": "x" * 5000}) == "t: byte 0xc: header: cpus must not be a str of 5000"
    assert wrong({"host": ["x" * 500]}) == "t: byte 0xc: header: host must not be a list of 1"


def test_from_map_raises_only_payload_errors():
    with pytest.raises(PayloadError, match=r"^header: cpus must not be 0$"):
        Header.from_map({"cpus": 0})


@pytest.mark.parametrize("version", [0, 2, 2**31, 2**64 - 1])
def test_a_header_of_another_version_than_the_preamble_wrong(version: int):
    assert wrong({"version": version}) == (
        "t: byte 0xc: header and preamble name different versions"
    )


def test_what_is_no_header_frame_first_wrong():
    first = Frame(2, msgpack.packb([0, [[9, 0]]]))
    with pytest.raises(DamagedTrace) as error:
        read(forge([first, header_frame()]))
    assert str(error.value) == "t: byte 0xc: the first frame must be a header"
    assert (error.value.path, error.value.offset) == ("t", 12)


# -- a writer never writes what no reader reads


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(
            Header(command_line=["x" * 60_000] * 40),
            "the header must be at most 1048576 bytes",
            id="over 1 MiB",
        ),
        pytest.param(
            Header(host="x" * 70_000),
            f"header: 'host': {VALUE}a str of 70000",
            id="text over 64 KiB",
        ),
        pytest.param(Header(cpus=100_000), "header: cpus must not be 100000", id="cpus"),
        pytest.param(Header(version=2), "header: version must be 1", id="version"),
        pytest.param(Header(extra={"newer": b"x"}), f"header: 'newer': {VALUE}b'x'", id="bytes"),
        pytest.param(
            Header(annotations={"a: b": "c"}), f"header: 'annotations': {KEY}'a: b'", id="key"
        ),
        pytest.param(Header(host="\ud800"), f"header: 'host': {VALUE}'\\ud800'", id="surrogate"),
        pytest.param(
            Header(extra={"newer": 2**64}), f"header: 'newer': {VALUE}{2**64}", id="65 bits"
        ),
    ],
)
def test_a_header_that_no_reader_takes_wrong(header: Header, message: str):
    out = io.BytesIO()
    with pytest.raises(WriteError) as error:
        Writer(out, header, name="t", bound_ms=0, codec=fmt.CODEC_NONE)
    assert str(error.value) == f"t: {message}; nothing was written"
    assert out.getvalue() == b""


def test_a_large_header_within_the_limit_is_read():
    header = Header(command_line=["x" * 60_000] * 17)
    reader = Reader(io.BytesIO(build([], header)))
    assert reader.header.command_line == header.command_line
