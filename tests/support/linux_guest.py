"""A real Linux guest for the tests: Debian's arm64 kernel and busybox, with an init of our own.

`replay.kernels` fetches both, once. The guest counts its lives on its disk and does in each what `LIVES` says. The counterpart is
`bare_metal`, which needs nothing.
"""

from __future__ import annotations

import gzip
import lzma
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from replay import kernels
from replay.targets.errors import TargetError

# suite, package
KERNEL = ("bookworm-security", "linux-image-arm64")
BUSYBOX = ("bookworm", "busybox-static")
MODULES = (
    *("virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"),
    *("virtio_pci", "virtio_blk"),
)
APPLETS = (
    "sh",
    "mount",
    "insmod",
    "dd",
    "echo",
    "cat",
    "sleep",
    "reboot",
    "poweroff",
    "tr",
    "grep",
)
READY = "guest: ready in life"
LIVES = {
    "wait": "while :; do work; done",
    "idle": "while :; do sleep 1000; done",
    "reboot": "reboot -f",
    "off": "poweroff -f",
}
_INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in {modules}; do [ -f /$module.ko ] && insmod /$module.ko; done
until [ -b /dev/vda ]; do sleep 0.1; done
work() {{ dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null; }}
life=$(dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -d '\\000')
life=$((${{life:-0}} + 1))
echo $life | dd of=/dev/vda bs=512 count=1 conv=sync oflag=direct 2>/dev/null
work
echo "{ready} $life, $(grep -c ITS /proc/interrupts) interrupts of the ITS"
case $life in
{lives}
esac
"""


class NotHere(Exception):
    """The guest cannot be had on this machine; the text says why."""


def guest(lives: list[str], directory: Path) -> tuple[str, ...]:
    """Return QEMU's options for a guest that lives so; files go into `directory`.

    Raises:
        NotHere: its kernel cannot be fetched.
    """
    roots = fetch()
    cases = "\n".join(f"{at}) {LIVES[name]};;" for at, name in enumerate(lives, 1))
    init = _INIT.format(modules=" ".join(MODULES), ready=READY, lives=cases)
    (directory / "initramfs.gz").write_bytes(gzip.compress(_initramfs(roots, init.encode()), 1))
    with (directory / "disk").open("wb") as disk:
        disk.truncate(1 << 20)
    (kernel,) = _found(roots, "boot/vmlinuz-*")
    return (
        *("-kernel", str(kernel), "-initrd", str(directory / "initramfs.gz")),
        *("-append", "console=ttyAMA0 quiet", "-serial", f"file:{directory / 'console'}"),
        *("-drive", f"file={directory / 'disk'},format=raw,if=none,id=disk"),
        *("-device", "virtio-blk-pci,drive=disk"),
    )


def fetch() -> list[Path]:
    """Return the folders where kernel and busybox are unpacked."""
    try:
        return [*kernels.fetch(*KERNEL), *kernels.fetch(*BUSYBOX)]
    except TargetError as error:
        raise NotHere(str(error)) from error


def _found(roots: Sequence[Path], pattern: str) -> list[Path]:
    return [path for root in roots for path in root.glob(pattern)]


def _initramfs(roots: Sequence[Path], init: bytes) -> bytes:
    """Return a cpio archive (newc) with busybox, the modules that there are, and /init."""
    busybox = _found(roots, "**/bin/busybox")[0]
    directories = ("bin", "dev", "proc", "sys")
    archive = b"".join(_member(name, stat.S_IFDIR | 0o755) for name in directories)
    archive += _member("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for name in APPLETS:
        archive += _member(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox")
    for name in MODULES:
        for path in _found(roots, f"**/kernel/**/{name}.ko*"):
            data = path.read_bytes()
            archive += _member(
                f"{name}.ko",
                stat.S_IFREG | 0o644,
                lzma.decompress(data) if path.suffix == ".xz" else data,
            )
    return archive + _member("init", stat.S_IFREG | 0o755, init) + _member("TRAILER!!!", 0)


def _member(name: str, mode: int, data: bytes = b"") -> bytes:
    """Return one file of the archive: a head of 13 numbers in hexadecimal, name and data padded."""
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers)
    named = head + os.fsencode(name) + b"\0"
    return named + bytes(-len(named) % 4) + data + bytes(-len(data) % 4)
