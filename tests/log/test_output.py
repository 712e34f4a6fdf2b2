"""An answer is written whole, or not at all: a disk that takes a part of it is full."""

from __future__ import annotations

import io

import pytest

from replay import cli
from tests.support.captures import TWO_BOOTS, trace_bytes
from tracer.errors import UsageError, WriteError
from tracer.log import opening
from tracer.log.opening import create_output, write_output


class Disk(io.FileIO):
    """A file on a disk that takes a part of what it is given, and then no more."""

    room = 0

    def write(self, data):
        if not Disk.room:
            raise OSError(28, "No space left on device")
        taken = super().write(bytes(data[: min(Disk.room, 7)]))
        Disk.room -= taken
        return taken


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr(opening, "open", lambda path, mode, **_: Disk(path, mode), raising=False)
    return Disk


def test_parts_are_put_together(disk, tmp_path):
    disk.room = 100
    write_output(str(tmp_path / "a"), bytes(range(100)), force=False)
    assert (tmp_path / "a").read_bytes() == bytes(range(100))


@pytest.mark.parametrize("room", [0, 99])
def test_what_a_full_disk_took_does_not_stay(disk, tmp_path, room):
    disk.room = room
    with pytest.raises(WriteError, match=r"a: No space left on device"):
        write_output(str(tmp_path / "a"), bytes(100), force=False)
    assert not (tmp_path / "a").exists()


def test_what_is_there_is_not_taken_away(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        write_output(str(tmp_path / "a"), b"new", force=False)
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize("command", ["report TRACE -o OUT", "export TRACE --to qtest -o OUT"])
def test_no_verb_leaves_a_half_of_an_answer_and_says_that_it_went_well(
    disk, tmp_path, capsys, command
):
    trace, out = tmp_path / "a.itstrace", tmp_path / "out"
    trace.write_bytes(trace_bytes(TWO_BOOTS))
    disk.room = 5000
    words = command.replace("TRACE", str(trace)).replace("OUT", str(out)).split()
    assert cli.main(words) == 3
    assert capsys.readouterr().err.endswith("out: No space left on device\n")
    assert not out.exists()


def test_a_file_that_another_writes_is_neither_taken_nor_cut(tmp_path):
    path = tmp_path / "a"
    with create_output(str(path), force=False) as first:
        first.write(b"of the first")
        with pytest.raises(UsageError, match="a: is being written by another process"):
            write_output(str(path), b"", force=True)
    assert path.read_bytes() == b"of the first"
    write_output(str(path), b"of the next", force=True)
    assert path.read_bytes() == b"of the next"
