"""What a KVM host under TCG and its guests boot from: Debian's kernels and programs for arm64.

`replay.kernels` fetches them; a program and the libraries that it needs are copied into an initramfs,
so that no disk, no root file system and no arm64 machine is needed. Archives are kept below
.cache/kvm and made once.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from replay.kernels import fetch_with_dependencies

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "kvm"
HERE = Path(__file__).parent
TOOLS = ("apt-get", "dpkg-deb", "cpio", "readelf", "qemu-system-aarch64")

# release -> its suites, and the packages that are wanted of it
RELEASES = {
    "bookworm": (
        ("bookworm", "bookworm-security"),
        (
            *("linux-image-arm64", "qemu-system-arm", "busybox-static", "dash", "kexec-tools"),
            "socat",
        ),
    ),
    **{suite: ((suite,), ("linux-image-arm64",)) for suite in ("bullseye", "trixie", "sid")},
}
# In the order in which they can be loaded; what a kernel has built in is left out.
GUEST_MODULES = (
    *("virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("virtio_blk", "rng-core", "virtio-rng"),
)
HOST_MODULES = (*GUEST_MODULES, "failover", "net_failover", "virtio_net")
LOADER = "lib/ld-linux-aarch64.so.1"
LIBRARIES = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu")


def missing_tools() -> list[str]:
    """Return which of the programs that all this needs are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


@cache
def unpacked(release: str) -> Path:
    """Return the folder with the packages of one Debian release."""
    return fetch_with_dependencies(*RELEASES[release])


def kernel(release: str) -> Path:
    """Return the kernel's image of one Debian release."""
    top = unpacked(release)
    return max([*top.glob("boot/vmlinuz-*"), *top.glob("usr/lib/modules/*/vmlinuz")])


def guest(release: str = "bookworm") -> Path:
    """Return the initramfs of a guest, with kexec and the kernel that it would start."""
    tools = unpacked("bookworm")
    return _initramfs(
        f"guest-{release}",
        HERE / "guest-init",
        modules(release, GUEST_MODULES),
        programs(tools, ["sbin/kexec"]),
    )


def host(release: str) -> Path:
    """Return the initramfs of a KVM host: QEMU, a guest's images, shells."""
    tools = unpacked("bookworm")
    files = programs(tools, ["usr/bin/qemu-system-aarch64", "usr/bin/socat", "bin/dash"])
    files |= {"guest/vmlinuz": kernel("bookworm"), "guest/initramfs": guest()}
    return _initramfs(f"host-{release}", HERE / "host-init", modules(release, HOST_MODULES), files)


def modules(release: str, names: Iterable[str]) -> list[Path]:
    """Return those of the modules that the release's kernel does not have built in."""
    top = next(
        folder
        for lib in ("lib", "usr/lib")
        for folder in unpacked(release).glob(f"{lib}/modules/*")
    )
    found = {re.sub("-", "_", path.name.split(".")[0]): path for path in top.rglob("*.ko*")}
    wanted = [re.sub("-", "_", name) for name in names]
    return [found[name] for name in wanted if name in found]


def programs(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the programs and, as path -> file, every library that they need."""
    files = {LOADER: (root / LOADER).resolve(), **{name: root / name for name in names}}
    todo = list(files.values())
    while todo:
        said = subprocess.run(
            ["readelf", "-d", todo.pop()], check=True, capture_output=True, text=True
        ).stdout
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", said):
            place = f"lib/aarch64-linux-gnu/{name}"
            if place not in files and name != Path(LOADER).name:
                files[place] = next(
                    (root / folder / name).resolve()
                    for folder in LIBRARIES
                    if (root / folder / name).exists()
                )
                todo.append(files[place])
    return files


def _initramfs(name: str, init: Path, mods: Iterable[Path], files: dict[str, Path]) -> Path:
    """Return a cpio archive with busybox, the modules in their order, and `files`."""
    made = CACHE / f"{name}.cpio"
    sources = [init, Path(__file__), *files.values()]
    if made.exists() and made.stat().st_mtime > max(each.stat().st_mtime for each in sources):
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as folder:
        top = Path(folder) / "root"
        for each in ("bin", "dev", "proc", "sys", "tmp", "modules"):
            (top / each).mkdir(parents=True)
        everything = {"bin/busybox": unpacked("bookworm") / "bin/busybox", "init": init, **files}
        for place, path in everything.items():
            (top / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, top / place)
            (top / place).chmod(0o755)
        for number, path in enumerate(mods):
            (top / "modules" / f"{number:02}.ko").write_bytes(_uncompressed(path))
        fresh = Path(folder) / "cpio"
        with fresh.open("wb") as out:
            names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
            subprocess.run(
                ["cpio", "-o", "-H", "newc", "--quiet"],
                input=names.encode(),
                stdout=out,
                cwd=top,
                check=True,
            )
        fresh.rename(made)
    return made


def _uncompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    return gzip.decompress(data) if path.suffix == ".gz" else data
