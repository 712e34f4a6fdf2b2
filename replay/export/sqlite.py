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

from replay.export.streaming import Frames, each_event
from tracer.errors import UsageError, WriteError
from tracer.events import KINDS, NUMBER, Event, Field, fields_of, kind_name
from tracer.its import commands
from tracer.its.registers import gicr_register, its_register
from tracer.log.header import Header
from tracer.log.opening import AnyReader, create_output

_VIEWS: Final = Path(__file__).with_name("sqlite_views.sql")
_BATCH: Final = 8192  # events
_U63: Final = 1 << 63
_REGISTERS: Final = {
    NUMBER["reg.read"]: its_register, NUMBER["reg.write"]: its_register,
    NUMBER["gicr.read"]: gicr_register, NUMBER["gicr.write"]: gicr_register,
}  # fmt: skip
_COMMAND: Final = NUMBER["command"]
# What a command's doublewords say, each a column of the table `command`.
_COMMAND_FIELDS: Final = tuple(
    dict.fromkeys(
        field.attr
        for spec in commands.COMMANDS
        for field in spec.layout.fields_
        if field.attr != "opcode"
    )
)
# Of the recorder's machine nothing is given away.
_PRIVATE: Final = frozenset(("host", "command_line", "annotations"))


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
    base = sqlite3.connect(path, isolation_level=None)
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
    if number in _REGISTERS:
        columns.append(("register", "TEXT"))
    if number == _COMMAND:
        columns += [("command", "TEXT"), *((name, "INTEGER") for name in _COMMAND_FIELDS)]
    return columns


def _type(field: Field) -> str:
    if isinstance(field.form, tuple) or field.form == "text":
        return "TEXT"
    return "BLOB" if field.form == "bytes" else "INTEGER"


def _header(header: Header) -> list[tuple[str, str]]:
    known = header.to_map().items()
    return [(key, json.dumps(value, default=str)) for key, value in known if key not in _PRIVATE]


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
        return seq, event[0], json.dumps(event[2:], default=lambda item: item.hex())
    f = fields_of(event)
    values = [_value(field, f[field.name]) for field in cls.fields]
    if event[0] in _REGISTERS:
        found = _REGISTERS[event[0]](f["offset"])
        values.append(found[0] if found else None)
    if event[0] == _COMMAND:
        values += _decoded(f)
    return seq, *values


def _decoded(f: dict[str, Any]) -> list[Any]:
    """Return a command's name and fields; what is not known of it is null."""
    name = commands.decode(f["dw0"], f["dw1"], f["dw2"], f["dw3"])[0]
    spec = commands.BY_NAME.get(name)
    if spec is None:
        return [name, *([None] * len(_COMMAND_FIELDS))]
    raw = commands.join(f["dw0"], f["dw1"], f["dw2"], f["dw3"])
    known = commands.join(f["known0"], f["known1"], f["known2"], f["known3"])
    own = {each.attr: each for each in spec.layout.fields_}
    return [
        name,
        *(
            _signed(own[attr].get(raw)) if attr in own and known & own[attr].mask else None
            for attr in _COMMAND_FIELDS
        ),
    ]


def _value(field: Field, value: Any) -> Any:
    if isinstance(field.form, tuple):
        return field.form[value]
    return _signed(value) if isinstance(value, int) else value


def _signed(value: int) -> int:
    """Return the signed number of the same 64 bits."""
    return (value & (1 << 64) - 1 ^ _U63) - _U63
