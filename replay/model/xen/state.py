"""The state of one domain's virtual ITS, its redistributors and the host's side of its devices.

Counterparts: struct virt_its, struct its_device, struct pending_irq, and what struct vgic_dist
keeps of LPIs. A pending_irq is named by a number, because the tree of live LPIs may go on pointing
to one whose device is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from tracer.its.registers import Baser, Cbaser

# Inner shareable, inner RaWaWb, outer SameAsInner: what a new ITS has in its base registers.
_ATTRIBUTES: Final = Cbaser.shareability.put(1) | Cbaser.inner_cache.put(7)
_TYPES: Final = (
    Baser.table_type.put(1) | Baser.entry_size.put(7),
    Baser.table_type.put(4) | Baser.entry_size.put(1),
)
BASER_FIXED: Final = _TYPES
CBASER_FRESH: Final = _ATTRIBUTES
BASER_FRESH: Final = tuple(_ATTRIBUTES | fixed for fixed in _TYPES)
NOWHERE: Final = -1


@dataclass(slots=True)
class PendingIrq:
    """One event's LPI (struct pending_irq)."""

    intid: int = 0
    vcpu: int = NOWHERE  # where the next one is sent
    queued: int = NOWHERE  # on whose list it is
    maybe: int = 0  # a CLEAR may have come too late, or the guest may have taken it
    enabled: int | None = 0  # cached configuration; None is not known
    priority: int | None = 0
    named: int = 0  # how many entries of the tree point to it
    freed: int = 0  # its device is gone, and Xen's memory with it


@dataclass(slots=True)
class HostDevice:
    """What MAPD made on the host (struct its_device): room for events, and their LPIs."""

    limit: int
    irqs: dict[int, int]  # EventID -> number of its pending_irq, once it was needed
    lpis: dict[int, int]  # EventID -> the vLPI that a host interrupt of it becomes


class XenState:
    """Everything that is not in guest RAM."""

    __slots__ = (
        "baser", "cbaser", "creadr", "cwriter", "devices", "enabled", "irqs", "lpi_count",
        "lpis_enabled", "next_irq", "pendbasers", "propbaser", "rdists_enabled", "tree",
    )  # fmt: skip

    def __init__(self, cpus: int) -> None:
        self.enabled = False
        self.cbaser = CBASER_FRESH
        self.cwriter = 0
        self.creadr = 0
        self.baser = list(BASER_FRESH)
        self.devices: dict[int, HostDevice] = {}
        self.irqs: dict[int, PendingIrq] = {}
        self.next_irq = 0
        self.tree: dict[int, int] = {}  # INTID -> number of a pending_irq: the live LPIs
        # The domain has one PROPBASER; LPIs once enabled on a vCPU stay so.
        self.propbaser = 0
        self.rdists_enabled = False
        self.lpi_count = 0
        self.pendbasers = [0] * cpus
        self.lpis_enabled = [False] * cpus

    def snapshot(self) -> tuple[Any, ...]:
        """Return everything as nested tuples of numbers."""
        return (
            (self.enabled, self.cbaser, self.cwriter, self.creadr, tuple(self.baser)),
            tuple(
                (
                    key,
                    each.limit,
                    tuple(sorted(each.irqs.items())),
                    tuple(sorted(each.lpis.items())),
                )
                for key, each in sorted(self.devices.items())
            ),
            tuple((key, values_of(irq)) for key, irq in sorted(self.irqs.items())),
            (self.next_irq, tuple(sorted(self.tree.items()))),
            (self.propbaser, self.rdists_enabled, self.lpi_count),
            (tuple(self.pendbasers), tuple(self.lpis_enabled)),
        )

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Return to `snapshot`."""
        its, devices, irqs, tree, lpis, cpus = snapshot
        self.enabled, self.cbaser, self.cwriter, self.creadr, baser = its
        self.baser = list(baser)
        self.devices = {key: HostDevice(n, dict(i), dict(h)) for key, n, i, h in devices}
        self.irqs = {key: PendingIrq(*values) for key, values in irqs}
        self.next_irq, self.tree = tree[0], dict(tree[1])
        self.propbaser, self.rdists_enabled, self.lpi_count = lpis
        self.pendbasers, self.lpis_enabled = list(cpus[0]), list(cpus[1])


def values_of(irq: PendingIrq) -> tuple[int | None, ...]:
    """Return the fields in order."""
    return tuple(getattr(irq, f.name) for f in fields(irq))
