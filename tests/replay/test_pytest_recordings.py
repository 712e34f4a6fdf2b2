"""`its_recorder`: what a test recorded is verified as it ends, and held to what is kept of it."""

from __future__ import annotations

import pytest

from replay.manifest import read_manifest

pytest_plugins = ("pytester",)

# The device under test is in a module of its own, so that a regression is one line there.
DEVICE = """
from tests.support.small_its import Ram, SmallIts

class Its(SmallIts):
    def reset(self, how):
        super().reset(how)
"""
FORGETS = DEVICE + "        if how: self.ctlr |= 1\n"  # GITS_CTLR.Enabled survives a reset
ANSWERS_OTHERWISE = DEVICE + "        self.constant[0x60] = 5\n"  # no contract speaks of it
TEST = """
import pytest
from device import Its, Ram
from tests.support.small_guest import boot, look

def test_a_reset(its_recorder):
    its = its_recorder(Its(Ram()), profile="qemu-10.0.13")
    boot(its)
    its.reset()
    look(its)
"""
KEPT = "test_life.py-test_a_reset-0"


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder with a device and a test that resets it."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.syspathinsert()
    pytester.makepyfile(test_life=TEST)
    write(pytester, DEVICE)
    return pytester


def write(project, device):
    project.makepyfile(device=device)


def run(project, *options, **counts):
    """Run pytest in this process, with the device as it is now, and return what it printed."""
    result = project.runpytest_inprocess(
        "-p", "replay.pytest_plugin", "-p", "no:cacheprovider", *options
    )
    result.assert_outcomes(**counts)
    return result.stdout.str()


def recording(mode):
    return ["test_life.py", "--its-traces=kept", f"--its-record={mode}"]


@pytest.mark.parametrize("place", ["", "true"], ids=["desk", "ci"])
def test_a_failure_is_told_once_and_its_first_line_in_the_summary(project, monkeypatch, place):
    monkeypatch.setenv("CI", place)  # pytest says more there
    write(project, FORGETS)
    out = run(project, "-rf", failed=1)
    assert out.count("reset 0: system at event") == 1
    (line,) = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert line.startswith("FAILED test_life.py::test_a_reset - expected resets that ")


def test_a_reset_that_leaves_something_fails_the_test(project):
    run(project, passed=1)
    write(project, FORGETS)
    out = run(project, failed=1)
    assert "expected resets that leave nothing, got stale (stale:system:GITS_CTLR" in out
    assert "reset 0: system at event" in out
    assert "expected  0x80000000, as a fresh device has it" in out
    assert "got       0x80000001, shown by event" in out
    assert "written by event" in out
    assert "more: itstrace verify" in out
    assert "pytest_plugin.py" not in out


def test_a_test_that_fails_by_itself_says_only_that(project):
    write(project, FORGETS)
    project.makepyfile(test_life=TEST + "    assert 0, 'its own'\n")
    out = run(project, failed=1)
    assert "its own" in out
    assert "resets that leave nothing" not in out


def test_what_a_test_judges_itself_is_not_judged_again(project):
    write(project, FORGETS)
    project.makepyfile(test_life=TEST + "    assert its_recorder.judge(its).word == 'stale'\n")
    run(project, passed=1)


@pytest.mark.parametrize(
    ("marker", "passes"),
    [
        ('expect="stale"', True),
        ('expect="stale", signature="stale:system:GITS_CTLR"', True),
        ('expect="stale", signature="stale:system:GITS_BASER0"', False),
        ('expect="equal"', False),
        ("verify=False", True),
        ('profile="qemu-7.2.22"', False),
    ],
)
def test_the_marker_says_what_must_be_shown(project, marker, passes):
    write(project, FORGETS)
    project.makepyfile(
        test_life=TEST.replace("def test_", f"@pytest.mark.its({marker})\ndef test_")
    )
    run(project, "--strict-markers", passed=int(passes), failed=int(not passes))


def test_without_a_profile_nothing_can_be_verified_and_it_says_so(project):
    project.makepyfile(test_life=TEST.replace(', profile="qemu-10.0.13"', ""))
    out = run(project, failed=1)
    assert "expected resets that leave nothing, got no profile" in out
    assert "its_recorder(device, profile=...)" in out


def test_new_keeps_what_is_not_there_with_a_manifest_that_is_a_test(project):
    run(project, *recording("new"), passed=1)
    found = read_manifest(project.path / f"kept/{KEPT}.toml")
    assert found.expectations[0].expect == "equal"
    assert found.values["source"] == "test_life.py::test_a_reset"
    before = (project.path / f"kept/{KEPT}.itstrace").read_bytes()
    run(project, *recording("new"), passed=1)
    assert (project.path / f"kept/{KEPT}.itstrace").read_bytes() == before
    assert f"kept/{KEPT}.itstrace::as-it-is PASSED" in run(project, "-v", "kept", passed=1)


def test_none_fails_where_nothing_is_kept(project):
    out = run(project, *recording("none"), failed=1)
    assert "no recording of this test is kept: run it once with --its-record=new" in out
    assert not (project.path / "kept").exists()


def test_a_device_that_answers_otherwise_than_what_is_kept_fails_until_it_is_recorded_anew(project):
    project.makepyfile(test_life=TEST + "    its.reg_read(0x60, 4)\n")
    run(project, *recording("new"), passed=1)
    write(project, ANSWERS_OTHERWISE)
    out = run(project, *recording("none"), failed=1)
    assert "the device answers otherwise than when it was recorded" in out
    assert "expected  reg.read 0x000060/4 0x0" in out
    assert "got       reg.read 0x000060/4 0x5" in out
    run(project, *recording("all"), passed=1)
    run(project, *recording("none"), passed=1)


def test_a_test_that_asks_otherwise_says_so(project):
    run(project, *recording("new"), passed=1)
    project.makepyfile(test_life=TEST.replace("its.reset()", "its.reset(2)"))
    out = run(project, *recording("new"), failed=1)
    assert "the test asks otherwise than when it was recorded" in out
    project.makepyfile(test_life=TEST + "    its.marker('more')\n")
    out = run(project, *recording("new"), failed=1)
    assert "test or device goes another way" in out
    assert "expected  the end" in out


def test_a_finding_is_not_kept(project):
    write(project, FORGETS)
    run(project, *recording("all"), failed=1)
    assert not (project.path / f"kept/{KEPT}.itstrace").exists()


def test_a_bug_that_is_expected_is_kept_and_must_show_again(project):
    write(project, FORGETS)
    project.makepyfile(
        test_life=TEST.replace("def test_", "@pytest.mark.its(expect='stale')\ndef test_")
    )
    run(project, *recording("new"), passed=1)
    found = read_manifest(project.path / f"kept/{KEPT}.toml")
    assert found.bug == "stale:system:GITS_CTLR"
    write(project, DEVICE)
    assert "expected stale, got equal" in run(project, *recording("none"), failed=1)


def test_what_a_test_does_not_record_any_more_is_named(project):
    run(project, *recording("new"), passed=1)
    project.makepyfile(test_life="def test_a_reset(its_recorder): pass\n")
    assert "this test does not record it any more" in run(project, *recording("none"), failed=1)


def test_two_tests_never_share_a_file(project):
    text = TEST.replace(
        "def test_a_reset(", "@pytest.mark.parametrize('x', ['a b', 'a/b'])\ndef test_a_reset(x, "
    )
    project.makepyfile(test_life=text)
    out = run(project, *recording("new"), passed=1, failed=1)
    assert "two tests share this file" in out
    out = run(project, *recording("all"), passed=1, failed=1)
    assert "two tests would share this file" in out


def test_a_kept_trace_without_its_manifest_is_no_test(project):
    run(project, *recording("new"), passed=1)
    (project.path / f"kept/{KEPT}.toml").unlink()
    assert "has no manifest" in run(project, *recording("none"), failed=1)


def test_a_folder_must_be_given(project):
    result = project.runpytest_inprocess("-p", "replay.pytest_plugin", "--its-record=new")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_ring_is_for_the_test_to_judge(project):
    ring = TEST.replace('profile="qemu', 'ring_bytes=1 << 20, profile="qemu')
    project.makepyfile(test_life=ring)
    assert "a ring writes files of its own" in run(project, failed=1)
    project.makepyfile(
        test_life=ring.replace("def test_", "@pytest.mark.its(verify=False)\ndef test_")
    )
    run(project, passed=1)
