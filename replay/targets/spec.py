"""What `--target` names: `model[:PROFILE]`, `qemu[:BINARY]`, `kvm[:KERNEL]`; opened for one trace.

A target is made for a trace, because a machine has the CPUs, the RAM and the devices that the trace
needs. A KVM host is booted once and serves every trace, each on a fresh VM. Counterparts:
`replay.commands.run` and `replay.lockstep`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from replay.judge import model_of, profile_named
from replay.targets.ahead import Inspectable
from replay.targets.errors import TargetError
from replay.targets.kvm import KvmTarget
from replay.targets.kvm_boot import Host, boot, native
from replay.targets.kvm_wire import MAX_VMS
from replay.targets.model_target import ModelTarget
from replay.targets.qemu import Needs, QemuTarget
from tracer.errors import UsageError
from tracer.log.header import RUNNING, Header

FORMS: Final = "model[:PROFILE], qemu[:BINARY] or kvm[:KERNEL]"
_KINDS: Final = ("model", "qemu", "kvm")
QEMU: Final = "qemu-system-aarch64"


@dataclass(frozen=True, slots=True)
class Spec:
    """One `--target`, taken apart."""

    text: str
    kind: str
    rest: str


def parse(text: str) -> Spec:
    """Return what a `--target` names.

    Raises:
        UsageError: it names nothing that there is.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise UsageError(f"--target must be {FORMS}, not {text!r:.80}")
    return Spec(text, kind, rest)


class Targets:
    """Makes targets, and keeps the KVM hosts that were booted for them; to be closed.

    With `outlive`, a booted kernel goes on after an oops, and what follows one costs no boot. What
    it says then is to be asked again on a fresh host.
    """

    def __init__(self, *, outlive: bool = False) -> None:
        self._outlive = outlive
        self.boots = 0
        self._hosts: dict[str, Host] = {}
        self._vms = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End every host; another is booted when it is needed."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    @contextmanager
    def opened(self, spec: Spec, header: Header, needs: Needs) -> Iterator[Inspectable]:
        """Yield a target, ready for a trace with this header; it ends with the block.

        Raises:
            TargetError: it cannot be had, or cannot be what the trace needs.
        """
        if header.starts == RUNNING:
            raise TargetError(
                "this trace begins in the middle of a VM's life, where no target can be brought to"
            )
        target = self._make(spec, header, needs)
        try:
            yield target
        finally:
            target.close()

    def _make(self, spec: Spec, header: Header, needs: Needs) -> Inspectable:
        if spec.kind == "model":
            return _model(spec, header)
        if spec.kind == "qemu":
            return QemuTarget(spec.rest or QEMU, header, needs)
        return KvmTarget(self.host(spec.rest), header, at=self._vm())

    def _vm(self) -> int:
        """Return a VM's number that was not used for a while."""
        self._vms = (self._vms + 1) % MAX_VMS
        return self._vms

    def findings(self) -> list[str]:
        """Return the lines since the last call in which a host's kernel complains, and lives."""
        return [line for host in self._hosts.values() if host.is_up() for line in host.findings()]

    def host(self, kernel: str) -> Host:
        """Return the KVM host that runs `kernel` (none: this machine), booted if it is not up."""
        host = self._hosts.get(kernel)
        if host is not None and not (host.is_up() or host.revive()):
            host.close()
            host = None
        if host is None:
            host = self._hosts[kernel] = self._started(kernel)
            self.boots += 1
            host.findings()  # what it complains of while it boots is no trace's
        return host

    def _started(self, kernel: str) -> Host:
        if not kernel:
            return native()
        return boot(kernel, outlives=True) if self._outlive else boot(kernel)


def _model(spec: Spec, header: Header) -> Inspectable:
    named = profile_named(spec.rest, header)
    if named is None:
        raise UsageError("the trace does not say what wrote it: give --target model:PROFILE")
    return ModelTarget(model_of(header, named[0]))
