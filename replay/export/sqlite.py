"""`--to sqlite`: a database with a table for each kind of event, and views over them.

A kind's table has its name with `_` for `.`, and its fields as columns. SQLite's numbers are signed:
a value with bit 63 set is stored as the negative number of the same 64 bits, and printf('0x%x') shows
it as it is. Counterparts: `tracer.events`, the kinds, and `sqlite_views.sql`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from replay.decode import REGISTERS
from replay.export.columns import COMMAND, COMMAND_FIELDS, command_of, register_of, unknown_fields
from replay.export.streaming import Frames, each_event, public
from tracer.errors import UsageError, WriteError
from tracer.events import KINDS, Event, Field, fields_of, kind_name
from tracer.log.header import Header
from tracer.log.opening import AnyReader, create_output

_VIEWS: Final = Path(__file__).with_name("sqlite_views.sql")
_BATCH: Final = 8192  # events
_U63: Final = 1 << 63


def write(reader: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write a database.

    Raises:
        UsageError: standard output cannot hold one, or the file exists.
        WriteError: the disk is full.
    """
    if path == "-":
        raise UsageError("a database is a file: give -o FILE")
    with create_output(path, force=force):
        pass
    base = sqlite3.connect(Path(path).absolute(), isolation_level=None)  # `:memory:` is a file
    try:
        _fill(base, reader.header, frames)
    except sqlite3.Error as error:
        raise WriteError(f"{path}: {error}") from error
    finally:
        base.close()


def _fill(base: sqlite3.Connection, header: Header, frames: Frames) -> None:
    base.execute("PRAGMA journal_mode = OFF")
    base.execute("PRAGMA synchronous = OFF")
    base.execute("BEGIN")
    for statement in tables():
        base.execute(statement)
    base.executemany("INSERT INTO trace VALUES (?, ?)", _header(header))
    batch: list[tuple[int, int, Event]] = []
    for each in each_event(frames):
        batch.append(each)
        if len(batch) == _BATCH:
            _insert(base, batch)
            batch.clear()
    _insert(base, batch)
    for statement in views():
        base.execute(statement)
    base.execute("COMMIT")


def tables() -> list[str]:
    """Return the statements that make the tables."""
    made = [
        "CREATE TABLE trace (key TEXT PRIMARY KEY, value TEXT)",
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, time_ns INTEGER, kind TEXT)",
        "CREATE TABLE unknown (seq INTEGER PRIMARY KEY, kind INTEGER, fields TEXT)",
    ]
    for number in KINDS:
        columns = ["seq INTEGER PRIMARY KEY", *(f'"{n}" {t}' for n, t in _columns(number))]
        made.append(f'CREATE TABLE "{table_of(number)}" ({", ".join(columns)})')
    return made


def views() -> list[str]:
    """Return the statements that make the indexes and the views, when the tables are filled."""
    statements = _VIEWS.read_text().split(";\n")
    return [each.strip() for each in statements if each.strip()]


def table_of(number: int) -> str:
    """Return the table of a kind."""
    return kind_name(number).replace(".", "_") if number in KINDS else "unknown"


def _columns(number: int) -> list[tuple[str, str]]:
    columns = [(field.name, _type(field)) for field in KINDS[number].fields]
    if number in REGISTERS:
        columns.append(("register", "TEXT"))
    if number == COMMAND:
        columns += [("command", "TEXT"), *((name, "INTEGER") for name in COMMAND_FIELDS)]
    return columns


def _type(field: Field) -> str:
    if isinstance(field.form, tuple) or field.form == "text":
        return "TEXT"
    return "BLOB" if field.form == "bytes" else "INTEGER"


def _header(header: Header) -> list[tuple[str, str]]:
    return [(key, json.dumps(value, default=str)) for key, value in public(header).items()]


# -- rows


def _insert(base: sqlite3.Connection, batch: Iterable[tuple[int, int, Event]]) -> None:
    events: list[tuple[int, int, str]] = []
    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for seq, time_ns, event in batch:
        events.append((seq, _signed(time_ns), kind_name(event[0])))
        rows[event[0] if event[0] in KINDS else -1].append(_row(seq, event))
    base.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
    for number, values in rows.items():
        marks = ", ".join("?" * len(values[0]))
        base.executemany(f'INSERT INTO "{table_of(number)}" VALUES ({marks})', values)


def _row(seq: int, event: Event) -> tuple[Any, ...]:
    cls = KINDS.get(event[0])
    if cls is None:
        return seq, event[0], unknown_fields(event)
    f = fields_of(event)
    values = [_value(field, f[field.name]) for field in cls.fields]
    if event[0] in REGISTERS:
        values.append(register_of(event[0], f["offset"]))
    if event[0] == COMMAND:
        name, told = command_of(f)
        values += [
            name,
            *(_signed(told[attr]) if attr in told else None for attr in COMMAND_FIELDS),
        ]
    return seq, *values


def _value(field: Field, value: Any) -> Any:
    if isinstance(field.form, tuple):
        return field.form[value]
    return _signed(value) if isinstance(value, int) else value


def _signed(value: int) -> int:
    """Return the signed number of the same 64 bits."""
    return (value & (1 << 64) - 1 ^ _U63) - _U63
