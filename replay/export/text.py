"""`--to text`: the lossless text form, NAME.its.txt, which `import` and every verb read back.

Counterpart: `tracer.log.text`.
"""

from __future__ import annotations

import io
from typing import Final, cast

from replay.export.streaming import Frames, each_event
from tracer.log.opening import AnyReader, create_output
from tracer.log.text import write_text

_BUFFER_BYTES: Final = 1 << 16


def write(reader: AnyReader, frames: Frames, path: str, *, force: bool) -> None:
    """Write a trace's text form."""
    with create_output(path, force=force) as out:
        buffered = io.BufferedWriter(cast(io.RawIOBase, out), _BUFFER_BYTES)
        text = io.TextIOWrapper(buffered, encoding="utf-8", newline="\n")
        events = ((seq, event) for seq, _, event in each_event(frames))
        write_text(reader.header, events, text, reader.checkpoint)
        text.flush()
        text.detach()  # closing is for who opened it
        buffered.detach()
