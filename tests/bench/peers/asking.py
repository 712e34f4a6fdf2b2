"""Has one measurement carried out by a process of its own, and returns what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench.peers.measure import Row, Sample

ROOT: Final = Path(__file__).parents[3]


class Failed(Exception):
    """A measurement did not come to its end."""


def ask(
    row: Row, task: str, folder: Path, compiled: str | None = None, **more: Any
) -> tuple[Sample, str]:
    """Return what a process found that did a row's `task`, and what it said beside.

    `more` are options beside the row's. One that was told to kill itself finds nothing. `compiled`: the Python
    of rows that are of a compiled itstrace; the sources here would shadow it, so they are not in its path.

    Raises:
        Failed: it did not come to its end.
    """
    options: Mapping[str, Any] = {**row.options, **more}
    asked = {
        "module": row.module, "task": task, "count": row.count, "folder": str(folder),
        "options": options,
    }  # fmt: skip
    worker = ["-m", "tests.bench.peers.worker", json.dumps(asked)]
    command, more_env = [sys.executable, *worker], {}
    if row.compiled and compiled is not None:
        command, more_env = [compiled, "-P", *worker], {"PYTHONPATH": str(_only_tests(folder))}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | more_env
    )
    if options.get("kill") and done.returncode == -9:
        return {}, ""
    if done.returncode:
        raise Failed(f"{row.name}, {task}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


def _only_tests(folder: Path) -> Path:
    """Return a folder in which Python finds these tests, and the captures, but not the sources."""
    path = folder / "only-tests"
    path.mkdir(exist_ok=True)
    for name in ("tests", "traces"):
        if not (path / name).exists():
            (path / name).symlink_to(ROOT / name)
    return path
