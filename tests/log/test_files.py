"""Where a name becomes bytes: paths, URLs, files that were handed over; and what can not become a URL."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import fsspec
import pytest

from replay import cli
from replay.corpus import find_traces, run_trace
from replay.manifest import read_manifest
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError
from tracer.log import files
from tracer.log.files import Url
from tracer.log.opening import create_output, open_trace

LIFE = "F1-lpi-outlives-ctrl-reset"


@pytest.fixture(autouse=True)
def nothing_is_kept():
    with files.fetching():
        yield
    assert not files._fetched


@pytest.fixture
def folder():
    """A folder in fsspec's memory with a trace and its manifest."""
    system = fsspec.filesystem("memory")
    for suffix in (".its.txt", ".toml"):
        system.pipe(f"/traces/sub/{LIFE}{suffix}", (SCENARIOS / f"{LIFE}{suffix}").read_bytes())
    yield "memory://traces"
    system.rm("/traces", recursive=True)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "traces.zip"
    with zipfile.ZipFile(path, "w") as out:
        for suffix in (".its.txt", ".toml"):
            out.write(SCENARIOS / f"{LIFE}{suffix}", f"sub/{LIFE}{suffix}")
    return f"zip://sub::file://{path}"


@pytest.mark.parametrize(
    ("text", "name", "parent", "joined"),
    [
        ("s3://b/x/a.toml", "a.toml", "s3://b/x", "s3://b/x/a.toml/n"),
        ("memory://a", "a", "memory://", "memory://a/n"),
        ("file:///a", "a", "file:///", "file:///a/n"),
        ("zip://x/a::file:///o.zip", "a", "zip://x::file:///o.zip", "zip://x/a/n::file:///o.zip"),
        ("zip://::file:///o.zip", "", "zip://::file:///o.zip", "zip://n::file:///o.zip"),
        ("simplecache::s3://b/a", "a", "simplecache::s3://b", "simplecache::s3://b/a/n"),
    ],
)
def test_a_url_has_the_parts_of_a_path(text, name, parent, joined):
    url = Url(text)
    assert files.is_url(text)
    assert (url.name, str(url.parent), str(url / "n")) == (name, parent, joined)
    assert url.with_name("n") == url.parent / "n"


@pytest.mark.parametrize("text", ["a", "/a", "a:b", "./memory:/a", "-", "C:\\a", "a::b", "://a"])
def test_a_path_is_none(text):
    assert not files.is_url(text)
    assert isinstance(files.where(text), Path)


@pytest.mark.parametrize("verb", ["verify", "check", "info", "show", "state", "doctor"])
def test_a_verb_says_of_a_url_what_it_says_of_a_file(folder, capsys, verb):
    told = []
    for name in (str(SCENARIOS / f"{LIFE}.its.txt"), f"{folder}/sub/{LIFE}.its.txt"):
        code = cli.main([verb, name])
        out, err = capsys.readouterr()
        told.append((code, out.replace(name, "NAME"), err.replace(name, "NAME")))
    assert told[0] == told[1]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_corpus_is_run_where_a_url_says_with_the_manifests_there(folder, archive, capsys, jobs):
    fsspec.filesystem("memory").pipe("/traces/left.toml", b'expect = "equal"\n')
    code = cli.main(["corpus", "run", folder, archive, "--json", "--jobs", jobs])
    results = json.loads(capsys.readouterr().out)["results"]
    assert code == 1
    assert [(each["trace"], each["passed"]) for each in results] == [
        (f"{folder}/sub/{LIFE}.its.txt", True),
        (archive.replace("sub::", f"sub/{LIFE}.its.txt::"), True),
        (f"{folder}/left.toml", False),
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("memory://nowhere/a.itstrace", "nowhere"),
        ("nosuch://a", "Protocol not known: nosuch"),
        ("s3://bucket/a", "s3fs"),
    ],
)
def test_what_cannot_be_opened_says_why(capsys, name, why):
    assert cli.main(["info", name]) == UsageError.exit_code
    assert why in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    assert cli.main(["info", "memory://a"]) == UsageError.exit_code
    assert "pip install 'itstrace[remote]'" in capsys.readouterr().err


def test_more_than_the_limit_is_not_fetched(folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_FETCHED_BYTES", 100)
    with files.fetching(), pytest.raises(UsageError, match="more than 100 bytes are not fetched"):
        open_trace(f"{folder}/sub/{LIFE}.its.txt").__enter__()
    monkeypatch.setattr(files, "MAX_LISTED", 1)
    with pytest.raises(UsageError, match="at most 1 files"):
        find_traces([folder])


def test_what_was_fetched_is_let_go(folder):
    with files.fetching():
        with open_trace(f"{folder}/sub/{LIFE}.its.txt") as reader:
            assert list(reader)
        assert len(files._fetched) == 1
    assert not files._fetched


@pytest.mark.parametrize("name", ["a::memory:/", "a://b", "..", "x/../../y"])
def test_no_listing_makes_a_url_of_a_name(tmp_path, name):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(f"{name}/a.itstrace", b"")
    with pytest.raises(UsageError, match="the name of a file in it must not be"):
        find_traces([f"zip://::file://{path}"])


@pytest.mark.parametrize(
    "name", ["../image.toml", "memory://x.toml", "a::memory://x.toml", "/x.toml", "a/../../x.toml"]
)
@pytest.mark.parametrize("where", ["memory", "file"])
def test_no_manifest_names_one(tmp_path, where, name):
    text = f'expect = "equal"\nprofile = "{name}"\n'.encode()
    fsspec.filesystem("memory").pipe("/manifests/a.toml", text)
    fsspec.filesystem("memory").pipe("/x.toml", b"")
    (tmp_path / "a.toml").write_bytes(text)
    place = Url("memory://manifests/a.toml") if where == "memory" else tmp_path / "a.toml"
    if where == "memory" or name.startswith(("..", "/", "a/")):
        with pytest.raises(UsageError, match="must be a file in this folder"):
            read_manifest(place)
    else:  # a file of that name
        found = str(read_manifest(place).profile_path)
        assert found.startswith(str(tmp_path))
        assert not files.is_url(found)


def test_an_output_is_a_local_file():
    with (
        pytest.raises(UsageError, match="an output must be a local file"),
        create_output("memory://out", force=True),
    ):
        pass


def test_what_is_held_is_all_that_there_is(tmp_path):
    path = Path(shutil.copy(SCENARIOS / f"{LIFE}.its.txt", tmp_path))
    manifest = path.with_name(f"{LIFE}.toml")
    held = {str(path): path.read_bytes(), str(manifest): b'expect = "stale"\n'}
    path.unlink()
    with files.holding(held):
        (result,) = run_trace(path)
        assert result.passed
        with pytest.raises(UsageError, match="No such file"):
            files.opened(str(SCENARIOS / f"{LIFE}.its.txt"))
    assert not run_trace(path)[0].passed


def test_two_have_one_file_open_each_at_its_own_place(folder):
    name = f"{folder}/sub/{LIFE}.its.txt"
    with files.fetching(), files.opened(name) as one, files.opened(name) as other:
        first = io.BufferedReader(one).read(10)
        assert other.read(10) == first
        assert other.read(10) != first
