"""What `record` makes of the monitor's answers; recording itself is in tests/real."""

from __future__ import annotations

import pytest

from replay.commands.record import _header
from replay.profiles import PROFILES


def version(major, minor, micro):
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""}


@pytest.mark.parametrize(
    ("numbers", "profile", "guessed"),
    [
        ((6, 1, 0), "qemu-6.2", True),
        ((7, 2, 21), "qemu-6.2", True),
        ((7, 2, 22), "qemu-7.2.22", False),
        ((9, 2, 0), "qemu-7.2.22", True),
        ((10, 0, 13), "qemu-10.0.13", False),
        ((11, 0, 0), "qemu-10.0.13", True),
    ],
)
def test_the_version_names_a_profile(numbers, profile, guessed):
    header = _header(b"", {"version": version(*numbers), "cpus": [{}, {}]})
    assert header.profile == profile in PROFILES
    assert ("profile" in header.guessed) is guessed
    assert header.implementation_version == ".".join(map(str, numbers))
    assert "implementation_version" not in header.guessed
    assert header.cpus == 2


@pytest.mark.parametrize(
    ("answers", "profile"),
    [
        ({"gic-version": "4"}, "qemu-10.0.13-gicv4"),
        ({"gic-version": "max", "virtualization": True}, "qemu-10.0.13-gicv4"),
        ({"gic-version": "max", "virtualization": False}, "qemu-10.0.13"),
        ({"gic-version": "3", "virtualization": True}, "qemu-10.0.13"),
    ],
)
def test_the_machine_names_a_profile(answers, profile):
    assert _header(b"", {"version": version(10, 0, 13), **answers}).profile == profile


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"version": None, "cpus": None},
        {"version": {"qemu": []}, "cpus": {}},
        {"version": version("7", 2, 22), "cpus": []},
        {"version": version(7, 2, 2**70), "cpus": [0] * 513},
    ],
)
def test_odd_answers_leave_the_guesses(answers):
    header = _header(b"", answers)
    assert {"implementation_version", "profile"} <= set(header.guessed)
    assert header.cpus is None
