"""Reproducers on every kernel that is here: each shows its bug where it is, and nowhere else.

`make test-bugs`. A version that nobody has measured is only held to what every kernel does.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from replay import cli, kernels
from replay.export.kvm_c import export
from replay.export.plot import WAYS, plot_of
from tests.replay.test_export_kvm_c import F1, F3, F4, SCENARIOS, by_a_guest, compiles
from tests.support import kselftest
from tracer.errors import UsageError
from tracer.log.opening import open_trace

KERNELS = kernels.here()
TOOLS = ("qemu-system-aarch64", kselftest.COMPILER)
pytestmark = [
    pytest.mark.skipif("ITSTRACE_BUGS" not in os.environ, reason="make test-bugs"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {' and '.join(TOOLS)}"),
]
IDS = [each.version for each in KERNELS]
DYING_OF_K23 = re.compile(r"5\.10\.|6\.1\.176|6\.12\.107")
LEAVING_DTES = re.compile(r"5\.10\.")
each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=IDS)


def run(trace, kernel, tmp_path, *words, options="oops=panic panic=-1"):
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "exported.c"
    assert cli.main(["export", str(trace), "--to", "kvm-c", "-o", str(source), *words]) == 0
    return kselftest.run(source, kernel.path, options=options)


@each_kernel
def test_f4_kills_the_kernels_that_have_it(kernel, tmp_path):
    tap = run(F4, kernel, tmp_path)
    if DYING_OF_K23.match(kernel.version):
        assert tap.died_in == "vgic_its_save_tables_v0"
        assert not tap.good
    else:
        assert tap.good == {1: "the host lives after SAVE_TABLES"}
        assert tap.exit == 0


@each_kernel
def test_f4_is_told_by_a_host_that_outlives_its_oops(kernel, tmp_path):
    tap = run(F4, kernel, tmp_path, options="")
    dies = bool(DYING_OF_K23.match(kernel.version))
    assert tap.exit == int(dies), tap.console
    assert tap.whole()


@each_kernel
def test_f3_is_told_by_its_round_trip(kernel, tmp_path):
    tap = run(F3, kernel, tmp_path)
    assert tap.whole(), tap.console
    has_it = bool(LEAVING_DTES.match(kernel.version))
    assert tap.exit == int(has_it)
    assert list(tap.bad.values()) == ["event 24: MSI DeviceID=0x0 EventID=0x0"] * has_it


@each_kernel
@pytest.mark.parametrize("guest", [False, True], ids=["vmm", "guest"])
def test_f1_is_told_on_every_kernel_by_its_reset(kernel, guest, tmp_path):
    trace = tmp_path / "f1.its.txt"
    trace.write_text(by_a_guest(F1.read_text()) if guest else F1.read_text())
    tap = run(trace, kernel, tmp_path, "--ask", "reset")
    assert tap.whole(), tap.console
    assert tap.exit == 1
    assert "event 32: pending table of vCPU 0 +0x400" in tap.bad.values()
    assert "event 19: GITS_CTLR" in tap.good.values()


@each_kernel
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("F1-cured-by-lpis-off", "reset"),
        ("S01-K1-ctrl-reset-forgets-the-mappings", "reset"),
        ("S01-K1-ctrl-reset-forgets-the-mappings", "outputs"),
        ("S05-discard-then-msi", "outputs"),
    ],
)
def test_a_clean_trace_is_all_ok_on_every_kernel(name, how, kernel, tmp_path):
    tap = run(SCENARIOS / f"{name}.its.txt", kernel, tmp_path, "--ask", how)
    assert tap.whole(), tap.console
    assert not tap.bad, tap.console
    assert tap.exit == 0


def kvm_scenarios():
    return [
        path
        for path in sorted(SCENARIOS.glob("*.its.txt"))
        if re.search(r'^# profile: "linux', path.read_text(), re.MULTILINE)
    ]


@pytest.mark.parametrize("path", kvm_scenarios(), ids=lambda path: path.name.split(".")[0])
def test_every_scenario_compiles_in_every_way(path, tmp_path):
    with open_trace(str(path)) as reader:
        header, events = reader.header, [event for _, frame in reader for event in frame]
    for how in WAYS:
        try:
            plot = plot_of(events, str(path), how)
        except UsageError:
            continue
        compiles(export(header, plot).text, tmp_path)


@pytest.mark.parametrize("path", kvm_scenarios(), ids=lambda path: path.name.split(".")[0])
def test_every_scenario_is_answered_as_recorded_by_the_kernel_that_it_names(path, tmp_path):
    wanted = re.search(r'^# profile: "linux-([\d.]+)"', path.read_text(), re.MULTILINE)[1]
    found = [each for each in KERNELS if each.version.startswith(f"{wanted}-")]
    if not found:
        pytest.skip(f"linux-{wanted} is not here")
    tap = run(path, found[0], tmp_path, "--ask", "outputs")
    assert tap.whole(), tap.console
    assert not tap.bad, tap.console


@each_kernel
def test_a_random_life_of_a_thousand_operations_kills_the_same_kernels(kernel, tmp_path):
    trace = tmp_path / "life.itstrace"
    words = ["--profile", "linux-6.1.192", "--seed", "1", "--events", "1000", "-o", str(trace)]
    assert cli.main(["generate", *words]) == 0
    tap = run(trace, kernel, tmp_path, "--ask", "crash")
    if DYING_OF_K23.match(kernel.version):
        assert tap.died_in == "vgic_its_save_tables_v0"
    else:
        assert (tap.exit, len(tap.good)) == (0, 1), tap.console


@pytest.mark.parametrize(
    "name",
    [
        "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz",
        "kvm-6.1.192-kvm-unit-tests-its-trigger.ftrace.txt.gz",
        "kvm-6.1.192-boot-stop-reset-boot.stream.txt.gz",
        "kvm-6.1.192-qemu-7.2-system-reset.stream.txt.gz",
    ],
)
def test_a_capture_is_answered_as_recorded(name, tmp_path):
    found = [each for each in KERNELS if each.version.startswith("6.1.192-")]
    if not found:
        pytest.skip("linux-6.1.192 is not here")
    trace = tmp_path / "capture.itstrace"
    assert cli.main(["import", str(SCENARIOS.parent / name), "-o", str(trace)]) == 0
    tap = run(trace, found[0], tmp_path, "--ask", "outputs")
    assert tap.whole(), tap.console
    assert not tap.bad, tap.console
    assert len(tap.good) > 30


@each_kernel
def test_without_debugfs_a_clean_file_is_no_proof_and_f1_is_still_seen(kernel, tmp_path):
    options = "oops=panic panic=-1 debugfs=off"
    cured = SCENARIOS / "F1-cured-by-lpis-off.its.txt"
    tap = run(cured, kernel, tmp_path, "--ask", "reset", options=options)
    assert tap.whole(), tap.console
    assert (tap.exit, len(tap.skipped), tap.bad) == (4, 1, {})
    tap = run(F1, kernel, tmp_path / "again", "--ask", "reset", options=options)
    assert tap.exit == 1
    assert "all of guest RAM" in tap.bad.values()


def test_a_host_without_kvm_skips(tmp_path):
    if not KERNELS:
        pytest.skip("no kernel is here: itstrace kernels SUITE")
    source = tmp_path / "exported.c"
    assert cli.main(["export", str(F1), "--to", "kvm-c", "-o", str(source)]) == 0
    tap = kselftest.run(source, KERNELS[0].path, options="kvm-arm.mode=none")
    assert (tap.plan, tap.exit) == (0, 4), tap.console
    assert Path(source).exists()
