"""Runs one measurement and prints what it found as JSON: `python -m tests.bench.peers.worker JSON`.

`{"module": "ours", "task": "read", "count": 1000, "folder": "...", "options": {}}`; with `"profile": 12`
among the options, the 12 functions that took longest go to standard error.
"""

from __future__ import annotations

import cProfile
import importlib
import json
import pstats
import sys
from pathlib import Path

from tests.bench.peers.job import Job, peak_kib
from tests.bench.peers.machine import is_compiled


def main() -> None:
    asked = json.loads(sys.argv[1])
    options = asked.get("options", {})
    job = Job(Path(asked["folder"]), asked["module"], asked["count"], options)
    task = getattr(
        importlib.import_module(f"tests.bench.peers.contestants.{asked['module']}"), asked["task"]
    )
    if lines := options.get("profile"):
        profile = cProfile.Profile()
        profile.runcall(task, job)
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(lines)
    else:
        task(job)
    job.facts.setdefault("peak_kib", peak_kib())
    job.tell(compiled=is_compiled())
    print(json.dumps(job.facts))


if __name__ == "__main__":
    main()
