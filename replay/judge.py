"""One word for a whole trace, and the signatures of what was found: what a manifest expects.

A signature names a bug so that another run can be recognised as the same one: identifiers are
generalised (`device`, not `device 0x8`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from replay.engine import Engine
from replay.profiles import FLAGS, Profile, find
from replay.protocols import Frames
from replay.tally import Tally
from replay.targets.kvm_model import KvmModel
from replay.targets.qemu_model import QemuModel
from replay.targets.xen_model import XenModel
from replay.verdict import FINDINGS, STALE, SUSPECTED, Component, ResetVerdict, RoundTrip
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.log.header import IN_PROCESS, Header
from tracer.log.opening import open_trace

CRASH: Final = "crash"
DIVERGENT: Final = "divergent"
INVARIANT: Final = "invariant"
WORDS: Final = (
    CRASH, STALE, SUSPECTED, DIVERGENT, INVARIANT, "verified", "equal", "unproven",
)  # fmt: skip
_GENERAL: Final = {
    "devices": "device",
    "host_devices": "host_device",
    "events": "event",
    "collections": "collection",
    "lpis": "lpi",
    "vpes": "vpe",
    "translation_cache": "translation",
}


@dataclass(slots=True)
class Judgement:
    """What was found in one trace on one profile."""

    word: str
    signatures: list[str]
    verifier: Verifier
    engine: Engine


AnyModel = QemuModel | KvmModel | XenModel
_MODELS: Final[dict[str, type[AnyModel]]] = {"qemu": QemuModel, "kvm": KvmModel, "xen": XenModel}


def model_of(header: Header, profile: Profile) -> AnyModel:
    """Return the model of a profile's family, for a VM such as the header tells."""
    return _MODELS[profile.family](header, profile)


def with_flags(profile: Profile, flags: dict[str, Any]) -> Profile:
    """Return the profile with these behaviour flags.

    Raises:
        UsageError: there is no such flag, or the value is not of its kind.
    """
    known = {row.name for row in FLAGS[profile.family]}
    for name, value in flags.items():
        if name not in known:
            raise UsageError(f"{profile.family} has no behaviour flag {name!r:.60}")
        if type(value) is not type(getattr(profile.choices, name)):
            raise UsageError(f"flag {name} must not be {value!r:.40}")
    if not flags:
        return profile
    return replace(profile, choices=replace(profile.choices, **flags))


def profile_named(given: str | None, header: Header) -> tuple[Profile, str | None] | None:
    """Return the profile that was given, or else the header's with its flags; None: there is neither.

    With it comes the sentence of `find`. Only a given one may be a file.

    Raises:
        UsageError: it is not known.
    """
    if given:
        return find(given, files=True)
    if header.profile is None:
        return None
    profile, note = find(header.profile)
    return with_flags(profile, {name: value[0] for name, value in header.flags.items()}), note


def judge(reader: Frames, profile: Profile, *, strict: bool = False) -> Judgement:
    """Replay a trace with all checks on and return its word and signatures."""
    model = model_of(reader.header, profile)
    verifier = Verifier(model, strict=strict, under_test=reader.header.source == IN_PROCESS)
    engine = Engine(reader, model, verifier, invariants=True)
    engine.run()
    return judgement(verifier, engine)


def judgement(verifier: Verifier, engine: Engine) -> Judgement:
    """Return what a replay with all checks on found."""
    signatures = signatures_of(verifier, engine)
    return Judgement(_word(verifier, engine), signatures, verifier, engine)


def judge_file(path: str, *, profile: str | None = None, strict: bool = False) -> Judgement:
    """Judge the trace at `path` as what its header says wrote it, or as `profile`.

    Raises:
        UsageError: neither says which implementation that is, or it is not known.
        TraceError: the file is no trace that can be read.
    """
    with open_trace(path) as reader:
        named = profile_named(profile, reader.header)
        if named is None:
            raise UsageError(f"{path}: the trace does not say what wrote it: give a profile")
        return judge(reader, named[0], strict=strict)


def _word(verifier: Verifier, engine: Engine) -> str:
    if engine.crash:
        return CRASH
    words = {each.word for each in verifier.resets} | {each.word for each in verifier.round_trips}
    for word in FINDINGS:
        if word in words:
            return word
    if engine.tally.divergent:
        return DIVERGENT
    if engine.violated:
        return INVARIANT
    if verifier.resets:
        return max((each.word for each in verifier.resets), key=WORDS.index)
    return "equal" if engine.tally.outputs or verifier.round_trips else "unproven"


def signatures_of(verifier: Verifier | None, engine: Engine) -> list[str]:
    """Return the signatures of all that a replay found, each once, in the order of WORDS but one.

    `verifier` is None where nobody watched the resets.
    """
    found = []
    if engine.crash:
        found.append(f"crash:{engine.crash[1]}")
    if verifier:
        for reset in verifier.resets:
            found += [signature for signature, _ in of_reset(reset)]
        for trip in verifier.round_trips:
            found += of_round_trip(trip)
    found += divergences(engine.tally)
    found += [f"invariant:{name}" for _, name in engine.violated]
    return list(dict.fromkeys(found))


def of_reset(reset: ResetVerdict) -> list[tuple[str, Component]]:
    """Return the signatures of what a reset's verdict found, with the components."""
    return [
        (f"{status}:{reset.how}:{generalised(each.name)}", each)
        for each in reset.components
        if (status := each.status(strict=reset.strict)) in FINDINGS
    ]


def of_round_trip(trip: RoundTrip) -> list[str]:
    """Return the signatures of what a round trip's verdict found."""
    if trip.word not in FINDINGS:
        return []
    names = [*trip.came_back, *trip.lost] or ["errno"]
    return [f"{trip.word}:restore:{generalised(name)}" for name in names]


def divergences(tally: Tally) -> list[str]:
    """Return the signatures of the outputs that diverge."""
    return [f"{DIVERGENT}:{kind}:{name}" for kind, name in tally.kinds]


def generalised(component: str) -> str:
    """Return a component's name without identifiers."""
    return _GENERAL.get(component, re.sub(r"\[\d+\]$", "", component))


def general(line: str) -> str:
    """Return a line without its numbers, so that it names what happened and not where."""
    return re.sub("(0x)?[0-9a-f]*[0-9][0-9a-f]*", "N", line)[:60]
