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
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from replay.model.kvm.state import HostCrash
from replay.model.kvm.vm import KvmVm
from replay.model.memory import GuestRam
from replay.model.qemu.vm import QemuVm
from replay.profiles import PROFILES, Profile, find

KVM_SLOTS: Final = ((0x4000_0000, 32 << 20),)
QEMU_SLOTS: Final = ((0, 128 << 20), (0x4000_0000, 64 << 20))  # flash reads as memory, too
VMM: Final = 1
SHOWN: Final = 10
DEBUGFS_ROWS: Final = 64

# Takes the fields of a line; returns the answer as the file spells it, None if there is none.
Operation = Callable[[Any, list[str]], str | None]
MASK32: Final = 0xFFFF_FFFF


# -- operations on RAM, the same for all


def _queue(vm, fields):
    gpa = int(fields[1], 16)
    store = vm.ram.store64
    for field in fields[2:6]:
        store(gpa, int(field, 16))
        gpa += 8


def _store(vm, fields):
    vm.ram.store64(int(fields[1], 16), int(fields[2], 16))


def _dump(vm, fields):
    rows = vm.ram.nonzero64(int(fields[1], 16), int(fields[2], 16))
    return " ".join([f"{index}:{value:x}" for index, value in rows])


# -- KVM


def _cpu(vm, attribute):
    """Return the index of the vCPU that the affinity in an attribute names, -1 for none."""
    affinity = attribute >> 32
    if affinity & 0xF0 or affinity >> 16:
        return -1
    return vm.state.index_of_id.get(affinity & 0xF | affinity >> 8 << 4, -1)


def _kvm_write(vm, fields):
    return str(vm.reg_write(VMM, int(fields[1], 16), 8, int(fields[2], 16)))


def _kvm_read(vm, fields):
    value, error = vm.reg_read(VMM, int(fields[1], 16), 8)
    return f"{value:x} {error}"


def _kvm_gicr_write(vm, fields):
    at = int(fields[1], 16)
    return str(vm.gicr_write(VMM, _cpu(vm, at), at & MASK32, 4, int(fields[2], 16)))


def _kvm_gicr_read(vm, fields):
    at = int(fields[1], 16)
    value, error = vm.gicr_read(VMM, _cpu(vm, at), at & MASK32, 4)
    return f"{value:x} {error}"


def _kvm_gicd_write(vm, fields):
    return str(vm.gicd_write(VMM, int(fields[1], 16), 4, int(fields[2], 16)))


def _kvm_msi(vm, fields):
    return str(vm.signal_msi(int(fields[1], 16), int(fields[2], 16)))


def _kvm_ctrl(vm, fields):
    return str(vm.ctrl(int(fields[1], 16)))


def _kvm_save_pending(vm, fields):
    return str(vm.save_pending())


def _kvm_live(vm, fields):
    rows = sorted(vm.live_lpis()[:DEBUGFS_ROWS])
    return " ".join([f"{row[0]},{row[1]},{row[2]},{row[3]},{row[4]}" for row in rows])


# -- QEMU


def _size(offset):
    return 4 if offset in (0, 4, 0x14) or offset >= 0xFFD0 or offset & 4 else 8


def _qemu_write(vm, fields):
    offset = int(fields[1], 16)
    size = _size(offset)
    vm.reg_write(offset, int(fields[2], 16) & (1 << 8 * size) - 1, size)


def _qemu_read(vm, fields):
    offset = int(fields[1], 16)
    return f"{vm.reg_read(offset, _size(offset)) or 0:x}"


def _qemu_gicr_write(vm, fields):
    at = int(fields[1], 16)
    vm.gicr_write(at >> 32, at & MASK32, int(fields[2], 16) & MASK32, 4)


def _qemu_gicr_read(vm, fields):
    at = int(fields[1], 16)
    return f"{vm.gicr_read(at >> 32, at & MASK32, 4) or 0:x}"


def _qemu_msi(vm, fields):
    vm.msi(int(fields[1], 16), int(fields[2], 16))


def _qemu_reset(vm, fields):
    vm.reset()


def _nothing(vm, fields):
    """An operation that this model has no part of."""


# family -> letter -> operation, and how many fields stand before the answer
OPERATIONS: Final[dict[str, dict[str, tuple[Operation, int]]]] = {
    "kvm": {
        "W": (_kvm_write, 3),
        "R": (_kvm_read, 2),
        "G": (_kvm_gicr_write, 3),
        "g": (_kvm_gicr_read, 2),
        "D": (_kvm_gicd_write, 3),
        "Q": (_queue, 6),
        "M": (_store, 3),
        "m": (_dump, 3),
        "I": (_kvm_msi, 3),
        "X": (_kvm_ctrl, 2),
        "P": (_kvm_save_pending, 1),
        "V": (_kvm_live, 1),
    },
    "qemu": {
        "W": (_qemu_write, 3),
        "R": (_qemu_read, 2),
        "G": (_qemu_gicr_write, 3),
        "g": (_qemu_gicr_read, 2),
        "D": (_nothing, 3),
        "Q": (_queue, 6),
        "M": (_store, 3),
        "m": (_dump, 3),
        "I": (_qemu_msi, 3),
        "X": (_qemu_reset, 2),
    },
}


def new_vm(profile: Profile, header: str) -> KvmVm | QemuVm:
    """Make the VM of a life's header line (`# seed N cpus C gicr X [stride S]`)."""
    words = header.split()
    cpus = int(words[words.index("cpus") + 1]) if "cpus" in words else 4
    if profile.family == "qemu":
        return QemuVm(profile.choices, cpus=cpus, ram=GuestRam(QEMU_SLOTS))
    stride = int(words[words.index("stride") + 1]) if "stride" in words else 1
    return KvmVm(profile.choices, range(0, cpus * stride, stride), GuestRam(KVM_SLOTS))


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
    for path in options.files:
        profile, note = find(options.profile or profile_of(path))
        if note:
            print(f"{path}: {note}", file=sys.stderr)
        for flag in options.flip:
            profile = flipped(profile, flag)
        replay_file(path, profile, run)
    for text in run.shown:
        print(text)
    print(run)
    return 1 if run.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
