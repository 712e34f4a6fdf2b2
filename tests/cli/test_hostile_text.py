"""No verb lets a terminal see raw what a guest, a VMM or whoever sent a file has chosen.

One hostile trace, and its relatives: every text in it is an escape sequence and a forged line, and
so is the file's name. Each verb of the table must have a row here.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
from dataclasses import replace

import pytest

from replay import cli
from replay.commands import common
from tests.support.captures import TRACES
from tests.support.traces import (
    EVENTS,
    Frame,
    build,
    forge,
    packed,
    small_events,
    small_header,
    split,
)
from tracer.events import make
from tracer.log.opening import open_trace
from tracer.log.stream import Reader
from tracer.log.text import write_text

ESCAPES = "\x1b[31m\x1b]0;owned\x07\x1b[2J\x08\x7f\x9b31m\x00\r"
FORGED = "::error::forged"
TEXT = f"{ESCAPES}\n{FORGED}\u202e\u2066 end"
NAME = "a\x1b[31m\x9b2Jname"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

HEADER = {
    "created": TEXT, "recorder": TEXT, "recorder_version": TEXT, "source": TEXT,
    "implementation": TEXT, "implementation_version": TEXT, "clock": TEXT, "guessed": [TEXT],
    "command_line": [TEXT, TEXT], "host": TEXT, "annotations": {"note": TEXT, "ring": TEXT},
    "order": TEXT, "extra": {"more": TEXT},
}  # fmt: skip


def hostile_events():
    """Return a life that can be replayed, with foreign text wherever an event has room for it."""
    note = [
        make("marker", 0, text=TEXT),
        (127, 0, TEXT, TEXT.encode()),  # an output and a note of a newer itstrace
        (200, 0, TEXT, (TEXT, b"\x1b[31m")),
        make("mem.write", 0, gpa=0x42600000, data=TEXT.encode()),
    ]
    life = small_events()
    return [
        *life[:-1], *note, make("reset", 0, how=1), *life[4:5], *note,
        make("source.gap", 0, reason=TEXT), make("loss", 0, reason=TEXT, count=1),
    ]  # fmt: skip


def hostile_trace(**changes):
    return build(hostile_events(), small_header(**HEADER | changes))


# What would be code in a C file, and in a line of a shell.
CODE = "*/ evil(); /* \\\n evil() `evil` $(evil) '; evil; ' \" ; evil ; ??/ %s" + TEXT


def on_kvm():
    """Return a life of a kernel's ITS with notes that would be code in what is made of it."""
    with open_trace(str(TRACES / "scenarios" / "F1-lpi-outlives-ctrl-reset.its.txt")) as reader:
        header = replace(reader.header, **HEADER)
        header.uuid = CODE
        header.annotations = {"note": CODE, "typer": CODE, "GITS_TYPER": CODE}
        events = [event for _, block in reader for event in block]
    notes = [make("marker", 0, text=CODE), make("source.gap", 0, reason=CODE)]
    return build([*events[:-1], *notes, events[-1]], header)


def text_form(data):
    reader = Reader(io.BytesIO(data))
    out = io.StringIO()
    write_text(reader.header, ((f + at, e) for f, es in reader for at, e in enumerate(es)), out)
    return out.getvalue().encode()


def damaged(data):
    changed = bytearray(data)
    changed[split(data)[2].start + 60] ^= 1
    return bytes(changed)


def unknown_input():
    frames = split(hostile_trace())
    return forge([*frames[:2], Frame(EVENTS, packed((33, 0, TEXT), first_seq=9))])


FILES = {
    "replayable": hostile_trace(),
    "on KVM": on_kvm(),
    "text": text_form(hostile_trace()),
    "damaged": damaged(hostile_trace()),
    "no profile": hostile_trace(profile=None),
    "profile": hostile_trace(profile=TEXT),
    "flags": hostile_trace(flags={"name": [TEXT, TEXT]}),
    "unknown input": unknown_input(),
    "wrong line": b"# itstrace: 1\n# profile: \"\x1b[31m\"\n\xc2\x9b0 +0 \x1b[31mreset how=\x1b[31m\n",
    "wrong key": f"# itstrace: 1\n# cpus: \"{ESCAPES}\"\n".encode(),
    "log": b"gicv3_its_read GICv3 ITS read: offset 0x0 \x1b[31m data 0x1 size 4\n\x1b]0;owned\x07\n",
    "nothing": ESCAPES.encode(),
}  # fmt: skip

# verb -> the command lines that show a file; FILE and OUT stand for names, OTHER for a good trace
COMMANDS = {
    "import": [["FILE", "-o", "OUT"], ["FILE", "--cpus", "1", "-o", "OUT"]],
    "check": [["FILE"], ["FILE", "--json"], ["FILE", "--profile", "qemu-7.2.22", "--invariants"]],
    "verify": [["FILE"], ["FILE", "-v"], ["FILE", "--json"], ["FILE", "--log-level", "info"]],
    "run": [["FILE", "--target", "model"], ["FILE", "--target", NAME]],
    "minimize": [["FILE", "--max-seconds", "2", "--jobs", "1", "-o", "OUT"]],
    "export": [["FILE", "--to", form] for form in ("kvm-c", "qtest", "text", "jsonl")]
    + [["FILE", "--to", form, "-o", "OUT"] for form in ("sqlite", "parquet", "ctf", "perfetto")],
    "record": [],
    "reset": [["FILE"]],
    "info": [["FILE"], ["FILE", "--json"]],
    "show": [["FILE"], ["FILE", "--json"], ["FILE", "--text"], ["FILE", "-Y", NAME], ["FILE", NAME]],
    "state": [["FILE"], ["FILE", "--json"], ["FILE", "--at", "20"]],
    "blame": [["FILE", "GITS_CTLR"], ["FILE", "device 0x8"], ["FILE", NAME]],
    "diff": [["FILE", "OTHER"], ["OTHER", "FILE", "--json"]],
    "report": [["FILE", "-o", "OUT"], ["FILE", "OTHER", "-o", "OUT"]],
    "bisect": [["FILE", "--when", "GITS_CTLR.Enabled"], ["FILE", "--stale", "GITS_CTLR"]],
    "corpus": [
        ["run", "FILE"], ["run", "FOLDER"], ["run", "FOLDER", "--json"],
        ["list", "FOLDER"], ["stats", "FOLDER"], ["add", "FILE", "--reason", NAME],
    ],
    "doctor": [["FILE"], ["FILE", "--json"], ["FOLDER"]],
    "recover": [["FILE", "-o", "OUT"], ["FILE", "-o", "OUT", "--json"]],
    "scrub": [["FILE", "-o", "OUT"], ["FILE", "-o", "OUT", "--move-addresses", "--ram", "0x40000000:0x40000000"]],
    "migrate": [["FILE", "-o", "OUT"]],
    "cut": [["FILE", "--range", "..9", "-o", "OUT"], ["FILE", "--reset", "2", "-o", "OUT"]],
    "merge": [["FILE", "OTHER", "-o", "OUT"], ["FILE", "FILE", "-o", "OUT"]],
    "fingerprint": [["FILE"]],
    "kernels": [],
    "generate": [["--seed", "1", "--profile", NAME, "-o", "OUT"]],
    "fuzz": [["--target", NAME, "--target", "model"]],
    "demo": [],
    "completion": [[NAME]],
}  # fmt: skip
# These read no file that somebody sent.
TAKES_NO_FILE = ("record", "kernels", "demo", "generate", "fuzz", "completion")


def test_every_verb_has_a_row():
    assert COMMANDS.keys() == cli.VERBS.keys()
    assert all(COMMANDS[verb] for verb in cli.VERBS if verb not in TAKES_NO_FILE)


def wrong(line):
    """Return whether a line has a control character, or is one that a file has made."""
    return RAW.search(line) or line.startswith(FORGED)


@pytest.fixture
def nothing_starts(monkeypatch):
    """No program is started and nothing outside is reached, whatever a file says."""

    def refused(*args, **kwargs):
        raise AssertionError(f"a trace started something: {args}")

    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(os, "system", refused)
    monkeypatch.setattr(os, "execv", refused)
    monkeypatch.setattr(os, "posix_spawn", refused)
    connect = socket.socket.connect

    def local(self, address):
        if self.family != socket.AF_UNIX:  # `reset` asks the recorder of a file on this machine
            refused(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("verb", COMMANDS)
def test_no_raw_control_character_reaches_the_terminal(
    tmp_path, monkeypatch, capsys, nothing_starts, verb, kind
):
    folder = tmp_path / NAME
    folder.mkdir()
    suffix = ".its.txt" if kind in ("text", "wrong line", "wrong key") else ".itstrace"
    path = folder / f"{NAME}{suffix}"
    path.write_bytes(FILES[kind])
    (folder / f"{NAME}.toml").write_text(
        f'expect = "verified"\nreason = "\\u001b[31m{FORGED}"\nshows = "\\u009b\\n{FORGED}"\n'
    )
    other = tmp_path / "other.itstrace"
    other.write_bytes(build())
    before = {each for each in tmp_path.rglob("*") if each.is_file()}
    names = {
        "FILE": str(path),
        "OUT": str(folder / "out"),
        "OTHER": str(other),
        "FOLDER": str(folder),
    }
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for command in COMMANDS[verb]:
        args = [verb, *(names.get(each, each) for each in command)]
        code = cli.main(args)
        told = capsys.readouterr()
        if code == cli.EXIT_BUG:
            pytest.fail(f"{command}: {told.err}")
        raw = [line for line in (told.out + told.err).split("\n") if wrong(line)]
        if raw:
            pytest.fail(f"{command}: {raw[:4]}", pytrace=False)
        made = folder / "out"
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
    after = {each for each in tmp_path.rglob("*") if each.is_file()}
    assert all(each.parent in (folder, tmp_path) for each in after - before)


@pytest.mark.parametrize("form", ["kvm-c", "qtest"])
@pytest.mark.parametrize("kind", ["on KVM", "replayable"])
def test_foreign_text_is_no_code(tmp_path, capsys, form, kind):
    path = tmp_path / "t.itstrace"
    path.write_bytes(FILES[kind])
    code = cli.main(["export", str(path), "--to", form])
    assert (code == 0) == ((form == "kvm-c") == (kind == "on KVM"))
    assert "evil" not in capsys.readouterr().out


def test_text_is_shown_and_not_thrown_away(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(FILES["replayable"])
    assert cli.main(["show", str(path)]) == 0
    assert "owned" in capsys.readouterr().out
    assert common.clean("\x1b[2J\u202e\n") == "\\x1b[2J\\x202e\\x0a"
