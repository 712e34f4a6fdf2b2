"""A real QEMU as a target: captures, scenarios and recorded lives are carried out on it.

Needs qemu-system-aarch64. That each comparison can fail is seen by changing what the trace says.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from replay import cli

QEMU = "qemu-system-aarch64"
ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(
    path
    for path in (ROOT / "traces/scenarios").glob("*.its.txt")
    if '# profile: "qemu-7' in path.read_text()
)
CAPTURES = sorted((ROOT / "traces").glob("qemu-7.2.22-*.log*"))
pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not installed")


def run(capsys, *words):
    code = cli.main(["run", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(params=CAPTURES, ids=lambda path: path.stem)
def capture(request, tmp_path):
    trace = tmp_path / "t.itstrace"
    assert cli.main(["import", str(request.param), "-o", str(trace)]) == 0
    return trace


def test_a_capture_has_no_divergence_on_the_qemu_that_made_it(capture, capsys):
    capsys.readouterr()
    code, out, _ = run(capsys, capture, "--target", "qemu")
    assert (code, " 0 divergent" in out) == (0, True), out
    unjudged = [line for line in out.splitlines() if ": not judged, " in line]
    assert all(" x lpi.ack: " in line for line in unjudged), out  # its CPUs do not run


def test_a_probed_trace_has_no_divergence_on_the_qemu_that_made_it(capsys):
    trace = ROOT / "traces/qemu-7.2.22-bare-metal-probed.itstrace"
    code, out, _ = run(capsys, trace, "--target", "qemu")
    assert (code, " 0 divergent" in out) == (0, True), out


def test_qemu_and_the_model_answer_a_capture_alike(capture, capsys):
    capsys.readouterr()
    code, out, _ = run(capsys, capture, "--target", "qemu", "--target", "model")
    assert (code, ", none differs: " in out) == (0, True), out


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name.removesuffix(".its.txt"))
def test_a_scenario_is_answered_as_it_stands(path, capsys):
    code, out, _ = run(capsys, path, "--target", "qemu", "--keep-going")
    assert (code, " 0 divergent" in out) == (0, True), out


LIFE = """\
# itstrace: 1
# implementation: "qemu-tcg"
# profile: "qemu-7.2.22"
# cpus: 2
# guest_ram: "complete"
# ram_ranges: [[1073741824, 67108864]]
0 +0 reset how=power_on
1 +0 reg.read offset=0x100 value=0x107000000000200
2 +0 reg.write offset=0x100 value=0x8000000040010000
3 +0 reg.read offset=0x100 value=0x8107000040010000
4 +0 reset how=system
5 +0 reg.read offset=0x100 value=0x107000000000200
"""


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "t.its.txt"
        path.write_text(text)
        return path

    return make


def test_a_value_that_qemu_does_not_give_is_found_with_what_it_gives(write, capsys):
    changed = LIFE.replace(
        "5 +0 reg.read offset=0x100 value=0x107", "5 +0 reg.read offset=0x100 value=0x8107"
    )
    code, out, _ = run(capsys, write(changed), "--target", "qemu")
    assert code == 1
    assert "event 5: reg.read: value differs" in out
    assert "expected 0x107000000000200    by qemu-7.2.22" in out


def test_the_first_divergence_ends_the_run_unless_it_is_to_keep_going(write, capsys):
    changed = LIFE.replace("0x107000000000200", "0x1")
    code, out, _ = run(capsys, write(changed), "--target", "qemu")
    assert (code, "1 divergent" in out, "event 5" in out) == (1, True, False)
    code, out, _ = run(capsys, write(changed), "--target", "qemu", "--keep-going")
    assert (code, "2 divergent" in out, "event 5" in out) == (1, True, True)


def test_targets_that_differ_are_shown_side_by_side(write, capsys):
    life = (
        LIFE
        + "6 +0 reg.write offset=0x88 value=0x20\n7 +0 reg.write offset=0x80 value=0x8000000040030000\n8 +0 reg.read offset=0x88 value=0x20\n"
    )
    code, out, _ = run(capsys, write(life), "--target", "qemu", "--target", "model:linux-6.1.192")
    assert code == 1
    assert "event 1: the targets answer differently" in out
    assert "  qemu-7.2.22          0x107000000000200\n" in out
    assert "  model linux-6.1.192  0x1907000000000600\n" in out


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("qemu:/nowhere/qemu", "/nowhere/qemu: No such file or directory"),
        ("qemu:/bin/true", "/bin/true: ended with status 0"),
        (f"qemu:{sys.executable}", "ended with status 2"),
        ("qemu:/bin/cat", "/bin/cat: "),
    ],
)
def test_what_is_no_qemu_cannot_judge(write, capsys, target, said):
    code, _, err = run(capsys, write(LIFE), "--target", target)
    assert (code, said in err) == (4, True), err


def test_what_qemu_does_not_have_cannot_be_judged(write, capsys):
    code, _, err = run(capsys, write(LIFE + "6 +0 save\n"), "--target", "qemu")
    assert (code, "has no save: that is KVM's" in err) == (4, True)


def test_a_target_that_there_is_not_is_a_wrong_usage(write, capsys):
    code, _, err = run(capsys, write(LIFE), "--target", "xen")
    assert (code, "--target must be model[:PROFILE], qemu[:BINARY] or kvm[:KERNEL]" in err) == (
        2,
        True,
    )


def test_an_msi_that_no_device_can_send_is_not_judged(write, capsys):
    msi = "6 +0 reg.write offset=0x0 value=0x1 size=4\n7 +0 msi device_id=0x12345 event_id=0x1\n8 +0 table.fault cause=1 table=dte index=0x12345 base=0x0\n"
    code, out, _ = run(capsys, write(LIFE + msi), "--target", "qemu")
    assert (code, "1 not judged, 0 divergent" in out) == (0, True), out


def test_a_trace_that_joins_a_running_vm_cannot_be_judged(write, capsys):
    joined = LIFE.replace("# cpus: 2\n", '# cpus: 2\n# starts: "running"\n')
    code, _, err = run(capsys, write(joined), "--target", "qemu")
    assert (code, "begins in the middle of a VM's life" in err) == (4, True)
