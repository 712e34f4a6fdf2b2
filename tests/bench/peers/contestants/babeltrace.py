"""babeltrace2, in C, over CTF: it decodes, and checks packets' sizes, but CTF has no checksums.

It is raced on the leanest CTF that holds the events (`ctf`), since `itstrace export --to ctf`, made for people,
names and fills every field: that is measured beside it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zlib

from tests.bench.peers import workload
from tests.bench.peers.contestants import ctf, ours
from tests.bench.peers.job import Job
from tests.bench.peers.workload import Told
from tracer.events import KINDS

_KINDS = {cls.name: kind for kind, cls in KINDS.items()}
_LINE = re.compile(r"\[(\d+)\] ([\w.]+): \{ count = \d+, values = \[(.*)\] \}")
_VALUE = re.compile(r"\[\d+\] = (\d+)")


def append(job: Job) -> None:
    """Our writer's speed says nothing of babeltrace2's, so that it is not measured."""
    ctf.write(job.path, job.stream())
    job.tell_size(job.path / "stream", job.path / "metadata")


def export(job: Job) -> None:
    """Write what `itstrace export --to ctf` does, whose every field has a name and a place."""
    ours.append(job)
    command = [sys.executable, "-m", "replay.cli", "export", str(ours.trace(job)), "--to", "ctf"]
    subprocess.run([*command, "-o", str(job.path), "--force"], check=True, capture_output=True)
    job.tell_size(job.path / "stream", job.path / "metadata")


def _run(job: Job, *words: str) -> str:
    command = ["babeltrace2", str(job.path), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read(job: Job) -> None:
    """A process that decodes and counts."""
    with job.timed():
        said = _run(job, "-c", "sink.utils.counter", "-p", "step=+0")
    found = re.search(r"(\d+) Event messages", said)
    assert found, said
    job.tell(events=int(found[1]))
    if job.check and not job.options.get("exported"):
        job.saw(_seen(job))


def read_text(job: Job) -> None:
    """A process that decodes and prints every event to nowhere."""
    with job.timed():
        subprocess.run(["babeltrace2", str(job.path)], check=True, stdout=subprocess.DEVNULL)
    job.tell(events=job.count)


def _seen(job: Job) -> Told:
    """What it printed, as events; their times are the workload's, which CTF cannot hold going back."""
    crc = count = 0
    printed = _run(job, "--clock-cycles", "--no-delta").splitlines()
    for line, event in zip(printed, job.stream(), strict=True):
        found = _LINE.match(line)
        assert found, line
        values = [int(value) for value in _VALUE.findall(found[3])]
        crc = zlib.crc32(workload.pack((_KINDS[found[2]], event[1], *values)), crc)
        count += 1
    return Told(count, crc)
