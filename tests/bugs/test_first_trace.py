"""docs/first-trace.md lets models answer in the place of two kernels: these kernels answer the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.bugs import BUGS
from tests.support.kernels import kernel

pytestmark = pytest.mark.skipif(
    not os.environ.get("ITSTRACE_BUGS"), reason="`make test-bugs` runs them"
)


@pytest.mark.parametrize(("purpose", "code"), [("dying of K23", 1), ("living", 0)])
def test_a_kernel_turns_the_page_red_and_its_successor_green(tmp_path, purpose, code):
    for suffix in (".its.txt", ".toml"):
        shutil.copy(BUGS / f"F4/F4-least{suffix}", tmp_path / f"save-dies{suffix}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [*command, "--its-target", f"kvm:{kernel(purpose)}"], text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    bad = "expected good, got bad (crash:vgic_its_save_tables_v0)"
    assert (bad in done.stdout) == bool(code)
