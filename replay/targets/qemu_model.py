"""The model of QEMU's ITS as a target: input events become its calls, outputs its witness.

Counterpart: `replay.engine`, which hands over one input with the outputs that name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from replay.model import effects
from replay.model.memory import GuestRam
from replay.model.qemu import invariants, joined, pending, reset, view
from replay.model.qemu.vm import QemuVm
from replay.model.touched import Touched, TouchedSince
from replay.profiles import Profile
from replay.protocols import Apply, Read
from replay.targets import qemu_events, qemu_shown
from replay.targets.common import (
    Answer,
    NothingListed,
    canonical,
    digest,
    gicr_answer,
    learn,
    mem_answer,
    register_place,
)
from replay.targets.qemu_mapped import Mapped, mapped
from replay.targets.witness import OutputWitness
from tracer.events import NUMBER, Event, fields_of
from tracer.log.header import RUNNING, Header

_READS: Final = (NUMBER["reg.read"], NUMBER["gicr.read"])
_LPI_ACK: Final = NUMBER["lpi.ack"]
# Outputs that this model can express; others are not judged.
EXPRESSES: Final = frozenset(
    (effects.COMMAND, effects.TABLE_READ, effects.TABLE_WRITE, effects.TABLE_FAULT)
)


class QemuModel(NothingListed):
    """A QEMU VM that events can be applied to."""

    expresses = EXPRESSES

    def __init__(
        self,
        header: Header,
        profile: Profile,
        *,
        reset_steps: tuple[reset.Step, ...] = reset.STEPS,
    ) -> None:
        complete = header.guest_ram == "complete"
        slots = None if header.ram_ranges is None else tuple((b, s) for b, s in header.ram_ranges)
        self.name = profile.name
        self.profile = profile
        self.joined = header.starts == RUNNING
        self._cpus = header.cpus or 1
        self.vm = QemuVm(
            profile.choices,
            cpus=self._cpus,
            ram=GuestRam(slots, complete=complete),
            gicr_known=complete,
            reset_steps=reset_steps,
            joined=self.joined,
        )
        self._watch()

    def _watch(self) -> None:
        self.bound = self.vm.bound  # effect index -> `learned` or `assumed: why`, of the last input
        self._witness = OutputWitness(())
        self.vm.witness = self._witness
        # Carries out an input, with the outputs that name it; `bound` then says what was not known.
        self.apply: Apply = partial(qemu_events.apply, self.vm, self._witness)
        # Returns what a reg.read should have given; None for a bad access.
        self.read: Read = partial(qemu_events.read, self.vm)
        self.asks: Mapping[int, Callable[[Event], Answer | None]] = {
            NUMBER["gicr.read"]: lambda event: gicr_answer(self.vm, event),
            NUMBER["mem.read"]: lambda event: mem_answer(self.vm.ram, event),
            _LPI_ACK: self._acknowledged,
        }

    def fresh(self) -> QemuModel:
        """Return a device that was never used, in a VM whose RAM is a copy of this one's."""
        other = QemuModel.__new__(QemuModel)
        other.name, other.profile, other._cpus = self.name, self.profile, self._cpus
        other.joined = False
        ram = GuestRam(self.vm.ram.slots, complete=self.vm.ram.complete)
        ram.restore(self.vm.ram.snapshot())
        other.vm = QemuVm(
            self.profile.choices, cpus=self._cpus, ram=ram, gicr_known=self.vm.gicr_known
        )
        other._watch()
        return other

    def handed_over(self) -> QemuModel:
        """Return a copy of this VM: an ITS that keeps its mappings in RAM holds none itself."""
        other = self.fresh()
        other.vm.restore(self.vm.snapshot())
        return other

    # -- inputs

    def unsure(self, *, registers: bool = False) -> None:
        """Events were lost: nothing that was known of guest RAM is certain any more."""
        self.vm.hand_over()

    # -- outputs that are asked for

    def errno(self) -> int:
        """QEMU's registers know no errno."""
        return 0

    def learn(self, event: Event) -> None:
        """Take over what was read of a redistributor or of guest RAM, or what a CPU took."""
        place = register_place(event) if self.vm.unknown and event[0] in _READS else None
        if event[0] == _LPI_ACK:
            self.vm.acknowledge(event[4], event[3])
        elif place:
            name, shift, mask = place
            joined.show(self.vm, name, mask, fields_of(event)["value"] << shift)
        else:
            learn(self.vm, event)

    def _acknowledged(self, event: Event) -> Answer:
        """A CPU takes only what is pending there; that much is certain if it is known not to be."""
        expected = pending.word(self.vm, event[4], event[3])
        return Answer("pending", expected, pending.SET, certain=expected == pending.CLEAR)

    def hidden(self, event: Event) -> int:
        """Return the bits of what a register's read gave that nothing had shown or set before."""
        place = register_place(event) if self.vm.unknown and event[0] in _READS else None
        if not place:
            return 0
        name, shift, mask = place
        return (self.vm.unknown.of(name) & mask) >> shift

    def violations(self) -> list[str]:
        """Return the names of invariants that do not hold."""
        return list(invariants.violations(self.vm))

    def structures(self) -> dict[str, Any]:
        """QEMU keeps no mapping outside guest RAM."""
        return {}

    def value(self, component: str, key: Any) -> Any:
        """Return what `structures` has for one key; None for nothing."""
        return self.structures().get(component, {}).get(key)

    def touched_since(self) -> TouchedSince:
        """Return who tells from now on which words of guest RAM were stored."""
        if self.vm.ram.stored is None:
            self.vm.ram.stored = Touched()
        return self.vm.ram.stored.reader()

    def mapped(self) -> dict[str, Any]:
        """Return the mappings that guest RAM holds, by component and key."""
        return mapped(self.vm)

    def mapped_lists(self) -> Mapped:
        """Return these as lists that somebody can follow."""
        return Mapped(self.vm, self.touched_since)

    def left_in_ram(
        self, before: Mapping[str, Any], pages: list[tuple[int, int]]
    ) -> dict[str, int]:
        """Return component -> valid entries in these (address, bytes) of the tables of before."""
        return view.left_in_ram(self.vm, before, pages)

    # -- state

    def components(self) -> dict[str, Any]:
        """Return every component that a reset is judged by, by name."""
        vm = self.vm
        found: dict[str, Any] = dict(view.registers(vm)) | self.mapped()
        if vm.unknown:
            found = view.known(vm, found)
        return found | self.redistributors()

    def redistributors(self) -> dict[str, Any]:
        """Return the components of every redistributor by name."""
        vm, found = self.vm, dict[str, Any]()
        for cpu, registers in enumerate(vm.cpus):
            found[f"GICR_CTLR[{cpu}]"] = registers.ctlr
            found[f"GICR_PROPBASER[{cpu}]"] = registers.propbaser
            found[f"GICR_PENDBASER[{cpu}]"] = registers.pendbaser
            if vm.profile.virtual:
                found[f"GICR_VPROPBASER[{cpu}]"] = registers.vpropbaser
                found[f"GICR_VPENDBASER[{cpu}]"] = registers.vpendbaser
                found[f"best vLPI[{cpu}]"] = registers.best_priority
        return view.known(vm, found) if vm.unknown else found

    def registers(self) -> dict[str, int | None]:
        """Return the ITS registers by name; None for one that is not wholly known."""
        return view.registers(self.vm)

    def state(self) -> dict[str, Any]:
        """Return the state as JSON has it, digest included."""
        shown = self.shown()
        return shown | {"digest": self._digest(shown)}

    def shown(self) -> dict[str, Any]:
        """Return the state as JSON has it, without the digest, which costs more than all the rest."""
        return qemu_shown.shown(self.vm)

    def _digest(self, shown: dict[str, Any]) -> str:
        """BLAKE2b over sorted msgpack of what is told, what is hidden, and all known RAM."""
        vm = self.vm
        words = [(hex(key), word) for key, word in sorted(vm.ram.words.items())]
        if vm.ram.complete:
            words = [item for item in words if item[1]]
        whole = [canonical(shown), canonical(view.hidden(vm)), words]
        return digest(whole)
