"""Standard streams that are closed, full or no longer read: no traceback, and no code that says more than was seen."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from replay import cli
from tests.support.captures import TWO_BOOTS, trace_bytes

ROOT = Path(__file__).parents[2]
CLI = f"'{sys.executable}' -m replay.cli"


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("streams") / "a.itstrace"
    path.write_bytes(trace_bytes(TWO_BOOTS))
    return path


def shell(line):
    """Run a line; return its exit code and what it printed in both ways."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("verify {} >&-", 0),
        ("verify {} <&- >&- 2>&-", 0),
        ("verify missing 2>&-", 2),
        ("verify - <&-", 3),
    ],
)
def test_a_closed_stream_changes_no_exit_code(trace, line, code):
    found, _, err = shell(f"{CLI} {line.format(trace)}")
    assert found == code
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["show {}", "verify {}", "--help"])
def test_a_full_disk_is_no_bug_of_ours(trace, words):
    code, _, err = shell(f"{CLI} {words.format(trace)} >/dev/full")
    assert code == 3
    assert err.endswith("put: No space left on device\n")
    assert err.count("\n") == 1


def test_whoever_reads_only_the_beginning_is_not_told_that_nothing_was_found(trace):
    code, out, err = shell(f"set -o pipefail; {CLI} show {trace} | head -n 1")
    assert (code, out.count("\n"), err) == (141, 1, "")


def test_help_is_cut_short_without_a_word(trace):
    code, _, err = shell(f"{CLI} --help | true; exit ${{PIPESTATUS[1]}}")
    assert (code, err) == (0, "")


def test_usage_that_nobody_asked_for_is_a_diagnostic():
    code, out, err = shell(CLI)
    assert (code, out) == (2, "")
    assert err.startswith("usage: itstrace VERB")


def test_a_folder_that_nobody_may_read_is_wrong_usage_and_no_bug(monkeypatch, capsys):
    def forbidden():
        raise PermissionError(errno.EACCES, "Permission denied", "/root/.cache")

    monkeypatch.setattr("replay.commands.kernels.here", forbidden)
    assert cli.main(["kernels"]) == 2
    assert capsys.readouterr().err == "itstrace kernels: /root/.cache: Permission denied\n"


def test_an_error_of_the_system_that_nobody_explains_is_a_bug_of_ours(monkeypatch, capsys):
    def gone():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "aarch64-gcc")

    monkeypatch.setattr("replay.commands.kernels.here", gone)
    assert cli.main(["kernels"]) == 70
    assert "this is a bug of itstrace" in capsys.readouterr().err
