"""What of each family's model a checkpoint keeps: a table for every class of state.

An attribute stands either among the kept or, when its maker sets it for good or it follows from
others, among those made anew; a test holds the tables to the classes. Behind each table are the
links that no single shape can check. Counterpart: `replay.checkpoints`.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Callable
from itertools import chain, pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple

from replay.model.kvm.layout import queue_bytes as kvm_queue_bytes
from replay.model.kvm.state import (
    BLIND,
    UNKNOWN_TARGET,
    Collection,
    Device,
    Ite,
    State,
    VgicIrq,
)
from replay.model.kvm.vm import KvmVm
from replay.model.memory import GuestRam
from replay.model.qemu.pending import PendingBits
from replay.model.qemu.state import ItsState, Queue, Redistributor, TableDesc
from replay.model.qemu.vm import QemuVm
from replay.model.unknown import Unknown
from replay.model.xen.commands import queue_bytes as xen_queue_bytes
from replay.model.xen.state import HostDevice, PendingIrq, XenState
from replay.model.xen.vm import XenVm
from replay.shapes import (
    Cpu,
    Each,
    Flag,
    Inside,
    Keyed,
    Maybe,
    Named,
    Number,
    Record,
    Room,
    Row,
    Shape,
    Text,
    items_of,
)
from replay.targets.kvm_model import KvmModel
from replay.targets.qemu_model import QemuModel
from replay.targets.xen_model import XenModel
from tracer.its.commands import COMMAND_SIZE_BYTES
from tracer.log.checks import PayloadError

U64: Final = Number()
U32: Final = Number(0, (1 << 32) - 1)
INT: Final = Number(-(1 << 63), (1 << 63) - 1)
FLAG: Final = Flag()
SOME_CPU: Final = Cpu(-1)
# Stand-ins for what nothing showed lie beyond 64 bits: (address + 1) << 64, and what is in them.
ADDRESS: Final = Number(0, (1 << 130) - 1)
_SLOT: Final = Row((U64, U64))
_SLOTS: Final = Each(tuple, _SLOT)
_UNKNOWN: Final = Record(Unknown, {"bits": Keyed(Text(64), U64)})
_WORD: Final = "I"
_WORD_BYTES: Final = array(_WORD).itemsize  # 4 wherever there is a KVM host or a QEMU
MAX_QUEUE_BYTES: Final = 1 << 20
_PARTIAL: Final = Keyed(ADDRESS, Number(1, 14))


class Ram(Shape):
    """Guest RAM: its slots, and its words as runs of bytes."""

    def pack(self, ram: GuestRam) -> list[Any]:
        """Return [complete, slots, [address of word, words, ...], partly known words]."""
        slots = None if ram.slots is None else _SLOTS.pack(ram.slots)
        return [ram.complete, slots, _runs(ram), _PARTIAL.pack(ram.partly_known())]

    def take(self, plain: Any, room: Room) -> GuestRam:
        """Make such RAM."""
        items = items_of(plain)
        if len(items) != len(("complete", "slots", "runs", "partial")):
            raise PayloadError("guest RAM must have 4 values")
        complete = FLAG.take(items[0], room)
        ram = GuestRam(Maybe(_SLOTS).take(items[1], room), complete=complete)
        words = _words(items_of(items[2]), room)
        partial = _PARTIAL.take(items[3], room)
        if complete and (partial or not all(words.values())):
            raise PayloadError("RAM that is known whole must keep neither parts nor zeros")
        if not partial.keys() <= words.keys():
            raise PayloadError("a word that is known in part must be kept")
        ram.restore((tuple(words.items()), tuple(partial.items())))
        return ram


def _runs(ram: GuestRam) -> list[Any]:
    """Return address, bytes, address, bytes, ... of words that stand side by side."""
    keys = ram.in_order()
    if not keys:
        return []
    data = _little(array(_WORD, map(ram.words.__getitem__, keys))).tobytes()
    starts = [at for at, (a, b) in enumerate(pairwise(keys), 1) if b != a + 1]
    runs: list[Any] = []
    for start, end in pairwise((0, *starts, len(keys))):
        runs += (ADDRESS.pack(keys[start]), data[start * _WORD_BYTES : end * _WORD_BYTES])
    return runs


def _words(runs: list[Any], room: Room) -> dict[int, int]:
    words: dict[int, int] = {}
    after = -1
    if len(runs) % 2:
        raise PayloadError("each run of words must have an address and bytes")
    for key, data in zip(ADDRESS.take_all(runs[::2], room), runs[1::2], strict=True):
        if type(data) is not bytes or not data or len(data) % _WORD_BYTES or key <= after:
            raise PayloadError("a run must be whole words that stand behind the run before")
        after = key + len(data) // _WORD_BYTES
        words.update(zip(range(key, after), _little(array(_WORD, data)), strict=True))
    return words


def _little(words: array[int]) -> array[int]:
    """Turn a machine's words into little-endian ones, or back."""
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _no_links(model: Any) -> None:
    """QEMU keeps numbers only."""


class Kept(NamedTuple):
    """A family's table. `version` is raised when the table or what a value means changes."""

    family: str
    version: int
    record: Record
    cpus: Callable[[Any], int]  # how many a model has
    check_links: Callable[[Any], None]


# -- QEMU

_ITS_ENTRIES: Final = Number(0, 1 << 16)
_TABLE: Final = Record(TableDesc, {
    "base": ADDRESS, "entries": _ITS_ENTRIES, "page_size": Number(0, 1 << 16),
    "entry_size": Number(0, 32), "indirect": Number(0, 1),
})  # fmt: skip
_QEMU_ITS: Final = Record(ItsState, {
    "ctlr": U64, "cbaser": U64, "cwriter": U64, "creadr": U64, "baser": Each(list, U64, count=8),
    "dt": _TABLE, "ct": _TABLE, "vpet": _TABLE,
    "queue": Record(Queue, {"base": U64, "entries": Number(0, 1 << 15)}),
})  # fmt: skip
_QEMU_CPU: Final = Record(Redistributor, {
    "ctlr": U64, "propbaser": U64, "pendbaser": U64, "vpropbaser": U64, "vpendbaser": U64,
    "best_vlpi": U64, "best_priority": Number(0, 255),
})  # fmt: skip
_QEMU_VM: Final = Record(QemuVm, {
    "its": _QEMU_ITS, "cpus": Each(list, _QEMU_CPU, per_cpu=True), "ram": Ram(),
    "gicr_known": FLAG, "clock": U64, "confirmed": Keyed(ADDRESS, U64),
    "since": Each(list, U64, count=3), "since_itt": Keyed(ADDRESS, U64),
    "assumed_level1": Each(set, ADDRESS),
    "unknown": _UNKNOWN,
    "pending": Record(PendingBits, {
        "acks_seen": FLAG, "since": U64, "bits": Keyed(ADDRESS, Number(0, 1)),
    }),
}, anew=frozenset(("profile", "reset_steps", "effects", "witness", "bound", "reads")))  # fmt: skip
QEMU: Final = Kept("qemu", 1, Record(
    QemuModel, {"vm": Inside(_QEMU_VM), "joined": FLAG},
    anew=frozenset(("name", "profile", "_cpus", "bound", "_witness", "asks", "apply", "read")),
), cpus=lambda model: len(model.vm.cpus), check_links=lambda model: _check_qemu(model.vm))  # fmt: skip


def _check_qemu(vm: QemuVm) -> None:
    """Two-level tables are divided by what they say of their pages."""
    for table in (vm.its.dt, vm.its.ct, vm.its.vpet):
        if table.entries and not 8 <= table.page_size >= table.entry_size > 0:
            raise PayloadError("a table with entries must have pages that hold them")


# -- KVM

_IRQ: Final = Record(VgicIrq, {
    "intid": U32, "target": Cpu(UNKNOWN_TARGET), "pending": FLAG, "enabled": FLAG,
    "priority": Number(0, 255), "queued": SOME_CPU, "refs": Number(1, 1 << 48),
    "configured": FLAG, "doubtful": FLAG, "sent": FLAG, "unseen": FLAG, "shown": INT,
})  # fmt: skip
_NAMED_IRQ: Final = Named(VgicIrq, "intid")
_DEVICE: Final = Record(Device, {
    "device_id": U32, "itt": ADDRESS, "event_bits": Number(1, 32),
    "events": Keyed(U32, Record(Ite, {
        "collection": Maybe(Named(Collection, "icid")), "irq": _NAMED_IRQ,
    }), ordered=True),
})  # fmt: skip
_KVM_STATE: Final = Record(State, {
    "ram": Ram(), "blind": Number(0, BLIND), "level1_assumed": Each(set, ADDRESS),
    "last_error": INT, "retired": Each(set, U32), "strays": FLAG, "steps": U64,
    "unknown": _UNKNOWN, "irqs": Number(0, 1024),
    "enabled": FLAG, "cbaser": U64, "creadr": U64, "cwriter": U64, "device_baser": U64,
    "coll_baser": U64,
    # What others name comes before them.
    "lpis": Keyed(U32, _IRQ, ordered=True, names=VgicIrq),
    "collections": Keyed(
        U32, Record(Collection, {"icid": U32, "target": Number(UNKNOWN_TARGET)}), ordered=True, names=Collection
    ),
    "devices": Each(list, _DEVICE), "cache": Keyed(U64, _NAMED_IRQ, ordered=True),
    "propbaser": U64, "gicd_enabled": FLAG, "implementation_revision": Number(0, 15),
    "queues": Each(list, Each(list, _NAMED_IRQ), per_cpu=True),
    "lpis_enabled": Each(list, FLAG, per_cpu=True), "pendbasers": Each(list, U64, per_cpu=True),
}, anew=frozenset((
    "flags", "vcpu_ids", "index_of_id", "effects", "bound", "witness", "by_id", "cache_shift", "touched",
    "cache_limit",
)))  # fmt: skip
KVM: Final = Kept("kvm", 1, Record(
    KvmModel,
    {"vm": Inside(Record(KvmVm, {"state": Inside(_KVM_STATE)})), "_errno": INT, "placed": FLAG, "joined": FLAG},
    anew=frozenset(("name", "profile", "_ids", "effects", "bound", "_witness", "asks", "_touched")),
), cpus=lambda model: len(model.vm.state.vcpu_ids), check_links=lambda model: _check_kvm(model.vm.state))  # fmt: skip


def _check_queue(size_bytes: int, *places: int) -> None:
    """A replay goes from CREADR to CWRITER: both must be places where a command can stand."""
    if any(place >= size_bytes or place % COMMAND_SIZE_BYTES for place in places):
        raise PayloadError("CREADR and CWRITER must be whole commands within the queue")


def _check_kvm(state: State) -> None:
    """Every LPI is on the queue that it names, and counts at least those that hold it."""
    known = not state.unknown  # else they may be of two different queues
    size_bytes = kvm_queue_bytes(state.cbaser) if known else MAX_QUEUE_BYTES
    _check_queue(size_bytes, state.creadr, state.cwriter)
    state.by_id = {device.device_id: device for device in reversed(state.devices)}
    events = chain.from_iterable(device.events.values() for device in state.devices)
    holders = Counter(map(attrgetter("irq.intid"), events))
    holders.update(irq.intid for irq in state.cache.values())
    for cpu, queue in enumerate(state.queues):
        holders.update(irq.intid for irq in queue)
        if any(irq.queued != cpu for irq in queue):
            raise PayloadError("an LPI must name the queue that holds it")
    queued = sum(irq.queued >= 0 for irq in state.lpis.values())
    if queued != sum(map(len, state.queues)):
        raise PayloadError("a queue must hold each LPI that names it, once")
    for intid, irq in state.lpis.items():
        if irq.intid != intid or irq.refs < holders[intid]:
            raise PayloadError("an LPI must have its INTID and a reference of each holder")
    if any(icid != each.icid for icid, each in state.collections.items()):
        raise PayloadError("a collection must have its ICID")


# -- Xen

_PENDING_IRQ: Final = Record(PendingIrq, {
    "intid": U32, "vcpu": Number(-1, 1 << 16), "queued": SOME_CPU, "maybe": Number(0, 1),
    "enabled": Maybe(Number(0, 1)), "priority": Maybe(Number(0, 255)),
    "named": Number(0, 1 << 32), "freed": Number(0, 1),
})  # fmt: skip
_XEN_STATE: Final = Record(XenState, {
    "enabled": FLAG, "cbaser": U64, "cwriter": U64, "creadr": U64,
    "baser": Each(list, U64, count=2),
    "devices": Keyed(U32, Record(HostDevice, {
        "limit": U64, "irqs": Keyed(U32, U64), "lpis": Keyed(U32, U32),
    })),
    "irqs": Keyed(U64, _PENDING_IRQ), "next_irq": U64, "tree": Keyed(U32, U64),
    "propbaser": U64, "rdists_enabled": FLAG, "lpi_count": U32,
    "pendbasers": Each(list, U64, per_cpu=True), "lpis_enabled": Each(list, FLAG, per_cpu=True),
})  # fmt: skip
_XEN_VM: Final = Record(XenVm, {
    "state": _XEN_STATE, "ram": Ram(), "gicr_known": FLAG, "doubt": Text(200),
    "confirmed": Each(set, ADDRESS),
}, anew=frozenset(("profile", "cpus", "effects", "witness", "bound")))  # fmt: skip
XEN: Final = Kept("xen", 1, Record(
    XenModel, {"vm": Inside(_XEN_VM)},
    anew=frozenset(("name", "profile", "bound", "_witness", "asks")),
), cpus=lambda model: model.vm.cpus, check_links=lambda model: _check_xen(model.vm.state))  # fmt: skip


def _check_xen(state: XenState) -> None:
    """The numbers that stand for pointers: none dangles, each counts who names it."""
    _check_queue(xen_queue_bytes(state.cbaser), state.creadr)
    _check_queue(MAX_QUEUE_BYTES, state.cwriter)
    owned = Counter(number for each in state.devices.values() for number in each.irqs.values())
    named = Counter(state.tree.values())
    if not owned.keys() | named.keys() <= state.irqs.keys():
        raise PayloadError("a number must be that of a pending_irq")
    for number, irq in state.irqs.items():
        if number >= state.next_irq or irq.named != named[number]:
            raise PayloadError("a pending_irq must know who names it")
        if owned[number] != int(not irq.freed) or (irq.freed and not irq.named):
            raise PayloadError("a pending_irq must be of one device, or freed and named")


MODELS: Final[dict[type, Kept]] = {QemuModel: QEMU, KvmModel: KVM, XenModel: XEN}
