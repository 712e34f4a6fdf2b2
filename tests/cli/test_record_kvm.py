"""`itstrace record kvm` with a host that a shell plays: what a real one says is in traces/.

On a real kernel, tests/real_kvm tests it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replay import cli
from tracer.log.opening import open_trace
from tracer.sources.kvm_script import script

CAPTURES = sorted((Path(__file__).parents[2] / "traces").glob("kvm-*boot-stop-reset-boot*.gz"))


def playing(text):
    """Return a command that takes the script, and says what is in a file or a shell command says."""
    return f"dash -c 'cat >/dev/null & {text}'"


def record(*words):
    return cli.main(["record", "kvm", *map(str, words)])


def test_the_script_is_shown_and_nothing_else_done(capsys):
    assert record("--print-script") == 0
    assert capsys.readouterr().out == script()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_a_host_is_recorded(tmp_path, capsys, capture):
    raw = tmp_path / "raw"
    code = record(
        *("--via", playing(f"gzip -dc {capture}"), "-o", tmp_path / "vm-%p.itstrace", "--raw", raw)
    )
    assert code == 0
    assert raw.read_bytes().count(b"#its end: ") == 1
    (path,) = tmp_path.glob("vm-*.itstrace")
    with open_trace(str(path)) as reader:
        assert sum(len(events) for _, events in reader) > 1000
        assert reader.status == "clean"
        assert reader.header.source == "record-kvm"
        assert reader.header.command_line[0] == "qemu-system-aarch64"
        assert path.name == f"vm-{reader.header.annotations['vm']}.itstrace"
    assert "qemu-system-aarch64" in capsys.readouterr().err


def test_a_stream_that_breaks_off_is_said(tmp_path, capsys):
    via = playing(f"gzip -dc {CAPTURES[0]} | head -n 3000")
    assert record("--via", via, "-o", tmp_path / "%p") == 3
    assert "the connection broke" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


def test_a_host_without_a_vm_is_said(tmp_path, capsys):
    via = playing('echo "#its stream: 1"; echo "#its end: stop"')
    assert record("--via", via, "-o", tmp_path / "%p") == 3
    assert "no VM showed an ITS" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_lost_is_said(tmp_path, capsys):
    lost = 'echo "#its lost: cpu 0 overrun 7 dropped 2"; echo "#its missed: rd 3"'
    via = playing(f'echo "#its stream: 1"; {lost}; echo "#its end: stop"')
    assert record("--via", via, "-o", tmp_path / "%p") == 3
    told = capsys.readouterr().err
    assert "the kernel lost 9 records" in told
    assert "the probe rd 3 times" in told


@pytest.mark.parametrize(
    ("via", "code", "message"),
    [
        ("/no/such/ssh root@host", 2, "cannot be run"),
        ("false", 3, "the recorder did not begin: its shell ended with status 1"),
        (playing('echo "#its error: this must run as root"'), 3, "this must run as root"),
        ("echo greeting", 3, "the recorder did not begin: its shell ended with status 0"),
    ],
)
def test_a_host_that_cannot_be_recorded_is_said(tmp_path, capsys, via, code, message):
    assert record("--via", via, "-o", tmp_path / "%p") == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_trace_is_overwritten(tmp_path, capsys):
    (tmp_path / "vm-180.itstrace").write_text("mine")
    assert record("--via", "false", "-o", tmp_path / "vm-%p.itstrace") == 2
    assert "vm-180.itstrace exists: give --force" in capsys.readouterr().err
    assert record("--via", "false", "-o", tmp_path / "%p" / "x") == 2
    assert "not in its folder's" in capsys.readouterr().err


def test_signals_are_requests(tmp_path):
    """What comes while the shell still reads the script, and would swallow it, is kept until then."""
    shell, answers = tmp_path / "shell", tmp_path / "answers"
    answers.write_text(
        'while read -r word; do echo "said $word" >&2; [ $word = stop ] && exit; done'
    )
    shell.write_text(
        'while read -r line; do [ "$line" = \'main "$@"\' ] && break; done\n'
        "echo now >&2; timeout 1 cat >/dev/null; echo '#its stream: 1'\n"
        f"timeout 20 dash {answers}; echo '#its end: stop'\n"
    )
    recorder = subprocess.Popen(
        [
            *(sys.executable, "-m", "replay.cli", "record", "kvm"),
            *("--via", f"dash {shell}", "-o", tmp_path / "vm-%p"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    with recorder:
        assert recorder.stderr.readline() == "now\n"
        os.kill(recorder.pid, signal.SIGUSR1)
        assert recorder.stderr.readline() == "said sample\n"
        os.kill(recorder.pid, signal.SIGINT)
        assert recorder.stderr.read() == "said stop\nno VM showed an ITS\n"
    assert recorder.returncode == 3
