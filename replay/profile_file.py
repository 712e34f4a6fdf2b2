"""A profile as a file: what `itstrace fingerprint` measured on an image of your own.

TOML: `name`, `nearest` (the known profile that it is compared with), `image`, and `[flags]`. Flags
that no life told stand there as the nearest profile has them, and are named in `assumed`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from typing import Any, Final

from replay.profiles import FLAGS, PROFILES, Profile
from tracer.errors import UsageError
from tracer.log.files import read

MAX_BYTES: Final = 1 << 16
_NAME: Final = re.compile(r"[a-z]+-[A-Za-z0-9.+~-]{1,60}")


def read_profile(path: str) -> Profile:
    """Return the profile that a file holds.

    Raises:
        UsageError: it is no such file.
    """
    try:
        data = read(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path}: a profile has at most {MAX_BYTES} bytes")
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: this is no profile: {error}") from error
    return _profile(path, values)


def _profile(path: str, values: dict[str, Any]) -> Profile:
    name, nearest = values.get("name"), values.get("nearest")
    flags, assumed = values.get("flags"), values.get("assumed", [])
    start = PROFILES.get(nearest) if isinstance(nearest, str) else None
    if start is None or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{path}: `name` and `nearest`, a known profile, must be there")
    known = {row.name for row in FLAGS[start.family]}
    if not isinstance(flags, dict) or not isinstance(assumed, list):
        raise UsageError(f"{path}: [flags] must be a table, and `assumed` a list")
    for flag, value in flags.items():
        if flag not in known or type(value) is not type(getattr(start.choices, flag)):
            raise UsageError(f"{path}: flag {flag!r:.60} must not be {value!r:.40}")
    return Profile(
        name, start.family, replace(start.choices, **flags),
        assumed=frozenset(str(each) for each in assumed) & known,
    )  # fmt: skip


def format_profile(name: str, nearest: Profile, image: str, told: dict[str, Any]) -> str:
    """Return the text of a profile file."""
    flags = {row.name: getattr(nearest.choices, row.name) for row in FLAGS[nearest.family]}
    assumed = [flag for flag in flags if told.get(flag) is None]
    flags |= {flag: value for flag, value in told.items() if value is not None}
    return "\n".join(
        [
            f"name = {_text(name)}",
            f"nearest = {_text(nearest.name)}",
            f"image = {_text(image)}",
            f"assumed = [{', '.join(map(_text, assumed))}]",
            "",
            "[flags]",
            *(f"{flag} = {str(value).lower()}" for flag, value in flags.items()),
            "",
        ]
    )


def _text(value: str) -> str:
    """Return a TOML string; what it cannot hold is left out."""
    plain = "".join(each for each in value if each.isprintable() and each not in '"\\')
    return f'"{plain}"'
