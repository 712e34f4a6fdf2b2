"""The model of KVM's in-kernel ITS as a target: input events become its calls.

Counterparts: `replay.targets.qemu_model`, and `replay.engine`, which drives both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from replay.model import effects
from replay.model.kvm import cache, listing, tables, view
from replay.model.kvm.flags import KvmFlags
from replay.model.kvm.joined import GICD_TYPER_LINES, join, learn, unknown_of
from replay.model.kvm.layout import (
    CTRL_INIT,
    CTRL_RESET,
    CTRL_RESTORE_TABLES,
    CTRL_SAVE_TABLES,
    EEXIST,
    EINVAL,
    ENTRY_BYTES,
    GITS_TYPER,
)
from replay.model.kvm.state import BLIND
from replay.model.kvm.vm import KvmVm
from replay.model.memory import GuestRam
from replay.model.touched import Touched, TouchedSince
from replay.model.unknown import Unknown
from replay.profiles import Profile
from replay.targets import kvm_shown
from replay.targets.common import (
    Answer,
    mem_answer,
    register_place,
)
from replay.targets.witness import OutputWitness
from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of
from tracer.log.header import RUNNING, Header

EXPRESSES: Final = frozenset(
    (
        effects.COMMAND,
        effects.MSI_RESULT,
        effects.LPI,
        effects.ATTR_RESULT,
        effects.XLAT_HIT,
        effects.XLAT_MISS,
    )
)
_REGISTERS: Final = {
    "GITS_CTLR": 0x0,
    "GITS_IIDR": 0x4,
    "GITS_TYPER": 0x8,
    "GITS_CBASER": 0x80,
    "GITS_CWRITER": 0x88,
    "GITS_CREADR": 0x90,
    **{f"GITS_BASER{index}": 0x100 + 8 * index for index in range(8)},
    "GITS_PIDR2": 0xFFE8,
}
_GICR: Final = {"GICR_CTLR": 0x0, "GICR_PROPBASER": 0x70, "GICR_PENDBASER": 0x78}
_ADDR: Final = (0, 4)  # KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE
_ALIGN_BYTES: Final = 0x1_0000
_NR_IRQS: Final = 3  # KVM_DEV_ARM_VGIC_GRP_NR_IRQS
_GICD: Final = {0x0: "GICD_CTLR", 0x4: "GICD_TYPER", 0x8: "GICD_IIDR"}
_GUEST, _VMM = ev.GUEST, ev.VMM
_GICR_READ, _GICD_READ = NUMBER["gicr.read"], NUMBER["gicd.read"]
_LPI_LIVE, _ITS_LIVE = NUMBER["lpi.live"], NUMBER["its.live"]
_READS: Final = (NUMBER["reg.read"], _GICR_READ, _GICD_READ)
_SYSTEM_REGISTERS: Final = (0x0, 0x80, *range(0x100, 0x140, 8))  # of a VMM without CTRL_RESET


# Inputs whose outputs depend on what is mapped.
_OF_MAPPINGS: Final = tuple(NUMBER[name] for name in ("msi", "save", "restore"))
_UNSEEN_MAPPINGS: Final = "what was mapped without being shown answers so"


class KvmModel:
    """A VM with KVM's ITS that events can be applied to."""

    expresses = EXPRESSES

    def __init__(self, header: Header, profile: Profile) -> None:
        slots = None if header.ram_ranges is None else [(b, s) for b, s in header.ram_ranges]
        ram = GuestRam(slots, complete=header.guest_ram == "complete")
        affinities = header.mpidrs or [
            vcpu_id & 15 | vcpu_id >> 4 << 8 for vcpu_id in range(header.cpus or 1)
        ]
        # KVM's default MPIDR of a vcpu_id: 16 of them share an Aff1.
        ids = [affinity & 0xF | (affinity >> 8 & 0xFF) << 4 for affinity in affinities]
        self._touched: Touched | None = None
        self._set_up(profile, ids, ram)
        self.joined = header.starts == RUNNING
        if self.joined:
            join(self.vm.state)

    def _set_up(self, profile: Profile, ids: Sequence[int], ram: GuestRam) -> None:
        self.name = profile.name
        self.profile = profile
        self._ids = tuple(ids)
        flags: KvmFlags = profile.choices
        self.vm = KvmVm(flags, self._ids, ram)
        self.effects: list[effects.Effect] = []
        self.vm.effects = self.effects
        if self._touched is not None:
            self.vm.state.touched = self._touched
            self._touched.restarted()
        self.bound = self.vm.state.bound  # effect index -> `assumed: why`, of the last input
        self._witness = OutputWitness(())
        self.vm.state.witness = self._witness
        self._errno = 0
        self.joined = False
        self.placed = False  # whether the VMM said where the ITS is
        self.asks: Mapping[int, Callable[[Event], Answer | None]] = {
            NUMBER["gicr.read"]: self._gicr_read,
            NUMBER["gicd.read"]: self._gicd_read,
            NUMBER["mem.read"]: lambda event: mem_answer(self.vm.ram, event),
            NUMBER["its.live"]: self._event_row,
            effects.XLAT_MISS: self._missed,
        }
        if not ram.complete:
            self.vm.state.unknown.doubt("GICD_TYPER", GICD_TYPER_LINES)  # as the VMM chose

    def fresh(self) -> KvmModel:
        """Return a device that was never used, in a VM whose RAM is a copy of this one's."""
        other = KvmModel.__new__(KvmModel)
        ram = GuestRam(self.vm.ram.slots, complete=self.vm.ram.complete)
        ram.restore(self.vm.ram.snapshot())
        other._touched = None
        other._set_up(self.profile, self._ids, ram)
        return other

    def handed_over(self) -> KvmModel | None:
        """Return a copy of this VM whose ITS has no list: its registers and redistributors stay."""
        other = self.fresh()
        nothing: dict[str, Any] = {"devices": (), "collections": (), "cache": (), "lpis": ()}
        queues = tuple(() for _ in self._ids)
        other.vm.restore({**self.vm.snapshot(), **nothing, "queues": queues})  # type: ignore[typeddict-item]
        state = self.vm.state
        other.vm.state.unknown = Unknown(state.unknown.snapshot())
        other.vm.state.blind, other.vm.state.strays = state.blind, state.strays
        return other

    # -- inputs

    def apply(self, event: Event, outputs: Sequence[Event]) -> list[effects.Effect]:
        """Carry out an input; return its effects.

        Raises:
            HostCrash: the host kernel dies of it.
        """
        self.effects.clear()
        if self.bound:
            self.bound.clear()
        self._witness.outputs = outputs
        handler = _APPLY.get(event[0])
        if handler is not None:
            fields = fields_of(event)
            handler(self, fields)
            state = self.vm.state
            ran = fields.get("origin", _VMM) == _GUEST
            if ran:
                state.steps += 1
            if state.touched is not None:
                state.touched.carried_out(ran=ran)
            if state.blind and event[0] in _OF_MAPPINGS:
                self.as_shown(f"assumed: {_UNSEEN_MAPPINGS}")
        return self.effects

    def as_shown(self, why: str) -> None:
        """What the model cannot know is answered by whatever the trace has."""
        outputs = self._witness.outputs
        self.effects[:] = [(event[0], *event[3:]) for event in outputs]
        self.bound.update(dict.fromkeys(range(len(outputs)), why))

    def unsure(self, *, registers: bool = False) -> None:
        """Events were lost: a command may be among them, and perhaps writes of registers."""
        state = self.vm.state
        if registers and not self.vm.ram.complete:
            join(state)
        elif not self.vm.ram.complete:
            state.blind, state.strays = BLIND, True

    def result(self, errno: int) -> None:
        """Note the result of an attribute."""
        self.effects.append((effects.ATTR_RESULT, errno))

    # -- outputs that are asked for

    def read(self, event: Event) -> int | None:
        """Return what reg.read `event` should have given."""
        fields = fields_of(event)
        value, self._errno = self.vm.reg_read(
            min(fields["origin"], 1), fields["offset"], fields["size"]
        )
        return value

    def errno(self) -> int:
        """Return the errno of the last thing that was asked for."""
        return self._errno

    def _gicr_read(self, event: Event) -> Answer | None:
        fields = fields_of(event)
        value, self._errno = self.vm.gicr_read(
            min(fields["origin"], 1), self._cpu(fields["cpu"]), fields["offset"], fields["size"]
        )
        return Answer("value", value, event[4], certain=True)

    def _cpu(self, cpu: int) -> int:
        """Return a CPU's index, -1 for one that this VM does not have."""
        return cpu if cpu < len(self._ids) else -1

    def _gicd_read(self, event: Event) -> Answer | None:
        fields = fields_of(event)
        value, self._errno = self.vm.gicd_read(
            min(fields["origin"], 1), fields["offset"], fields["size"]
        )
        certain = bool((value ^ event[3]) & ~self.hidden(event))
        return Answer("value", value, event[3], certain=certain)

    def _missed(self, event: Event) -> Answer | None:
        """An irqfd asked the cache alone, in vain: a worker sends its MSI."""
        if event[2]:
            return None
        hit = cache.contains(self.vm.state, event[3], event[4])
        return Answer("hit", int(hit), 0, certain=not self.vm.state.blind)

    def _event_row(self, event: Event) -> Answer:
        row = listing.event_row(self.vm.state, event[3], event[4])
        return Answer("row", row, tuple(event[5:8]), certain=not self.vm.state.blind)

    def learn(self, event: Event) -> None:
        """Take over what was shown: guest RAM, a register, a row of debugfs."""
        state = self.vm.state
        if event[0] == _LPI_LIVE:
            if not self.vm.ram.complete:
                listing.learn_lpi(state, self._by_index(event[3:]))
        elif event[0] == _ITS_LIVE:
            listing.learn_event(state, event[3], event[4], event[5:8])
        elif event[0] == NUMBER["mem.read"]:
            self.vm.ram.store_bytes(event[3], event[4])
        elif event[0] in _READS and (place := _place_of(event)) is not None:
            name, shift, mask = place
            value = event[4] if event[0] == _GICR_READ else event[3]
            learn(state, name, value << shift, mask)

    def hidden(self, event: Event) -> int:
        """Return the bits of what a register's read gave that nothing had shown or set before."""
        place = _place_of(event)
        if place is None:
            return 0
        name, shift, mask = place
        return (unknown_of(self.vm.state, name) & mask) >> shift

    def may_differ(self, row: tuple[int, ...] | None, got: tuple[int, ...] | None) -> bool:
        """Return whether a listing may have `got` where the model has `row`, None for no row."""
        if self.vm.ram.complete:
            return False
        return listing.may_differ(self.vm.state, row, got)

    @property
    def may_stray(self) -> bool:
        """Whether an LPI may live that no mapping holds, and that nobody could see."""
        return self.vm.state.strays or bool(self.vm.state.retired)

    def not_listed(self, row: tuple[int, ...]) -> None:
        """Take over that an LPI that the model has was not listed."""
        listing.forget_lpi(self.vm.state, row[0])

    def _by_index(self, row: tuple[int, ...]) -> tuple[int, ...]:
        """Return a row with its vCPUs by index; one that this VM does not have is none."""
        index = range(len(self._ids)) if self._names_index else self._ids

        def of(name: int) -> int:
            return index.index(name) if name in index else -1

        return (row[0], of(row[1]), row[2], row[3], of(row[4]))

    @property
    def _names_index(self) -> bool:
        return bool(self.vm.flags.debugfs_names_vcpu_index)

    def left_in_ram(
        self, before: Mapping[str, Any], pages: list[tuple[int, int]]
    ) -> dict[str, int]:
        """KVM maps nothing that it finds in RAM, unless it is told to restore."""
        return {}

    def live_rows(self) -> list[tuple[int, ...]] | None:
        """Return the live LPIs as lpi.live has them, without cause."""
        return [
            (intid, target, int(flags, 2), priority, queued)
            for intid, target, flags, priority, queued in self.vm.live_lpis()
        ]

    def violations(self) -> list[str]:
        """Return the names of invariants that do not hold."""
        return [] if self.vm.state.blind else list(self.vm.violations())

    # -- state

    def registers(self) -> dict[str, int | None]:
        """Return the ITS registers by name; None for one that is not wholly known."""
        return {name: self.register(name) for name in _REGISTERS}

    def register(self, name: str) -> int | None:
        """Return one of them; None too for a name that is none."""
        offset = _REGISTERS.get(name)
        if offset is None or unknown_of(self.vm.state, name):
            return None
        if offset == _REGISTERS["GITS_TYPER"]:
            return GITS_TYPER
        return self.vm.reg_read(1, offset, 4 if offset < 8 or offset >= 0xFFD0 else 8)[0]

    def structures(self) -> dict[str, Any]:
        """Return what the kernel keeps in lists: mappings, cached translations, live LPIs."""
        return view.structures(self.vm)

    def value(self, component: str, key: Any) -> Any:
        """Return what `structures` has for one key; None for nothing."""
        return view.value(self.vm, component, key)

    def touched_since(self) -> TouchedSince:
        """Return who tells from now on which keys may have changed."""
        if self._touched is None:
            self._touched = self.vm.state.touched = Touched()
        self._touched.briefly |= view.shown_just_now(self.vm.state)
        return self._touched.reader()

    def mapped(self) -> dict[str, Any]:
        """KVM keeps no mapping in guest RAM alone."""
        return {}

    def mapped_lists(self) -> None:
        """Nobody follows these."""

    def entry_gpa(self, component: str, key: int | tuple[int, int]) -> int | None:
        """Return where RESTORE_TABLES reads a device's or an event's entry, where that is known."""
        if not self.vm.ram.complete:
            return None
        state = self.vm.state
        if component == "devices" and isinstance(key, int):
            return tables.device_gpa(state, key)
        if component == "events" and isinstance(key, tuple) and key[0] in state.by_id:
            return state.by_id[key[0]].itt + ENTRY_BYTES * key[1]
        return None

    def lpi(self, intid: int) -> dict[str, Any] | None:
        """Return one LPI as `state` tells it, or None where none lives for certain."""
        return kvm_shown.lpi(self, intid)

    def components(self) -> dict[str, Any]:
        """Return every component that a reset is judged by, by name."""
        return dict(self.registers()) | self.structures() | self.redistributors()

    def redistributors(self) -> dict[str, Any]:
        """Return the components of every redistributor by name."""
        return {
            f"{name}[{cpu}]": value
            for cpu in range(len(self._ids))
            for name, value in self.redistributor(cpu).items()
        }

    def redistributor(self, cpu: int) -> dict[str, int | None]:
        """Return the LPI registers of a vCPU by name; None for one that is not wholly known."""
        vm = self.vm
        return {
            name: None
            if unknown_of(vm.state, f"{name}[{cpu}]")
            else vm.gicr_read(0, cpu, offset, 8 if offset else 4)[0]
            for name, offset in _GICR.items()
        }

    def state(self) -> dict[str, Any]:
        """Return the state as JSON has it, digest included."""
        shown = self.shown()
        return shown | {"digest": kvm_shown.digest_of(self)}

    def shown(self) -> dict[str, Any]:
        """Return the state as JSON has it, without the digest, which costs more than all the rest."""
        return kvm_shown.shown(self)


def _place_of(event: Event) -> tuple[str, int, int] | None:
    """Return a register access as (name, where it begins in bits, its bits there), or None."""
    if event[0] != _GICD_READ:
        return register_place(event)
    name = _GICD.get(event[2])
    return None if name is None else (name, 0, 0xFFFF_FFFF)


# -- one function an input kind; `f` are the event's fields by name


def _written(model: KvmModel, origin: int, errno: int) -> None:
    """A VMM's write is an attribute, which answers; a guest's store is not."""
    if origin:
        model.result(errno)


def _reg_write(model: KvmModel, f: dict[str, Any]) -> None:
    origin = min(f["origin"], 1)
    _written(model, origin, model.vm.reg_write(origin, f["offset"], f["size"], f["value"]))


def _msi(model: KvmModel, f: dict[str, Any]) -> None:
    model.effects.append((effects.MSI_RESULT, model.vm.signal_msi(f["device_id"], f["event_id"])))


def _gicr_write(model: KvmModel, f: dict[str, Any]) -> None:
    origin = min(f["origin"], 1)
    cpu = model._cpu(f["cpu"])
    _written(model, origin, model.vm.gicr_write(origin, cpu, f["offset"], f["size"], f["value"]))


def _gicd_write(model: KvmModel, f: dict[str, Any]) -> None:
    origin = min(f["origin"], 1)
    _written(model, origin, model.vm.gicd_write(origin, f["offset"], f["size"], f["value"]))


def _mem_write(model: KvmModel, f: dict[str, Any]) -> None:
    model.vm.ram.store_bytes(f["gpa"], f["data"])


def _ram(model: KvmModel, f: dict[str, Any]) -> None:
    change = model.vm.ram.add_slot if f["present"] else model.vm.ram.remove_slot
    change(f["gpa"], f["size"])


def _save(model: KvmModel, f: dict[str, Any]) -> None:
    model.result(model.vm.ctrl(CTRL_SAVE_TABLES))


def _save_pending(model: KvmModel, f: dict[str, Any]) -> None:
    model.result(model.vm.save_pending())


def _init(model: KvmModel, f: dict[str, Any]) -> None:
    model.result(model.vm.ctrl(CTRL_INIT))


def _restore(model: KvmModel, f: dict[str, Any]) -> None:
    # Of tables that were not shown nobody knows what is mapped now.
    model.unsure()
    model.result(model.vm.ctrl(CTRL_RESTORE_TABLES))


def _attr_set(model: KvmModel, f: dict[str, Any]) -> None:
    if f["device"] == 0 and f["group"] == 4:
        model.result(model.vm.ctrl(f["attr"]))
    elif f["device"] == 0 and (f["group"], f["attr"]) == _ADDR:
        model.result(_place(model, f["value"]))
    elif f["device"] == 1:
        if f["group"] == _NR_IRQS and f["value"]:
            learn(model.vm.state, "GICD_TYPER", (f["value"] >> 5) - 1, GICD_TYPER_LINES)
        model.as_shown("learned")  # the GIC's own checks are not modelled


def _place(model: KvmModel, base: int | None) -> int:
    """Set the address of the ITS (`vgic_its_set_attr`), once; returns 0 or -errno."""
    if model.placed:
        return EEXIST
    if base is not None and base % _ALIGN_BYTES:
        return EINVAL
    model.placed = True
    return 0


def _reset(model: KvmModel, f: dict[str, Any]) -> None:
    how = f["how"]
    if how == ev.POWER_ON:
        model._set_up(model.profile, model._ids, model.vm.ram)
    elif how == ev.REGISTER_FALLBACK:
        # QEMU's arm_gicv3_its_kvm.c writes CTLR, CBASER and BASER0-7, in this order.
        for offset in _SYSTEM_REGISTERS:
            model.vm.reg_write(1, offset, 8, 0)
    elif how != ev.REINIT:
        model.result(model.vm.ctrl(CTRL_RESET))


_APPLY: Final[dict[int, Callable[[KvmModel, dict[str, Any]], None]]] = {
    NUMBER["reg.write"]: _reg_write,
    NUMBER["msi"]: _msi,
    NUMBER["gicr.write"]: _gicr_write,
    NUMBER["gicd.write"]: _gicd_write,
    NUMBER["init"]: _init,
    NUMBER["attr.set"]: _attr_set,
    NUMBER["mem.write"]: _mem_write,
    NUMBER["ram"]: _ram,
    NUMBER["reset"]: _reset,
    NUMBER["save"]: _save,
    NUMBER["save_pending"]: _save_pending,
    NUMBER["restore"]: _restore,
}
