"""What Xen's ITS takes from the host it runs on, and constants of its own.

The EventID and DeviceID widths are those of the host's GITS_TYPER, so they belong to a machine and
not to a release: a trace's header gives them as flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from tracer.errors import UsageError
from tracer.its.registers import Typer

_MAX_ID_BITS: Final = 32  # fields of five bits hold one less than the number


@dataclass(frozen=True, slots=True)
class XenProfile:
    """Constants first, then what a trace may say of its host.

    Raises:
        UsageError: a number of bits is none that a host could have.
    """

    iidr: int = 0x5800_034C  # product "X"
    pidr2: int = 0x30  # the other ID registers read as zero
    host_device_id_bits: int = 16
    host_event_id_bits: int = 16

    def __post_init__(self) -> None:
        for name in ("host_device_id_bits", "host_event_id_bits"):
            if not 1 <= getattr(self, name) <= _MAX_ID_BITS:
                raise UsageError(f"{name} must be 1 to {_MAX_ID_BITS}, not {getattr(self, name)}")

    @property
    def typer(self) -> int:
        """GITS_TYPER: physical LPIs, 8-byte ITTEs, no collections in hardware, no GICv4."""
        return (
            Typer.physical.mask
            | Typer.itt_entry_size.put(7)
            | Typer.id_bits.put(self.host_event_id_bits - 1)
            | Typer.devbits.put(self.host_device_id_bits - 1)
        )


class FlagRow(NamedTuple):
    """One row, as `replay.model.kvm.flags` has it; Xen has no fix that a model could show."""

    name: str
    bug: str
    commit: str
    subject: str
    first: str


FLAGS: Final = (
    FlagRow(
        "host_device_id_bits", "-", "unknown",
        "DeviceID bits, copied from the host's GITS_TYPER (16: as on QEMU's virt)", "v4.10",
    ),
    FlagRow(
        "host_event_id_bits", "-", "unknown",
        "EventID bits, copied from the host's GITS_TYPER (16: as on QEMU's virt)", "v4.10",
    ),
)  # fmt: skip

XEN_4_20: Final = XenProfile()
