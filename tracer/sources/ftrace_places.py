"""Where a VM has its ITS, distributor and redistributors: as QEMU has them until something tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tracer.events import NUMBER
from tracer.its.registers import gicr_register
from tracer.sources import ftrace_formats as ft

Place = tuple[int, list[int]]

_REG_READ, _GICR_READ, _GICD_READ = (NUMBER[f"{each}.read"] for each in ("reg", "gicr", "gicd"))
_GICR_TYPER: Final = 0x8
_LAST: Final = 1 << 4
_TRANSLATER: Final = 0x1_0040
_REGION_ADDRESS: Final = ((1 << 52) - 1) & ~0xFFFF
MAX_REGIONS: Final = 64


@dataclass(slots=True)
class Places:
    """Addresses of one VM, and how many redistributors it has."""

    its: int = ft.ITS_BASE
    gicd: int = ft.GICD_BASE
    regions: list[tuple[int, int]] = field(default_factory=list)  # (base, redistributors)
    its_told: bool = False
    gicd_told: bool = False
    last: int | None = None  # redistributors, by GICR_TYPER.Last or by our recorder
    touched: int = 0  # redistributors that were used, at least
    elsewhere: int | None = None  # where an ITS would be for an MSI that went past this one

    @property
    def cpus(self) -> int | None:
        """How many redistributors there are; None until that is told.

        A VMM makes room for them, perhaps for more than there are, and resets each one.
        """
        room = sum(count for _, count in self.regions)
        return self.last or (room if room == self.touched else None) or None

    def set_its(self, base: int) -> None:
        """Take what the VMM said, or our recorder."""
        self.its, self.its_told = base, True

    def set_gic(self, attr: int, value: int) -> None:
        """Take an address attribute of the GICv3 device."""
        if attr == ft.GIC_ADDR_DIST:
            self.gicd, self.gicd_told = value, True
        elif len(self.regions) >= MAX_REGIONS:
            return
        elif attr == ft.GIC_ADDR_REDIST:
            self.regions.append((value, ft.MAX_GICRS))
        elif attr == ft.GIC_ADDR_REGION:
            self.regions.append((value & _REGION_ADDRESS, value >> 52))

    def doorbell(self, address: int) -> bool:
        """Return whether an MSI's address is this ITS's."""
        found = 0 <= address - self.its < ft.ITS_BYTES
        if not found and address & 0xFFFF == _TRANSLATER & 0xFFFF:
            self.elsewhere = address - _TRANSLATER
        return found

    def of(self, gpa: int) -> Place | None:
        """Return the kind that reads it, and where: an offset, of a redistributor its CPU first."""
        if 0 <= gpa - self.its < ft.ITS_BYTES:
            return _REG_READ, [gpa - self.its]
        if gpa == self.gicd + ft.GICD_CTLR:
            return _GICD_READ, [ft.GICD_CTLR]
        found = self.redistributor(gpa)
        if found is None or found[1] >= ft.ITS_REGISTERS_BYTES or not gicr_register(found[1]):
            return None
        return _GICR_READ, list(found)

    def redistributor(self, gpa: int) -> tuple[int, int] | None:
        """Return (CPU, offset from its RD_base) of an address in a redistributor."""
        first = 0
        for base, count in self.regions or ((ft.GICR_BASE, ft.MAX_GICRS),):
            cpu, offset = divmod(gpa - base, ft.GICR_BYTES)
            if 0 <= cpu < count and (self.last is None or first + cpu < self.last):
                return first + cpu, offset
            first += count
        return None

    def read(self, gpa: int, value: int) -> None:
        """Count redistributors: a guest looks for the one whose GICR_TYPER says Last."""
        found = self.redistributor(gpa)
        if found is None:
            return
        self.touched = max(self.touched, found[0] + 1)
        if found[1] == _GICR_TYPER and value & _LAST and self.last is None:
            self.last = found[0] + 1
