"""Profiles by name: which model, with which choices and flags, answers as which measured image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from replay.model.kvm import flags as kvm_flags, profiles as kvm_profiles
from replay.model.qemu import profile as qemu
from replay.model.xen import profile as xen
from tracer.errors import UsageError


@dataclass(frozen=True, slots=True)
class Profile:
    """`choices` is what the family's model takes; `basis` is `measured` on that image, or `read`.

    `assumed` are flags of a measured image that no answer told and only its sources did.
    """

    name: str
    family: str
    choices: Any
    basis: str = "measured"
    assumed: frozenset[str] = frozenset()

    def flags(self) -> dict[str, list[Any]]:
        """Return flag -> [value, how it is known], as a trace's header spells them out."""
        names = [row.name for row in FLAGS[self.family]]
        return {name: [getattr(self.choices, name), self.known(name)] for name in names}

    def known(self, flag: str) -> str:
        """Return how a flag's value is known: `measured`, `read` or `assumed`."""
        return "read" if flag in self.assumed else self.basis


# family -> its table of behaviour flags
FLAGS: Final[dict[str, tuple[Any, ...]]] = {
    "qemu": qemu.FLAGS,
    "kvm": kvm_flags.FLAGS,
    "xen": xen.FLAGS,
}

PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("qemu-6.2", "qemu", qemu.QEMU_6_2, "read"),
        Profile("qemu-7.2.22", "qemu", qemu.QEMU_V3),
        Profile("qemu-7.2.22-gicv4", "qemu", qemu.QEMU_V4),
        Profile("qemu-10.0.13", "qemu", qemu.QEMU_V3),
        Profile(
            "qemu-10.0.13-gicv4", "qemu", qemu.QEMU_V4_10,
            assumed=frozenset(("vpe_level1_fault_stalls",)),
        ),
        *(
            Profile(
                name, "kvm", choices, kvm_profiles.SOURCES[name],
                kvm_profiles.ASSUMED.get(name, frozenset()),
            )
            for name, choices in kvm_profiles.PROFILES.items()
        ),
        Profile("xen-4.20", "xen", xen.XEN_4_20, "read"),
    )
}  # fmt: skip

_NAME: Final = re.compile(r"([a-z]+)-([0-9]+(?:\.[0-9]+)*)(-[a-z0-9]+)?")


def find(name: str, *, files: bool = False) -> tuple[Profile, str | None]:
    """Return the profile called `name`, or the nearest lower one with a sentence that says so.

    `files`: it may be of a file, NAME.toml; not for names that a trace brings along.

    Raises:
        UsageError: nothing of that family is known.
    """
    if files and name.endswith(".toml"):
        from replay.profile_file import read_profile

        return read_profile(name), None
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
