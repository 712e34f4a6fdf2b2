"""Debian's packages for arm64, fetched with this machine's own apt: kernels to be targets.

Nothing is installed, no configuration of the machine is changed, and the mirror is the one that its
apt sources name. A package is unpacked once, below `folder()`. Counterparts:
`replay.targets.kvm_boot`, which boots a kernel, and `replay.kernel_image`, which tells its version.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from replay.kernel_image import banner
from replay.targets.errors import TargetError

KERNEL_PACKAGES: Final = {"debian": "linux-image-arm64", "ubuntu": "linux-image-generic"}
NEEDED: Final = (
    "any arm64 Image or vmlinuz is a target, kvm:PATH, if it has CONFIG_KVM, PCI_HOST_GENERIC, "
    "DEVTMPFS, BLK_DEV_INITRD and SERIAL_AMBA_PL011_CONSOLE built in, and DEBUG_FS to list LPIs"
)
_SUITE: Final = re.compile(r"[a-z][a-z-]{1,40}")
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,80}")
_KERNEL: Final = re.compile(r"linux-(image|binary)-[0-9]")
_TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that is here: `version` is the package's, `image` what the image says of itself."""

    path: Path
    version: str
    image: str


def folder() -> Path:
    """Return where packages are unpacked: $ITSTRACE_KERNELS, or the user's cache."""
    if named := os.environ.get("ITSTRACE_KERNELS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itstrace" / "arm64"


def here() -> list[Kernel]:
    """Return every kernel below `folder()`."""
    paths = [path for path in folder().rglob("vmlinuz*") if path.is_file()]
    paths += [path for path in folder().rglob("Image") if path.is_file()]
    return [kernel_at(path) for path in sorted(paths)]


def kernel_at(path: Path) -> Kernel:
    """Return what a kernel's image says of itself; the version is Debian's, if it has one."""
    said = banner(path)
    version = re.search(r" (?:Debian|Ubuntu) (\S+)", said) or re.match(r"(\S+)", said)
    return Kernel(path, version[1] if version else "unknown", said)


def fetch_kernel(suite: str) -> Kernel:
    """Return the newest kernel of a suite, fetched if it was not.

    Raises:
        TargetError: apt is not here, or does not have it.
    """
    done = fetch(suite, KERNEL_PACKAGES["ubuntu" if _is_ubuntu() else "debian"])
    images = [path for top in done for path in top.rglob("vmlinuz*") if path.is_file()]
    if not images:
        raise TargetError(f"{suite}: its kernel package holds no kernel; {NEEDED}")
    return kernel_at(max(images))


def fetch(suite: str, package: str) -> list[Path]:
    """Return the folders that a package, and a kernel that it leads to, are unpacked in.

    Raises:
        TargetError: apt is not here, or does not have it.
    """
    _check([suite], [package])
    top = folder() / suite
    done = top / f".{package}"
    with _alone(top, done) as wanted:
        if wanted:
            apt = _Apt([suite], top / ".apt")
            names = [apt.unpacked(name, top) for name in apt.led_to(package)]
            done.write_text("\n".join(names))
    return [top / name for name in done.read_text().split()]


def fetch_with_dependencies(suites: Sequence[str], packages: Sequence[str]) -> Path:
    """Return a folder with packages and all that they depend on, unpacked into each other.

    Raises:
        TargetError: apt is not here, or does not have them.
    """
    _check(suites, packages)
    top = folder() / suites[0]
    done = top / "+".join(packages)[:120]
    with _alone(top, done) as wanted:
        if wanted:
            _Apt(suites, top / ".apt-all").all_unpacked(packages, done)
    return done


@contextmanager
def _alone(top: Path, done: Path) -> Iterator[bool]:
    """Yield whether `done` is still to be made, with other processes kept out of the folder.

    The lists of apt in it have no lock of their own.
    """
    if done.exists():
        yield False
        return
    try:
        top.mkdir(parents=True, exist_ok=True)
        lock = (top / ".lock").open("w")
    except OSError as error:
        raise TargetError(
            f"{top}: {error.strerror}; ITSTRACE_KERNELS names another folder for kernels"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()


def _check(suites: Sequence[str], packages: Sequence[str]) -> None:
    if not all(map(_SUITE.fullmatch, suites)) or not all(map(_PACKAGE.fullmatch, packages)):
        raise TargetError(f"{' '.join([*suites, *packages])}: this names no suite and package")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise TargetError(f"{', '.join(missing)}: not here; on other systems, {NEEDED}")


class _Apt:
    """apt with lists of its own, of some suites, for arm64."""

    def __init__(self, suites: Sequence[str], state: Path) -> None:
        self._archives = state / "archives"
        for path in (state / "lists" / "partial", self._archives / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        sources = "".join(f"{_source(suite)}\n" for suite in suites)
        (state / "sources.list").write_text(sources)
        settings = {
            "Dir::Etc::SourceList": state / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": state / "lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": state,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
        }
        self._options = [
            word for key, value in settings.items() for word in ("-o", f"{key}={value}")
        ]
        self._suite = suites[0]
        self._run(["apt-get", "update", "-qq"])

    def _run(self, command: Sequence[str], cwd: Path | None = None) -> str:
        words = [command[0], *self._options, *command[1:]]
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no word"]
            raise TargetError(f"{self._suite}: {' '.join(command[:2])}: {lines[0][:200]}")
        return done.stdout

    def led_to(self, package: str) -> Iterator[str]:
        """Yield a package and, of a kernel, those that it depends on and that hold it."""
        yield package
        for depends in self._run(["apt-cache", "depends", package]).splitlines():
            name = depends.strip().removeprefix("Depends: ")
            if name != depends.strip() and _KERNEL.match(name) and _PACKAGE.fullmatch(name):
                yield from self.led_to(name)

    def unpacked(self, package: str, top: Path) -> str:
        """Unpack a package; return the name of its folder."""
        with TemporaryDirectory(dir=top) as work:
            self._run(["apt-get", "download", "-qq", package], Path(work))
            (archive,) = Path(work).glob("*.deb")
            fresh = Path(work) / "unpacked"
            subprocess.run(["dpkg-deb", "-x", archive, fresh], check=True)
            name = archive.name.removesuffix(".deb").replace("%3a", "-")
            if not (top / name).exists():
                fresh.rename(top / name)
        return name

    def all_unpacked(self, packages: Sequence[str], to: Path) -> None:
        """Unpack packages and all that they depend on into one folder."""
        download = ("apt-get", "install", "-qq", "-y", "--download-only", "--no-install-recommends")
        self._run([*download, *packages])
        with TemporaryDirectory(dir=to.parent) as work:
            fresh = Path(work) / "unpacked"
            for archive in sorted(self._archives.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", archive, fresh], check=True)
                archive.unlink()
            fresh.rename(to)


def _is_ubuntu() -> bool:
    release = Path("/etc/os-release")
    return release.exists() and "ID=ubuntu" in release.read_text()


def _source(suite: str) -> str:
    """Return the line of sources.list for a suite, on the mirror that this machine uses.

    Raises:
        TargetError: its apt sources name none.
    """
    mirrors: dict[bool, tuple[str, str]] = {}
    for uri, suites, keyring in _entries(Path("/etc/apt")):
        for each in filter(_SUITE.fullmatch, suites):
            mirrors.setdefault(each.endswith("-security"), (uri, keyring))
    found = mirrors.get(suite.endswith("-security"))
    if found is None:
        raise TargetError(f"{suite}: this machine's apt sources name no mirror for it; {NEEDED}")
    uri, keyring = found
    signed = f" signed-by={keyring}" if keyring else ""
    return f"deb [arch=arm64{signed}] {uri} {suite} main"


def _entries(top: Path) -> Iterator[tuple[str, list[str], str]]:
    """Yield (mirror, suites, keyring) of the distribution's own sources, in either format."""
    for path in sorted(top.glob("sources.list.d/*.sources")):
        for paragraph in re.split(r"\n\s*\n", path.read_text()):
            fields = dict(re.findall(r"(?m)^([A-Za-z-]+):\s*(\S.*)$", paragraph))
            yield from _own(fields.get("URIs", ""), fields.get("Suites", ""), fields)
    for path in (top / "sources.list", *sorted(top.glob("sources.list.d/*.list"))):
        if path.exists():
            for line in re.findall(r"(?m)^deb\s+(.+)$", path.read_text()):
                match = re.match(r"(?:\[(.*?)\]\s*)?(\S+)\s+(\S+)\s+(.*)", line)
                if match:
                    options = dict(re.findall(r"(\S+?)=(\S+)", match[1] or ""))
                    fields = {"Components": match[4], "Signed-By": options.get("signed-by", "")}
                    yield from _own(match[2], match[3], fields)


def _own(uris: str, suites: str, fields: dict[str, str]) -> Iterator[tuple[str, list[str], str]]:
    """Yield a source if it is the distribution's: its component `main` names Debian or Ubuntu."""
    uri = uris.split(maxsplit=1)[0] if uris.split() else ""
    own = re.search(r"debian|ubuntu", uri) and "main" in fields.get("Components", "").split()
    keyring = fields.get("Signed-By", "").strip()
    named = [each for each in suites.split() if not each.startswith("/")]
    if own and _DISTRIBUTION.search(keyring or "debian"):
        yield uri, named, keyring if keyring.startswith("/") else ""


_DISTRIBUTION: Final = re.compile(r"debian|ubuntu")
