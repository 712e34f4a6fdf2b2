"""`itstrace verify --on TARGET`: is a reset, or a round trip, one that the target itself stands by?

Counterparts: `replay.equivalence.bench`, which asks, and `replay.commands.verify_on_text`, which tells.
"""

from __future__ import annotations

import argparse
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from replay.commands.common import EXIT_CANNOT_JUDGE, EXIT_FINDING, EXIT_LOST, print_json, progress
from replay.commands.verify_on_text import as_json, print_outcome, print_target
from replay.equivalence.bench import Bench
from replay.equivalence.inventory import Inventory, take
from replay.equivalence.plan import PENDING, ROUND, Question, plan
from replay.equivalence.run import Outcome
from replay.equivalence.words import Judge
from replay.judge import model_of, with_flags
from replay.profiles import Profile, find
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets, parse
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import Header
from tracer.log.opening import create_output, open_trace
from tracer.log.stream import Writer

_NEAREST: Final = {"kvm": "linux-6.1.192", "qemu": "qemu-7.2.22"}
_PCI_DEVICES: Final = range(8, 0x100)  # that QEMU's bus 0 may have
# What is asked at every reset and at the end unless told otherwise.
_KINDS: Final = {
    "kvm": ("ctrl_reset", "system", ROUND, PENDING), "qemu": ("system",), "xen": (),
}  # fmt: skip
MAX_QUESTIONS: Final = 64


def run(options: argparse.Namespace) -> int:
    """Print what came of each question; 1 for a finding or a crash, 4 when nothing can be asked."""
    _check(options)
    spec = parse(options.on)
    with open_trace(options.trace) as reader:
        events = [event for _, frame in reader for event in frame]
        header, status = reader.header, reader.status
    if options.cpus is not None:
        header.cpus = options.cpus
    profile = _profile(spec, header, options)
    kinds = options.kind or _KINDS[profile.family]
    questions = plan(events, kinds, probe=options.probe, places=options.at or ())
    with Targets() as targets:
        asker = _Asker(targets, spec, header, events, profile, options)
        outcomes = list(map(asker.ask, progress(questions[:MAX_QUESTIONS], "questions")))
    if options.record:
        _record(options, asker.bench.header, outcomes)
    _tell(options, outcomes, events, len(questions) - len(outcomes))
    if status == "damaged":
        return EXIT_LOST
    return EXIT_FINDING if any(map(_is_finding, outcomes)) else 0 if outcomes else EXIT_CANNOT_JUDGE


def _check(options: argparse.Namespace) -> None:
    if options.trace == "-":
        raise UsageError("a life is lived several times: give a file")
    if (options.kind or options.at) and not options.probe:
        raise UsageError("--kind and --at choose generated questions: give --probe, too")
    if options.record and Path(options.record).exists():
        raise UsageError(f"{options.record}: exists already")  # said before the work, not after it


def _tell(
    options: argparse.Namespace, outcomes: list[Outcome], events: list[Event], left: int
) -> None:
    if options.json:
        print_json(as_json(outcomes, left))
        return
    print_target(outcomes)
    for each in outcomes:
        print_outcome(each, events, verbose=options.verbose)
    if left:
        print(f"{left} more questions were not asked: {MAX_QUESTIONS} are asked of one trace")
    if not outcomes:
        print("nothing to ask: no reset and no round trip in this trace; --probe asks anyway")


def _is_finding(outcome: Outcome) -> bool:
    told = outcome.crash or outcome.complaints
    return bool(told) or any(each.is_finding() for each in outcome.differences)


def _profile(spec: Spec, header: Header, options: argparse.Namespace) -> Profile:
    """Return the profile whose contract counts, and whose model tells what a life named."""
    of_model = spec.rest if spec.kind == "model" else None
    name = options.profile or of_model or header.profile
    if name is None and spec.kind == "model":
        raise UsageError("the trace does not say what wrote it: give --profile")
    found = find(name)[0] if name else None
    if found is None or spec.kind not in ("model", found.family):
        return find(_NEAREST[spec.kind])[0]
    given = options.profile or of_model
    flags = {} if given else {key: value[0] for key, value in header.flags.items()}
    return with_flags(found, flags)


class _Asker:
    """Asks one question after another; the names that a life used are taken once per place."""

    def __init__(
        self,
        targets: Targets,
        spec: Spec,
        header: Header,
        events: list[Event],
        profile: Profile,
        options: argparse.Namespace,
    ) -> None:
        self._targets = targets
        self._header = header
        self._events = events
        self._profile = profile
        self._probe: bool = options.probe
        self._taken: tuple[int, Inventory] | None = None
        needs = self._needs()
        judge = Judge(strict=options.strict == "bits")
        self.bench = Bench(
            header, events, lambda wanted: targets.opened(spec, wanted, needs), judge
        )

    def _needs(self) -> Needs:
        """Return what a QEMU must have: the devices whose MSIs are sent, and their neighbours."""
        needs = Needs()
        for event in self._events:
            needs.see(event)
        named = {pair[0] for pair in self._inventory(len(self._events)).events}
        named |= {device + 1 for device in named | needs.device_ids}
        needs.device_ids |= {device for device in named if device in _PCI_DEVICES}
        if self._probe:
            needs.inside = False
        return needs

    def _inventory(self, at: int) -> Inventory:
        if self._taken is None or self._taken[0] != at:
            model = model_of(replace(self._header), self._profile)
            self._taken = at, take(self._header, self._events[:at], model)
        return self._taken[1]

    def ask(self, question: Question) -> Outcome:
        """Return what came of one question."""
        outcome = self.bench.ask(question, self._inventory(question.at), probe=self._probe)
        outcome.complaints = self._targets.findings()
        return outcome


def _record(options: argparse.Namespace, header: Header, outcomes: list[Outcome]) -> None:
    """Write the life of one question, the first with a finding, with all that was answered."""
    told = next(filter(_is_finding, outcomes), outcomes[0] if outcomes else None)
    if told is None:
        return
    made = replace(
        header,
        uuid=str(uuid.uuid4()), parent_uuid=header.uuid or None, source="target", clock="none",
        order="total", first_seq=0, implementation_version=None, profile=None, flags={},
        annotations=header.annotations | {"target": told.target, "question": told.title()},
    )  # fmt: skip
    with create_output(options.record, force=False) as out, closing(Writer(out, made)) as writer:
        for event in told.tape:
            writer.add(event)
