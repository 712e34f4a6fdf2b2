"""`itstrace corpus`: add, list, stats, and the reports that other programs read."""

from __future__ import annotations

import html
import json
import tomllib
from contextlib import suppress
from random import Random
from xml.etree import ElementTree

import pytest

from replay import cli
from replay.corpus import Result, exit_code, run_trace
from replay.corpus_reports import MAX_SHOWN, github, junit, markdown
from replay.manifest import read_manifest
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.opening import open_trace
from tracer.log.stream import Writer

F1 = (SCENARIOS / "F1-lpi-outlives-ctrl-reset.its.txt").read_text()
EVIL = "\x1b[31m\n::error::x\r%0A<b>`|&\"']]>##[group]\x00\ud800\uffff[a](http://b) @c"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a trace that has no manifest; the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "life.its.txt").write_text(F1)
    return tmp_path


def binary(folder, *more):
    """Make a binary trace of the text form, with `more` events, in its place."""
    text = folder / "life.its.txt"
    with open_trace(str(text)) as reader, (folder / "life.itstrace").open("wb", 0) as out:
        writer = Writer(out, reader.header)
        for event in [*(event for _, events in reader for event in events), *more]:
            writer.add(event)
        writer.close()
    return folder / "life.itstrace"


def corpus(capsys, *words):
    code = cli.main(["corpus", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


# -- add


def test_a_trace_that_is_added_is_a_test_that_passes(folder, capsys):
    code, out, _ = corpus(capsys, "add", "life.its.txt", "--reason", "seen on host 7")
    assert (code, out) == (0, "life.toml: expects stale (stale:ctrl_reset:lpi)\n")
    assert tomllib.loads((folder / "life.toml").read_text()) == {
        "reason": "seen on host 7",
        "source": "linux-6.1.192, recorded by scenario",
        "expect": "stale",
        "signature": "stale:ctrl_reset:lpi",
    }
    assert corpus(capsys, "run", ".")[0] == 0


def test_a_manifest_that_is_there_is_kept(folder, capsys):
    (folder / "life.toml").write_text("mine")
    code, _, err = corpus(capsys, "add", "life.its.txt", "--reason", "x")
    assert code == 2
    assert "life.toml: exists already; --force overwrites it" in err
    assert (folder / "life.toml").read_text() == "mine"
    assert corpus(capsys, "add", "life.its.txt", "--reason", "x", "--force")[0] == 0


def test_a_trace_that_shows_nothing_is_refused(folder, capsys):
    head = F1[: F1.index("## F1")]
    (folder / "life.its.txt").write_text(head + ". +0 reg.write offset=0x0 value=0x1 origin=vmm\n")
    code, _, err = corpus(capsys, "add", "life.its.txt", "--reason", "x")
    assert code == 2
    assert "nothing was observed that a build could get wrong (unproven); --force takes it" in err
    assert not (folder / "life.toml").exists()
    code, out, _ = corpus(capsys, "add", "life.its.txt", "--reason", "x", "--force")
    assert (code, out) == (0, "life.toml: expects unproven\n")


def test_a_trace_that_nobody_wrote_needs_a_profile(folder, capsys):
    lines = [line for line in F1.splitlines(keepends=True) if not line.startswith("# profile")]
    (folder / "life.its.txt").write_text("".join(lines))
    code, _, err = corpus(capsys, "add", "life.its.txt", "--reason", "x")
    assert (code, "name a profile" in err) == (2, True)
    added = ["add", "life.its.txt", "--reason", "x", "--profile"]
    assert corpus(capsys, *added, "linux-6.1.192")[0] == 0
    assert read_manifest(folder / "life.toml").profile == "linux-6.1.192"


def test_a_profile_in_a_file_is_named_as_the_manifest_sees_it(folder, capsys):
    (folder / "below").mkdir()
    (folder / "life.its.txt").rename(folder / "below/life.its.txt")
    image = 'name = "linux-9"\nnearest = "linux-6.1.192"\n[flags]\n'
    (folder / "below/image.toml").write_text(image)
    (folder / "image.toml").write_text(image)
    added = ["add", "below/life.its.txt", "--reason", "x", "--profile"]
    code, _, err = corpus(capsys, *added, "image.toml")
    assert (code, "must be in below or below it" in err) == (2, True)
    assert corpus(capsys, *added, "below/image.toml")[0] == 0
    assert read_manifest(folder / "below/life.toml").profile == "image.toml"
    assert corpus(capsys, "run", ".")[0] == 0


@pytest.mark.parametrize("reason", ["", " \n", "x" * 2001])
def test_a_reason_must_be_one(folder, capsys, reason):
    code, _, err = corpus(capsys, "add", "life.its.txt", "--reason", reason)
    assert (code, "a reason must have 1 to 2000 characters" in err) == (2, True)


def test_whatever_a_reason_is_the_manifest_holds_it(folder, capsys):
    assert corpus(capsys, "add", "life.its.txt", "--reason", EVIL + "\x7f")[0] == 0
    found = read_manifest(folder / "life.toml")
    assert found.values["reason"] == (EVIL + "\x7f").replace("\ud800", "?")
    _, out, _ = corpus(capsys, "list", ".")
    assert "\x1b" not in out
    assert all(not line.lstrip().startswith("::") for line in out.splitlines())


def test_another_trace_under_the_same_manifest_fails(folder, capsys):
    trace = binary(folder)
    assert corpus(capsys, "add", "life.itstrace", "--reason", "x")[0] == 0
    assert corpus(capsys, "run", "life.itstrace")[0] == 0
    binary(folder, make("reg.read", 0, offset=0, value=0x8000_0001))
    code, out, _ = corpus(capsys, "run", "life.itstrace")
    assert code == 1
    assert "the manifest was written for a trace with digest" in out
    data = trace.read_bytes()
    middle = len(data) // 2
    trace.write_bytes(data[:middle] + bytes(8) + data[middle + 8 :])
    code, out, _ = corpus(capsys, "run", "life.itstrace")
    assert (code, "got damaged" in out) == (3, True)
    code, _, _ = corpus(capsys, "add", "life.itstrace", "--reason", "x", "--force")
    assert code == 3


# -- list and stats


def test_list_and_stats_count_what_is_there(folder, capsys):
    for name, text in {"a": "", "b": 'profile = "linux-6.1.192"\n'}.items():
        (folder / f"{name}.its.txt").write_text(F1)
        (folder / f"{name}.toml").write_text(text + 'expect = "stale"\nreason = "why"\n')
    (folder / "left.toml").write_text('expect = "equal"\n')
    code, out, _ = corpus(capsys, "list", ".")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "a", "why", "b", "why", "life", "left.toml:",
    ]  # fmt: skip
    assert "as it is: stale" in out
    found = json.loads(corpus(capsys, "list", ".", "--json")[1])
    assert [each["profile"] for each in found["traces"]] == [None, "linux-6.1.192", None]
    assert found["traces"][2]["manifest"] is None
    assert found["unused_manifests"] == ["left.toml"]
    counts = json.loads(corpus(capsys, "stats", ".", "--json")[1])
    assert counts == {
        "schema": "itstrace.corpus_stats/1",
        "traces": 3, "bytes": 3 * len(F1), "without_manifest": 1, "unused_manifests": 1,
        "expectations": 2, "expected": {"stale": 2}, "signatures": {},
        "profiles": {"as its header says": 1, "linux-6.1.192": 1},
    }  # fmt: skip
    assert "without manifest" in corpus(capsys, "stats", ".")[1]


# -- reports


def test_reports_are_written_where_they_are_wanted(folder, capsys, monkeypatch):
    (folder / "life.toml").write_text('expect = "equal"\n')
    options = ["run", ".", "--junit", "junit.xml", "--summary", "page.md", "--github"]
    code, _, err = corpus(capsys, *options)
    assert code == 1
    (case,) = ElementTree.parse(folder / "junit.xml").iter("testcase")
    assert case.attrib == {"classname": "life.its.txt", "name": "as it is"}
    failure = case.find("failure")
    assert failure.get("message") == "expected equal, got stale (stale:ctrl_reset:lpi)"
    assert "written by event 16: msi" in failure.text
    assert err.startswith(
        "::error file=life.its.txt,line=1,title=life.its.txt [as it is]::expected"
    )
    page = (folder / "page.md").read_text()
    assert "1 expectations of 1 traces, 1 not met" in page
    assert (
        "| life\\.its\\.txt | as it is | equal | stale \\(stale\\:ctrl\\_reset\\:lpi\\) |" in page
    )
    code, _, err = corpus(capsys, *options)
    assert (code, "junit.xml: exists already; --force overwrites it" in err) == (2, True)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "step.md")
    code, _, err = corpus(capsys, "run", ".", "--junit", "junit.xml", "--force")
    assert err.startswith("::error file=")
    assert (folder / "step.md").read_text() == page


def test_a_corpus_that_is_met_is_reported_as_such(folder, capsys):
    assert corpus(capsys, "add", "life.its.txt", "--reason", "x")[0] == 0
    code, _, err = corpus(capsys, "run", ".", "--junit", "j.xml", "--summary", "s.md", "--github")
    assert (code, err) == (0, "")
    suite = ElementTree.parse(folder / "j.xml").find("testsuite")
    assert {
        "tests": "1",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
    }.items() <= suite.attrib.items()
    assert "| " not in (folder / "s.md").read_text()


def results_of(folder):
    """Return a result whose every text somebody else chose, one that is damaged, and one skipped."""
    trace = folder / "x"
    evil = Result(
        trace.with_name(EVIL.replace("\x00", "").replace("/", "")), EVIL, EVIL, "got" + EVIL, EVIL,
        (EVIL,), why=(EVIL,), commands=(EVIL,),
    )  # fmt: skip
    return [
        evil,
        Result(trace, "b", "equal", "damaged", None, code=3),
        Result(trace, "c", "good", "cannot", None, code=4, skipped=EVIL),
    ]


def test_nothing_that_a_stranger_chose_is_markup(folder):
    results = results_of(folder)
    root = ElementTree.fromstring(junit(results))
    first, second, third = root.iter("testcase")
    assert [each[0].tag for each in (first, second, third)] == ["failure", "error", "skipped"]
    assert "<b>`|&" in first.get("name")
    lines = list(github(results))
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("::error file=")
        assert line.count("::") == 2 + line.partition("::error")[2].partition("::")[2].count("::")
        assert not {"\n", "\r", "\x1b", "\x00"} & set(line)
        head = line.partition("::error ")[2].partition("::")[0]
        assert [each.partition("=")[0] for each in head.split(",")] == ["file", "line", "title"]
    page = markdown(results, 2)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    for row in rows[2:]:
        assert row.replace("\\|", "").count("|") == 5
        assert "<b>" not in row.replace("\\<", "")
    assert "<b>" not in page.replace("\\<", "")
    assert html.escape("<b>") in page
    assert all(not line.lstrip().startswith("::") for line in page.splitlines())
    assert "\x1b" not in page


def test_what_is_printed_never_begins_a_line_with_a_strangers_text(folder, capsys):
    from replay.commands.corpus_run import _print

    for each in results_of(folder):
        _print(each)
    for line in capsys.readouterr().out.encode("utf-8", "replace").decode().splitlines():
        assert not line.lstrip().startswith("::"), line
        assert "\x1b" not in line


def test_a_job_page_has_an_end(folder):
    many = [Result(folder / "x", str(n), "equal", "stale", None) for n in range(MAX_SHOWN + 5)]
    assert markdown(many, 1).count("| stale |") == MAX_SHOWN
    assert "and 5 more" in markdown(many, 1)
    assert len(list(github(many))) == MAX_SHOWN


@pytest.mark.parametrize(
    ("codes", "worst"), [((), 0), ((4,), 4), ((1, 4), 1), ((3, 1), 3), ((2, 3), 2), ((0,), 0)]
)
def test_the_worst_exit_code_counts(folder, codes, worst):
    results = [Result(folder / "x", "a", "equal", "stale", None, code=code) for code in codes]
    assert exit_code([*results, Result(folder / "x", "b", "equal", "equal", None)]) == worst


def test_a_trace_of_a_newer_itstrace_cannot_be_judged(folder):
    trace = binary(folder, (63, 0, 1))
    (folder / "life.toml").write_text('expect = "stale"\n')
    (result,) = run_trace(trace)
    assert (result.passed, result.got, result.code) == (False, "newer", 4)
    assert "update itstrace" in result.why[0]


def test_whatever_a_manifest_holds_it_is_read_or_wrong_usage(folder):
    whole = (SCENARIOS / "S06-K17-F3-mapd-unmap-leaves-its-entry.toml").read_bytes()
    dice = Random(7)
    read = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(3)] = dice.choice(
                [b"", b'"', b"[", b"\x00", b"\xff", b"{}", b"="]
            )
        (folder / "life.toml").write_bytes(data)
        with suppress(UsageError):
            read += bool(read_manifest(folder / "life.toml").expectations)
        (result, *_) = run_trace(folder / "life.its.txt")
        assert isinstance(result.passed, bool)
    assert 0 < read < 200
