"""Long lists on a terminal of 80 columns; what is not in a list must not seem to be."""

from __future__ import annotations

import pytest

from replay import cli
from replay.commands.folding import WIDTH, folded, wrapped
from tests.support.captures import TWO_BOOTS, trace_bytes


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ""),
        (["GITS_CTLR", "", "devices"], "GITS_CTLR, devices"),
        ([f"GITS_BASER{n}" for n in range(8)], "GITS_BASER0-7"),
        ([f"GITS_BASER{n}" for n in (0, 2, 3, 7)], "GITS_BASER0,2-3,7"),
        (["GICR_CTLR[1]", "GICR_X[0]", "GICR_CTLR[0]"], "GICR_CTLR[0-1], GICR_X[0]"),
        (["GITS_PIDR2", "GITS_PIDR3"], "GITS_PIDR2, GITS_PIDR3"),  # names of their own
    ],
)
def test_a_name_that_is_not_there_is_not_in_a_run(names, shown):
    assert folded(names) == shown


def test_a_long_line_is_broken_and_further_in():
    line = "  not looked at: " + ", ".join(f"a-name-{n}" for n in range(20))
    lines = wrapped(line).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [each[:5] for each in lines[1:]] == ["    a"] * (len(lines) - 1)
    assert " ".join(map(str.strip, lines)) == line.strip()


def test_a_verdict_fits_a_terminal(tmp_path, capsys):
    trace = tmp_path / "a.itstrace"
    trace.write_bytes(trace_bytes(TWO_BOOTS))
    assert cli.main(["verify", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "GITS_BASER0-7" in out
    assert max(map(len, out.splitlines())) <= WIDTH


def test_a_register_that_was_seen_in_part_is_neither_unseen_nor_proven(tmp_path, capsys):
    trace = tmp_path / "a.itstrace"
    trace.write_bytes(trace_bytes(TWO_BOOTS))  # Linux reads the lower half of CREADR
    assert cli.main(["verify", str(trace)]) == 0
    assert "GITS_CREADR (in part)," in capsys.readouterr().out
    assert cli.main(["verify", "-v", str(trace)]) == 0
    rows = capsys.readouterr().out.splitlines()
    (row,) = {row for row in rows if "GITS_CREADR" in row and row.endswith(" at 44")}
    said = "fresh 0x0, observed 0x0 of its bits 0xffffffff alone at 44"
    assert row == f"  unproven    GITS_CREADR       {said}"
