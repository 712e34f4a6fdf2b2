"""The result of minimising as a trace with its manifest: what it shows, under which behaviour.

Counterparts: `replay.manifest`, which reads the manifest, and `replay.commands.minimize`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from replay.judge import judge
from replay.minimize.model_oracle import ANSWERS, INPUTS, Case, Frames
from replay.minimize.oracle import Candidate
from replay.minimize.search import digest
from replay.profiles import FLAGS, Profile, find
from tracer.log.header import Header

HOW = {
    INPUTS: "none: the signature needs no output",
    ANSWERS: "made anew by model {}",
}
RECORDED_HOW = "as they were recorded"


@dataclass(frozen=True, slots=True)
class Variant:
    """A behaviour that the result is judged under, as flags beside a profile's own."""

    flags: dict[str, Any]
    word: str
    signature: str | None


def outputs_of(case: Case) -> str:
    """Return how the outputs of a result came about."""
    text = HOW.get(case.way, RECORDED_HOW)
    return text.format(case.answering.name if case.answering else "")


def flags_beside(profile: Profile) -> dict[str, Any]:
    """Return the flags in which a profile differs from the one of its name."""
    own = find(profile.name)[0].choices
    names = [row.name for row in FLAGS[profile.family]]
    return {
        name: getattr(profile.choices, name)
        for name in names
        if getattr(profile.choices, name) != getattr(own, name)
    }


def header_of(least: Candidate, original: Header, profile: Profile | None, outputs: str) -> Header:
    """Return the header of a result: whose child it is, what it is replayed as, and how it came.

    `profile` is None where nobody knows what it is replayed as.
    """
    flags = profile.flags() if profile else {}
    for name in flags_beside(profile) if profile else ():
        flags[name][1] = "given"
    return replace(
        least.header,
        uuid=digest(least).hex(),
        parent_uuid=original.uuid or None,
        first_seq=0,
        base_digest=None,
        clock="none",
        implementation=original.implementation,
        implementation_version=original.implementation_version,
        profile=profile.name if profile else None,
        flags=flags,
        command_line=None,
        host=None,
        annotations={**original.annotations, "minimized": "yes", "outputs": outputs},
    )


def variants(least: Candidate, case: Case) -> list[tuple[str, Variant]]:
    """Return what a result shows under the behaviour of its case, and under what cures it."""
    found = []
    for name, profile in (("buggy", case.profile), ("fixed", case.cure)):
        if profile is not None and profile.family == case.profile.family:
            judged = judge(Frames(least), profile, strict=case.strict)
            shows = case.signature in judged.signatures
            signature = case.signature if shows else next(iter(judged.signatures), None)
            found.append((name, Variant(_between(case, profile), judged.word, signature)))
    return found


def _between(case: Case, profile: Profile) -> dict[str, Any]:
    """Return the flags that tell a case's behaviours from the named profile, as one of them has them.

    What cures it may be a profile of another name; the manifest names that of the case.
    """
    behaviours = [find(case.profile.name)[0], case.profile, case.cure or case.profile]
    return {
        name: getattr(profile.choices, name)
        for name in (row.name for row in FLAGS[profile.family])
        if len({getattr(each.choices, name) for each in behaviours}) > 1
    }


def manifest(case: Case, found: list[tuple[str, Variant]], source: str) -> str:
    """Return the text of a manifest."""
    lines = [
        f"shows = {json.dumps(case.signature)}",
        f"source = {json.dumps(source)}",
        f"profile = {json.dumps(case.profile.name)}",
    ]
    if case.strict:
        lines.append("strict = true")
    for name, each in found:
        if len(found) == 1 and not each.flags:
            lines += _expected(each)
            continue
        flags = ", ".join(f"{flag} = {json.dumps(value)}" for flag, value in each.flags.items())
        lines += ["", f"[{name}]", f"flags = {{ {flags} }}", *_expected(each)]
    return "\n".join(lines) + "\n"


def _expected(each: Variant) -> list[str]:
    lines = [f"expect = {json.dumps(each.word)}"]
    if each.signature:
        lines.append(f"signature = {json.dumps(each.signature)}")
    return lines


def target_manifest(
    signature: str, targets: tuple[str, ...], profile: str | None, source: str
) -> str:
    """Return the text of the manifest of a result that targets were asked about."""
    lines = [
        f"shows = {json.dumps(signature)}",
        f"source = {json.dumps(source)}",
        *([f"profile = {json.dumps(profile)}"] if profile else []),
        f"target = {json.dumps(' '.join(targets))}",
        f"expect = {json.dumps(signature.partition(':')[0])}",
        f"signature = {json.dumps(signature)}",
    ]
    return "\n".join(lines) + "\n"
