"""state --at and --diff, show --when, bisect: what they print, and their exit codes."""

from __future__ import annotations

import io
import json
import sys

import pytest

from replay import cli
from tests.support.captures import TRACES, TWO_BOOTS, trace_bytes

F1 = str(next((TRACES / "scenarios").glob("F1-lpi-outlives*.its.txt")))


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(capsys, *args):
    code = cli.main(list(map(str, args)))
    out, err = capsys.readouterr()
    return code, out, err


def test_state_at_moments(capsys, tmp_path):
    path = tmp_path / "t.itstrace"
    path.write_bytes(trace_bytes(TWO_BOOTS))
    shown = {}
    for moment in ("344", "reset:1", "reset:-1", "-488", "831", "-1"):
        code, out, _ = run(capsys, "state", path, "--json", "--at", moment)
        assert code == 0
        shown[moment] = json.loads(out)
    assert {shown[m]["seq"] for m in ("344", "reset:1", "reset:-1", "-488")} == {344}
    assert shown["831"]["digest"] == shown["-1"]["digest"]
    assert shown["344"]["its"]["0"]["devices"] == {}
    assert shown["-1"]["status"] == "clean"


def test_state_of_standard_input(capsys, monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", type("In", (), {"buffer": io.BytesIO(trace_bytes(TWO_BOOTS))})()
    )
    code, out, _ = run(capsys, "state", "-", "--json", "--at", "-2")
    assert (code, json.loads(out)["seq"]) == (0, 830)


def test_state_diff(capsys):
    code, out, _ = run(capsys, "state", F1, "--diff", "17..reset:-1")
    assert code == 1
    assert "  registers.GITS_BASER0 0x9907000040100200 -> 0x1907000040100200\n" in out
    assert "- devices[0x0].events[0x0]  intid 8192  icid 0  confirmed True\n" in out
    assert "- translation_cache[0x0][0x0]  8192\n" in out
    code, out, _ = run(capsys, "state", F1, "--diff", "17..reset:-1", "--json")
    answer = json.loads(out)
    assert (code, answer["schema"], answer["from"], answer["to"]) == (
        1, "itstrace.state_diff/1", 17, 18,
    )  # fmt: skip
    assert {"path": "collections[0].rdbase", "from": 0} in answer["changes"]
    code, out, _ = run(capsys, "state", F1, "--diff=-2..-1")
    assert (code, out.splitlines()[1]) == (0, "  nothing differs")
    assert run(capsys, "state", F1, "--diff", "4")[0] == 2
    assert run(capsys, "state", F1, "--at", "reset:7")[0] == 2


def seqs(out):
    return [int(line.split()[0]) for line in out.splitlines()]


def test_show_when(capsys):
    text = "devices[0].valid changes"
    assert seqs(run(capsys, "show", F1, "--when", text)[1]) == [15, 18, 27]
    assert seqs(run(capsys, "show", F1, "--when", text, "--first")[1]) == [15]
    assert seqs(run(capsys, "show", F1, "--when", text, "--last")[1]) == [27]
    assert seqs(run(capsys, "show", F1, "--when", text, "-Y", "kind == reset")[1]) == [18]
    assert seqs(run(capsys, "show", F1, "--when", text, "--range", "16..20")[1]) == [18]
    assert seqs(run(capsys, "show", F1, "--when", "devices[0].valid")[1]) == [
        15,
        16,
        17,
        *range(27, 34),
    ]
    assert run(capsys, "show", F1, "--when", "devices[7].valid", "--last")[:2] == (0, "")
    out = run(capsys, "show", F1, "--when", text, "--last", "--json")[1]
    assert json.loads(out)["register"] == "GITS_CWRITER"


@pytest.mark.parametrize(
    "args",
    [
        ("--when", "devices[0].vald"),
        ("--first",),
        ("--last",),
        ("--last", "--when", "devices[0]", "-Y", "kind == reset"),
    ],
)
def test_show_when_wrong(capsys, args):
    assert run(capsys, "show", F1, *args)[0] == 2


def test_bisect_prints_the_event_its_neighbours_and_what_it_changed(capsys):
    code, out, _ = run(capsys, "bisect", F1, "--when", "lpis[8192].pending == set")
    lines = out.splitlines()
    assert code == 1
    assert [line.split()[0] for line in lines[:9]] == [str(seq) for seq in range(11, 20)]
    assert "            lpis[8192].pending clear -> set" in lines
    assert lines[-1] == (
        "when lpis[8192].pending == set: first after event 16 (scan, monotone: no)"
    )
    code, out, _ = run(capsys, "bisect", F1, "--when", "lpis[8192].pending == set", "--json")
    answer = json.loads(out)
    assert (code, answer["schema"], answer["seq"], answer["method"]) == (
        1, "itstrace.bisect/1", 16, "scan",
    )  # fmt: skip
    assert answer["events"][5].startswith("16 +0 msi ")
    assert {"path": "lpis[8192].pending", "from": "clear", "to": "set"} in answer["changes"]


def test_bisect_never(capsys):
    for args in (["--when", "devices[7].valid"], ["--divergence"], ["--invariant"], ["--crash"]):
        code, out, _ = run(capsys, "bisect", F1, *args)
        assert code == 0
        assert ": never (" in out


def test_bisect_wants_to_know_what(capsys):
    code, _, err = run(capsys, "bisect", F1)
    assert code == 2
    assert "give --when, --stale, --invariant, --divergence, --crash, or --over" in err
    assert run(capsys, "bisect", F1, "--when", "1", "--stale", "lpi")[0] == 2


def test_bisect_on_a_target(capsys):
    """A model of an older kernel as the target: it answers otherwise where its flags differ."""
    path = TRACES / "scenarios/S06-K17-F3-mapd-unmap-leaves-its-entry.its.txt"
    code, out, _ = run(
        capsys, "bisect", path, "--divergence", "--target", "model:linux-5.10.223", "--json"
    )
    same, _, _ = run(capsys, "bisect", F1, "--divergence", "--target", "model:linux-6.1.192")
    answer = json.loads(out)
    assert (code, same) == (1, 0)
    assert answer["asked"] == "divergence on model:linux-5.10.223"
    assert answer["seq"] == 16
