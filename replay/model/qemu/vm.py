"""One VM with QEMU's ITS: what can be done to it from outside, and how its state is told.

The parts are in their own modules (`registers`, `tables`, `commands`, `redistributor`, `reset`);
this is where they meet. Pure: no clock, no I/O, no randomness.

With observed RAM a step may need a word that no event showed. `witness` then says what the real
device saw at this very step, and what was taken from it is noted in `bound` under the index of
the effect that first needed it: `learned`, or `assumed` with the name of the assumption.
"""

from __future__ import annotations

from typing import Any, Protocol

from replay.model.effects import Effect
from replay.model.memory import GuestRam
from replay.model.qemu import redistributor, registers, reset
from replay.model.qemu.commands import translate
from replay.model.qemu.joined import unknown_of
from replay.model.qemu.pending import PendingBits, acknowledge
from replay.model.qemu.profile import QEMU_V3, QemuProfile
from replay.model.qemu.state import ItsState, Reads, Redistributor, values_of
from replay.model.qemu.tables import Fault
from replay.model.unknown import Unknown


class Witness(Protocol):
    """What was observed of the input that is being carried out; `at` counts effects."""

    def command(self, at: int, queue_offset: int) -> tuple[int, int, int, int] | None:
        """Return the command that was fetched at this step, unknown bits zero."""

    def entry(self, at: int, table: int, index: int, base: int) -> tuple[int, ...] | None:
        """Return (valid, fields...) of the entry that was read at this step."""

    def fault(self, at: int, table: int, index: int) -> bool:
        """Return whether this step was seen to meet no memory."""

    def any(self) -> bool:
        """Return whether anything was seen."""

    def commands(self) -> list[tuple[int, int, int, int, int]]:
        """Return every command that was fetched: its place in the queue and its doublewords."""

    def entries(self, table: int) -> int:
        """Return how many entries a table must have for those that were seen."""


class QemuVm:
    """State and the operations that change it; effects are appended to `effects`."""

    __slots__ = (
        "assumed_level1", "bound", "clock", "confirmed", "cpus", "effects", "gicr_known", "its",
        "pending", "profile", "ram", "reads", "reset_steps", "since", "since_itt", "unknown",
        "witness",
    )  # fmt: skip

    def __init__(
        self,
        profile: QemuProfile = QEMU_V3,
        *,
        cpus: int = 1,
        ram: GuestRam | None = None,
        gicr_known: bool = True,
        reset_steps: tuple[reset.Step, ...] = reset.STEPS,
        joined: bool = False,
    ) -> None:
        """Return a VM as it comes up, or one that is `joined` later.

        `gicr_known`: redistributor accesses are in the trace.
        """
        self.profile = profile
        self.ram = ram if ram is not None else GuestRam()
        self.reads = Reads()
        self.its = ItsState()
        self.cpus = [Redistributor() for _ in range(cpus)]
        self.gicr_known = gicr_known
        self.reset_steps = reset_steps
        self.effects: list[Effect] = []
        self.witness: Witness | None = None
        self.bound: dict[int, str] = {}
        # What is confirmed: entry address -> the tick at which it was last seen; an entry counts
        # only when that is not before its table's (or its ITT's) last change of hands.
        self.clock = 0
        self.confirmed: dict[int, int] = {}
        self.since = [0, 0, 0]  # device, collection, vPE table
        self.since_itt: dict[int, int] = {}
        self.assumed_level1: set[int] = set()
        self.pending = PendingBits()
        reset.run(self, reset.STEPS)
        self.unknown = unknown_of(profile, cpus) if joined else Unknown()

    # -- inputs

    def reg_write(self, offset: int, value: int, size: int) -> bool:
        """Carry out a write to the control frame; False when QEMU calls it bad (RAZ/WI)."""
        return registers.write(self, offset, value, size)

    def reg_read(self, offset: int, size: int) -> int | None:
        """Return what a read gives; None when QEMU calls it bad (it then gives 0)."""
        return registers.read(self, offset, size)

    def gicr_write(self, cpu: int, offset: int, value: int, size: int) -> None:
        """Carry out a write to a redistributor."""
        self.gicr_known = True
        if cpu < len(self.cpus):
            redistributor.write(self, cpu, offset, value, size)

    def gicr_read(self, cpu: int, offset: int, size: int) -> int | None:
        """Return what a read gives, or None for a register that is not modelled."""
        if cpu >= len(self.cpus):
            return None
        return redistributor.read(self.cpus[cpu], offset, size)

    def msi(self, device_id: int, event_id: int) -> None:
        """Carry out a write to GITS_TRANSLATER (gicv3_its_translation_write)."""
        if self.its.ctlr & 1:
            # A fault is a bus error for the device that wrote; no register shows it.
            try:
                translate(self, device_id, event_id)
            except Fault:
                return

    def acknowledge(self, cpu: int, intid: int) -> None:
        """A CPU read ICC_IAR1 and took an LPI."""
        acknowledge(self, cpu, intid)

    def mem_write(self, gpa: int, data: bytes) -> None:
        """Store guest RAM; what it covers is then confirmed."""
        self.ram.store_bytes(gpa, data)
        if not self.ram.complete:
            for at in range(gpa + 3 & ~3, gpa + len(data) - 3, 4):
                self.confirmed[at] = self.clock
            if self.pending.bits:
                self.pending.overwritten(gpa, len(data))

    def reset(self) -> None:
        """Reset as QEMU performs it: a system reset, or power-on."""
        reset.run(self, self.reset_steps)
        self.unknown.clear()
        self.hand_over()

    def hand_over(self) -> None:
        """Make everything that was known of guest RAM unconfirmed: the guest may rewrite it."""
        self.table_change()
        self.assumed_level1.clear()
        self.lpis_enabled()

    def lpis_enabled(self) -> None:
        """A CPU has its LPIs enabled: the guest may have rewritten pending tables before."""
        self.tick()
        self.pending.rewritten(self.clock)

    def table_change(self) -> None:
        """Make what was known of the tables unconfirmed."""
        self.tick()
        self.since = [self.clock] * 3

    def tick(self) -> None:
        """What is known of guest RAM changes."""
        self.clock += 1
        self.forget_reads()

    def forget_reads(self) -> None:
        """Table entries are to be read anew."""
        self.ram.changes += 1

    def knows_gicr(self, cpu: int) -> bool:
        """Say whether what a CPU's LPI registers hold is known."""
        if not self.gicr_known or not self.unknown.bits:
            return self.gicr_known
        names = ("GICR_CTLR", "GICR_PROPBASER", "GICR_PENDBASER")
        return not any(self.unknown.of(f"{name}[{cpu}]") for name in names)

    # -- snapshots

    def snapshot(self) -> tuple[Any, ...]:
        """Return everything that decides future answers."""
        return (
            self.its.snapshot(),
            tuple(values_of(cpu) for cpu in self.cpus),
            self.ram.snapshot(),
            self.gicr_known,
            self.clock,
            self.confirmed.copy(),
            tuple(self.since),
            self.since_itt.copy(),
            frozenset(self.assumed_level1),
            self.unknown.snapshot(),
            (self.pending.acks_seen, self.pending.since, self.pending.bits.copy()),
        )

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Return to `snapshot`."""
        (
            its, cpus, ram, self.gicr_known, self.clock, confirmed, since, since_itt, level1, unknown,
            pending,
        ) = snapshot  # fmt: skip
        self.its.restore(its)
        self.cpus = [Redistributor(*cpu) for cpu in cpus]
        self.ram.restore(ram)
        self.confirmed = confirmed.copy()
        self.since = list(since)
        self.since_itt = since_itt.copy()
        self.assumed_level1 = set(level1)
        self.unknown = Unknown(unknown)
        self.pending.acks_seen, self.pending.since, bits = pending
        self.pending.bits = bits.copy()
