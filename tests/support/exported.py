"""Traces that are hard to export, and the exporting of them."""

from __future__ import annotations

from replay import cli
from replay.generator.answers import generate, header_of
from replay.profiles import find
from tests.support.traces import small_events, small_header
from tracer.events import FIRST_NOTE, KINDS, fields_of, make
from tracer.log.stream import Writer

TOP = (1 << 64) - 1
LIVES = ("small", "each", "life")
TEXT = "'; DROP TABLE events; --\n\u2028\x00\x1b[31m\"\\ </script> \U0001f600"


def hardest(field):
    """Return the value of a field that is hardest to keep."""
    if isinstance(field.form, tuple):
        return len(field.form) - 1
    return {"bytes": b"\x00\xff", "text": TEXT, "int": -(2**63)}.get(field.form, TOP)


def one_of_each():
    """Return an event of each kind with the values that are hardest to keep, and unknown ones."""
    events = [
        make(cls.name, 7, **{field.name: hardest(field) for field in cls.fields})
        for cls in KINDS.values()
    ]
    nulls = [
        make(cls.name, -3, **{f.name: None if f.default is None else 0 for f in cls.fields})
        for cls in KINDS.values()
        if any(field.default is None for field in cls.fields)
        and all(field.form != "text" for field in cls.fields)
    ]
    unknown = [(FIRST_NOTE - 1, -5, 1, b"\x01", TEXT), (255, 3), (*make("save", 0), 9)]
    return [*events, *nulls, *unknown]


def written(path, life, **changes):
    """Write a trace and return its events."""
    header = small_header(host="secret-host", command_line=["secret-command"], **changes)
    if life == "life":
        profile = find("linux-6.1.192")[0]
        header = header_of(3, profile, 400)
        events = list(generate(3, profile, 400))
    else:
        events = small_events() if life == "small" else one_of_each()
    return write(path, header, events)


def write(path, header, events, **bounds):
    with path.open("wb", buffering=0) as out:
        writer = Writer(out, header, **bounds)
        for event in events:
            writer.add(event)
        writer.close()
    return events


def export(trace, to, made, *words):
    return cli.main(["export", str(trace), "--to", to, "-o", str(made), *words])


def timed(events, first_seq=0):
    """Yield (sequence number, time in nanoseconds, event)."""
    time_ns = 0
    for seq, event in enumerate(events, first_seq):
        time_ns += event[1]
        yield seq, time_ns, event


def known_fields(event):
    """Return an event's fields that this version knows, by name."""
    names = {field.name for field in KINDS[event[0]].fields}
    return {name: value for name, value in fields_of(event).items() if name in names}
