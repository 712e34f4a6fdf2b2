"""`--git-bisect`: 0 only for a build that was judged good, 1 only for a bad one, 125 for all else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from replay import builds, cli
from replay.commands import bisect_over
from replay.commands.common import build_parser
from replay.profile_file import format_profile
from replay.profiles import PROFILES
from replay.ruling import BAD, CANNOT, GOOD, Ruling
from replay.targets.errors import TargetError

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "traces/scenarios"
F3 = str(SCENARIOS / "S06-K17-F3-mapd-unmap-leaves-its-entry.its.txt")
F4 = str(SCENARIOS / "S09-K23-F4-save-after-mapc-unmap.its.txt")
LEAST_F1 = str(ROOT / "traces/bugs/F1/F1-least.its.txt")
LEAST_F3 = str(ROOT / "traces/bugs/F3/F3-least.its.txt")
K20 = str(SCENARIOS / "S08-K20-unmapped-collection-restored.its.txt")
F3_SHOWN = "stale:restore:device"
QUIET = str(SCENARIOS / "F1-cured-by-lpis-off.its.txt")  # its manifest has no signature
BUGGY = "mapd_unmap_clears_dte=false"
DIES = "save_zeroes_ite_without_collection=false"


@pytest.fixture
def pinned(tmp_path):
    """A profile file as a build step makes it, of a build with the bug."""
    path = tmp_path / "profile.toml"
    told = {"mapd_unmap_clears_dte": False}
    path.write_text(format_profile("linux-mine", PROFILES["linux-6.1.192"], "mine", told))
    return str(path)


@pytest.fixture
def damaged(tmp_path):
    """A trace whose file is damaged before its end."""
    whole = tmp_path / "whole.itstrace"
    words = ["--seed", "1", "--events", "2000", "--profile", "linux-6.1.192", "-o", str(whole)]
    assert cli.main(["generate", *words]) == 0
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "damaged.itstrace"
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def distracted(tmp_path):
    """F4 behind an answer that no build gives: another finding, before the one that counts."""
    path = tmp_path / "distracted.its.txt"
    lines = Path(F4).read_text().splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(". "))
    wrong = ". +0 reg.read offset=0x8 value=0x1 origin=vmm"
    path.write_text("\n".join([*lines[:first], wrong, *lines[first:], ""]))
    return str(path)


ANY = ("--signature", "suspected:ctrl_reset:device")
CRASH = ("--signature", "crash:vgic_its_save_tables_v0")
TABLE = [
    # verdicts, on the model
    (["verify", F3], 0),
    (["verify", F3, "--flag", BUGGY], 1),
    (["check", F3], 0),
    (["check", F3, "--flag", BUGGY], 1),
    (["check", F4, "--flag", DIES], 1),
    (["check", F4], 0),
    (["verify", F3, "--profile", "{pinned}"], 1),
    (["verify", F3, "--profile", "linux-6.1.192"], 0),
    (["verify", F3, "--flag", BUGGY, "--signature", "suspected:restore:event"], 1),
    # another finding than the signature is not bad
    (["verify", F3, "--flag", BUGGY, "--signature", "suspected:restore:collection"], 0),
    (["verify", F4, "--flag", DIES, "--signature", "crash:elsewhere"], 125),
    # nothing that could have shown it
    (["verify", F3, "--signature", "stale:system:lpi"], 125),
    (["verify", F3, "--signature", "stale:restore:devices"], 125),
    # wrong use, whatever the code would be otherwise
    (["verify", QUIET], 125),
    (["verify", F3, "--signature", "nonsense"], 125),
    (["verify", F3, "--wrong"], 125),
    (["verify", F3, "--help"], 125),
    (["verify", F3, "-f"], 125),
    (["verify", F3, "--profile", "no-such"], 125),
    (["verify", F3, "--profile", "/nowhere/profile.toml"], 125),
    (["verify", F3, "--flag", "no_such=true"], 125),
    (["verify"], 125),
    (["run", F3], 125),
    (["info", F3], 125),
    (["no-such-verb", F3], 125),
    (["--help"], 125),
    (["--version"], 125),
    ([], 125),
    # files and targets
    (["verify", "/nowhere/bug.itstrace", *ANY], 125),
    (["verify", str(ROOT / "Makefile"), *ANY], 125),
    (["verify", "{damaged}", *ANY], 125),
    (["run", F4, "--target", "kvm:/nowhere/Image"], 125),
    (["run", F4, "--target", "qemu:/nowhere/qemu"], 125),
    (["run", F4, "--target", "other:x"], 125),
    (["run", F3, "--target", "model"], 125),  # suspected: is nothing that a run shows
    (["run", F4, "--target", "model:linux-6.1.176"], 1),
    (["run", F4, "--target", "model:linux-6.1.192"], 0),
    (["run", "{distracted}", "--target", "model:linux-6.1.176", *CRASH], 1),
    (["run", "{distracted}", "--target", "model:linux-6.1.192", *CRASH], 0),
    (["check", "{distracted}", "--profile", "linux-6.1.176", *CRASH], 1),
    (["run", F4, "--target", "model:linux-6.1.192", "--target", "model:linux-6.1.176"], 1),
    (["run", F4, "--target", "model:linux-6.1.192", "--target", "model:linux-7.2.13"], 0),
    # commands behind a recorded restore mean another thing to a side that was never reset
    (["verify", K20, "--on", "model:linux-6.1.192", "--probe", "--signature", F3_SHOWN], 0),
    (["verify", K20, "--on", "model:linux-6.1.192", "--signature", F3_SHOWN], 125),
    (["run", F4, "--target", "model", "--target", "model", "--signature", "complaint:x"], 125),
    (["verify", F3, "--on", "kvm:/nowhere/Image", "--probe"], 125),
    # a target that is asked about itself: here a model, without and with generated questions
    (["verify", LEAST_F3, "--on", "model:linux-5.10.223"], 1),
    (["verify", LEAST_F3, "--on", "model:linux-5.10.223", "--probe"], 1),
    (["verify", LEAST_F3, "--on", "model:linux-7.2.13", "--probe"], 0),
    (["verify", LEAST_F1, "--on", "model:linux-7.2.13", "--probe"], 1),
    (["verify", LEAST_F1, "--on", "model:linux-7.2.13", "--probe", "--at", "2"], 0),
    (["verify", LEAST_F1, "--on", "model:linux-7.2.13", "--signature", "stale:system:lpi"], 125),
    (["verify", LEAST_F1, "--on", "model:linux-7.2.13", "--signature", "stale:other:lpi"], 125),
    (["verify", LEAST_F1, "--on", "model:linux-7.2.13", "--signature", "crash:f", "--probe"], 0),
    (["verify", LEAST_F1, "--on", "model:linux-6.1.176", "--signature", "crash:f", "--probe"], 125),
    (["verify", F3, "--on", "kvm:" + str(ROOT / "Makefile"), "--probe", "--kind", "nothing"], 125),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code"), TABLE, ids=lambda value: str(value)[-60:])
def test_exit_codes(words, code, request, capsys):
    filled = [
        request.getfixturevalue(each.strip("{}")) if each.startswith("{") else each
        for each in words
    ]
    assert cli.main([*filled, "--git-bisect"]) == code
    assert capsys.readouterr().err or code == 125  # `--help` says it on stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),  # git stops, too
        (TargetError("it hangs"), 125),
        (RuntimeError("a bug of ours"), 125),
        (MemoryError(), 125),
        (RecursionError(), 125),
        (SystemExit(0), 125),
        (SystemExit(1), 125),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_never_a_ruling(error, code, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(builds, "of_model", fail)
    assert cli.main(["verify", F3, "--git-bisect"]) == code


def test_a_reader_that_went_away_makes_no_build_good(monkeypatch):
    # without --git-bisect it is what SIGPIPE makes: the finding was not read
    monkeypatch.setattr(cli.os, "dup2", lambda *_: None)
    monkeypatch.setattr(builds, "of_model", lambda *_, **__: Ruling(BAD))
    for words, code in (([], 141), (["--git-bisect"], 125)):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", Gone())
            assert cli.main(["verify", F3, "--json", *words]) == code


class Gone(io.StringIO):
    """A standard output whose reader went away."""

    def write(self, text):
        raise BrokenPipeError

    def fileno(self):
        return 1


def test_a_broken_installation_is_no_bad_build(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "replay.commands.common", None)  # importing it fails
    assert cli.main(["verify", F3, "--git-bisect"]) == 125
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "code"), [("true", 0), ("false", 1)])
def test_the_codes_leave_the_process(flag, code):
    words = [F3, "--git-bisect", "--flag", f"mapd_unmap_clears_dte={flag}"]
    done = subprocess.run(
        [sys.executable, "-m", "replay.cli", "verify", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stdout == ""


def test_it_says_what_was_found_and_which_of_it_counts(capsys):
    assert cli.main(["verify", F3, "--git-bisect", "--flag", BUGGY, "--json"]) == 1
    captured = capsys.readouterr()
    assert "bad: suspected:restore:device was found; found, and not counted: " in captured.err
    found = json.loads(captured.out)
    assert found["schema"] == "itstrace.git_bisect/1"
    assert found["verdict"] == "bad"
    assert found["signature"] == "suspected:restore:device"
    assert {"suspected:restore:device", "suspected:restore:event"} <= set(found["found"])


# -- a list of builds


def over(capsys, *words):
    parser = build_parser("bisect", "find")
    parser.add_argument("trace")
    parser.add_argument("--json", action="store_true")
    bisect_over.configure_over(parser)
    code = bisect_over.run(parser.parse_args([*words]))
    return code, capsys.readouterr().out


MODELS = [
    f"model:linux-{version}" for version in ("5.10.223", "6.1.176", "6.1.192", "6.12.117", "7.2.13")
]


@pytest.mark.parametrize(
    ("trace", "last", "asked"), [(F4, 1, 4), (F3, 0, 4)], ids=["F4", "F3"]
)  # fmt: skip
def test_the_boundary_between_models(capsys, trace, last, asked):
    code, out = over(capsys, trace, "--json", "--over", *MODELS)
    found = json.loads(out)
    assert code == 1
    assert found["schema"] == "itstrace.bisect_over/1"
    assert found["boundary"] == {
        "from": "bad", "to": "good", "last": last, "first": last + 1, "not_judged": [],
    }  # fmt: skip
    assert found["asked"] == asked
    assert [each["verdict"] for each in found["builds"]].count("not asked") == 5 - asked
    assert found["monotone"] is None  # one was not asked


def test_two_ends_that_are_alike_cannot_be_bisected(capsys):
    code, out = over(capsys, F4, "--over", MODELS[0], MODELS[2], MODELS[1])
    assert code == 4
    assert "both ends are bad: there is no boundary; --all asks the others, too" in out


def test_a_list_that_is_in_another_order_is_seen_with_all(capsys):
    words = (F4, "--all", "--over", MODELS[0], MODELS[2], MODELS[1], MODELS[4])
    code, out = over(capsys, *words)
    assert code == 1
    assert "it changes 3 times: the list is not in the order of one change" in out
    code, out = over(capsys, *words[:1], "--json", *words[1:])
    assert json.loads(out)["monotone"] is False
    assert json.loads(out)["boundary"] is None


def test_a_build_that_is_not_there_is_skipped(capsys):
    code, out = over(capsys, F4, "--over", MODELS[1], "kvm:/nowhere/Image", MODELS[2])
    assert code == 1
    assert "from bad to good, with 1 between them that cannot be judged: 1 to 3" in out
    assert "there is no such kernel image" in out


def test_a_terminal_gets_its_colours_and_no_bytes_of_a_name(capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out = over(capsys, F4, "--over", MODELS[1], "kvm:/no\x1b[2Jwhere", MODELS[2])
    assert "\x1b[31mbad         \x1b[0m  model:linux-6.1.176" in out
    assert "kvm:/no\\x1b[2Jwhere" in out
    assert "\x1b[2J" not in out


def test_a_boundary_says_how_sure_it_is(capsys, monkeypatch):
    words = iter((BAD, GOOD, CANNOT))

    def rule(*_, **__):
        return Ruling(next(words), (), "why")

    monkeypatch.setattr(bisect_over, "rule", rule)
    _, out = over(capsys, F4, "--over", *MODELS[:3])
    assert "every build was asked, and it changes once" in out
