"""`itstrace fuzz`: a planted difference is found, named, kept and shown again by `run`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replay import cli
from replay.commands import fuzz as fuzz_module
from replay.lockstep import Difference, lockstep, signature
from replay.targets.errors import TargetError
from replay.targets.spec import Targets, parse
from tests.support.kernels import kernel
from tracer.events import make
from tracer.log.opening import open_trace

NO_QEMU = shutil.which("qemu-system-aarch64") is None


def fuzz(capsys, tmp_path, *words):
    code = cli.main(["fuzz", *words, "-o", str(tmp_path / "out"), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_profiles_that_differ_are_told_apart_and_the_trace_shows_it_again(capsys, tmp_path):
    targets = ["--target", "model:linux-6.1.192", "--target", "model:linux-6.12.107"]
    code, answer = fuzz(capsys, tmp_path, *targets, "--seeds", "10")
    assert code == 1
    found = answer["differences"]
    assert found
    for name, seen in found.items():
        assert name.split(":")[0] in ("divergent", "crash")
        assert len(list((tmp_path / "out").glob(Path(seen["trace"]).name))) == 1
        assert cli.main(["run", seen["trace"], *targets]) == 1
        assert f"event {seen['seq']}: the targets answer differently" in capsys.readouterr().out


def test_what_is_found_is_minimised_when_that_is_asked_for(capsys, tmp_path):
    targets = ["--target", "model:linux-6.1.192", "--target", "model:linux-6.12.107"]
    words = ("--seeds", "1", "--events", "300", "--minimize")
    code, answer = fuzz(capsys, tmp_path, *targets, *words)
    assert code == 1
    ((name, seen),) = answer["differences"].items()
    with open_trace(seen["least"]) as reader, Targets() as made:
        events = [event for _, frame in reader for event in frame]
        specs = [parse(text) for text in targets[1::2]]
        difference = lockstep(made, specs, reader.header, events).difference
    assert signature(difference) == name
    assert difference.seq <= 40 < seen["seq"]


def test_a_profile_agrees_with_itself(capsys, tmp_path):
    targets = ["--target", "model:linux-6.1.192", "--target", "model:linux-6.1.192"]
    code, answer = fuzz(capsys, tmp_path, *targets, "--seeds", "5")
    assert (code, answer["lives"], answer["differences"]) == (0, 5, {})
    assert answer["agreed"] > 2500


@pytest.mark.skipif(NO_QEMU, reason="qemu-system-aarch64 is not installed")
def test_qemu_and_its_model_agree_inside_and_out(capsys, tmp_path):
    targets = ["--target", "model:qemu-7.2.22", "--target", "qemu"]
    code, answer = fuzz(capsys, tmp_path, *targets, "--seeds", "5")
    assert (code, answer["differences"]) == (0, {})
    assert answer["agreed"] > 2500


@pytest.mark.skipif(NO_QEMU, reason="qemu-system-aarch64 is not installed")
def test_a_model_with_a_bug_that_qemu_does_not_have_is_found(capsys, tmp_path):
    targets = ["--target", "model:qemu-6.2", "--target", "qemu"]
    code, answer = fuzz(capsys, tmp_path, *targets, "--seeds", "3")
    assert (code, answer["lives"]) == (1, 3)
    assert any(name.startswith("divergent:") for name in answer["differences"])


def test_a_kernel_and_its_model_agree(capsys, tmp_path):
    targets = ["--target", "model:linux-6.1.192", "--target", f"kvm:{kernel('living')}"]
    code, answer = fuzz(capsys, tmp_path, *targets, "--seeds", "10")
    assert (code, answer["differences"], answer["not_judged"]) == (0, {}, 0)


def test_a_host_that_is_lost_is_kept_like_a_difference(capsys, tmp_path, monkeypatch):
    real, lives = fuzz_module.lockstep, []

    def failing(*words):
        lives.append(words)
        if len(lives) in (2, 4):
            raise TargetError(f"kvm:K: it does not answer within {60 + len(lives)} s")
        return real(*words)

    monkeypatch.setattr(fuzz_module, "lockstep", failing)
    targets = ["--target", "model:linux-6.1.192", "--target", "model:linux-6.1.192"]
    code, answer = fuzz(capsys, tmp_path, *targets, "--seeds", "5")
    assert (code, answer["lives"]) == (1, 5)
    ((name, seen),) = answer["differences"].items()
    assert (name, seen["seeds"]) == ("lost:kvm:K: it does not answer within N s", [1, 3])
    assert Path(seen["trace"]).exists()


def test_a_target_that_cannot_live_the_first_life_ends_it(capsys, tmp_path):
    words = ["--target", "model:linux-6.1.192", "--target", "kvm:/nowhere/Image"]
    assert cli.main(["fuzz", *words, "-o", str(tmp_path)]) == 4
    assert "there is no such kernel image" in capsys.readouterr().err


def test_one_target_is_no_comparison(capsys):
    assert cli.main(["fuzz", "--target", "model"]) == 2
    assert "give --target twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("event", "answers", "name"),
    [
        (make("reg.read", 0, offset=0, value=0), (1, 2), "divergent:reg.read:value"),
        (make("save", 0), ([(75, 0)], []), "divergent:save:count"),
        (
            make("msi", 0, device_id=1, event_id=1),
            ([(69, 0)], [(69, 1)]),
            "divergent:msi:msi.result",
        ),
        (make("save", 0), ([(75, 0)], "crash in f"), "crash:f"),
    ],
)
def test_a_signature_names_what_differs_without_identifiers(event, answers, name):
    pairs = tuple(zip(("a", "b"), answers, strict=True))
    assert signature(Difference(9, event, pairs, ({}, {}), ())) == name


# -- nothing is left running


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(each) for each in path.read_text().split()] if path.exists() else []


def gone(pids, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(
            Path(f"/proc/{pid}").exists()
            and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
            for pid in pids
        ):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(NO_QEMU, reason="qemu-system-aarch64 is not installed")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["qemu", "kvm"])
def test_no_machine_outlives_itstrace(tmp_path, number, kind):
    other = "qemu" if kind == "qemu" else f"kvm:{kernel('living')}"
    model = "model:qemu-7.2.22" if kind == "qemu" else "model:linux-6.1.192"
    words = ["fuzz", "--target", model, "--target", other, "--seeds", "100000", "-o", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "replay.cli", *words], stdout=subprocess.PIPE)
    try:
        pids = []
        while not pids and process.poll() is None:
            pids = children(process.pid)
            time.sleep(0.02)
        os.kill(process.pid, number)
        code = process.wait(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert code == (130 if number == signal.SIGINT else -number)
    assert gone(pids)
