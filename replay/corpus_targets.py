"""A corpus on targets: each trace on each real QEMU and each kernel, one word for each.

As a test, a trace of a bug must not show the bug's signature there, as `--git-bisect` has it; one without
a signature must be answered as it was recorded. Counterparts: `replay.corpus`, which does it with models,
`replay.builds`, which rules on one build, and `replay.targets.spec`.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from replay.builds import rule
from replay.corpus import CANNOT_JUDGE, Result, profile_of
from replay.engine import Engine
from replay.explain import Explainer
from replay.judge import judge
from replay.manifest import Manifest
from replay.ruling import BAD, GOOD, OF_A_RESET, parse_signature
from replay.targets.ahead import Ahead
from replay.targets.errors import TargetError
from replay.targets.qemu import Needs
from replay.targets.spec import QEMU, Spec, Targets
from tracer.errors import TracerError
from tracer.log.files import Where
from tracer.log.header import Header
from tracer.log.opening import open_trace

EQUAL, DIVERGENT, CRASHED, COMPLAINED, CANNOT, OTHER = (
    "equal", "divergent", "crashed", "complained", "cannot", "-",
)  # fmt: skip
FINDINGS: Final = frozenset((DIVERGENT, CRASHED, COMPLAINED))
_FAMILIES: Final = {"linux": "kvm", "qemu": "qemu"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a target made of a trace: a word, and in a sentence why."""

    word: str
    why: str = ""
    matched: int = 0
    not_judged: int = 0


def on_targets(
    traces: Sequence[Where], specs: Sequence[Spec]
) -> Iterator[tuple[Where, list[Outcome]]]:
    """Yield each trace with its outcome on each target; a host is booted once for all."""
    with Targets() as made:
        for trace in traces:
            yield trace, [_outcome(trace, spec, made) for spec in specs]


def run_on(trace: Where, manifest: Manifest, spec: Spec, made: Targets) -> Result:
    """Run a trace on a target as a test; skipped where the target cannot judge this trace.

    A target that is not there is a failure: else a whole corpus would be skipped, and look good.
    """
    signature = manifest.bug
    expected = EQUAL if signature is None else GOOD
    missing = _missing(spec, made)
    if missing:
        why = (missing,)
        return Result(trace, spec.text, expected, "no target", None, code=CANNOT_JUDGE, why=why)
    if signature is None:
        return _carried_out(trace, spec, made)
    try:
        wanted = parse_signature(signature)
        with open_trace(str(trace)) as reader:
            header = reader.header
        if spec.kind != "model" and _family(header) not in (None, spec.kind):
            return _skipped(trace, spec, expected, OTHER)
        strict = bool(manifest.values.get("strict"))
        ruling = rule(made, spec, str(trace), header, wanted, strict=strict)
    except TracerError as error:
        return _skipped(trace, spec, expected, CANNOT, str(error))
    if ruling.word not in (GOOD, BAD):
        return _skipped(trace, spec, expected, CANNOT, ruling.why)
    asking = ["verify", str(trace), "--on", spec.text, "--probe"]
    command = asking if wanted.word in OF_A_RESET else ["run", str(trace), "--target", spec.text]
    result = Result(
        trace, spec.text, expected, ruling.word, None,
        commands=(shlex.join(["itstrace", *command]),),
    )  # fmt: skip
    if ruling.word == GOOD:
        return result
    shown = f"it shows {signature}, the bug that this trace is of"
    return replace(result, signatures=ruling.found, why=(shown, *_as_recorded(trace, manifest)))


def _as_recorded(trace: Where, manifest: Manifest) -> Iterator[str]:
    """Yield the bug's story as the trace tells it: which reset, what was left, and who wrote that."""
    strict = bool(manifest.values.get("strict"))
    try:
        with open_trace(str(trace)) as reader:
            profile = profile_of(manifest, reader.header, manifest.flags_of_bug)
            found = judge(reader, profile, strict=strict)
        yield f"as recorded, on {profile.name}:"
        yield from (f"  {line}" for line in Explainer(found, trace, profile, strict=strict).lines())
    except TracerError as error:
        yield f"what was recorded cannot be told: {error}"


def _missing(spec: Spec, made: Targets) -> str:
    """Return why a target is not there at all, or nothing."""
    if spec.kind == "qemu" and shutil.which(spec.rest or QEMU) is None:
        return f"{spec.rest or QEMU}: there is no such program"
    if spec.kind == "kvm":
        try:
            made.host(spec.rest)
        except TracerError as error:
            return str(error)
    return ""


def _carried_out(trace: Where, spec: Spec, made: Targets) -> Result:
    outcome = _outcome(trace, spec, made)
    if outcome.word in (OTHER, CANNOT):
        return _skipped(trace, spec, EQUAL, outcome.word, outcome.why)
    command = shlex.join(["itstrace", "run", str(trace), "--target", spec.text])
    why = (outcome.why,) if outcome.why else ()
    return Result(trace, spec.text, EQUAL, outcome.word, None, why=why, commands=(command,))


def _skipped(trace: Where, spec: Spec, expected: str, word: str, why: str = "") -> Result:
    if word == OTHER:
        return Result(
            trace, spec.text, expected, word, None, code=0,
            skipped=f"it was not recorded from what {spec.kind} is a target for",
        )  # fmt: skip
    return Result(trace, spec.text, expected, word, None, code=CANNOT_JUDGE, skipped=why or word)


def _outcome(trace: Where, spec: Spec, made: Targets) -> Outcome:
    try:
        with open_trace(str(trace)) as reader:
            if spec.kind != "model" and _family(reader.header) not in (None, spec.kind):
                return Outcome(OTHER)
            needs = Needs.of(event for _, events in reader for event in events)
        with open_trace(str(trace)) as reader, made.opened(spec, reader.header, needs) as target:
            ahead = Ahead(reader, target)
            # To the end: that the host dies counts more than what it answered differently before.
            engine = Engine(ahead, ahead)
            tally = engine.run()
            complaints = made.findings()
    except TargetError as error:
        return Outcome(CANNOT, str(error))
    except TracerError as error:
        return Outcome(CANNOT, f"{trace}: {error}")
    numbers = (tally.matched, tally.not_judged)
    if engine.crash:
        return Outcome(CRASHED, f"event {engine.crash[0]}: {engine.crash[1]}", *numbers)
    if tally.divergent:
        first = tally.divergences[0]
        return Outcome(DIVERGENT, f"event {first.seq}: {first.kind}: {first.field}", *numbers)
    if complaints:
        return Outcome(COMPLAINED, complaints[0], *numbers)
    return Outcome(EQUAL, "", *numbers)


def _family(header: Header) -> str | None:
    """Return the kind of target that a trace is of, if its header tells."""
    return _FAMILIES.get((header.profile or header.implementation or "").partition("-")[0])
