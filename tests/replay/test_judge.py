"""Manifests that are wrong, signatures, and what `corpus run` answers."""

from __future__ import annotations

import json

import pytest

from replay import cli
from replay.corpus import matrix, run_trace
from replay.judge import generalised, judge, with_flags
from replay.manifest import read_manifest
from replay.profiles import PROFILES
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError
from tracer.log.opening import open_trace

K17 = "S06-K17-F3-mapd-unmap-leaves-its-entry"

# A device is mapped and saved, unmapped and saved, and restored after a reset.
LIFE = (SCENARIOS / f"{K17}.its.txt").read_text()

GOOD = """\
shows = "a device comes back"
expect = "equal"
"""


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder with one trace and a manifest that it meets; the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "life.its.txt").write_text(LIFE)
    (tmp_path / "life.toml").write_text(GOOD)
    return tmp_path


def run(capsys, *argv):
    code = cli.main(["corpus", "run", ".", *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


# -- manifests


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('expect = "equal"\nexpected = "equal"\n', "expected = 'equal' is not for a manifest"),
        ('expect = "equal"\nshows = 3\n', "shows = 3 is not for a manifest"),
        ('expect = "fine"\n', "expect must be one of crash, stale, suspected"),
        ('expect = "equal"\nsignature = 3\n', "signature = 3 is not for a manifest"),
        ('shows = "nothing"\n', "expect must say what the trace shows"),
        ('[buggy]\nexpect = "stale"\n', "[buggy] must have flags = { ... }"),
        ("[fixed]\nflags = {}\n", "expect must be one of"),
        ('[fixed]\nflags = {}\nexpect = "stale"\nsignature = 1\n', "signature must be a text"),
        (
            '[fixed]\nflags = {}\nexpect = "equal"\nsignatur = "x"\n',
            "[fixed] signatur is not for a manifest",
        ),
        ("buggy = 1\n", "[buggy] must have flags = { ... }"),
        ("expect = ", "life.toml: "),
    ],
)
def test_a_manifest_that_says_something_else_is_wrong_usage(corpus, capsys, text, why):
    (corpus / "life.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        read_manifest(corpus / "life.toml")
    assert "life.toml: " in str(error.value)
    assert why in str(error.value)
    code, out, _ = run(capsys)
    assert code == 2
    assert why in out


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"mapd_clears_dte": False}, "kvm has no behaviour flag 'mapd_clears_dte'"),
        ({"mapd_unmap_clears_dte": 0}, "flag mapd_unmap_clears_dte must not be 0"),
        (
            {"translation_cache_entries_per_vcpu": True},
            "flag translation_cache_entries_per_vcpu must not be True",
        ),
        ({"movi_implemented": False}, "kvm has no behaviour flag 'movi_implemented'"),
    ],
)
def test_a_flag_that_the_family_does_not_have_is_refused(flags, why):
    with pytest.raises(UsageError, match=why):
        with_flags(PROFILES["linux-6.1.192"], flags)


def test_a_bad_flag_in_a_manifest_is_an_expectation_that_is_not_met(corpus, capsys):
    text = '[buggy]\nflags = { mapd_clears_dte = false }\nexpect = "suspected"\n'
    (corpus / "life.toml").write_text(text)
    code, out, _ = run(capsys)
    assert code == 1
    assert "expected suspected, got kvm has no behaviour flag 'mapd_clears_dte'" in out


def test_flags_make_a_profile_that_differs_in_nothing_else():
    own = PROFILES["linux-6.1.192"]
    assert with_flags(own, {}) is own
    other = with_flags(own, {"mapd_unmap_clears_dte": False})
    assert with_flags(other, {"mapd_unmap_clears_dte": True}) == own
    assert other != own


def test_a_trace_without_a_manifest_fails(corpus, capsys):
    (corpus / "life.toml").unlink()
    code, out, _ = run(capsys)
    assert code == 1
    assert "expected a manifest life.toml, got none" in out
    assert "more: itstrace corpus add life.its.txt --reason WHY" in out


def test_a_manifest_without_a_trace_fails(corpus, capsys):
    (corpus / "other.toml").write_text(GOOD)
    code, out, _ = run(capsys)
    assert code == 1
    assert "expected a trace beside it, got none" in out
    assert out.splitlines()[-1] == "2 expectations of 1 traces, 1 not met"


def test_a_trace_that_is_not_there_is_wrong_usage(capsys):
    assert cli.main(["corpus", "run", "/nowhere.its.txt"]) == 2
    assert "/nowhere.its.txt: no such trace" in capsys.readouterr().err


def test_a_trace_that_cannot_be_read_fails_and_says_where(corpus, capsys):
    (corpus / "life.its.txt").write_text(LIFE + ". +0 reg.write offset=0x0\n")
    lines = LIFE.count("\n") + 1
    code, out, _ = run(capsys)
    assert code == 3
    assert f"life.its.txt:{lines}: reg.write needs value" in out


# -- words and signatures


def found_under(name, **flags):
    with open_trace(str(SCENARIOS / f"{name}.its.txt")) as reader:
        return judge(reader, with_flags(PROFILES["linux-6.1.192"], flags))


@pytest.mark.parametrize(
    ("component", "general"),
    [
        ("devices", "device"),
        ("events", "event"),
        ("collections", "collection"),
        ("lpis", "lpi"),
        ("vpes", "vpe"),
        ("translation_cache", "translation"),
        ("GICR_PROPBASER[3]", "GICR_PROPBASER"),
        ("GICR_PENDBASER[12]", "GICR_PENDBASER"),
        ("GITS_BASER0", "GITS_BASER0"),
    ],
)
def test_a_signature_names_no_identifier(component, general):
    assert generalised(component) == general


def test_the_worst_word_wins_and_every_signature_is_listed_once():
    found = found_under(K17, mapd_unmap_clears_dte=False)
    assert found.word == "suspected"
    assert found.signatures == [
        "suspected:restore:device",
        "suspected:restore:event",
        "divergent:mem.read:data",
        "divergent:msi.result:result",
    ]
    assert found_under(K17).signatures == []


def test_a_crash_ends_the_replay_and_is_the_word():
    found = found_under(
        "S09-K23-F4-save-after-mapc-unmap", save_zeroes_ite_without_collection=False
    )
    assert (found.word, found.signatures[0]) == ("crash", "crash:vgic_its_save_tables_v0")


def test_an_invariant_is_the_word_where_nothing_else_was_found():
    found = found_under("S16-restore-onto-a-used-its-doubles-devices")
    assert (found.word, found.signatures) == ("invariant", ["invariant:device_id_unique"])
    assert found.engine.tally.divergent == 0


# Behind the restore; under the buggy flag device 0 is back.
BEHIND = (
    LIFE.partition(". +0 restore\n")[0]
    + ". +0 restore\n. +0 reg.write offset=0x0 value=0x1 size=4\n"
)
MSI = ". +0 msi device_id=0x0 event_id=0x0\n. +0 msi.result cause=1 result={}\n"
REMAP = """\
. +0 mem.write gpa=0x40300000 data=MAPD(size=0x3,itt_addr=0x40600000,v=0x1)
. +0 mem.write gpa=0x40300020 data=MAPTI(pintid=0x2000)
. +0 reg.write offset=0x88 value=0x40
"""


@pytest.mark.parametrize(
    ("behind", "word"),
    [
        ("", "suspected"),
        (MSI.format(1), "stale"),
        (MSI.format(0), "suspected"),
        (REMAP + MSI.format(1), "suspected"),  # the guest mapped it anew: it may deliver
        (". +0 reset how=ctrl_reset\n" + MSI.format(1), "suspected"),
    ],
)
def test_an_msi_is_evidence_of_a_round_trip_until_the_guest_maps_anew(tmp_path, behind, word):
    path = tmp_path / "life.its.txt"
    path.write_text(BEHIND + behind)
    with open_trace(str(path)) as reader:
        profile = with_flags(PROFILES["linux-6.1.192"], {"mapd_unmap_clears_dte": False})
        found = judge(reader, profile)
    assert found.verifier.round_trips[0].word == word


def test_a_name_may_have_dots(corpus):
    for name in ("a.1", "a.2"):
        (corpus / f"{name}.its.txt").write_text(LIFE)
        (corpus / f"{name}.toml").write_text(GOOD)
    traces = [corpus / f"{name}.its.txt" for name in ("a.1", "a.2")]
    (table,) = matrix(traces).values()
    assert list(table[1]) == ["a.1", "a.2"]


# -- the command


def test_all_met_is_0_and_one_not_met_is_1(corpus, capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert out.splitlines()[-1] == "1 expectations of 1 traces, 0 not met"
    (corpus / "life.toml").write_text(GOOD.replace("equal", "stale"))
    code, out, _ = run(capsys)
    assert code == 1
    assert "expected stale, got equal" in out


def test_a_signature_that_did_not_come_fails_although_the_word_is_right(corpus, capsys):
    (corpus / "life.toml").write_text(
        "[buggy]\nflags = { mapd_unmap_clears_dte = false }\n"
        'expect = "suspected"\nsignature = "suspected:restore:collection"\n'
    )
    code, out, _ = run(capsys)
    assert code == 1
    assert (
        "expected suspected (suspected:restore:collection), got suspected "
        "(suspected:restore:device, suspected:restore:event" in out
    )
    (result,) = run_trace(corpus / "life.its.txt")
    assert (result.got, result.passed) == ("suspected", False)


def test_the_answer_as_json(corpus, capsys):
    code, out, _ = run(capsys, "--json")
    assert code == 0
    assert json.loads(out) == {
        "schema": "itstrace.corpus/1",
        "results": [
            {
                "trace": "life.its.txt",
                "variant": "as it is",
                "expected": "equal",
                "got": "equal",
                "signature": None,
                "signatures": [],
                "passed": True,
                "why": [],
                "commands": [],
                "skipped": None,
            }
        ],
    }
    (corpus / "life.toml").unlink()
    code, out, _ = run(capsys, "--json")
    assert code == 1
    assert [each["passed"] for each in json.loads(out)["results"]] == [False]


def test_the_matrix_as_json_and_as_a_table(corpus, capsys):
    (corpus / "life.toml").write_text(
        '[fixed]\nflags = { mapd_unmap_clears_dte = true }\nexpect = "equal"\n'
    )
    code, out, _ = run(capsys, "--matrix", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["schema"] == "itstrace.matrix/1"
    row = found["tables"]["kvm"]["life"]
    assert list(row) == [name for name in PROFILES if name.startswith("linux-")]
    assert row["linux-5.10.223"] == {"word": "suspected", "basis": "measured"}
    assert row["linux-6.1"] == {"word": "suspected", "basis": "read"}
    code, out, _ = run(capsys, "--matrix")
    assert code == 0
    title, head, line = out.splitlines()
    assert title.startswith("kvm: each cell measured")
    assert len(head.split()) == len(row)
    cells = [
        cell["word"] if cell["basis"] == "measured" else f"({cell['word']})"
        for cell in row.values()
    ]
    assert line.split() == ["life", *cells]
