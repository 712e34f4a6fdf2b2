"""The limit: msgpack's Packer and Unpacker with nothing around them, so neither CRC nor frame nor check."""

from __future__ import annotations

import io

import msgpack

from tests.bench.peers import workload
from tests.bench.peers.job import Job


def append(job: Job) -> None:
    """Options: `bound` 1 is one write for each event."""
    events = job.events()
    buffering = 0 if job.options.get("bound") == 1 else -1
    with job.timed(), job.path.open("wb", buffering=buffering) as out:
        write, pack = out.write, msgpack.Packer().pack
        for event in events:
            write(pack(event))
        job.added()
    job.tell_size(job.path)


def read(job: Job) -> None:
    count = 0
    with job.timed(), job.path.open("rb") as stream:
        for _event in msgpack.Unpacker(stream, use_list=False):
            count += 1
    job.tell(events=count)
    if job.check:
        readable(job)


def readable(job: Job) -> None:
    with job.path.open("rb") as stream:
        job.saw(workload.told(msgpack.Unpacker(stream, use_list=False)))


def replay(job: Job) -> None:
    """Keeps the simple state, since it has no model."""
    with job.timed(), job.path.open("rb") as stream:
        fold = workload.folded(msgpack.Unpacker(stream, use_list=False))
    job.tell(events=job.count, final=fold.final)


def group(job: Job) -> None:
    with job.timed(), job.path.open("rb") as stream:
        found = workload.grouped(msgpack.Unpacker(stream, use_list=False))
    job.tell(groups=found)


def compressed(job: Job) -> None:
    """The packed events as one zstd stream, which nobody can cut or look into."""
    import zstandard

    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as stream:
        for event in job.stream():
            stream.write(workload.pack(event))
    job.tell(bytes=len(out.getvalue()))
