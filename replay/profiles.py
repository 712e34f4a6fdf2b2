"""Profiles by name: which model, with which choices and flags, answers as which measured image."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from replay.model.qemu.profile import QEMU_V3, QEMU_V4, QemuProfile
from tracer.errors import UsageError


@dataclass(frozen=True, slots=True)
class Profile:
    """`basis` is `measured` on that image, or `read` in its sources."""

    name: str
    family: str
    choices: QemuProfile
    basis: str = "measured"


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("qemu-7.2.22", "qemu", QEMU_V3),
        Profile("qemu-10.0.13", "qemu", QEMU_V3),
        Profile("qemu-7.2.22-gicv4", "qemu", QEMU_V4),
        Profile("qemu-10.0.13-gicv4", "qemu", replace(QEMU_V4)),
    )
}

_NAME: Final = re.compile(r"([a-z]+)-([0-9]+(?:\.[0-9]+)*)(-[a-z0-9]+)?")


def find(name: str) -> tuple[Profile, str | None]:
    """Return the profile called `name`, or the nearest lower one with a sentence that says so.

    Raises:
        UsageError: nothing of that family is known.
    """
    exact = PROFILES.get(name)
    if exact:
        return exact, None
    match = _NAME.fullmatch(name)
    near = _nearest(*match.groups()) if match else None
    if near is None:
        raise UsageError(f"profile must be one of {', '.join(PROFILES)}, not {name!r:.80}")
    return near, f"no profile {name}: taking the nearest one, {near.name}"


def _nearest(family: str, version: str, suffix: str | None) -> Profile | None:
    wanted = _numbers(version)
    same = [
        (_numbers(match[2]), profile)
        for profile in PROFILES.values()
        if (match := _NAME.fullmatch(profile.name)) and match[1] == family and match[3] == suffix
    ]
    if not same:
        return None
    lower = [item for item in same if item[0] <= wanted]
    return max(lower, key=_by_version)[1] if lower else min(same, key=_by_version)[1]


def _by_version(item: tuple[tuple[int, ...], Profile]) -> tuple[int, ...]:
    return item[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part[:9]) for part in version.split("."))
