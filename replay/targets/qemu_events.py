"""What each event is to a QEMU VM: inputs are calls of it, reads of registers are answered by it.

Counterpart: `replay.targets.qemu_model`, the target that this is a part of; apart from it, as it runs
for every event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from replay.model import effects
from replay.model.qemu import joined
from replay.model.qemu.registers import READ, WRITE
from replay.model.qemu.vm import QemuVm
from replay.targets.common import register_place
from replay.targets.witness import OutputWitness
from tracer.events import NUMBER, Event

_READ_8: Final = READ[8]
_WRITE_8: Final = WRITE[8]


def apply(
    vm: QemuVm, witness: OutputWitness, event: Event, outputs: Sequence[Event]
) -> list[effects.Effect]:
    """Carry out an input, given the outputs that name it; return its effects."""
    done = vm.effects
    done.clear()
    if vm.bound:
        vm.bound.clear()
    witness.outputs = outputs
    handler = _APPLY.get(event[0])
    if vm.unknown.bits:
        joined.prepare(vm)
        handler = _APPLY_UNKNOWN.get(event[0], handler)
    if handler is not None:
        handler(vm, event)
    return done


def read(vm: QemuVm, event: Event) -> int | None:
    """Return what reg.read `event` should have given; None for a bad access."""
    try:
        readers = READ[event[4]] if len(event) > 4 else _READ_8
        return readers[event[2]](vm)
    except KeyError:
        return None


# -- one function an input kind


def _reg_write(vm: QemuVm, event: Event) -> None:
    try:
        writers = WRITE[event[4]] if len(event) > 4 else _WRITE_8
        writer = writers[event[2]]
    except KeyError:
        return  # the device calls it bad
    writer(vm, event[3])


def _msi(vm: QemuVm, event: Event) -> None:
    vm.msi(event[2], event[3])


def _gicr_write(vm: QemuVm, event: Event) -> None:
    vm.gicr_write(event[2], event[3], event[4], event[5] if len(event) > 5 else 8)


def _reg_write_unknown(vm: QemuVm, event: Event) -> None:
    joined.reg_write(vm, event[2], event[3], event[4] if len(event) > 4 else 8)


def _gicr_write_unknown(vm: QemuVm, event: Event) -> None:
    _gicr_write(vm, event)
    place = register_place(event)
    if place:
        vm.unknown.know(place[0], place[2])


def _mem_write(vm: QemuVm, event: Event) -> None:
    vm.mem_write(event[2], event[3])


def _ram(vm: QemuVm, event: Event) -> None:
    if event[4] if len(event) > 4 else 1:
        vm.ram.add_slot(event[2], event[3])
    else:
        vm.ram.remove_slot(event[2], event[3])


def _reset(vm: QemuVm, event: Event) -> None:
    vm.reset()


_APPLY: Final[dict[int, Callable[[QemuVm, Event], None]]] = {
    NUMBER["reg.write"]: _reg_write,
    NUMBER["msi"]: _msi,
    NUMBER["gicr.write"]: _gicr_write,
    NUMBER["mem.write"]: _mem_write,
    NUMBER["ram"]: _ram,
    NUMBER["reset"]: _reset,
}
# The same while something is unknown of registers.
_APPLY_UNKNOWN: Final = {
    NUMBER["reg.write"]: _reg_write_unknown,
    NUMBER["gicr.write"]: _gicr_write_unknown,
}
