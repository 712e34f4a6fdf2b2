"""A VM on a KVM host: QEMU with KVM, four CPUs, a disk whose interrupts come through irqfds."""

from __future__ import annotations

import json
import shlex

from tests.real_kvm.host import Host

BOOT_SECONDS = 600  # 15 where nothing else runs
UP = "guest: done"


class Guest:
    """A started VM. Its console is /tmp/NAME.log on the host."""

    def __init__(self, host: Host, name: str, *options: str, then: str = "stay") -> None:
        self._host = host
        self._name = name
        command = [
            *("qemu-system-aarch64", "-nodefaults", "-display", "none"),
            *("-machine", "virt,gic-version=3", "-accel", "kvm", "-cpu", "host"),
            *("-smp", "4", "-m", "512", "-kernel", "/guest/vmlinuz", "-initrd", "/guest/initramfs"),
            *("-append", f"console=ttyAMA0 quiet rdinit=/init then={then}"),
            *(
                "-serial",
                f"file:/tmp/{name}.log",
                "-qmp",
                f"unix:/tmp/{name}.qmp,server=on,wait=off",
            ),
            *("-object", "iothread,id=t", "-device", "virtio-blk-pci,drive=a,iothread=t,romfile="),
            *("-drive", "file=/disk,format=raw,if=none,id=a,readonly=on"),
            *("-device", "virtio-rng-pci,romfile="),
            *options,
        ]
        said = host.run(
            f"rm -f /tmp/{name}.*; setsid {shlex.join(command)} </dev/null >/tmp/{name}.out 2>&1 &\n"
            "echo $!"
        )
        self.pid = int(said)

    def wait(self, times: int = 1) -> None:
        """Wait until the guest's init has done its work so often."""
        count = f"$(grep -c '{UP}' /tmp/{self._name}.log)"
        waiting = f"until [ {count} -ge {times} ] || [ ! -d /proc/{self.pid} ]; do sleep 1; done"
        self._host.run(f"({waiting}) 2>/dev/null", BOOT_SECONDS)
        assert self.said().count(UP) >= times, self.said()

    def said(self) -> str:
        """Return what the console and QEMU itself have shown."""
        return self._host.run(f"cat /tmp/{self._name}.log /tmp/{self._name}.out")

    def ask(self, *commands: str) -> None:
        """Give QEMU's monitor these commands, and wait for each answer."""
        with self._host.shell() as shell:
            assert shell.stdin
            assert shell.stdout
            print(f"exec socat - UNIX-CONNECT:/tmp/{self._name}.qmp", file=shell.stdin, flush=True)
            assert "QMP" in shell.stdout.readline()  # from here on it is QEMU that reads
            for command in ("qmp_capabilities", *commands):
                given = {"filename": "/dev/null"} if command == "xen-save-devices-state" else {}
                message = json.dumps({"execute": command, "arguments": given})
                print(message, file=shell.stdin, flush=True)
                while "return" not in (answer := json.loads(shell.stdout.readline())):
                    assert "error" not in answer, (command, answer)
            shell.kill()

    def gone(self) -> bool:
        """Return whether QEMU has ended."""
        return "yes" in self._host.run(f"[ -d /proc/{self.pid} ] || echo yes")

    def quit(self) -> None:
        """End the VM."""
        self.ask("quit")
        self._host.wait_for(self.gone)
