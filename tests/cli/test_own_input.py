"""No verb writes over the file that it reads, whatever is forced and by whatever name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from replay import cli
from tests.support.captures import TRACES, TWO_BOOTS, trace_bytes

ROOT = Path(__file__).parents[2]
VERBS = {
    "scrub": [], "cut": ["--range", "5..9"], "merge": ["FILE"],
    "export text": ["--to", "text"], "export sqlite": ["--to", "sqlite"],
    "export parquet": ["--to", "parquet"], "report": [],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["a.itstrace", "link.itstrace", "./a.itstrace"])
def test_an_input_stays_as_it_is(verb, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.itstrace").write_bytes(trace_bytes(TWO_BOOTS))
    (tmp_path / "link.itstrace").symlink_to("a.itstrace")
    words = [word.replace("FILE", "a.itstrace") for word in VERBS[verb]]
    command = [verb.split()[0], "a.itstrace", *words, "-o", name, "--force"]
    assert cli.main(command) == 2
    assert "is being read, and stays as it is" in capsys.readouterr().err
    assert (tmp_path / "a.itstrace").read_bytes() == trace_bytes(TWO_BOOTS)


def test_a_capture_stays_as_it_is(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes((TRACES / TWO_BOOTS).read_bytes())
    assert cli.main(["import", str(log), "-o", str(log), "--force"]) == 2
    assert log.read_bytes() == (TRACES / TWO_BOOTS).read_bytes()


def test_what_was_read_may_be_overwritten_once_it_is_closed(tmp_path):
    first, second = tmp_path / "a.itstrace", tmp_path / "b.itstrace"
    first.write_bytes(trace_bytes(TWO_BOOTS))
    assert cli.main(["scrub", str(first), "-o", str(second)]) == 0
    assert cli.main(["scrub", str(second), "-o", str(first), "--force"]) == 0


TWICE = {
    "cut": "cut PIPE --reset 1 -o out", "recover": "recover PIPE -o out",
    "merge": "merge a.itstrace PIPE -o out", "run": "run PIPE --target model",
    "report": "report PIPE a.itstrace -o out", "blame": "blame PIPE GITS_CTLR --at reset:0",
    "verify": "verify PIPE --on model", "scrub": "scrub PIPE --move-addresses -o out",
}  # fmt: skip


@pytest.mark.parametrize("verb", TWICE)
def test_a_pipe_is_not_taken_for_a_file_that_can_be_read_again(verb, tmp_path):
    (tmp_path / "a.itstrace").write_bytes(trace_bytes(TWO_BOOTS))
    os.mkfifo(tmp_path / "pipe.itstrace")
    pipe = os.open(tmp_path / "pipe.itstrace", os.O_RDWR)  # a verb that reads it waits for its end
    try:
        done = subprocess.run(
            [sys.executable, "-m", "replay.cli", *TWICE[verb].replace("PIPE", "pipe.itstrace").split()],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    finally:
        os.close(pipe)
    assert done.returncode == 2
    assert done.stderr.startswith(f"itstrace {verb}: ")
    assert done.stderr.count("\n") == 1
    assert "not an itstrace file" not in done.stderr
