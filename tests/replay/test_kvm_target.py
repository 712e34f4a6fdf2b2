"""A kernel's KVM as a target: real ones, and hosts that do one thing wrong.

The real ones need qemu-system-aarch64, a cross compiler and a kernel (`tests.support.kernels`); they
show that a scenario is answered as it stands, and what a kernel that dies looks like.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from replay import cli
from replay.targets import kvm as kvm_module, kvm_boot, spec
from replay.targets.errors import TargetError
from replay.targets.kvm_boot import FINDINGS, Gone, Host
from tests.support.kernels import kernel

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests/support/fake_kvm_host.py"
SCENARIOS = ROOT / "traces/scenarios"
# Not those of VMs that were joined: no target can be brought to the middle of a life.
CAPTURES = sorted(
    path for path in (ROOT / "traces").glob("kvm-6.1.192-*.gz") if "-joined" not in path.name
)
LIFE = """\
# itstrace: 1
# implementation: "linux-kvm"
# profile: "linux-6.1.192"
# cpus: 2
# guest_ram: "complete"
# ram_ranges: [[1073741824, 67108864]]
0 +0 reset how=power_on
1 +0 reg.write offset=0x100 value=0x8000000040010000 origin=vmm
2 +0 attr.result cause=1 errno=0
3 +0 reg.read offset=0x100 value=0x9907000040010200 origin=vmm
4 +0 reset how=ctrl_reset origin=vmm
5 +0 attr.result cause=1 errno=0
6 +0 reg.read offset=0x100 value=0x1907000040010200 origin=vmm
7 +0 reg.read offset=0x40 value=0x0 origin=vmm
8 +0 attr.result cause=1 errno=-6
9 +0 reg.read offset=0x8 value=0x1ef71
10 +0 reg.write offset=0x108 value=0x8000000040020000
11 +0 reg.read offset=0xc value=0x0 size=4
12 +0 reg.read offset=0x108 value=0x9c07000040020200 origin=vmm
"""


@pytest.fixture
def run(capsys, tmp_path):
    def go(text, *words):
        path = tmp_path / "t.its.txt"
        if isinstance(text, str):
            path.write_text(text)
        else:
            path = text
        code = cli.main(["run", str(path), *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


# -- real kernels


@pytest.fixture(scope="module")
def booted():
    """One boot serves every test."""
    host = kvm_boot.boot(str(kernel("living")))
    yield host
    host.close()


@pytest.fixture
def living(monkeypatch, booted):
    monkeypatch.setattr(spec, "boot", lambda _: booted)
    monkeypatch.setattr(booted, "close", lambda: None)
    return "kvm:living"


def test_a_life_is_answered_by_attributes_and_by_a_vcpu(run, living):
    code, out, err = run(LIFE, "--target", living)
    assert (code, "9 outputs: 9 matched" in out) == (0, True), (out, err)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("value=0x1907000040010200", "value=0x1907000000000600", "event 6: reg.read: value"),
        ("errno=-6", "errno=0", "event 8: attr.result: errno"),
        ("value=0x1ef71", "value=0x1ef70", "event 9: reg.read: value"),
        ("5 +0 attr.result cause=1 errno=0", "5 +0 attr.result cause=1 errno=-22", "event 5: attr"),
    ],
)
def test_each_answer_that_the_kernel_does_not_give_is_found(run, living, old, new, place):
    code, out, _ = run(LIFE.replace(old, new), "--target", living)
    assert (code, place in out) == (1, True), out


@pytest.mark.parametrize(
    "name",
    ["F1-lpi-outlives-ctrl-reset", "S09-K23-F4-save-after-mapc-unmap", "S12-K25-dte-with-size-31"],
)
def test_a_scenario_is_answered_as_it_stands(run, living, name):
    code, out, _ = run(SCENARIOS / f"{name}.its.txt", "--target", living, "--keep-going")
    assert (code, " 0 divergent" in out) == (0, True), out


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name.partition(".txt")[0])
def test_a_capture_has_no_divergence_on_the_kernel_that_made_it(run, living, tmp_path, path):
    trace = tmp_path / "t.itstrace"
    assert cli.main(["import", str(path), "-o", str(trace)]) == 0
    code, out, err = run(trace, "--target", living, "--keep-going")
    assert (code, " 0 divergent" in out) == (0, True), (out, err)
    assert " 0 matched" not in out


def test_a_kernel_and_the_model_answer_alike(run, living):
    code, out, _ = run(LIFE, "--target", living, "--target", "model")
    assert (code, "0 not judged, none differs" in out) == (0, True), out


def test_a_kernel_that_dies_is_a_finding_with_its_last_lines(run, capsys):
    target = f"kvm:{kernel('dying of K23')}"
    path = SCENARIOS / "S09-K23-F4-save-after-mapc-unmap.its.txt"
    code, out, _ = run(path, "--target", target)
    assert code == 1
    assert "event 15: crashed: the host dies in vgic_its_save_tables_v0" in out
    assert "Unable to handle kernel NULL pointer dereference" in out
    code = cli.main(
        ["corpus", "run", str(path), "--matrix", "--target", target, "--target", "model", "--json"]
    )
    row = json.loads(capsys.readouterr().out)["traces"][str(path)]
    assert code == 1
    assert (row[target]["word"], row["model"]["word"]) == ("crashed", "equal")
    assert "vgic_its_save_tables_v0" in row[target]["why"]


def test_what_is_no_kernel_does_not_come_up(run, monkeypatch, tmp_path):
    kernel("living")  # skips where nothing could boot it
    monkeypatch.setattr(kvm_boot, "BOOT_SECONDS", 2.0)
    image = tmp_path / "Image"
    image.write_bytes(b"no kernel")
    code, _, err = run(LIFE, "--target", f"kvm:{image}")
    assert (code, "kvm:Image: it ended" in err or "did not start" in err) == (4, True), err


# -- hosts that are none


@pytest.fixture
def fake(monkeypatch):
    """`kvm:MODE` is a fake host in that mode."""

    def boot(mode):
        host = Host(f"kvm:{mode}")
        try:
            host.start([sys.executable, str(FAKE), mode, host.memory_path], seconds=2)
        except BaseException:
            host.close()
            raise
        return host

    monkeypatch.setattr(spec, "boot", boot)
    monkeypatch.setattr(kvm_module, "BATCH_SECONDS", 1.0)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("silent", "kvm:silent: its program did not start within 2 s"),
        ("no-kvm", "itstrace: no /dev/kvm: this kernel has no KVM"),
        ("no-its", "kvm:no-its: its KVM emulates no ITS here (errno 19)"),
        ("lacks", "kvm:lacks: its kernel lacks the attribute KVM_DEV_ARM_ITS_CTRL_RESET"),
        ("hang", "kvm:hang: it does not answer within 1 s, in 0 +0 reg.write offset=0x100"),
        ("die", "kvm:die: it ended: without a word"),
        ("garbage", "kvm:garbage: its answer is damaged"),
        ("short", "kvm:short: 8 answers to 9 requests"),
        ("long", "kvm:long: 10 answers to 9 requests"),
    ],
)
def test_a_host_that_cannot_judge_says_why(run, fake, mode, said):
    code, out, err = run(LIFE, "--target", f"kvm:{mode}")
    assert (code, said in err) == (4, True), (out, err)


def test_an_oops_is_found_where_it_was_met(run, fake):
    code, out, _ = run(LIFE, "--target", "kvm:oops")
    assert (code, "event 1: crashed: the host dies in vgic_its_save_tables_v0" in out) == (1, True)
    assert "    Internal error: Oops: 0000000096000005 [#1] SMP" in out


def test_what_a_kernel_that_lives_on_complains_of_is_a_finding(run, fake):
    life = LIFE[: LIFE.index("3 +0")]
    code, out, _ = run(life, "--target", "kvm:warn")
    assert code == 1
    assert "its kernel complains: WARNING: CPU: 0 PID: 1 at arch/arm64/kvm/vgic/vgic.c:99" in out
    code, out, _ = run(life, "--target", "kvm:warn", "--json")
    assert (code, len(json.loads(out)["complaints"])) == (1, 1)
    code, out, _ = run(life, "--target", "kvm:good")
    assert (code, "complains" in out) == (0, False)


def test_a_host_that_hangs_is_not_used_again(fake):
    with spec.Targets() as made:
        host = made.host("hang")
        host.wire.lost = True
        assert not host.is_up()
        assert made.host("hang") is not host


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 1 at arch/arm64/kvm/vgic/vgic.c:99 vgic_put_irq+0x1c/0x20",
        "BUG: KASAN: slab-use-after-free in vgic_its_resolve_lpi+0x40/0x200",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [init:1]",
        "WARNING: possible recursive locking detected",
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        "UBSAN: shift-out-of-bounds in arch/arm64/kvm/vgic/vgic-its.c:99",
    ],
)
def test_what_a_kernel_complains_with_is_known(line):
    assert FINDINGS.search(line)


def test_the_native_kvm_is_refused_on_another_machine(run, monkeypatch):
    monkeypatch.setattr(kvm_boot.os, "uname", lambda: type("", (), {"machine": "x86_64"}))
    code, _, err = run(LIFE, "--target", "kvm")
    assert (code, "this is no arm64 machine with /dev/kvm: give a kernel, kvm:KERNEL" in err) == (
        4,
        True,
    )


def test_a_kernel_that_is_not_there_is_said(run):
    code, _, err = run(LIFE, "--target", "kvm:/nowhere/Image")
    assert (code, "/nowhere/Image: there is no such kernel image" in err) == (4, True)


@pytest.mark.skipif(
    not all(map(shutil.which, ("qemu-system-aarch64", "aarch64-linux-gnu-gcc"))),
    reason="needs qemu-system-aarch64 and aarch64-linux-gnu-gcc",
)
def test_what_is_no_kernel_is_told_from_a_kernel_that_says_nothing(run, tmp_path):
    (tmp_path / "a.out").write_bytes(b"\x7fELF" + bytes(5000))
    code, _, err = run(LIFE, "--target", f"kvm:{tmp_path}/a.out")
    assert (code, "no Linux version is in it: kvm:PATH takes an arm64 Image" in err) == (4, True)


# -- what is booted


def test_the_initramfs_is_an_archive_with_one_program(tmp_path):
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    archive = kvm_boot.initramfs(b"\x7fELF and more")
    listed = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True
    ).stdout.decode()
    lines = [line.split() for line in listed.splitlines()]
    assert [(words[0], words[-1]) for words in lines] == [
        ("drwxr-xr-x", "dev"), ("crw-------", "dev/console"), ("-rwxr-xr-x", "init"),
    ]  # fmt: skip
    unpack = partial(subprocess.run, ["cpio", "-i", "--quiet", "init"], cwd=tmp_path, check=True)
    unpack(input=archive)
    assert (tmp_path / "init").read_bytes() == b"\x7fELF and more"


def test_the_program_is_built_without_a_warning_for_arm64(monkeypatch, tmp_path):
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kvm_boot, "_FLAGS", (*kvm_boot._FLAGS, "-Wextra", "-Werror"))
    header = kvm_boot.build().read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64


def test_without_a_compiler_it_is_said_how_to_get_one(monkeypatch):
    monkeypatch.setattr(kvm_boot.shutil, "which", lambda _: None)
    with pytest.raises(
        TargetError, match="is not installed: on Debian, apt-get install gcc-aarch64"
    ):
        kvm_boot.build()


def test_what_a_compiler_says_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'host.c:1: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(kvm_boot, "_compiler", lambda: str(compiler))
    with pytest.raises(TargetError, match=r"cannot build kvm_host: host\.c:1: no such thing"):
        kvm_boot.build()


def test_the_program_is_built_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler, log = tmp_path / "cc", tmp_path / "log"
    compiler.write_text(
        f"#!/bin/sh\necho called >> {log}\n"
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setattr(kvm_boot, "_compiler", lambda: str(compiler))
    assert kvm_boot.build() == kvm_boot.build()
    assert log.read_text() == "called\n"


def test_a_death_is_told_with_its_function():
    gone = Gone(
        "kvm:k", "[  1.0] usual\nUnable to handle kernel paging request\npc : f.isra.0+0x1/0x2\n"
    )
    assert (gone.function, gone.oops[0]) == ("f", "Unable to handle kernel paging request")
    assert str(gone) == "kvm:k: the kernel died in f"
    quiet = Gone("kvm:k", "a\nb\n")
    assert (quiet.oops, str(quiet)) == ([], "kvm:k: it ended: a / b")
