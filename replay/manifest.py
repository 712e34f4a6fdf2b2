"""A manifest: what a trace must show. `NAME.toml` beside `NAME.itstrace` or `NAME.its.txt`.

    shows = "a device that was unmapped comes back from a save and restore"
    sources = ["Linux e9649129d33d"]
    profile = "linux-6.1.192"
    expect = "equal"

    [buggy]
    flags = { mapd_unmap_clears_dte = false }
    expect = "suspected"
    signature = "suspected:restore:device"

`profile` may also name a profile's file (`itstrace fingerprint -o`), as NAME.toml in the manifest's folder or
below it. The tables `buggy` and `fixed` are variants of the profile by their flags. `planted` says which event
wrote a component last, as somebody found by reading the trace: what `blame` must answer.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, overload

from replay.judge import WORDS
from tracer.errors import UsageError
from tracer.log.files import Url, Where, read
from tracer.log.text import SUFFIX

TRACE_SUFFIXES: Final = (".itstrace", SUFFIX)
MAX_MANIFEST_BYTES: Final = 65_536
AS_IT_IS: Final = "as it is"
VARIANTS: Final = ("buggy", "fixed")
_KEYS: Final = {
    "shows": str, "sources": list, "profile": str, "target": str, "expect": str,
    "signature": str, "strict": bool, "reason": str, "source": str, "digest": str, "bug": str,
}  # fmt: skip
_PLANTED_KEYS: Final = {
    "component": str, "because": str, "seq": int, "queued_by": int, "behind": list,
}  # fmt: skip
_VARIANT_KEYS: Final = frozenset(("flags", "expect", "signature", "reason", "source"))


@dataclass(frozen=True, slots=True)
class Expectation:
    """A word, and a signature when it is a finding, under some flags."""

    name: str
    expect: str
    signature: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planted:
    """Who wrote a component last, or took it away; `seq` None: no event of the trace did."""

    component: str
    because: str
    seq: int | None = None
    queued_by: int | None = None  # the mem.write of the command that did
    behind: tuple[int, ...] = ()  # events that it rests on


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a trace must show, under its profile and under the variants."""

    path: Where
    values: dict[str, Any]
    expectations: tuple[Expectation, ...]
    planted: Planted | None = None

    @property
    def strict(self) -> bool:
        """Whether bits of which no clause speaks count, too."""
        return bool(self.values.get("strict"))

    @property
    def profile(self) -> str | None:
        """The profile to replay on; None: as the trace's header says."""
        value = self.values.get("profile")
        return None if value is None else str(value)

    @property
    def profile_path(self) -> Where | None:
        """The file that the profile is in; None where it is one that we know."""
        name = self.profile
        return self.path.parent / name if name and name.endswith(".toml") else None

    @property
    def _of_bug(self) -> Expectation | None:
        told = {each.name: each for each in self.expectations if each.signature}
        return told.get(AS_IT_IS) or told.get("buggy")

    @property
    def bug(self) -> str | None:
        """The signature of the bug that no build may show again."""
        return self._of_bug.signature if self._of_bug else None

    @property
    def flags_of_bug(self) -> dict[str, Any]:
        """The flags under which the profile shows it."""
        return self._of_bug.flags if self._of_bug else {}

    @property
    def flags(self) -> set[str]:
        """The behaviour flags that the variants speak of."""
        return {name for each in self.expectations for name in each.flags}


@overload
def manifest_path(trace: Path) -> Path: ...
@overload
def manifest_path(trace: Where) -> Where: ...
def manifest_path(trace: Where) -> Where:
    """Return where a trace's manifest is."""
    name = trace.name
    for suffix in TRACE_SUFFIXES:
        name = name.removesuffix(suffix)
    return trace.with_name(name + ".toml")


def read_manifest(path: Where) -> Manifest:
    """Read a manifest.

    Raises:
        UsageError: it cannot be read, or says something that no manifest says.
    """
    try:
        values = tomllib.loads(read(path, MAX_MANIFEST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from error
    variants = {name: values.pop(name) for name in VARIANTS if name in values}
    planted = _planted(path, values.pop("planted")) if "planted" in values else None
    for key, value in values.items():
        if key not in _KEYS or not isinstance(value, _KEYS[key]):
            raise UsageError(f"{path}: {key} = {value!r:.60} is not for a manifest")
    found = []
    if "expect" in values:
        found.append(_expectation(path, AS_IT_IS, values))
    for name, variant in variants.items():
        if not isinstance(variant, dict) or not isinstance(variant.get("flags"), dict):
            raise UsageError(f"{path}: [{name}] must have flags = {{ ... }}")
        for key in variant.keys() - _VARIANT_KEYS:
            raise UsageError(f"{path}: [{name}] {key} is not for a manifest")
        found.append(_expectation(path, name, variant))
    if not found:
        raise UsageError(f"{path}: expect must say what the trace shows")
    _check_profile(path, values.get("profile"))
    return Manifest(path, values, tuple(found), planted)


def _check_profile(path: Where, name: str | None) -> None:
    """Refuse a profile's file outside the manifest's folder: a stranger may have written this."""
    if name is None or not name.endswith(".toml"):
        return
    try:
        inside = _is_below(path.parent, name)
    except (ValueError, OSError, RuntimeError):  # a NUL in it, a link to itself
        inside = False
    if not inside:
        raise UsageError(f"{path}: profile must be a file in this folder, not {name!r:.60}")


def _is_below(folder: Where, name: str) -> bool:
    if isinstance(folder, Url):
        return re.fullmatch(r"\w[\w.+-]*(/\w[\w.+-]*)*", name) is not None
    folder = folder.resolve()
    return (folder / name).resolve().is_relative_to(folder)


def looks_like_manifest(path: Where) -> bool:
    """Return whether a TOML file is a manifest, of whatever trace; others lie about, too."""
    try:
        values = tomllib.loads(read(path, MAX_MANIFEST_BYTES).decode())
    except (UsageError, ValueError, RecursionError):
        return False
    variants = [values.get(name) for name in VARIANTS]
    return "expect" in values or any(isinstance(v, dict) and "expect" in v for v in variants)


def _planted(path: Where, values: Any) -> Planted:
    if not isinstance(values, dict):
        raise UsageError(f"{path}: planted must be a table")
    for key, value in values.items():
        if not isinstance(value, _PLANTED_KEYS.get(key, ())):
            raise UsageError(f"{path}: [planted] {key} = {value!r:.60} is not for a manifest")
    if not {"component", "because"} <= values.keys():
        raise UsageError(f"{path}: [planted] must have component and because")
    return Planted(**values | {"behind": tuple(values.get("behind", ()))})


def _expectation(path: Where, name: str, values: dict[str, Any]) -> Expectation:
    expect, signature = values.get("expect"), values.get("signature")
    if expect not in WORDS:
        raise UsageError(f"{path}: expect must be one of {', '.join(WORDS)}, not {expect!r:.40}")
    if signature is not None and not isinstance(signature, str):
        raise UsageError(f"{path}: signature must be a text")
    return Expectation(name, expect, signature, dict(values.get("flags", {})))
