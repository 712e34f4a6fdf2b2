"""The live LPIs that a kernel lists of a VM on this very machine: debugfs `vgic-state`.

Reading them disturbs nothing. Rows are read with the patterns of `ftrace_formats`, the listings in
a kernel's trace by `ftrace_samples`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from tracer.sources.ftrace_formats import LPI_ROW

ROOT: Final = Path("/sys/kernel/debug/kvm")
MAX_LIST_BYTES: Final = 16 << 20


class Row(NamedTuple):
    """One live LPI; the fields of the event `lpi.live`."""

    intid: int
    target: int
    flags: int
    priority: int
    queued: int


def live_lpis(pid: int | None) -> list[Row] | None:
    """Return the live LPIs of the one VM of process `pid`, or None when they cannot be had."""
    if pid is None:
        return None
    try:
        (path,) = ROOT.glob(f"{pid}-*/vgic-state")
        with path.open("rb") as stream:
            text = stream.read(MAX_LIST_BYTES + 1)
    except (OSError, ValueError):
        return None
    return None if len(text) > MAX_LIST_BYTES else rows(text)


def rows(text: bytes) -> list[Row]:
    """Return the LPIs of a listing."""
    found = (LPI_ROW.fullmatch(line) for line in text.split(b"\n"))
    return [
        Row(int(match[1]), int(match[2]), int(match[3], 2), int(match[4]), int(match[5]))
        for match in found
        if match
    ]
