"""The cache beside a trace: stops in one file, sealed, written whole or not at all.

magic, the index's size, its seal; the index, a msgpack array; then the checkpoints, one behind the
other. The seal is a BLAKE2b keyed with this user's own secret: bytes that somebody else made, or
that a disk damaged, are not looked into. Whatever is wrong with a cache, it is made anew.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import BinaryIO, Final

import msgpack

from replay.kept import U64
from replay.shapes import Maybe, Number, Record, Room, Row
from replay.sources import DIGEST_BYTES
from replay.timetravel import identity, stops
from replay.timetravel.identity import TICK_NS, Stamp
from replay.timetravel.stops import COURSE, Course, Digest, Stop
from tracer.log.checks import PayloadError
from tracer.log.codec import unpack_plain
from tracer.log.files import Url, Where, is_url

SUFFIX: Final = ".states"
_MAGIC: Final = b"\x89ITSTAT\n"
_HEAD: Final = struct.Struct(f"<8sI{DIGEST_BYTES}s")
FORMAT: Final = 1
MAX_INDEX_BYTES: Final = 16 << 20
MAX_FILE_BYTES: Final = 512 << 20


class Unusable(Exception):
    """A cache that is not used, and why."""


@dataclass(slots=True)
class Cache:
    """What a cache holds beside the checkpoints themselves."""

    key: bytes  # `identity.key_of`
    content: bytes  # `identity.content_of`
    size_bytes: int  # of the trace
    stamp: Stamp | None  # None where the file system cannot vouch for the trace
    course: Course


_CACHE: Final = Record(Cache, {
    "key": Digest(), "content": Digest(), "size_bytes": U64,
    "stamp": Maybe(Row((Number(),) * len(Stamp._fields))),
    "course": COURSE,
})  # fmt: skip


def places(path: str, variant: bytes) -> Iterator[Path]:
    """Yield where the cache of a trace may be: beside it, else among the user's caches.

    Beside what a URL names nothing is written.
    """
    tail = f".{variant[:4].hex()}{SUFFIX}"
    trace: Where = Url(path)
    if not is_url(path):
        yield Path(path + tail)
        trace = Path(path).resolve()
    name = blake2b(os.fsencode(str(trace)), digest_size=DIGEST_BYTES).hexdigest()
    yield identity.cache_folder() / f"{trace.name[:100]}.{name}{tail}"


class CacheFile:
    """An open cache: `cache` is checked, its checkpoints are read one by one."""

    def __init__(self, stream: BinaryIO) -> None:
        """Read what stands before the checkpoints.

        Raises:
            Unusable: it is damaged, was not written by this user, or is of another version.
            OSError: it cannot be read.
        """
        self._stream = stream
        self._secret = identity.secret()
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(_HEAD.size)
        if len(head) != _HEAD.size or size > MAX_FILE_BYTES:
            raise Unusable("it is damaged")
        magic, index_bytes, seal = _HEAD.unpack(head)
        if magic != _MAGIC or index_bytes > min(MAX_INDEX_BYTES, size - _HEAD.size):
            raise Unusable("it is damaged")
        index = stream.read(index_bytes)
        if not compare_digest(seal, _sealed(self._secret, index)):
            raise Unusable("it is damaged, or was not written here")
        self._begin = _HEAD.size + index_bytes
        self.cache = _taken(index, size - self._begin)

    def stored(self, stop: Stop) -> bytes:
        """Return the checkpoint of a stop as it is kept.

        Raises:
            Unusable: it is damaged.
        """
        self._stream.seek(self._begin + stop.at)
        data = self._stream.read(stop.stored_bytes)
        if not compare_digest(stop.seal, _sealed(self._secret, data)):
            raise Unusable("a checkpoint in it is damaged")
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()


def opened(path: Path) -> CacheFile:
    """Return the cache at `path`, open; raises as `CacheFile` does."""
    stream = path.open("rb")
    try:
        return CacheFile(stream)
    except BaseException:
        stream.close()
        raise


def _taken(index: bytes, size_bytes: int) -> Cache:
    try:
        values = unpack_plain(index, MAX_INDEX_BYTES)
        if values.get("format") != FORMAT:
            raise Unusable("another itstrace wrote it")
        cache: Cache = _CACHE.take(values.get("cache"), Room(0))
        stops.check(cache.course, size_bytes)
    except PayloadError as error:
        raise Unusable(str(error)) from error
    cache.stamp = None if cache.stamp is None else Stamp(*cache.stamp)
    return cache


def _sealed(secret: bytes, data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES, key=secret).digest()


def save(path: Path, cache: Cache) -> None:
    """Write a cache in one step; all its stops are in memory.

    Raises:
        OSError: it cannot be written there.
    """
    at, secret = 0, identity.secret()
    blobs = [stop.stored or b"" for stop in cache.course.stops]
    for stop, data in zip(cache.course.stops, blobs, strict=True):
        stop.at, stop.stored_bytes, stop.seal = at, len(data), _sealed(secret, data)
        at += len(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as stream:
            stamp = identity.stamp_of(stream)
            if cache.stamp and (not stamp or stamp.mtime_ns - cache.stamp.mtime_ns < TICK_NS):
                cache.stamp = None  # a change within this tick would look like none
            values = {"format": FORMAT, "cache": _CACHE.pack(cache)}
            index = msgpack.packb(values, use_bin_type=True)
            stream.write(_HEAD.pack(_MAGIC, len(index), _sealed(secret, index)))
            stream.write(index)
            stream.writelines(blobs)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
