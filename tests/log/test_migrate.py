"""Every version for ever: its golden files give their old digests, and a step leads to the next.

There is one version yet, so that the machinery is shown with a step that only this test has.
"""

from __future__ import annotations

import io
import json
from hashlib import sha256

import pytest

from replay import cli
from tests.support.compiled import EXPECTED
from tests.support.traces import GOLDEN, build, read, small_header, split
from tracer.errors import NewerTrace
from tracer.log import format as fmt, migrate
from tracer.log.migrate import Step
from tracer.log.stream import Reader
from tracer.log.survey import survey

VERSIONS = range(1, fmt.VERSION + 1)
FOLDERS = {version: GOLDEN.parent / f"v{version}" for version in VERSIONS}
FILES = [
    pytest.param(path, golden, id=f"v{version}-{name}")
    for version, folder in FOLDERS.items()
    for name, golden in json.loads((folder / "digests.json").read_text()).items()
    for path in [folder / f"{name}.itstrace"]
]
NOTE = 201  # a note that the fake version 2 has in the place of a marker


def test_every_version_has_a_step_and_golden_files():
    assert migrate.STEPS.keys() == set(VERSIONS[:-1])
    assert all(any(folder.glob("*.itstrace")) for folder in FOLDERS.values())


@pytest.mark.parametrize(("path", "golden"), FILES)
def test_a_golden_file_gives_its_old_digest(path, golden):
    outcome = read(path.read_bytes())
    found = survey(io.BytesIO(path.read_bytes()), "t")
    assert (outcome.digest, outcome.status) == (golden["digest"], golden["status"])
    assert len(outcome.events) == found.events == golden["events"]
    text = path.with_suffix(".its.txt").read_bytes()
    assert sha256(text).hexdigest() == golden["text_sha256"]


@pytest.fixture
def version_2(monkeypatch):
    """This itstrace reads and writes version 2, in which markers are another kind."""
    if EXPECTED:
        pytest.skip("the version stands in what was compiled")

    def header(values):
        return values | {"annotations": values["annotations"] | {"was": str(values["version"])}}

    def event(each):
        return (NOTE, *each[1:]) if each[0] == 129 else each

    monkeypatch.setattr(fmt, "VERSION", 2)
    monkeypatch.setitem(migrate.STEPS, 1, Step(header, event))


@pytest.mark.parametrize(("path", "golden"), FILES)
def test_an_older_trace_is_read_as_a_new_one(version_2, tmp_path, path, golden):
    old = path.read_bytes()
    outcome = read(old)
    assert (outcome.digest, outcome.status) == (golden["digest"], golden["status"])
    assert (outcome.header.version, outcome.header.annotations["was"]) == (2, "1")
    kinds = [event[0] for _, event in outcome.events]
    assert 129 not in kinds
    assert NOTE in kinds
    output = tmp_path / "new.itstrace"
    assert cli.main(["migrate", str(path), "-o", str(output)]) == 0
    new = output.read_bytes()
    assert new[8:12] == b"\x02\0\0\0"
    assert read(new).events == outcome.events
    assert read(new).header == outcome.header
    # What is saved of a damaged one is of this version, too.
    changed = bytearray(old)
    changed[split(old)[1].start + 50] ^= 1
    (tmp_path / "damaged.itstrace").write_bytes(changed)
    args = [str(tmp_path / "damaged.itstrace"), "-o", str(output), "--force"]
    assert cli.main(["migrate", *args]) == 3
    assert cli.main(["recover", *args]) == 3
    saved = read(output.read_bytes())
    assert (output.read_bytes()[8:12], saved.header.version) == (b"\x02\0\0\0", 2)
    assert 129 not in [event[0] for _, event in saved.events]


def test_a_version_behind_the_newest_is_newer_and_not_damaged(version_2, tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(build(header=small_header(version=2)))
    assert cli.main(["doctor", str(path)]) == 0
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fmt, "VERSION", 1)
        for verb in ("info", "check", "migrate", "recover"):
            args = ["-o", str(tmp_path / "o")] if verb in ("migrate", "recover") else []
            assert cli.main([verb, str(path), *args]) == 4
            assert "format version 2" in capsys.readouterr().err
        with pytest.raises(NewerTrace, match="use a newer itstrace"):
            Reader(io.BytesIO(path.read_bytes()))
        assert cli.main(["doctor", str(path)]) == 4
        out = capsys.readouterr().out
        assert "newer" in out
        assert "use a newer itstrace: this one reads format version 1" in out


def test_a_trace_of_this_version_stays_as_it_is(tmp_path, capsys):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(build())
    assert cli.main(["migrate", str(path), "-o", str(output)]) == 0
    assert "is of version 1 already: nothing was written" in capsys.readouterr().out
    assert not output.exists()


def test_a_step_that_meets_a_hostile_event_is_damage_wrong(version_2, monkeypatch):
    monkeypatch.setitem(migrate.STEPS, 1, Step(lambda values: values, lambda event: event[99]))
    outcome = read((GOLDEN / "small-none.itstrace").read_bytes())
    assert outcome.status == "damaged"
    assert survey(io.BytesIO((GOLDEN / "small-none.itstrace").read_bytes()), "t").damage_count
