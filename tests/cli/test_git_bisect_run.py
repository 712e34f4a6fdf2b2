"""`git bisect run` over a repository whose commits pin behaviour flags: the right commit is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMITS = 32
BREAKS_THE_RESET = 23
SECOND_BUG = range(6, 30)  # an entry of an unmapped device stays in RAM, from the sixth to the 29th
DOES_NOT_BUILD = 16  # where git looks first
MAKEFILE = """\
profile.toml: flags
\t! grep error flags
\techo 'name = "linux-here"' >$@
\techo 'nearest = "linux-6.1.192"' >>$@
\techo '[flags]' >>$@
\tcat flags >>$@
"""
# A device, and another that is unmapped; save, reset, restore. On a good build nothing is left.
TRACE = """\
# itstrace: 1
# profile: "linux-6.1.192"
# cpus: 1
# ram_ranges: [[1073741824, 33554432]]
# guest_ram: "complete"
. +0 mem.write gpa=0x40400000 data=u64(0xa1a1a1a1a1a1a1a1)
. +0 gicr.write cpu=0 offset=0x70 value=0x4040000f size=4 origin=vmm
. +0 gicr.write cpu=0 offset=0x78 value=0x40500000 size=4 origin=vmm
. +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4 origin=vmm
. +0 reg.write offset=0x100 value=0x8000000040100000 origin=vmm
. +0 reg.write offset=0x108 value=0x8000000040200000 origin=vmm
. +0 reg.write offset=0x80 value=0x8000000040300000 origin=vmm
. +0 reg.write offset=0x0 value=0x1 origin=vmm
. +0 mem.write gpa=0x40300000 data=MAPD(device_id=0x1,size=0x3,itt_addr=0x40600000,v=0x1)
. +0 mem.write gpa=0x40300020 data=MAPC(v=0x1)
. +0 mem.write gpa=0x40300040 data=MAPTI(device_id=0x1,pintid=0x2000)
. +0 mem.write gpa=0x40300060 data=MAPD(size=0x3,itt_addr=0x40700000,v=0x1)
. +0 reg.write offset=0x88 value=0x80 origin=vmm
. +0 save
. +0 mem.write gpa=0x40300080 data=MAPD(size=0x3)
. +0 reg.write offset=0x88 value=0xa0 origin=vmm
. +0 save
. +0 reset how=ctrl_reset origin=vmm
. +0 reg.write offset=0x80 value=0x8000000040300000 origin=vmm
. +0 reg.write offset=0x100 value=0x8000000040100000 origin=vmm
. +0 reg.write offset=0x108 value=0x8000000040200000 origin=vmm
. +0 restore
"""
MANIFEST = """\
reason = "CTRL_RESET forgets no device"
expect = "suspected"
signature = "suspected:ctrl_reset:device"
"""


def flags(commit):
    """What a commit pins; each also turns something that no verdict rests on."""
    lines = [
        f"ctrl_reset_supported = {str(commit < BREAKS_THE_RESET).lower()}",
        f"mapd_unmap_clears_dte = {str(commit not in SECOND_BUG).lower()}",
        f"baser_change_frees_list = {str(commit % 2 == 0).lower()}",
        f"# {commit}",
    ]
    return "\n".join(lines + ["#error"] * (commit == DOES_NOT_BUILD)) + "\n"


def git(repo, *words, said=None):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PYTHONPATH": str(ROOT),
        **{f"GIT_{who}_{what}": "test@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(repo), *words],
        env=environment, input=said, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    (folder / "bug.its.txt").write_text(TRACE)
    (folder / "bug.toml").write_text(MANIFEST)
    repo = folder / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    git(repo, "fast-import", "--quiet", said="".join(map(imported, range(1, COMMITS + 1))))
    git(repo, "checkout", "-q", "main")
    return repo


def imported(commit):
    """A commit, and a tag of its name, as `git fast-import` reads it."""
    files = {"Makefile": MAKEFILE, ".gitignore": "profile.toml\n", "flags": flags(commit)}
    lines = ["commit refs/heads/main", f"committer a <a@example> {1_000_000 + commit} +0000"]
    lines += ["data 1", "c"]
    for name, text in files.items():
        lines += [f"M 644 inline {name}", f"data {len(text)}", text]
    return "\n".join([*lines, f"reset refs/tags/c{commit}", "from refs/heads/main", "", ""])


def bisected(repo, *options):
    """Return the commit that `git bisect run` names, and what it said on the way."""
    judge = f"{sys.executable} -m replay.cli verify {' '.join(options)} --profile profile.toml"
    git(repo, "bisect", "reset")
    git(repo, "bisect", "start", f"c{COMMITS}", "c1")
    said = git(repo, "bisect", "run", "sh", "-c", f"make -B || exit 125; {judge} ../bug.its.txt")
    found = re.search(r"([0-9a-f]{40}) is the first bad commit", said)
    assert found, said
    return git(repo, "describe", "--tags", found[1]).strip(), git(repo, "bisect", "log")


def test_the_commit_that_broke_the_reset_is_named(repo):
    found, log = bisected(repo, "--git-bisect")
    assert found == f"c{BREAKS_THE_RESET}"
    assert f"skip: [{git(repo, 'rev-parse', f'c{DOES_NOT_BUILD}').strip()}]" in log


def test_a_judge_that_counts_any_finding_names_the_other_bug(repo):
    found, _ = bisected(repo)  # plain `verify`: 1 for whatever it finds
    assert found == f"c{SECOND_BUG[0]}"
