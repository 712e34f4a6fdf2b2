"""Opens a trace by name, whichever form it has, and makes new ones without overwriting."""

from __future__ import annotations

import fcntl
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tracer.errors import UsageError, WriteError
from tracer.log.files import is_url, opened
from tracer.log.stream import Reader
from tracer.log.text import SUFFIX, TextReader

AnyReader = Reader | TextReader
# (device, inode) of the files that are being read: an output is none of them, whatever is forced.
_reading: Counter[tuple[int, int]] = Counter()


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Yield the bytes of `path`, a URL too, or of standard input for `-`.

    Raises:
        UsageError: it cannot be opened.
    """
    if path == "-":
        yield cast(BinaryIO, sys.stdin.buffer)
        return
    with opened(path) as stream:
        place = _place(stream)
        _reading[place] += 1
        try:
            yield stream
        finally:
            _reading[place] -= 1


def _place(stream: BinaryIO) -> tuple[int, int]:
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # bytes that were handed over
        return 0, 0
    return status.st_dev, status.st_ino


@contextmanager
def open_trace(path: str) -> Iterator[AnyReader]:
    """Yield a reader of the trace at `path`; its text form is recognised by its name or start."""
    with open_input(path) as stream:
        yield reader_of(io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16), path)


def reader_of(buffered: io.BufferedReader, path: str) -> AnyReader:
    """Return a reader of the trace that begins where `buffered` stands."""
    if path.endswith(SUFFIX) or buffered.peek(11)[:11] == b"# itstrace:":
        return TextReader(cast(BinaryIO, buffered), path)
    return Reader(cast(BinaryIO, buffered), path)


@contextmanager
def create_output(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """Yield an unbuffered stream to a new file, or standard output for `-`.

    Raises:
        UsageError: the file exists and `force` is not set, or is being read, or cannot be made.
    """
    if path == "-":
        yield cast(BinaryIO, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    if is_url(path):
        raise UsageError(f"{path}: an output must be a local file")
    if force and _is_being_read(path):
        raise UsageError(f"{path}: is being read, and stays as it is: give another name")
    try:
        stream = open(path, "wb" if force else "xb", buffering=0, opener=_alone)  # noqa: SIM115
    except FileExistsError as error:
        raise UsageError(f"{path}: exists already; --force overwrites it") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    try:
        yield cast(BinaryIO, stream)
    finally:
        try:
            stream.close()
        except OSError as error:
            raise WriteError(f"{path}: {error.strerror}") from error


def _alone(path: str, flags: int) -> int:
    """Open an output unless another process writes it; what it wrote is not cut off before."""
    file = os.open(path, flags & ~os.O_TRUNC, 0o666)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            _lock(file)
            if flags & os.O_TRUNC:
                os.ftruncate(file, 0)
    except BaseException:
        os.close(file)
        raise
    return file


def _lock(file: int) -> None:
    """Hold a file until it is closed; where the file system has no locks, nobody holds it.

    Raises:
        BlockingIOError: another holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, "is being written by another process") from error
    except OSError:
        pass


def write_output(path: str, data: bytes, *, force: bool) -> None:
    """Write a whole file, or nothing: what a full disk took of it does not stay.

    Raises:
        UsageError: as `create_output`.
        WriteError: it could not be written whole.
    """
    with create_output(path, force=force) as out:
        left = memoryview(data)
        try:
            while left:
                left = left[out.write(left) :]  # an unbuffered file may take a part
        except BrokenPipeError:
            raise
        except OSError as error:
            if Path(path).is_file():
                Path(path).unlink()
            raise WriteError(f"{path}: {error.strerror}") from error


def _is_being_read(path: str) -> bool:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return False
    return _reading[status.st_dev, status.st_ino] > 0
