"""The corpus of traces/ on the QEMU and on every kernel that is here, as `make corpus-real` runs it.

Prints the matrix, and behind it what each target made of how many; stderr says why, and what a target
cannot judge. Kernels: those that `itstrace kernels` lists, one of each version.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from replay import cli
from replay.kernels import here
from replay.targets.spec import QEMU

TRACES = Path(__file__).parents[1] / "traces"


def targets() -> list[str]:
    """Return what there is: a QEMU, and a kernel of each version."""
    kernels = {kernel.version: f"kvm:{kernel.path}" for kernel in here()}
    return [*(["qemu"] if shutil.which(QEMU) else []), *kernels.values()]


def main() -> int:
    """Run it; 0 when every target was asked, since a kernel that shows an old bug is no failure here."""
    found = targets()
    if not found:
        print(
            f"no {QEMU} and no kernel is here: `make qemu`, `itstrace kernels SUITE`",
            file=sys.stderr,
        )
        return 4
    options = [word for each in found for word in ("--target", each)]
    code = cli.main(["corpus", "run", str(TRACES), "--matrix", *options])
    return 0 if code == 1 else code


if __name__ == "__main__":
    sys.exit(main())
