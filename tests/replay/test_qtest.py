"""QEMUs that do one thing wrong: each ends in a TargetError that says so, and none is left running."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from replay import cli
from replay.targets import qtest
from replay.targets.errors import TargetError
from replay.targets.qtest import Qtest

FAKE = Path(__file__).parents[1] / "support/fake_qemu.py"


@pytest.fixture
def binary(tmp_path, monkeypatch):
    monkeypatch.setattr(qtest, "PATIENCE_SECONDS", 3.0)

    def make(mode):
        path = tmp_path / f"qemu-{mode}"
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {mode} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


def test_lines_are_answered_in_order_and_its_version_is_known(binary):
    found = Qtest(binary("good"), [], traced=False)
    try:
        assert found.run(["readl 0x0", "readl 0x4"]) == ["0x2a", "0x2a"]
        assert (found.version, found.package) == ((9, 1, 2), "mine")
        assert found.run([f"writeq {at:#x} 0x0" for at in range(5000)]) == ["0x2a"] * 5000
    finally:
        found.close()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuses", "ended with status 1: qemu: Property 'virt-9.1-machine.its' not found"),
        ("mute", "its monitor does not answer"),
        ("no-json", "its monitor says what is no JSON"),
        ("deep", "its monitor says what is no JSON"),
        ("no-message", "its monitor says what is no message"),
        ("no-greeting", "its monitor does not greet as QEMU's does"),
        ("refuses-qmp", "qmp_capabilities: "),
    ],
)
def test_what_does_not_start_as_qemu_does_is_refused(binary, mode, said):
    with pytest.raises(TargetError) as caught:
        Qtest(binary(mode), [], traced=False)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("deaf", "no answer to 'readl 0x0'"),
        ("garbage", "is no answer to 'readl 0x0'"),
        ("fails", "b'FAIL Unknown command' is no answer to 'readl 0x0'"),
        ("too-many", "is no answer to 'readl 0x4'"),
        ("endless", "an answer without an end"),
        ("dies", "ended with status 3: qemu: assertion failed"),
    ],
)
def test_what_is_no_answer_is_refused(binary, mode, said):
    found = Qtest(binary(mode), [], traced=False)
    try:
        with pytest.raises(TargetError) as caught:
            found.run(["readl 0x0", "readl 0x4"])
        assert said in str(caught.value)
    finally:
        found.close()


LIFE = """\
# itstrace: 1
# implementation: "qemu-tcg"
# profile: "qemu-7.2.22"
# cpus: 1
# guest_ram: "complete"
# ram_ranges: [[1073741824, 67108864]]
0 +0 reset how=power_on
1 +0 reg.read offset=0x100 value=0x107000000000200
"""


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuses", "qemu-refuses: ended with status 1"),
        ("mute", "qemu-mute: its monitor does not answer"),
        ("garbage", "is no answer to"),
        ("dies", "qemu-dies: ended with status 3"),
        ("no-number", "qemu-9.1.2: 'what' is no number"),
    ],
)
def test_such_a_qemu_cannot_judge_a_trace(binary, mode, said, tmp_path, capsys):
    path = tmp_path / "t.its.txt"
    path.write_text(LIFE)
    assert cli.main(["run", str(path), "--target", f"qemu:{binary(mode)}"]) == 4
    assert said in capsys.readouterr().err
