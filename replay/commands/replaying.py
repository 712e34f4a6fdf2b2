"""What check, verify and state share: options of a replay, and its caveats as words and codes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    EXIT_LOST,
    once_only,
    progress,
    say,
)
from replay.engine import Engine
from replay.judge import AnyModel, model_of, profile_named, with_flags
from replay.profiles import Profile
from replay.segments.question import Found, Question
from replay.timetravel.timeline import Timeline
from tracer import events as ev
from tracer.errors import UsageError
from tracer.log.files import read
from tracer.log.header import Header
from tracer.log.opening import AnyReader, open_trace

if TYPE_CHECKING:
    from replay.pools import Pool


def add_replay_options(parser: argparse.ArgumentParser) -> None:
    """Declare the trace and what can be said of it that its header may not know."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare what a trace is replayed as."""
    parser.add_argument("--profile", help="replay as this implementation, not as the header says")
    parser.add_argument("--cpus", type=int, help="the number of CPUs, if the header has none")
    parser.add_argument(
        "--flag", action="append", type=_flag, metavar="NAME=VALUE", help="one behaviour flag"
    )


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Declare how `opened_timeline` keeps what it made."""
    parser.add_argument(
        "--no-cache", action="store_true", help="neither use nor leave checkpoints beside the trace"
    )


def add_spread_options(parser: argparse.ArgumentParser, one: str) -> None:
    """Declare who replays beside this process; `one` says what without these options."""
    parser.add_argument(
        "--jobs", type=int, metavar="N",
        help=f"processes; how many changes no result (default: {one})",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", metavar="ADDRESS",
        help="the workers of a dask.distributed cluster instead, of which this is the scheduler",
    )  # fmt: skip


@contextmanager
def pool_of(options: argparse.Namespace, *, default: int = 1) -> Iterator[Pool | None]:
    """Yield who replays, None where one process is enough.

    Raises:
        UsageError: not so many, or both are given.
        NoCluster: nobody answers there.
    """
    if options.cluster is None and options.jobs in (None, 1) and default == 1:
        yield None
        return
    from replay.pools import MAX_JOBS, Processes

    jobs = default if options.jobs is None else options.jobs
    if not 1 <= jobs <= MAX_JOBS:
        raise UsageError(f"--jobs must be 1 to {MAX_JOBS}, not {jobs}")
    if options.cluster is not None and options.jobs is not None:
        raise UsageError("--jobs are processes here, --cluster are those elsewhere: give one")
    if options.cluster is None and jobs == 1:
        yield None
        return
    pool: Pool
    if options.cluster is None:
        pool = Processes(jobs)
    else:
        from replay.cluster import Cluster

        pool = Cluster(options.cluster)
    with closing(pool):
        yield pool


def refuse_spread(options: argparse.Namespace, what: str) -> None:
    """Raise UsageError where several were asked for what one does."""
    if options.jobs is not None or options.cluster is not None:
        raise UsageError(f"{what} is for one process: no --jobs, no --cluster")


@contextmanager
def replayed(options: argparse.Namespace, question: Question) -> Iterator[Found]:
    """Yield what a replay of the trace finds, by whoever the options say."""
    with pool_of(options) as pool:
        if pool is None:
            with open_trace(options.trace) as reader:
                yield _alone(reader, question)
            return
        if once_only(options.trace):
            refuse_spread(options, "standard input")
        from replay.segments.run import asked

        watch = partial(progress, title=f"{options.trace}: replaying")
        with asked(options.trace, question, pool, tell=say, watch=watch) as found:
            _say_nearest(found.reader.header, question)
            yield found


def _alone(reader: AnyReader, question: Question) -> Found:
    _say_nearest(reader.header, question)
    model = question.model_for(reader.header)
    verifier = question.verifier_for(model, reader.header) if question.verify else None
    engine = Engine(reader, model, verifier, invariants=question.invariants)
    engine.run()
    return Found(reader, engine, verifier)


def _say_nearest(header: Header, question: Question) -> None:
    note = question.profile_for(header)[1]
    if note:
        say(f"itstrace: {note}")


def question_of(options: argparse.Namespace, **more: bool) -> Question:
    """Return what the options ask; the bytes of a profile's file are in it."""
    from replay.profile_file import MAX_BYTES

    name = options.profile
    held = {name: read(name, MAX_BYTES + 1)} if name and name.endswith(".toml") else {}
    return Question(name, dict(options.flag or ()), options.cpus, held, **more)


def make_model(header: Header, options: argparse.Namespace) -> AnyModel:
    """Return the model for a trace: the header's profile and flags, or those given.

    Raises:
        UsageError: neither the header nor --profile says which.
    """
    return model_of(header, make_profile(header, options))


def make_profile(header: Header, options: argparse.Namespace) -> Profile:
    """Return the profile for a trace, as `make_model` does; take in what the header did not know."""
    named = profile_named(options.profile, header)
    if named is None:
        raise UsageError("the trace does not say what wrote it: give --profile")
    profile, note = named
    if note:
        say(f"itstrace: {note}")
    if options.cpus is not None:
        header.cpus = options.cpus
    return with_flags(profile, dict(options.flag or ()))


def opened_timeline(options: argparse.Namespace) -> Timeline:
    """Return the timeline of the trace that the options name, to be used in a `with`."""
    profiles: list[Profile] = []

    def make(header: Header) -> AnyModel:
        if not profiles:
            profiles.append(make_profile(header, options))  # which may say something, once
        return model_of(header, profiles[0])

    return Timeline(
        options.trace,
        make,
        keep=not getattr(options, "no_cache", False),
        tell=say,
        watch=lambda frames: progress(frames, f"{options.trace}: replaying"),
    )


def _flag(text: str) -> tuple[str, bool | int]:
    name, _, value = text.partition("=")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        return name, int(value, 0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be NAME=true, false or a number"
        ) from error


def _place(seq: int) -> str:
    return f"at event {seq}" if seq >= 0 else "before the first event"


def caveats(reader: AnyReader, engine: Engine) -> list[str]:
    """Return a sentence for everything that limits what was said of this trace."""
    found = []
    for problem in reader.problems:
        if problem.kind == "damaged":
            found.append(
                f"{reader.name}: byte {problem.offset:#x}: {problem.what}; "
                f"what follows was not used, the replay ends {_place(engine.seq)}"
            )
            break
    if reader.status == "cut":
        found.append(f"{reader.name}: {reader.problems[-1].what}: the recorder was stopped")
    if engine.lost:
        found.append(f"{reader.name}: events are missing in {engine.lost} places of this trace")
    if engine.unknown_inputs:
        kinds = ", ".join(ev.kind_name(kind) for kind in engine.unknown_inputs)
        found.append(
            f"{reader.name}: inputs of a newer itstrace ({kinds}): this one cannot judge the trace"
        )
    return found


def exit_code(reader: AnyReader, engine: Engine, *, finding: bool) -> int:
    """Return the exit code: damage first, then a finding, then what could not be judged."""
    if reader.status == "damaged":
        return EXIT_LOST
    if finding and not engine.unknown_inputs:
        return EXIT_FINDING
    if engine.lost:
        return EXIT_LOST
    return EXIT_CANNOT_JUDGE if engine.unknown_inputs else 0


def json_caveats(reader: AnyReader, engine: Engine) -> dict[str, Any]:
    """Return the keys that say so in JSON."""
    return {"status": reader.status, "lossy": bool(engine.lost), "notes": caveats(reader, engine)}
