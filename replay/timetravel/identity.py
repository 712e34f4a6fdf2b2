"""What a cache is of: this file, unchanged, replayed by this model. And who may have written it.

A trace is known by all its bytes. Reading them costs more than travelling does, so that they are
read only where the file system cannot vouch for them: a file whose size, times of change and inode
are those noted when it was read is the one that was read, unless it was written within the clock's
coarse tick just before. A model is known by its sources: what a fix changed must be made anew.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgpack

from replay.judge import AnyModel
from replay.kept import MODELS
from replay.sources import DIGEST_BYTES, digest_of
from tracer.log.files import opened
from tracer.log.header import Header

_CHUNK_BYTES: Final = 1 << 20
_KEY_BYTES: Final = 32
# All that decides what state events lead to.
_SOURCES: Final = (
    "replay/model/**/*.py", "replay/targets/*model.py", "replay/targets/common.py",
    "replay/engine.py", "replay/checkpoints.py", "replay/kept.py", "replay/shapes.py",
    "replay/timetravel/*.py", "replay/watched.py", "replay/graph.py",
    # and what a verifier holds
    "replay/verify.py", "replay/verdict.py", "replay/contracts.py", "replay/evidence.py",
    "replay/writers.py", "replay/aims.py", "replay/reinit.py", "replay/round_trips.py",
    "replay/vmm_reset.py", "tracer/events.py", "tracer/its/*.py", "tracer/log/codec.py",
    "tracer/log/checks.py",
)  # fmt: skip
TICK_NS: Final = 2_000_000_000  # of the coarsest file system's clock (FAT's)


class Stamp(NamedTuple):
    """What the file system says of a file that nobody changed."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def stamp_of(stream: BinaryIO) -> Stamp | None:
    """Return the stamp of an open file; None for what is no regular file."""
    found = os.fstat(stream.fileno())
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def content_of(path: str) -> bytes:
    """Return the digest of a file's bytes; UsageError or OSError when it cannot be read."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    with opened(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def variant_of(model: AnyModel, header: Header, kind: str = "") -> bytes:
    """Return a digest of what a trace is replayed as: profile, flags, and what its header says.

    `kind` says what else is kept beside the model's state.
    """
    return _digest(
        [model.name, repr(model.profile.choices), header.to_map(), *filter(None, [kind])]
    )


def key_of(model: AnyModel, header: Header, kind: str = "") -> bytes:
    """Return a digest of all that decides the states, beside the trace's bytes."""
    kept = MODELS[type(model)]
    return _digest([variant_of(model, header, kind), sources(), kept.family, kept.version])


def _digest(parts: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(parts, use_bin_type=True)
    return blake2b(packed, digest_size=DIGEST_BYTES).digest()


def sources() -> bytes:
    """Return the digest of the sources of the models and of what drives them."""
    return digest_of(*_SOURCES)


def cache_folder() -> Path:
    """Return the folder for what cannot stand beside its trace."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "itstrace"


def secret() -> bytes:
    """Return this user's key: a cache that was not sealed with it came from somewhere else.

    Raises:
        OSError: there is none and none can be made.
    """
    path = cache_folder() / "states.key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as stream:  # noqa: PTH123 (a descriptor, with its mode)
            stream.write(os.urandom(_KEY_BYTES))
        try:
            os.link(new, path)  # one of several processes makes it, whole
        except FileExistsError:
            pass
        finally:
            new.unlink()
        key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise OSError(0, f"{path} is not a key: delete it")
    return key
