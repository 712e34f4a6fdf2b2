"""`itstrace fuzz`: generated lives on several targets in lockstep; what is new is kept as a trace."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from replay.commands.common import EXIT_FINDING, clean, paint, print_json, progress, say
from replay.commands.generate import add_events_option, family_of, write_life
from replay.generator.answers import generate, header_of
from replay.judge import general
from replay.lockstep import lockstep, signature
from replay.minimize.oracle import Candidate
from replay.minimize.run import minimize
from replay.minimize.target_oracle import open_oracle
from replay.targets.errors import TargetError
from replay.targets.spec import FORMS, Spec, Targets, parse
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import Header

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
    parser.add_argument(
        "--minimize", action="store_true", help="keep the smallest trace of each difference, too"
    )
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Run lives; 1 when two targets answered one differently."""
    specs = [parse(text) for text in options.target]
    if len(specs) < 2:
        raise UsageError("fuzz compares targets with each other: give --target twice")
    profile = family_of(options.profile or _profile_of(specs))
    found = _Found(options.output, options.target if options.minimize else ())
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

    def __init__(self, output: str, minimize_on: Sequence[str] = ()) -> None:
        self._output = output
        self._minimize_on = minimize_on
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
            name = signature(difference)
            if self._keep(name, header, shown, dict(difference.answers)) and self._minimize_on:
                made.close()  # one host at a time
                self._least(name, Candidate(header, tuple(shown)))
        for line in made.findings():
            self._keep(f"complaint:{general(line)}", header, events, {"kernel": line})

    def _keep(
        self, name: str, header: Header, events: list[Event], answers: dict[str, Any]
    ) -> bool:
        """Count a difference; keep the life of a new one, and return whether it is new."""
        seed = int(header.annotations["seed"])
        seen = self.differences.setdefault(name, {"seeds": [], "seq": len(events) - 1})
        seen["seeds"].append(seed)
        if len(seen["seeds"]) > 1:
            return False
        seen["answers"] = {target: str(answer)[:400] for target, answer in answers.items()}
        seen["trace"] = self._write(f"{name}-{seed}", header, events)
        say(f"itstrace: seed {seed}: {name}: {seen['trace']}")
        return True

    def _least(self, name: str, candidate: Candidate) -> None:
        with open_oracle(self._minimize_on, candidate, name) as oracle:
            least = minimize(oracle.first, oracle).candidate
        path = self._write(f"{name}-least", least.header, least.events)
        self.differences[name]["least"] = path
        say(f"itstrace: {name}: {len(least.events)} events are enough: {path}")

    def _write(self, name: str, header: Header, events: Sequence[Event]) -> str:
        path = Path(self._output) / f"{re.sub('[^A-Za-z0-9_.]+', '-', name)}.itstrace"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_life(str(path), header, list(events), force=True)
        return str(path)


def _profile_of(specs: list[Spec]) -> str:
    for spec in specs:
        if spec.kind == "model" and spec.rest:
            return spec.rest
    return next((_FAMILY[spec.kind] for spec in specs if spec.kind in _FAMILY), "linux-6.1.192")


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
