from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.support.traces import (
    GOLDEN,
    all_kinds,
    build,
    events_of,
    forge,
    header_frame,
    packed,
    read,
    read_text,
    small_events,
    text_of,
    with_events,
)
from tracer.errors import DamagedTrace, NewerTrace, NotATrace
from tracer.events import Event, make
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.opening import open_trace
from tracer.log.text import TextReader, format_event, write_text

NAMES = sorted(path.name.removesuffix(".its.txt") for path in GOLDEN.glob("*.its.txt"))


def parse(*lines: str) -> list[Event]:
    """Return the events of these lines, under a header line."""
    _, events = read_text("".join(f"{line}\n" for line in ("# itstrace: 1", *lines)))
    assert [seq for seq, _ in events] == list(range(len(events)))
    return [event for _, event in events]


def refusal(*lines: str) -> str:
    with pytest.raises(DamagedTrace) as error:
        parse(*lines)
    assert type(error.value) is DamagedTrace
    return str(error.value)


# -- both ways


@pytest.mark.parametrize("name", NAMES)
def test_text_to_binary_to_text_is_identity(name: str):
    text = (GOLDEN / f"{name}.its.txt").read_text(encoding="utf-8")
    header, events = read_text(text)
    for codec in ("none", "zlib", "zstd"):
        data = build([event for _, event in events], header, codec=codec)
        assert text_of(data) == text


@pytest.mark.parametrize("name", NAMES)
def test_binary_to_text_to_binary_is_identity(name: str):
    outcome = read((GOLDEN / f"{name}.itstrace").read_bytes())
    text = (GOLDEN / f"{name}.its.txt").read_text(encoding="utf-8")
    assert read_text(text)[1] == outcome.events


def test_a_line_of_every_form():
    assert parse(
        "0 +0 reset how=power_on",
        "1 +10 reg.write offset=0x80 value=0xb80000004260000f",
        "2 +0 reg.read offset=0xffe8 value=0x3b size=4 origin=probe",
        "3 -5 msi device_id=0x8 event_id=0x0 doorbell=0x8090040 path=worker",
        "4 +0 table.write cause=1 table=cte index=0x0 base=0x0 valid=1 e1=0x0 e3=-",
        "5 +0 msi.result cause=2 result=-22",
        "6 +0 mem.write gpa=0x40000000 data=00ff10",
        '7 +0 mem.read cause=0 gpa=0x40000000 data=""',
        '8 +0 marker text="a \\"b\\" \\\\ \\n ## = -"',
        "9 +0 save",
    ) == [
        (8, 0, 0),
        (1, 10, 0x80, 0xB80000004260000F),
        (64, 0, 0xFFE8, 0x3B, 4, 2),
        (2, -5, 8, 0, 0x8090040, 4, 0, 3),
        (72, 0, 1, 1, 0, 0, 1, 0),
        (69, 0, 2, -22),
        (6, 0, 0x40000000, b"\x00\xff\x10"),
        (74, 0, 0, 0x40000000, b""),
        (129, 0, 'a "b" \\ \n ## = -'),
        (9, 0),
    ]


def test_format_event_leaves_out_defaults_and_names_enumerations():
    assert format_event(7, make("reg.write", -5, offset=0x80, value=0)) == (
        "7 -5 reg.write offset=0x80 value=0x0"
    )
    assert format_event(0, make("context", 0, thread=4)) == "0 +0 context thread=4"
    assert format_event(0, make("table.fault", 1, cause=2, table=4, index=9, base=0)) == (
        "0 +1 table.fault cause=2 table=l1 index=0x9 base=0x0"
    )
    assert format_event(1, (200, 0, 5, b"\x01", None, "a", (1, b"\x02"))) == (
        r'1 +0 kind.200 field.0="5" field.1="{\"hex\": \"01\"}" field.2="null" field.3="\"a\"" '
        r'field.4="[1, {\"hex\": \"02\"}]"'
    )
    assert format_event(1, (8, 0, 1, 0, 7)) == '1 +0 reset how=system field.2="7"'


def test_a_dot_is_the_next_sequence_number():
    _, events = read_text("# itstrace: 1\n# first_seq: 40\n. +0 save\n. +0 save\n42 +0 save\n")
    assert events == [(40, (9, 0)), (41, (9, 0)), (42, (9, 0))]


def test_comments_and_empty_lines_are_nothing():
    assert parse(
        "## before the header",
        '# profile: "x"',
        "",
        "## between",
        "0 +0 save ## behind an event",
        "",
        "   ",
        "  ## indented",
        "1 +0 save##close by",
        '2 +0 marker text="## inside" ## "outside"',
        '3 +0 marker text="a\\"##\\"b" ## "quoted" in the comment',
    ) == [(9, 0), (9, 0), (129, 0, "## inside"), (129, 0, 'a"##"b')]


def test_a_comment_behind_a_text_that_ends_in_a_backslash():
    assert parse('0 +0 marker text="C:\\\\" ## a path') == [(129, 0, "C:\\")]


def test_a_text_that_ends_in_a_backslash_hides_nothing_behind_it():
    sent = [(129, 0, "C:\\", 'x "##" y'), (128, 0, "\\", None, "##"), (129, 0, '\\"##')]
    assert parse(*(format_event(at, event) for at, event in enumerate(sent))) == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0\x01\x1f\x7f",
        "\r\n\t",
        "\u2028\u0085\ufeff",
        "é 漢 😀",
        '"',
        "\\",
        "##",
        "'",
        "=",
    ],
    ids=ascii,
)
def test_texts_of_all_sorts_survive(text: str):
    sent = [make("marker", 0, text=text), make("loss", 0, count=None, reason=text)]
    lines = [format_event(at, event) for at, event in enumerate(sent)]
    assert all(line.isprintable() or "\x7f" in line for line in lines)
    assert parse(*lines) == sent


def test_carriage_returns_and_other_spaces_between_words_are_fine():
    assert parse("0\t+0  reset   how=system \r", " 1 +0 save\r") == [(8, 0, 1), (9, 0)]


@pytest.mark.parametrize(
    "dt_ns",
    [10**18 - 1, 10**18, 1_767_323_045_000_000_000, 2**63, 2**64 - 1, 1 - 10**18, -(2**63)],
)
def test_any_time_of_64_bits_survives(dt_ns: int):
    # A log with wall clock times begins with one of 19 digits: all of them since 2001.
    assert parse(format_event(0, (9, dt_ns))) == [(9, dt_ns)]


def test_a_known_kind_may_be_given_by_number():
    assert parse("0 +0 kind.8 how=system", "1 +0 kind.008 how=system") == [(8, 0, 1), (8, 0, 1)]


def test_numbers_in_any_base():
    assert parse(
        "0 +0 reg.write offset=128 value=0b101", "1 +0 lpi cause=0 intid=0x2000 cpu=0"
    ) == [
        (1, 0, 0x80, 5),
        (70, 0, 0, 8192, 0),
    ]


# -- header


def test_header_lines_in_any_order_with_spaces():
    header, _ = read_text(
        '# itstrace: 1\n#cpus:2\n#   its_bases :  [134742016]\n# newer: {"a": [1]}\n'
        '# annotations: {"k": "## not a comment"}\n'
    )
    assert header == Header(
        cpus=2,
        its_bases=[0x8080000],
        extra={"newer": {"a": [1]}},
        annotations={"k": "## not a comment"},
    )


def test_a_default_header_is_one_line():
    out = io.StringIO()
    write_text(Header(), [], out)
    assert out.getvalue() == "# itstrace: 1\n"


@pytest.mark.parametrize(
    "key", ["a: b", "a\n0 +0 reset how=system ## ", "a\r\nb", " a", "a ", "#a", "#", "", "\u2028"]
)
def test_a_hostile_header_key_is_neither_lost_nor_an_event(key: str):
    data = forge([header_frame(**{key: 1})])
    try:
        header = read(data).header
    except DamagedTrace:
        header = None  # to refuse it is fine too
    assert header is None or read_text(text_of(data)) == (header, [])


@pytest.mark.parametrize("value", [b"bytes", [b"\xff"], {"k": b""}], ids=repr)
def test_bytes_in_an_unknown_header_key_are_refused_before_any_text_is_made(value: object):
    # JSON has no bytes, so that no header has any.
    with pytest.raises(DamagedTrace) as error:
        read(forge([header_frame(newer=value)]))
    assert str(error.value).startswith(
        "t: byte 0xc: header: 'newer': a value must be null, a boolean, a number or a text of at "
        "most 65536 bytes, not b'"
    )


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 2**64 - 1, 0.1, 1e300, float("inf"), "", "é\0", [], {}, [[{}]]]
)
def test_any_plain_value_of_an_unknown_header_key_survives(value: object):
    # Unknown keys MUST be kept when a trace is rewritten.
    data = forge([header_frame(newer=value, inner={"key": [value]})])
    header = read_text(text_of(data))[0]
    assert header == read(data).header
    assert (header.extra["newer"], type(header.extra["newer"])) == (value, type(value))
    assert read(build([], header)).header == header


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["# foo"], "t:2: a header line must be `# key: value`; a comment begins with ##"),
        (["# cpus: two"], "t:2: this must be JSON: Expecting value: line 1 column 2 (char 1)"),
        (['# profile: "x" ## no'], "t:2: this must be JSON: Extra data: line 1 column 6 (char 5)"),
        (["# cpus: 0"], "t:2: header: cpus must not be 0"),
        (["# cpus: 1", "## c", "#cpus :1"], "t:4: cpus is given twice"),
        (["# newer: 1", "# newer: 1"], "t:3: newer is given twice"),
        (
            ["# a b: 1", "0 +0 save"],
            "t:2: header: 'a b': a key must be a name of letters, digits, _ . and -, not 'a b'",
        ),
        (
            ["# cpus: 2", '# newer: {"": 1}'],
            "t:3: header: 'newer': a key must be a name of letters, digits, _ . and -, not ''",
        ),
        (
            ["# newer: 18446744073709551616"],
            (
                "t:2: header: 'newer': a value must be null, a boolean, a number or a text of at "
                "most 65536 bytes, not 18446744073709551616"
            ),
        ),
        (["# clock: 5", "## c", "0 +0 save"], "t:2: header: clock must not be 5"),
        (
            ["# cpus: 2", "# first_seq: -1", "", "0 +0 save"],
            "t:3: header: first_seq must not be -1",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_header_line_wrong(lines: list[str], message: str):
    assert refusal(*lines) == message


def test_a_header_of_another_version_than_the_first_line_wrong():
    assert refusal("# version: 2", "0 +0 save") == (
        "t:2: version must be 1, as the first line says"
    )


def test_a_header_line_behind_an_event_wrong():
    assert refusal("0 +0 save", "# cpus: 2") == (
        "t:3: the sequence number must be 1, or . for the next one"
    )


@pytest.mark.parametrize(
    "first", ["", "0 +0 save\n", "# itstrace 1\n", "#itstrace: 1\n", "# itstracer: 1\n"]
)
def test_what_is_not_a_trace_in_text_form(first: str):
    with pytest.raises(NotATrace) as error:
        read_text(first)
    assert str(error.value) == "t: byte 0x0: a trace in text form begins with '# itstrace: '"


@pytest.mark.parametrize("version", ["2", "10", "999999999"])
def test_a_newer_version_is_newer(version: str):
    with pytest.raises(NewerTrace) as error:
        read_text(f"# itstrace: {version}\n0 +0 no.such.kind\n")
    assert str(error.value) == f"t: byte 0x0: format version {version}: use a newer itstrace"
    assert error.value.exit_code == 4


@pytest.mark.parametrize("version", ["0", "-1", "x", "1.0", "1 2", "9999999999", "²"])
def test_a_version_that_is_none_wrong(version: str):
    with pytest.raises(DamagedTrace) as error:
        read_text(f"# itstrace: {version}\n")
    assert str(error.value) == f"t:1: the format version must be a number, not {version!r}"


# -- events


SHAPE = "an event must be `SEQ +DT kind key=value ...`"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0", SHAPE),
        ("0 +0", SHAPE),
        ("1 +0 save", "the sequence number must be 0, or . for the next one"),
        ("x +0 save", "the sequence number must be 0, or . for the next one"),
        (".. +0 save", "the sequence number must be 0, or . for the next one"),
        ("0 0 save", "the time must be +NANOSECONDS or -NANOSECONDS, not '0'"),
        ("0 +1.5 save", "the time must be +NANOSECONDS or -NANOSECONDS, not '+1.5'"),
        ("0 +0x1 save", "the time must be +NANOSECONDS or -NANOSECONDS, not '+0x1'"),
        ("0 +٣ save", "the time must be +NANOSECONDS or -NANOSECONDS, not '+٣'"),
        (
            f"0 +{2**64} save",
            f"a time must be -2^63 to 2^64-1 nanoseconds, not {2**64}",
        ),
        (
            f"0 -{2**63 + 1} save",
            f"a time must be -2^63 to 2^64-1 nanoseconds, not -{2**63 + 1}",
        ),
        (
            f"0 +{'9' * 50} save",
            f"the time must be +NANOSECONDS or -NANOSECONDS, not '+{'9' * 28}",
        ),
        ("0 +0 saved", "there is no kind of event called 'saved'"),
        ("0 +0 kind.256", "there is no kind of event called 'kind.256'"),
        ("0 +0 kind.x", "there is no kind of event called 'kind.x'"),
        ("0 +0 kind.-1", "there is no kind of event called 'kind.-1'"),
        (f"0 +0 {'k' * 60}", f"there is no kind of event called '{'k' * 39}"),
        ("0 +0 save now", "fields must be key=value, not 'now'"),
        ("0 +0 reset =system", "fields must be key=value, not '=system'"),
        ("0 +0 reset how= ", "fields must be key=value, not 'how='"),
        ("0 +0 reset How=system", "fields must be key=value, not 'How=system'"),
        ("0 +0 reset how=system how=system", "how is given twice"),
        ("0 +0 reset", "reset needs how"),
        ("0 +0 reg.write value=1", "reg.write needs offset"),
        ("0 +0 loss count=5", "loss needs reason"),
        ("0 +0 save colour=1 size=2", "save has no field colour, size"),
        ("0 +0 reset how=warm", "reset: how must not be 'warm'"),
        (
            "0 +0 mem.write gpa=0x0 data=MAPC(icid=0x1,rd=0x0)",
            "mem.write: data must not be 'MAPC(icid=0x1,rd=0x0)'; MAPC has icid, rdbase, v",
        ),
        ("0 +0 reset how=1", "reset: how must not be '1'"),
        ("0 +0 reset how=-", "reset: how must not be '-'"),
        ("0 +0 reg.write offset=-1 value=0", "reg.write: offset must not be '-1'"),
        ("0 +0 reg.write offset=1.5 value=0", "reg.write: offset must not be '1.5'"),
        ("0 +0 reg.write offset=010 value=0", "reg.write: offset must not be '010'"),
        ("0 +0 reg.write offset=- value=0", "reg.write: offset must not be '-'"),
        (
            "0 +0 reg.write offset=0 value=0x10000000000000000",
            "reg.write: value must not be '0x10000000000000000'",
        ),
        (
            f"0 +0 reg.write offset=0 value={'9' * 5000}",
            "reg.write: value must not be a str of 5000",
        ),
        (
            f"0 +0 reg.write offset=0 value={'9' * 900}",
            f"reg.write: value must not be '{'9' * 39}",
        ),
        (
            f'0 +0 marker text="{"x" * 65_537}"',
            "marker: text must not be a str of 65539",
        ),
        ("0 +0 reg.write offset=0 value=0 size=-", "reg.write: size must not be '-'"),
        (
            "0 +0 msi.result cause=0 result=0x8000000000000000",
            "msi.result: result must not be '0x8000000000000000'",
        ),
        ("0 +0 mem.write gpa=0x0 data=0", "mem.write: data must not be '0'"),
        ("0 +0 mem.write gpa=0x0 data=0g", "mem.write: data must not be '0g'"),
        ("0 +0 mem.write gpa=0x0 data=-", "mem.write: data must not be '-'"),
        ('0 +0 mem.write gpa=0x0 data="00"', "mem.write: data must not be '\"00\"'"),
        ("0 +0 marker text=hello", "marker: text must not be 'hello'"),
        ("0 +0 marker text=5", "marker: text must not be '5'"),
        ("0 +0 marker text=null", "marker: text must not be 'null'"),
        ("0 +0 marker text=-", "marker: text must not be '-'"),
        ("0 +0 marker text='hello'", "marker: text must not be \"'hello'\""),
        ('0 +0 marker text="open', "marker: text must not be '\"open'"),
        ('0 +0 marker text="open and on', "fields must be key=value, not 'and on'"),
        ('0 +0 marker text="bad \\x"', "marker: text must not be '\"bad \\\\x\"'"),
        ('0 +0 marker text="\\ud800"', "marker: text must not be '\"\\\\ud800\"'"),
        ("0 +0 kind.200 field.0=x", "this must be JSON: Expecting value: line 1 column 1 (char 0)"),
        (
            '0 +0 kind.200 field.0="x"',
            "this must be JSON: Expecting value: line 1 column 1 (char 0)",
        ),
        ("0 +0 kind.200 colour=1", "kind.200 has no field colour"),
    ],
    ids=lambda value: f"{value:.50}",
)
def test_an_event_line_wrong(line: str, message: str):
    assert refusal("## a comment", line) == f"t:3: {message}"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('0 +0 kind.200 field.0="{\\"hex\\": \\"zz\\"}"', id="hex that is none"),
        pytest.param("0 +0 kind.200 field.0=18446744073709551616", id="65 bits"),
        pytest.param("0 +0 kind.200 field.0=-9223372036854775809", id="65 bits below zero"),
        pytest.param('0 +0 kind.200 field.0="{\\"a\\": 1}"', id="a map"),
        pytest.param('0 +0 kind.200 field.0="\\"\\\\ud800\\""', id="a surrogate"),
        pytest.param("0 +0 kind.200 field.0=" + "[" * 20 + "]" * 20, id="nesting"),
        pytest.param("0 +0 kind.200 field.0=" + "[" * 600 + "]" * 600, id="deep nesting"),
        pytest.param("0 +0 kind.200 field.0=" + "[" * 10**5 + "]" * 10**5, id="deepest nesting"),
        pytest.param("0 +0 kind.200 field.1=1", id="a hole"),
        pytest.param("0 +0 reset how=system field.5=1", id="a hole behind known fields"),
        pytest.param("0 +0 reset how=system field.0=1", id="a number that is taken"),
        pytest.param(f'0 +0 marker text="{"x" * 65_537}"', id="a text over 64 KiB"),
        pytest.param(
            f"0 +0 mem.write gpa=0x0 data={'00' * ((1 << 20) + 1)}", id="bytes over 1 MiB"
        ),
        pytest.param(
            "0 +0 kind.200 " + " ".join(f"field.{at}=0" for at in range(63)), id="65 fields"
        ),
    ],
)
def test_a_line_that_no_binary_trace_could_hold_wrong(line: str):
    assert refusal("## a comment", line).startswith("t:3: ")


def test_fields_may_stand_in_any_order():
    assert parse(
        "0 +0 reg.read size=4 value=0x3b offset=0xffe8",
        "1 +0 kind.200 field.1=1 field.0=2",
        "2 +0 reset field.2=5 origin=probe how=system",
    ) == [(64, 0, 0xFFE8, 0x3B, 4), (200, 0, 2, 1), (8, 0, 1, 2, 5)]


def test_the_limits_of_the_file_are_those_of_the_text():
    events = parse(
        f'0 +0 marker text="{"x" * 65_536}"',
        f"1 +0 mem.write gpa=0x0 data={'00' * (1 << 20)}",
        "2 +0 kind.200 " + " ".join(f"field.{at}=0" for at in range(62)),
    )
    assert events_of(build(events)) == events


def test_a_line_that_is_too_long_wrong():
    text = f'# itstrace: 1\n0 +0 marker text="{"x" * (16 << 20)}"\n'
    with pytest.raises(DamagedTrace) as error:
        read_text(text)
    assert str(error.value) == "t:2: a line must be shorter than 16777216 characters"


LARGEST = fmt.MAX_FRAME_RAW_BYTES - 200


@pytest.mark.parametrize(
    "event",
    [
        pytest.param((200, 0, b"\xff" * (1 << 20), b"\xff" * (LARGEST - (1 << 20))), id="bytes"),
        pytest.param((200, 0, *["\0" * 65_000] * (LARGEST // 65_005)), id="control characters"),
        pytest.param((200, 0, *["é" * 32_000] * (LARGEST // 64_005)), id="latin"),
        pytest.param((200, 0, *['"\\' * 32_000] * (LARGEST // 64_005)), id="quotes"),
        pytest.param((200, 0, *[((None,) * 64,) * 64] * 62), id="nulls"),
        pytest.param((129, 0, "\0" * 65_536), id="a marker"),
    ],
)
def test_the_largest_events_have_a_text_form_that_is_read_back(event: Event):
    [line] = [format_event(at, each) for at, each in read(with_events(packed(event))).events]
    assert parse(line) == [event]


def test_the_largest_header_has_a_text_form_that_is_read_back():
    data = forge([header_frame(command_line=["\0" * 61_000] * 17)])
    assert read_text(text_of(data))[0] == read(data).header


def test_text_that_is_not_utf_8_names_its_line(tmp_path: Path):
    path = tmp_path / "a.its.txt"
    path.write_bytes(b'# itstrace: 1\n0 +0 save\n1 +0 marker text="\xff"\n')
    with pytest.raises(DamagedTrace) as error, open_trace(str(path)) as reader:
        list(reader)
    assert str(error.value) == f"{path}:3: text must be UTF-8"


def test_events_come_in_blocks_with_numbers_that_go_on():
    lines = "".join(". +0 save\n" for _ in range(2500))
    reader = TextReader(io.StringIO("# itstrace: 1\n# first_seq: 10\n" + lines))
    assert [(first, len(events)) for first, events in reader] == [
        (10, 1024),
        (1034, 1024),
        (2058, 452),
    ]
    assert (reader.events, reader.next_seq, reader.status) == (2500, 2510, "clean")


# -- opening


def test_the_form_is_recognised_by_name_or_start(tmp_path: Path):
    data = build(small_events())
    text = text_of(data)
    (tmp_path / "a.itstrace").write_bytes(data)
    (tmp_path / "a.its.txt").write_text(text)
    (tmp_path / "no_suffix").write_text(text)
    (tmp_path / "misnamed.itstrace").write_text(text)
    for path in tmp_path.iterdir():
        with open_trace(str(path)) as reader:
            events = [event for _, chunk in reader for event in chunk]
        assert events == small_events(), path.name
    (tmp_path / "b.its.txt").write_bytes(data)
    with pytest.raises((NotATrace, DamagedTrace)), open_trace(str(tmp_path / "b.its.txt")):
        pass


def test_what_a_newer_recorder_appended_is_written_after_all_known_fields():
    sent = [
        (8, 5, 1, 0, "why"),
        (64, 0, 0x80, 1, 8, 0, 0, None),
        (9, 0, (1, 2)),
        (128, 0, "r", 1, 2),
    ]
    lines = [format_event(at, event) for at, event in enumerate(sent)]
    assert lines[0] == r'0 +5 reset how=system field.2="\"why\""'
    assert parse(*lines) == sent
    assert [event for _, event in read(with_events(packed(*sent))).events] == sent


def test_every_kind_in_one_text():
    lines = [format_event(at, event) for at, event in enumerate(all_kinds())]
    assert parse(*lines) == all_kinds()
