"""`--to jsonl`: one JSON object an event, with the names that `show --json` and filters have.

Counterpart: `replay.decode`, which gives the names; docs/export.md lists them.
"""

from __future__ import annotations

from replay.decode import decode, to_json
from replay.export.streaming import Frames, created, each_event
from tracer.log.opening import AnyReader


def write(_: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write one line an event."""
    with created(path, force=force) as out:
        for seq, time_ns, event in each_event(frames):
            out.write(f"{to_json(decode(seq, time_ns, event))}\n".encode())
