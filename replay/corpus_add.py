"""A manifest for a trace, from what is seen in it now: from then on it must show just that.

Counterparts: `replay.manifest`, which reads manifests, and `replay.corpus`, which runs traces against them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from replay.corpus import profile_of
from replay.judge import judge
from replay.manifest import Manifest, manifest_path
from tracer.errors import DamagedTrace, NewerTrace, UsageError
from tracer.log.header import Header
from tracer.log.opening import open_trace, write_output

NOTHING: Final = "unproven"
MAX_REASON_CHARS: Final = 2000
MAX_SOURCE_CHARS: Final = 200  # a sender chose what the header says


def add(
    trace: Path, reason: str, *, profile: str | None = None, strict: bool = False,
    force: bool = False, source: str | None = None,
) -> Path:  # fmt: skip
    """Write a trace's manifest and return where it is; `force` overwrites one that is there.

    Raises:
        UsageError: there is one, or the trace shows nothing that a manifest could hold it to.
        TraceError: the trace is damaged, or of a newer itstrace.
    """
    path = manifest_path(trace)
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already; --force overwrites it")
    text = manifest_text(trace, reason, profile=profile, strict=strict, force=force, source=source)
    write_output(str(path), text.encode(), force=force)
    return path


def manifest_text(
    trace: Path, reason: str, *, profile: str | None = None, strict: bool = False,
    force: bool = False, source: str | None = None,
) -> str:  # fmt: skip
    """Return the manifest of a trace as it is now; `force` takes one that shows nothing, too."""
    if not reason.strip() or len(reason) > MAX_REASON_CHARS:
        raise UsageError(f"a reason must have 1 to {MAX_REASON_CHARS} characters")
    path = manifest_path(trace)
    values: dict[str, Any] = {} if profile is None else {"profile": _named(profile, path)}
    with open_trace(str(trace)) as reader:
        chosen = profile_of(Manifest(path, values, ()), reader.header, {})
        found = judge(reader, chosen, strict=strict)
        header, digest = reader.header, reader.chain.hex()
        if reader.status == "damaged":
            at = reader.problems[-1]
            raise DamagedTrace(str(trace), at.offset, f"{at.what}: it cannot be a test")
    if found.engine.unknown_inputs:
        raise NewerTrace(str(trace), 0, "it holds inputs of a newer itstrace: update itstrace")
    if found.word == NOTHING and not force:
        raise UsageError(
            f"{trace}: nothing was observed that a build could get wrong (unproven); --force takes it"
        )
    values = {"reason": reason, "source": source or _source(header)} | values
    values |= {"strict": True} if strict else {}
    values["expect"] = found.word
    if found.signatures:
        values["signature"] = found.signatures[0]
    values |= {"digest": digest} if digest else {}
    others = [f"# also found: {_text(each)[1:-1]}" for each in found.signatures[1:]]
    return "\n".join([*others, *(f"{key} = {_text(each)}" for key, each in values.items()), ""])


def _named(profile: str, manifest: Path) -> str:
    """Return a profile's name, or its file as seen from the manifest's folder."""
    if not profile.endswith(".toml"):
        return profile
    name = os.path.relpath(profile, manifest.parent)
    if name.startswith(os.pardir):
        raise UsageError(f"{profile}: a profile's file must be in {manifest.parent} or below it")
    return Path(name).as_posix()


def _source(header: Header) -> str:
    """Return in a few words what wrote the trace, as its header tells."""
    who = [header.implementation or header.profile or "an unknown implementation"]
    if header.implementation_version:
        who.append(header.implementation_version)
    return f"{' '.join(who)}, recorded by {header.source or 'nobody knows whom'}"[:MAX_SOURCE_CHARS]


def _text(value: Any) -> str:
    """Return a value as TOML: what JSON escapes, TOML reads; but DEL, and no lone surrogates."""
    if isinstance(value, bool):
        return str(value).lower()
    plain = str(value).encode("utf-8", "replace").decode()
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
