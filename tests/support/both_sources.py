"""Captures that have a guest's accesses twice: from kvm:kvm_mmio, unfiltered, and from our own probes.

So one recording gives what the script recorded before it let the kernel leave other devices out (`before`)
and what it records (`after`).
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from typing import Final

TRACES: Final = Path(__file__).parents[2] / "traces"
OLD, NEW = "both-kvm-5.10.223", "both-kvm-7.2.13"  # a boot, a reset, a boot
BUSY: Final = "both-kvm-6.12.117-busy"  # a disk is read without a pause
OURS: Final = r": (mw|mr|mr_ret): "
KERNELS: Final = r": (kvm_mmio|mmio_rret): "


@cache
def lines_of(name: str) -> tuple[str, ...]:
    """Return a capture's lines."""
    text = gzip.decompress((TRACES / f"{name}.stream.txt.gz").read_bytes()).decode()
    return tuple(text.splitlines(True))


def without(pattern: str, lines: tuple[str, ...] | list[str]) -> list[str]:
    """Return the lines that a pattern is not in."""
    return [each for each in lines if not re.search(pattern, each)]


def before(name: str) -> list[str]:
    """Return what the kernel's tracepoint told, with every device's accesses."""
    return without(OURS, lines_of(name))


def after(name: str) -> list[str]:
    """Return what our probes told, once a first read had shown its value."""
    return without(KERNELS, lines_of(name))
