"""Looking at every register while nothing runs: conversations with a QEMU about its resets.

A reset that the guest asks for is over, and the guest runs again, before anybody can stop it. So
QEMU is told (set-action) to pause where it would reset; the recorder then resets it, reads, and
lets it go on. Facts: QMP `set-action`, `system_reset`, and the human monitor's `xp`, which reads a
register as one access of the size it is asked for, seen in the trace as any other. The counterparts
are `qemu_live`, which holds these conversations, and `qemu_guard`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

from tracer.errors import SourceError, UsageError
from tracer.its.registers import Baser, Level1
from tracer.sources.kvm_debugfs import Row, live_lpis
from tracer.sources.qemu_machine import Machine
from tracer.sources.qemu_vmstate import StateFile, Value, registers
from tracer.sources.qmp import RESETS, Ask, Call, Step, Talk, monitor

# name -> (offset, bytes) of what there is to read of an ITS, and of each redistributor
ITS_REGISTERS: Final = {
    "GITS_CTLR": (0x0, 4),
    "GITS_IIDR": (0x4, 4),
    "GITS_TYPER": (0x8, 8),
    "GITS_CBASER": (0x80, 8),
    "GITS_CWRITER": (0x88, 8),
    "GITS_CREADR": (0x90, 8),
    **{f"GITS_BASER{n}": (0x100 + 8 * n, 8) for n in range(8)},
    "GITS_PIDR2": (0xFFE8, 4),
}
GICR_REGISTERS: Final = {
    "GICR_CTLR": (0x0, 4),
    "GICR_PROPBASER": (0x70, 8),
    "GICR_PENDBASER": (0x78, 8),
}
_GICV4_REGISTERS: Final = {"GICR_VPROPBASER": (0x2_0070, 8), "GICR_VPENDBASER": (0x2_0078, 8)}
_FRAME_BYTES: Final = {False: 0x2_0000, True: 0x4_0000}  # of a redistributor, by GICv4

ARMED: Final = Ask("set-action", {"reboot": "shutdown", "shutdown": "pause"})
DISARMED: Final = Ask("set-action", {"reboot": "reset", "shutdown": "poweroff"})
_LET_RESET: Final = Ask("set-action", {"reboot": "reset"})
_OWN: Final = ("action", "no-reboot", "no-shutdown")
_ENDS_ANYWAY: Final = ("host-qmp-quit", "host-signal")
_RESET_SECONDS: Final = 10.0  # between asking for a reset and its end

PAGE_BYTES: Final = 4096
MAX_DUMPED_PAGES: Final = 1024  # a page takes a millisecond
TABLES: Final = "tables"
NAMES: Final = frozenset((*ITS_REGISTERS, *GICR_REGISTERS, *_GICV4_REGISTERS, TABLES))
_WORD: Final = re.compile(r"(0x[0-9a-f]{1,16})")
_PAGE_SIZES: Final = (0x1000, 0x4000, 0x10000, 0x10000)


class Read(NamedTuple):
    """One register: of the ITS, or of a CPU's redistributor."""

    name: str
    cpu: int | None
    offset: int
    size: int  # bytes
    gpa: int


class Page(NamedTuple):
    """A page of guest RAM; `baser` names the level-1 table that it is part of."""

    gpa: int
    baser: int | None


class Log(Protocol):
    """Who writes down what is found; calls come at their place among the log's lines."""

    def probe(self, edge: int, *, perturbing: bool, lists: int = 0) -> None:
        """Our own looking begins (edge 0) or ends (1) here; `lists` says what was listed whole."""

    def asks(self, cpu: int | None, offset: int, size: int) -> None:
        """The next read of this register, of the ITS or of a CPU's redistributor, is ours."""

    def found(self, cpu: int | None, offset: int, size: int, value: int) -> None:
        """A register as it was found without a read that the log shows."""

    def live(self, row: Row) -> None:
        """A live LPI as the kernel lists it."""

    def memory(self, gpa: int, data: bytes) -> None:
        """Guest RAM as it was found."""

    def note(self, text: str) -> None:
        """Anything else."""


class Holder(Protocol):
    """Who lets a VM go that we held when we were killed: `qemu_guard.Guard`."""

    def hold(self) -> None:
        """The VM stands still because of us."""

    def free(self) -> None:
        """It does not any longer."""


def check_command(command: Sequence[str]) -> None:
    """Refuse a command line that says itself what a reset or a power-off does."""
    for word in command:
        if word.startswith("-") and word.lstrip("-") in _OWN:
            raise UsageError(
                f"{word} cannot be given with --probe-resets, which pauses QEMU at each reset"
            )


def check_names(names: Iterable[str]) -> None:
    """Refuse to leave out what is not read at all; UsageError lists what is."""
    for name in names:
        if name not in NAMES:
            raise UsageError(f"{name!r:.40} is not probed; these are: {', '.join(sorted(NAMES))}")


class Prober:
    """The conversations about one VM; `skip` names what is left out.

    Registers of an ITS that is in the kernel are no memory of QEMU's: it is told to save the state
    of its devices into `state`, which it does with the VM stopped, and to the kernel a stop is to
    save the tables.
    """

    def __init__(
        self,
        machine: Machine,
        log: Callable[[], Log | None],
        skip: frozenset[str],
        holder: Holder,
        state: StateFile,
    ) -> None:
        self._machine = machine
        self._state = state
        self._log = log
        self._skip = skip
        self._holder = holder
        self._armed = False

    def power_on(self, *, go: bool) -> Talk:
        """Look at a VM that has not run yet, and have it pause at its resets."""
        yield from self._look(perturbing=True)
        yield from self.arm()
        if go:
            yield Ask("cont")
        self._holder.free()

    def running(self, before: Talk) -> Talk:
        """Look at a VM that goes on meanwhile; `before` is held when the look has begun."""
        yield from self._look(perturbing=False, before=before)

    def arm(self) -> Talk:
        """Have the VM pause where it would reset or end."""
        self._armed = True
        yield ARMED

    def disarm(self) -> Talk:
        """Have the VM reset and end by itself again."""
        self._armed = False
        yield DISARMED

    def shut_down(self, reason: str) -> Talk:
        """What an armed VM has paused for: a reset, which is carried out, or its end."""
        if reason not in RESETS:
            if reason not in _ENDS_ANYWAY:
                yield Ask("quit")
            return
        self._holder.hold()
        yield Ask("query-status")  # it is answered when the VM stands still
        yield from self._reset()
        yield Ask("cont")
        self._holder.free()

    def on_request(self, done: Callable[[], None]) -> Talk:
        """Stop a VM, reset it and look, and let it go on if it ran; then say that it is done."""
        status = yield Ask("query-status")
        ran = isinstance(status, dict) and status.get("running") is True
        self._holder.hold()
        yield Ask("stop")
        yield from self._reset()
        if ran:
            yield Ask("cont")
        self._holder.free()
        done()

    def _reset(self) -> Talk:
        """Look, reset, and look again."""
        basers = yield from self._look(perturbing=True)
        if self._armed:
            yield _LET_RESET
        yield Ask("system_reset", until="RESET", seconds=_RESET_SECONDS)
        yield from self._look(perturbing=True, tables=basers)
        if self._armed:
            yield ARMED

    def _look(
        self, *, perturbing: bool, tables: Sequence[int] = (), before: Talk | None = None
    ) -> Generator[Step, Any, list[int]]:
        """Read every register, then the tables of these BASERs; return the BASERs that were read."""
        perturbing = perturbing or self._machine.kvm is True
        yield self._call(lambda log: log.probe(0, perturbing=perturbing))
        if before:
            yield from before
        basers = yield from self._saved() if self._machine.kvm else self._read()
        if TABLES not in self._skip:
            yield from self._dump(tables)
        lists = 0
        if self._machine.kvm and (rows := live_lpis(self._machine.pid)) is not None:
            lists = 1
            for row in rows:
                yield self._call(partial(_live, row))
        yield self._call(lambda log: log.probe(1, perturbing=perturbing, lists=lists))
        return basers

    def _read(self) -> Generator[Step, Any, list[int]]:
        """Read registers one by one; QEMU's log shows what came back."""
        basers = []
        for read in self._registers():
            yield self._call(partial(_asks, read))
            answer = yield monitor(f"xp/1{'g' if read.size == 8 else 'w'}x {read.gpa:#x}")
            if read.name.startswith("GITS_BASER"):
                basers += words(answer)
        return basers

    def _saved(self) -> Generator[Step, Any, list[int]]:
        """Have QEMU save the state of all devices, and take the registers from there."""
        name = self._state.name
        if (yield Ask("xen-save-devices-state", {"filename": name, "live": False})) is None:
            yield self._call(lambda log: log.note("QEMU could not save the state of its devices"))
            return []
        try:
            values = registers(self._state.read(), self._machine.cpus or 0)
        except SourceError as error:
            text = str(error)
            yield self._call(lambda log: log.note(text))
            return []
        for value in values:
            if value.name not in self._skip:
                yield self._call(partial(_found, value))
        return [value.value for value in values if value.name.startswith("GITS_BASER")]

    def _registers(self) -> Iterator[Read]:
        """Yield what is read, in its order."""
        base = self._machine.its_base
        for name, (offset, size) in ITS_REGISTERS.items() if base is not None else ():
            if name not in self._skip:
                yield Read(name, None, offset, size, (base or 0) + offset)
        registers = GICR_REGISTERS | (_GICV4_REGISTERS if self._machine.is_gicv4 else {})
        for cpu, frame in enumerate(self._frames()):
            for name, (offset, size) in registers.items():
                if name not in self._skip:
                    yield Read(name, cpu, offset, size, frame + offset)

    def _frames(self) -> Iterator[int]:
        frame_bytes = _FRAME_BYTES[self._machine.is_gicv4]
        left = self._machine.cpus or 0
        for base, size in self._machine.gicr_regions:
            here = min(left, size // frame_bytes)
            left -= here
            for n in range(here):
                yield base + n * frame_bytes

    def _dump(self, basers: Sequence[int]) -> Generator[Step, Any, None]:
        """Read the tables that valid BASERs name, as far as they are in RAM."""
        seen: set[int] = set()
        missing = False
        wanted = chain.from_iterable(map(pages, basers))
        for _level in range(2):
            level2: list[Iterator[Page]] = []
            for page in wanted:
                if page.gpa in seen:
                    continue
                if len(seen) >= MAX_DUMPED_PAGES:
                    missing = True
                    break
                seen.add(page.gpa)
                if not self._machine.in_ram(page.gpa, PAGE_BYTES):
                    missing = True
                    continue
                found = yield from self._page(page.gpa)
                if page.baser is not None and len(level2) < MAX_DUMPED_PAGES:
                    level2 += (level2_pages(page.baser, entry) for entry in found if entry)
            wanted = chain.from_iterable(level2)
        if missing:
            text = f"of the old tables {len(seen)} pages were looked at; not all, or not all in RAM"
            yield self._call(lambda log: log.note(text))

    def _page(self, gpa: int) -> Generator[Step, Any, list[int]]:
        """Read one page; return its doublewords."""
        found = words((yield monitor(f"xp/{PAGE_BYTES // 8}gx {gpa:#x}")))
        if len(found) == PAGE_BYTES // 8:
            data = b"".join(word.to_bytes(8, "little") for word in found)
            yield self._call(lambda log: log.memory(gpa, data))
        return found

    def _call(self, function: Callable[[Log], None]) -> Call:
        def call() -> None:
            log = self._log()
            if log is not None:
                function(log)

        return Call(call)


def _asks(read: Read, log: Log) -> None:
    log.asks(read.cpu, read.offset, read.size)


def _found(value: Value, log: Log) -> None:
    registers = ITS_REGISTERS if value.cpu is None else GICR_REGISTERS
    log.found(value.cpu, *registers[value.name], value.value)


def _live(row: Row, log: Log) -> None:
    log.live(row)


def words(answer: Any) -> list[int]:
    """Return the numbers of an answer to `xp`."""
    if not isinstance(answer, str):
        return []
    lines = [line.partition(":")[2] for line in answer.splitlines()]
    return [int(word, 16) for line in lines for word in _WORD.findall(line)]


def pages(baser: int) -> Iterator[Page]:
    """Yield the pages of the table, or level-1 table, that a valid BASER names."""
    if not Baser.valid.get(baser):
        return
    page_bytes = _PAGE_SIZES[Baser.page_size.get(baser)]
    start = Baser.physical_address.get(baser)
    if page_bytes == _PAGE_SIZES[-1]:
        high, low = Baser.physical_address_high_64k, Baser.physical_address_low_64k
        start = low.get(baser) | high.get(baser)
    level1 = baser if Baser.indirect.get(baser) else None
    for at in range(0, (Baser.size.get(baser) + 1) * page_bytes, PAGE_BYTES):
        yield Page(start + at, level1)


def level2_pages(baser: int, entry: int) -> Iterator[Page]:
    """Yield the pages of the level-2 table that a valid level-1 entry of a BASER's names."""
    if Level1.valid.get(entry):
        start = Level1.physical_address.get(entry)
        for at in range(0, _PAGE_SIZES[Baser.page_size.get(baser)], PAGE_BYTES):
            yield Page(start + at, None)
