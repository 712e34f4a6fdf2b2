"""The events of a trace as columns: what `show --json` and `show` say of each.

Events of one kind, and of one register, command or table, are a group: each name that `decode` gives
is a column. The line that `describe` gives is a template in which the numbers that are also in a column
stand as the column's: the page puts them together and decodes nothing by itself.
"""

from __future__ import annotations

import re
from typing import Any, Final

from replay.decode import decode, describe
from replay.report.columns import MAX_DATA_BYTES, MAX_TEXT_CHARS, Atoms, Block
from tracer.events import KINDS, NUMBER, Event

CHUNK_EVENTS: Final = 1 << 16
MAX_STEP_NS: Final = 1 << 51  # between two events, in a report: 26 days
_MAX_REMEMBERED: Final = 1 << 17  # rows that are not decoded again
_MAX_TRIED: Final = 8  # templates of a group that a line is held against
_ALONE: Final = frozenset(("seq", "time_ns", "kind", "cause"))  # no columns of a group
_CAUSED: Final = frozenset(
    number for number, cls in KINDS.items() if cls.fields and cls.fields[0].name == "cause"
)
_CAUSE: Final = 987_654_321_987  # a cause that no other number of a line is
_NUMBER: Final = re.compile(r"(?<![\w.])(0x[0-9a-f]+|[0-9]+)(?![\w.])")

# Lanes of the page's timeline.
LANES: Final = ("registers", "commands", "MSIs", "save, restore", "resets", "tables, RAM", "other")
_LANE: Final = {
    NUMBER[name]: lane
    for lane, names in enumerate(
        (
            ("reg.read", "reg.write", "gicr.read", "gicr.write", "gicd.read", "gicd.write"),
            ("command", "command.done"),
            ("msi", "msi.result", "lpi", "lpi.ack", "xlat.hit", "xlat.miss"),
            ("save", "save_pending", "restore"),
            ("reset",),
            ("table.read", "table.write", "table.fault", "mem.read", "mem.write"),
        )
    )
    for name in names
}

Template = list[Any]  # texts, and [name, width] of a hexadecimal or [name] of a decimal number


class Group:
    """Events that have the same names."""

    def __init__(self, kind: str, number: int, names: tuple[str, ...]) -> None:
        self.kind = kind
        self.lane = _LANE.get(number, len(LANES) - 1)
        self.names = names
        self.templates: list[int] = []  # those used last come last
        self.rows: list[tuple[Any, ...]] = []
        self.causes: list[int] = []


class EventTable:
    """Takes events in, gives chunks of columns."""

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self.count = 0
        self.time_ns = 0
        self.atoms = Atoms()
        self.templates: list[Template] = []
        self.lanes = [0] * len(LANES)  # events in each
        self.origin_ns = (
            0  # the first event's time, which may be a clock's: the page counts from it
        )
        self.chunks: list[bytes] = []
        self.starts: list[tuple[int, int]] = []  # (events, time in ns) before each chunk
        self._template_ids: dict[str, int] = {}
        self._groups: dict[tuple[Any, ...], int] = {}
        self._all: list[Group] = []
        self._known: dict[Event, tuple[int, tuple[Any, ...]]] = {}
        self._order: list[int] = []
        self._times: list[int] = []

    def add(self, event: Event) -> None:
        """Take in the next event."""
        kind = event[0]
        caused = kind in _CAUSED and len(event) > 2
        key = (kind, *event[3 if caused else 2 :])
        try:
            row = self._known.get(key)
        except TypeError:  # an event of a newer itstrace may hold lists
            row = self._row(event, caused=caused)
        else:
            if row is None:
                row = self._row(event, caused=caused)
                if len(self._known) > _MAX_REMEMBERED:
                    self._known.clear()
                self._known[key] = row
        group = self._all[row[0]]
        self.lanes[group.lane] += 1
        group.rows.append(row[1])
        if caused:
            group.causes.append(event[2])
        self._order.append(row[0])
        self._times.append(self._step(event[1]))
        self.count += 1
        if len(self._order) == CHUNK_EVENTS:
            self._cut()

    def _step(self, dt_ns: int) -> int:
        """Return the time since the event before, as far as a page has it."""
        if not self.count:
            self.origin_ns = dt_ns
            return 0
        return max(-MAX_STEP_NS, min(dt_ns, MAX_STEP_NS))

    def _row(self, event: Event, *, caused: bool) -> tuple[int, tuple[Any, ...]]:
        """Return the group of an event, and its values: the template's number first."""
        if caused:
            event = (*event[:2], _CAUSE, *event[3:])
        more = _cut_off(event)
        event = (*event[:2], *map(_short, event[2:]))
        shown = decode(0, 0, event)
        names = tuple(name for name in shown if name not in _ALONE)
        key = (event[0], shown.get("register"), shown.get("command"), shown.get("table"), names)
        number = self._groups.get(key)
        if number is None:
            number = self._groups[key] = len(self._all)
            self._all.append(Group(shown["kind"], event[0], names))
        group = self._all[number]
        template = self._template(group, describe(event) + more, shown)
        return number, (template, *(shown[name] for name in names))

    def _template(self, group: Group, line: str, shown: dict[str, Any]) -> int:
        for number in reversed(group.templates[-_MAX_TRIED:]):
            if filled(self.templates[number], shown) == line:
                return number
        template = _template_of(line, shown)
        key = repr(template)
        number = self._template_ids.get(key, len(self.templates))
        if number == len(self.templates):
            self._template_ids[key] = number
            self.templates.append(template)
        if number in group.templates:
            group.templates.remove(number)
        group.templates.append(number)
        return number

    def _cut(self) -> None:
        """Make a chunk of what was taken in since the last."""
        block = Block()
        self.starts.append((self.count - len(self._order), self.time_ns))
        parts = {}
        for number, group in enumerate(self._all):
            if not group.rows:
                continue
            columns = [block.column(values, self.atoms) for values in zip(*group.rows, strict=True)]
            causes = block.numbers(group.causes) if group.causes else None
            parts[number] = [len(group.rows), causes, *columns]
            group.rows, group.causes = [], []
        header = {
            "count": len(self._order),
            "groups": block.numbers(self._order),
            "times": block.numbers(self._times),
            "parts": parts,
        }
        self.chunks.append(block.packed(header))
        self.time_ns += sum(self._times)
        self._order, self._times = [], []

    def close(self) -> None:
        """Make the last chunk."""
        if self._order:
            self._cut()

    def groups(self) -> list[dict[str, Any]]:
        """Return what the page must know of each group."""
        return [{"kind": each.kind, "lane": each.lane, "names": each.names} for each in self._all]


def _short(value: Any) -> Any:
    """Return a value of an event, cut where it is longer than a page shows."""
    if isinstance(value, bytes):
        return value[:MAX_DATA_BYTES]
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) else value


def _cut_off(event: Event) -> str:
    """Return what a line says of values that a page shows the beginning of."""
    sizes = [len(value) for value in event[2:] if value != _short(value)]
    return "".join(f"... ({size} in all)" for size in sizes)


def _template_of(line: str, shown: dict[str, Any]) -> Template:
    """Return the line with numbers that are in a column as the column's name."""
    template: Template = []
    at = 0
    for match in _NUMBER.finditer(line):
        name = _named(match[0], line[: match.start()], shown)
        if name is None:
            continue
        template.append(line[at : match.start()])
        wide = match[0].startswith("0x")
        padded = wide and match[0] != hex(shown[name])
        template.append([name, len(match[0]) if padded else 0] if wide else [name])
        at = match.end()
    template.append(line[at:])
    return template


def _named(token: str, before: str, shown: dict[str, Any]) -> str | None:
    """Return the name of a value that a number in a line is; the one that stands before it first."""
    value = int(token, 0) if token.startswith("0x") or token == str(int(token)) else None
    written = re.search(r"(\w+)=$", before)
    names = [name for name, each in shown.items() if type(each) is int and each == value]
    if written and written[1] in names:
        return written[1]
    return next((name for name in names if name not in ("seq", "time_ns")), None)


def filled(template: Template, shown: dict[str, Any]) -> str | None:
    """Return a template with an event's numbers in it; None where one is not known."""
    parts = []
    for each in template:
        if isinstance(each, str):
            parts.append(each)
            continue
        value = shown[each[0]]
        if type(value) is not int or value < 0:
            return None
        parts.append(str(value) if len(each) == 1 else f"{value:#0{each[1]}x}")
    return "".join(parts)
