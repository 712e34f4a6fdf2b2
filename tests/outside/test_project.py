"""From an installed wheel: a project runs its traces in pytest, fails readably, and passes again."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.outside.project import REPOSITORY, build, call, lay, run

pytestmark = pytest.mark.skipif(
    not os.environ.get("ITSTRACE_OUTSIDE"), reason="builds a wheel: make test-outside"
)
PAGE = REPOSITORY / "docs/ci.md"
PYTEST = "python -m pytest -p no:cacheprovider"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def project(tmp_path, path):
    """A project whose trace has a manifest that `itstrace corpus add` wrote."""
    lay(tmp_path)
    where = call("python -c 'import replay; print(replay.__file__)'", tmp_path, path)
    assert where.startswith(str(path.parent)), where
    added = call(
        "itstrace corpus add traces/k17.its.txt --reason 'the guest lost its disk' "
        "--profile traces/image.toml", tmp_path, path,
    )  # fmt: skip
    assert added == "traces/k17.toml: expects equal\n"
    return tmp_path


def replace(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_trace_of_an_image_fails_as_its_build_regresses(project, path):
    assert "2 passed" in call(PYTEST, project, path)
    image = project / "traces/image.toml"
    replace(image, "clears_dte = true", "clears_dte = false")
    code, out = run(PYTEST, project, path)
    assert (code, "1 failed, 1 passed" in out) == (1, True), out
    assert "k17.its.txt [as-it-is]" in out
    assert "expected equal, got suspected (suspected:restore:device" in out
    assert re.search(r"round trip: saved at event \d+, restored at \d+: suspected", out)
    assert "expected  device 0x0 gone, since it was unmapped or never saved; got it back" in out
    assert re.search(r"written by event \d+: ", out)
    assert "more: itstrace verify traces/k17.its.txt --profile traces/image.toml" in out
    assert "Traceback" not in out
    (command,) = re.findall(r"more: (itstrace verify .*)", out)
    assert run(command, project, path)[0] == 1
    replace(image, "clears_dte = false", "clears_dte = true")
    assert "2 passed" in call(PYTEST, project, path)


def test_a_device_fails_as_it_regresses(project, path):
    kept = f"{PYTEST} tests --its-traces=traces/recorded --its-record="
    assert run(kept + "none", project, path)[0] == 1
    call(kept + "new", project, path)
    assert "3 passed" in call(PYTEST, project, path)
    device = project / "tests/device.py"
    good = "        self.ctlr = 0x8000_0000\n"
    replace(device, good, good + "        self.ctlr |= how and 1\n")
    code, out = run(kept + "none", project, path)
    assert (code, "1 failed" in out) == (1, True), out
    assert "expected resets that leave nothing, got stale (stale:system:GITS_CTLR" in out
    assert "expected  0x80000000, as a fresh device has it" in out
    assert "got       0x80000001, shown by event" in out
    replace(device, "        self.ctlr |= how and 1\n", "")
    assert "1 passed" in call(kept + "none", project, path)


def test_help_imports_the_plugin_and_nothing_else_of_ours(project, path):
    (project / "probe.py").write_text(
        "import pytest, sys\n"
        "pytest.main(['--help'])\n"
        "ours = ('replay', 'tracer', 'structlog', 'msgpack', 'rich')\n"
        "print('loaded', [each for each in sorted(sys.modules) if each.split('.')[0] in ours])\n"
    )
    out = call("python probe.py", project, path)
    assert "--its-target" in out
    assert out.splitlines()[-1] == "loaded ['replay', 'replay.pytest_plugin']"


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man")
def test_man_finds_the_installed_pages(project, path):
    found = call("man -w itstrace itstrace-verify itstrace-completion", project, path).split()
    assert [Path(each).parent for each in found] == [path.parent / "share/man/man1"] * 3
    assert "itstrace verify [OPTION ...] TRACE" in call("man itstrace-verify | cat", project, path)


def test_every_page_of_the_sources_is_installed(path):
    installed = {each.name for each in (path.parent / "share/man/man1").iterdir()}
    assert installed == {each.name for each in (REPOSITORY / "docs/man").iterdir()}


# -- docs/ci.md


def jobs():
    """Return the command lines of each YAML block of the page: GitHub's `run`, GitLab's `script`."""
    found = {}
    for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name = re.search(r"^# (\S+)", text)[1]
        lines = re.findall(
            r"^ +- (?:run: )?((?:python|itstrace|sudo|apt-get) .*)$", text, re.MULTILINE
        )
        found[name] = lines
    return found


SETS_UP = re.compile(r"python -m pip install itstrace pytest|(sudo )?apt-get .*")


@pytest.mark.parametrize("name", [".github/workflows/traces.yml", ".gitlab-ci.yml"])
def test_the_jobs_of_the_page_pass_and_then_turn_red(project, path, name):
    call(f"{PYTEST} tests --its-traces=traces/recorded --its-record=new", project, path)
    lines = jobs()[name]
    assert any(SETS_UP.fullmatch(line) for line in lines)
    commands = [line for line in lines if not SETS_UP.fullmatch(line)]
    if shutil.which("qemu-system-aarch64") is None:
        commands = [line for line in commands if "qemu" not in line]
    assert len(commands) >= 2
    for command in commands:
        call(command, project, path)
    replace(project / "traces/image.toml", "clears_dte = true", "clears_dte = false")
    (project / "traces.xml").unlink()
    codes = {command: run(command, project, path)[0] for command in commands}
    judged = next(
        command for command in commands if command.startswith("itstrace corpus run traces")
    )
    assert codes[judged] == 1
    assert (project / "traces.xml").read_text().count("<failure ") == 1


def test_the_page_names_no_file_that_is_not_there():
    for name in re.findall(r"\]\(([\w./-]+\.md)\)", PAGE.read_text()):
        assert (PAGE.parent / name).exists(), name
    assert Path(PAGE).exists()
