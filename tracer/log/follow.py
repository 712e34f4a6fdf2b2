"""A trace that is still being written, as a stream that waits where a file would end.

As `tail -F` does: a file that is not there yet is waited for. Unlike it, one that was cut short or
replaced ends the following, because a trace does not go on in another file. Counterpart:
`tracer.log.stream.Reader`, which ends at the end frame when it follows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import BinaryIO, Final, cast

from tracer.errors import TraceError, UsageError
from tracer.log.stream import Reader
from tracer.log.text import SUFFIX

POLL_SECONDS: Final = 0.1
_CHUNK_BYTES: Final = 1 << 16


class Growing:
    """Bytes of a file as they come; a pipe ends when its writers are gone, a file never does."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._offset = 0
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def read(self, size: int = _CHUNK_BYTES) -> bytes:
        """Return what there is, at least a byte: at most `size`; nothing at a pipe's end.

        Raises:
            TraceError: the file became shorter, or another one has its name now.
        """
        while True:
            data = os.read(self._descriptor, max(size, 1))
            self._offset += len(data)
            if data or not self._is_file:
                return data
            self._check()
            sleep(POLL_SECONDS)

    def _check(self) -> None:
        """There is no more for now: see that it is still the file that we follow."""
        here = os.fstat(self._descriptor)
        if here.st_size < self._offset:
            raise TraceError(
                self._name, self._offset, "the file was cut short while it was followed"
            )
        try:
            there = Path(self._name).stat()
        except OSError:
            what = "the file was taken away while it was followed"
            raise TraceError(self._name, self._offset, what) from None
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            what = "another file took its place while it was followed: follow that one anew"
            raise TraceError(self._name, self._offset, what)


@contextmanager
def follow_trace(path: str, waiting: Callable[[str], None]) -> Iterator[Reader]:
    """Yield a reader that waits for what is written next; `-` for standard input.

    `waiting` is told once when the file is not there yet.

    Raises:
        UsageError: it cannot be opened, or it is in text form.
        TraceError: it is no trace, or no longer the same file.
    """
    if path == "-":
        yield Reader(cast(BinaryIO, Growing(0, path)), path, follow=True)
        return
    if path.endswith(SUFFIX):
        raise UsageError(f"{path}: a trace in text form is not followed: nothing records one")
    descriptor = _open(path, waiting)
    try:
        yield Reader(cast(BinaryIO, Growing(descriptor, path)), path, follow=True)
    finally:
        os.close(descriptor)


def _open(path: str, waiting: Callable[[str], None]) -> int:
    told = False
    while True:
        try:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if not Path(path).parent.is_dir():
                raise UsageError(f"{path}: there is no such folder") from None
            if not told:
                waiting(f"{path}: not there yet; waiting for it")
                told = True
            sleep(POLL_SECONDS)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
