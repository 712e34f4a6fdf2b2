"""What holds of a QEMU VM after every event; each one that does not is named.

QEMU keeps every mapping in guest RAM, where a guest may write what it likes, so there is less to
hold than in KVM: the pointers stay in their ring, and what is read-only keeps its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tracer.its.registers import Baser, Ctlr

if TYPE_CHECKING:
    from replay.model.qemu.vm import QemuVm

_FIXED = Baser.table_type.mask | Baser.entry_size.mask


def violations(vm: QemuVm) -> Iterator[str]:
    """Yield the name of each invariant that does not hold."""
    its = vm.its
    if its.ctlr & ~(Ctlr.enabled.mask | Ctlr.quiescent.mask):
        yield "ctlr_has_two_bits"
    for index, (value, fresh) in enumerate(zip(its.baser, vm.profile.baser_reset, strict=True)):
        if (value ^ fresh) & _FIXED:
            yield f"baser{index}_keeps_its_type"
    for desc in (its.dt, its.ct, its.vpet):
        if desc.entries > 1 << 16:
            yield "table_within_identifiers"
    if its.queue.entries > 1 << 15:
        yield "queue_within_1_mib"
    if any(word >> 32 for word in vm.ram.words.values()):
        yield "words_have_32_bits"
