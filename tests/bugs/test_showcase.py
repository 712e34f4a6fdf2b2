"""traces/bugs: the model shows each bug, the C file is what `export` makes, the pages say what is."""

from __future__ import annotations

import re

import pytest

from replay import cli
from replay.corpus import find_traces, run_trace, unused_manifests
from replay.judge import judge
from replay.manifest import manifest_path, read_manifest
from replay.profiles import find
from replay.ruling import parse_signature
from tests.support.bugs import BUGS, MORE, NAMES, Bug, exports
from tracer import events as ev
from tracer.events import NUMBER
from tracer.log.opening import open_trace

ALL = [Bug(name) for name in NAMES]
TRACES = [trace for bug in ALL for trace in (bug.life, bug.least)]
# What the issue allows to be left of a life, in inputs beside RAM contents.
MOST = {"F1": 12, "F3": 14, "F4": 10}
LIFE = 500  # operations that a life has at least
_RAM = frozenset((NUMBER["mem.write"], NUMBER["ram"], NUMBER["context"]))
each_bug = pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.name)


def inputs(trace):
    with open_trace(str(trace)) as reader:
        return [e for _, frame in reader for e in frame if e[0] < ev.FIRST_OUTPUT]


def test_every_file_belongs_to_a_bug():
    expected = {BUGS / "README.md"}
    for bug in ALL:
        expected |= {bug.folder / more for more in MORE.get(bug.name, ())}
        expected |= {bug.file(".c"), bug.folder / "report.md", bug.folder / "verdicts.md"}
        expected |= {
            path for trace in (bug.life, bug.least) for path in (trace, manifest_path(trace))
        }
    assert {path for path in BUGS.rglob("*") if path.is_file()} == expected
    assert sorted(find_traces([str(BUGS)])) == sorted(TRACES)
    assert unused_manifests([str(BUGS)], TRACES) == []


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.name)
def test_the_model_shows_it_as_the_manifest_says(trace):
    (result,) = run_trace(trace)
    assert result.passed, (result.got, result.signatures)
    assert result.signature, trace  # or git bisect and minimize would not know what to look for
    assert read_manifest(manifest_path(trace)).values["source"]


@each_bug
def test_a_life_and_what_is_left_of_it_show_one_bug(bug):
    life = parse_signature(read_manifest(manifest_path(bug.life)).expectations[0].signature)
    assert life.is_met_by(bug.signature.text)
    if bug.name in MOST:  # the others were recorded, and are as long as they were
        assert len(inputs(bug.life)) >= LIFE
        left = [event for event in inputs(bug.least) if event[0] not in _RAM]
        assert len(left) <= MOST[bug.name], [ev.kind_name(event[0]) for event in left]


@each_bug
def test_the_c_file_is_what_export_makes_of_it_now(bug, capsysbinary):
    for path, words in exports(bug).items():  # `python -m tests.support.bugs export` writes them
        assert cli.main(words) == 0
        assert capsysbinary.readouterr().out == path.read_bytes(), path.name


@each_bug
def test_the_report_says_what_the_table_does(bug):
    report, rows = bug.text("report.md"), bug.rows()
    assert bug.signature.is_met_by(signature_of(report))
    for heading in ("What", "Why it matters", "Expected", "Smallest steps"):
        assert f"\n## {heading}\n" in report
    assert f"./{bug.name}" in report
    assert len(rows) >= 5
    for image, (ruling, ran) in rows.items():
        told = re.search(rf"^\| {re.escape(image)} \| ([^|]+) \|$", report, re.MULTILINE)
        assert told, image
        assert said(ruling, ran) in told[1], (image, ruling, ran)


def signature_of(report):
    return re.search(r"^Signature: `([^`]+)`$", report, re.MULTILINE)[1]


def said(ruling, ran):
    """Return what a report must say of a row."""
    if ran == "-":
        return "the old tables" if ruling == "**stale**" else ruling
    if "dies" in ran:
        return "the host dies"
    return "fails" if ran.startswith("not ok") else "ok" if "kernel's" in ruling else "passes"


@each_bug
def test_what_itstrace_rules_and_what_the_c_file_does_agree(bug):
    for image, (ruling, ran) in bug.rows().items():
        if image.startswith("linux") and "kernel's" not in ruling:
            assert (ruling == "**bad**") == (ran != "ok"), image


def test_the_page_lists_every_bug_with_its_signature():
    page = (BUGS / "README.md").read_text()
    told = dict(
        re.findall(r"^\| \[(F\d)\]\(F\d/report\.md\) \| [^|]+ \| `([^`]+)` \|$", page, re.M)
    )
    assert told == {bug.name: signature_of(bug.text("report.md")) for bug in ALL}


def test_the_judge_of_the_showcase_can_fail(tmp_path):
    """A trace from which the bug's cause is taken shows no such signature."""
    lines = Bug("F4").least.read_text().splitlines()
    kept = [line for line in lines if "data=MAPTI(" not in line]
    assert len(kept) == len(lines) - 1
    kept = [re.sub(r"^\d+ ", ". ", line) for line in kept]
    path = tmp_path / "mended.its.txt"
    path.write_text("\n".join([*kept, ""]))
    with open_trace(str(path)) as reader:
        found = judge(reader, find("linux-6.1.176")[0])
    assert Bug("F4").signature.text not in found.signatures
