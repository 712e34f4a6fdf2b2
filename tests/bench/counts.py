"""Instructions an event, counted by callgrind, which a busy machine does not change: `make bench-counts`.

The pieces of work are those of `bench.py`. Each runs once and three times in processes of its own;
half of what these differ by is the cost of one time, start-up left out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgpack

from tests.bench import bench
from tracer.log.opening import open_trace

COPIES = 10  # of the two boots


def work(name: str, path: Path) -> Callable[[], object]:
    """Return a piece of work on a trace."""
    trace = path.read_bytes()
    with open_trace(str(path)) as reader:
        events = [event for _, block in reader for event in block]
    packed = b"".join(map(msgpack.packb, events))
    return {
        "append": lambda: bench.append(events),
        "bare append": lambda: bench.bare_append(events),
        "read": lambda: bench.read(trace),
        "bare read": lambda: bench.bare_read(packed),
        "replay": lambda: bench.replay(trace),
    }[name]


def instructions(name: str, path: Path, times: int) -> int:
    """Return what callgrind counts of a process that does a piece of work so often."""
    done = subprocess.run(
        [
            "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
            sys.executable, "-m", "tests.bench.counts", str(path),
            "--do", name, "--times", str(times),
        ],
        env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def make(path: Path) -> int:
    """Write the trace; return how many events it has."""
    path.write_bytes(bench.import_log(bench.CAPTURE.read_bytes() * COPIES))
    with open_trace(str(path)) as reader:
        return sum(len(block) for _, block in reader)


def main() -> None:
    """Print a line for each piece of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--only", nargs="*", default=["bare append", "append", "bare read", "read", "replay"]
    )
    parser.add_argument("--do", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        piece = work(options.do, options.trace)
        for _ in range(options.times):
            piece()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "boots.itstrace"
        events = make(path)
        for name in options.only:
            once, thrice = (instructions(name, path, times) for times in (1, 3))
            print(
                f"{name:12} {(thrice - once) / 2 / events:8.0f} instructions an event", flush=True
            )


if __name__ == "__main__":
    main()
