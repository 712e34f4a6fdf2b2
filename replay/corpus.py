"""A corpus: traces with manifests, run on their profiles or on all of a family.

Counterparts: `replay.manifest` (what is expected), `replay.judge` (what is found) and
`replay.corpus_targets`, which asks real QEMUs and kernels.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from replay.explain import Explainer
from replay.judge import CRASH, Judgement, judge, profile_named, with_flags
from replay.manifest import (
    TRACE_SUFFIXES,
    Expectation,
    Manifest,
    looks_like_manifest,
    manifest_path,
    read_manifest,
)
from replay.profiles import PROFILES, Profile, find
from replay.verdict import STALE, SUSPECTED
from tracer.errors import TracerError, UsageError
from tracer.log.files import Url, Where, exists, fetching, found_in, is_folder, where
from tracer.log.header import Header
from tracer.log.opening import AnyReader, open_trace

FINDING: Final = 1
LOST: Final = 3
CANNOT_JUDGE: Final = 4
_WORST_FIRST: Final = (UsageError.exit_code, LOST, FINDING, CANNOT_JUDGE)
OF_VERIFY: Final = (CRASH, STALE, SUSPECTED)


@dataclass(frozen=True, slots=True)
class Result:
    """One expectation of one trace: what it wanted and what came."""

    trace: Where
    variant: str
    expected: str
    got: str
    signature: str | None
    signatures: tuple[str, ...] = ()
    code: int = FINDING  # the exit code that it asks for when it is not met
    why: tuple[str, ...] = ()  # in lines; only where it is not met
    commands: tuple[str, ...] = ()  # that show more
    skipped: str = ""  # why a target could not be asked

    @property
    def passed(self) -> bool:
        """Whether the word is the one expected and the signature is among those found."""
        if self.got != self.expected or self.skipped:
            return False
        return self.signature is None or self.signature in self.signatures

    def sentence(self) -> str:
        """Return what was expected and what came, in one line."""
        if self.skipped:
            return f"not judged: {self.skipped}"
        wanted = f"{self.expected} ({self.signature})" if self.signature else self.expected
        found = ", ".join(self.signatures)
        return f"expected {wanted}, got {self.got}" + (f" ({found})" if found else "")


def exit_code(results: Iterable[Result]) -> int:
    """Return the worst exit code of those that are not met; 0 when all are."""
    codes = {each.code for each in results if not each.passed}
    return next((code for code in _WORST_FIRST if code in codes), 0)


def find_traces(paths: Iterable[str]) -> list[Where]:
    """Return the traces at `paths`, some of which may be URLs, folders searched, in order.

    Raises:
        UsageError: a path is not there.
    """
    found: list[Where] = []
    for text in paths:
        path = where(text)
        if isinstance(path, Url):
            found += found_in(path, TRACE_SUFFIXES) if is_folder(path) else [path]
        elif path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.name.endswith(TRACE_SUFFIXES))
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such trace")
    return found


def trace_name(trace: Where) -> str:
    """Return a trace's file name without the suffix that says its form."""
    return manifest_path(trace).name.removesuffix(".toml")


def unused_manifests(paths: Iterable[str], traces: Iterable[Where]) -> list[Where]:
    """Return manifests in the folders among `paths` that belong to no trace."""
    used = {manifest_path(trace) for trace in traces}
    found: list[Where] = []
    for place in map(where, paths):
        if isinstance(place, Path):
            below: Iterable[Where] = place.rglob("*.toml") if place.is_dir() else ()
        else:
            below = found_in(place, (".toml",)) if is_folder(place) else ()
        found += [each for each in below if each not in used and looks_like_manifest(each)]
    return sorted(found, key=str)


def without_trace(manifest: Where) -> Result:
    """Return the failure that an unused manifest is."""
    return Result(manifest, "manifest", "a trace beside it", "none", None)


def without_manifest(trace: Where) -> Result:
    """Return the failure that a trace without a manifest is."""
    return Result(
        trace, "manifest", f"a manifest {manifest_path(trace).name}", "none", None,
        commands=(shlex.join(["itstrace", "corpus", "add", str(trace), "--reason", "WHY"]),),
    )  # fmt: skip


def manifest_of(trace: Where) -> Manifest | Result:
    """Return a trace's manifest, or the failure that it is to have none or a wrong one."""
    path = manifest_path(trace)
    if not exists(path):
        return without_manifest(trace)
    try:
        return read_manifest(path)
    except UsageError as error:
        return Result(trace, "manifest", "a manifest", str(error), None, code=error.exit_code)


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement, with the reader of the trace and what it was replayed as."""

    found: Judgement
    reader: AnyReader
    profile: Profile


Judging = Callable[[Where, Manifest, Expectation], AbstractContextManager[Judged]]


@contextmanager
def here(trace: Where, manifest: Manifest, wanted: Expectation) -> Iterator[Judged]:
    """Judge a trace on the model, in one piece."""
    with open_trace(str(trace)) as reader:
        profile = profile_of(manifest, reader.header, wanted.flags)
        yield Judged(judge(reader, profile, strict=manifest.strict), reader, profile)


def run_trace(trace: Where, judging: Judging = here) -> list[Result]:
    """Run a trace under every expectation of its manifest; `judging` replays it."""
    with fetching():
        manifest = manifest_of(trace)
        if isinstance(manifest, Result):
            return [manifest]
        return [run_expectation(trace, manifest, each, judging) for each in manifest.expectations]


def run_expectation(
    trace: Where, manifest: Manifest, wanted: Expectation, judging: Judging = here
) -> Result:
    """Run a trace on the model, under the flags of one expectation; say why if it is not met."""
    name, expect, signature = wanted.name, wanted.expect, wanted.signature
    try:
        with judging(trace, manifest, wanted) as judged:
            found, reader, profile = judged.found, judged.reader, judged.profile
            status, digest = reader.status, reader.chain.hex()
            problem = reader.problems[-1].what if reader.problems else ""
    except TracerError as error:
        code = error.exit_code if error.exit_code in (LOST, CANNOT_JUDGE) else FINDING
        return Result(trace, name, expect, str(error), signature, code=code)
    if status == "damaged":
        return Result(trace, name, expect, "damaged", signature, code=LOST, why=(problem,))
    if found.engine.unknown_inputs:
        why = ("it holds inputs of a newer itstrace; this one cannot judge it: update itstrace",)
        return Result(trace, name, expect, "newer", signature, code=CANNOT_JUDGE, why=why)
    stored = manifest.values.get("digest", digest)
    if digest and stored != digest:  # the text form has none
        why = (f"the manifest was written for a trace with digest {stored:.40}",)
        return Result(trace, name, expect, f"another trace, {digest}", signature, why=why)
    told = Result(trace, name, expect, found.word, signature, tuple(found.signatures))
    return told if told.passed else _explained(told, found, manifest, profile, wanted)


def _explained(
    result: Result, found: Judgement, manifest: Manifest, profile: Profile, wanted: Expectation
) -> Result:
    strict = manifest.strict
    explainer = Explainer(found, result.trace, profile, strict=strict)
    lines = explainer.lines()
    options = _options(manifest, wanted.flags)
    strictly = ["--strict", "bits"] if strict else []
    verb = "verify" if found.word in OF_VERIFY or result.expected in OF_VERIFY else "check"
    trace = str(result.trace)
    commands = [["itstrace", verb, trace, *options, *(strictly if verb == "verify" else [])]]
    if explainer.asked is not None:
        words = [*options, *strictly, "--at", str(explainer.at)]
        commands.append(["itstrace", "blame", trace, *explainer.asked.split(), *words])
    return Result(
        result.trace, result.variant, result.expected, result.got, result.signature,
        result.signatures, why=tuple(lines), commands=tuple(map(shlex.join, commands)),
    )  # fmt: skip


def _options(manifest: Manifest, flags: dict[str, Any]) -> list[str]:
    """Return the options with which a verb replays as this expectation does."""
    path = manifest.profile_path
    name = str(path) if path else manifest.profile
    options = ["--profile", name] if name else []
    for flag, value in flags.items():
        options += ["--flag", f"{flag}={str(value).lower()}"]
    return options


def profile_of(manifest: Manifest, header: Header, flags: dict[str, Any]) -> Profile:
    """Return what to replay as: the manifest's profile, or else the header's with its flags.

    Raises:
        UsageError: neither says which, or it is not known.
    """
    path = manifest.profile_path
    if path is not None:
        return with_flags(find(str(path), files=True)[0], flags)
    if manifest.profile is not None:
        return with_flags(find(manifest.profile)[0], flags)
    name = header.profile
    if name is None or name.endswith(".toml"):  # whoever sent a trace names no file of ours
        raise UsageError(f"{manifest.path}: the trace does not say what wrote it: name a profile")
    named = profile_named(None, header)
    assert named, "the header names one"
    return with_flags(named[0], flags)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trace on one profile; `basis` says how the flags that it depends on are known."""

    word: str
    basis: str


def matrix(traces: Sequence[Where]) -> dict[str, tuple[list[str], dict[str, dict[str, Cell]]]]:
    """Return family -> (profiles, trace name -> profile -> cell)."""
    tables: dict[str, tuple[list[str], dict[str, dict[str, Cell]]]] = {}
    for trace in traces:
        manifest = read_manifest(manifest_path(trace))
        with open_trace(str(trace)) as reader:
            own = profile_of(manifest, reader.header, {})
        columns = [each for each in PROFILES.values() if _comparable(own, each)]
        table = tables.setdefault(_family(own), ([profile.name for profile in columns], {}))
        row: dict[str, Cell] = {}
        for profile in columns:
            with open_trace(str(trace)) as reader:
                word = judge(reader, profile, strict=manifest.strict).word
            row[profile.name] = Cell(word, _basis(profile, manifest.flags))
        table[1][trace_name(trace)] = row
    return tables


def _family(profile: Profile) -> str:
    virtual = profile.name.endswith("-gicv4")
    return f"{profile.family}{'-gicv4' if virtual else ''}"


def _comparable(own: Profile, other: Profile) -> bool:
    return _family(own) == _family(other)


def _basis(profile: Profile, flags: set[str]) -> str:
    """Return `measured` only if every flag that the trace depends on was measured there."""
    known = {profile.known(flag) for flag in flags} or {profile.basis}
    return "measured" if known == {"measured"} else "read"
