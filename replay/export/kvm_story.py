"""The steps of a trace as C functions: the life, what is asked of it, and what must come back.

Counterparts: `kvm_calls`, one event as calls, and `kvm_c`, which puts the file together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from replay.export.c_text import call as statement, comment, lines_of_text, string
from replay.export.kvm_calls import Call, Calls, possible, read
from replay.export.kvm_masks import mask_of
from replay.export.plot import Plot
from replay.export.words import command, doublewords
from replay.targets.ahead import Group, Grouper
from replay.targets.handover import HandOver, Store
from replay.targets.kvm import DEFAULT_RAM
from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of, kind_name
from tracer.its.commands import COMMAND_SIZE_BYTES
from tracer.log.header import Header

_MAX_STEPS: Final = 200  # of one C function
_READS: Final = ("reg.read", "gicr.read", "gicd.read")
_PROBE, _MEM_READ, _LPI_LIVE = NUMBER["probe"], NUMBER["mem.read"], NUMBER["lpi.live"]
_ASKED: Final = frozenset((*(NUMBER[each] for each in _READS), _MEM_READ, _PROBE))
# In RAM that is only observed, LPIs have another configuration, and vCPUs that ran took some.
_OF_WHOLE_RAM: Final = (_PROBE, _MEM_READ)
# Inputs whose answer is asked about; of others a C file only notes that they failed.
_COMPARED: Final = frozenset(
    NUMBER[each] for each in ("msi", "save", "save_pending", "restore", "reset")
)
_RESULTS: Final = {NUMBER["attr.result"]: "errno", NUMBER["msi.result"]: "result"}
# What no VMM sees, so that no test can ask about it.
_INSIDE: Final = frozenset(
    NUMBER[each]
    for each in (
        "command", "command.done", "lpi", "lpi.ack", "table.read", "table.write", "table.fault",
        "xlat.hit", "xlat.miss", "its.live", "vcpu",
    )
)  # fmt: skip
_FLAGS: Final = 7  # of a live LPI
_U64: Final = (1 << 64) - 1
_SMALL: Final = 1 << 16  # a result that people read in decimal


@dataclass(slots=True)
class Told:
    """What was told, and what was not."""

    tests: int = 0  # that the plan counts
    answers: int = 0  # that two VMs are told apart by
    left_out: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)


class Story:
    """C functions while they are written."""

    def __init__(self, header: Header, plot: Plot, calls: Calls) -> None:
        self.header = header
        self.plot = plot
        self.calls = calls
        self.functions: list[str] = []
        self.told = Told()
        ranges = header.ram_ranges or DEFAULT_RAM
        observed = header.guest_ram != "complete"
        self._hand_over = HandOver(max(base + size for base, size in ranges)) if observed else None
        self._fresh = True

    # -- functions

    def life(self, name: str, title: str, events: Iterable[tuple[int, Event]]) -> None:
        """Add a function of inputs that nothing is asked about."""
        groups = [each for each in self._groups(events) if each.event[0] < ev.FIRST_OUTPUT]
        self._function(name, title, [self._step(group)[0] for group in groups])

    def recorded(self, name: str, title: str, events: Iterable[tuple[int, Event]]) -> None:
        """Add a function whose answers must be those of the trace."""
        self._function(name, title, [self._expect(group) for group in self._groups(events)])

    def asked(self, name: str, title: str, events: Iterable[tuple[int, Event]]) -> None:
        """Add a function whose answers must be those of another VM."""
        self._function(name, title, [self._answer(group) for group in self._groups(events)])

    def must_work(self, name: str, title: str, events: Iterable[tuple[int, Event]]) -> None:
        """Add a function whose attributes must not fail."""
        groups = [each for each in self._groups(events) if each.event[0] < ev.FIRST_OUTPUT]
        self._function(name, title, [self._must(group) for group in groups])

    def _function(self, name: str, title: str, steps: Sequence[list[str]]) -> None:
        """Add a function of steps, in parts where it is long."""
        parts = [steps[at : at + _MAX_STEPS] for at in range(0, len(steps), _MAX_STEPS)] or [[]]
        if len(parts) == 1:
            self._add(name, title, parts[0])
            return
        names = [f"{name}_{at}" for at in range(len(parts))]
        for part, each in zip(parts, names, strict=True):
            self._add(each, "", part)
        self._add(name, title, [[f"\t{each}(vm);"] for each in names])

    def _add(self, name: str, title: str, steps: Sequence[list[str]]) -> None:
        lines = [line for step in steps for line in step]
        unused = [] if any("vm" in line for line in lines) else ["\t(void)vm;"]
        head = [*(comment(title, "") if title else []), f"static void {name}(struct vm *vm)"]
        self.functions.append("\n".join([*head, "{", *unused, *lines, "}"]))

    def _groups(self, events: Iterable[tuple[int, Event]]) -> Iterator[Group]:
        """Group inputs with their outputs, and a probe with the live LPIs that it lists."""
        grouper = Grouper(_ASKED)
        listing: Group | None = None
        for seq, event in events:
            if event[0] in _INSIDE:
                self.told.left_out[kind_name(event[0])] += 1
            if event[0] == _LPI_LIVE and listing is not None:
                listing = listing._replace(outputs=[*listing.outputs, event])
                continue
            for group in grouper.take(seq, [event]):
                if listing is not None:
                    yield listing
                    listing = None
                if group.event[0] == _PROBE:
                    listing = group
                else:
                    yield group
        if listing is not None:
            yield listing
        yield from grouper.rest()

    # -- steps

    def _step(self, group: Group) -> tuple[list[str], Call | None]:
        """Return the lines of one input, and its call; of what cannot be carried out, none."""
        lines: list[str] = []
        if self._hand_over is not None:
            stores, assumed = self._hand_over.before(group.event, group.outputs)
            lines += self._stores(group.seq, stores)
            if assumed:
                self.told.assumed[assumed] += 1
        power_on = group.event[0] == NUMBER["reset"] and group.event[2] == ev.POWER_ON
        call = None if power_on and self._fresh else self.calls.of(group.seq, group.event)
        if call is None or not call.statements:
            if call is None and self.calls.knows(group.event) and not power_on:
                self.told.left_out[f"{kind_name(group.event[0])} that nobody can do"] += 1
            return lines, None
        self._fresh = False
        said = comment(call.comment) if call.comment else []
        return [*lines, *said, *(f"\t{each}" for each in call.statements)], call

    def _stores(self, seq: int, stores: Sequence[Store]) -> list[str]:
        lines: list[str] = []
        for at, store in enumerate(stores):
            if store.data is None:
                lines += comment("a table that the guest hands over, zeroed as drivers do")
                lines.append(f"\tram_fill(vm, {store.gpa:#x}, 0, {store.size:#x});")
            elif len(store.data) == COMMAND_SIZE_BYTES:
                words = doublewords(store.data)
                lines += comment(command(words))
                lines.append(f"\tqueue(vm, {store.gpa:#x}, {', '.join(map(hex, words))});")
            else:
                lines += comment("a level-1 entry, as a driver would have it")
                name = f"ram_{seq}_{at}"
                lines += [f"\t{each}" for each in self.calls.stores(name, store.gpa, store.data)]
        return lines

    def _instead(self, lines: list[str], call: Call, instead: list[str]) -> list[str]:
        """Replace the statement of a call by one that looks at its answer."""
        self.told.tests += 1
        return [*lines[: -len(call.statements)], *instead]

    def _must(self, group: Group) -> list[str]:
        lines, call = self._step(group)
        if call is None or call.answer is None or group.event[0] not in _COMPARED:
            return lines
        return self._instead(
            lines, call, statement("must", self._what(group, call.words), call.answer)
        )

    def _what(self, group: Group, words: str) -> str:
        """Return the name of a test."""
        where = f"event {group.seq}" if group.seq < len(self.plot.events) else "at the end"
        return string(f"{where}: {words}"[:200])

    # -- what came back must be what the trace has

    def _expect(self, group: Group) -> list[str]:
        if group.event[0] >= ev.FIRST_OUTPUT:
            return self._expect_output(group)
        lines, call = self._step(group)
        results = [each for each in group.outputs if each[0] in _RESULTS]
        if call is None or call.answer is None or not results:
            self.told.left_out.update(f"{kind_name(each[0])} (not asked)" for each in results)
            return lines
        result = fields_of(results[-1])[_RESULTS[results[-1][0]]]
        shown = str(result) if abs(result) < _SMALL else hex(result & _U64)
        what = self._what(group, call.words)
        return self._instead(lines, call, statement("expect", what, call.answer, shown))

    def _expect_output(self, group: Group) -> list[str]:
        f, kind = fields_of(group.event), kind_name(group.event[0])
        if f.get("bad") or not possible(f):
            self.told.left_out["bad access"] += 1
            return []
        if self._hand_over is not None and group.event[0] in _OF_WHOLE_RAM:
            self.told.left_out[f"{kind} (the trace does not show all of guest RAM)"] += 1
            return []
        self.told.tests += 1
        if group.event[0] == _PROBE:
            rows = lines_of_text(sorted(map(_row, group.outputs)))
            return statement("expect_lpis", "vm", self._what(group, "the live LPIs"), rows)
        if group.event[0] == _MEM_READ:
            return self._expect_ram(group, f["gpa"], f["data"])
        name, expression, mask = read(f, kind)
        what = self._what(group, name)
        shown = f"{f['value'] & mask:#x}"
        return statement("expect", what, _masked(expression, mask), shown)

    def _expect_ram(self, group: Group, gpa: int, data: bytes) -> list[str]:
        what = self._what(group, self.calls.places.at(gpa))
        if len(data) == 8:
            value = int.from_bytes(data, "little")
            return statement("expect", what, f"ram_read64(vm, {gpa:#x})", f"{value:#x}")
        name = f"ram_{group.seq}"
        self.calls.table(name, data or b"\0")
        return statement("expect_ram", "vm", what, f"{gpa:#x}", name, str(len(data)))

    # -- what came back must be what another VM answers

    def _answer(self, group: Group) -> list[str]:
        if group.event[0] >= ev.FIRST_OUTPUT:
            return self._answer_output(group)
        lines, call = self._step(group)
        if call is None or call.answer is None or group.event[0] not in _COMPARED:
            return lines
        self.told.answers += 1
        what = self._what(group, call.words)
        return self._instead(lines, call, statement("answer", "vm", what, call.answer, "ALL_BITS"))

    def _answer_output(self, group: Group) -> list[str]:
        f = fields_of(group.event)
        lines: list[str] = []
        if not possible(f):
            self.told.left_out["bad access"] += 1
            return lines
        if group.event[0] == _PROBE:
            lines = [f"\tanswer_lpis(vm, {self._what(group, 'the live LPIs')});"]
        elif group.event[0] == _MEM_READ:
            what = self._what(group, self.calls.places.at(f["gpa"]))
            lines = statement("answer_ram", "vm", what, f"{f['gpa']:#x}", str(len(f["data"])))
        else:
            name, expression, mask = read(f, kind_name(group.event[0]))
            mask &= mask_of(self.plot.question, group.event)
            if not mask:
                return [f"\t{expression};"]
            bits = "ALL_BITS" if mask == _U64 else f"{mask:#x}"
            lines = statement("answer", "vm", self._what(group, name), expression, bits)
        self.told.tests += 1
        self.told.answers += 1
        return lines


def _masked(expression: str, mask: int) -> str:
    return expression if mask == _U64 else f"{expression} & {mask:#x}"


def _row(event: Event) -> str:
    """Return a live LPI as `live_lpis` prints it."""
    f: dict[str, Any] = fields_of(event)
    flags = format(f["flags"], f"0{_FLAGS}b")
    return (
        f"LPI {f['intid']} vCPU {f['target']} PLAEHCG={flags} priority {f['priority']} "
        f"queued {f['queued']}"
    )
