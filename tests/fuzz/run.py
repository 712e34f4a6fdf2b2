"""Coverage-guided fuzzing of every reader: `python -m tests.fuzz.run [--seconds N] [--target NAME ...]`.

A target goes on from what it found so far (.cache/fuzz/NAME), the seeds (tests/fuzz/corpus/NAME) and
the findings (tests/fuzz/found/NAME), where what breaks it is kept. Exit code 1: something did.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
CORPUS, FOUND = HERE / "corpus", HERE / "found"
CACHE = HERE.parents[1] / ".cache" / "fuzz"
MEMORY = Path("/dev/shm")  # for files of the targets: a disk would take most of the time
LIMITS = ("-timeout=10", "-rss_limit_mb=1024", "-max_len=16384")  # seconds an input may take


def fuzz(name: str, seconds: int) -> tuple[int, int]:
    """Fuzz one target; return how many inputs it was given, and how many broke it."""
    working, found = CACHE / name, FOUND / name
    for folder in (working, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    log = CACHE / f"{name}.log"
    where = MEMORY if MEMORY.is_dir() else None
    with log.open("w") as out, tempfile.TemporaryDirectory(dir=where) as scratch:
        code = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.inside", name),
                *(f"-max_total_time={seconds}", "-print_final_stats=1", *LIMITS),
                f"-artifact_prefix={found}/",
                *(str(working), str(CORPUS / name), str(found)),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": scratch},  # atheris ends its process without cleaning up
            check=False,
        ).returncode
    told = log.read_text(errors="replace")
    new = set(found.iterdir()) - before
    if not any(found.iterdir()):
        found.rmdir()
    executed = [int(each) for each in re.findall(r"number_of_executed_units: (\d+)", told)]
    if code and not new:
        raise SystemExit(f"{name}: atheris ended with {code}; a kept input breaks it? see {log}")
    for path in sorted(new):
        print(f"{path}: breaks {name}, see {log}", file=sys.stderr)
    return sum(executed), len(new)


def main() -> int:
    """Fuzz the targets one after the other, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", nargs="+", choices=tuple(TARGETS), default=tuple(TARGETS))
    options = parser.parse_args()
    broken = 0
    for name in options.target:
        begin = monotonic()
        executed, new = fuzz(name, options.seconds)
        broken += new
        print(
            f"{name}: {executed:,} inputs in {monotonic() - begin:.0f} s, {new} broke it",
            flush=True,
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
