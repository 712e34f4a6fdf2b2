"""`show -f` and `verify -f`: what is printed while a trace is written, and how the following ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue

import pytest

from tests.support.traces import build, small_events, small_header
from tracer.errors import TraceError
from tracer.events import make
from tracer.log import follow
from tracer.log.header import Header
from tracer.log.stream import Writer

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds after which a test has failed: nothing here is measured
HEADER = Header(profile="qemu-7.2.22", cpus=1)
POWER, RESET = make("reset", 1, how=0), make("reset", 1, how=1)
WRITE = make("reg.write", 1, offset=0x80, value=0xB800_0000_4260_000F)
STALE_READ = make("reg.read", 1, offset=0x80, value=0xB800_0000_4260_000F, origin=2)
FRESH_READ = make("reg.read", 1, offset=0x80, value=0, origin=2)
PROBE, PROBED = make("probe", 1, edge=0), make("probe", 1, edge=1)


class Following:
    """A process of ours that follows, its lines as they come."""

    def __init__(self, *words, stdin=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "replay.cli", *map(str, words)],
            cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def line(self):
        return self._lines.get(timeout=PATIENCE)

    def lines(self, count):
        return [self.line() for _ in range(count)]

    def rest(self):
        return list(iter(self.line, ""))

    def end(self):
        code = self.process.wait(PATIENCE)
        return code, self.process.stderr.read()


@pytest.fixture
def start():
    started = []

    def make_one(*words, **more):
        started.append(Following(*words, **more))
        return started[-1]

    yield make_one
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
        each.process.stdout.close()
        each.process.stderr.close()


@pytest.fixture
def writing(tmp_path):
    """Return a file's name and a writer of it that writes when it is told."""
    path = tmp_path / "t.itstrace"
    with path.open("wb", buffering=0) as out:
        yield path, Writer(out, HEADER, bound_ms=0)


def write(writer, *events):
    for event in events:
        writer.add(event)
    writer.flush()


# -- show


def test_events_are_shown_as_they_are_written_and_the_end_ends_it(start, writing):
    path, writer = writing
    shown = start("show", "-f", path)
    write(writer, POWER, WRITE)
    assert ["GITS_CBASER" in line or "reset" in line for line in shown.lines(2)] == [True, True]
    write(writer, RESET)
    assert "system" in shown.line()
    writer.close()
    assert shown.rest() == []
    assert shown.end() == (0, "")


@pytest.mark.parametrize("option", ["--json", "--text"])
def test_other_forms_are_followed_too(start, writing, option):
    path, writer = writing
    shown = start("show", "-f", option, "-Y", 'kind == "reset"', path)
    write(writer, POWER, WRITE, RESET)
    first, second = shown.lines(2)
    if option == "--json":
        assert [json.loads(line)["seq"] for line in (first, second)] == [0, 2]
    else:
        assert first.startswith("0 +1 reset how=power_on")
    writer.close()
    assert shown.end()[0] == 0


def test_the_text_of_a_followed_trace_is_that_of_the_whole(start, writing, capsys):
    path, writer = writing
    shown = start("show", "-f", "--text", path)
    write(writer, POWER, WRITE)
    write(writer, RESET)
    writer.close()
    text = "\n".join(shown.rest())
    whole = subprocess.run(
        [sys.executable, "-m", "replay.cli", "show", "--text", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert text == whole.stdout.rstrip("\n")


def test_a_file_that_is_not_there_yet_is_waited_for(start, tmp_path):
    path = tmp_path / "later.itstrace"
    shown = start("show", "-f", path)
    assert "later.itstrace: not there yet; waiting for it" in shown.process.stderr.readline()
    path.write_bytes(build(small_events()))
    assert len(shown.rest()) == len(small_events())
    assert shown.end()[0] == 0


def test_a_file_in_no_folder_is_an_error(start, tmp_path):
    code, told = start("show", "-f", tmp_path / "no" / "t.itstrace").end()
    assert code == 2
    assert "there is no such folder" in told


def test_a_frame_is_shown_when_it_is_whole(start, tmp_path):
    data = build(small_events())
    path = tmp_path / "t.itstrace"
    with path.open("wb", buffering=0) as out:
        shown = start("show", "-f", path)
        for at in range(0, len(data), 100):
            out.write(data[at : at + 100])
        assert len(shown.rest()) == len(small_events())
    assert shown.end()[0] == 0


def test_a_writer_that_was_killed_is_waited_for_until_c_ends_it(start, writing):
    path, writer = writing
    shown = start("show", "-f", path)
    write(writer, POWER)
    shown.line()
    with path.open("ab") as out:
        out.write(b"\xf5ITS half a frame")
    shown.process.send_signal(signal.SIGINT)
    code, told = shown.end()
    assert (code, told) == (130, "")


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: os.truncate(path, 20), "the file was cut short while it was followed"),
        (lambda path: path.unlink(), "the file was taken away while it was followed"),
        (
            lambda path: path.with_name("n").replace(path),
            "another file took its place while it was followed",
        ),
    ],
)
def test_what_is_not_the_same_file_any_more_is_told(start, writing, harm, what):
    path, writer = writing
    path.with_name("n").write_bytes(build(small_events()))
    shown = start("show", "-f", path)
    write(writer, POWER)
    shown.line()
    harm(path)
    code, told = shown.end()
    assert code == 3
    assert what in told


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_pipe_ends_when_its_writer_is_gone(start, name):
    shown = start("show", "-f", name, stdin=subprocess.PIPE)
    pipe = shown.process.stdin.buffer
    data = build(small_events(), end=False)
    pipe.write(data)
    pipe.flush()
    assert len(shown.lines(len(small_events()))) == len(small_events())
    pipe.close()
    code, told = shown.end()
    assert code == 0
    assert "no clean end: the recorder was cut off here" in told


def test_a_text_is_not_followed(start, tmp_path):
    code, told = start("show", "-f", tmp_path / "t.its.txt").end()
    assert code == 2
    assert "a trace in text form is not followed" in told


def test_a_growing_file_is_read_once(tmp_path, monkeypatch):
    """Waiting costs one read and two looks at the file, however long it is."""
    path = tmp_path / "t"
    path.write_bytes(bytes(1000))
    descriptor = os.open(path, os.O_RDONLY)
    stream = follow.Growing(descriptor, str(path))
    waits = []

    def more(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            with path.open("ab") as out:
                out.write(b"more")

    monkeypatch.setattr(follow, "sleep", more)
    assert len(stream.read(65536)) == 1000
    assert stream.read(65536) == b"more"
    assert waits == [follow.POLL_SECONDS] * 3
    os.truncate(path, 4)
    with pytest.raises(TraceError, match="cut short"):
        stream.read(1)
    os.close(descriptor)


# -- verify


def test_a_verdict_is_told_at_the_end_of_the_probe_and_again_when_it_is_final(start, writing):
    path, writer = writing
    told = start("verify", "-f", path)
    write(writer, POWER, WRITE, RESET, PROBE, FRESH_READ)
    assert told.line().startswith("reset 0: power_on at event 0: unproven")
    write(writer, PROBED)
    said = []
    while not said or not said[-1].startswith("reset 1"):
        said.append(told.line())
    assert said[-1] == "reset 1: system at event 2: equal in 1 of 21 observed (so far)"
    write(writer, WRITE)
    writer.close()
    rest = told.rest()
    assert "reset 1: system at event 2: equal in 1 of 21 observed" in rest
    assert told.end()[0] == 0


def test_a_stale_verdict_is_told_at_once_and_is_the_exit_code(start, writing):
    path, writer = writing
    told = start("verify", "-f", "--json", path)
    write(writer, POWER, WRITE, RESET)
    write(writer, STALE_READ)
    first = json.loads(told.line())
    assert (first["index"], first["final"], first["kind"]) == (0, True, "power_on")
    stale = json.loads(told.line())
    assert (stale["index"], stale["final"], stale["verdict"]) == (1, False, "stale")
    [cbaser] = [each for each in stale["components"] if each["name"] == "GITS_CBASER"]
    assert cbaser["blame"] == {"seq": 1}
    write(writer, RESET, PROBE, FRESH_READ, PROBED)
    after = [json.loads(told.line()) for _ in range(2)]
    assert [(each["index"], each["final"], each["verdict"]) for each in after] == [
        (1, True, "stale"), (2, False, "equal"),
    ]  # fmt: skip
    writer.close()
    *finals, whole = map(json.loads, told.rest())
    assert [(each["index"], each["final"]) for each in finals] == [(2, True)]
    assert whole["schema"] == "itstrace.verdict/1"
    assert [each["verdict"] for each in whole["resets"]] == ["unproven", "stale", "equal"]
    assert told.end()[0] == 1


@pytest.mark.parametrize(("read", "code"), [(STALE_READ, 1), (FRESH_READ, 130)])
def test_c_ends_it_with_the_verdicts_of_what_was_read(start, writing, read, code):
    path, writer = writing
    told = start("verify", "-f", "--json", path)
    write(writer, POWER, WRITE, RESET, read)
    told.lines(2)
    told.process.send_signal(signal.SIGINT)
    *_, whole = told.rest()
    assert len(json.loads(whole)["resets"]) == 2
    assert told.end()[0] == code


def test_what_is_told_in_the_end_is_what_verify_says_of_the_whole_file(start, tmp_path):
    path = tmp_path / "t.itstrace"
    path.write_bytes(build(small_events(), small_header()))
    whole = json.loads("\n".join(start("verify", "--json", path).rest()))
    followed = start("verify", "-f", "--json", path).rest()
    assert json.loads(followed[-1]) == whole
