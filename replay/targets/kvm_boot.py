"""A KVM host for one program: the kernel that somebody just built, booted under QEMU's TCG.

The initramfs holds that program and nothing else; it is C, built when it is first needed, and kept
by its digest. Host and program share a memory (QEMU's ivshmem), and the console tells how a kernel
died. Counterparts: `kvm_wire`, which talks to the program, and `kvm`, which knows what to say.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from replay.kernel_image import NO_BANNER, banner
from replay.targets.errors import TargetError
from replay.targets.kvm_wire import SHARED_BYTES, Wire
from replay.targets.qtest import die_with_parent

BOOT_SECONDS: Final = 90.0  # 4 s on an idle machine
MAX_CONSOLE_BYTES: Final = 4 << 20
_SOURCES: Final = Path(__file__).with_name("kvm_host")
_COMPILERS: Final = ("aarch64-linux-gnu-gcc", "gcc", "cc")
_FLAGS: Final = ("-static", "-O1", "-Wall")
_QEMU: Final = "qemu-system-aarch64"
_CHUNK_BYTES: Final = 1 << 16
_COMMAND_LINE: Final = "console=ttyAMA0 loglevel=5 panic=-1 rdinit=/init"
_DIES: Final = "oops=panic"
_OUTLIVES: Final = "-- outlive"  # for the program
MAX_LIVES: Final = 250  # on one boot: what an oops leaves behind stays there
RENEW_SECONDS: Final = 20.0
# What the kernel's log tells beside an oops.
FINDINGS: Final = re.compile(
    r"(WARNING: CPU|BUG: KASAN|BUG: unable|UBSAN:|kmemleak: \d+ new|possible recursive locking"
    r"|circular locking|soft lockup|rcu.*stall)"
)
_DEATH: Final = re.compile(r"Unable to handle kernel|Kernel panic|Internal error|kernel BUG at")
_OOPS_ENDS: Final = re.compile(rb"Internal error.*---\[ end trace", re.DOTALL)
_WHERE: Final = re.compile(r"\bpc : ([A-Za-z_][\w.]*)\+0x")
_STAMP: Final = re.compile(r"^\[ *[0-9.]+\]\s*", re.MULTILINE)


def build() -> Path:
    """Return the static arm64 program, built if its source was not built before.

    Raises:
        TargetError: there is no compiler, or it fails.
    """
    paths = sorted(_SOURCES.glob("*.[ch]"))
    source = b"".join(path.read_bytes() for path in paths)
    compiler = _compiler()
    digest = hashlib.blake2b(source + compiler.encode() + repr(_FLAGS).encode()).hexdigest()[:24]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itstrace"
    program = folder / f"kvm-host-{digest}"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work) / "host"
        command = [
            compiler,
            *_FLAGS,
            "-o",
            str(made),
            *(str(path) for path in paths if path.suffix == ".c"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(
                f"{compiler} cannot build {_SOURCES.name}: {done.stderr.strip()[-300:]}"
            )
        made.rename(program)
    return program


def _compiler() -> str:
    native = os.uname().machine == "aarch64"
    for name in _COMPILERS[native:] if native else _COMPILERS[:1]:
        if found := shutil.which(name):
            return found
    raise TargetError(
        f"{_COMPILERS[0]} is not installed: on Debian, apt-get install gcc-aarch64-linux-gnu "
        "libc6-dev-arm64-cross"
    )


def initramfs(init: bytes, **others: bytes) -> bytes:
    """Return a cpio archive (format newc) with /init, other programs, and a console for them."""
    entries = [
        ("dev", 0o040755, b"", (0, 0)),
        ("dev/console", 0o020600, b"", (5, 1)),
        *((name, 0o100755, data, (0, 0)) for name, data in {"init": init, **others}.items()),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    return b"".join(_entry(at, *entry) for at, entry in enumerate(entries, 1))


def _entry(inode: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    path = name.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


class Host:
    """One running program, and the kernel below it."""

    def __init__(self, name: str, *, outlives: bool = False) -> None:
        self.name = name
        self._outlives = outlives
        self._oopsed = False
        self._searched = 0  # bytes of what was said in which no oops ended
        self._lives = 1
        self._memory_fd = os.memfd_create("itstrace", os.MFD_CLOEXEC)
        os.ftruncate(self._memory_fd, SHARED_BYTES)
        self._memory = mmap.mmap(self._memory_fd, SHARED_BYTES)
        self._said = b""
        self._looked = 0  # bytes of it that `findings` saw
        self._process: subprocess.Popen[bytes] | None = None
        self.wire = Wire(self._memory, self._alive, name)

    def start(self, command: Iterable[str], *, seconds: float) -> None:
        """Run the program, or the machine that runs it, and wait until it is there."""
        try:
            self._process = subprocess.Popen(
                list(command), pass_fds=(self._memory_fd,), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (no threads)
            )  # fmt: skip
        except OSError as error:
            raise TargetError(f"{self.name}: {error.filename}: {error.strerror}") from error
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self.wire.greet(seconds)

    @property
    def memory_path(self) -> str:
        """Where the started process finds the shared memory."""
        return f"/dev/fd/{self._memory_fd}"

    def is_up(self) -> bool:
        """Return whether the program still runs, and answers."""
        return self._runs() and not self.wire.lost and not self._oopsed

    def revive(self) -> bool:
        """Return whether it is up again after an oops that its kernel outlived."""
        if not (self._oopsed and self._runs()) or self.wire.lost or self._lives >= MAX_LIVES:
            return False
        self._lives += 1
        self._oopsed = False
        try:
            self.wire.renew(RENEW_SECONDS)
        except TargetError:
            return False
        self.console()
        return True

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _alive(self) -> None:
        self.listen()
        if self._outlives and len(self._said) > self._searched:
            self._searched = len(self._said)
            self._oopsed = bool(_OOPS_ENDS.search(self._said))
        if self._oopsed or not self._runs():
            raise Gone(self.name, self.console())

    def listen(self) -> None:
        """Take in what was printed."""
        assert self._process is not None
        assert self._process.stdout is not None
        with suppress(BlockingIOError):
            while data := os.read(self._process.stdout.fileno(), _CHUNK_BYTES):
                if len(self._said) < MAX_CONSOLE_BYTES:
                    self._said += data

    def console(self) -> str:
        """Return what was printed since the last call, without the kernel's time stamps."""
        end = monotonic() + 0.2
        stdout = self._process.stdout if self._process else None
        while stdout and self._process and self._process.poll() is not None and monotonic() < end:
            if not select.select([stdout], [], [], 0.02)[0]:
                break
            self.listen()
            break
        said, self._said = self._said, b""
        self._looked = self._searched = 0
        return _plain(said)

    def findings(self) -> list[str]:
        """Return the lines since the last call in which the kernel complains."""
        self.listen()
        new, self._looked = self._said[self._looked :], len(self._said)
        return [line for line in _plain(new).splitlines() if FINDINGS.search(line)]

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._memory.close()
        os.close(self._memory_fd)


def _plain(said: bytes) -> str:
    """Return what a kernel printed, without its time stamps."""
    return _STAMP.sub("", said.decode("utf-8", "replace").replace("\r", ""))


class Gone(TargetError):
    """The program is gone: `oops` are the lines of the kernel's death, if it told any."""

    def __init__(self, name: str, console: str) -> None:
        lines = console.splitlines()
        at = next((n for n, line in enumerate(lines) if _DEATH.search(line)), None)
        self.oops = [] if at is None else lines[at : at + 40]
        where = _WHERE.search("\n".join(self.oops))
        self.function = where[1].partition(".")[0] if where else "an unknown function"
        last = " / ".join(line for line in lines[-3:] if line.strip())
        said = (
            f"the kernel died in {self.function}"
            if self.oops
            else f"it ended: {last or 'without a word'}"
        )
        super().__init__(f"{name}: {said}")


def boot(kernel: str, *, memory_mib: int = 2048, cpus: int = 1, outlives: bool = False) -> Host:
    """Return a host that runs this kernel; one that outlives an oops can be revived.

    Raises:
        TargetError: there is no such kernel, or it does not come up as a KVM host.
    """
    if not Path(kernel).is_file():
        raise TargetError(
            f"{kernel}: there is no such kernel image; `kvm:PATH` takes an arm64 Image"
        )
    host = Host(f"kvm:{Path(kernel).name}", outlives=outlives)
    try:
        with tempfile.NamedTemporaryFile(suffix=".cpio") as archive:
            archive.write(initramfs(build().read_bytes()))
            archive.flush()
            memory = f"memory-backend-file,id=shared,size={SHARED_BYTES},share=on"
            host.start(
                [
                    *(_QEMU, "-nodefaults", "-accel", "tcg,thread=multi", "-cpu", "cortex-a57"),
                    *("-machine", "virt,gic-version=3,its=on,virtualization=on"),
                    *("-smp", str(cpus), "-m", str(memory_mib), "-display", "none", "-no-reboot"),
                    *("-serial", "stdio", "-kernel", kernel, "-initrd", archive.name),
                    *("-append", f"{_COMMAND_LINE} {_OUTLIVES if outlives else _DIES}"),
                    *("-object", f"{memory},mem-path={host.memory_path}"),
                    *("-device", "ivshmem-plain,memdev=shared"),
                ],
                seconds=BOOT_SECONDS,
            )
    except Gone as error:
        host.close()
        if not error.oops and banner(Path(kernel)) == NO_BANNER:
            raise TargetError(
                f"{error}; no Linux version is in it: kvm:PATH takes an arm64 Image or vmlinuz"
            ) from error
        raise
    except BaseException:
        host.close()
        raise
    return host


def native() -> Host:
    """Return a host that is this machine: arm64, with /dev/kvm."""
    if os.uname().machine != "aarch64" or not Path("/dev/kvm").exists():
        raise TargetError("this is no arm64 machine with /dev/kvm: give a kernel, kvm:KERNEL")
    host = Host("kvm")
    try:
        host.start([str(build()), host.memory_path], seconds=BOOT_SECONDS)
    except BaseException:
        host.close()
        raise
    return host
