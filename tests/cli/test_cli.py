"""The command line as a user meets it: answers, exit codes, errors that say where and what to do."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from replay import cli
from replay.commands import common
from tests.support.captures import TRACES, TWO_BOOTS, TWO_BOOTS_TIMED
from tests.support.compiled import pure_only
from tracer.log import format as fmt

CAPTURE = TRACES / TWO_BOOTS


@pytest.fixture
def trace(tmp_path, capsys):
    path = tmp_path / "two-boots.itstrace"
    assert cli.main(["import", str(CAPTURE), "-o", str(path)]) == 0
    capsys.readouterr()
    return path


def answer(capsys, *argv):
    code = cli.main([*map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def grep(name, *words):
    lines = (TRACES / name).read_text().splitlines()
    return sum(1 for line in lines if any(word in line for word in words))


@pytest.mark.parametrize("name", [TWO_BOOTS, TWO_BOOTS_TIMED])
def test_info_counts_what_grep_counts(tmp_path, capsys, name):
    path = tmp_path / "t.itstrace"
    assert cli.main(["import", str(TRACES / name), "-o", str(path)]) == 0
    capsys.readouterr()
    code, found = answer(capsys, "info", path)
    assert code == 0
    assert found["schema"] == "itstrace.info/1"
    assert found["events"] == {
        "reg.read": grep(name, "gicv3_its_read"),
        "reg.write": grep(name, "gicv3_its_write"),
        "command": grep(name, "gicv3_its_process_command"),
        "msi": grep(name, "gicv3_its_translation_write"),
        "table.read": grep(name, "te_read "),
        "table.write": grep(name, "te_write "),
        "reset": grep(name, "(arm-gicv3-its)"),
    }
    assert found["clean_end"] is True
    assert found["lost"] == 0
    assert [each["kind"] for each in found["resets"]] == ["power_on", "system"]


def test_check_counts_every_output_once(capsys, trace):
    code, found = answer(capsys, "check", trace)
    assert code == 0
    assert found["schema"] == "itstrace.check/1"
    classes = ("matched", "permitted", "learned", "assumed", "ambiguous", "not_judged")
    assert found["outputs"] == sum(found[name] for name in classes) + len(found["divergent"])
    assert found["divergent"] == []
    assert found["outputs"] == grep(
        TWO_BOOTS, "gicv3_its_read", "process_command", "te_read ", "te_write "
    )


def test_check_of_a_changed_output_says_both_sides_and_what_stood_before(capsys, tmp_path):
    log = CAPTURE.read_text().replace(
        "offset 0x90 data 0x40 size 4", "offset 0x90 data 0x60 size 4", 1
    )
    path = tmp_path / "changed.log"
    path.write_text(log)
    assert cli.main(["import", str(path)]) == 0
    capsys.readouterr()
    code, found = answer(capsys, "check", tmp_path / "changed.itstrace")
    assert code == 1
    (divergence,) = found["divergent"]
    assert divergence["kind"] == "reg.read"
    assert divergence["field"] == "value"
    assert (divergence["expected"], divergence["expected_by"]) == ("0x40", "model qemu-7.2.22")
    assert (divergence["got"], divergence["got_by"]) == ("0x60", "trace qemu-log")
    assert len(divergence["before"]) == 5
    assert cli.main(["check", str(tmp_path / "changed.itstrace")]) == 1
    assert "expected 0x40" in capsys.readouterr().out


def test_state_has_the_documented_shape(capsys, trace):
    code, found = answer(capsys, "state", trace)
    assert code == 0
    assert found["schema"] == "itstrace.state/1"
    its = found["its"]["0"]
    assert its["registers"]["GITS_CTLR"] == "0x80000001"
    assert its["devices"]["0x8"]["events"]["0x0"] == {"intid": 8196, "icid": 0, "confirmed": True}
    assert its["collections"]["0"] == {"rdbase": 0, "confirmed": True}
    assert found["redistributors"]["0"]["GICR_CTLR"] is None
    assert found["lpis"]["8192"] == {"pending": "maybe", "target": 0, "queued": None}
    assert len(found["digest"]) == 32


def test_state_at_the_reset_is_fresh_and_tables_are_out_of_reach(capsys, trace):
    _, found = answer(capsys, "state", trace, "--at", "344")
    its = found["its"]["0"]
    assert found["seq"] == 344
    assert its["registers"]["GITS_BASER0"] == "0x107000000000200"
    assert its["devices"] == {}
    assert its["collections"] == {}


def test_state_behind_the_end_is_a_wrong_call(capsys, trace):
    assert cli.main(["state", str(trace), "--at", "100000"]) == 2
    assert "the last event is 831, not 100000" in capsys.readouterr().err


def test_verify_json_has_the_documented_shape(capsys, trace):
    code, found = answer(capsys, "verify", trace)
    assert code == 0
    assert found["schema"] == "itstrace.verdict/1"
    assert found["checks"] == ["state", "evidence"]
    second = found["resets"][1]
    assert (second["seq"], second["kind"], second["unit"]) == (344, "system", "lpi")
    assert (second["verdict"], second["observed"], second["of"]) == ("equal", 4, 24)
    ctlr = second["components"][0]
    assert ctlr["name"] == "GITS_CTLR"
    assert ctlr["fresh"] == ctlr["replayed"] == "0x80000000"
    assert ctlr["observed"][0] == {"seq": 346, "value": "0x80000000", "mask": "0xffffffff"}
    assert ctlr["status"] == "verified"
    assert ctlr["blame"] is None
    assert "Quiescent" in ctlr["clause"]


def test_require_proof_exits_4_when_nothing_was_observed(capsys, tmp_path):
    path = tmp_path / "t.its.txt"
    path.write_text('# itstrace: 1\n# profile: "qemu-7.2.22"\n0 +0 reset how=system\n')
    assert cli.main(["verify", str(path)]) == 0
    assert "unproven: none of" in capsys.readouterr().out
    assert cli.main(["verify", str(path), "--require-proof"]) == 4


def test_a_stale_register_exits_1_and_names_its_writer(capsys, tmp_path):
    path = tmp_path / "t.its.txt"
    path.write_text(
        '# itstrace: 1\n# profile: "qemu-7.2.22"\n0 +0 reset how=power_on\n'
        "1 +0 reg.write offset=0x80 value=0x8000000040300000\n2 +0 reset how=system\n"
        "3 +0 reg.read offset=0x80 value=0x8000000040300000\n"
    )
    assert cli.main(["verify", str(path)]) == 1
    out = capsys.readouterr().out
    assert "reset 1: system at event 2: stale" in out
    assert "written by event 1" in out


def test_an_unknown_input_cannot_be_judged(capsys, tmp_path):
    path = tmp_path / "t.its.txt"
    path.write_text('# itstrace: 1\n# profile: "qemu-7.2.22"\n0 +0 kind.63 field.0="1"\n')
    assert cli.main(["check", str(path)]) == 4
    assert "inputs of a newer itstrace (kind.63)" in capsys.readouterr().err
    assert cli.main(["info", str(path)]) == 4


def test_lost_events_exit_3_and_are_said(capsys, tmp_path):
    path = tmp_path / "t.its.txt"
    path.write_text('# itstrace: 1\n# profile: "qemu-7.2.22"\n0 +0 loss reason="full"\n')
    assert cli.main(["check", str(path)]) == 3
    assert "events are missing in 1 places" in capsys.readouterr().err


def test_a_damaged_trace_exits_3_and_says_where(capsys, trace):
    data = bytearray(trace.read_bytes())
    data[len(data) // 2] ^= 1
    trace.write_bytes(data)
    for verb in ("check", "verify", "state", "info", "show"):
        assert cli.main([verb, str(trace)]) == 3, verb
        captured = capsys.readouterr()
        assert "byte 0x" in captured.out + captured.err


def test_a_cut_trace_is_good_up_to_there(capsys, trace):
    trace.write_bytes(trace.read_bytes()[:-10])
    assert cli.main(["check", str(trace)]) == 0
    assert "the last frame is cut off" in capsys.readouterr().err


# -- import


def test_a_trace_does_not_depend_on_how_fast_its_file_was_read(tmp_path, trace, monkeypatch):
    monkeypatch.setattr(fmt, "DEFAULT_BOUND_MS", 2)  # any reader is slower than that
    again = tmp_path / "again.itstrace"
    assert cli.main(["import", str(CAPTURE), "-o", str(again)]) == 0
    assert again.read_bytes() == trace.read_bytes()


def test_import_reads_gzip_and_standard_input(tmp_path, capsys, trace):
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(CAPTURE.read_bytes()))
    assert cli.main(["import", str(packed)]) == 0
    assert (tmp_path / "log.itstrace").read_bytes() == trace.read_bytes()
    with CAPTURE.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "replay.cli", "import", "-", "-o", str(tmp_path / "p.itstrace")],
            stdin=stream, cwd=TRACES.parent, check=False, capture_output=True,
        )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "p.itstrace").read_bytes() == trace.read_bytes()


def test_import_refuses_to_overwrite(tmp_path, capsys, trace):
    assert cli.main(["import", str(CAPTURE), "-o", str(trace)]) == 2
    assert "exists already; --force overwrites it" in capsys.readouterr().err
    assert cli.main(["import", str(CAPTURE), "-o", str(trace), "--force"]) == 0


def test_import_of_something_else_says_what_it_wants(tmp_path, capsys):
    path = tmp_path / "x.log"
    path.write_text("hello\n")
    assert cli.main(["import", str(path)]) == 3
    assert "a QEMU trace log is made with" in capsys.readouterr().err
    assert cli.main(["import", str(tmp_path / "none.log")]) == 2


def test_import_reports_a_line_of_ours_that_it_cannot_read(tmp_path, capsys):
    lines = CAPTURE.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "ITS read" in line)
    lines[at] = lines[at].replace("data", "dta")
    path = tmp_path / "x.log"
    path.write_text("\n".join(lines) + "\n")
    assert cli.main(["import", str(path)]) == 3
    assert f"x.log:{at + 1}: this is not how QEMU prints gicv3_its_read" in capsys.readouterr().err
    code, found = answer(capsys, "info", tmp_path / "x.itstrace")
    assert code == 0
    assert found["events"]["source.gap"] == 1
    assert found["lost"] == 1


def test_what_an_importer_cannot_know_can_be_given(tmp_path, capsys):
    path = tmp_path / "x.itstrace"
    argv = ["import", str(CAPTURE), "-o", str(path), "--profile", "qemu-10.0.13", "--cpus", "2"]
    assert cli.main([*argv, "--its-base", "0x8080000", "--ram", "0x40000000:0x40000000"]) == 0
    capsys.readouterr()
    header = answer(capsys, "info", path)[1]["header"]
    assert header["profile"] == "qemu-10.0.13"
    assert header["ram_ranges"] == [[0x40000000, 0x40000000]]
    assert header["guessed"] == ["implementation", "implementation_version", "reset.how"]
    assert cli.main([*argv, "--force", "--ram", "x"]) == 2


def test_a_profile_that_is_not_known_takes_the_nearest_and_says_so(capsys, trace):
    assert cli.main(["check", str(trace), "--profile", "qemu-7.2.30"]) == 0
    assert "no profile qemu-7.2.30: taking the nearest one, qemu-7.2.22" in capsys.readouterr().err
    assert cli.main(["check", str(trace), "--profile", "vax-1"]) == 2


# -- show


def test_show_filters_and_ranges(capsys, trace):
    assert cli.main(["show", str(trace), "-Y", "command == MAPTI and DeviceID == 0x8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == grep(TWO_BOOTS, "MAPTI DeviceID 0x8 ")
    assert all("MAPTI" in line and "DeviceID=0x8" in line for line in lines)
    assert cli.main(["show", str(trace), "--range", "77..79"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["77", "78", "79"]
    assert "GITS_CWRITER" in lines[0]
    assert "MAPD      DeviceID=0x20 Size=0x1 ITT_addr=0x42727000 V=0x1" in lines[1]


def test_show_json_is_one_document_a_line(capsys, trace):
    assert cli.main(["show", str(trace), "--json", "-Y", "reset"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["how"] for each in documents] == ["power_on", "system"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch == 1", "no event has a field called 'nosuch'"),
        ("kind ==", "ends too early"),
        ("(kind == reset", "ends too early"),
        ("kind == reset )", "is not expected there"),
        ("$", "cannot understand"),
        ("(" * 600 + "reset", "nested too deeply"),
    ],
)
def test_a_filter_that_cannot_be_understood_says_where(capsys, trace, text, message):
    assert cli.main(["show", str(trace), "-Y", text]) == 2
    assert message in capsys.readouterr().err


def test_the_text_form_of_a_trace_gives_the_same_answers(tmp_path, capsys, trace):
    assert cli.main(["show", "--text", str(trace)]) == 0
    path = tmp_path / "two-boots.its.txt"
    path.write_text(capsys.readouterr().out)
    assert answer(capsys, "state", path)[1] == answer(capsys, "state", trace)[1]


# -- the rest


def test_help_builds_no_parser():
    code = (
        "import sys; from replay.cli import main; main(['--help']);"
        "sys.exit(bool({'argparse','msgpack','structlog','rich','asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TRACES.parent, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0
    verbs = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert verbs[:3] == ["import", "check", "verify"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(capsys, verb):
    assert cli.main([verb, "--help"]) == 0
    assert f"usage: itstrace {verb}" in capsys.readouterr().out


def test_a_wrong_verb_is_guessed_at(capsys):
    assert cli.main(["verfy"]) == 2
    assert "did you mean verify?" in capsys.readouterr().err
    assert cli.main([]) == 2


@pure_only
def test_a_bug_of_ours_exits_70(capsys, monkeypatch, trace):
    def broken(self, until=None):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("replay.engine.Engine.run", broken)
    assert cli.main(["check", str(trace)]) == 70
    assert "this is a bug of itstrace" in capsys.readouterr().err


def test_control_characters_never_reach_the_terminal(capsys, tmp_path):
    path = tmp_path / "t.its.txt"
    path.write_text('# itstrace: 1\n0 +0 marker text="\\u001b[31mred\\u009b0m"\n')
    assert cli.main(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert common.clean("\x1b[2J") == "\\x1b[2J"


def test_a_reader_that_goes_away_is_no_error(trace):
    shell = f"'{sys.executable}' -m replay.cli show '{trace}' | head -1"
    done = subprocess.run(
        ["sh", "-c", shell], cwd=TRACES.parent, capture_output=True, check=False, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_demo_ends_in_a_verdict(capsys):
    assert cli.main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "reset 1: system at event 344: equal in 4 of 24 observed" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_verbs(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    assert "verify" in capsys.readouterr().out


def test_demo_outside_a_checkout_says_so(capsys):
    assert cli.main(["demo", "--capture", "nothing.log"]) == 2
    assert "needs a checkout" in capsys.readouterr().err


def test_the_readme_shows_what_the_demo_prints(capsys):
    assert cli.main(["demo"]) == 0
    shown = capsys.readouterr().out.splitlines()
    readme = Path(TRACES.parent, "README.md").read_text()
    for line in shown:
        assert line in readme


def test_operational_messages_are_json_lines_when_asked_for(tmp_path):
    command = [sys.executable, "-m", "replay.cli", "import", str(CAPTURE), "-o"]
    for level, count in (("info", 2), ("warning", 0)):
        done = subprocess.run(
            [*command, str(tmp_path / f"{level}.itstrace"), "--log-level", level],
            cwd=TRACES.parent, capture_output=True, check=True, text=True,
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        assert len(lines) == count
        assert [each["event"] for each in lines] == ["import begins", "import ends"][:count]
        assert all(each["source"] == "qemu-log" for each in lines)


@pytest.mark.parametrize("verb", ["verify", "check", "state", "minimize"])
def test_whoever_sent_a_trace_names_no_file_of_ours(tmp_path, capsys, verb):
    """A profile may be a file for who asks, not for what is asked about."""
    profile = tmp_path / "image.toml"
    profile.write_text('name = "linux-6.1.192"\nnearest = "linux-6.1.192"\n[flags]\n')
    trace = tmp_path / "sent.its.txt"
    trace.write_text(f'# itstrace: 1\n# profile: "{profile}"\n# cpus: 1\n0 +0 reset how=power_on\n')
    more = ["-o", str(tmp_path / "o.its.txt")] if verb == "minimize" else []
    assert cli.main([verb, str(trace), *more]) == 2
    assert "profile must be one of" in capsys.readouterr().err
    if verb != "minimize":  # which looks for a fault first
        assert cli.main([verb, str(trace), "--profile", str(profile)]) == 0
