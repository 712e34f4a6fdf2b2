"""Traces as tests of pytest: what is collected, what fails, and what a person then reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from replay.corpus import trace_name
from tests.support.scenarios import SCENARIOS, paths

pytest_plugins = ("pytester",)

REPOSITORY = Path(__file__).parents[2]
F1 = "F1-lpi-outlives-ctrl-reset"
K17 = "S06-K17-F3-mapd-unmap-leaves-its-entry"
EQUAL = 'expect = "equal"\nreason = "it was mended"\n'


@pytest.fixture(autouse=True, params=["", "true"], ids=["desk", "ci"])
def place(request, monkeypatch):
    """Pytest says more where CI is set; what we print is to be the same."""
    monkeypatch.setenv("CI", request.param)


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder with the plugin and `traces/life.its.txt`, a trace of F1 with a manifest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder = pytester.path / "traces"
    folder.mkdir()
    for suffix in (".its.txt", ".toml"):
        (folder / f"life{suffix}").write_text((SCENARIOS / (F1 + suffix)).read_text())
    return pytester


def run(project, *options, **counts):
    """Run pytest in this process and return what it printed."""
    result = project.runpytest_inprocess("-p", "replay.pytest_plugin", *options)
    result.assert_outcomes(**counts)
    return result.stdout.str()


def manifest(project, text, name="life"):
    (project.path / "traces" / f"{name}.toml").write_text(text)


def test_a_trace_that_meets_its_manifest_passes(project):
    out = run(project, "-v", passed=1)
    assert "traces/life.its.txt::as-it-is PASSED" in out


def test_a_failure_tells_a_person_all_of_it(project):
    manifest(project, EQUAL)
    out = run(project, "-rf", failed=1)
    lines = [line.strip() for line in out.splitlines()]
    start = next(at for at, line in enumerate(lines) if line.startswith("expected equal, got"))
    assert lines[start : start + 5] == [
        "expected equal, got stale (stale:ctrl_reset:lpi)",
        "reset 0: ctrl_reset at event 18: stale (1 of 12 components observed equal to a fresh device)",
        "lpis: stale",
        "expected  none, as a fresh device has it",
        "got       lpi 8192, shown by event 29",
    ]
    assert "there is no internally cached state" in lines[start + 5]
    assert "written by event 16: msi device_id=0x0 event_id=0x0 origin=vmm path=ioctl" in lines
    assert "more: itstrace verify traces/life.its.txt" in lines
    assert "more: itstrace blame traces/life.its.txt lpi 8192 --at 18" in lines
    assert "Traceback" not in out
    assert "pytest_corpus.py" not in out


def test_the_commands_of_a_failure_say_what_it_says(project, capfd):
    from replay import cli

    manifest(project, EQUAL)
    out = run(project, failed=1)
    commands = [
        line.split("more: itstrace ")[1].split()
        for line in out.splitlines()
        if "more: itstrace" in line
    ]
    assert [cli.main(words) for words in commands] == [1, 0]
    said = capfd.readouterr().out
    assert "reset 0: ctrl_reset at event 18: stale" in said
    assert "lpi 8192: pending set" in said


def test_variants_are_tests_of_their_own(project):
    manifest(
        project,
        'profile = "linux-6.1.192"\n'
        '[buggy]\nflags = { mapd_unmap_clears_dte = false }\nexpect = "suspected"\n'
        'signature = "suspected:restore:device"\n'
        '[fixed]\nflags = { mapd_unmap_clears_dte = true }\nexpect = "stale"\n',
    )
    (project.path / "traces/life.its.txt").write_text((SCENARIOS / f"{K17}.its.txt").read_text())
    out = run(project, "-v", passed=1, failed=1)
    assert "life.its.txt::buggy PASSED" in out
    assert "life.its.txt::fixed FAILED" in out
    assert "expected stale, got equal" in out
    more = "verify traces/life.its.txt --profile linux-6.1.192 --flag mapd_unmap_clears_dte=true"
    assert more in out


def test_a_trace_without_a_manifest_and_a_manifest_without_a_trace_fail(project):
    folder = project.path / "traces"
    (folder / "life.toml").rename(folder / "other.toml")
    out = run(project, failed=2)
    assert "expected a manifest life.toml, got none" in out
    assert "more: itstrace corpus add traces/life.its.txt --reason WHY" in out
    assert "expected a trace beside it, got none" in out


def test_other_toml_files_are_nobodys_manifests(project):
    for name, text in {
        "pyproject": "[tool.other]\nexpect = 1\n",
        "image": 'name = "linux-9"\nnearest = "linux-6.1.192"\n[flags]\n',
        "broken": "expect = \n",
    }.items():
        (project.path / f"{name}.toml").write_text(text)
    run(project, passed=1)


def test_a_manifest_that_is_wrong_fails_alone(project):
    (project.path / "traces/b.its.txt").write_text((SCENARIOS / f"{F1}.its.txt").read_text())
    manifest(project, 'expect = "fine"\n', "b")
    out = run(project, passed=1, failed=1)
    assert "traces/b.toml: expect must be one of crash, stale" in out


def test_control_characters_of_a_trace_do_not_reach_the_terminal(project):
    trace = project.path / "traces/life.its.txt"
    trace.write_text(trace.read_text() + ". +0 reg.write offset=\x1b[31m\n")
    out = run(project, failed=1)
    assert "\\x1b[31m" in out
    assert "\x1b[31m" not in out


def test_a_profile_in_a_file_is_the_implementation_under_test(project):
    image = 'name = "linux-9"\nnearest = "linux-6.1.192"\nassumed = []\n[flags]\n'
    for name in (".its.txt", ".toml"):
        (project.path / f"traces/life{name}").unlink()
    (project.path / "traces/k17.its.txt").write_text((SCENARIOS / f"{K17}.its.txt").read_text())
    manifest(project, 'profile = "image.toml"\n' + EQUAL, "k17")
    manifest(project, image + "mapd_unmap_clears_dte = true\n", "image")
    run(project, passed=1)
    manifest(project, image + "mapd_unmap_clears_dte = false\n", "image")
    out = run(project, failed=1)
    assert "expected equal, got suspected (suspected:restore:device" in out
    assert "round trip: saved at event" in out
    assert "written by event" in out
    assert "--profile traces/image.toml" in out


@pytest.mark.parametrize("name", ["../image.toml", "/etc/image.toml", "link.toml", "a\\u0000.toml"])
def test_a_manifest_names_no_file_outside_its_folder(project, name):
    (project.path / "image.toml").write_text(
        'name = "linux-9"\nnearest = "linux-6.1.192"\n[flags]\n'
    )
    (project.path / "traces/link.toml").symlink_to("../image.toml")
    manifest(project, f'profile = "{name}"\nexpect = "equal"\n')
    assert "profile must be a file in this folder" in run(project, failed=1)


def test_a_header_names_no_file_at_all(project):
    trace = project.path / "traces/life.its.txt"
    trace.write_text(trace.read_text().replace('"linux-6.1.192"', '"/etc/passwd.toml"'))
    manifest(project, EQUAL)
    assert "the trace does not say what wrote it: name a profile" in run(project, failed=1)


def test_on_a_target_the_bug_must_not_show(project):
    for suffix in (".its.txt", ".toml"):
        (project.path / f"traces/k17{suffix}").write_text((SCENARIOS / (K17 + suffix)).read_text())
    targets = [f"--its-target=model:linux-{version}" for version in ("5.10.223", "6.1.192")]
    out = run(project, "-v", *targets, "-k", "k17", passed=1, failed=1, deselected=2)
    assert "k17.its.txt::model:linux-5.10.223 FAILED" in out
    assert "k17.its.txt::model:linux-6.1.192 PASSED" in out
    assert "expected good, got bad (suspected:restore:device" in out
    assert "as recorded, on linux-6.1.192:" in out
    assert "round trip: saved at event" in out


def test_a_target_that_is_not_there_fails_and_one_of_another_family_is_skipped(project):
    out = run(project, "--its-target=qemu:/nowhere/qemu", failed=1)
    assert "/nowhere/qemu: there is no such program" in out
    out = run(project, f"--its-target=qemu:{sys.executable}", "-rs", skipped=1)
    assert "it was not recorded from what qemu is a target for" in out
    assert "traces/life.its.txt" in out.split("SKIPPED")[1]


def test_a_target_that_nobody_knows_is_wrong_usage(project):
    result = project.runpytest_inprocess("-p", "replay.pytest_plugin", "--its-target=xen")
    assert "--target must be model[:PROFILE], qemu" in result.stdout.str() + result.stderr.str()
    assert result.ret != 0


def test_the_marker_selects_traces(project):
    project.makepyfile(test_other="def test_other(): pass")
    assert "traces/life.its.txt" in run(project, "-v", "-m", "its", passed=1, deselected=1)
    run(project, "-m", "not its", "--strict-markers", passed=1, deselected=1)


def python(folder, *arguments):
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(REPOSITORY),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("options", [["--help"], ["--collect-only"]])
def test_without_a_trace_nothing_is_imported(tmp_path, options):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    (tmp_path / "test_x.py").write_text("def test_x(): pass\n")
    program = (
        "import pytest, sys\n"
        f"pytest.main(['-p', 'replay.pytest_plugin', *{options!r}])\n"
        "print('loaded', [each for each in sorted(sys.modules)"
        " if each.partition('.')[0] in ('replay', 'tracer', 'structlog', 'msgpack', 'rich')])\n"
    )
    done = python(tmp_path, "-c", program)
    assert done.stdout.splitlines()[-1] == "loaded ['replay', 'replay.pytest_plugin']", done.stderr


def test_on_many_workers_the_tests_are_the_same(project):
    for name in ("a", "b"):
        (project.path / f"traces/{name}.its.txt").write_text(
            (SCENARIOS / f"{F1}.its.txt").read_text()
        )
        manifest(project, EQUAL, name)
    options = ["-m", "pytest", "-p", "replay.pytest_plugin", "-p", "xdist", "-q", "-rA"]
    outcomes = []
    for workers in ("0", "2"):
        done = python(project.path, *options, "-n", workers)
        told = [line.split(" - ")[0] for line in done.stdout.splitlines()]
        outcomes.append(sorted(line for line in told if line.startswith(("PASSED", "FAILED"))))
        assert "expected equal, got stale" in done.stdout, done.stdout + done.stderr
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 3


def test_the_traces_of_this_repository_are_tests_of_it(pytestconfig):
    assert pytestconfig.getini("testpaths") == ["tests", "traces"]
    assert {trace_name(each) for each in paths()} >= {F1, K17}
