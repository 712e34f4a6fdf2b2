"""`corpus run --matrix --target`: traces x targets, one word each, and why."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from replay import cli
from replay.equivalence.recorded import recorded_steps
from tracer.events import make

SCENARIOS = Path(__file__).parents[2] / "traces/scenarios"
F1, K4, S14 = (
    SCENARIOS / f"{name}.its.txt"
    for name in (
        "F1-lpi-outlives-ctrl-reset",
        "S03-K4-baser0-repointed-with-valid-1",
        "S14-Q3-cbaser-write-keeps-cwriter",
    )
)


def matrix(capsys, *words):
    code = cli.main(["corpus", "run", *map(str, words), "--matrix"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_each_trace_has_a_word_on_each_target(capsys):
    targets = ["--target", "model", "--target", "model:linux-6.1.192"]
    code, out, err = matrix(capsys, F1, K4, *targets)
    assert code == 1
    *table, first, second = out.splitlines()
    assert table == [
        "1: model",
        "2: model:linux-6.1.192",
        f"{'':36}          1          2",
        "F1-lpi-outlives-ctrl-reset                equal      equal",
        "S03-K4-baser0-repointed-with-valid-1      equal  divergent",
    ]
    assert re.fullmatch(r"model: 2 equal; [1-9]\d* outputs matched, \d+ not judged", first)
    assert second.startswith("model:linux-6.1.192: 1 equal, 1 divergent; ")
    assert "S03-K4-baser0-repointed-with-valid-1: model:linux-6.1.192: divergent: event 18" in err
    code, _, _ = matrix(capsys, F1, *targets)
    assert code == 0


@pytest.mark.skipif(shutil.which("qemu-system-aarch64") is None, reason="no qemu-system-aarch64")
def test_a_trace_of_another_family_is_left_out(capsys):
    code, out, _ = matrix(capsys, F1, S14, "--target", "qemu", "--json")
    table = json.loads(out)["traces"]
    assert code == 0
    assert "qemu: 1 of another family, 1 equal; " in matrix(capsys, F1, S14, "--target", "qemu")[1]
    assert [table[str(path)]["qemu"]["word"] for path in (F1, S14)] == ["-", "equal"]
    assert table[str(S14)]["qemu"]["matched"] > 0


def test_a_target_that_is_not_there_cannot_and_a_finding_beside_it_counts_more(capsys):
    code, out, err = matrix(capsys, S14, "--target", "qemu:/nowhere/qemu")
    assert (code, "    cannot" in out) == (4, True)
    assert "/nowhere/qemu: No such file or directory" in err
    both = ["--target", "qemu:/nowhere/qemu", "--target", "model:qemu-6.2"]
    code, out, _ = matrix(capsys, S14, *both)
    assert (code, "    cannot  divergent" in out) == (1, True)


def test_as_a_test_no_target_may_show_the_bug_that_a_trace_is_of(capsys):
    assert cli.main(["corpus", "run", str(F1), "--target", "model:linux-6.1.192"]) == 1
    out = capsys.readouterr().out
    assert "expected good, got bad (stale:ctrl_reset:lpi)" in out
    assert "it shows stale:ctrl_reset:lpi, the bug that this trace is of" in out
    assert "--on model:linux-6.1.192 --probe" in out


def test_a_target_that_is_not_there_is_no_corpus_that_passes(capsys):
    assert cli.main(["corpus", "run", str(S14), "--target", "qemu:/nowhere/qemu"]) == 4
    out = capsys.readouterr().out
    assert "got no target" in out
    assert "/nowhere/qemu: there is no such program" in out


def test_a_write_of_64_bits_says_whose_a_pending_table_is():
    life = [make("gicr.write", 0, cpu=1, offset=0x78, value=0x4052_0000)]  # size 8 is left out
    read = make("mem.read", 0, cause=0, gpa=0x4052_0400, data=bytes(8))
    (step,) = recorded_steps(life, [read], {read[0]})
    assert step.cpu == 1


def test_a_death_counts_more_than_what_differed_before_it(capsys):
    life = SCENARIOS.parent / "bugs/F4/F4-life.itstrace"
    code, out, err = matrix(capsys, life, "--target", "model:linux-5.10.223")
    assert (code, out.splitlines()[2].split()) == (1, ["F4-life", "crashed"])
    assert "crashed: event 1327: vgic_its_save_tables_v0" in err
    assert cli.main(["check", str(life), "--profile", "linux-5.10.223", "--json"]) == 1
    differed = json.loads(capsys.readouterr().out)["divergent"]
    assert differed
    assert differed[0]["seq"] < 1327
