"""Which behaviour flags does an image have? Told by what it answers to short lives.

The lives are in `replay.fingerprint_lives`. A flag is told when exactly one of its values makes the
model answer its life as the image did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from replay.fingerprint_lives import LIVES, SILENT, Script
from replay.fingerprint_qemu import QEMU_LIVES
from replay.model.kvm.state import HostCrash
from replay.profiles import FLAGS, PROFILES, Profile
from replay.vectors import OPERATIONS, new_vm
from tracer.errors import SourceError

# The numbers that a flag with a number can be.
CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "translation_cache_entries_per_vcpu": (-1, 0, 16),
    "gic_implementation_revision": (0, 2, 3),
}
_BOTH: Final = (True, False)
LIVES_OF: Final = {"kvm": LIVES, "qemu": QEMU_LIVES}
_DIES: Final = "the host dies"  # in which function, is told differently by what was inlined
# Reading vgic-state after this life never ends on 6.10 to 6.12.
HANGS_SOME: Final = frozenset({"debugfs_hides_intids_above_16_bits"})
_MAX_ROUNDS: Final = 4


def header(index: int, script: Script) -> str:
    """Return the header line of a life; `stride` is the distance of the vcpu_ids."""
    stride = f" stride {script.stride}" if script.stride > 1 else ""
    return f"# seed {index} cpus {script.cpus} gicr 8100000{stride}"


def answers(profile: Profile, script: Script) -> list[str]:
    """Return what the model answers to a life; the death of the host ends it."""
    vm = new_vm(profile, header(0, script))
    given: list[str] = []
    for line in script.lines:
        operation, inputs = OPERATIONS[profile.family][line[0]]
        fields = line.split()
        try:
            answer = operation(vm, fields)
        except HostCrash as crash:
            return [*given, str(crash)]
        given.append(" ".join(fields[:inputs] + ([answer] if answer else [])))
    return given


def kills(profile: Profile, script: Script) -> bool:
    """Return whether a life kills the host."""
    return "dies" in answers(profile, script)[-1]


def vectors(profile: Profile | None) -> Iterable[str]:
    """Yield the lines of all lives; with a profile, without what would kill or hang that host."""
    for index, (name, script) in enumerate(LIVES.items()):
        if profile and (kills(profile, script) or _hangs(profile, name)):
            continue
        yield header(index, script)
        yield from script.lines


def _hangs(profile: Profile, name: str) -> bool:
    """A host whose walk of live LPIs is in INTID order may not find the end of the listing."""
    return name in HANGS_SOME and bool(profile.choices.lpis_walked_in_intid_order)


def read_answers(lines: Iterable[str], path: str) -> dict[str, list[str]]:
    """Return flag -> the lines that an image answered to its life.

    Raises:
        SourceError: the file holds other lives.
    """
    names = list(LIVES)
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        words = line.split()
        if line.startswith("#"):
            if len(words) < 3 or not words[2].isdecimal() or int(words[2]) >= len(names):
                raise SourceError(f"{path}: {line[:60]!r} is not the life of a flag")
            current = found.setdefault(names[int(words[2])], [])
        elif words and current is not None:
            current.append(" ".join(words))
    return found


def tell(found: dict[str, list[str]], start: Profile) -> dict[str, Any]:
    """Return flag -> value, None where no value or more than one fits the answers.

    Flags are told one after another from the nearest known profile, until nothing changes: some
    lives depend on a second flag.
    """
    profile = start
    told: dict[str, Any] = {}
    for _ in range(_MAX_ROUNDS):
        before = dict(told)
        for name, seen in found.items():
            fitting = [value for value in _values(name) if _fits(profile, name, value, seen)]
            told[name] = fitting[0] if len(fitting) == 1 else None
            if len(fitting) == 1:
                profile = _with(profile, name, fitting[0])
        if told == before:
            break
    return told


def nearest(found: dict[str, list[str]], family: str = "kvm") -> Profile:
    """Return the profile that answers most of the lives alike."""
    profiles = [
        each
        for each in PROFILES.values()
        if each.family == family and not each.name.endswith("-gicv4")
    ]
    lives = LIVES_OF[family]
    return max(
        profiles,
        key=lambda each: sum(
            _alike(answers(each, lives[name]), seen) for name, seen in found.items()
        ),
    )


def _values(name: str) -> tuple[Any, ...]:
    return CHOICES.get(name, _BOTH)


def _with(profile: Profile, name: str, value: object) -> Profile:
    return replace(profile, choices=replace(profile.choices, **{name: value}))


def _fits(profile: Profile, name: str, value: object, seen: list[str]) -> bool:
    return _alike(answers(_with(profile, name, value), LIVES_OF[profile.family][name]), seen)


def _alike(given: list[str], seen: list[str]) -> bool:
    """Return whether answers are the same, wherever the host died."""
    return [_place(line) for line in given] == [_place(line) for line in seen]


def _place(line: str) -> str:
    return _DIES if line.startswith(_DIES) else line


def flag_names() -> list[str]:
    """Return every KVM flag that a life tells, in the order of the table."""
    return [row.name for row in FLAGS["kvm"] if row.name not in SILENT]
