"""Listings of debugfs that came through trace_marker, as probe events: `its: sample N ...`.

A listing disturbs nothing, and has no order with what happened between its begin and its end: if
that could have changed what is mapped, its rows are told to overlap. It stands where it ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tracer import events as ev
from tracer.events import NUMBER
from tracer.sources import ftrace_formats as ft

MAX_SAMPLES: Final = 64  # that are being read at the same time
MAX_ROWS: Final = 65_536  # of one listing: as many as there are LPIs

_PROBE, _LPI, _ITS = NUMBER["probe"], NUMBER["lpi.live"], NUMBER["its.live"]
_LISTS: Final = ((_LPI, 1), (_ITS, 2))
_BEGIN, _END = (ev.EDGES.index(each) for each in ("begin", "end"))


@dataclass(slots=True)
class Sample:
    """One listing that is being read; `rows` are (ns, event)."""

    tgid: int  # of the VM, as the name of its directory in debugfs has it
    start_ns: int
    inputs: int | None  # that the VM had seen when it began; None: something was going on
    rows: list[tuple[int, list[Any]]] = field(default_factory=list)
    device: int | None = None  # whose events come now, in vgic-its-state
    unread: int = 0  # lines that could not be read, or were too many
    vcpus: int | None = None

    def line(self, time_ns: int, list_name: bytes, text: bytes) -> None:
        """Take a line of a listing."""
        if list_name == b"dist":
            self._dist(text)
            return
        row = self._lpi(text) if list_name == b"lpi" else self._its(text)
        if row is None:
            return
        if len(self.rows) >= MAX_ROWS:
            self.unread += 1
        else:
            self.rows.append((time_ns, row))

    def _dist(self, text: bytes) -> None:
        match = ft.SAMPLE_DIST.fullmatch(text.strip())
        if match is not None and match[2]:
            self.vcpus = int(match[2])

    def _lpi(self, text: bytes) -> list[Any] | None:
        match = ft.LPI_ROW.fullmatch(text)
        if match is None:
            self.unread += ft.LPI_FREED.fullmatch(text) is None
            return None
        intid, target, flags, priority, queued = match.groups()
        return [_LPI, 0, 0, int(intid), int(target), int(flags, 2), int(priority), int(queued)]

    def _its(self, text: bytes) -> list[Any] | None:
        device = ft.ITS_DEVICE.fullmatch(text)
        if device is not None:
            self.device = int(device[1], 16 if device[1].startswith(b"0x") else 10)
            return None
        match = ft.ITS_ROW.fullmatch(text)
        if match is None or self.device is None:
            self.unread += ft.ITS_TITLE.fullmatch(text.strip()) is None
            return None
        event, intid, target, icid = (int(each) for each in match.groups())
        seen = -1 if target == ft.NOT_MAPPED else target
        return [_ITS, 0, 0, self.device, event, intid, seen, icid]

    def events(self, time_ns: int, end: bytes) -> list[list[tuple[int, list[Any]]]] | None:
        """Return a probe for each list, with its rows, (ns, event); None for an end that is none."""
        match = ft.SAMPLE_END.fullmatch(end.strip())
        if match is None:
            return None
        lists = int(match[3])
        if self.unread or int(match[2]):
            lists = 0  # something of it is not here: no row is missing by that
        probes = [
            self._probe(time_ns, kind, lists & which)
            for kind, which in _LISTS
            if self._has(kind, lists & which)
        ]
        return probes or [self._probe(time_ns, _LPI, 0)]

    def _has(self, kind: int, listed: int) -> bool:
        return bool(listed) or any(event[0] == kind for _, event in self.rows)

    def _probe(self, time_ns: int, kind: int, listed: int) -> list[tuple[int, list[Any]]]:
        rows = [row for row in self.rows if row[1][0] == kind]
        begin = (self.start_ns, [_PROBE, 0, _BEGIN, 0, listed])
        return [begin, *rows, (time_ns, [_PROBE, 0, _END, 0, listed])]
