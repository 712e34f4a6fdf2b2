"""`--to jsonl`: one JSON object an event, with the names that `show --json` and filters have.

Counterpart: `replay.decode`, which gives the names; docs/export.md lists them.
"""

from __future__ import annotations

from typing import Final

from replay.decode import decode, to_json
from replay.export.streaming import Frames, each_event
from tracer.log.opening import AnyReader, create_output

_LINES_A_WRITE: Final = 4096


def write(_: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write one line an event."""
    with create_output(path, force=force) as out:
        lines: list[str] = []
        for seq, time_ns, event in each_event(frames):
            lines.append(to_json(decode(seq, time_ns, event)))
            if len(lines) == _LINES_A_WRITE:
                out.write("".join(f"{line}\n" for line in lines).encode())
                lines.clear()
        out.write("".join(f"{line}\n" for line in lines).encode())
