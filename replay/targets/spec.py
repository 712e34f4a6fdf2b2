"""What `--target` names: `model[:PROFILE]`, `qemu[:BINARY]`; opened for one trace.

A target is made for a trace, because a machine has the CPUs, the RAM and the devices that the trace
needs. Counterparts: `replay.commands.run` and `replay.lockstep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from replay.judge import model_of, with_flags
from replay.profiles import find
from replay.targets.ahead import Target
from replay.targets.model_target import ModelTarget
from replay.targets.qemu import Needs, QemuTarget
from tracer.errors import UsageError
from tracer.log.header import Header

FORMS: Final = "model[:PROFILE] or qemu[:BINARY]"
_QEMU: Final = "qemu-system-aarch64"


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
    if kind not in _MAKERS:
        raise UsageError(f"--target must be {FORMS}, not {text!r:.80}")
    return Spec(text, kind, rest)


@contextmanager
def opened(spec: Spec, header: Header, needs: Needs) -> Iterator[Target]:
    """Yield the target, ready for a trace with this header; it ends with the block."""
    target = _MAKERS[spec.kind](spec, header, needs)
    try:
        yield target
    finally:
        target.close()


def _model(spec: Spec, header: Header, needs: Needs) -> Target:
    name = spec.rest or header.profile
    if name is None:
        raise UsageError("the trace does not say what wrote it: give --target model:PROFILE")
    flags = {} if spec.rest else {key: value[0] for key, value in header.flags.items()}
    return ModelTarget(model_of(header, with_flags(find(name)[0], flags)))


def _qemu(spec: Spec, header: Header, needs: Needs) -> Target:
    return QemuTarget(spec.rest or _QEMU, header, needs)


_MAKERS: Final[dict[str, Callable[[Spec, Header, Needs], Target]]] = {
    "model": _model,
    "qemu": _qemu,
}
