"""What the forms that stream share: the output, events one by one, and where they stand in time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final, cast

from tracer.errors import WriteError
from tracer.events import Event
from tracer.log.header import Header
from tracer.log.opening import create_output

Frames = Iterable[tuple[int, tuple[Event, ...]]]

_BUFFER_BYTES: Final = 1 << 16
# Of the recorder's machine nothing is given away.
_PRIVATE: Final = frozenset(("host", "command_line", "annotations"))
NO_CLOCK: Final = "none"
# What a viewer of time is told that an event takes, where the trace has no times.
STEP_NS: Final = 1000


@contextmanager
def created(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """Yield a buffered stream to a new file, or standard output for `-`.

    Raises:
        UsageError: the file exists and `force` is not set, or cannot be made.
        WriteError: it cannot be written: the disk is full.
    """
    with create_output(path, force=force) as out:
        buffered = io.BufferedWriter(cast(io.RawIOBase, out), _BUFFER_BYTES)
        try:
            yield cast(BinaryIO, buffered)
            buffered.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise WriteError(f"{path}: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                buffered.detach()  # closing is for who opened it


def each_event(frames: Frames) -> Iterator[tuple[int, int, Event]]:
    """Yield (sequence number, time in nanoseconds, event) of a whole trace."""
    time_ns = 0
    for first_seq, events in frames:
        for seq, event in enumerate(events, first_seq):
            time_ns += event[1]
            yield seq, time_ns, event


def public(header: Header) -> dict[str, Any]:
    """Return what of a header other tools are told."""
    return {key: value for key, value in header.to_map().items() if key not in _PRIVATE}


def inner(text: str) -> str:
    """Return a text as it stands within a JSON string: printable ASCII, and nothing is lost."""
    return json.dumps(text)[1:-1]
