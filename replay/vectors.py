"""Operation vectors carried out on a model: what it answers to each line.

The format is in tests/vectors/README.md. Counterparts: `tracer.sources.vectors`, which makes a trace
of a life, and `tests/conformance.py`, which compares whole files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from replay.model.kvm.vm import KvmVm
from replay.model.memory import GuestRam
from replay.model.qemu.vm import QemuVm
from replay.profiles import Profile

KVM_SLOTS: Final = ((0x4000_0000, 32 << 20),)
QEMU_SLOTS: Final = ((0, 128 << 20), (0x4000_0000, 64 << 20))  # flash reads as memory, too
VMM: Final = 1
DEBUGFS_ROWS: Final = 64

# Takes the fields of a line; returns the answer as the file spells it, None if there is none.
Operation = Callable[[Any, list[str]], str | None]
MASK32: Final = 0xFFFF_FFFF


# -- operations on RAM, the same for all


def _queue(vm: Any, fields: list[str]) -> None:
    gpa = int(fields[1], 16)
    store = vm.ram.store64
    for field in fields[2:6]:
        store(gpa, int(field, 16))
        gpa += 8


def _store(vm: Any, fields: list[str]) -> None:
    vm.ram.store64(int(fields[1], 16), int(fields[2], 16))


def _dump(vm: Any, fields: list[str]) -> str | None:
    rows = vm.ram.nonzero64(int(fields[1], 16), int(fields[2], 16))
    return " ".join([f"{index}:{value:x}" for index, value in rows])


# -- KVM


def _cpu(vm: KvmVm, attribute: int) -> int:
    """Return the index of the vCPU that the affinity in an attribute names, -1 for none."""
    affinity = attribute >> 32
    if affinity & 0xF0 or affinity >> 16:
        return -1
    return vm.state.index_of_id.get(affinity & 0xF | affinity >> 8 << 4, -1)


def _kvm_write(vm: Any, fields: list[str]) -> str | None:
    return str(vm.reg_write(VMM, int(fields[1], 16), 8, int(fields[2], 16)))


def _kvm_read(vm: Any, fields: list[str]) -> str | None:
    value, error = vm.reg_read(VMM, int(fields[1], 16), 8)
    return f"{value:x} {error}"


def _kvm_gicr_write(vm: Any, fields: list[str]) -> str | None:
    at = int(fields[1], 16)
    return str(vm.gicr_write(VMM, _cpu(vm, at), at & MASK32, 4, int(fields[2], 16)))


def _kvm_gicr_read(vm: Any, fields: list[str]) -> str | None:
    at = int(fields[1], 16)
    value, error = vm.gicr_read(VMM, _cpu(vm, at), at & MASK32, 4)
    return f"{value:x} {error}"


def _kvm_gicd_write(vm: Any, fields: list[str]) -> str | None:
    return str(vm.gicd_write(VMM, int(fields[1], 16), 4, int(fields[2], 16)))


def _kvm_msi(vm: Any, fields: list[str]) -> str | None:
    return str(vm.signal_msi(int(fields[1], 16), int(fields[2], 16)))


def _kvm_ctrl(vm: Any, fields: list[str]) -> str | None:
    return str(vm.ctrl(int(fields[1], 16)))


def _kvm_save_pending(vm: Any, fields: list[str]) -> str | None:
    return str(vm.save_pending())


def _kvm_live(vm: Any, fields: list[str]) -> str | None:
    rows = sorted(vm.live_lpis()[:DEBUGFS_ROWS])
    return " ".join([f"{row[0]},{row[1]},{row[2]},{row[3]},{row[4]}" for row in rows])


# -- QEMU


def _size(offset: int) -> int:
    return 4 if offset in (0, 4, 0x14) or offset >= 0xFFD0 or offset & 4 else 8


def _qemu_write(vm: Any, fields: list[str]) -> None:
    offset = int(fields[1], 16)
    size = _size(offset)
    vm.reg_write(offset, int(fields[2], 16) & (1 << 8 * size) - 1, size)


def _qemu_read(vm: Any, fields: list[str]) -> str | None:
    offset = int(fields[1], 16)
    return f"{vm.reg_read(offset, _size(offset)) or 0:x}"


def _qemu_gicr_write(vm: Any, fields: list[str]) -> None:
    at = int(fields[1], 16)
    vm.gicr_write(at >> 32, at & MASK32, int(fields[2], 16) & MASK32, 4)


def _qemu_gicr_read(vm: Any, fields: list[str]) -> str | None:
    at = int(fields[1], 16)
    return f"{vm.gicr_read(at >> 32, at & MASK32, 4) or 0:x}"


def _qemu_msi(vm: Any, fields: list[str]) -> None:
    vm.msi(int(fields[1], 16), int(fields[2], 16))


def _qemu_reset(vm: Any, fields: list[str]) -> None:
    vm.reset()


def _nothing(vm: Any, fields: list[str]) -> None:
    """An operation that this model has no part of."""


# family -> letter -> operation, and how many fields stand before the answer
OPERATIONS: Final[dict[str, dict[str, tuple[Operation, int]]]] = {
    "kvm": {
        "W": (_kvm_write, 3),
        "R": (_kvm_read, 2),
        "G": (_kvm_gicr_write, 3),
        "g": (_kvm_gicr_read, 2),
        "D": (_kvm_gicd_write, 3),
        "Q": (_queue, 6),
        "M": (_store, 3),
        "m": (_dump, 3),
        "I": (_kvm_msi, 3),
        "X": (_kvm_ctrl, 2),
        "P": (_kvm_save_pending, 1),
        "V": (_kvm_live, 1),
    },
    "qemu": {
        "W": (_qemu_write, 3),
        "R": (_qemu_read, 2),
        "G": (_qemu_gicr_write, 3),
        "g": (_qemu_gicr_read, 2),
        "D": (_nothing, 3),
        "Q": (_queue, 6),
        "M": (_store, 3),
        "m": (_dump, 3),
        "I": (_qemu_msi, 3),
        "X": (_qemu_reset, 2),
    },
}


def new_vm(profile: Profile, header: str) -> KvmVm | QemuVm:
    """Make the VM of a life's header line (`# seed N cpus C gicr X [stride S]`)."""
    words = header.split()
    cpus = int(words[words.index("cpus") + 1]) if "cpus" in words else 4
    if profile.family == "qemu":
        return QemuVm(profile.choices, cpus=cpus, ram=GuestRam(QEMU_SLOTS))
    stride = int(words[words.index("stride") + 1]) if "stride" in words else 1
    return KvmVm(profile.choices, range(0, cpus * stride, stride), GuestRam(KVM_SLOTS))
