"""`minimize --target`: two stages, one journal, and a last look; models stand in for targets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from replay import cli
from replay.commands import minimize as verb
from replay.commands.minimize import _name_of
from replay.kernels import Kernel
from replay.minimize.crash_oracle import CrashOracle
from replay.minimize.journal import Journal
from tracer.log.header import Header

SCENARIOS = Path(__file__).parents[2] / "traces/scenarios"
TRIP = "S06-K17-F3-as-5.10-answered"
DIES = "S09-K23-F4-save-after-mapc-unmap"


def without_manifest(name, folder, events=None):
    """The scenario alone, or its first events."""
    lines = (SCENARIOS / f"{name}.its.txt").read_text().splitlines()
    told = [line for line in lines if not line.startswith("#")][:events]
    path = folder / "given.its.txt"
    path.write_text("\n".join([*(each for each in lines if each.startswith("# ")), *told]) + "\n")
    return path


def minimize(capsys, path, target, *words):
    least = path.with_name("least.its.txt")
    code = cli.main(["minimize", str(path), "--target", target, "-o", str(least), "--json", *words])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else captured.err, least


@pytest.mark.parametrize(
    ("says", "targets", "version", "profile"),
    [
        ("6.1.176-1", ["kvm:Image"], "6.1.176", "linux-6.1.176"),
        ("6.1.180-1", ["kvm:Image"], "6.1.180", "linux-6.1.176"),  # the nearest lower one
        ("unknown", ["kvm:Image"], "6.1.192", "linux-6.1.192"),
        ("6.1.176-1", ["kvm:Image", "kvm:Image"], "6.1.192", "linux-6.1.192"),
        ("6.1.176-1", ["model:linux-5.10.223"], "6.1.192", "linux-6.1.192"),
    ],
)
def test_a_result_is_of_the_kernel_that_answered(monkeypatch, says, targets, version, profile):
    monkeypatch.setattr(verb, "kernel_at", lambda path: Kernel(path, says, ""))
    life = Header(implementation_version="6.1.192", profile="linux-6.1.192")
    header = verb._of_target(life, argparse.Namespace(target=targets))
    assert (header.implementation_version, header.profile) == (version, profile)


def test_what_a_trace_shows_need_not_be_said(capsys, tmp_path):
    path = without_manifest(TRIP, tmp_path)
    code, answer, least = minimize(capsys, path, "model:linux-5.10.223")
    assert (code, answer["signature"], answer["confirmed"]) == (0, "stale:restore:device", "")
    code = cli.main(["verify", str(least), "--on", "model:linux-5.10.223", "--json"])
    assert code == 1
    assert '"devices"' in capsys.readouterr().out


def test_a_trace_that_shows_nothing_is_refused(capsys, tmp_path):
    path = without_manifest("S05-discard-then-msi", tmp_path)
    code, said, _ = minimize(capsys, path, "model:linux-6.1.192")
    assert (code, "shows nothing on model:linux-6.1.192" in said) == (2, True), said


def test_a_search_that_was_stopped_goes_on_through_both_stages(capsys, tmp_path):
    path = without_manifest(TRIP, tmp_path, events=15)
    words = ("--signature", "stale:restore:device", "--journal", str(tmp_path / "journal"))
    code, first, least = minimize(capsys, path, "model:linux-5.10.223", *words)
    told = least.read_text()
    assert (code, first["resumed"]) == (0, 0)
    assert "reset how=ctrl_reset" in told  # which the life, of the first stage, has not
    code, again, _ = minimize(capsys, path, "model:linux-5.10.223", *words, "--force")
    assert (code, again["asked"], again["resumed"] >= first["asked"] > 0) == (
        0,
        first["asked"],
        True,
    )
    assert least.read_text() == told


def test_an_answer_of_one_stage_is_none_of_the_next():
    journal, digest = Journal(), bytes(16)
    journal.put(digest, True)
    journal.next_stage()
    assert journal.get(digest) is None
    journal.put(digest, False)
    assert journal.get(digest) is False


def test_what_fresh_targets_do_not_show_alone_is_said_and_no_success(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(CrashOracle, "confirm", lambda self, least: "it is flaky: 1 of 2")
    path = without_manifest(DIES, tmp_path)
    least = tmp_path / "least.its.txt"
    words = ["minimize", str(path), "--target", "model:linux-6.1.176", "-o", str(least)]
    assert cli.main(words) == 4
    assert "it is flaky: 1 of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("kvm:/a/b/Image", "kvm:Image"),
        ("model:linux-6.1.176", "model:linux-6.1.176"),
        ("qemu", "qemu"),
    ],
)
def test_a_target_is_named_without_the_folders_of_this_machine(target, name):
    assert _name_of(target) == name
