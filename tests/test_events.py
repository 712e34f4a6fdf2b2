from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.traces import all_kinds, build, events_of, read_text
from tracer import events
from tracer.events import (
    ENTRY_FIELDS,
    FIRST_NOTE,
    FIRST_OUTPUT,
    KINDS,
    LAST_KIND,
    NUMBER,
    REQUIRED,
    TABLES,
    Event,
    Field,
    fields_of,
    kind_name,
    make,
    trim,
)
from tracer.log.header import Header
from tracer.log.text import write_text

seeded = settings(derandomize=True, database=None, deadline=None, max_examples=200)

INPUTS = [
    "reg.write",
    "msi",
    "gicr.write",
    "gicd.write",
    "attr.set",
    "mem.write",
    "ram",
    "reset",
    "save",
    "save_pending",
    "restore",
    "create",
    "init",
    "vcpu",
    "context",
]
OUTPUTS = [
    "reg.read",
    "gicr.read",
    "gicd.read",
    "command",
    "command.done",
    "msi.result",
    "lpi",
    "table.read",
    "table.write",
    "table.fault",
    "mem.read",
    "attr.result",
    "xlat.hit",
    "xlat.miss",
    "lpi.live",
    "its.live",
    "lpi.ack",
]
NOTES = ["loss", "marker", "digest", "source.gap", "probe"]


# -- the table


def test_every_class_of_the_module_stands_in_the_table_exactly_once():
    declared = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, events.Kind) and value is not events.Kind
    }
    assert set(KINDS.values()) == declared
    assert len(KINDS) == len(declared)


def test_names_are_unique_and_number_is_the_table_backwards():
    assert len({cls.name for cls in KINDS.values()}) == len(KINDS)
    assert {number: cls.name for number, cls in KINDS.items()} == {
        number: name for name, number in NUMBER.items()
    }


def test_a_kinds_number_says_its_class():
    assert sorted(NUMBER[name] for name in INPUTS) == list(range(1, 16))
    assert sorted(NUMBER[name] for name in OUTPUTS) == list(range(64, 81))
    assert sorted(NUMBER[name] for name in NOTES) == list(range(128, 133))
    assert set(NUMBER) == {*INPUTS, *OUTPUTS, *NOTES}
    assert (FIRST_OUTPUT, FIRST_NOTE, LAST_KIND) == (64, 128, 255)


def test_the_page_lists_the_same_numbers_and_names():
    page = Path(__file__).parents[1] / "docs" / "trace-format.md"
    section = page.read_text(encoding="utf-8").split("\n## 5. Kinds")[1].split("\n## 6.")[0]
    listed = {}
    for numbers, names in re.findall(r"^\| ([0-9, ]+) \| ([a-z_., ]+) \|", section, re.MULTILINE):
        listed |= dict(zip(map(int, numbers.split(",")), names.split(", "), strict=True))
    assert listed == {number: cls.name for number, cls in KINDS.items()}


@pytest.mark.parametrize("cls", KINDS.values(), ids=lambda cls: cls.name)
def test_after_the_first_default_every_field_has_one(cls: type[events.Kind]):
    required = [field.default is REQUIRED for field in cls.fields]
    assert required == sorted(required, reverse=True)


@pytest.mark.parametrize("cls", KINDS.values(), ids=lambda cls: cls.name)
def test_fields_are_named_once_and_have_a_known_form(cls: type[events.Kind]):
    names = [field.name for field in cls.fields]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][a-z_0-9]*", name) for name in names)
    for field in cls.fields:
        assert type(field.form) is tuple or field.form in ("hex", "dec", "int", "bytes", "text")


@pytest.mark.parametrize("cls", KINDS.values(), ids=lambda cls: cls.name)
def test_every_kind_says_what_it_is(cls: type[events.Kind]):
    assert cls.__doc__
    assert cls.__doc__.endswith(".")


def test_an_entrys_fields_fit_into_e1_to_e5():
    assert set(ENTRY_FIELDS) == set(range(len(TABLES)))
    names = [field.name for field in KINDS[NUMBER["table.write"]].fields]
    assert names[names.index("e1") :] == ["e1", "e2", "e3", "e4", "e5", "gpa"]
    assert max(map(len, ENTRY_FIELDS.values())) == 5


def test_the_golden_trace_has_every_kind_once():
    assert sorted(event[0] for event in all_kinds()) == sorted(KINDS)


# -- make, trim, fields_of


def test_make_leaves_out_trailing_defaults_only():
    assert make("reg.write", 7, offset=0x80, value=1) == (1, 7, 0x80, 1)
    assert make("reg.write", 7, offset=0x80, value=1, size=8, origin=0, bad=0) == (1, 7, 0x80, 1)
    assert make("reg.write", 7, offset=0x80, value=1, bad=1) == (1, 7, 0x80, 1, 8, 0, 1)
    assert make("save", -3) == (9, -3)
    assert make("context", 0, thread=4) == (15, 0, 0, None, 4)
    assert make("loss", 0, reason="ring") == (128, 0, "ring")
    assert make("loss", 0, reason="ring", count=5) == (128, 0, "ring", 5)
    assert make("source.gap", 0, reason="cut", line=None) == (131, 0, "cut")
    assert make("attr.set", 0, device=0, group=4, attr=1) == (5, 0, 0, 4, 1)


def test_make_wrong():
    with pytest.raises(TypeError) as error:
        make("reg.write", 0, value=1)
    assert str(error.value) == "reg.write needs offset"
    with pytest.raises(TypeError) as error:
        make("save", 0, color=1, size=2)
    assert str(error.value) == "save has no field color, size"
    with pytest.raises(KeyError):
        make("no.such.kind", 0)


def test_fields_of_fills_in_defaults():
    assert fields_of((1, 0, 0x80, 5)) == {
        "offset": 0x80,
        "value": 5,
        "size": 8,
        "origin": 0,
        "bad": 0,
    }
    assert fields_of((9, 0)) == {}


def test_fields_of_names_what_a_newer_recorder_appended_by_place():
    assert fields_of((8, 0, 1, 0, "why", 7)) == {
        "how": 1,
        "origin": 0,
        "field.2": "why",
        "field.3": 7,
    }
    assert fields_of((200, 0, 5, b"x")) == {"field.0": 5, "field.1": b"x"}


def test_kind_name_of_a_newer_trace_is_its_number():
    assert kind_name(1) == "reg.write"
    assert kind_name(200) == "kind.200"


# -- round trips of everything that the schema allows


def values_of(field: Field) -> st.SearchStrategy[Any]:
    edges = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
    if type(field.form) is tuple:
        values: st.SearchStrategy[Any] = st.integers(0, len(field.form) - 1)
    elif field.form in ("hex", "dec"):
        values = edges | st.integers(0, 2**64 - 1)
    elif field.form == "int":
        values = st.integers(-(2**63), 2**63 - 1)
    elif field.form == "bytes":
        values = st.binary(max_size=40)
    else:
        values = st.text(max_size=20) | st.text('"\\# \t\n\r\0{}=-', max_size=12)
    if field.default is not REQUIRED:
        values = values | st.just(field.default)
    return values | st.none() if field.default is None else values


# A dozen of these stay within 64 bits; the ends of the range have tests of their own.
TIMES = st.integers(-(2**59), 2**59) | st.integers(-1000, 1000)
# What a newer writer may append: anything of msgpack that section 4 of the page allows.
SCALARS = st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8)
UNKNOWN = SCALARS | st.lists(SCALARS, max_size=3).map(tuple)


def known_event(number: int) -> st.SearchStrategy[Event]:
    fields = [values_of(field) for field in KINDS[number].fields]
    parts = st.tuples(st.just(number), TIMES, *fields)
    return parts.map(lambda event: trim(list(event), KINDS[number]))


def grown_event(number: int) -> st.SearchStrategy[Event]:
    fields = [values_of(field) for field in KINDS[number].fields]
    appended = st.lists(UNKNOWN, min_size=1, max_size=3)
    return st.tuples(st.tuples(st.just(number), TIMES, *fields), appended).map(
        lambda both: (*both[0], *both[1])
    )


def through_text(sent: list[Event]) -> list[Event]:
    out = io.StringIO()
    write_text(Header(), list(enumerate(sent)), out)
    _, got = read_text(out.getvalue())
    assert [seq for seq, _ in got] == list(range(len(sent)))
    return [event for _, event in got]


@pytest.mark.parametrize("number", KINDS, ids=kind_name)
@settings(seeded, max_examples=60)
@given(data=st.data())
def test_every_kind_survives_the_file_and_the_text_form(number: int, data: st.DataObject):
    sent = data.draw(st.lists(known_event(number), min_size=1, max_size=4))
    assert events_of(build(sent)) == sent
    assert through_text(sent) == sent


@seeded
@given(st.lists(st.sampled_from(sorted(KINDS)).flatmap(known_event), min_size=1, max_size=12))
def test_mixed_kinds_survive_every_codec(sent: list[Event]):
    for codec in ("none", "zlib", "zstd"):
        assert events_of(build(sent, codec=codec)) == sent


@seeded
@given(st.lists(st.sampled_from(sorted(KINDS)).flatmap(grown_event), min_size=1, max_size=6))
def test_fields_that_a_newer_writer_appended_survive(sent: list[Event]):
    assert events_of(build(sent)) == sent
    assert through_text(sent) == sent


@seeded
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted({*range(256)} - {*KINDS})),
            TIMES,
            st.lists(UNKNOWN, max_size=5),
        ).map(lambda parts: (*parts[:2], *parts[2])),
        min_size=1,
        max_size=6,
    )
)
def test_kinds_of_a_newer_writer_survive(sent: list[Event]):
    assert events_of(build(sent)) == sent
    assert through_text(sent) == sent


@seeded
@given(st.sampled_from(sorted(KINDS)).flatmap(known_event))
def test_make_is_the_inverse_of_fields_of(event: Event):
    assert make(kind_name(event[0]), event[1], **fields_of(event)) == event
