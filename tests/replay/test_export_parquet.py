"""`export --to parquet`, read back with pyarrow: every value of every event, and its type."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest

from replay.export import parquet
from tests.support.exported import LIVES, export, known_fields, timed, written
from tests.support.traces import small_header
from tracer.events import ENTRY_FIELDS, KINDS, NUMBER, kind_name, make

pq = pytest.importorskip("pyarrow.parquet")
ENTRIES = (NUMBER["table.read"], NUMBER["table.write"])


@pytest.fixture(params=LIVES)
def trace(request, tmp_path):
    events = written(tmp_path / "a.itstrace", request.param)
    return tmp_path / "a.itstrace", events


def wanted_of(event):
    """Return column -> value of an event's own fields, by the names that docs/export.md gives."""
    wanted = {}
    for field in KINDS[event[0]].fields:
        value = known_fields(event)[field.name]
        name = field.name
        if event[0] in ENTRIES and name in ("e1", "e2", "e3", "e4", "e5"):
            names = ENTRY_FIELDS[event[3]]
            if int(name[1]) > len(names):
                continue
            name = "itt_size" if names[int(name[1]) - 1] == "size" else names[int(name[1]) - 1]
        wanted[name] = field.form[value] if isinstance(field.form, tuple) else value
    return wanted


def test_every_value_is_there_and_what_is_not_known_is_null(trace, tmp_path):
    path, events = trace
    made = tmp_path / "b.parquet"
    assert export(path, "parquet", made) == 0
    rows = pq.read_table(made).to_pylist()
    assert len(rows) == len(events)
    for row, (seq, time_ns, event) in zip(rows, timed(events), strict=True):
        assert (row["seq"], row["time_ns"], row["kind"]) == (seq, time_ns, kind_name(event[0]))
        wanted = wanted_of(event) if event[0] in KINDS else {}
        derived = {"register", "command", "unknown"} if event[0] not in ENTRIES else set()
        if event[0] == NUMBER["command"]:
            derived |= {"itt_size", *(parquet.COMMAND_FIELDS)}
        for name, value in row.items():
            if name not in ("seq", "time_ns", "kind", *derived):
                assert value == wanted.get(name), name
        assert (row["unknown"] is None) == (event[0] in KINDS)


def test_types_are_those_of_the_page_and_the_header_is_kept(tmp_path):
    written(tmp_path / "a.itstrace", "small")
    assert export(tmp_path / "a.itstrace", "parquet", tmp_path / "b") == 0
    schema = pq.read_schema(tmp_path / "b")
    assert [str(schema.field(name).type) for name in ("seq", "time_ns", "value", "errno", "data")] == [
        "uint64", "int64", "uint64", "int64", "binary"
    ]  # fmt: skip
    header = schema.metadata[b"itstrace"].decode()
    assert json.loads(header)["uuid"] == small_header().uuid
    assert "secret" not in header


def test_a_column_has_one_type_whichever_kinds_share_it():
    signed = {}
    for cls in KINDS.values():
        for field in cls.fields:
            assert signed.setdefault(field.name, field.form == "int") == (field.form == "int")


def test_commands_and_registers_are_decoded(tmp_path):
    from tests.support.exported import write

    events = [
        make("reg.write", 0, offset=0x100, value=1 << 63),
        make("command", 0, cause=0, queue_offset=0, dw0=8 << 32 | 0xA, dw1=0x2000 << 32 | 3, dw2=5, dw3=0),
        make("command", 0, cause=0, queue_offset=32, dw0=8 << 32 | 0x8, dw1=0, dw2=0, dw3=0, known2=0),
    ]  # fmt: skip
    write(tmp_path / "a.itstrace", small_header(), events)
    assert export(tmp_path / "a.itstrace", "parquet", tmp_path / "b") == 0
    rows = pq.read_table(tmp_path / "b").to_pylist()
    assert (rows[0]["register"], rows[0]["value"]) == ("GITS_BASER0", 1 << 63)
    names = ("command", "device_id", "event_id", "pintid", "icid", "itt_size", "v")
    assert [tuple(row[name] for name in names) for row in rows[1:]] == [
        ("MAPTI", 8, 3, 0x2000, 5, None, None),
        ("MAPD", 8, None, None, None, 0, None),  # V is in the half that is not known
    ]


@pytest.mark.parametrize("limit", ["MAX_GROUP_ROWS", "MAX_GROUP_BYTES"])
def test_row_groups_are_bounded(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, limit, 16)
    events = written(tmp_path / "a.itstrace", "each")
    assert export(tmp_path / "a.itstrace", "parquet", tmp_path / "b") == 0
    file = pq.ParquetFile(tmp_path / "b")
    rows = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    assert sum(rows) == len(events)
    assert len(rows) > 2
    if limit == "MAX_GROUP_ROWS":
        assert max(rows) == 16
    table = file.read().to_pydict()
    assert Counter(table["kind"]) == Counter(kind_name(event[0]) for event in events)
    assert table["seq"] == list(range(len(events)))


def test_a_time_that_no_column_can_hold_is_null(tmp_path):
    from tests.support.exported import write

    write(tmp_path / "a.itstrace", small_header(), [make("save", 2**63), make("save", -1)])
    assert export(tmp_path / "a.itstrace", "parquet", tmp_path / "b") == 0
    assert pq.read_table(tmp_path / "b").to_pydict()["time_ns"] == [None, 2**63 - 1]


def test_without_pyarrow_the_way_out_is_named(tmp_path, monkeypatch, capsys):
    written(tmp_path / "a.itstrace", "small")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert export(tmp_path / "a.itstrace", "parquet", tmp_path / "b") == 2
    assert "pip install 'itstrace[export]'" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
