"""Reset as QEMU performs it, step by step, each step named after the component it clears.

gicv3_its_common_reset zeroes the registers, gicv3_its_reset then sets what is not zero, and
arm_gicv3_common_reset does the redistributors. Neither the descriptors that were derived on
enabling nor anything in guest RAM is touched. It is a table so that a step can be left out: that
is how the verifier is seen failing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

Step = tuple[str, Callable[["QemuVm"], None]]


def _ctlr(vm: QemuVm) -> None:
    vm.its.ctlr = vm.profile.ctlr_reset


def _cbaser(vm: QemuVm) -> None:
    vm.its.cbaser = 0


def _cwriter(vm: QemuVm) -> None:
    vm.its.cwriter = 0


def _creadr(vm: QemuVm) -> None:
    vm.its.creadr = 0


def _baser(index: int) -> Callable[[QemuVm], None]:
    def step(vm: QemuVm) -> None:
        vm.its.baser[index] = vm.profile.baser_reset[index]

    return step


def _gicr(attr: str) -> Callable[[QemuVm], None]:
    def step(vm: QemuVm) -> None:
        value = {"ctlr": vm.profile.gicr_ctlr_reset, "best_priority": 0xFF}.get(attr, 0)
        for cpu in vm.cpus:
            setattr(cpu, attr, value)

    return step


STEPS: Final[tuple[Step, ...]] = (
    ("GITS_CTLR", _ctlr),
    ("GITS_CBASER", _cbaser),
    ("GITS_CWRITER", _cwriter),
    ("GITS_CREADR", _creadr),
    *((f"GITS_BASER{index}", _baser(index)) for index in range(8)),
    ("GICR_CTLR", _gicr("ctlr")),
    ("GICR_PROPBASER", _gicr("propbaser")),
    ("GICR_PENDBASER", _gicr("pendbaser")),
    ("GICR_VPROPBASER", _gicr("vpropbaser")),
    ("GICR_VPENDBASER", _gicr("vpendbaser")),
    ("best vLPI", _gicr("best_priority")),
)


def run(vm: QemuVm, steps: tuple[Step, ...]) -> None:
    """Carry out `steps` in order."""
    for _, step in steps:
        step(vm)
