"""The model of Xen's ITS as a target: input events become its calls, outputs its witness.

Counterparts: `replay.targets.qemu_model`, and `replay.engine`, which drives both. Xen shows no
table access, so that of a step only its command and the LPI that came of it can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from replay.model import effects
from replay.model.memory import GuestRam
from replay.model.xen import invariants, view
from replay.model.xen.vm import XenVm
from replay.profiles import Profile
from replay.targets.common import (
    Answer,
    NothingListed,
    canonical,
    digest,
    gicr_answer,
    learn,
    mappings,
    mem_answer,
)
from replay.targets.witness import OutputWitness
from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of
from tracer.log.header import Header

EXPRESSES: Final = frozenset((effects.COMMAND, effects.LPI))


class XenModel(NothingListed):
    """A domain with Xen's ITS that events can be applied to."""

    expresses = EXPRESSES
    joined = False

    def __init__(self, header: Header, profile: Profile) -> None:
        complete = header.guest_ram == "complete"
        slots = None if header.ram_ranges is None else [(b, s) for b, s in header.ram_ranges]
        ram = GuestRam(slots, complete=complete)
        self._set_up(profile, header.cpus or 1, ram, gicr_known=complete)

    def _set_up(self, profile: Profile, cpus: int, ram: GuestRam, *, gicr_known: bool) -> None:
        self.name = profile.name
        self.profile = profile
        self.vm = XenVm(profile.choices, cpus=cpus, ram=ram, gicr_known=gicr_known)
        self.bound = self.vm.bound  # effect index -> `assumed: why`, of the last input
        self._witness = OutputWitness(())
        self.vm.witness = self._witness
        self.asks: Mapping[int, Callable[[Event], Answer | None]] = {
            NUMBER["gicr.read"]: lambda event: gicr_answer(self.vm, event),
            NUMBER["mem.read"]: lambda event: mem_answer(self.vm.ram, event),
        }

    def fresh(self) -> XenModel:
        """Return a device that was never used, in a VM whose RAM is a copy of this one's."""
        vm = self.vm
        other = XenModel.__new__(XenModel)
        ram = GuestRam(vm.ram.slots, complete=vm.ram.complete)
        ram.restore(vm.ram.snapshot())
        other._set_up(self.profile, vm.cpus, ram, gicr_known=vm.gicr_known)
        return other

    def handed_over(self) -> XenModel | None:
        """Nobody can have one: what the toolstack gave to a domain's ITS stays with it."""
        return None

    # -- inputs

    def apply(self, event: Event, outputs: Sequence[Event]) -> list[effects.Effect]:
        """Carry out an input; return its effects. `bound` then says what was not known.

        Raises:
            HostCrash: the hypervisor dies of it.
        """
        vm = self.vm
        vm.effects.clear()
        vm.bound.clear()
        self._witness.outputs = outputs
        handler = _APPLY.get(event[0])
        if handler is not None:
            handler(vm, fields_of(event))
        return vm.effects

    def unsure(self, *, registers: bool = False) -> None:
        """Events were lost: nothing that was known of guest RAM is certain any more."""
        self.vm.hand_over()

    # -- outputs that are asked for

    def read(self, event: Event) -> int | None:
        """Return what reg.read `event` should have given; None where the guest gets a fault."""
        return self.vm.reg_read(event[2], event[4] if len(event) > 4 else 8)

    def errno(self) -> int:
        """Xen's registers know no errno."""
        return 0

    def learn(self, event: Event) -> None:
        """Take a redistributor register, or guest RAM, over from what was read of it."""
        learn(self.vm, event)

    def hidden(self, event: Event) -> int:
        """Nothing is: this model is taken to have seen the VM from its start."""
        return 0

    def left_in_ram(
        self, before: Mapping[str, Any], pages: list[tuple[int, int]]
    ) -> dict[str, int]:
        """Xen is not looked into."""
        return {}

    def violations(self) -> list[str]:
        """Return the names of invariants that do not hold."""
        return list(invariants.violations(self.vm))

    # -- state

    def registers(self) -> dict[str, int]:
        """Return the ITS registers by name."""
        return view.registers(self.vm)

    def structures(self) -> dict[str, Any]:
        """Return what is kept outside guest RAM: host devices and live LPIs."""
        return {"host_devices": view.host_devices(self.vm), "lpis": view.lpis(self.vm)}

    def value(self, component: str, key: Any) -> Any:
        """Return what `structures` has for one key; None for nothing."""
        return self.structures().get(component, {}).get(key)

    def touched_since(self) -> None:
        """Nobody tells which keys changed."""
        return

    def mapped(self) -> dict[str, Any]:
        """Return the mappings that guest RAM holds, by component and key."""
        devices = view.devices(self.vm)
        return mappings(devices, view.collections(self.vm, devices))

    def mapped_lists(self) -> None:
        """Nobody follows these."""

    def components(self) -> dict[str, Any]:
        """Return every component that a reset is judged by, by name."""
        vm = self.vm
        found: dict[str, Any] = dict(view.registers(vm)) | self.mapped()
        return found | self.structures() | self.redistributors()

    def redistributors(self) -> dict[str, Any]:
        """Return the components of every redistributor by name."""
        return {
            f"{name}[{cpu}]": self.vm.gicr_read(cpu, *place)
            for cpu in range(self.vm.cpus)
            for name, place in view.GICR.items()
        }

    def state(self) -> dict[str, Any]:
        """Return the state as JSON has it, digest included."""
        shown = self.shown()
        return shown | {"digest": self._digest(shown)}

    def shown(self) -> dict[str, Any]:
        """Return the state as JSON has it, without the digest, which costs more than all the rest."""
        vm = self.vm
        devices = view.devices(vm)
        return {
            "its": {
                "0": {
                    "registers": {name: hex(v) for name, v in view.registers(vm).items()},
                    "devices": {hex(k): _device(v) for k, v in sorted(devices.items())},
                    "collections": {
                        str(k): v for k, v in sorted(view.collections(vm, devices).items())
                    },
                    "vpes": {},
                    "translation_cache": [],
                    "host_devices": {
                        hex(k): {"events": v["events"], "lpis": _keyed(v["lpis"])}
                        for k, v in view.host_devices(vm).items()
                    },
                }
            },
            "redistributors": {
                str(cpu): {name: None if v is None else hex(v) for name, v in registers.items()}
                for cpu, registers in view.redistributors(vm).items()
            },
            "lpis": {str(intid): entry for intid, entry in view.lpis(vm).items()},
        }

    def _digest(self, shown: dict[str, Any]) -> str:
        """BLAKE2b over sorted msgpack of what is told, what is hidden, and all known RAM."""
        whole = [canonical(shown), canonical(self.vm.snapshot())]
        return digest(whole)


def _device(device: dict[str, Any]) -> dict[str, Any]:
    return device | {"itt_addr": hex(device["itt_addr"]), "events": _keyed(device["events"])}


def _keyed(items: dict[int, Any]) -> dict[str, Any]:
    return {hex(key): item for key, item in sorted(items.items())}


# -- one function an input kind; `f` are the event's fields by name


def _reg_write(vm: XenVm, f: dict[str, Any]) -> None:
    vm.reg_write(f["offset"], f["value"], f["size"])


def _msi(vm: XenVm, f: dict[str, Any]) -> None:
    vm.msi(f["device_id"], f["event_id"])


def _gicr_write(vm: XenVm, f: dict[str, Any]) -> None:
    vm.gicr_write(f["cpu"], f["offset"], f["value"], f["size"])


def _mem_write(vm: XenVm, f: dict[str, Any]) -> None:
    vm.mem_write(f["gpa"], f["data"])


def _ram(vm: XenVm, f: dict[str, Any]) -> None:
    change = vm.ram.add_slot if f["present"] else vm.ram.remove_slot
    change(f["gpa"], f["size"])


def _reset(vm: XenVm, f: dict[str, Any]) -> None:
    if f["how"] == ev.REINIT:  # a new kernel in the same domain: nothing is told to Xen
        vm.hand_over()
    else:
        vm.reset()


_APPLY: Final[dict[int, Callable[[XenVm, dict[str, Any]], None]]] = {
    NUMBER["reg.write"]: _reg_write,
    NUMBER["msi"]: _msi,
    NUMBER["gicr.write"]: _gicr_write,
    NUMBER["mem.write"]: _mem_write,
    NUMBER["ram"]: _ram,
    NUMBER["reset"]: _reset,
}
