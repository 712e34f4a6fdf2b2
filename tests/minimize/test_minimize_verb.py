"""`itstrace minimize` as a user has it: what it writes, says, and ends with."""

from __future__ import annotations

import json

import pytest

from replay import cli
from replay.corpus import run_trace
from replay.generator.answers import generate, header_of
from replay.manifest import read_manifest
from replay.profiles import PROFILES
from tests.support.scenarios import SCENARIOS
from tracer.log.opening import open_trace
from tracer.log.stream import Writer

F3 = SCENARIOS / "S06-K17-F3-mapd-unmap-leaves-its-entry.its.txt"
LEAST = """\
0 +0 reg.write offset=0x100 value=0x8000000040100000 origin=vmm
1 +0 reg.write offset=0x108 value=0x8000000040200000 origin=vmm
2 +0 reg.write offset=0x80 value=0x8000000040010000 origin=vmm
3 +0 reg.write offset=0x0 value=0x1 origin=vmm
4 +0 mem.write gpa=0x40010000 data=MAPD(itt_addr=0x40020000,v=0x1)
5 +0 reg.write offset=0x88 value=0x20 origin=vmm
6 +0 save
7 +0 mem.write gpa=0x40010020 data=MAPD()
8 +0 reg.write offset=0x88 value=0x40 origin=vmm
9 +0 save
10 +0 restore
"""


@pytest.fixture
def out(tmp_path):
    return tmp_path / "least.its.txt"


def minimize(trace, out, *options):
    return cli.main(["minimize", str(trace), "-o", str(out), *map(str, options)])


def test_a_scenario_with_its_manifest(out, capsys):
    assert minimize(F3, out) == 0
    text = out.read_text()
    assert text.endswith(LEAST)
    assert "# parent_uuid: " not in text  # a scenario has no uuid
    assert '"mapd_unmap_clears_dte": [false, "given"]' in text
    said = capsys.readouterr().out
    assert said.startswith("suspected:restore:device\n  outputs: none")
    assert "  absent with mapd_unmap_clears_dte = True, as in the original\n" in said
    assert "26 events with 22 inputs -> 11 events with 11 inputs; " in said
    assert "MAPD(ITT_addr=0x40020000, V=0x1)" in said
    assert said.count("without it: nothing is found") == 11
    assert said.endswith("every single one of these is needed: each was left out alone, "
                         "and the bug was gone\n")  # fmt: skip


def test_the_result_is_a_trace_of_a_corpus(out):
    assert minimize(F3, out) == 0
    results = run_trace(out)
    assert [(each.variant, each.got, each.passed) for each in results] == [
        ("buggy", "suspected", True), ("fixed", "equal", True),
    ]  # fmt: skip


def test_a_cure_of_another_image_is_told_as_flags_of_this_one(out, tmp_path):
    life = tmp_path / "life.its.txt"
    text = (SCENARIOS / "S09-K23-F4-save-after-mapc-unmap.its.txt").read_text()
    life.write_text(text)  # answered by linux-6.1.192, and without its manifest
    assert minimize(life, out, "--profile", "linux-6.1.176") == 0
    found = read_manifest(out.with_name("least.toml"))
    flags = [each.flags["save_zeroes_ite_without_collection"] for each in found.expectations]
    assert flags == [False, True]
    assert [(each.got, each.passed) for each in run_trace(out)] == [
        ("crash", True), ("unproven", True),
    ]  # fmt: skip


def test_the_answer_as_json(out, capsys):
    assert minimize(F3, out, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "itstrace.minimize/1"
    assert answer["minimal"] is True
    assert answer["cured_by"] == {"mapd_unmap_clears_dte": True}
    assert (answer["before"]["inputs"], answer["after"]["inputs"]) == (22, 11)
    assert [each["without"] for each in answer["kept"]] == ["nothing is found"] * 11
    assert sum(each["items"] for each in answer["removed"]) >= 10


def test_a_result_cannot_be_made_smaller(out, tmp_path):
    assert minimize(F3, out) == 0
    again = tmp_path / "again.its.txt"
    assert minimize(out, again) == 0
    assert again.read_text().endswith(LEAST)


def test_a_binary_result_and_flags_instead_of_a_manifest(tmp_path):
    life = tmp_path / "life.itstrace"
    profile = PROFILES["linux-6.1.192"]
    with life.open("wb") as stream:
        writer = Writer(stream, header_of(3, profile, 300), name=str(life))
        for event in generate(3, profile, 300):
            writer.add(event)
        writer.close()
    out = tmp_path / "out.itstrace"
    flag = "movall_moves_source_only=false"
    assert minimize(life, out, "--flag", flag, "--signature", "divergent:lpi.live:row") == 0
    with open_trace(str(out)) as reader:
        assert reader.header.parent_uuid == header_of(3, profile, 300).uuid
        assert reader.header.annotations["outputs"] == "made anew by model linux-6.1.192"
        events = [event for _, block in reader for event in block]
    assert 0 < len(events) < 40
    assert [each.passed for each in run_trace(out)] == [True, True]


def test_a_signature_that_is_not_there(out, capsys):
    assert minimize(F3, out, "--profile", "linux-6.1.192", "--signature", "crash:x") == 2
    assert "this trace does not show crash:x" in capsys.readouterr().err
    assert not out.exists()


def test_nothing_is_overwritten(out, capsys):
    out.with_name("least.toml").write_text("mine")
    assert minimize(F3, out) == 2
    assert "least.toml: exists already; --force overwrites it" in capsys.readouterr().err
    assert minimize(F3, out, "--force") == 0
    assert "suspected" in out.with_name("least.toml").read_text()


def test_when_time_runs_out_what_there_is_is_written(out, capsys):
    assert minimize(F3, out, "--max-seconds", 0) == 4
    assert "time ran out: this is not the smallest" in capsys.readouterr().out
    assert [each.passed for each in run_trace(out)] == [True, True]
    assert out.with_name("least.its.txt.journal").exists()
    assert minimize(F3, out, "--force") == 0
    assert out.read_text().endswith(LEAST)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('# checkpoint: [1, ""]', "checkpoint"),
        ("0 +0 msi device_id=1", "event_id"),
    ],
)
def test_a_trace_that_cannot_be_used(tmp_path, out, capsys, text, message):
    trace = tmp_path / "odd.its.txt"
    trace.write_text(f"# itstrace: 1\n{text}\n")
    assert minimize(trace, out, "--profile", "linux-6.1.192") in (2, 3)
    assert message in capsys.readouterr().err


def test_jobs_must_be_some(out, capsys):
    assert minimize(F3, out, "--jobs", 0) == 2
    assert "--jobs must be at least 1" in capsys.readouterr().err
