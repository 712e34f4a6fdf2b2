"""`itstrace fuzz`: generated lives on several targets in lockstep; what is new is kept as a trace."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

from replay.commands.common import EXIT_FINDING, clean, paint, print_json, progress, say
from replay.commands.generate import add_events_option, family_of, write_life
from replay.generator.answers import generate, header_of
from replay.judge import general
from replay.lockstep import Lockstep, run as run_lockstep, signature
from replay.targets.errors import TargetError
from replay.targets.qemu import Needs
from replay.targets.spec import FORMS, Spec, Targets, parse
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import Header

_FRAME_EVENTS = 4096
_FAMILY = {"qemu": "qemu-7.2.22", "kvm": "linux-6.1.192"}  # whose lives, if no model says


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--target", action="append", required=True, help=f"{FORMS}; two at least")
    parser.add_argument("--seeds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed (default: %(default)s)"
    )
    parser.add_argument("--profile", help="whose lives; default: of the first model target")
    add_events_option(parser)
    parser.add_argument("-o", "--output", default=".", help="the folder for what is found")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Run lives; 1 when two targets answered one differently."""
    specs = [parse(text) for text in options.target]
    if len(specs) < 2:
        raise UsageError("fuzz compares targets with each other: give --target twice")
    profile = family_of(options.profile or _profile_of(specs))
    found = _Found(options.output)
    started = monotonic()
    interrupted = False
    with Targets() as made:
        try:
            for seed in progress(range(options.first, options.first + options.seeds), "lives"):
                header = header_of(seed, profile, options.events)
                found.live(made, specs, header, list(generate(seed, profile, options.events)))
        except KeyboardInterrupt:
            interrupted = True
    answer = {
        "schema": "itstrace.fuzz/1", "targets": options.target, "profile": profile.name,
        "lives": found.lives, "agreed": found.agreed, "not_judged": found.not_judged,
        "seconds": round(monotonic() - started, 1), "differences": found.differences,
    }  # fmt: skip
    if options.json:
        print_json(answer)
    else:
        _print(answer)
    if interrupted:
        raise KeyboardInterrupt
    return EXIT_FINDING if found.differences else 0


class _Found:
    """What came of the lives so far; each new difference is kept in `output` as a trace."""

    def __init__(self, output: str) -> None:
        self._output = output
        self.lives = self.agreed = self.not_judged = 0
        self.differences: dict[str, dict[str, Any]] = {}

    def live(self, made: Targets, specs: list[Spec], header: Header, events: list[Event]) -> None:
        """Run one life.

        Raises:
            TargetError: a target cannot live the first one.
        """
        try:
            result = lockstep(made, specs, header, events)
        except TargetError as error:
            if not self.lives:
                raise
            self._keep(f"lost:{general(str(error))}", header, events, {"error": error})
            return
        finally:
            self.lives += 1
        self.agreed += result.agreed
        self.not_judged += result.not_judged
        if difference := result.difference:
            shown = events[: difference.seq + 1]
            self._keep(signature(difference), header, shown, dict(difference.answers))
        for line in made.findings():
            self._keep(f"complaint:{general(line)}", header, events, {"kernel": line})

    def _keep(
        self, name: str, header: Header, events: list[Event], answers: dict[str, Any]
    ) -> None:
        """Count a difference; keep the life of a new one."""
        seed = int(header.annotations["seed"])
        seen = self.differences.setdefault(name, {"seeds": [], "seq": len(events) - 1})
        seen["seeds"].append(seed)
        if len(seen["seeds"]) > 1:
            return
        seen["answers"] = {target: str(answer)[:400] for target, answer in answers.items()}
        path = Path(self._output) / f"{re.sub('[^A-Za-z0-9_.]+', '-', name)}-{seed}.itstrace"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_life(str(path), header, events, force=True)
        seen["trace"] = str(path)
        say(f"itstrace: seed {seed}: {name}: {path}")


def _profile_of(specs: list[Spec]) -> str:
    for spec in specs:
        if spec.kind == "model" and spec.rest:
            return spec.rest
    return next((_FAMILY[spec.kind] for spec in specs if spec.kind in _FAMILY), "linux-6.1.192")


class _Frames:
    """A generated life as a reader has it."""

    status = "clean"
    name = "a generated life"
    checkpoint = None
    open_end = False

    def __init__(self, header: Header, events: list[Event]) -> None:
        self.header = header
        self._events = events

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        for at in range(0, len(self._events), _FRAME_EVENTS):
            yield at, tuple(self._events[at : at + _FRAME_EVENTS])


def lockstep(made: Targets, specs: list[Spec], header: Header, events: list[Event]) -> Lockstep:
    """Run one life on fresh targets."""
    needs = Needs()
    for event in events:
        needs.see(event)
    reader = _Frames(header, events)
    with ExitStack() as stack:
        targets = [stack.enter_context(made.opened(spec, header, needs)) for spec in specs]
        return run_lockstep(reader, targets)


def _print(answer: dict[str, Any]) -> None:
    for name, seen in answer["differences"].items():
        print(
            paint(
                f"{name}: {len(seen['seeds'])} lives, the first is seed {seen['seeds'][0]}", "red"
            )
        )
        print(f"  event {seen['seq']}: {seen['trace']}")
        for target, text in seen["answers"].items():
            print(f"  {target}: {clean(text)}")
    print(
        f"{answer['lives']} lives, {answer['agreed']} answers alike, {answer['not_judged']} not "
        f"judged, {len(answer['differences'])} kinds of difference, {answer['seconds']} s: "
        f"{', '.join(answer['targets'])}"
    )
