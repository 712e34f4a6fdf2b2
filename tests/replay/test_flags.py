"""Behaviour flags: complete tables, each of them seen in an answer, and profiles told apart."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from replay.model.kvm.flags import FLAGS as KVM_FLAGS, KvmFlags
from replay.model.kvm.profiles import ASSUMED, SOURCES
from replay.model.qemu.profile import FLAGS as QEMU_FLAGS, QemuProfile
from replay.profiles import PROFILES
from tests.conformance import Run, flipped, profile_of, read_lines, replay_lines

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "replay" / "model"
VECTORS = sorted((ROOT / "tests" / "vectors").glob("*/*.txt.gz"))
KVM_NAMES = sorted(row.name for row in KVM_FLAGS)
ROWS = [pytest.param(row, id=row.name) for row in (*KVM_FLAGS, *QEMU_FLAGS)]
# QEMU's profile holds constants too: what a register reads, whether there are vPEs.
QEMU_CONSTANTS = {
    "typer", "iidr", "ctlr_reset", "baser_reset", "pidr0", "pidr2", "gicr_ctlr_reset",
    "creadr_writable", "virtual", "intid_bits",
}  # fmt: skip
# A number is flipped to another number.
NUMBERS = {
    "translation_cache_entries_per_vcpu": {16: -1, -1: 16},
    "gic_implementation_revision": {2: 3, 3: 2},
}
# False is told by nothing but the death of the host.
DEADLY = {"save_zeroes_ite_without_collection"}
DIES = {"linux-5.10.223", "linux-6.1.176", "linux-6.12.107"}


@cache
def lines_of(path):
    return read_lines(path)


def mismatches(path, profile):
    run = Run()
    replay_lines(lines_of(path), path.name, profile, run)
    return run.mismatches


def differs(path, profile):
    """Say whether any answer differs, a few lives at a time."""
    lines = lines_of(path)
    starts = [index for index, line in enumerate(lines) if line.startswith("#")]
    edges = [*starts[::8], len(lines)]
    for start, end in pairwise(edges):
        run = Run()
        replay_lines(lines[start:end], path.name, profile, run)
        if run.mismatches:
            return True
    return False


def kvm(kind, kernel):
    return ROOT / "tests" / "vectors" / "kvm" / f"{kind}.{kernel}.txt.gz"


# -- profiles


# The numbers of lines in which two kernels differ, counted in the vectors themselves.
DIFFERENT = {
    ("linux-5.10.223", "linux-6.1.192"): 1941,
    ("linux-5.10.223", "linux-6.12.107"): 2769,
    ("linux-5.10.223", "linux-7.2.13"): 2323,
    ("linux-6.1.192", "linux-6.12.107"): 901,
    ("linux-6.1.192", "linux-7.2.13"): 393,
    ("linux-6.12.107", "linux-7.2.13"): 1218,
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_four_kernels_are_exact_under_their_own_set_only(one, other):
    mine, theirs = lines_of(kvm("deepsafe", one)), lines_of(kvm("deepsafe", other))
    differ = sum(a != b for a, b in zip(mine, theirs, strict=True))
    assert differ == DIFFERENT[one, other]
    assert mismatches(kvm("deepsafe", one), PROFILES[other]) == differ
    assert mismatches(kvm("deepsafe", other), PROFILES[one]) == differ


def test_the_deep_lives_tell_the_newest_kernels_apart():
    assert mismatches(kvm("deep", "linux-6.1.192"), PROFILES["linux-7.2.13"]) == 968


def test_the_wide_lives_tell_little():
    """Flat tables, the distributor off: what made everybody believe that kernels are alike."""
    wide = kvm("wide", "linux-6.1.192")
    assert mismatches(wide, PROFILES["linux-7.2.13"]) == 0
    assert mismatches(wide, PROFILES["linux-6.12.107"]) == 4
    assert differs(kvm("edge", "linux-6.1.192"), PROFILES["linux-7.2.13"])


MEASURED = [path.name.split(".", 1)[1].removesuffix(".txt.gz") for path in VECTORS]
MEASURED = sorted({name for name in MEASURED if kvm("flags", name).exists()})


@pytest.mark.parametrize("kernel", MEASURED)
def test_the_flag_lives_of_a_kernel_fit_no_other_measured_profile(kernel):
    others = {name for name, source in SOURCES.items() if source == "measured"} - {kernel}
    fitting = {name for name in others if not differs(kvm("flags", kernel), PROFILES[name])}
    assert fitting == set()


# -- one flag at a time


def other_value(profile, name):
    """Return the profile with the flag's other value."""
    value = getattr(profile.choices, name)
    return flipped(profile, f"{name}={NUMBERS[name][value]}" if name in NUMBERS else name)


@cache
def told_by_flag_lives(kernel):
    """Return the flags whose other value changes an answer."""
    path, profile = kvm("flags", kernel), PROFILES[kernel]
    return {name for name in KVM_NAMES if differs(path, other_value(profile, name))}


@pytest.mark.parametrize("kernel", MEASURED)
def test_each_flag_alone_changes_an_answer_of_its_life(kernel):
    """What ASSUMED says of a kernel is exactly what its flag lives cannot tell."""
    hidden = ASSUMED[kernel] | (DEADLY if kernel in DIES else set())
    assert told_by_flag_lives(kernel) == set(KVM_NAMES) - hidden


def test_every_flag_but_one_is_told_on_some_kernel():
    told = set().union(*map(told_by_flag_lives, MEASURED))
    assert set(KVM_NAMES) - told == {"translation_cache_per_its"}  # it takes two ITSes


@pytest.mark.parametrize("row", QEMU_FLAGS, ids=lambda row: row.name)
def test_each_flag_of_qemu_changes_an_answer(row):
    paths = [path for path in VECTORS if "qemu" in path.name]
    assert any(differs(path, flipped(PROFILES[profile_of(path)], row.name)) for path in paths)


def test_a_baser_that_is_not_there_can_be_written_before_7_0():
    life = ["# seed 0 cpus 1", "W 118 8000000040100000", "R 118 0"]
    run = Run()
    replay_lines(life, "life", PROFILES["qemu-7.2.22"], run)
    assert (run.checked, run.mismatches) == (1, 0)
    replay_lines(life, "life", PROFILES["qemu-6.2"], run)
    assert run.mismatches == 1


# -- the tables


def test_tables_and_fields_are_the_same():
    assert sorted(field.name for field in fields(KvmFlags)) == KVM_NAMES
    named = {field.name for field in fields(QemuProfile)} - QEMU_CONSTANTS
    assert sorted(row.name for row in QEMU_FLAGS) == sorted(named)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_complete(row):
    assert re.fullmatch(r"[a-z][a-z0-9_]+", row.name)
    assert re.fullmatch(r"[KQ]\d+|-", row.bug)
    assert re.fullmatch(r"[0-9a-f]{12}|unknown", row.commit)
    assert row.subject
    assert re.match(r"v\d+\.\d+|unknown", row.first)


@pytest.mark.parametrize("row", ROWS)
def test_a_flag_is_asked_for_and_some_profiles_differ_in_it(row):
    family = "kvm" if row in KVM_FLAGS else "qemu"
    tables = ("flags.py", "profiles.py", "profile.py")
    sources = [path for path in (MODEL / family).glob("*.py") if path.name not in tables]
    assert any(f".{row.name}" in path.read_text() for path in sources)
    profiles = [profile for profile in PROFILES.values() if profile.family == family]
    values = {getattr(profile.choices, row.name) for profile in profiles}
    # All releases that have a profile are newer than the fix of K21.
    assert len(values) == 2 or row.name in NUMBERS or row.name == "failed_itt_restore_frees_device"


def test_only_the_catalogues_know_profiles():
    for path in MODEL.rglob("*.py"):
        if path.name not in ("profiles.py", "profile.py"):
            text = path.read_text()
            assert "PROFILES" not in text
            assert not re.search(r"[\"'](linux|qemu)-\d", text)


def test_every_profile_says_how_it_is_known():
    measured = {name for name, source in SOURCES.items() if source == "measured"}
    assert measured == ASSUMED.keys()
    assert set(MEASURED) == measured
    assert all(assumed <= set(KVM_NAMES) for assumed in ASSUMED.values())
    known = PROFILES["linux-6.1.192"].flags()
    assert known["movall_moves_source_only"] == [True, "measured"]
    assert known["translation_cache_per_its"] == [False, "read"]
    assert {how for _, how in PROFILES["linux-6.7"].flags().values()} == {"read"}
