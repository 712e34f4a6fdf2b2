"""`--to parquet`: one table of all events, typed, for DuckDB, pandas, polars and Spark.

A column is null where an event's kind has no such field, or where nobody observed it. What a command
and a table entry mean has columns of its own, so that `device_id = 8` finds MSIs, commands and
entries alike. Counterparts: `tracer.events`, the fields, `columns` and docs/export.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from replay.decode import ENTRIES, REGISTERS
from replay.export.columns import COMMAND, COMMAND_FIELDS, command_of, register_of, unknown_fields
from replay.export.streaming import Frames, created, each_event, public
from tracer.errors import UsageError, WriteError
from tracer.events import ENTRY_FIELDS, KINDS, Event, Field, fields_of, kind_name
from tracer.log.opening import AnyReader

MAX_GROUP_ROWS: Final = 32_768
MAX_GROUP_BYTES: Final = 8 << 20  # of texts and bytes in one row group
MISSING: Final = "a Parquet file needs pyarrow: pip install 'itstrace[export]'"
_RAW_ENTRY: Final = frozenset(("e1", "e2", "e3", "e4", "e5"))
# A number of EventID bits less one is no size of an access.
_ITT_SIZE: Final = "itt_size"
_TYPES: Final = {"hex": "uint64", "dec": "uint64", "int": "int64", "bytes": "binary"}
_I63: Final = 1 << 63


def write(reader: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write the table, a row group at a time.

    Raises:
        UsageError: there is no pyarrow, or the file exists.
        WriteError: the disk is full.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(MISSING) from error
    header = json.dumps(public(reader.header), default=str)
    fields = [pyarrow.field(name, getattr(pyarrow, type_)()) for name, type_ in columns().items()]
    schema = pyarrow.schema(fields, metadata={"itstrace": header})
    with created(path, force=force) as out:
        try:
            with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
                for count, group in _groups(frames):
                    arrays = [
                        pyarrow.array(group[field.name], field.type)
                        if field.name in group
                        else pyarrow.nulls(count, field.type)
                        for field in schema
                    ]
                    writer.write_table(pyarrow.table(arrays, schema=schema))
        except pyarrow.ArrowException as error:
            raise WriteError(f"{path}: {error}") from error


def columns() -> dict[str, str]:
    """Return column -> type of the table."""
    found = {"seq": "uint64", "time_ns": "int64", "kind": "string"}
    for number, cls in KINDS.items():
        for field in cls.fields:
            if field.name not in _RAW_ENTRY:
                found[field.name] = _type(field)
        if number in ENTRIES:
            found |= {
                _entry_column(name): "uint64" for each in ENTRY_FIELDS.values() for name in each
            }
    found |= {"register": "string", "command": "string"}
    found |= {_command_column(attr): "uint64" for attr in COMMAND_FIELDS}
    return found | {"unknown": "string"}


def _type(field: Field) -> str:
    if isinstance(field.form, tuple) or field.form == "text":
        return "string"
    return _TYPES[field.form]


def _entry_column(name: str) -> str:
    return _ITT_SIZE if name == "size" else name


def _command_column(attr: str) -> str:
    return _ITT_SIZE if attr == "size" else attr


def _groups(frames: Frames) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    """Yield (rows, column -> values) of each row group; columns without a value are left out."""
    group: dict[str, list[Any]] = {}
    at = held = 0
    for seq, time_ns, event in each_event(frames):
        for name, value in _row(seq, time_ns, event).items():
            if value is not None:
                column = group.get(name)
                if column is None:
                    column = group[name] = [None] * MAX_GROUP_ROWS
                column[at] = value
                if type(value) in (str, bytes):
                    held += len(value)
        at += 1
        if at == MAX_GROUP_ROWS or held > MAX_GROUP_BYTES:
            yield at, {name: column[:at] for name, column in group.items()}
            group, at, held = {}, 0, 0
    if at:
        yield at, {name: column[:at] for name, column in group.items()}


def _row(seq: int, time_ns: int, event: Event) -> dict[str, Any]:
    number = event[0]
    at = time_ns if -_I63 <= time_ns < _I63 else None
    row: dict[str, Any] = {"seq": seq, "time_ns": at, "kind": kind_name(number)}
    cls = KINDS.get(number)
    if cls is None:
        row["unknown"] = unknown_fields(event)
        return row
    f = fields_of(event)
    for field in cls.fields:
        value = f[field.name]
        row[field.name] = field.form[value] if isinstance(field.form, tuple) else value
    if number in REGISTERS:
        row["register"] = register_of(number, f["offset"])
    elif number == COMMAND:
        row["command"], told = command_of(f)
        row |= {_command_column(attr): value for attr, value in told.items()}
    elif number in ENTRIES:
        for at, name in enumerate(ENTRY_FIELDS[event[3]], 1):
            row[_entry_column(name)] = row[f"e{at}"]
        for name in _RAW_ENTRY:
            del row[name]
    return row
