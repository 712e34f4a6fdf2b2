"""Any QEMU binary as a target: its ITS is asked over qtest what the trace's ITS was asked.

Nothing runs in it: registers, RAM and redistributors are reached over qtest, resets are QMP's
`system_reset`, MSIs come from edu devices, and what its ITS did inside is read from its own trace
log. Where a trace does not show guest RAM, what the ITS needs of it is put there first: commands as
the trace shows them fetched, zeroed tables as a driver hands them over, level-1 entries. The
counterparts are `ahead`, which feeds it, and `qtest`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from replay.model import effects
from replay.protocols import NOT_JUDGED
from replay.targets import edu
from replay.targets.ahead import Group, Item
from replay.targets.common import Answer
from replay.targets.errors import TargetError
from replay.targets.handover import HandOver
from replay.targets.qtest import Qtest
from replay.targets.qtest_lines import ITS_BASE, QtestLines, read, stored
from replay.targets.shared_ram import SharedRam
from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.its.registers import its_register
from tracer.log.header import Header
from tracer.log.opening import open_trace
from tracer.sources.lines import LineReader
from tracer.sources.qemu_log import QemuLog

RAM_BASE: Final = 0x4000_0000
DEFAULT_RAM_MIB: Final = 4096
MAX_RAM_MIB: Final = 1 << 18
_MIB: Final = 1 << 20

_REG_WRITE, _REG_READ = NUMBER["reg.write"], NUMBER["reg.read"]
_MSI, _RESET = NUMBER["msi"], NUMBER["reset"]
_GICR_READ, _MEM_READ = NUMBER["gicr.read"], NUMBER["mem.read"]
_INSIDE: Final = frozenset(
    (effects.COMMAND, effects.TABLE_READ, effects.TABLE_WRITE, effects.TABLE_FAULT)
)
_ASKED: Final = frozenset((_REG_READ, _GICR_READ, NUMBER["gicd.read"], _MEM_READ))
_NOT_QEMUS: Final = frozenset(
    NUMBER[name] for name in ("attr.set", "save", "save_pending", "restore")
)


# name -> (offset, bytes) of what is shown of its state
_SHOWN: Final = {
    found[0]: (offset, found[1].size_bytes)
    for offset in (0x0, 0x4, 0x8, 0x80, 0x88, 0x90, *range(0x100, 0x140, 8), 0xFFE8)
    if (found := its_register(offset))
}


@dataclass(slots=True)
class Needs:
    """What a trace needs of a QEMU, found by reading it once before."""

    device_ids: set[int] = field(default_factory=set)
    inside: bool = False  # whether the trace shows commands, table entries or bad accesses

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Return what these events need."""
        needs = cls()
        for event in events:
            needs.see(event)
        return needs

    @classmethod
    def of_trace(cls, path: str) -> Self:
        """Return what a trace needs, read once for that."""
        with open_trace(path) as reader:
            return cls.of(event for _, events in reader for event in events)

    def see(self, event: Event) -> None:
        """Take an event in."""
        if event[0] == _MSI:
            self.device_ids.add(event[2])
        self.inside |= event[0] in _INSIDE or (
            event[0] in (_REG_READ, _REG_WRITE) and len(event) > 6 and event[6] != 0
        )


class _Step(NamedTuple):
    """One event: which of the batch's replies is its answer, and whether the log has an input."""

    event: Event
    reply: int | None
    logged: bool
    bound: str | None


class QemuTarget:
    """One QEMU that a trace is carried out on."""

    asked = _ASKED
    oops: Sequence[str] = ()

    def __init__(self, binary: str, header: Header, needs: Needs) -> None:
        self._virtual = bool(header.profile and header.profile.endswith("-gicv4"))
        self._cpus = header.cpus or 1
        self._needs = needs
        self._binary = binary
        self._header = header
        self.expresses = _INSIDE if needs.inside else frozenset()
        self._complete = header.guest_ram == "complete"
        self._ram = SharedRam(RAM_BASE)
        try:
            self._qtest = self._start()
        except BaseException:
            self._ram.close()
            raise
        self.name = f"qemu-{'.'.join(map(str, self._qtest.version))}"

    def _start(self) -> Qtest:
        self._fresh = True
        self._lines = QtestLines(self._cpus, virtual=self._virtual)
        mib = ram_mib(self._header)
        self._ram.clear(mib * _MIB)
        self._hand_over = None if self._complete else HandOver(RAM_BASE + mib * _MIB)
        backend = f"memory-backend-file,id=ram,size={mib}M,mem-path={self._ram.path},share=on"
        gic = "gic-version=4,virtualization=on" if self._virtual else "gic-version=3"
        machine = [
            *(
                "-object",
                backend,
                "-M",
                f"virt,{gic},its=on,memory-backend=ram",
                "-cpu",
                "cortex-a57",
                "-smp",
                str(self._cpus),
            ),
            *("-m", str(mib), *edu.options(self._needs.device_ids)),
        ]
        return Qtest(self._binary, machine, traced=self._needs.inside)

    def about(self) -> str:
        """Return its version and who built it."""
        return f"{self.name.removeprefix('qemu-')} {self._qtest.package}".strip()

    def registers(self) -> dict[str, int]:
        """Return the ITS registers by name."""
        lines = [read(ITS_BASE + offset, size)[0] for offset, size in _SHOWN.values()]
        replies = self._qtest.run(lines)
        self._qtest.log()
        return {name: self._number(reply) for name, reply in zip(_SHOWN, replies, strict=True)}

    def close(self) -> None:
        """End it."""
        self._qtest.close()
        self._ram.close()

    # -- its RAM, from outside

    def complete(self) -> None:
        """From here on every write to RAM is an event."""
        self._complete, self._hand_over = True, None

    def pages(self) -> dict[int, int]:
        """Return address -> CRC-32 of every page that is not zero."""
        return self._ram.pages()

    def load(self, gpa: int, size: int) -> bytes | None:
        """Return RAM; None where there is none."""
        return self._ram.load(gpa, size)

    def copy_ram(self, source: QemuTarget) -> None:
        """Make RAM equal to that of another QEMU."""
        self._ram.copy(source._ram)
        self._hand_over = deepcopy(source._hand_over)

    # -- carrying out

    def carry_out(self, groups: Sequence[Group]) -> list[Item]:
        """Carry out inputs and ask for outputs; one batch between any two resets."""
        items: list[Item] = []
        lines: list[str] = []
        steps: list[_Step] = []
        for _, event, outputs in groups:
            if event[0] == _RESET:
                items += self._batch(lines, steps)
                lines, steps = [], []
                self._reset(event)
            steps.append(self._plan(event, outputs, lines))
        return items + self._batch(lines, steps)

    def _plan(self, event: Event, outputs: Sequence[Event], lines: list[str]) -> _Step:
        """Add to `lines` what carries out one event."""
        kind = event[0]
        if kind in _NOT_QEMUS:
            raise TargetError(f"{self.name}: has no {ev.kind_name(kind)}: that is KVM's")
        self._fresh = self._fresh and kind not in (_REG_WRITE, _MSI, NUMBER["mem.write"])
        bound = None
        if self._hand_over is not None and kind in (_REG_WRITE, _MSI):
            before, bound = self._hand_over.before(event, outputs)
            lines += map(stored, before)
        mine = self._lines.of(event)
        if mine is None:
            return _Step(event, None, logged=False, bound=None)
        if not mine:
            return _Step(event, None, logged=False, bound=NOT_JUDGED)
        lines += mine
        reply = len(lines) - 1 if kind in _ASKED else None
        return _Step(event, reply, kind in (_REG_WRITE, _REG_READ, _MSI), bound)

    def _batch(self, lines: list[str], steps: list[_Step]) -> list[Item]:
        replies = self._qtest.run(lines) if lines else []
        inside = self._inside() if self._needs.inside else None
        return [self._item(step, replies, inside) for step in steps]

    def _item(
        self, step: _Step, replies: list[str], inside: Iterator[tuple[Event, list[Any]]] | None
    ) -> Item:
        event, kind = step.event, step.event[0]
        done: list[Any] = []
        bad = False
        if step.logged and inside is not None:
            own, done = next(inside, (event, []))
            if own[0] != kind:
                raise TargetError(f"{self.name}: its trace log does not tell what it was asked")
            bad = len(own) > 6 and own[6] != 0
        if kind == _REG_READ:
            value = None if bad or step.reply is None else self._number(replies[step.reply])
            return event, value, {}
        if kind in _ASKED:
            return event, self._answer(event, step, replies), {}
        if step.bound == NOT_JUDGED:
            return event, [], {-1: NOT_JUDGED}
        return event, done, {0: f"assumed: {step.bound}"} if step.bound and done else {}

    def _answer(self, event: Event, step: _Step, replies: list[str]) -> Answer | None:
        if step.reply is None or (event[0] == _MEM_READ and not self._complete):
            return None
        if event[0] == _MEM_READ:
            return Answer("data", self._bytes(replies[step.reply]), event[4], certain=True)
        got = event[4] if event[0] == _GICR_READ else event[3]
        return Answer("value", self._number(replies[step.reply]), got, certain=True)

    def _number(self, reply: str) -> int:
        try:
            return int(reply, 16)
        except ValueError as error:
            raise TargetError(f"{self.name}: {reply!r:.60} is no number") from error

    def _bytes(self, reply: str) -> bytes:
        try:
            return bytes.fromhex(reply.removeprefix("0x"))
        except ValueError as error:
            raise TargetError(f"{self.name}: {reply!r:.60} are no bytes") from error

    def _inside(self) -> Iterator[tuple[Event, list[Any]]]:
        """Yield each access that the log has, with what it did."""
        log = QemuLog(LineReader(io.BytesIO(self._qtest.log()), self.name))
        own: Event | None = None
        done: list[Any] = []
        for event in log.events():
            if event[0] in _INSIDE:
                done.append((event[0], *event[3:]))
            elif event[0] in (_REG_WRITE, _REG_READ, _MSI):
                if own is not None:
                    yield own, done
                own, done = event, []
        if own is not None:
            yield own, done

    def _reset(self, event: Event) -> None:
        how = event[2]
        if how == ev.POWER_ON:
            if not self._fresh:
                self._qtest.close()
                self._qtest = self._start()
        elif how == ev.SYSTEM:
            self._qtest.ask("system_reset", wait="RESET")
            self._qtest.log()
            self._lines.reset()
            if self._hand_over is not None:
                self._hand_over.reset()
        else:
            raise TargetError(f"{self.name}: has no reset of the kind {ev.RESET_KINDS[how]}")


def ram_mib(header: Header) -> int:
    """Return how much RAM the machine is to have; RAM that nothing touches costs nothing."""
    if header.ram_ranges is None:
        return DEFAULT_RAM_MIB
    ends = [base + size for base, size in header.ram_ranges if base >= RAM_BASE]
    if not ends:
        raise TargetError(f"QEMU's virt machine has its RAM from {RAM_BASE:#x} on, the trace not")
    mib = (max(ends) - RAM_BASE + _MIB - 1) // _MIB
    if mib > MAX_RAM_MIB:
        raise TargetError(
            f"the trace's VM has {mib} MiB of RAM; a target gets {MAX_RAM_MIB} at most"
        )
    return mib
