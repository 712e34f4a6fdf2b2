"""MCAP's own Python package; CRCs on, of chunks and of the data section, in the writer and the reader."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgpack
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader, SeekingReader
from mcap.writer import CompressionType, Writer

from tests.bench.peers import workload
from tests.bench.peers.job import Job
from tracer.events import Event

BUFFER_BYTES = 1 << 16


def append(job: Job) -> None:
    """Options: `chunk` in bytes, 0 for none; `bound` 1 gives each message to the kernel at once."""
    options = job.options
    events = job.events()
    chunk = options.get("chunk", 1 << 20)
    compression = CompressionType[options.get("codec", "zstd").upper()]
    at_once = options.get("bound") == 1
    with job.timed(), job.path.open("wb", buffering=0) as raw:
        # Given a raw file, mcap makes a buffer of its own; one of one write a message must be another thing.
        out: Any = _Unbuffered(raw) if at_once else io.BufferedWriter(raw, BUFFER_BYTES)
        writer = Writer(
            out, chunk_size=chunk, compression=compression, use_chunking=chunk > 0,
            enable_crcs=True, enable_data_crcs=True,
        )  # fmt: skip
        writer.start(profile="", library="bench")
        schema = writer.register_schema("itstrace.event", "msgpack", b"")
        channel = writer.register_channel("its", "msgpack", schema)
        add, pack, time_ns = writer.add_message, msgpack.Packer().pack, 0
        for sequence, event in enumerate(events):
            time_ns += event[1]
            add(channel, time_ns, pack(event), time_ns, sequence)
        job.added()
        writer.finish()
        out.flush()
    job.tell_size(job.path)


class _Unbuffered:
    """A file whose every write is one of the kernel's; mcap writes a message with one."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self.write, self.flush, self.tell = raw.write, raw.flush, raw.tell


def _messages(stream: Any, *, usual: bool = False) -> Iterator[Any]:
    """Yield messages by the reader that streams; `usual`: by the one that `make_reader` gives.

    The latter sorts by time, with a heap. Told not to sort, it first takes every chunk's messages into memory,
    and of a file without chunks it forgets that it was to look at CRCs (mcap 1.6.0, `SeekingReader.iter_messages`).
    """
    if usual:
        return SeekingReader(stream, validate_crcs=True).iter_messages()
    return NonSeekingReader(stream, validate_crcs=True).iter_messages(log_time_order=False)


def _events(stream: Any) -> Iterator[Event]:
    unpack = msgpack.unpackb
    for _, _, message in _messages(stream):
        yield unpack(message.data, use_list=False)


def read(job: Job) -> None:
    """Option `usual`, as `_messages` has it: in another order, so that only the number can be compared."""
    count, usual = 0, job.options.get("usual", False)
    with job.timed(), job.path.open("rb") as stream:
        unpack = msgpack.unpackb
        for _, _, message in _messages(stream, usual=usual):
            unpack(message.data, use_list=False)
            count += 1
    job.tell(events=count)
    if job.check and not usual:
        with job.path.open("rb") as stream:
            job.saw(workload.told(_events(stream)))


def readable(job: Job) -> None:
    """By the reader that needs no summary, up to its first complaint; the default one reads nothing."""
    found: list[Event] = []
    with job.path.open("rb") as stream:
        try:
            found.extend(_events(stream))
        except (McapError, EOFError, ValueError) as error:
            job.tell(status=f"{type(error).__name__}: {error}")
    job.saw(workload.told(found))
    try:
        with job.path.open("rb") as stream:
            default = sum(1 for _ in _messages(stream, usual=True))
    except (McapError, OSError, EOFError, ValueError):
        default = 0
    job.tell(default=default)


def replay(job: Job) -> None:
    """Keeps the simple state, since it has no model."""
    with job.timed(), job.path.open("rb") as stream:
        fold = workload.folded(_events(stream))
    job.tell(events=job.count, final=fold.final)


def group(job: Job) -> None:
    with job.timed(), job.path.open("rb") as stream:
        found = workload.grouped(_events(stream))
    job.tell(groups=found)
