"""What a probe is made of: where its tables lie, its commands, and its questions as events.

Facts: Linux vgic-its.c and QEMU hw/intc/arm_gicv3_its.c take the same registers and commands; a
table entry has 8 bytes in both, an ITT's 8 and 12. The counterpart is `replay.equivalence.sequence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from replay.equivalence.inventory import Inventory
from tracer import events as ev
from tracer.events import Event, make
from tracer.its.commands import COMMAND_SIZE_BYTES, encode
from tracer.its.lpi import FIRST_LPI
from tracer.its.registers import Baser, Cbaser, Pendbaser, Propbaser

AREA_BYTES: Final = 0x80_0000  # RAM that a probe needs
MAX_PAIRS: Final = 48
MAX_DEVICES: Final = 16
MAX_COLLECTIONS: Final = 16
MAX_CPUS: Final = 16
EVENTID_BITS: Final = 10
MIN_CPUS: Final = 4
_DEVICE_TABLE, _OTHER_DEVICE_TABLE, _LEVEL1, _LEVEL2 = 0x0, 0x8_0000, 0x10_0000, 0x11_0000
_COLLECTIONS, _OTHER_COLLECTIONS, _QUEUE, _CONFIG = 0x19_0000, 0x1A_0000, 0x1B_0000, 0x1C_0000
_PENDING, _ITTS = 0x20_0000, 0x30_0000
_PAGE: Final = 0x1_0000
_QUEUE_BYTES: Final = 0x1_0000
_ITT_BYTES: Final = 0x4000
_DEVICE_TABLE_PAGES: Final = 8  # all 65,536 devices
_DEVICES_A_PAGE: Final = _PAGE // 8
_FILL: Final = bytes.fromhex("efbeaddeefbeadde") * 64
_V: Final = Baser.valid.mask
_64K: Final = 2 << 8
_PTZ_HIGH: Final = 1 << 30
_CTLR, _CBASER, _CWRITER, _CREADR, _BASER0, _BASER1 = 0x0, 0x80, 0x88, 0x90, 0x100, 0x108
_READ: Final = (0x0, 0x4, 0x8, 0x80, 0x88, 0x90, *range(0x100, 0x140, 8), 0xFFE8)
_NARROW: Final = frozenset((0x0, 0x4, 0xFFE8))
_OFF, _ON = 0x40, 0x81  # configuration bytes: another priority than a kernel's, disabled; enabled

# What lies from each offset on, the last first.
_PLACES: Final = (
    (_CONFIG, "RAM"), (_QUEUE, "RAM"), (_COLLECTIONS, "collections"), (_DEVICE_TABLE, "devices"),
)  # fmt: skip

Words = tuple[int, int, int, int]
Pair = tuple[int, int]


class Step(NamedTuple):
    """One thing to carry out; without an event all RAM is compared."""

    event: Event | None
    about: str = ""  # the component that a difference speaks of, where it is not the event's own
    cpu: int | None = None  # of a read of a pending table: whose


class Probe:
    """Builds steps; follows the queue, and what the redistributors were seen to hold.

    `old` are the events that the life named, and neighbours; `pairs` are the events that the probe
    maps, each to one of `intids`, in one of the `collections`.
    """

    def __init__(
        self, inventory: Inventory, *, cpus: int, area: int, attributes: bool, lists: bool
    ) -> None:
        self.cpus = cpus
        self._area = area
        self._attributes = attributes
        self.lists = lists
        self._queue = area + _QUEUE
        self._queue_bytes = _QUEUE_BYTES
        self._written = 0  # CWRITER
        self._redist: dict[tuple[int, int], int] = {}
        self._baser0 = self._baser1 = 0
        self.left_out: list[str] = []
        self._choose(inventory)

    def _choose(self, inventory: Inventory) -> None:
        known = [(d, e) for d, e in inventory.events if d < 1 << 16 and e < 1 << EVENTID_BITS]
        seen = known[-MAX_PAIRS:]
        self._leave_out(len(inventory.events) - len(seen), "events")
        named = [device for device in inventory.devices if device < 1 << 16]
        devices = list(dict.fromkeys([*reversed([d for d, _ in seen]), *reversed(named)]))
        self.devices = devices[: MAX_DEVICES - 1] or [1]
        self._leave_out(len(devices) - len(self.devices), "devices")
        seen = [pair for pair in seen if pair[0] in self.devices]
        self.devices.append(max(self.devices) + 1 & 0xFFFF)  # a neighbour
        neighbours = [(device, self._free_event(device, seen)) for device in self.devices]
        self.old = list(dict.fromkeys([*seen, *neighbours]))
        intids = [each for each in inventory.intids if each < 1 << 16][-MAX_PAIRS:]
        self._leave_out(len(inventory.intids) - len(intids), "INTIDs")
        self.intids = [*intids, max(intids, default=FIRST_LPI - 1) + 1]
        self.collections = [c for c in inventory.collections if c < 1 << 16][-MAX_COLLECTIONS:]
        self.collections += [c for c in range(self.cpus) if c not in self.collections]
        self.collections.append(max(self.collections) + 1 & 0xFFFF)
        self.targets = {
            icid: (inventory.collections.get(icid, at) + 1) % self.cpus
            for at, icid in enumerate(self.collections)
        }
        self._pair_up()

    def _leave_out(self, count: int, what: str) -> None:
        if count > 0:
            self.left_out.append(f"{count} {what} of the life")

    @staticmethod
    def _free_event(device: int, seen: Sequence[Pair]) -> int:
        return (max((e for d, e in seen if d == device), default=-1) + 1) % (1 << EVENTID_BITS)

    def _pair_up(self) -> None:
        """Give each INTID another event than it had, as far as there are enough."""
        pairs = list(self.old)
        spare = max(event for _, event in pairs) + 1
        while len(pairs) < len(self.intids):
            pairs.append((self.devices[len(pairs) % len(self.devices)], spare))
            spare = (spare + 1) % (1 << EVENTID_BITS)
        pairs = list(dict.fromkeys(pairs))[1:] + pairs[:1]
        self.pairs = pairs[: len(self.intids)]
        self.intids = self.intids[: len(self.pairs)]
        self.icids = [self.collections[at % len(self.collections)] for at in range(len(self.pairs))]

    def map_to(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Map these (vCPU, INTID), each to that vCPU, and nothing else."""
        self.collections = list(range(self.cpus))
        self.targets = {cpu: cpu for cpu in self.collections}
        self.intids = [intid for _, intid in wanted]
        self.icids = [cpu for cpu, _ in wanted]
        self.pairs = [(self.devices[0], event) for event in range(len(wanted))]

    def zero_bits(self, wanted: Sequence[tuple[int, int]]) -> list[Step]:
        """Clear the bytes that these (vCPU, INTID) have in the pending tables."""
        bases = dict(self._pending_bases())
        return [
            Step(make("mem.write", 0, gpa=bases[cpu] + intid // 8, data=b"\0"))
            for cpu, intid in wanted
        ]

    def pending_word(self, cpu: int, intid: int) -> int | None:
        """Return where the doubleword of a pending bit is."""
        base = dict(self._pending_bases()).get(cpu)
        return None if base is None else base + intid // 8 & ~7

    def learn(self, step: Step, value: Any) -> None:
        """Take in what one instance answered: where the redistributors' tables are."""
        event = step.event
        if event is not None and event[0] == ev.NUMBER["gicr.read"] and isinstance(value, int):
            self._redist[event[2], event[3]] = value

    def place(self, gpa: int, changed: int) -> tuple[str, Any] | None:
        """Return what a doubleword, of which these bits differ, belongs to in known tables."""
        pending = {base for _, base in self._pending_bases()}
        if gpa & -_PAGE in pending:
            first = (changed & -changed).bit_length() - 1
            return "lpis", gpa % _PAGE * 8 + first
        at = gpa - self._area
        if not 0 <= at < AREA_BYTES:
            return None
        if at >= _ITTS:
            index = (at - _ITTS) // _ITT_BYTES
            device = self.devices[index] if index < len(self.devices) else index
            return "events", (device, (at - _ITTS) % _ITT_BYTES // 8)
        for start, component in _PLACES:
            if at >= start:
                return component, at
        return None

    # -- questions

    def look(self, about: str = "lpis") -> list[Step]:
        """List the live LPIs; where there is no such list, the pending tables in RAM are it."""
        if self.lists:
            return [Step(make("probe", 0, edge=0), about)]
        return [] if self._attributes else self._pending_reads(about)

    def pending(self, about: str = "lpis") -> list[Step]:
        """Save the pending tables and read them."""
        if not self._attributes:
            return []
        return [Step(make("save_pending", 0)), *self._pending_reads(about)]

    def zero_pending(self) -> list[Step]:
        """Zero what the pending tables say of the INTIDs that are asked about."""
        return [
            Step(make("mem.write", 0, gpa=gpa, data=bytes(size)))
            for _, gpa, size in self._pending_places()
        ]

    def _pending_places(self) -> list[tuple[int, int, int]]:
        """Return (vCPU, address, bytes) of the parts of the pending tables that are asked about."""
        first, last = min(self.intids) // 8 & ~7, max(self.intids) // 8 | 7
        return [(cpu, base + first, last - first + 1) for cpu, base in self._pending_bases()]

    def _pending_bases(self) -> list[tuple[int, int]]:
        """Return (vCPU, address) of the pending tables, as far as the registers were seen."""
        found = []
        for cpu in range(self.cpus):
            low, high = (self._redist.get((cpu, offset)) for offset in (0x78, 0x7C))
            if low is not None and high is not None:
                found.append((cpu, Pendbaser.physical_address.get(low | high << 32)))
        return found

    def _pending_reads(self, about: str) -> list[Step]:
        return [
            Step(make("mem.read", 0, cause=0, gpa=gpa, data=bytes(size)), about, cpu)
            for cpu, gpa, size in self._pending_places()
        ]

    def registers(self) -> list[Step]:
        """Read the registers of the ITS and of the redistributors."""
        return self.its_registers() + self.gicr_registers()

    def gicr_registers(self) -> list[Step]:
        """Read the registers of the redistributors."""
        return [
            Step(make("gicr.read", 0, cpu=cpu, offset=at, value=0, size=4, origin=ev.PROBE))
            for cpu in range(self.cpus)
            for at in (0x0, 0x70, 0x74, 0x78, 0x7C)
        ]

    def its_registers(self) -> list[Step]:
        """Read the registers of the ITS."""
        return [
            Step(make("reg.read", 0, offset=at, value=0, size=self._size(at), origin=ev.PROBE))
            for at in _READ
        ]

    def msis(self, pairs: Iterable[Pair], about: str = "") -> list[Step]:
        """Send an MSI of each event."""
        path = ev.MSI_PATHS.index("ioctl") if self._attributes else 0
        return [
            Step(make("msi", 0, device_id=device, event_id=event, path=path), about)
            for device, event in pairs
        ]

    # -- registers and attributes

    def _size(self, offset: int) -> int:
        return 4 if offset in _NARROW and not self._attributes else 8

    def write(self, offset: int, value: int) -> Step:
        """Write a register of the ITS."""
        return Step(
            make("reg.write", 0, offset=offset, value=value, size=self._size(offset), origin=ev.VMM)
        )

    def _gicr(self, cpu: int, offset: int, value: int) -> Step:
        return Step(
            make("gicr.write", 0, cpu=cpu, offset=offset, value=value, size=4, origin=ev.VMM)
        )

    def distributor(self) -> list[Step]:
        """Switch the distributor on: group 1, in which LPIs are."""
        return [Step(make("gicd.write", 0, offset=0, value=2, origin=ev.VMM))]

    def redistributors(self) -> list[Step]:
        """Give every vCPU whose LPIs are off tables, and switch them on; the others ignore it."""
        prop = self._area + _CONFIG
        steps = []
        for cpu in range(self.cpus):
            pend = self._area + _PENDING + cpu * _PAGE
            for offset, value in ((0x70, prop | 0xF), (0x78, pend | _PTZ_HIGH << 32)):
                steps.append(self._gicr(cpu, offset, value & 0xFFFF_FFFF))
                steps.append(self._gicr(cpu, offset + 4, value >> 32))
            steps.append(self._gicr(cpu, 0, 1))
        return steps + self.gicr_registers()

    def lpis(self, cpu: int, *, on: bool, ptz: bool = False) -> list[Step]:
        """Switch the LPIs of a vCPU on or off."""
        if not on:
            return [self._gicr(cpu, 0, 0)]
        high = self._redist.get((cpu, 0x7C), 0) & ~_PTZ_HIGH
        return [
            self._gicr(cpu, 0x78, self._redist.get((cpu, 0x78), 0)),
            self._gicr(cpu, 0x7C, high | (_PTZ_HIGH if ptz else 0)),
            self._gicr(cpu, 0, 1),
        ]

    def configure(self, *, enabled: bool) -> list[Step]:
        """Write the configuration bytes of all INTIDs, wherever PROPBASER says that they are."""
        low, high = (self._redist.get((0, offset), 0) for offset in (0x70, 0x74))
        table = Propbaser.physical_address.get(low | high << 32)
        value = bytes([_ON if enabled else _OFF])
        return [
            Step(make("mem.write", 0, gpa=table + intid - FIRST_LPI, data=value))
            for intid in self.intids
        ]

    def save(self) -> list[Step]:
        """SAVE_TABLES."""
        return [Step(make("save", 0))] if self._attributes else []

    def reset(self) -> list[Step]:
        """CTRL_RESET."""
        return [Step(make("reset", 0, how=ev.CTRL_RESET, origin=ev.VMM))]

    def restore_tables(self) -> list[Step]:
        """RESTORE_TABLES."""
        return [Step(make("restore", 0))]

    def restore(self) -> list[Step]:
        """Restore in the documented order: the registers as they were, the tables, CTLR."""
        return [
            self.write(_CBASER, self._cbaser()),
            self.write(_CREADR, self._written),
            self.write(_CWRITER, self._written),
            self.write(_BASER0, self._baser0),
            self.write(_BASER1, self._baser1),
            *self.restore_tables(),
            self.write(_CTLR, 1),
        ]

    # -- tables

    def _cbaser(self) -> int:
        return Cbaser.valid.mask | self._queue | self._queue_bytes // 0x1000 - 1

    def in_queue_of(self, registers: Mapping[str, int]) -> bool:
        """Put what comes into the life's own queue; return whether it is one that runs."""
        cbaser, enabled = registers.get("GITS_CBASER", 0), registers.get("GITS_CTLR", 0) & 1
        self._queue = Cbaser.physical_address.get(cbaser)
        self._queue_bytes = (Cbaser.size.get(cbaser) + 1) * 0x1000
        self._written = registers.get("GITS_CWRITER", 0)
        return bool(enabled and Cbaser.valid.get(cbaser) and self._written < self._queue_bytes)

    def disable(self) -> list[Step]:
        """Clear Enabled."""
        return [self.write(_CTLR, 0)]

    def invalidate(self) -> list[Step]:
        """Clear Enabled, and Valid of both tables: what is mapped is freed."""
        return [*self.disable(), self.write(_BASER0, 0), self.write(_BASER1, 0)]

    def tables(self, *, two_level: bool = False, alternative: bool = False) -> list[Step]:
        """Name new tables and a new queue, and enable; what lies behind the entries is no zero."""
        devices = self._area + (_OTHER_DEVICE_TABLE if alternative else _DEVICE_TABLE)
        collections = self._area + (_OTHER_COLLECTIONS if alternative else _COLLECTIONS)
        last = max(max(self.devices) + 2, 16)
        steps = [self._fill(collections + 8 * (max(*self.collections, len(self.collections)) + 2))]
        if two_level:
            steps += self._level1()
            self._baser0 = _V | Baser.indirect.mask | self._area + _LEVEL1 | _64K
        else:
            if 8 * last + len(_FILL) <= _DEVICE_TABLE_PAGES * _PAGE:
                steps.append(self._fill(devices + 8 * last))
            self._baser0 = _V | devices | _64K | _DEVICE_TABLE_PAGES - 1
        self._baser1 = _V | collections | _64K
        self._queue, self._queue_bytes, self._written = self._area + _QUEUE, _QUEUE_BYTES, 0
        registers = (
            (_CTLR, 0), (_CBASER, self._cbaser()), (_CWRITER, 0),
            (_BASER0, self._baser0), (_BASER1, self._baser1), (_CTLR, 1),
        )  # fmt: skip
        return [*steps, *(self.write(offset, value) for offset, value in registers)]

    def _fill(self, gpa: int) -> Step:
        room = self._area + _COLLECTIONS + _PAGE - gpa
        inside = not self._area + _COLLECTIONS <= gpa or room >= len(_FILL)
        return Step(make("mem.write", 0, gpa=gpa, data=_FILL if inside else b"\0"))

    def _level1(self) -> list[Step]:
        """Write the level-1 entries of the pages that the devices need."""
        pages = sorted({device // _DEVICES_A_PAGE for device in self.devices})
        return [
            Step(
                make(
                    "mem.write", 0, gpa=self._area + _LEVEL1 + 8 * page,
                    data=(_V | self._area + _LEVEL2 + at * _PAGE).to_bytes(8, "little"),
                )
            )
            for at, page in enumerate(pages)
        ]  # fmt: skip

    # -- commands

    def commands(self, commands: Sequence[Words]) -> list[Step]:
        """Put commands into the queue and have them run; read where the queue stands then."""
        steps = []
        for words in commands:
            gpa = self._queue + self._written
            data = b"".join(word.to_bytes(8, "little") for word in words)
            steps.append(Step(make("mem.write", 0, gpa=gpa, data=data)))
            self._written = (self._written + COMMAND_SIZE_BYTES) % self._queue_bytes
        steps.append(self.write(_CWRITER, self._written))
        read = make("reg.read", 0, offset=_CREADR, value=0, size=8, origin=ev.PROBE)
        return [*steps, Step(read)]

    def each(self, name: str, pairs: Iterable[Pair]) -> list[Step]:
        """Run a command that names an event, for each of these."""
        return self.commands(
            [encode(name, device_id=device, event_id=event) for device, event in pairs]
        )

    def mapc(self, icid: int, cpu: int | None) -> Words:
        """Map a collection to a vCPU, or (None) unmap it."""
        return encode("MAPC", icid=icid, rdbase=cpu or 0, v=int(cpu is not None))

    def mapd(self, device: int) -> Words:
        """Map a device with the ITT that is its own."""
        itt = self._area + _ITTS + self.devices.index(device) * _ITT_BYTES
        return encode("MAPD", device_id=device, size=EVENTID_BITS - 1, itt_addr=itt, v=1)

    def mapti(self) -> list[Words]:
        """Map every event."""
        return [
            encode("MAPTI", device_id=device, event_id=event, pintid=intid, icid=icid)
            for (device, event), intid, icid in zip(
                self.pairs, self.intids, self.icids, strict=True
            )
        ]

    def movi(self, pair: Pair) -> Words:
        """Move an event to the next collection."""
        at = self.collections.index(self.icids[self.pairs.index(pair)])
        icid = self.collections[(at + 1) % len(self.collections)]
        return encode("MOVI", device_id=pair[0], event_id=pair[1], icid=icid)

    def movall(self, source: int, target: int) -> Words:
        """Move a vCPU's LPIs to another."""
        return encode("MOVALL", rdbase1=source, rdbase2=target)

    def map_all(self) -> list[Step]:
        """Map collections, devices and events."""
        return self.commands(
            [
                *(self.mapc(icid, self.targets[icid]) for icid in self.collections),
                *(self.mapd(device) for device in self.devices),
                *self.mapti(),
            ]
        )
