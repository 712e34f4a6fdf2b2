"""From a random life on the real kernel to the shortest story of the bug, of no other one.

The limits are those of the issue that asked for it. `make test-bugs`; half a minute each.
"""

from __future__ import annotations

import os
import shutil

import pytest

from replay import cli, kernels
from replay.minimize.crash_oracle import death
from replay.minimize.oracle import Candidate
from replay.targets.spec import Targets, parse
from tests.support.bugs import BUGS, image
from tracer import events as ev
from tracer.events import NUMBER
from tracer.log.opening import open_trace

pytestmark = [
    pytest.mark.skipif(not os.environ.get("ITSTRACE_BUGS"), reason="`make test-bugs` runs them"),
    pytest.mark.skipif(not shutil.which("qemu-system-aarch64"), reason="needs a QEMU"),
]
KERNELS = {image(each): each for each in kernels.here()}
DIES = "crash:vgic_its_save_tables_v0"
FIRST_RANDOM = 500  # inputs of a life, at least
# life, kernel, signature, inputs beside RAM contents at most, a kernel that does not show it
FOUND = [
    ("F1/F1-life.itstrace", "linux-6.1.192", "stale:ctrl_reset:lpi", 12, None),
    ("F3/F3-life.itstrace", "linux-5.10.223", "stale:restore:device", 14, "linux-6.1.192"),
    ("F4/F4-life.itstrace", "linux-6.1.176", DIES, 10, "linux-6.1.192"),
    (46, "linux-6.1.176", DIES, 10, "linux-5.10.223"),  # after a restore that failed
]


def kernel(version):
    if version not in KERNELS:
        pytest.skip(f"{version} is not here: itstrace kernels SUITE")
    return f"kvm:{KERNELS[version].path}"


def life(what, folder):
    if isinstance(what, str):
        return BUGS / what
    path = folder / "life.itstrace"
    words = ("--profile", "linux-6.1.192", "--seed", str(what), "--events", "1600")
    assert cli.main(["generate", *words, "-o", str(path)]) == 0
    return path


def inputs(path, *left_out):
    with open_trace(str(path)) as reader:
        kinds = [event[0] for _, frame in reader for event in frame]
    return sum(kind < ev.FIRST_OUTPUT and kind not in left_out for kind in kinds)


def test_a_host_that_outlives_its_deaths_says_what_fresh_ones_say():
    with open_trace(str(BUGS / "F4/F4-least.its.txt")) as reader:
        kills = Candidate(reader.header, tuple(e for _, frame in reader for e in frame))
    lives = kills._replace(events=kills.events[:-1])
    spec = parse(kernel("linux-6.1.176"))
    with Targets(outlive=True) as one, Targets() as fresh:
        told = [death(one, spec, each) for each in (kills, lives, kills, kills, lives)]
        one.close()
        alone = [death(fresh, spec, each) for each in (kills, lives)]
        assert (one.boots, fresh.boots) == (1, 2)
    assert told == [alone[0], alone[1], alone[0], alone[0], alone[1]]
    assert (alone[0].function, alone[0].kind, alone[1]) == (DIES[6:], "save", None)


@pytest.mark.parametrize(("what", "version", "signature", "limit", "healthy"), FOUND)
def test_a_random_life_becomes_the_shortest_story(
    what, version, signature, limit, healthy, tmp_path, capsys
):
    path, least = life(what, tmp_path), tmp_path / "least.itstrace"
    words = ("--target", kernel(version), "--signature", signature, "-o", str(least))
    assert inputs(path) >= FIRST_RANDOM
    assert cli.main(["minimize", str(path), *words]) == 0
    told = capsys.readouterr().out
    assert "every single one of these is needed" in told
    assert "flaky" not in told
    assert inputs(least, NUMBER["mem.write"]) <= limit
    asked = {version: "bad"} | ({healthy: "good"} if healthy else {})
    assert {each: ruled(least, each, signature) for each in asked} == asked


def ruled(path, version, signature):
    """Return what a build is by this trace: `verify --git-bisect` or `run --git-bisect`."""
    verb = "run" if signature.startswith("crash") else "verify"
    target = "--target" if verb == "run" else "--on"
    words = (str(path), target, kernel(version), "--git-bisect", "--signature", signature)
    return {0: "good", 1: "bad", 125: "cannot tell"}[cli.main([verb, *words])]
