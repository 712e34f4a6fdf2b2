"""What a measurement ran on: the machine, how busy it was, and every version that counts."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGES: Final = ("msgpack", "backports.zstd", "mcap", "zstandard", "eventsourcing", "duckdb")
_TOOLS: Final = (("QEMU", "qemu-system-aarch64"), ("babeltrace2", "babeltrace2"))


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not here"
    return done.stdout.splitlines()[0].strip()


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not here"


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def is_compiled() -> bool:
    """Return whether itstrace's own modules are compiled ones."""
    from replay import engine

    return not str(engine.__file__).endswith(".py")


def load() -> str:
    """Return the load averages."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())


def memory_gib() -> float:
    """Return how much RAM there is."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


def described() -> dict[str, str]:
    """Return what there is, by name."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "itstrace": f"commit {_first_line('git', 'rev-parse', '--short=12', 'HEAD')}, "
        + ("compiled" if is_compiled() else "pure Python"),
        "packages": ", ".join(f"{name} {_package(name)}" for name in PACKAGES),
        "SQLite": sqlite3.sqlite_version,
        **{name: _first_line(command, "--version") for name, command in _TOOLS},
    }
