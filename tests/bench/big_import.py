"""A log of 1,000,000 ITS lines, made by repeating real ones: peak memory and size. `make big`.

Exits 1 when the importer's peak passes 150 MB or the trace is over a twentieth of the log.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CAPTURE = Path(__file__).parents[2] / "traces" / "qemu-7.2.22-linux-6.1-two-boots.log"
LINES = 1_000_000
PEAK_MB_MAX = 150
RATIO_MIN = 20


def main() -> int:
    """Make the log, import it in a process of its own, print what it took."""
    one = CAPTURE.read_bytes()
    ours = sum(1 for line in one.splitlines() if b"gicv3_its_" in line or b"arm-gicv3-its" in line)
    with tempfile.TemporaryDirectory() as folder:
        log, trace = Path(folder, "big.log"), Path(folder, "big.itstrace")
        with log.open("wb") as out:
            for _ in range(-(-LINES // ours)):
                out.write(one)
        command = [sys.executable, "-m", "replay.cli", "import", str(log), "-o", str(trace)]
        subprocess.run(command, check=True, cwd=CAPTURE.parents[1])
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        ratio = log.stat().st_size / trace.stat().st_size
    print(f"peak {peak_mb:.0f} MB (at most {PEAK_MB_MAX}), 1/{ratio:.0f} of the log's size")
    return int(peak_mb > PEAK_MB_MAX or ratio < RATIO_MIN)


if __name__ == "__main__":
    sys.exit(main())
