"""The in-kernel ITS of any kernel as a target: attributes with errnos, accesses by real vCPUs.

What a VMM did goes through device attributes, what a guest did is done by a vCPU that executes the
access, MSIs by KVM_SIGNAL_MSI. One boot serves any number of traces, each on a fresh VM. The
counterparts are `ahead`, which feeds it, `kvm_boot` and `kvm_wire`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple

from replay.model import effects
from replay.model.effects import HostCrash
from replay.protocols import NOT_JUDGED
from replay.targets import kvm_wire as wire
from replay.targets.ahead import FAILED, Group, Item
from replay.targets.common import Answer
from replay.targets.errors import TargetError
from replay.targets.handover import HandOver, Store
from replay.targets.kvm_boot import Gone, Host
from replay.targets.kvm_wire import Reply, Request
from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of
from tracer.its.registers import its_register
from tracer.log.header import Header
from tracer.log.text import format_event

GICD_BASE: Final = 0x0800_0000
ITS_DISTANCE: Final = 0x8_0000
GICR_DISTANCE: Final = 0xA_0000  # of QEMU's virt machine
GICR_BYTES: Final = 0x2_0000
DOORBELL: Final = 0x1_0040
DEFAULT_RAM: Final = ((0x4000_0000, 1 << 32),)
MAX_VCPUS: Final = 16
DEFAULT_INTERRUPTS: Final = 64
MAX_INTERRUPTS: Final = 1023
BATCH_SECONDS: Final = 60.0
_GRP_INTERRUPTS: Final = 3
_OF_MAKING: Final = (0, _GRP_INTERRUPTS)  # addresses; how many interrupts
_GRP_DIST, _GRP_CTRL, _GRP_REDIST, _GRP_ITS = 1, 4, 5, 8
_SAVE, _RESTORE, _SAVE_PENDING, _CTRL_RESET = 1, 2, 3, 4
# (device, attribute) -> its name, of the group CTRL
_CONTROLS: Final = {
    (wire.ITS, _SAVE): "KVM_DEV_ARM_ITS_SAVE_TABLES",
    (wire.ITS, _RESTORE): "KVM_DEV_ARM_ITS_RESTORE_TABLES",
    (wire.GIC, _SAVE_PENDING): "KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES",
    (wire.ITS, _CTRL_RESET): "KVM_DEV_ARM_ITS_CTRL_RESET",
}
_ENODEV: Final = -19
_FALLBACK: Final = (0x0, 0x80, *range(0x100, 0x140, 8))  # what a VMM without CTRL_RESET writes
_SIZES: Final = {1: 0, 2: 1, 4: 2, 8: 3}
_SHOWN: Final = {
    found[0]: offset
    for offset in (0x0, 0x4, 0x8, 0x80, 0x88, 0x90, *range(0x100, 0x140, 8), 0xFFE8)
    if (found := its_register(offset))
}

_REG_READ, _GICR_READ = NUMBER["reg.read"], NUMBER["gicr.read"]
_GICD_READ, _MEM_READ = NUMBER["gicd.read"], NUMBER["mem.read"]
_PROBE: Final = NUMBER["probe"]
_ASKED: Final = frozenset((_REG_READ, _GICR_READ, _GICD_READ, _MEM_READ, _PROBE))
_READS: Final = _ASKED - {_MEM_READ, _PROBE}
_EXPRESSES: Final = frozenset((effects.ATTR_RESULT, effects.MSI_RESULT))
# ` LPI ID TGT_ID PLAEHCG HWID TARGET SRC PRI VCPU_ID`: TGT_ID is the vCPU of an LPI
_PAGE: Final = struct.Struct("<QQ")  # address, CRC-32
_LPI_ROW: Final = re.compile(
    r" LPI +([0-9]{1,9}) +(-?[0-9]{1,9}) +([01]{7}) +[0-9]+ +-?[0-9]+ +[0-9]+ +([0-9]{1,3}) +(-?[0-9]{1,9})"
)


class _Step(NamedTuple):
    """One event of a batch: its requests are `first` up to `end`."""

    event: Event
    first: int
    end: int
    bound: str | None


class KvmTarget:
    """One VM on a KVM host that a trace is carried out on; `at` is its number there."""

    expresses = _EXPRESSES

    def __init__(self, host: Host, header: Header, *, at: int = 0) -> None:
        self._host = host
        self._at = at
        self._header = header
        self.name = host.name
        self._complete = header.guest_ram == "complete"
        # In observed RAM the configuration of LPIs is unknown, and running vCPUs took some.
        self.asked = _ASKED if self._complete else _ASKED - {_PROBE}
        self._interrupts = DEFAULT_INTERRUPTS
        self._ids = vcpu_ids(header)
        self._gicd = int(header.annotations.get("gicd_base", hex(GICD_BASE)), 16)
        its = (header.its_bases or [self._gicd + ITS_DISTANCE])[0]
        gicr = int(header.annotations.get("gicr_base", hex(self._gicd + GICR_DISTANCE)), 16)
        self._bases = (its, gicr)
        self._slots = [(base, size) for base, size in header.ram_ranges or DEFAULT_RAM]
        self._dead: HostCrash | None = None
        self.oops: Sequence[str] = ()
        self._set_up()

    def _set_up(self) -> None:
        its, gicr = self._bases
        self._fresh = True
        end = max(base + size for base, size in self._slots) if self._slots else 0
        self._hand_over = None if self._complete else HandOver(end)
        new = Request(
            wire.NEW, self._at, cpu=self._interrupts, x=self._gicd, y=its - self._gicd | gicr - self._gicd << 32,
            z=4 * len(self._ids), data=struct.pack(f"<{len(self._ids)}I", *self._ids),
        )  # fmt: skip
        slots = [Request(wire.SLOT, self._at, x=base, y=size, z=1) for base, size in self._slots]
        for reply in self._host.wire.ask([new, *slots], BATCH_SECONDS):
            if reply.error:
                raise TargetError(f"{self.name}: {_why_not(reply.error)}")
        has = [
            self._attribute(wire.HAS, device, _GRP_CTRL, attribute, size=0)
            for device, attribute in _CONTROLS
        ]
        replies = self._host.wire.ask(has, BATCH_SECONDS)
        self.lacks = {
            control for control, reply in zip(_CONTROLS, replies, strict=True) if reply.error
        }

    def close(self) -> None:
        """Free the VM; the host goes on."""
        if self._dead is None and self._host.is_up():
            self._host.wire.ask([Request(wire.FREE, self._at)], BATCH_SECONDS)

    # -- its RAM, from outside

    def complete(self) -> None:
        """From here on every write to RAM is an event."""
        self._complete, self._hand_over = True, None

    def pages(self) -> dict[int, int]:
        """Return address -> CRC-32 of every page that is not zero."""
        reply = self._host.wire.ask([Request(wire.PAGES, self._at)], BATCH_SECONDS)[0]
        if reply.error:
            raise TargetError(f"{self.name}: its RAM cannot be looked through: {-reply.error}")
        return dict(_PAGE.iter_unpack(reply.data))

    def load(self, gpa: int, size: int) -> bytes | None:
        """Return RAM; None where there is none."""
        asked = [
            Request(wire.READ, self._at, x=gpa + at, y=min(size - at, wire.MAX_DATA_BYTES))
            for at in range(0, size, wire.MAX_DATA_BYTES)
        ]
        replies = self._host.wire.ask(asked, BATCH_SECONDS)
        if any(each.error for each in replies):
            return None
        return b"".join(each.data for each in replies)

    def copy_ram(self, source: KvmTarget) -> None:
        """Make RAM equal to that of another VM of the same host."""
        copy = Request(wire.COPY, self._at, source._at)
        error = self._host.wire.ask([copy], BATCH_SECONDS)[0].error
        if error:
            raise TargetError(f"{self.name}: its RAM cannot be copied: errno {-error}")
        self._hand_over = deepcopy(source._hand_over)

    def about(self) -> str:
        """Return the kernel's release and version: `uname -r -v`."""
        reply = self._host.wire.ask([Request(wire.ABOUT)], BATCH_SECONDS)[0]
        return " ".join(reply.data.decode("ascii", "replace").split("\n")[:2])

    def registers(self) -> dict[str, int]:
        """Return the ITS registers by name."""
        if self._dead is not None:
            return {}
        asked = [self._attribute(wire.GET, wire.ITS, _GRP_ITS, each) for each in _SHOWN.values()]
        replies = self._host.wire.ask(asked, BATCH_SECONDS)
        return {name: reply.value for name, reply in zip(_SHOWN, replies, strict=True)}

    # -- carrying out

    def carry_out(self, groups: Sequence[Group]) -> list[Item]:
        """Carry out inputs and ask for outputs, as one batch up to a power-on."""
        items: list[Item] = []
        requests: list[Request] = []
        steps: list[_Step] = []
        for _, event, outputs in groups:
            if _is_power_on(event) or _tells_interrupts(event):
                items += self._batch(requests, steps)
                requests, steps = [], []
                self._made_anew(event)
            first = len(requests)
            bound = self._plan(event, outputs, requests)
            steps.append(_Step(event, first, len(requests), bound))
            self._fresh = self._fresh and len(requests) == first
        return items + self._batch(requests, steps)

    def _made_anew(self, event: Event) -> None:
        """Begin again: at a power-on, or with so many interrupts while nothing was done yet."""
        if _tells_interrupts(event) and self._fresh:
            self._interrupts = min(event[5], MAX_INTERRUPTS)
        elif self._fresh or not _is_power_on(event):
            return
        if self._dead is None:
            self._set_up()

    def _plan(self, event: Event, outputs: Sequence[Event], requests: list[Request]) -> str | None:
        """Add to `requests` what carries out one event; return what that assumes."""
        kind, bound = event[0], None
        plan = _PLANS.get(kind)
        if plan is None:
            return None
        if self._hand_over is not None:
            stores, bound = self._hand_over.before(event, outputs)
            requests += map(self._store, stores)
        mine = plan(self, fields_of(event))
        for each in mine:
            lacking = _CONTROLS.get((each.sub, each.x)) if each.cpu == _GRP_CTRL else None
            if lacking and (each.sub, each.x) in self.lacks:
                raise TargetError(f"{self.name}: its kernel lacks the attribute {lacking}")
        requests += mine
        return bound if mine or _is_power_on(event) else NOT_JUDGED

    def _batch(self, requests: list[Request], steps: list[_Step]) -> list[Item]:
        replies: list[Reply] = []
        if self._dead is None and requests:
            try:
                replies = self._host.wire.ask(requests, BATCH_SECONDS)
            except Gone as gone:
                if not gone.oops:
                    raise
                return self._died(gone, steps)
            except wire.Silent as silent:
                raise TargetError(self._stuck(silent, steps)) from silent
        if self._dead is not None:
            return [(step.event, self._dead, {}) for step in steps]
        return [self._item(step, replies[step.first : step.end]) for step in steps]

    def _died(self, gone: Gone, steps: list[_Step]) -> list[Item]:
        """The host's kernel died of one of the requests; what came before it has no answers now."""
        self._dead = HostCrash(gone.function)
        self.oops = gone.oops
        done = self._host.wire.done
        return [
            (step.event, self._dead if step.end > done else None, {0: NOT_JUDGED}) for step in steps
        ]

    def _stuck(self, silent: wire.Silent, steps: list[_Step]) -> str:
        """Return where a host hangs, and what its kernel says of that."""
        done = self._host.wire.done
        at = next((step.event for step in steps if step.end > done), None)
        where = f", in {format_event(0, at)}" if at else ""
        return " / ".join([f"{silent}{where}", *self._host.findings()[:4]])

    def _item(self, step: _Step, replies: list[Reply]) -> Item:
        event, kind = step.event, step.event[0]
        if kind in _ASKED:
            error = replies[-1].error if replies and kind in _READS else 0
            return event, self._answer(event, replies), {FAILED: str(error)} if error else {}
        if step.bound == NOT_JUDGED:
            return event, [], {-1: NOT_JUDGED}
        done: list[Any] = []
        if replies and kind == NUMBER["msi"]:
            done = [(effects.MSI_RESULT, replies[-1].error)]
        elif replies and _is_attribute(event):
            done = [(effects.ATTR_RESULT, replies[-1].error)]
        return event, done, {0: f"assumed: {step.bound}"} if step.bound and done else {}

    def _answer(self, event: Event, replies: list[Reply]) -> Any:
        if not replies:
            return None
        reply = replies[-1]
        if event[0] == _REG_READ:
            return reply.value
        if event[0] == _PROBE:
            return None if reply.error else rows(reply.data)
        if event[0] == _MEM_READ:
            certain = self._complete and not reply.error
            return Answer("data", reply.data, event[4], certain=True) if certain else None
        value = sum(each.value << 32 * at for at, each in enumerate(replies))
        return Answer("value", value, event[4 if event[0] == _GICR_READ else 3], certain=True)

    # -- requests

    def _store(self, store: Store) -> Request:
        if store.data is None:
            return Request(wire.FILL, self._at, x=store.gpa, y=store.size, z=0)
        return Request(wire.WRITE, self._at, x=store.gpa, z=len(store.data), data=store.data)

    def _attribute(
        self, op: int, device: int, group: int, attribute: int, value: int = 0, size: int = 8
    ) -> Request:
        return Request(op, self._at, device, group, attribute, value, size)

    def _access(self, op: int, cpu: int, gpa: int, size: int, value: int = 0) -> list[Request]:
        if size not in _SIZES:
            return []
        return [Request(op, self._at, _SIZES[size], cpu, gpa, value)]

    def _vmm(self, device: int, group: int, prefix: int, f: dict[str, Any]) -> list[Request]:
        """Write a register of the GIC, 4 bytes an attribute."""
        return [
            self._attribute(
                wire.SET, device, group, prefix | f["offset"] + at,
                f["value"] >> 8 * at & 0xFFFF_FFFF, 4,
            )
            for at in range(0, f["size"], 4)
        ]  # fmt: skip

    def _affinity(self, cpu: int) -> int:
        """Return the upper half of a redistributor's attribute."""
        vcpu_id = self._ids[cpu] if cpu < len(self._ids) else 0xFFFF
        return (vcpu_id & 0xF | vcpu_id >> 4 << 8) << 32

    # -- one function a kind; `f` are the event's fields

    def reg_write(self, f: dict[str, Any]) -> list[Request]:
        """A register of the ITS, by the VMM or by a vCPU."""
        if f["origin"] == ev.GUEST:
            return self._access(wire.STORE, 0, self._bases[0] + f["offset"], f["size"], f["value"])
        return [self._attribute(wire.SET, wire.ITS, _GRP_ITS, f["offset"], f["value"])]

    def reg_read(self, f: dict[str, Any]) -> list[Request]:
        """A register of the ITS; a probe reads as the VMM does."""
        if f["origin"] == ev.GUEST:
            return self._access(wire.LOAD, 0, self._bases[0] + f["offset"], f["size"])
        return [self._attribute(wire.GET, wire.ITS, _GRP_ITS, f["offset"])]

    def gicr_write(self, f: dict[str, Any]) -> list[Request]:
        """A register of a redistributor."""
        if f["origin"] == ev.GUEST:
            gpa = self._bases[1] + f["cpu"] * GICR_BYTES + f["offset"]
            return self._access(wire.STORE, 0, gpa, f["size"], f["value"])
        return self._vmm(wire.GIC, _GRP_REDIST, self._affinity(f["cpu"]), f)

    def gicr_read(self, f: dict[str, Any]) -> list[Request]:
        """A register of a redistributor."""
        if f["origin"] == ev.GUEST:
            gpa = self._bases[1] + f["cpu"] * GICR_BYTES + f["offset"]
            return self._access(wire.LOAD, 0, gpa, f["size"])
        first = self._affinity(f["cpu"]) | f["offset"]
        return [
            self._attribute(wire.GET, wire.GIC, _GRP_REDIST, first + at, size=4)
            for at in range(0, f["size"], 4)
        ]

    def gicd_write(self, f: dict[str, Any]) -> list[Request]:
        """A register of the distributor."""
        if f["origin"] == ev.GUEST:
            return self._access(wire.STORE, 0, self._gicd + f["offset"], f["size"], f["value"])
        return self._vmm(wire.GIC, _GRP_DIST, 0, f)

    def gicd_read(self, f: dict[str, Any]) -> list[Request]:
        """A register of the distributor."""
        if f["origin"] == ev.GUEST:
            return self._access(wire.LOAD, 0, self._gicd + f["offset"], f["size"])
        return [self._attribute(wire.GET, wire.GIC, _GRP_DIST, f["offset"], size=4)]

    def mem_write(self, f: dict[str, Any]) -> list[Request]:
        """Guest RAM."""
        return [Request(wire.WRITE, self._at, x=f["gpa"], z=len(f["data"]), data=f["data"])]

    def mem_read(self, f: dict[str, Any]) -> list[Request]:
        """Guest RAM."""
        return [Request(wire.READ, self._at, x=f["gpa"], y=len(f["data"]))]

    def ram(self, f: dict[str, Any]) -> list[Request]:
        """A memory slot."""
        return [Request(wire.SLOT, self._at, x=f["gpa"], y=f["size"], z=f["present"])]

    def msi(self, f: dict[str, Any]) -> list[Request]:
        """KVM_SIGNAL_MSI."""
        doorbell = f["doorbell"] or self._bases[0] + DOORBELL
        if not self._bases[0] <= doorbell < self._bases[0] + 2 * GICR_BYTES:
            doorbell = self._bases[0] + DOORBELL
        return [Request(wire.MSI, self._at, x=doorbell, y=f["event_id"], z=f["device_id"])]

    def control(self, attribute: int, device: int = wire.ITS) -> list[Request]:
        """An attribute of the group CTRL, which has no value."""
        return [self._attribute(wire.SET, device, _GRP_CTRL, attribute, size=0)]

    def reset(self, f: dict[str, Any]) -> list[Request]:
        """CTRL_RESET, or what a VMM that does not know it writes."""
        if f["how"] == ev.REGISTER_FALLBACK:
            return [self._attribute(wire.SET, wire.ITS, _GRP_ITS, each) for each in _FALLBACK]
        return self.control(_CTRL_RESET) if f["how"] in (ev.CTRL_RESET, ev.SYSTEM) else []

    def attr_set(self, f: dict[str, Any]) -> list[Request]:
        """Any other attribute; addresses and numbers were set when the VM was made."""
        if f["group"] in _OF_MAKING or (f["group"], f["attr"]) == (_GRP_CTRL, 0):
            return []
        size = 0 if f["value"] is None or f["group"] == _GRP_CTRL else 8
        size = 4 if size and f["group"] in (_GRP_DIST, _GRP_REDIST) else size
        return [
            self._attribute(wire.SET, f["device"], f["group"], f["attr"], f["value"] or 0, size)
        ]


def rows(text: bytes) -> list[tuple[int, ...]]:
    """Return the live LPIs of debugfs' vgic-state as lpi.live has them, without cause."""
    found = _LPI_ROW.findall(text.decode("ascii", "replace"))
    return [
        (int(intid), int(at), int(flags, 2), int(priority), int(queued))
        for intid, at, flags, priority, queued in found
    ]


def _why_not(error: int) -> str:
    if error == _ENODEV:
        return "its KVM emulates no ITS here (errno 19): it needs a GICv3 and CONFIG_KVM"
    return f"this VM cannot be made: errno {-error}"


def _is_power_on(event: Event) -> bool:
    return bool(event[0] == NUMBER["reset"] and event[2] == ev.POWER_ON)


def _tells_interrupts(event: Event) -> bool:
    return bool(
        event[0] == NUMBER["attr.set"]
        and event[2:4] == (wire.GIC, _GRP_INTERRUPTS)
        and len(event) > 5
        and event[5]
    )


def _is_attribute(event: Event) -> bool:
    """Return whether what carried an input out answers with an errno."""
    if event[0] in (NUMBER["reg.write"], NUMBER["gicr.write"], NUMBER["gicd.write"]):
        return bool(fields_of(event)["origin"])
    if event[0] == NUMBER["reset"]:  # a fallback is many writes, each with an errno
        return event[2] in (ev.CTRL_RESET, ev.SYSTEM)
    return event[0] in _ANSWERING


_ANSWERING: Final = frozenset(
    NUMBER[name] for name in ("attr.set", "save", "save_pending", "restore", "init")
)


def vcpu_ids(header: Header) -> list[int]:
    """Return the vcpu_ids: KVM's MPIDR of one has 16 of them share an Aff1."""
    affinities = header.mpidrs
    if affinities is None:
        ids = list(range(header.cpus or 1))
    else:
        ids = [each & 0xF | (each >> 8 & 0xFF) << 4 for each in affinities]
    if len(ids) > MAX_VCPUS:
        raise TargetError(f"the trace's VM has {len(ids)} vCPUs; a target gets {MAX_VCPUS} at most")
    return ids


_PLANS: Final[dict[int, Callable[[KvmTarget, dict[str, Any]], list[Request]]]] = {
    NUMBER["reg.write"]: KvmTarget.reg_write,
    NUMBER["reg.read"]: KvmTarget.reg_read,
    NUMBER["gicr.write"]: KvmTarget.gicr_write,
    NUMBER["gicr.read"]: KvmTarget.gicr_read,
    NUMBER["gicd.write"]: KvmTarget.gicd_write,
    NUMBER["gicd.read"]: KvmTarget.gicd_read,
    NUMBER["mem.write"]: KvmTarget.mem_write,
    NUMBER["mem.read"]: KvmTarget.mem_read,
    NUMBER["ram"]: KvmTarget.ram,
    NUMBER["msi"]: KvmTarget.msi,
    NUMBER["attr.set"]: KvmTarget.attr_set,
    NUMBER["reset"]: KvmTarget.reset,
    NUMBER["save"]: lambda target, f: target.control(_SAVE),
    NUMBER["restore"]: lambda target, f: target.control(_RESTORE),
    NUMBER["save_pending"]: lambda target, f: target.control(_SAVE_PENDING, wire.GIC),
    NUMBER["probe"]: lambda target, f: [Request(wire.LIVE, target._at)],
    NUMBER["init"]: lambda target, f: target.control(0),
}
