"""`itstrace verify --on TARGET`: is a reset, or a round trip, one that the target itself stands by?

Counterparts: `replay.equivalence.bench`, which asks, and `replay.commands.verify_on_text`, which tells.
"""

from __future__ import annotations

import argparse
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    EXIT_LOST,
    once_only,
    print_json,
    progress,
    say,
)
from replay.commands.git_bisect import conclude, wanted
from replay.commands.verify_on_text import as_json, print_outcome, print_target
from replay.equivalence.asking import KINDS, MAX_QUESTIONS, Asker, profile_for
from replay.equivalence.plan import is_fair, plan
from replay.equivalence.run import Outcome
from replay.targets.spec import Spec, Targets, parse
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import Header
from tracer.log.opening import create_output, open_trace
from tracer.log.stream import Writer


def run(options: argparse.Namespace) -> int:
    """Print what came of each question; 1 for a finding or a crash, 4 when nothing can be asked."""
    _check(options)
    spec = parse(options.on)
    if options.git_bisect:
        return _rule(spec, options)
    with open_trace(options.trace) as reader:
        events = [event for _, frame in reader for event in frame]
        header, status = reader.header, reader.status
    if options.cpus is not None:
        header.cpus = options.cpus
    profile = profile_for(spec, header, options.profile)
    kinds = options.kind or KINDS[profile.family]
    planned = plan(events, kinds, probe=options.probe, places=options.at or ())
    questions = [each for each in planned if is_fair(each, events)]
    for each in planned:
        if each not in questions:
            say(
                f"{options.trace}: the round trip at event {each.at} is not asked about: commands "
                "follow it, and GITS_CREADR was not given back; --probe asks other questions"
            )
    with Targets() as targets:
        asker = Asker(
            targets, spec, header, events, profile,
            probe=options.probe, strict=options.strict == "bits",
        )  # fmt: skip
        outcomes = list(map(asker.ask, progress(questions[:MAX_QUESTIONS], "questions")))
    if options.record:
        _record(options, asker.bench.header, outcomes)
    _tell(options, outcomes, events, len(questions) - len(outcomes))
    if status == "damaged":
        return EXIT_LOST
    return EXIT_FINDING if any(map(_is_finding, outcomes)) else 0 if outcomes else EXIT_CANNOT_JUDGE


def _rule(spec: Spec, options: argparse.Namespace) -> int:
    from replay.builds import of_answers

    signature = wanted(options)
    with Targets() as made:
        ruling = of_answers(
            made, spec, options.trace, signature,
            probe=options.probe, kinds=options.kind or (), places=options.at or (),
            profile=options.profile, cpus=options.cpus, strict=options.strict == "bits",
        )  # fmt: skip
    return conclude(ruling, signature, options)


def _check(options: argparse.Namespace) -> None:
    if once_only(options.trace):
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
