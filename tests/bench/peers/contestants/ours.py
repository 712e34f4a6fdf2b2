"""itstrace: frames with CRCs and a chain of digests, checked types, the full model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgpack

from replay.engine import Engine
from replay.judge import model_of
from replay.profiles import find
from replay.timetravel.timeline import Timeline
from tests.bench.peers import workload
from tests.bench.peers.job import Job
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.opening import create_output, open_trace
from tracer.log.stream import Reader, Writer


def trace(job: Job) -> Path:
    return job.path.with_suffix(".itstrace")


def append(job: Job) -> None:
    """Options: `bound`, events in a frame; `codec`; `streamed`, events are made as they are added."""
    events = job.events()
    bounds: dict[str, Any] = {
        "bound_events": job.options.get("bound", fmt.DEFAULT_BOUND_EVENTS),
        "codec": fmt.CODEC_NAMES[job.options.get("codec", "zstd")],
    }
    with job.timed(), create_output(str(trace(job)), force=True) as out:
        writer = Writer(out, workload.header(), **bounds)
        add = writer.add
        for event in events:
            add(event)
        job.added()
        writer.close(goes_on=True)  # the last input may lack outputs
    job.tell_size(trace(job))


def read(job: Job) -> None:
    """Every frame's CRCs and chain, every event's types."""
    count = 0
    with job.timed(), open_trace(str(trace(job))) as reader:
        for _, events in reader:
            for _event in events:
                count += 1
    job.tell(events=count)
    if job.check:
        with open_trace(str(trace(job))) as reader:
            job.saw(workload.told(event for _, block in reader for event in block))


def read_untyped(job: Job) -> None:
    """The same frames, CRCs and chain; the events as msgpack has them, of whatever type."""
    count = 0
    with job.timed(), open_trace(str(trace(job))) as reader:
        assert isinstance(reader, Reader)
        for _, raw in reader.event_frames():
            for _event in msgpack.unpackb(raw, use_list=False)[1]:
                count += 1
    job.tell(events=count)


def readable(job: Job) -> None:
    """What a reader finds behind a recorder that was killed."""
    with open_trace(str(trace(job))) as reader:
        job.saw(workload.told(event for _, block in reader for event in block))
        assert isinstance(reader, Reader)
        job.tell(status=reader.status)


def model_for(header: Header) -> Any:
    return model_of(header, find(workload.PROFILE)[0])


def replay(job: Job) -> None:
    """The full model, every output compared."""
    with job.timed(), open_trace(str(trace(job))) as reader:
        model = model_for(reader.header)
        tally = Engine(reader, model).run()
    assert tally.divergent == 0
    registers = model.state()["its"]["0"]["registers"]
    job.tell(events=job.count, outputs=tally.outputs, registers=registers)


def states(job: Job) -> None:
    """States at random events: the first one of all, of a new process, and of one that is there."""
    rng = random.Random(1)
    wanted = [rng.randrange(job.count) for _ in range(job.options["places"])]
    for cache in job.folder.glob(f"{trace(job).name}.*.states"):
        cache.unlink()
    with job.timed(), Timeline(str(trace(job)), model_for, tell=print) as line:
        line.model_at(job.count - 1)
    job.tell(first=job.facts["seconds"])
    with job.timed(), Timeline(str(trace(job)), model_for, tell=print) as line:
        line.model_at(wanted[0])
    job.tell(cold=job.facts["seconds"])
    warm = []
    with Timeline(str(trace(job)), model_for, tell=print) as line:
        line.model_at(0)
        for seq in wanted:
            with job.timed():
                line.model_at(seq)
            warm.append(job.facts["seconds"])
    job.tell(warm=sorted(warm)[len(warm) // 2], worst=max(warm))


def group(job: Job) -> None:
    """A loop over the reader."""
    with job.timed(), open_trace(str(trace(job))) as reader:
        found = workload.grouped(event for _, block in reader for event in block)
    job.tell(groups=found)
