"""Generated lives: the same bytes everywhere, dense, and answered by the model of their profile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from replay import cli
from replay.generator.answers import generate, header_of
from replay.generator.dice import Dice
from replay.profiles import find
from tracer.events import NUMBER, fields_of, kind_name
from tracer.its.commands import Opcode
from tracer.log.opening import open_trace

ROOT = Path(__file__).parents[2]
PROFILES = ["linux-5.10.223", "linux-6.1.192", "linux-7.2.13", "qemu-7.2.22"]


def lives(name, seeds=range(20), events=1000):
    profile = find(name)[0]
    return [list(generate(seed, profile, events)) for seed in seeds]


def test_the_dice_are_splitmix64():
    # The first numbers of seed 1234567, as the algorithm's authors and Java's SplittableRandom have them.
    dice = Dice(1234567)
    assert [dice.number() for _ in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


def test_the_dice_keep_their_limits_and_weights():
    dice = Dice(1)
    assert {dice.below(3) for _ in range(100)} == {0, 1, 2}
    counted = Counter(dice.weighted([(3, "a"), (1, "b"), (0, "c")]) for _ in range(4000))
    assert set(counted) == {"a", "b"}
    assert 2.5 < counted["a"] / counted["b"] < 3.5
    assert not any(dice.chance(0) for _ in range(100))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("suffix", [".itstrace", ".its.txt"])
def test_the_same_seed_gives_the_same_bytes(tmp_path, name, suffix):
    made = []
    for at, hashes in enumerate(("0", "1")):
        path = tmp_path / f"{at}{suffix}"
        words = ["generate", "--seed", "7", "--profile", name, "--events", "300", "-o", str(path)]
        subprocess.run(
            [sys.executable, "-m", "replay.cli", *words],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hashes},
        )
        made.append(path.read_bytes())
    assert made[0] == made[1]
    assert cli.main([*words[:2], "8", *words[3:], "--force"]) == 0
    assert path.read_bytes() != made[0]


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_other_pythons_give_the_same_bytes(version):
    """Only where `make pythons` has made an environment for that version."""
    other = ROOT / ".cache" / f"venv-{version}" / "bin" / "python"
    if not other.exists():
        pytest.skip(f"no environment for Python {version}: `make pythons` makes one where it is")
    words = ["-m", "replay.cli", "generate", "--seed", "7", "--profile", "linux-6.1.192", "-o", "-"]
    made = [
        subprocess.run([python, *words], cwd=ROOT, check=True, capture_output=True).stdout
        for python in (sys.executable, other)
    ]
    assert made[0] == made[1] != b""


@pytest.mark.parametrize("name", PROFILES)
def test_a_life_is_a_trace_that_checks_without_a_divergence(tmp_path, capsys, name):
    path = tmp_path / "t.itstrace"
    assert cli.main(["generate", "--seed", "3", "--profile", name, "-o", str(path)]) == 0
    assert cli.main(["check", str(path)]) == 0
    assert "0 not judged, 0 divergent" in capsys.readouterr().out
    with open_trace(str(path)) as reader:
        assert reader.header.annotations == {"seed": "3", "answers": f"model {name}"}


@pytest.mark.parametrize("name", PROFILES[:3])
def test_half_of_the_msis_are_delivered(name):
    results = Counter(
        fields_of(event)["result"]
        for life in lives(name)
        for event in life
        if event[0] == NUMBER["msi.result"]
    )
    assert results[1] > 0.45 * sum(results.values()), results
    assert results[0] > 0
    assert results[-16] > 0


@pytest.mark.parametrize("name", PROFILES)
def test_everything_happens(name):
    found = lives(name)
    kinds = Counter(kind_name(event[0]) for life in found for event in life)
    wanted = {"reg.read", "gicr.read", "mem.read", "msi", "reset", "gicr.write", "mem.write"}
    if name.startswith("linux"):
        wanted |= {"save", "restore", "save_pending", "lpi.live", "attr.result"}
    assert wanted <= set(kinds)
    opcodes = {
        event[3][0]
        for life in found
        for event in life
        if event[0] == NUMBER["mem.write"] and len(event[3]) == 32
    }
    assert {each for each in Opcode if each < 0x20} <= opcodes
    two_levels = [
        any(e[0] == NUMBER["reg.write"] and e[2] == 0x100 and e[3] >> 62 & 1 for e in life)
        for life in found
    ]
    assert 5 <= sum(two_levels) <= 15


def test_a_life_ends_before_what_kills_its_host():
    frail = [event for life in lives("linux-5.10.223", range(60)) for event in life]
    unmapped = [
        event
        for event in frail
        if event[0] == NUMBER["mem.write"] and len(event[3]) == 32 and event[3][0] == Opcode.MAPC
        and not event[3][23] & 0x80
    ]  # fmt: skip
    assert not unmapped
    assert any(event[0] == NUMBER["restore"] for event in frail)


def test_a_guest_does_the_first_part_of_some_lives():
    origins = {
        fields_of(event)["origin"]
        for life in lives("linux-6.1.192", range(30))
        for event in life
        if event[0] == NUMBER["reg.write"]
    }
    assert origins == {0, 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "xen-4.20"], "lives are generated for linux-* and qemu-* profiles"),
        (["--profile", "linux-6.1.192", "--events", "0"], "--events must be 1 to"),
        (["--profile", "vms-1"], "profile must be one of"),
    ],
)
def test_what_cannot_be_generated_is_said(tmp_path, capsys, words, said):
    code = cli.main(["generate", "--seed", "1", *words, "-o", str(tmp_path / "t.itstrace")])
    assert (code, said in capsys.readouterr().err) == (2, True)


def test_the_header_follows_from_what_was_asked():
    profile = find("linux-6.1.192")[0]
    assert header_of(1, profile, 10) == header_of(1, profile, 10)
    assert header_of(1, profile, 10).uuid != header_of(2, profile, 10).uuid
