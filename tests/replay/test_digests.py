"""Same bytes, same answer: on two runs, in two processes, and on every Python that is here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.digests import state_digests

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "states.json").read_text())


def test_two_runs_give_the_digests_that_were_written_down():
    assert state_digests() == state_digests() == GOLDEN


def test_another_process_with_another_hash_seed_gives_the_same():
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.digests"],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == GOLDEN


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_other_pythons_give_the_same(version):
    """Only where `make pythons` has made an environment for that version."""
    python = ROOT / ".cache" / f"venv-{version}" / "bin" / "python"
    if not python.exists() or shutil.which(str(python)) is None:
        pytest.skip(f"no environment for Python {version}: `make pythons` makes one where it is")
    done = subprocess.run(
        [str(python), "-m", "tests.support.digests"], cwd=ROOT, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == GOLDEN
