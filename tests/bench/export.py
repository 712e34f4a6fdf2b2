"""What exporting 1,000,000 events costs: seconds, bytes, and memory beside a tenth of them.

`make bench-export`; `python -m tests.bench.export FORM...` measures these alone. The memory of a
form must not grow with the trace; `perfetto` verifies the trace, and keeps as many verdicts as
`verify` does: a thousand.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from replay.generator.answers import generate, header_of
from replay.profiles import find
from tracer.log.stream import Writer

SIZES = (100_000, 1_000_000)
MAX_GROWTH = 1.25
MAX_KIB = 128 << 10  # with a thousand verdicts
FORMS = ("text", "jsonl", "sqlite", "parquet", "ctf", "perfetto")


def make(path: Path, count: int) -> None:
    """Write a trace of so many events: one life, over and over."""
    profile = find("linux-6.1.192")[0]
    life = list(generate(1, profile, 5000))
    with path.open("wb", buffering=0) as out:
        writer = Writer(out, header_of(1, profile, 5000), bound_ms=0)
        for at in range(count):
            writer.add(life[at % len(life)])
        writer.close()


def cost(trace: Path, form: str, made: Path) -> tuple[float, int]:
    """Return seconds and the peak of memory in KiB of one export."""
    code = (
        "import resource, sys; from replay import cli; code = cli.main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    words = ["export", str(trace), "--to", form, "-o", str(made), *(["--force"] * made.exists())]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, int(done.stdout)


def size_of(made: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    files = made.iterdir() if made.is_dir() else [made]
    return sum(each.stat().st_size for each in files)


def main() -> int:
    """Print a line a form; 1 when memory grows with the trace."""
    grown = False
    with tempfile.TemporaryDirectory() as folder:
        traces = [Path(folder) / f"{size}.itstrace" for size in SIZES]
        for trace, size in zip(traces, SIZES, strict=True):
            make(trace, size)
        for form in sys.argv[1:] or FORMS:
            made = Path(folder) / f"made.{form}"
            (_, small), (seconds, large) = [cost(trace, form, made) for trace in traces]
            grown |= large > (MAX_KIB if form == "perfetto" else MAX_GROWTH * small)
            print(
                f"{form:8} {SIZES[-1]:,} events in {seconds:.0f} s, "
                f"{size_of(made) / 1e6:.0f} MB, peak of memory {large / 1024:.0f} MiB "
                f"({large / small:.2f} times that of {SIZES[0]:,})"
            )
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
