"""What a VM with an in-kernel ITS holds, in the kernel's own order, and snapshots of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypedDict

from replay.model import effects
from replay.model.effects import Effect
from replay.model.kvm.layout import (
    BASER_RESET,
    COLLECTION_BASER_FIXED,
    DEVICE_BASER_FIXED,
    L1_ADDRESS,
    LPI_BASER_RESET,
    NOT_MAPPED,
    OUTER_NC,
    VALID,
)
from replay.model.unknown import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replay.model.kvm.flags import KvmFlags
    from replay.model.memory import GuestRam, RamSnapshot
    from replay.model.touched import Touched


# What of the lists may hold entries that nothing showed: bits of `State.blind`.
BLIND_DEVICES: Final = 1
BLIND_COLLECTIONS: Final = 2
BLIND: Final = BLIND_DEVICES | BLIND_COLLECTIONS
UNKNOWN_TARGET: Final = -2  # of an LPI that is targeted at a vCPU that nothing showed

LEVEL1_VALID: Final = "the guest made the level-1 entry valid before it used what lies below"
UNSEEN_SHIFT: Final = 64
UNSEEN_ITT: Final = 1 << UNSEEN_SHIFT  # of a device that was used before anything showed it


class Witness(Protocol):
    """What was observed of the input that is being carried out; `at` counts effects."""

    def command(self, at: int, queue_offset: int) -> tuple[int, int, int, int] | None:
        """Return the command that was fetched at this step, unknown bits zero."""

    def commands(self) -> list[tuple[int, int, int, int, int]]:
        """Return every command that was fetched: its place in the queue and its doublewords."""


HostCrash = effects.HostCrash  # what a family's host dies of is told in one way


class VgicIrq:
    """One live LPI (`struct vgic_irq`). It lives while `refs` is not zero."""

    __slots__ = (
        "configured", "doubtful", "enabled", "intid", "pending", "priority", "queued", "refs",
        "sent", "shown", "target", "unseen",
    )  # fmt: skip

    def __init__(self, intid: int, target: int) -> None:
        self.intid = intid
        self.target = target  # index of a vCPU, -1 for none, UNKNOWN_TARGET
        self.configured = True  # whether `enabled` and `priority` are known
        self.doubtful = False  # whether it may be an old one that lived on, whose target it keeps
        self.sent = False  # whether it was made pending, so that it may be on a queue
        self.unseen = False  # whether one of its references is a mapping that nothing showed
        self.shown = -1  # at which of `State.steps` a listing showed whether it is pending
        self.pending = False
        self.enabled = False
        self.priority = 0
        self.queued = -1  # index of the vCPU on whose ap_list it is, -1 for none
        self.refs = 1


class Collection:
    """A collection (`struct its_collection`). `target` is as the guest or the table gave it."""

    __slots__ = ("icid", "target")

    def __init__(self, icid: int) -> None:
        self.icid = icid
        self.target = NOT_MAPPED


class Ite:
    """An interrupt translation entry (`struct its_ite`). MAPC V=0 leaves it no collection."""

    __slots__ = ("collection", "irq")

    def __init__(self, collection: Collection, irq: VgicIrq) -> None:
        self.collection: Collection | None = collection
        self.irq = irq


class Device:
    """A device (`struct its_device`) with its events in order of mapping."""

    __slots__ = ("device_id", "event_bits", "events", "itt")

    def __init__(self, device_id: int, itt: int, event_bits: int) -> None:
        self.device_id = device_id
        self.itt = itt
        self.event_bits = event_bits
        self.events: dict[int, Ite] = {}


class Snapshot(TypedDict):
    """A whole VM as plain values. Objects are named by INTID, ICID and list position."""

    registers: tuple[int, ...]
    lpis: tuple[tuple[int, int, bool, bool, int, int, int], ...]
    queues: tuple[tuple[int, ...], ...]
    collections: tuple[tuple[int, int], ...]
    devices: tuple[tuple[int, int, int, tuple[tuple[int, int, int], ...]], ...]
    cache: tuple[tuple[int, int], ...]
    lpis_enabled: tuple[bool, ...]
    pendbasers: tuple[int, ...]
    ram: RamSnapshot


def may_stray(state: State, intid: int) -> bool:
    """Return whether an LPI may live that no mapping holds: queued on a vCPU, as nobody can see."""
    return bool(state.blind) or state.strays or intid in state.retired


def lpi_baser_reset(flags: KvmFlags) -> int:
    """Return the fresh GICR_PROPBASER and PENDBASER.

    Linux 731532176716 ("Change default outer cacheability for {PEND,PROP}BASER") (in v5.9).
    """
    return LPI_BASER_RESET | (0 if flags.outer_cacheability_same_as_inner else OUTER_NC << 56)


class State:
    """All that KVM keeps for one VM with one ITS, and the guest RAM that it reads and writes."""

    __slots__ = (
        "blind",
        "bound",
        "by_id",
        "cache",
        "cache_limit",
        "cache_shift",
        "cbaser",
        "coll_baser",
        "collections",
        "creadr",
        "cwriter",
        "device_baser",
        "devices",
        "effects",
        "enabled",
        "flags",
        "gicd_enabled",
        "implementation_revision",
        "index_of_id",
        "irqs",
        "last_error",
        "level1_assumed",
        "lpis",
        "lpis_enabled",
        "pendbasers",
        "propbaser",
        "queues",
        "ram",
        "retired",
        "steps",
        "strays",
        "touched",
        "unknown",
        "vcpu_ids",
        "witness",
    )

    def __init__(self, flags: KvmFlags, vcpu_ids: Sequence[int], ram: GuestRam) -> None:
        self.flags = flags
        self.ram = ram
        self.vcpu_ids = tuple(vcpu_ids)
        self.index_of_id = {vcpu_id: index for index, vcpu_id in enumerate(self.vcpu_ids)}
        self.effects: list[Effect] | None = None
        self.bound: dict[int, str] = {}
        self.blind = 0  # whether something was mapped or unmapped that nothing showed: BLIND_*
        self.unknown = Unknown()  # of a VM that was joined, registers that nothing showed
        self.retired: set[int] = set()  # INTIDs of LPIs that may be queued still, unmapped
        self.strays = False  # whether there may be such LPIs that nothing ever showed
        self.steps = 0  # inputs of a VM that runs: each lets a vCPU take what is pending
        self.level1_assumed: set[int] = set()  # addresses of level-1 entries that nothing showed
        self.witness: Witness | None = None
        self.touched: Touched | None = (
            None  # where is noted what lists changed, while somebody asks
        )
        self.last_error = 0  # of the command that ran last: E_* or -errno, which KVM drops
        count = len(self.vcpu_ids)
        # its_registers
        self.enabled = False
        self.cbaser = self.creadr = self.cwriter = 0
        self.device_baser = BASER_RESET | DEVICE_BASER_FIXED
        self.coll_baser = BASER_RESET | COLLECTION_BASER_FIXED
        # its_lists
        self.devices: list[Device] = []
        self.by_id: dict[int, Device] = {}  # the first of its DeviceID, as a list walk finds it
        self.collections: dict[int, Collection] = {}
        # The most recently used entry is the last one.
        self.cache: dict[int, VgicIrq] = {}
        # A per-ITS cache is an xarray keyed (DeviceID << 16) | EventID, which two pairs can share.
        self.cache_shift = 16 if flags.translation_cache_per_its else 32
        per_vcpu = flags.translation_cache_entries_per_vcpu
        self.cache_limit = per_vcpu * count if per_vcpu >= 0 else -1
        # the VM
        self.lpis: dict[int, VgicIrq] = {}
        self.propbaser = lpi_baser_reset(flags)
        self.gicd_enabled = False
        self.irqs = 64  # INTIDs of the distributor, as the VMM chose
        self.implementation_revision = flags.gic_implementation_revision
        # its vCPUs
        self.queues: list[list[VgicIrq]] = [[] for _ in range(count)]
        self.lpis_enabled = [False] * count
        self.pendbasers = [lpi_baser_reset(flags)] * count

    def assume(self, what: str) -> int:
        """Answer for RAM that nothing showed: zero, noted at the effect that it was needed for."""
        self._note(f"{what} is zero")
        return 0

    def _note(self, what: str) -> None:
        at = max(len(self.effects or ()) - 1, 0)
        old = self.bound.get(at)
        if old is None:
            self.bound[at] = f"assumed: {what}"
        elif what not in old:
            self.bound[at] = f"{old}, and {what}"

    def level1(self, gpa: int) -> int | None:
        """Return the address of the level-2 page that a level-1 entry names, None without one.

        Where nothing showed the entry it is taken to be valid, and the page gets a stand-in
        address beyond any real one: the guest would not use what lies below otherwise.
        """
        if not self.ram.complete and self.ram.load64(gpa) is None and self.ram.backed(gpa, 8):
            if gpa not in self.level1_assumed:
                self.level1_assumed.add(gpa)
                self._note(LEVEL1_VALID)
            return gpa + 1 << UNSEEN_SHIFT
        entry = self.read64("l1", gpa)
        return None if entry is None or not entry & VALID else entry & L1_ADDRESS

    def backed(self, gpa: int, size: int) -> bool:
        """Say whether RAM is there; a stand-in address has some."""
        return self.ram.backed(gpa, size) or gpa >> UNSEEN_SHIFT > 0

    def read64(self, what: str, gpa: int) -> int | None:
        """Read a doubleword as the kernel does (`kvm_read_guest`). None is -EFAULT."""
        if not self.ram.backed(gpa, 8):
            return None
        value = self.ram.load64(gpa)
        return self.assume(what) if value is None else value

    def read8(self, what: str, gpa: int) -> int | None:
        """Read a byte as the kernel does. None is -EFAULT."""
        if not self.ram.backed(gpa):
            return None
        value = self.ram.load8(gpa)
        return self.assume(what) if value is None else value

    def write_entry(self, table: int, index: int, value: int, gpa: int) -> bool:
        """Write a table entry (`vgic_its_write_entry_lock`). False is -EFAULT."""
        if not self.backed(gpa, 8):
            return False
        self.ram.store64(gpa, value)
        if self.effects is not None:
            self.effects.append((effects.TABLE_WRITE, table, index, 0, int(value != 0)))
        return True

    def pair(self, key: int) -> tuple[int, int]:
        """Return the DeviceID and EventID that a key of the cache stands for."""
        return key >> self.cache_shift, key & (1 << self.cache_shift) - 1

    def walk_lpis(self) -> Iterable[VgicIrq]:
        """Return the live LPIs in the order in which the kernel walks them."""
        if self.flags.lpis_walked_in_intid_order:
            return [self.lpis[intid] for intid in sorted(self.lpis)]
        return list(self.lpis.values())


def snapshot_state(state: State) -> Snapshot:
    """Return the state as plain values, in an order that depends on nothing but the state."""
    return {
        "registers": (
            int(state.enabled),
            state.cbaser,
            state.creadr,
            state.cwriter,
            state.device_baser,
            state.coll_baser,
            state.propbaser,
            int(state.gicd_enabled),
            state.implementation_revision,
        ),
        "lpis": tuple(
            (i.intid, i.target, i.pending, i.enabled, i.priority, i.queued, i.refs)
            for i in state.lpis.values()
        ),
        "queues": tuple(tuple(irq.intid for irq in queue) for queue in state.queues),
        "collections": tuple((c.icid, c.target) for c in state.collections.values()),
        "devices": tuple(
            (device.device_id, device.itt, device.event_bits, _snapshot_events(device))
            for device in state.devices
        ),
        "cache": tuple((key, irq.intid) for key, irq in state.cache.items()),
        "lpis_enabled": tuple(state.lpis_enabled),
        "pendbasers": tuple(state.pendbasers),
        "ram": state.ram.snapshot(),
    }


def _snapshot_events(device: Device) -> tuple[tuple[int, int, int], ...]:
    """Return (EventID, INTID, ICID) of each event; ICID is -1 without a collection."""
    return tuple(
        (event_id, ite.irq.intid, ite.collection.icid if ite.collection else -1)
        for event_id, ite in device.events.items()
    )


def restore_state(state: State, snapshot: Snapshot) -> None:
    """Take a snapshot that the same kind of VM (flags, vCPUs, slots) made."""
    registers = snapshot["registers"]
    state.enabled = bool(registers[0])
    state.cbaser, state.creadr, state.cwriter = registers[1:4]
    state.device_baser, state.coll_baser, state.propbaser = registers[4:7]
    state.gicd_enabled = bool(registers[7])
    state.implementation_revision = registers[8]
    state.lpis = {row[0]: _restored_lpi(row) for row in snapshot["lpis"]}
    state.queues = [[state.lpis[intid] for intid in queue] for queue in snapshot["queues"]]
    state.collections = {}
    for icid, target in snapshot["collections"]:
        collection = Collection(icid)
        collection.target = target
        state.collections[icid] = collection
    state.devices = [_restored_device(state, row) for row in snapshot["devices"]]
    state.by_id = {device.device_id: device for device in reversed(state.devices)}
    state.cache = {key: state.lpis[intid] for key, intid in snapshot["cache"]}
    state.lpis_enabled = list(snapshot["lpis_enabled"])
    state.pendbasers = list(snapshot["pendbasers"])
    state.ram.restore(snapshot["ram"])


def _restored_lpi(row: tuple[int, int, bool, bool, int, int, int]) -> VgicIrq:
    irq = VgicIrq(row[0], row[1])
    irq.pending, irq.enabled, irq.priority, irq.queued, irq.refs = row[2:]
    return irq


def _restored_device(
    state: State, row: tuple[int, int, int, tuple[tuple[int, int, int], ...]]
) -> Device:
    device = Device(*row[:3])
    for event_id, intid, icid in row[3]:
        # An ICID that is not in the list cannot be in a snapshot: freeing one clears its ITEs.
        ite = Ite(state.collections.get(icid, Collection(icid)), state.lpis[intid])
        ite.collection = state.collections.get(icid)
        device.events[event_id] = ite
    return device
