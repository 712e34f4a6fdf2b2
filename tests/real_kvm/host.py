"""A KVM host under TCG that one can talk to: `Host("bookworm")` boots it, `run` runs a command on it.

A command is a shell of its own behind a TCP port, as ssh would give; `via` is the command line that
reaches such a shell, for `itstrace record kvm --via`.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from tests.real_kvm import images

BOOT_SECONDS = 120
END = ":the end:"
RELAY = Path(__file__).with_name("relay.py")


class Host:
    """A booted KVM host. Its console is the file `console`; leaving the context ends it."""

    def __init__(self, release: str, folder: Path, *, cpus: int = 2) -> None:
        self.console = folder / "console"
        self._port = _free_port()
        self._qemu = subprocess.Popen(
            [
                *("qemu-system-aarch64", "-nodefaults", "-machine"),
                *("virt,gic-version=3,its=on,virtualization=on", "-cpu", "cortex-a57"),
                *(
                    "-accel",
                    "tcg,thread=multi",
                    "-smp",
                    str(cpus),
                    "-m",
                    "3072",
                    "-display",
                    "none",
                ),
                *("-serial", f"file:{self.console}", "-no-reboot"),
                *("-kernel", images.kernel(release), "-initrd", images.host(release)),
                *("-append", "console=ttyAMA0 quiet oops=panic panic=-1 rdinit=/init"),
                *("-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self._port}-:23"),
                *("-device", "virtio-net-pci,netdev=n,romfile="),
            ],
            stdin=subprocess.DEVNULL,
        )
        self.via = shlex.join([sys.executable, str(RELAY), str(self._port)])

    def __enter__(self) -> Host:
        try:
            self.wait_for(lambda: "host: up" in self.said(), BOOT_SECONDS)
            self.wait_for(self._answers, BOOT_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._qemu.kill()
        self._qemu.wait()

    def said(self) -> str:
        """Return what the console showed so far."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def wait_for(self, true, seconds: float = 60) -> None:
        """Wait until something holds, while the host lives."""
        end = monotonic() + seconds
        while not true():
            assert self._qemu.poll() is None, f"the host ended:\n{self.said()[-3000:]}"
            assert monotonic() < end, f"it did not happen in {seconds} s:\n{self.said()[-1000:]}"
            sleep(0.1)

    def shell(self, **more: object) -> subprocess.Popen[str]:
        """Return a shell on the host, with pipes to it."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(shlex.split(self.via), **{**pipes, **more})  # type: ignore[call-overload,no-any-return]

    def run(self, command: str, seconds: float = 60) -> str:
        """Return what a command printed on the host; its errors too."""
        with self.shell() as shell:
            try:
                # QEMU's user network may lose an end of input that comes early: it must not matter
                text = f"exec 2>&1\n{command}\necho {END}\nexit\n"
                said: str = shell.communicate(text, timeout=seconds)[0]
            finally:
                shell.kill()
        before, end, _ = said.rpartition(END)
        assert end, f"the host did not come to the end of {command!r:.200}: {said!r:.200}"
        return before

    def _answers(self) -> bool:
        """Return whether a shell can be reached; the first ones may be lost."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            return self.run("echo hello", seconds=5) == "hello\n"
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
