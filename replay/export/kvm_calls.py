"""One event as calls of C: what `selftest/` has a function for, and what it is called in words.

An input becomes calls; an output becomes an expression that gives the answer anew. Counterparts:
`replay.targets.kvm`, which carries the same events out through a program of ours, and `kvm_c`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from replay.export.places import Places
from replay.export.words import command, doublewords, fields, gicd_place, place
from replay.targets.kvm import DOORBELL, GICR_BYTES
from tracer import events as ev
from tracer.events import Event, fields_of, kind_name
from tracer.its.commands import COMMAND_SIZE_BYTES
from tracer.its.registers import gicr_register, its_register

MAX_TABLE_BYTES: Final = 1 << 18  # of RAM contents that do not repeat
_CTRL_GROUP: Final = 4
_OF_MAKING: Final = (0, 3)
_SHORT: Final = 8
_SIZES: Final = (1, 2, 4, _SHORT)
_LIMITS: Final = (("offset", 1 << 32), ("cpu", 1 << 16), ("group", 1 << 32))
_U32: Final = (1 << 32) - 1
_DATA: Final = {  # kinds whose name says all
    "save": ("vm->its", "KVM_DEV_ARM_ITS_SAVE_TABLES", "SAVE_TABLES"),
    "restore": ("vm->its", "KVM_DEV_ARM_ITS_RESTORE_TABLES", "RESTORE_TABLES"),
    "save_pending": ("vm->gic", "KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES", "SAVE_PENDING_TABLES"),
    "init": ("vm->its", "KVM_DEV_ARM_VGIC_CTRL_INIT", "CTRL_INIT"),
}


def possible(f: dict[str, Any]) -> bool:
    """Return whether an access has a size that a vCPU makes, and an offset that a register has."""
    return (
        f.get("size", _SHORT) in _SIZES or "present" in f  # of a memory slot it is bytes
    ) and all(f.get(name, 0) < limit for name, limit in _LIMITS)


class Call(NamedTuple):
    """What is done: in words, as statements, and as an expression of what it answers."""

    words: str
    statements: list[str]
    answer: str | None = None  # an expression: errno, or what KVM_SIGNAL_MSI returns
    comment: str = ""  # what the statements do not tell by themselves


class Calls:
    """Turns events into calls; follows the queue, and gathers tables of RAM contents."""

    def __init__(self, events: Sequence[Event], its_base: int) -> None:
        self.tables: list[str] = []
        self.table_bytes = 0
        self.places = Places(events)
        self._its_base = its_base

    def of(self, seq: int, event: Event) -> Call | None:
        """Return what carries an input out; None for what a VMM of ours cannot do."""
        make = _INPUTS.get(kind_name(event[0]))
        f = fields_of(event)
        return make(self, seq, f) if make and possible(f) else None

    def knows(self, event: Event) -> bool:
        """Return whether an event is of a kind that is carried out."""
        return kind_name(event[0]) in _INPUTS

    # -- inputs

    def _reg_write(self, seq: int, f: dict[str, Any]) -> Call:
        where, value = place(its_register, f["offset"]), f["value"]
        told = fields(f["offset"], value)
        if f["origin"] == ev.GUEST:
            text = f"guest_write(vm, 0, ITS_BASE + {where}, {f['size']}, {value:#x});"
            return Call(where, [text], comment=told)
        call = f"its_write(vm, {where}, {value:#x})"
        return Call(where, [call + ";"], call, told)

    def _gicr_write(self, seq: int, f: dict[str, Any]) -> Call:
        cpu, value, size = f["cpu"], f["value"], f["size"]
        where = place(gicr_register, f["offset"])
        words = f"{where} of vCPU {cpu}"
        if f["origin"] == ev.GUEST:
            frame = f"GICR_BASE + {cpu * GICR_BYTES:#x} + {where}"
            return Call(words, [f"guest_write(vm, 0, {frame}, {size}, {value:#x});"])
        function = "gicr_write64" if size == _SHORT else "gicr_write"
        value &= _U32 if size != _SHORT else ~0
        call = f"{function}(vm, {cpu}, {where}, {value:#x})"
        return Call(words, [call + ";"], call)

    def _gicd_write(self, seq: int, f: dict[str, Any]) -> Call:
        where, value = gicd_place(f["offset"]), f["value"]
        if f["origin"] == ev.GUEST:
            text = f"guest_write(vm, 0, GICD_BASE + {where}, {f['size']}, {value:#x});"
            return Call(where, [text])
        call = f"gicd_write(vm, {where}, {value & _U32:#x})"
        return Call(where, [call + ";"], call)

    def _mem_write(self, seq: int, f: dict[str, Any]) -> Call:
        gpa, data = f["gpa"], f["data"]
        if self.places.in_queue(gpa, len(data)):
            return _queued(gpa, data)
        told = self.places.at(gpa)
        comment = "" if told.startswith("guest RAM") else told
        return Call(told, self.stores(f"ram_{seq}", gpa, data), comment=comment)

    def stores(self, name: str, gpa: int, data: bytes) -> list[str]:
        """Return the statements that put bytes into guest RAM."""
        if not data:
            return []
        if len(data) == _SHORT:
            return [f"ram_write64(vm, {gpa:#x}, {int.from_bytes(data, 'little'):#x});"]
        if len(data) == data.count(data[0]):
            return [f"ram_fill(vm, {gpa:#x}, {data[0]:#x}, {len(data):#x});"]
        self.table(name, data)
        return [f"ram_write(vm, {gpa:#x}, {name}, sizeof({name}));"]

    def table(self, name: str, data: bytes) -> None:
        """Add a table of bytes."""
        self.table_bytes += len(data)
        rows = [data[at : at + 12] for at in range(0, len(data), 12)]
        lines = ["\t" + " ".join(f"{byte:#04x}," for byte in row) for row in rows]
        self.tables.append("\n".join([f"static const uint8_t {name}[] = {{", *lines, "};"]))

    def _ram(self, seq: int, f: dict[str, Any]) -> Call:
        if f["present"]:
            return Call("a memory slot", [f"add_ram(vm, {f['gpa']:#x}, {f['size']:#x});"])
        return Call("a memory slot goes", [f"remove_ram(vm, {f['gpa']:#x});"])

    def _msi(self, seq: int, f: dict[str, Any]) -> Call:
        device_id, event_id = f["device_id"] & _U32, f["event_id"] & _U32
        ids = f"{device_id:#x}, {event_id:#x}"
        words = f"MSI DeviceID={device_id:#x} EventID={event_id:#x}"
        distance = (f["doorbell"] or self._its_base + DOORBELL) - self._its_base
        call = f"signal_msi(vm, {ids})"
        if distance != DOORBELL and 0 <= distance < 2 * GICR_BYTES:
            call = f"signal_msi_at(vm, ITS_BASE + {distance:#x}, {ids})"
        return Call(words, [call + ";"], call, words)

    def _control(self, seq: int, f: dict[str, Any], kind: str) -> Call:
        device, attribute, words = _DATA[kind]
        call = f"control({device}, {attribute})"
        return Call(words, [call + ";"], call)

    def _reset(self, seq: int, f: dict[str, Any]) -> Call:
        if f["how"] == ev.POWER_ON:
            return Call("switched off and on", ["power_on(vm);"])
        if f["how"] == ev.REGISTER_FALLBACK:
            return Call("a reset by writes to registers", ["reset_by_registers(vm);"])
        if f["how"] in (ev.CTRL_RESET, ev.SYSTEM):
            call = "control(vm->its, KVM_DEV_ARM_ITS_CTRL_RESET)"
            return Call("CTRL_RESET", [call + ";"], call)
        return Call("a reset of the guest's own making", [])

    def _attr_set(self, seq: int, f: dict[str, Any]) -> Call:
        device, group, attribute, value = f["device"], f["group"], f["attr"], f["value"]
        if group in _OF_MAKING or (group, attribute) == (_CTRL_GROUP, 0):
            return Call("set as the VM is made", [])
        fd = "vm->gic" if device == ev.DEVICES.index("gic") else "vm->its"
        words = f"{ev.DEVICES[device]} attribute: group {group}, {attribute:#x}"
        if value is None or group == _CTRL_GROUP:
            call = f"control({fd}, {attribute:#x})"
        else:
            bits = 32 if group in (1, 5) else 64
            shown = value & (1 << bits) - 1
            call = f"set_attr{bits}({fd}, {group}, {attribute:#x}, {shown:#x})"
        return Call(words, [call + ";"], call)


def read(f: dict[str, Any], kind: str) -> tuple[str, str, int]:
    """Return the words, the expression and the bits of a read register."""
    size, guest = f["size"], f["origin"] == ev.GUEST
    if kind == "reg.read":
        where = words = place(its_register, f["offset"])
        frame, own = "ITS_BASE", f"its_read(vm, {where})"
    elif kind == "gicr.read":
        cpu, where = f["cpu"], place(gicr_register, f["offset"])
        words, frame = f"{where} of vCPU {cpu}", f"GICR_BASE + {cpu * GICR_BYTES:#x}"
        own = f"gicr_read{'64' if size == _SHORT else ''}(vm, {cpu}, {where})"
    else:
        where = words = gicd_place(f["offset"])
        frame, own = "GICD_BASE", f"gicd_read(vm, {where})"
    expression = f"guest_read(vm, 0, {frame} + {where}, {size})" if guest else own
    return words, expression, (1 << 8 * size) - 1


def _queued(gpa: int, data: bytes) -> Call:
    words, statements = [], []
    for at in range(0, len(data), COMMAND_SIZE_BYTES):
        raw = data[at : at + COMMAND_SIZE_BYTES]
        dws = doublewords(raw)
        words.append(command(dws))
        values = ", ".join(f"{dw:#x}" for dw in dws)
        statements.append(f"queue(vm, {gpa + at:#x}, {values});")
    return Call("; ".join(words), statements, comment="; ".join(words))


def _named(kind: str) -> Callable[[Calls, int, dict[str, Any]], Call]:
    return lambda calls, seq, f: calls._control(seq, f, kind)


_INPUTS: Final[dict[str, Callable[[Calls, int, dict[str, Any]], Call]]] = {
    "reg.write": Calls._reg_write,
    "gicr.write": Calls._gicr_write,
    "gicd.write": Calls._gicd_write,
    "mem.write": Calls._mem_write,
    "ram": Calls._ram,
    "msi": Calls._msi,
    "reset": Calls._reset,
    "attr.set": Calls._attr_set,
    **{kind: _named(kind) for kind in _DATA},
}
