"""Real kernels for the tests: one of those that are here, or Debian's, fetched once.

Counterpart: `replay.kernels`. Where no kernel can be had, or nothing to boot it with, a test is
skipped and says why.
"""

from __future__ import annotations

import re
import shutil
from functools import cache

import pytest

from replay.kernels import fetch_kernel, here
from replay.targets.errors import TargetError

# what for -> (versions that do, the suite whose kernel does)
KERNELS = {
    "living": (r"6\.1\.(19[2-9]|[2-9][0-9]{2})\b", "bookworm-security"),
    "dying of K23": (r"(6\.1\.176|5\.10\.[0-9]+)\b", "bookworm"),
}


@cache
def _found(purpose):
    for tool in ("qemu-system-aarch64", "aarch64-linux-gnu-gcc"):
        if shutil.which(tool) is None:
            return None, f"{tool} is not installed"
    pattern, suite = KERNELS[purpose]
    for each in here():
        if re.match(pattern, each.version):
            return each, ""
    try:
        return fetch_kernel(suite), ""
    except TargetError as error:
        return None, str(error)


def kernel(purpose):
    """Return the path of a kernel; skips the test where there is none."""
    found, why = _found(purpose)
    if found is None:
        pytest.skip(why)
    return found.path
