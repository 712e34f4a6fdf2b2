"""Where a name becomes bytes: a local file, one that a URL names, or one that was handed over.

A URL (`scheme://...`, anything that fsspec knows) is opened only because whoever runs us wrote it: no name
that a trace, a manifest or the listing of a folder holds can become one. What is fetched is copied once, to a
file without a name. Counterpart: `tracer.log.opening`, which makes readers of the bytes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from tracer.errors import UsageError

MAX_FETCHED_BYTES: Final = 16 << 30  # of one file
MAX_LISTED: Final = 1_000_000  # names in a folder that a URL names
_CHUNK_BYTES: Final = 1 << 20
_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*(::[a-zA-Z][a-zA-Z0-9+.-]*)*://")
_held: ContextVar[Mapping[str, bytes] | None] = ContextVar("held", default=None)
_fetched: Final[dict[str, BinaryIO]] = {}


def is_url(name: str) -> bool:
    """Return whether a name is a URL, and no path."""
    return _URL.match(name) is not None


@dataclass(frozen=True, slots=True, order=True)
class Url:
    """What a Path is to a local file, as far as a corpus needs it; `zip://IN::OUT` is IN in OUT."""

    text: str

    def __str__(self) -> str:
        return self.text

    def _parts(self) -> tuple[str, str, str]:
        """Return what stands before the path, the path, and what stands behind it."""
        start = self.text.index("://") + 3
        end = self.text.find("::", start)
        end = len(self.text) if end < 0 else end
        return self.text[:start], self.text[start:end], self.text[end:]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._parts()[1].rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Url:
        """The folder."""
        before, path, behind = self._parts()
        head, slash, _ = path.rstrip("/").rpartition("/")
        return Url(f"{before}{head or slash}{behind}")

    def with_name(self, name: str) -> Url:
        """Return its neighbour of that name."""
        return self.parent / name

    def __truediv__(self, name: str) -> Url:
        before, path, behind = self._parts()
        folder = f"{path.rstrip('/')}/" if path else ""
        return Url(f"{before}{folder}{name}{behind}")


Where = Path | Url


def where(text: str) -> Where:
    """Return what a name on the command line means."""
    return Url(text) if is_url(text) else Path(text)


@contextmanager
def holding(files: Mapping[str, bytes]) -> Iterator[None]:
    """These are the files, by name, and there are no others."""
    token = _held.set(files)
    try:
        yield
    finally:
        _held.reset(token)


def is_local(name: str) -> bool:
    """Return whether a name is that of a file of this machine."""
    return _held.get() is None and not is_url(name)


def opened(name: str) -> BinaryIO:
    """Return the bytes of a file, unbuffered; whoever asked closes it.

    Raises:
        UsageError: it cannot be opened.
    """
    held = _held.get()
    if held is not None:
        if name not in held:
            raise UsageError(f"{name}: No such file or directory")
        return io.BytesIO(held[name])
    if is_url(name):
        return cast(BinaryIO, _Shared(_copy_of(name)))
    try:
        return cast(BinaryIO, Path(name).open("rb", buffering=0))
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or error}") from error


def read(place: Where | str, most: int) -> bytes:
    """Return up to `most` bytes of a file; UsageError when it cannot be read."""
    with io.BufferedReader(cast(io.RawIOBase, opened(str(place)))) as stream:
        try:
            return stream.read(most)
        except OSError as error:
            raise UsageError(f"{place}: {error.strerror}") from error


def exists(place: Where) -> bool:
    """Return whether there is such a file."""
    held = _held.get()
    if held is not None:
        return str(place) in held
    if isinstance(place, Path):
        return place.exists()
    return bool(_asked(place.text, lambda system, path: system.exists(path)))


def size_of(place: Where) -> int:
    """Return the bytes of a file; 0 where nobody says."""
    held = _held.get()
    if held is not None:
        return len(held.get(str(place), b""))
    if isinstance(place, Path):
        return place.stat().st_size if place.is_file() else 0
    return int(_asked(place.text, lambda system, path: system.size(path)) or 0)


def found_in(folder: Url, suffixes: tuple[str, ...]) -> list[Url]:
    """Return the files in and below a folder whose names end so, in order.

    Raises:
        UsageError: it cannot be listed, or holds a name that would be a URL of its own.
    """

    def listed(system: Any, path: str) -> list[str]:
        names = system.find(path)
        if len(names) > MAX_LISTED:
            raise UsageError(f"{folder}: a folder must have at most {MAX_LISTED} files")
        base = path.rstrip("/")
        return [name.removeprefix(base).lstrip("/") for name in names if name.endswith(suffixes)]

    names = _asked(folder.text, listed)
    for name in names:
        if "::" in name or "://" in name or ".." in name.split("/"):
            raise UsageError(f"{folder}: the name of a file in it must not be {name!r:.200}")
    return [folder / name for name in sorted(names, key=lambda each: each.split("/"))]


def is_folder(place: Url) -> bool:
    """Return whether a URL names something that has files in it."""
    return bool(_asked(place.text, lambda system, path: system.isdir(path)))


@contextmanager
def fetching() -> Iterator[None]:
    """What is fetched in here is kept until it is left."""
    before = set(_fetched)
    try:
        yield
    finally:
        for name in _fetched.keys() - before:
            _fetched.pop(name).close()


def _copy_of(url: str) -> BinaryIO:
    """Return a file without a name that holds what a URL names."""
    if url not in _fetched:
        import tempfile

        copy = cast(BinaryIO, tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        try:
            _asked(url, lambda system, path: _fetch(url, system, path, copy))
        except BaseException:
            copy.close()
            raise
        _fetched[url] = copy
    return _fetched[url]


def _fetch(url: str, system: Any, path: str, copy: BinaryIO) -> None:
    with system.open(path, "rb") as stream:
        left = MAX_FETCHED_BYTES
        while chunk := stream.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise UsageError(f"{url}: more than {MAX_FETCHED_BYTES} bytes are not fetched")
            copy.write(chunk)


def _asked(url: str, ask: Any) -> Any:
    """Return what the file system of a URL answers; UsageError for whatever goes wrong there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(
            f"{url}: URLs need fsspec: pip install 'itstrace[remote]', and what its file system needs"
        ) from error
    try:
        return ask(*url_to_fs(url))
    except UsageError:
        raise
    except Exception as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UsageError(f"{url}: {what}") from error


class _Shared(io.RawIOBase):
    """A file that several have open at the same time, each with a place of his own."""

    def __init__(self, file: BinaryIO) -> None:
        self._fd = os.dup(file.fileno())
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._fd, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = os.fstat(self._fd).st_size
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
