"""The model gives the answers of real kernels and of a real QEMU; each file was seen failing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from replay.engine import Engine
from replay.judge import model_of
from replay.profiles import find
from tests.conformance import Run, flipped, main, profile_of, read_lines, replay_file, replay_lines
from tracer.log.stream import Reader, Writer
from tracer.sources.lines import LineReader
from tracer.sources.vectors import Life

VECTORS = Path(__file__).parents[1] / "vectors"
FILES = sorted(VECTORS.glob("*/*.txt.gz"))
EVERY = 20  # of how many lives one is made a trace of


def ids(path):
    return path.name.removesuffix(".txt.gz")


def profile(path):
    found, note = find(profile_of(path))
    assert note is None, "the vectors of an image are replayed on the profile of that image"
    return found


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_answer_is_the_one_that_was_given(path):
    run = Run()
    replay_file(path, profile(path), run)
    assert run.shown == []
    assert run.mismatches == 0
    assert run.lives >= 1
    assert run.checked >= run.lives


def test_the_vectors_are_there():
    assert len(FILES) >= 45
    images = {profile_of(path) for path in FILES}
    assert images >= {
        "linux-5.10.223", "linux-6.1.176", "linux-6.1.192", "linux-6.12.107", "linux-6.12.117",
        "linux-7.2.13", "qemu-7.2.22", "qemu-7.2.22-gicv4",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_an_answer_that_was_changed_is_a_mismatch(path):
    """The last register read, and everything else as it was."""
    lines = read_lines(path)
    at = max(index for index, line in enumerate(lines) if line.startswith("R "))
    fields = lines[at].split()
    fields[2] = f"{int(fields[2], 16) ^ 1:x}"
    start = max(index for index in range(at) if lines[index].startswith("# "))
    run = Run()
    replay_lines([*lines[start:at], " ".join(fields)], path.name, profile(path), run)
    assert run.mismatches == 1
    assert f"expected {' '.join(fields[2:])!r}" in run.shown[0]


def test_a_flag_the_other_way_round_is_many_mismatches():
    path = VECTORS / "kvm/flags.linux-6.1.192.txt.gz"
    run = Run()
    replay_file(path, flipped(profile(path), "mapd_unmap_clears_dte"), run)
    assert run.mismatches


def test_the_command_prints_differences_and_then_the_counts(capsys):
    path = str(VECTORS / "kvm/flags.linux-6.1.192.txt.gz")
    assert main([path]) == 0
    assert capsys.readouterr().out.startswith("conformance: files=1 lives=")
    assert main(["--profile", "linux-5.10.223", path]) == 1
    *shown, last = capsys.readouterr().out.splitlines()
    assert 1 <= len(shown) <= 10
    assert all("# seed" in line and "expected" in line and "got" in line for line in shown)
    assert int(last.partition("mismatches=")[2]) >= len(shown)


@pytest.mark.parametrize("name", ["no-such-file.linux-6.1.192.txt", "vectors.no-such.txt"])
def test_a_file_or_profile_that_is_not_there_is_told(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name])
    assert end.value.code == 2
    assert "no-such" in capsys.readouterr().err


# -- lives as traces


def lives(path):
    text = "\n".join(read_lines(path))
    return ["# seed " + life for life in text.split("# seed ")[1:]]


def traced(life, path):
    """Return the trace of a life, written and read back."""
    lines = LineReader(io.BytesIO(life.encode()), path.name)
    source = Life(path.name, None, profile_of(path))
    events = list(source.events(lines))
    out = io.BytesIO()
    writer = Writer(out, source.header)
    for event in events:
        writer.add(event)
    writer.close()
    out.seek(0)
    return Reader(out, path.name)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_life_made_a_trace_has_the_same_answers(path):
    for life in lives(path)[::EVERY]:
        reader = traced(life, path)
        engine = Engine(reader, model_of(reader.header, profile(path)), invariants=True)
        tally = engine.run()
        assert tally.divergences == [], life.splitlines()[0]
        assert (tally.divergent, tally.assumed, tally.learned) == (0, 0, 0)
        assert tally.matched
        assert tally.not_judged == 0
