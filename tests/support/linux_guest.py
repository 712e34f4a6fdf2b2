"""A real Linux guest for the tests: Debian's arm64 kernel and busybox, with an init of our own.

Both are fetched with this machine's own apt sources, once, into .cache/arm64 of the tree. The
guest counts its lives on its disk and does in each what `LIVES` says. The counterpart is
`bare_metal`, which needs nothing.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "arm64"
KERNEL_PACKAGE = "linux-image-arm64"  # depends on the one that holds a kernel
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
LIVES = {"wait": "while :; do work; done", "reboot": "reboot -f", "off": "poweroff -f"}
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
    root = fetch()
    cases = "\n".join(f"{at}) {LIVES[name]};;" for at, name in enumerate(lives, 1))
    init = _INIT.format(modules=" ".join(MODULES), ready=READY, lives=cases)
    (directory / "initramfs.gz").write_bytes(gzip.compress(_initramfs(root, init.encode()), 1))
    with (directory / "disk").open("wb") as disk:
        disk.truncate(1 << 20)
    (kernel,) = root.glob("boot/vmlinuz-*")
    return (
        *("-kernel", str(kernel), "-initrd", str(directory / "initramfs.gz")),
        *("-append", "console=ttyAMA0 quiet", "-serial", f"file:{directory / 'console'}"),
        *("-drive", f"file={directory / 'disk'},format=raw,if=none,id=disk"),
        *("-device", "virtio-blk-pci,drive=disk"),
    )


def fetch() -> Path:
    """Return where kernel and busybox are unpacked."""
    root = CACHE / "root"
    if root.exists():
        return root
    for tool in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(tool) is None:
            raise NotHere(f"the guest's kernel is fetched with {tool}, which is not here")
    debs = CACHE / "debs"
    for directory in (debs, CACHE / "lists" / "partial"):
        directory.mkdir(parents=True, exist_ok=True)
    _run("apt-get", "update", "-qq")
    depends = _run("apt-cache", "depends", KERNEL_PACKAGE)
    names = re.findall(r"Depends: (linux-image-[0-9]\S+)", depends)
    if not names:
        raise NotHere(f"{KERNEL_PACKAGE} is not among this machine's apt sources")
    _run("apt-get", "download", "-qq", names[0], "busybox-static")
    unpacked = CACHE / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, unpacked], check=True)
        deb.unlink()
    unpacked.rename(root)
    return root


def _run(tool: str, *words: str) -> str:
    """Run apt for arm64 with lists of its own, so that the machine's stay as they are."""
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State::Lists": CACHE / "lists",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
    }
    command = [tool, *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    done = subprocess.run(
        [*command, *words], cwd=CACHE / "debs", capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotHere(f"{tool} {words[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _initramfs(root: Path, init: bytes) -> bytes:
    """Return a cpio archive (newc) with busybox, the modules that there are, and /init."""
    busybox = next(
        path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists()
    )
    directories = ("bin", "dev", "proc", "sys")
    archive = b"".join(_member(name, stat.S_IFDIR | 0o755) for name in directories)
    archive += _member("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for name in APPLETS:
        archive += _member(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox")
    for name in MODULES:
        for path in root.glob(f"**/kernel/**/{name}.ko*"):
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
