"""No verb writes over the file that it reads, whatever is forced and by whatever name."""

from __future__ import annotations

import os
import threading

import pytest

from replay import cli
from tests.support.captures import TRACES, TWO_BOOTS, trace_bytes

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
def test_a_pipe_is_not_taken_for_a_file_that_can_be_read_again(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.itstrace").write_bytes(trace_bytes(TWO_BOOTS))
    os.mkfifo("pipe.itstrace")
    command = TWICE[verb].replace("PIPE", "pipe.itstrace").split()
    pipe = os.open("pipe.itstrace", os.O_RDWR)
    os.write(pipe, trace_bytes(TWO_BOOTS))
    ends = threading.Timer(10, os.close, [pipe])  # for a verb that does read it
    ends.start()
    code = cli.main(command)
    ends.cancel()
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith(f"itstrace {verb}: ")
    assert err.count("\n") == 1
    assert "not an itstrace file" not in err
