"""`export --to text|jsonl|sqlite`: every event, with the values that the reader has."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from replay import cli
from replay.decode import decode
from replay.export.sqlite import table_of
from tests.support.exported import LIVES, TOP, export, written
from tests.support.traces import build, small_events
from tracer.events import FIRST_OUTPUT, KINDS, NUMBER, fields_of, kind_name, make
from tracer.log.opening import open_trace


@pytest.fixture(params=LIVES)
def trace(request, tmp_path):
    events = written(tmp_path / "a.itstrace", request.param)
    return tmp_path / "a.itstrace", events


def test_text_reads_back_as_the_same_trace(trace, tmp_path):
    path, events = trace
    made = tmp_path / "b.its.txt"
    assert export(path, "text", made) == 0
    with open_trace(str(path)) as one, open_trace(str(made)) as other:
        assert one.header == other.header
        assert [e for _, frame in other for e in frame] == events


def test_jsonl_has_every_event_as_show_has_it(trace, tmp_path):
    path, events = trace
    made = tmp_path / "b.jsonl"
    assert export(path, "jsonl", made) == 0
    lines = made.read_text().splitlines()
    assert len(lines) == len(events)
    time_ns = 0
    for seq, (line, event) in enumerate(zip(lines, events, strict=True)):
        time_ns += event[1]
        got = json.loads(line)
        for name, value in decode(seq, time_ns, event).items():
            if isinstance(value, int) and isinstance(got[name], str):
                assert int(got[name], 16) == value
            elif isinstance(value, bytes):
                assert bytes.fromhex(got[name]) == value
            else:
                assert got[name] == value, name


def read_back(base, seq, number):
    """Return an event's fields by name, from its table."""
    base.row_factory = sqlite3.Row
    row = base.execute(f'SELECT * FROM "{table_of(number)}" WHERE seq = ?', (seq,)).fetchone()
    found = {}
    for field in KINDS[number].fields:
        value = row[field.name]
        if isinstance(field.form, tuple):
            value = field.form.index(value)
        elif isinstance(value, int) and field.form != "int":
            value &= TOP
        found[field.name] = value
    return found


def test_sqlite_has_every_event_in_its_kinds_table(trace, tmp_path):
    path, events = trace
    made = tmp_path / "b.db"
    assert export(path, "sqlite", made) == 0
    base = sqlite3.connect(made)
    try:
        times = base.execute("SELECT seq, time_ns, kind FROM events ORDER BY seq").fetchall()
        assert [kind for _, _, kind in times] == [kind_name(event[0]) for event in events]
        at = 0
        for (seq, time_ns, _), event in zip(times, events, strict=True):
            at += event[1]
            assert time_ns == at
            if event[0] in KINDS:
                known = {field.name for field in KINDS[event[0]].fields}
                wanted = {k: v for k, v in fields_of(event).items() if k in known}
                assert read_back(base, seq, event[0]) == wanted
        unknown = sum(event[0] not in KINDS for event in events)
        assert base.execute("SELECT count(*) FROM unknown").fetchone()[0] == unknown
        assert "secret" not in str([*map(tuple, base.execute("SELECT * FROM trace"))])
    finally:
        base.close()


def test_sqlite_decodes_commands_and_joins_msis_with_their_results(tmp_path):
    path = tmp_path / "a.itstrace"
    events = [
        make(
            "command",
            0,
            cause=0,
            queue_offset=0,
            dw0=8 << 32 | 0xA,
            dw1=0x2000 << 32 | 3,
            dw2=5,
            dw3=0,
        ),
        make(
            "command", 0, cause=0, queue_offset=32, dw0=8 << 32 | 0x8, dw1=0, dw2=0, dw3=0, known2=0
        ),
        make("msi", 0, device_id=8, event_id=3, path=1),
        make("lpi", 0, cause=1, intid=8192, cpu=1),
        make("msi.result", 0, cause=2, result=1),
        make("msi", 0, device_id=9, event_id=0),
        make("reg.write", 0, offset=0x100, value=1 << 63),
        make("save", 0),
        make("attr.result", 0, cause=1, errno=-22),
    ]
    path.write_bytes(build(events, codec="zstd"))
    made = tmp_path / "b.db"
    assert export(path, "sqlite", made) == 0
    base = sqlite3.connect(made)
    try:
        ask = lambda text: base.execute(text).fetchall()  # noqa: E731 (short, and used here only)
        columns = "command, device_id, event_id, pintid, icid, v"
        assert ask(f"SELECT {columns} FROM command ORDER BY seq") == [
            ("MAPTI", 8, 3, 0x2000, 5, None),
            ("MAPD", 8, None, None, None, None),  # V is in the half that is not known
        ]
        assert ask("SELECT seq, device_id, result, intid, cpu FROM msis ORDER BY seq") == [
            (2, 8, 1, 8192, 1),
            (5, 9, None, None, None),
        ]
        shown = "printf('0x%x', value)"
        assert ask(f"SELECT register, {shown} FROM registers") == [
            ("GITS_BASER0", "0x8000000000000000")
        ]
        assert ask("SELECT seq, kind, errno FROM attributes") == [(7, "save", -22)]
    finally:
        base.close()


def test_a_database_is_a_file_whatever_it_is_called(trace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export(trace[0], "sqlite", ":memory:") == 0
    with closing(sqlite3.connect(tmp_path / ":memory:")) as base:
        assert base.execute("SELECT count(*) FROM events").fetchone() == (len(trace[1]),)


def test_a_database_is_no_stream(trace, tmp_path, capsys):
    assert cli.main(["export", str(trace[0]), "--to", "sqlite"]) == 2
    assert "give -o FILE" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["text", "jsonl", "parquet", "perfetto"])
def test_a_full_disk_is_no_bug_of_ours(to, tmp_path, capsys):
    written(tmp_path / "a.itstrace", "small")
    assert export(tmp_path / "a.itstrace", to, "/dev/full", "--force") == 3
    assert capsys.readouterr().err.endswith("/dev/full: No space left on device\n")


@pytest.mark.parametrize("to", ["text", "jsonl", "sqlite", "parquet", "perfetto"])
def test_what_exists_is_kept_unless_told_otherwise(to, trace, tmp_path):
    made = tmp_path / "mine"
    made.write_text("mine")
    assert export(trace[0], to, made) == 2
    assert made.read_text() == "mine"
    assert export(trace[0], to, made, "--force") == 0
    assert made.read_bytes()[:4] != b"mine"


def test_a_damaged_trace_is_exported_as_far_as_it_goes_and_ends_with_3(tmp_path, capsys):
    path = tmp_path / "a.itstrace"
    data = bytearray(build(small_events() * 8, codec="zstd", bound_events=4))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    made = tmp_path / "b.jsonl"
    assert export(path, "jsonl", made) == 3
    assert 0 < len(made.read_text().splitlines()) < 8 * len(small_events())
    assert "byte 0x" in capsys.readouterr().err


def test_options_of_reproducers_are_refused(trace, tmp_path, capsys):
    assert export(trace[0], "jsonl", tmp_path / "b", "--ask", "crash") == 2
    assert "--ask and --at are for --to kvm-c" in capsys.readouterr().err


def test_kinds_are_told_apart_by_their_tables():
    tables = [table_of(number) for number in KINDS]
    assert len(set(tables)) == len(tables)
    assert not {"trace", "events", "unknown"} & set(tables)
    assert table_of(NUMBER["reg.write"]) == "reg_write"
    assert table_of(FIRST_OUTPUT - 1) == "unknown"
