"""The package eventsourcing: one aggregate, its events as JSON in SQLite, snapshots where a state is wanted.

It has no checksums; what it has is a unique (aggregate, version) for each event, which finds a hole or a
double. Its transcoder, mapper and SQLite recorder are as they come.
"""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from tests.bench.peers import workload
from tests.bench.peers.job import Job
from tests.bench.peers.workload import Fold

IN_A_SAVE = 1000
SNAPSHOTS_EVERY = 1000
THE_ONE = UUID(int=1)


class Vm(Aggregate):
    """What the events are of; it keeps the simple state."""

    def __init__(self) -> None:
        self.registers: dict[str, int] = {}
        self.commands: dict[str, int] = {}

    @staticmethod
    def create_id() -> UUID:
        return THE_ONE

    @event("Happened")
    def happen(self, what: list[int]) -> None:
        """Take in an event; JSON's keys are texts, so a snapshot's are."""
        if what[0] == workload._REG_WRITE:
            self.registers[str(what[2])] = what[3]
        elif what[0] == workload._COMMAND:
            name = str(what[4] & 0xFF)
            self.commands[name] = self.commands.get(name, 0) + 1

    def final(self) -> Any:
        """What the state is, as `Fold` says it."""
        fold = Fold()
        fold.registers = {int(key): value for key, value in self.registers.items()}
        fold.commands.update({int(key): value for key, value in self.commands.items()})
        return fold.final


def _application(job: Job, **more: str) -> Application[UUID]:
    return Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(job.path),
            **more,
        }
    )


def append(job: Job) -> None:
    """Options: `bound` 1 saves each event; `snapshots`: one for every thousand."""
    events = job.events()
    size = job.options.get("bound", IN_A_SAVE)
    for each in job.folder.glob(f"{job.path.name}*"):
        each.unlink()
    application = _application(job, IS_SNAPSHOTTING_ENABLED="y")
    with job.timed():
        vm = Vm()
        for at, each in enumerate(events, 1):
            vm.happen(list(each))
            if at % size == 0:
                application.save(vm)
            if job.options.get("snapshots") and at % SNAPSHOTS_EVERY == 0:
                application.take_snapshot(THE_ONE)
        job.added()
        application.save(vm)
    application.close()
    job.tell_size(*job.folder.glob(f"{job.path.name}*"))


def _happened(application: Application[UUID]) -> Any:
    stored = application.events.get(THE_ONE)
    return (tuple(each.what) for each in stored if hasattr(each, "what"))


def read(job: Job) -> None:
    count = 0
    application = _application(job)
    with job.timed():
        for _event in application.events.get(THE_ONE):
            count += 1
    job.tell(events=count - 1)  # but for the one that the aggregate was made with
    if job.check:
        job.saw(workload.told(_happened(application)))
    application.close()


def readable(job: Job) -> None:
    application = _application(job)
    job.saw(workload.told(_happened(application)))
    application.close()


def replay(job: Job) -> None:
    application = _application(job)
    with job.timed():
        vm = application.repository.get(THE_ONE)
    assert isinstance(vm, Vm)
    job.tell(events=job.count, final=vm.final())
    application.close()


def states(job: Job) -> None:
    """States at random events, from the snapshot before."""
    rng = random.Random(1)
    wanted = [rng.randrange(job.count) + 2 for _ in range(job.options["places"])]
    with job.timed():
        application = _application(job, IS_SNAPSHOTTING_ENABLED="y")
        application.repository.get(THE_ONE, version=wanted[0])
    job.tell(cold=job.facts["seconds"])
    warm = []
    for version in wanted:
        with job.timed():
            application.repository.get(THE_ONE, version=version)
        warm.append(job.facts["seconds"])
    job.tell(warm=sorted(warm)[len(warm) // 2], worst=max(warm))
    application.close()
