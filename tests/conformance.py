"""Replays vectors of real implementations on the model and compares every answer.

Usage: conformance.py [--profile NAME] FILE...

Each FILE holds lives of a VM in the format of tests/vectors/README.md, plain or gzipped. Without
--profile the profile is the part of the file's name between its first dot and `.txt`. The first ten
differences are printed, then one line of counts; exit status 1 if any answer differs.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from replay.model.kvm.state import HostCrash
from replay.profiles import PROFILES, Profile, find
from replay.vectors import OPERATIONS, new_vm
from tracer.errors import UsageError

SHOWN: Final = 10


class Run:
    """Counts of what was compared, and the first differences."""

    def __init__(self) -> None:
        self.files = self.lives = self.checked = self.mismatches = 0
        self.shown: list[str] = []

    def differ(self, place: str, expected: str, got: str) -> None:
        """Count a difference and keep the first ones."""
        self.mismatches += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"{place}: expected {expected!r}, got {got!r}")

    def __str__(self) -> str:
        return (
            f"conformance: files={self.files} lives={self.lives} checked={self.checked} "
            f"mismatches={self.mismatches}"
        )


def replay_lines(lines: Iterable[str], name: str, profile: Profile, run: Run) -> None:
    """Replay all lives of one file."""
    vm = None
    life = ""
    operations = OPERATIONS[profile.family]
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        letter = fields[0]
        if letter == "#":
            vm = new_vm(profile, line)
            life = line.strip()
            run.lives += 1
            continue
        if vm is None or letter not in operations:
            continue
        operation, inputs = operations[letter]
        try:
            got = operation(vm, fields)
        except HostCrash as crash:
            run.checked += 1
            run.differ(f"{name}:{number} ({life})", line.strip(), str(crash))
            vm = None
            continue
        if got is None:
            continue
        if profile.family == "qemu":
            vm.effects.clear()
        expected = " ".join(fields[inputs:])
        if expected == "?":  # the host had no debugfs
            continue
        run.checked += 1
        if got != expected:
            run.differ(f"{name}:{number} ({life}) {' '.join(fields[:inputs])}", expected, got)


def profile_of(path: Path) -> str:
    """Return the profile that a file's name says."""
    return path.name.partition(".")[2].partition(".txt")[0]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file, plain or gzipped."""
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode().split("\n")


def replay_file(path: Path, profile: Profile, run: Run) -> None:
    """Replay one file."""
    run.files += 1
    replay_lines(read_lines(path), path.name, profile, run)


def flipped(profile: Profile, flag: str) -> Profile:
    """Return the profile with one flag the other way round, or `NAME=NUMBER`."""
    name, _, number = flag.partition("=")
    value: object = int(number) if number else not getattr(profile.choices, name)
    return replace(profile, choices=replace(profile.choices, **{name: value}))


def main(argv: list[str] | None = None) -> int:
    """Replay the files that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", help=", ".join(PROFILES))
    parser.add_argument("--flip", action="append", default=[], metavar="FLAG[=NUMBER]")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    run = Run()
    try:
        replay_files(options, run)
    except (UsageError, OSError, EOFError) as error:
        parser.error(str(error))
    for text in run.shown:
        print(text)
    print(run)
    return 1 if run.mismatches else 0


def replay_files(options: argparse.Namespace, run: Run) -> None:
    """Replay each file under its own profile, or the one that was asked for."""
    for path in options.files:
        profile, note = find(options.profile or profile_of(path))
        if note:
            print(f"{path}: {note}", file=sys.stderr)
        for flag in options.flip:
            profile = flipped(profile, flag)
        replay_file(path, profile, run)


if __name__ == "__main__":
    sys.exit(main())
