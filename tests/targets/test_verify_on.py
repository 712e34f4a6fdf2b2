"""Check 3 on real kernels: what is found in each, with nobody telling where to look.

Runs on every kernel that `itstrace kernels` finds here (`make test-targets`); a version that nobody
has measured is only held to what every kernel does.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from replay import cli, kernels
from tests.support.clean_lives import CleanLife
from tracer.log.stream import Writer

SCENARIOS = Path(__file__).parents[2] / "traces/scenarios"
TOOLS = ("qemu-system-aarch64", "aarch64-linux-gnu-gcc")
KERNELS = kernels.here()
pytestmark = [
    pytest.mark.skipif(not KERNELS, reason="no kernel is here: itstrace kernels SUITE"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {' and '.join(TOOLS)}"),
]
# version -> (components that a round trip carries after MAPD V=0 and after DISCARD, the chapters
# that a host dies of), as measured: docs/equivalence.md
MEASURED = {
    "5.10.223": (("devices", "events"), ("p11", "p11 two-level")),
    "6.1.176": (("", ""), ("p9", "p11", "p11 two-level")),
    "6.1.192": (("", ""), ()),
    "6.12.117": (("", ""), ()),
    "7.2.13": (("", ""), ()),
}
IDS = [each.version for each in KERNELS]


def upstream(kernel):
    return kernel.version.partition("-")[0]


def verify(capsys, kernel, trace, *words):
    code = cli.main(
        ["verify", str(trace), "--on", f"kvm:{kernel.path}", "--probe", "--json", *words]
    )
    captured = capsys.readouterr()
    assert captured.out, captured.err  # a target that cannot judge says why
    return code, json.loads(captured.out)["questions"]


def scenario(name):
    return SCENARIOS / f"{name}.its.txt"


def differing(question, *statuses):
    return {each["component"] for each in question["differences"] if each["status"] in statuses}


@pytest.mark.parametrize("kernel", KERNELS, ids=IDS)
def test_f1_is_found_on_every_kernel_and_cured_by_switching_lpis_off(kernel, capsys):
    code, questions = verify(capsys, kernel, scenario("F1-lpi-outlives-ctrl-reset"), "--at", "18")
    by_kind = {each["kind"] or each["what"]: each for each in questions}
    orphans = [e for e in by_kind["ctrl_reset"]["differences"] if e["component"] == "lpis"]
    assert code == 1
    assert differing(by_kind["ctrl_reset"], "stale") == {"lpis"}
    assert {each["blame"]["seq"] for each in orphans} == {16}
    mapped = next(each for each in orphans if each["chapter"] == "p4")
    assert ("pending" in mapped["one"], "pending" in mapped["other"]) == (True, False)
    assert differing(by_kind["system"], "stale", "carried in RAM") == set()
    # F5: bits that no clause names, on every kernel
    assert {"GITS_BASER0", "GITS_BASER1"} <= differing(by_kind["ctrl_reset"], "unspecified")


@pytest.mark.parametrize("kernel", KERNELS, ids=IDS)
def test_a_round_trip_carries_what_was_measured(kernel, capsys):
    if upstream(kernel) not in MEASURED:
        pytest.skip("nobody has measured this version")
    names = ("S06-K17-F3-mapd-unmap-leaves-its-entry", "S07-K18-discard-leaves-its-entry")
    for name, component in zip(names, MEASURED[upstream(kernel)][0], strict=True):
        words = ("--at", "17", "--kind", "round trip")
        code, (trip,) = verify(capsys, kernel, scenario(name), *words)
        assert code == bool(component)
        assert differing(trip, "stale", "carried in RAM") - {"lpis"} == {*filter(None, [component])}
        writers = {each["ram"]["by"] for each in trip["differences"] if each["ram"]}
        assert writers <= {"device"}


@pytest.mark.parametrize("kernel", KERNELS, ids=IDS)
def test_hosts_die_of_what_was_measured(kernel, capsys):
    if upstream(kernel) not in MEASURED:
        pytest.skip("nobody has measured this version")
    places = ("--at", "2", "--at", "3", "--at", "4", "--at", "5", "--kind", "ctrl_reset")
    code, questions = verify(capsys, kernel, scenario("F5-baser-keeps-its-address"), *places)
    died = [each["crash"] for each in questions if each["crash"]]
    assert tuple(each["chapter"] for each in died) == MEASURED[upstream(kernel)][1]
    assert {each["function"] for each in died} <= {"vgic_its_save_tables_v0"}
    assert all(any("NULL pointer" in line for line in each["oops"]) for each in died)
    assert code == bool(died)


@pytest.mark.parametrize("kernel", KERNELS, ids=IDS)
def test_a_saved_pending_bit_outlives_its_event_on_every_kernel(kernel, capsys):
    trace = scenario("its12-saved-pending-bit-outlives-its-event")
    words = ("--kind", "pending tables", "--at", "16", "--at", "24")
    code, (before, after) = verify(capsys, kernel, trace, *words)
    assert (code, before["verdict"], after["verdict"]) == (1, "equal", "carried in RAM")
    (bit,) = after["differences"]
    assert (bit["component"], bit["key"]) == ("lpis", "8192")
    assert (bit["ram"]["by"], bit["ram"]["seq"]) == ("device", 15)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kernel", KERNELS, ids=IDS)
def test_a_clean_life_comes_out_clean(kernel, seed, tmp_path, capsys):
    if MEASURED.get(upstream(kernel), ((), "unknown"))[1]:
        pytest.skip("a host of this kernel dies of the probe itself, or may")
    life, path = CleanLife(seed, steps=20), tmp_path / "life.itstrace"
    with path.open("wb") as out:
        writer = Writer(out, life.header)
        for event in life.events:
            writer.add(event)
        writer.close()
    code, questions = verify(capsys, kernel, path)
    assert (code, {each["verdict"] for each in questions}) == (0, {"equal"})
    assert all(each["equal"] for each in questions)


@pytest.mark.parametrize("kernel", KERNELS, ids=IDS)
def test_the_recorded_run_is_answered_by_the_model_alike_and_shows_the_lpi(
    kernel, tmp_path, capsys
):
    if upstream(kernel) not in MEASURED or MEASURED[upstream(kernel)][1]:
        pytest.skip("nobody has measured this version, or its host dies")
    trace, out = scenario("F1-lpi-outlives-ctrl-reset"), tmp_path / "run.itstrace"
    words = ("--at", "18", "--kind", "ctrl_reset", "--record", str(out))
    assert verify(capsys, kernel, trace, *words)[0] == 1
    profile = ("--profile", f"linux-{upstream(kernel)}")
    assert cli.main(["check", str(out), *profile, "--json"]) == 0
    tally = json.loads(capsys.readouterr().out)
    assert tally["outputs"] == tally["matched"] > 300
    assert cli.main(["show", str(out)]) == 0
    reset, _, after = capsys.readouterr().out.partition("reset how=ctrl_reset")
    assert reset
    assert "lpi.live cause=0 intid=8192" in after.partition("reg.read")[0]
