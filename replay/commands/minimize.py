"""`itstrace minimize`: the smallest trace that still shows the same signature.

On the model in this process, or with `--target` on a real implementation, which
`replay.minimize.target_oracle` asks.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgpack

from replay.commands.common import EXIT_CANNOT_JUDGE
from replay.commands.generate import write_life
from replay.commands.minimize_text import Progress, print_result, result_json
from replay.commands.replaying import add_replay_options, make_model
from replay.corpus import profile_of
from replay.judge import judge, profile_named, with_flags
from replay.kernels import kernel_at
from replay.manifest import manifest_path, read_manifest
from replay.minimize.case import Opened, Told, open_case
from replay.minimize.crew import Crew
from replay.minimize.journal import Journal
from replay.minimize.model_oracle import Frames
from replay.minimize.oracle import Candidate, Oracle
from replay.minimize.run import Result, minimize
from replay.minimize.script import lift, lower
from replay.minimize.search import Count, digest
from replay.minimize.written import header_of, manifest, outputs_of, target_manifest, variants
from replay.profiles import Profile, find
from replay.verdict import STALE, SUSPECTED
from tracer.errors import DamagedTrace, UsageError
from tracer.log.header import Header
from tracer.log.opening import open_trace, write_output

MAX_EVENTS: Final = 4_000_000  # that are held in memory
_PASSES: Final = 1  # their version: with others, other questions are asked


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    parser.add_argument(
        "--signature", help="what must stay (default: the manifest's, or the worst)"
    )
    parser.add_argument("--strict", choices=("bits",), help="as verify has it")
    parser.add_argument(
        "--target", action="append", metavar="SPEC",
        help="ask kvm:KERNEL or qemu:BINARY instead of the model; twice: where two differ",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1,
        help="processes (default: one for each core)",
    )  # fmt: skip
    parser.add_argument(
        "--journal", metavar="FILE",
        help="what was answered, to go on from when killed (default: beside the output)",
    )  # fmt: skip
    parser.add_argument(
        "--max-seconds", type=float, metavar="S", help="stop asking then, with what there is"
    )
    parser.add_argument("-o", "--output", required=True, help="the result; NAME.toml goes with it")
    parser.add_argument("--force", action="store_true", help="overwrite the output")


def run(options: argparse.Namespace) -> int:
    """Write the smallest trace; 0 when nothing can be taken from it, 4 when time ran out.

    4 is also for what fresh targets do not show alone.
    """
    outputs = (Path(options.output), manifest_path(Path(options.output)))
    for path in outputs:
        if path.exists() and not options.force:
            raise UsageError(f"{path}: exists already; --force overwrites it")
    if options.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {options.jobs}")
    original = _read(options.trace)
    gc.freeze()  # the trace is there to the end: it need not be looked through again and again
    with _opened(original, options) as session:
        journal = _journal(options, session, outputs[0])
        try:
            result, confirmed = _minimized(session, options, journal)
        finally:
            journal.close()
        least = _answered(session, result.candidate)
        header, toml = _result(session, least, _of_target(original.header, options), options.trace)
        answer = result_json(original, session, result, journal, confirmed)
    write_life(options.output, header, list(least.events), force=options.force)
    write_output(str(outputs[1]), toml.encode(), force=options.force)
    if result.minimal and options.journal is None and journal.path:
        journal.path.unlink(missing_ok=True)
    print_result(answer, as_json=options.json)
    return 0 if result.minimal and not confirmed else EXIT_CANNOT_JUDGE


@dataclass(slots=True)
class Session:
    """An opened search: who is asked, with what it begins, and what is known of the trace."""

    oracle: Oracle
    first: Candidate
    opened: Opened | None  # on the model
    targets: tuple[str, ...]
    strict: bool


def _read(path: str) -> Candidate:
    """Return a trace that is whole and not too long for memory."""
    with open_trace(path) as reader:
        events: list[Any] = []
        for _, block in reader:
            events += block
            if len(events) > MAX_EVENTS:
                raise UsageError(f"{path}: minimize holds at most {MAX_EVENTS:,} events: cut it")
        if reader.status == "damaged":
            at = reader.problems[0]
            raise DamagedTrace(path, at.offset, f"{at.what}; `itstrace recover` saves what it can")
        if reader.checkpoint is not None:
            raise UsageError(f"{path}: begins in the middle of a life: minimize needs its start")
        return Candidate(reader.header, tuple(events))


# -- what is to be kept


def _behaviour(original: Candidate, options: argparse.Namespace) -> tuple[Profile, Told]:
    """Return under which behaviour the trace shows its signature, and what else is told of it."""
    header = original.header
    own = make_model(header, options).profile
    path = manifest_path(Path(options.trace))
    if options.trace == "-" or not path.exists():
        recorder = _recorder(header)
        differs = recorder is not None and recorder.choices != own.choices
        told = (recorder,) if recorder and differs else ()
        return own, Told(options.signature, told, bool(options.strict))
    stored = read_manifest(path)
    base = own if options.profile else profile_of(stored, header, {})
    behaviours = [(with_flags(base, each.flags), each) for each in stored.expectations]
    chosen, signature = own, options.signature
    if not options.flag and not options.profile:
        for behaviour, each in behaviours:
            if each.signature and signature in (None, each.signature):
                chosen, signature = behaviour, each.signature
                break
    signature = signature or next(
        (each.signature for behaviour, each in behaviours if behaviour.choices == chosen.choices),
        None,
    )
    others = tuple(each for each, _ in behaviours if each.choices != chosen.choices)
    strict = bool(options.strict or stored.values.get("strict"))
    return chosen, Told(signature, others, strict)


def _recorder(header: Header) -> Profile | None:
    """Return the behaviour of what recorded the trace, by its header."""
    named = profile_named(None, header)
    return named and named[0]


# -- the search


@contextmanager
def _opened(original: Candidate, options: argparse.Namespace) -> Iterator[Session]:
    if options.target:
        with _on_target(original, options) as session:
            yield session
        return
    profile, told = _behaviour(original, options)
    opened = open_case(original, profile, told)
    crew = Crew(opened.oracle, original.header, options.jobs)
    try:
        yield Session(crew, opened.candidate, opened, (), told.strict)
    finally:
        crew.close()


@contextmanager
def _on_target(original: Candidate, options: argparse.Namespace) -> Iterator[Session]:
    from replay.minimize.target_oracle import open_oracle, signature_on

    asked = lower(lift(original, outputs=False, commands=False))
    signature = options.signature
    if signature is None and manifest_path(Path(options.trace)).exists():
        signature = _behaviour(original, options)[1].signature
    if signature is None:
        signature = signature_on(options.target, asked, options.profile)
    if signature is None:
        raise UsageError(f"{options.trace}: shows nothing on {' and '.join(options.target)}")
    # what a model suspects, a target shows
    signature = re.sub(f"^{SUSPECTED}:", f"{STALE}:", signature)
    with open_oracle(options.target, asked, signature, options.profile) as oracle:
        named = tuple(map(_name_of, options.target))
        yield Session(oracle, oracle.first, None, named, bool(options.strict))


def _of_target(header: Header, options: argparse.Namespace) -> Header:
    """Return the header as of the kernel that answers; of any other target it stays as it is."""
    kind, _, rest = options.target[0].partition(":") if options.target else ("", "", "")
    if kind != "kvm" or not rest or len(options.target) > 1:
        return header
    version = kernel_at(Path(rest)).version.partition("-")[0]
    try:
        profile = find(f"linux-{version}")[0]
    except UsageError:
        return header  # an image that does not say its version
    return replace(
        header,
        implementation="linux-kvm", implementation_version=version, profile=profile.name, flags={},
    )  # fmt: skip


def _name_of(target: str) -> str:
    """Return a target without the folders that it lies in here."""
    kind, colon, rest = target.partition(":")
    return f"{kind}{colon}{Path(rest).name}"


def _journal(options: argparse.Namespace, session: Session, output: Path) -> Journal:
    path = Path(options.journal) if options.journal else output.with_name(f"{output.name}.journal")
    if options.journal is None and options.output == "-":
        return Journal()
    profile = session.opened.case.profile if session.opened else None
    names = [
        _PASSES, session.oracle.signature, session.strict, session.targets,
        digest(session.first), profile and [profile.name, profile.flags()],
    ]  # fmt: skip
    packed = msgpack.packb(names)
    return Journal.on(path, blake2b(packed, digest_size=16).hexdigest())


def _minimized(
    session: Session, options: argparse.Namespace, journal: Journal
) -> tuple[Result, str | None]:
    """Minimise, go on where the oracle says so, and have the end confirmed."""
    end = None if options.max_seconds is None else monotonic() + options.max_seconds
    following = getattr(session.oracle, "following", lambda least: None)
    before = Count()
    with Progress() as progress:
        candidate: Candidate | None = session.first
        result: Result | None = None
        while candidate is not None:
            result = minimize(
                candidate, session.oracle, journal=journal, progress=progress.told,
                spent=lambda: end is not None and monotonic() > end,
            )  # fmt: skip
            result.count.add(before)
            before = result.count
            journal.next_stage()
            candidate = following(result.candidate) if result.minimal else None
    assert result is not None
    confirm = getattr(session.oracle, "confirm", None)
    return result, confirm(result.candidate) if confirm else None


# -- the result


def _answered(session: Session, least: Candidate) -> Candidate:
    answered = getattr(
        session.opened.oracle if session.opened else session.oracle, "answered", None
    )
    return least if answered is None else answered(least)


def _result(session: Session, least: Candidate, header: Header, source: str) -> tuple[Header, str]:
    """Return the header of the result and its manifest, once it was judged from outside.

    Raises:
        RuntimeError: the result does not show the signature by itself, which is a bug of ours.
    """
    text = f"minimized from {Path(source).name}"
    if session.opened is None:
        outputs = f"as {' and '.join(session.targets)} was asked"
        kept = find(header.profile)[0] if header.profile else None
        return (
            header_of(least, header, kept, outputs),
            target_manifest(session.oracle.signature, session.targets, header.profile, text),
        )
    case = session.opened.case
    found = judge(Frames(least), case.profile, strict=case.strict).signatures
    if case.signature not in found:
        raise RuntimeError(
            f"the result shows {', '.join(found) or 'nothing'}, not {case.signature}"
        )
    return (
        header_of(least, header, case.profile, outputs_of(case)),
        manifest(case, variants(least, case), text),
    )
