"""A trace, a folder or a part of it that nobody could look at is not said to be well."""

from __future__ import annotations

import json

import pytest

from replay import cli
from replay.commands.info import SHOWN_RESETS
from replay.commands.verify import MANY_RESETS
from tests.support.captures import TRACES, TWO_BOOTS, trace_bytes


@pytest.fixture
def cut(tmp_path):
    """A trace of which the header alone is whole."""
    path = tmp_path / "cut.itstrace"
    path.write_bytes(trace_bytes(TWO_BOOTS)[:700])
    return str(path)


@pytest.mark.parametrize("words", [[], ["--matrix"], ["--target", "model"], ["--json"]])
def test_a_folder_without_traces_is_no_green_corpus(words, tmp_path, capsys):
    (tmp_path / "notes.toml").write_text("[tool]\n")  # no manifest
    assert cli.main(["corpus", "run", str(tmp_path), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("there is no .itstrace and no .its.txt here, so nothing would be judged\n")


def test_no_reset_is_said_of_what_could_be_read(cut, capsys):
    assert cli.main(["verify", cut]) == 0
    out, err = capsys.readouterr()
    assert out == "no reset in what could be read of this trace\n"
    assert "the recorder was stopped" in err
    assert cli.main(["verify", cut, "--require-proof"]) == 4


def test_a_state_before_the_first_event_is_after_none(cut, capsys):
    for command in (["state", cut], ["blame", cut, "GITS_CTLR"]):
        assert cli.main(command) == 0
        out = capsys.readouterr().out
        assert "before event 0" in out
        assert "-1" not in out.partition("\n")[0]


def test_a_damaged_trace_is_not_minimized_and_says_where_it_is_damaged(tmp_path, capsys):
    path = tmp_path / "a.itstrace"
    data = bytearray(trace_bytes(TWO_BOOTS))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert cli.main(["minimize", str(path), "-o", str(tmp_path / "b.its.txt")]) == 3
    assert "`itstrace recover` saves what it can" in capsys.readouterr().err


def test_info_shows_the_first_resets_of_many(tmp_path, capsys):
    path = tmp_path / "a.its.txt"
    resets = "".join(f"{n} +0 reset how=system\n" for n in range(100))
    path.write_text('# itstrace: 1\n# profile: "qemu-7.2.22"\n' + resets)
    assert cli.main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("reset ") for line in lines) == SHOWN_RESETS
    assert lines[-1].endswith(f"and {100 - SHOWN_RESETS} more resets, which --json lists")
    assert cli.main(["info", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["resets"]) == 100


def test_of_many_resets_a_last_line_says_how_they_came_out_and_where_to_look(tmp_path, capsys):
    path = tmp_path / "a.its.txt"
    one = ". +0 reg.write offset=0x90 value=0x1\n. +0 reset how=system\n"
    read = ". +0 reg.read offset=0x80 value={:#x}\n"
    resets = one * MANY_RESETS + read.format(0x700)
    path.write_text('# itstrace: 1\n# profile: "qemu-7.2.22"\n' + resets)
    assert cli.main(["verify", str(path)]) == 1
    assert "resets:" not in capsys.readouterr().out
    path.write_text('# itstrace: 1\n# profile: "qemu-7.2.22"\n' + resets + one + read.format(0))
    assert cli.main(["verify", str(path)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    # each reset is two events, and the reads behind the 20th and the 21st are one
    assert last == "21 resets: 19 unproven, 1 stale, 1 equal; the first is reset 19 at event 39"


def test_bits_that_nobody_specified_are_told_with_what_the_model_says(capsys):
    life = str(TRACES / "bugs/F1/F1-least.its.txt")
    assert cli.main(["verify", life]) == 1
    rows = capsys.readouterr().out.splitlines()
    at = next(n for n, row in enumerate(rows) if "GITS_BASER0" in row)
    assert rows[at].startswith("  unspecified GITS_BASER0 ")
    # what event 9 wrote, without Valid, and with the type and the size of an entry
    assert rows[at + 1] == "    the model says 0x1907000040040200; nothing observed it"


def test_two_traces_without_events_are_not_alike(cut, capsys):
    assert cli.main(["diff", cut, cut]) == 4
    assert capsys.readouterr().out.endswith("neither has an event that counts\n")


def test_two_implementations_are_told_from_two_boots(tmp_path, capsys):
    trace = tmp_path / "a.itstrace"
    trace.write_bytes(trace_bytes(TWO_BOOTS))
    assert cli.main(["diff", str(trace), str(TRACES / "bugs/F1/F1-life.itstrace")]) == 1
    said = "A is of qemu-tcg, B of linux-kvm: two implementations differ in nearly all\n"
    assert said in capsys.readouterr().err
    assert cli.main(["diff", str(trace), str(trace)]) == 0
    assert "two implementations" not in capsys.readouterr().err
