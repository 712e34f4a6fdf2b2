"""A corpus: traces with manifests, run on their profiles or on all of a family.

Counterparts: `replay.manifest` (what is expected) and `replay.judge` (what is found).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from replay.judge import judge, with_flags
from replay.manifest import TRACE_SUFFIXES, Manifest, manifest_path, read_manifest
from replay.profiles import PROFILES, Profile, find
from tracer.errors import TracerError, UsageError
from tracer.log.opening import open_trace


@dataclass(frozen=True, slots=True)
class Result:
    """One expectation of one trace: what it wanted and what came."""

    trace: Path
    variant: str
    expected: str
    got: str
    signature: str | None
    signatures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the word is the one expected and the signature is among those found."""
        if self.got != self.expected:
            return False
        return self.signature is None or self.signature in self.signatures


@dataclass(frozen=True, slots=True)
class Cell:
    """One trace on one profile; `basis` says how the flags that it depends on are known."""

    word: str
    basis: str


def find_traces(paths: Iterable[str]) -> list[Path]:
    """Return the traces at `paths`, folders searched, in order.

    Raises:
        UsageError: a path is not there.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.name.endswith(TRACE_SUFFIXES))
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such trace")
    return found


def trace_name(trace: Path) -> str:
    """Return a trace's file name without the suffix that says its form."""
    return manifest_path(trace).stem


def unused_manifests(paths: Iterable[str], traces: list[Path]) -> list[Path]:
    """Return manifests in the folders among `paths` that belong to no trace."""
    used = {manifest_path(trace) for trace in traces}
    folders = [Path(text) for text in paths if Path(text).is_dir()]
    return sorted(p for folder in folders for p in folder.rglob("*.toml") if p not in used)


def run_trace(trace: Path) -> list[Result]:
    """Run a trace under every expectation of its manifest."""
    path = manifest_path(trace)
    if not path.exists():
        return [Result(trace, "manifest", f"a manifest {path.name}", "none", None)]
    manifest = read_manifest(path)
    return [
        _run(trace, manifest, each.name, each.expect, each.signature, each.flags)
        for each in manifest.expectations
    ]


def _run(
    trace: Path,
    manifest: Manifest,
    variant: str,
    expect: str,
    signature: str | None,
    flags: dict[str, object],
) -> Result:
    try:
        with open_trace(str(trace)) as reader:
            profile = with_flags(find(manifest.profile or reader.header.profile or "")[0], flags)
            strict = bool(manifest.values.get("strict"))
            found = judge(reader, profile, strict=strict)
            if reader.status == "damaged":
                return Result(trace, variant, expect, "damaged", signature)
        return Result(trace, variant, expect, found.word, signature, tuple(found.signatures))
    except TracerError as error:
        return Result(trace, variant, expect, str(error), signature)


def matrix(traces: list[Path]) -> dict[str, tuple[list[str], dict[str, dict[str, Cell]]]]:
    """Return family -> (profiles, trace name -> profile -> cell)."""
    tables: dict[str, tuple[list[str], dict[str, dict[str, Cell]]]] = {}
    for trace in traces:
        manifest = read_manifest(manifest_path(trace))
        with open_trace(str(trace)) as reader:
            own = find(manifest.profile or reader.header.profile or "")[0]
        columns = [each for each in PROFILES.values() if _comparable(own, each)]
        table = tables.setdefault(_family(own), ([profile.name for profile in columns], {}))
        row: dict[str, Cell] = {}
        for profile in columns:
            with open_trace(str(trace)) as reader:
                word = judge(reader, profile, strict=bool(manifest.values.get("strict"))).word
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
