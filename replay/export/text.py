"""`--to text`: the lossless text form, NAME.its.txt, which `import` and every verb read back.

Counterpart: `tracer.log.text`.
"""

from __future__ import annotations

import io

from replay.export.streaming import Frames, created, each_event
from tracer.log.opening import AnyReader
from tracer.log.text import write_text


def write(reader: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write a trace's text form."""
    with created(path, force=force) as out:
        text = io.TextIOWrapper(out, encoding="utf-8", newline="\n")
        events = ((seq, event) for seq, _, event in each_event(frames))
        write_text(reader.header, events, text, reader.checkpoint)
        text.detach()  # closing is for who opened it
