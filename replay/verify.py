"""Was a reset a reset? Each one's components, compared with a fresh device, with the evidence.

Check 1 compares the state that the model rebuilt after the reset with a fresh device. Check 2
compares what was observed after it, as long as no input has overwritten what an observation shows.
`verified` rests on observations of the second kind only; `stale` rests on an observation that
shows something of the past; what only the model says is `suspected`. Words: docs/verdicts.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from replay.contracts import NOT_FREED, clause_for
from replay.engine import LISTS_ITS, LISTS_LPIS, Engine, lists, overlaps
from replay.evidence import MAX_OBSERVATIONS, OUTLIVED, SHOWN_BY, Evidence, placed, width
from replay.kept_lists import KeptLists, Lists
from replay.model import effects
from replay.model.effects import Effect
from replay.reinit import TABLES, HandOver, Registers, Reinit
from replay.round_trips import RoundTrips
from replay.verdict import Component, Observation, ResetVerdict
from replay.verifiable import Verifiable
from replay.vmm_reset import Pause, origin_of
from replay.writers import Key, Writers
from tracer import events as ev
from tracer.events import NUMBER, RESET_KINDS, Event
from tracer.its.registers import gicr_register, its_register
from tracer.log.header import IN_PROCESS
from tracer.log.opening import AnyReader

_RESET: Final = NUMBER["reset"]
_REG_WRITE: Final = NUMBER["reg.write"]
_REG_READ: Final = NUMBER["reg.read"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_GICR_READ: Final = NUMBER["gicr.read"]
_MEM_READ: Final = NUMBER["mem.read"]
_PROBE: Final = NUMBER["probe"]
_CONTEXT: Final = NUMBER["context"]
_MSI: Final = NUMBER["msi"]
_RESTORE: Final = NUMBER["restore"]
_SAVE: Final = NUMBER["save"]
_LPI_LIVE: Final = NUMBER["lpi.live"]
_ITS_LIVE: Final = NUMBER["its.live"]
_SHARED: Final = "GICR_PROPBASER"
# Outputs that can show the model what lists hold; nobody is known to have written that.
_TEACHES: Final = (_LPI_LIVE, _ITS_LIVE, NUMBER["lpi.ack"])
# Inputs that no list outside guest RAM and no register can change by: most of a trace's inputs.
_LEAVES_LISTS: Final = frozenset((NUMBER["mem.write"], NUMBER["vcpu"], _CONTEXT))
_LOSSES: Final = (NUMBER["loss"], NUMBER["source.gap"])
# What there is after commands ran, and in no new device.
_OF_COMMANDS: Final = ("GITS_CREADR", "devices", "collections")
MAX_DUMPED: Final = 4096  # stretches of guest RAM that a verdict looks into
MAX_VERDICTS: Final = 1000  # of them and of resets: a guest makes hand-overs as it likes


class Verifier:
    """Watches a replay and gathers a verdict for every reset and every round trip.

    Where the model's reset leaves a list that a fresh device does not have, a fresh device runs
    beside it from there on, given the same inputs: an output of the trace that differs from what
    that one answers shows something of the past.
    """

    def __init__(
        self,
        model: Verifiable,
        *,
        strict: bool = False,
        under_test: bool = False,
        writers: Writers | None = None,
    ) -> None:
        """`under_test`: a device that is to be as the model's, of whose inside nothing follows.

        `writers` notes more than who wrote last, for whoever wants to know more.
        """
        self.model = model
        self.strict = strict
        self._under_test = under_test
        self.resets: list[ResetVerdict] = []
        self.writers = writers or Writers()
        self._before: Mapping[str, Any] = {}
        self._left: Mapping[str, Any] | None = None  # as the last write left them, if still so
        self._evidence = Evidence()  # of the last reset
        self._lists = KeptLists(model)
        self._planted: Mapping[Key, int] = {}  # who wrote which key, as of the last reset
        self._reference: Verifiable | None = None
        self._past: Lists = {}  # as the ITS was disabled
        self._gone: dict[str, set[Any]] = {}  # component -> keys that the last reset removed
        self._overlap = False  # whether what comes now has no order with another thread's
        self._perturbing = False  # whether a probe that stopped the VM reads now
        self._tables_before: Mapping[str, Any] = {}  # what the last reset made unreachable
        self._dumped: list[tuple[int, int]] = []  # guest RAM that was read since
        self._hand_over = HandOver()
        self._learned = False  # whether an output may have shown what no input wrote
        self._read_back: dict[str, list[Observation]] = {}  # while the ITS is disabled
        self._listed = 0  # which of its two lists has a row, in the listing that is being read
        self._pause = Pause()
        self._trips = RoundTrips(self.writers)
        self.round_trips = self._trips.found
        self._joined = model.joined

    @property
    def lists(self) -> dict[str, Any]:
        """What the device keeps outside guest RAM now, by component and key."""
        return self._lists.now

    def planted_by(self, component: str, key: Any = None) -> int | None:
        """Return the last event that wrote a register, or this key of a list."""
        return self.writers.seq_of(component, key)

    # -- the engine's watcher

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """What the model holds was there before the trace begins: nobody saw who wrote it."""
        self._lists.begin()
        self._overlap = overlap
        self._joined = True
        found = self.model.components()
        self._hand_over.used = any(found.get(name) for name in _OF_COMMANDS)

    def before_input(self, seq: int, event: Event) -> None:
        """Note the state that the input will change."""
        if self._learned and event[0] not in _LEAVES_LISTS:
            self._lists.look()
            self._learned = False
        by = origin_of(event)
        if by == ev.GUEST:
            self._pause.ran()
        if event[0] == _RESET:
            self._before = self.model.components()
        elif event[0] == _GICR_WRITE and by == ev.VMM:
            self._before = self.model.redistributors()
        elif event[0] in (_REG_WRITE, _GICR_WRITE):
            self._before = self._left or self.model.registers()
        elif event[0] == _CONTEXT:
            self._overlap = overlaps(event)

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Open a verdict at a reset; elsewhere note what was written."""
        self._witness(seq, event, done, outputs)
        if event[0] in _LEAVES_LISTS:
            return
        self._left = None
        if done:
            self._used(done)
        before = self._lists.copied() if event[0] in (_RESET, _SAVE) else self.lists
        changes = self._lists.look()
        self._trips.after_input(seq, event, done, outputs, (before, self.lists))
        changed = self.writers.changed(seq, changes, self.lists) if changes else []
        if done and self.lists:
            self.writers.ran(seq, done, self.lists)
        if event[0] == _GICR_WRITE and self._redistributor_reset(event):
            return
        for name in changed:  # what it shows is no longer the reset's
            self._evidence.overwritten(name)
        if event[0] == _RESET:
            self._reset(seq, event)
        elif event[0] == _RESTORE:
            self._hand_over.cancel(used=True)
            self._gone.clear()  # what a restore brings back is there again
        elif event[0] == _REG_WRITE:
            self._written(seq, event)
        elif event[0] == _GICR_WRITE:
            self._redistributor_written(seq, event)

    def _used(self, done: list[Effect]) -> None:
        """Commands that ran, by whomever, are no part of a reset: the ITS is in use again."""
        if not self._hand_over.used:
            self._hand_over.ran(done)
        if any(each[0] == effects.COMMAND for each in done):
            self._pause.ran()

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """Take a register read as evidence."""
        if origin_of(event) == ev.GUEST:
            self._pause.ran()
        self._left = None
        self._learned = self._learned or event[0] in _TEACHES
        if event[0] == _LPI_LIVE:
            self._listed |= LISTS_LPIS
            self._live_row(seq, event)
        elif event[0] == _ITS_LIVE:
            self._listed |= LISTS_ITS
            self._mapping_row(seq, event)
        elif event[0] == _REG_READ:
            self._observe(seq, its_register(event[2]), "", event[2], event[3:], expected)
        elif event[0] == _GICR_READ:
            at = f"[{event[2]}]"
            self._observe(seq, gicr_register(event[3]), at, event[3], event[4:], expected)
        elif event[0] == _MEM_READ and len(self._dumped) < MAX_DUMPED:
            self._dumped.append((event[3], len(event[4])))

    # -- resets

    def _reset(self, seq: int, event: Event) -> None:
        how = RESET_KINDS[event[2]]
        device = self.model.fresh()
        fresh, replayed = device.components(), self.model.components()
        kept = any(fresh.get(name) != item for name, item in self.lists.items())
        self._reference = device if kept or self.model.may_stray else None
        self._planted = self.writers.as_of_now()
        components = [
            self._component(how, name, fresh[name], replayed[name], self._before.get(name))
            for name in fresh
        ]
        unit = "its" if event[2] == ev.CTRL_RESET else "lpi"
        if unit == "its":
            components = [each for each in components if _is_its(each.name)]
        self._hand_over.cancel(used=False)
        self._open_verdict(
            ResetVerdict(seq, how, unit, components, strict=self.strict, joined=self._joined),
            self._before,
        )
        self._tables_before = self._before
        if unit == "its":
            self._pause.reset = True
            self._extend(replayed)

    def _component(self, how: str, name: str, fresh: Any, replayed: Any, before: Any) -> Component:
        clause = clause_for(self.model.profile, how, name)
        writer = self.writers.of_register(name)
        return Component(name, fresh, replayed, before, width(name), clause, writer)

    def _redistributor_reset(self, event: Event) -> bool:
        """Return whether a write of a redistributor's register is a piece of a system reset."""
        found = gicr_register(event[3])
        if not found or origin_of(event) != ev.VMM:
            return False
        register, row, start = found
        name = f"{register}[{event[2]}]"
        fresh = self._fresh_redistributors.get(name)
        clause = clause_for(self.model.profile, RESET_KINDS[ev.CTRL_RESET], name)
        if fresh is None or clause is None:
            return False
        value, mask = placed(event[4], event[3] - start, event[5], row.size_bytes)
        as_reset = not (value ^ fresh) & mask & clause.mask
        if not self._pause.wrote(name, self._before.get(name), as_reset=as_reset):
            return False
        self._extend(self.model.components())
        return True

    @cached_property
    def _fresh_redistributors(self) -> dict[str, Any]:
        return self.model.fresh().redistributors()

    def _extend(self, now: dict[str, Any]) -> None:
        """Make the redistributors' registers that a VMM reset part of the verdict, as of now."""
        verdict = self.resets[-1]
        for name, before in self._pause.before.items():
            component = self._evidence.get(name)
            if component is None:
                fresh = self._fresh_redistributors[name]
                component = self._component(verdict.how, name, fresh, now[name], before)
                verdict.components.append(component)
                self._evidence.add(component)
            component.replayed = now[name]
        for component in verdict.components if self._pause.before else ():
            verdict.unit = "lpi"
            if component.name in self.lists:
                component.replayed = now[component.name]
            if component.name == "lpis" and component.wrong:
                component.forget()  # it was listed before the last of the writes

    def _redistributor_written(self, seq: int, event: Event) -> None:
        found = gicr_register(event[3])
        if not found:
            return
        after = self.model.redistributors()
        name = f"{found[0]}[{event[2]}]"
        self._touch(seq, name, after.get(name))
        if found[0] == _SHARED:  # by all CPUs, on KVM
            for each in after:
                if each.startswith(f"{_SHARED}[") and self._writer_value(each) != after[each]:
                    self._touch(seq, each, after[each])

    def _writer_value(self, name: str) -> Any:
        return (self.writers.of_register(name) or (0, None))[1]

    def _open_verdict(self, verdict: ResetVerdict, past: Mapping[str, Any]) -> None:
        """From here on, what is observed is evidence of this one; `past` are lists before it."""
        self._gone = {
            name: gone
            for name in OUTLIVED
            if name in self.lists and (gone := set(past[name] or ()) - set(self.lists[name]))
        }
        self.resets.append(verdict)
        self._evidence = Evidence(verdict, infer=not self._under_test)
        self._tables_before = {}
        self._dumped.clear()

    def _handed_over(self, seq: int, event: Event, after: Registers) -> None:
        """Judge a hand-over that this write of a register ends."""
        if len(event) > 5 and event[5] == ev.VMM:
            self._hand_over.cancel(used=self._hand_over.used)
            return
        pending = self._hand_over.pending
        found = self._hand_over.written(seq, self._before, after)
        if not pending:
            self._past = self._lists.copied() if self._hand_over.pending else {}
        if not self._hand_over.pending:
            read_back, self._read_back = self._read_back, {}
            if found and len(self.resets) < MAX_VERDICTS:
                self._reinit(seq, found, read_back)

    def _reinit(self, seq: int, found: Reinit, read_back: dict[str, list[Observation]]) -> None:
        """A hand-over: its lists are compared with none, in this VM as it is."""
        device = self.model.handed_over()
        if device is None:
            return
        fresh, replayed = self.model.fresh().components(), self.model.components()
        fresh |= {name: item for name, item in device.components().items() if _is_its(name)}
        profile = self.model.profile
        components = [
            Component(
                name, fresh[name], replayed[name], None, width(name),
                clause_for(profile, "reinit", name, found.of(name)), None,
            )
            for name in fresh
            if fresh[name] is not None and (not name.startswith("GITS_") or name in TABLES)
        ]  # fmt: skip
        self._planted = self.writers.as_of_now()
        left = [each for each in components if each.name in self.lists and each.replayed_differs()]
        self._reference = device if left else None
        for each in left:
            each.writer = self._first_writer(each)
            each.reason = None if each.clause else NOT_FREED
        self._open_verdict(
            ResetVerdict(
                seq, "reinit", "its", components,
                strict=self.strict, joined=self._joined, since=found.since,
            ),
            self._past,
        )  # fmt: skip
        for name, observations in read_back.items():
            for seen in observations:
                self._evidence.see(name, seen, None)

    def _first_writer(self, component: Component) -> tuple[int, Any] | None:
        """Return who wrote the oldest key of a list that is still there."""
        keys = component.replayed if isinstance(component.replayed, dict) else ()
        seqs = [self._planted.get((component.name, key)) for key in keys]
        known = [seq for seq in seqs if seq is not None]
        return (min(known), None) if known else None

    # -- lists that are kept outside guest RAM

    def _witness(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Take the outputs of an input as evidence of lists."""
        if self._reference is not None and event[0] != _RESET:
            self._beside(seq, event, outputs)
        elif event[0] == _MSI and self._gone and not self._overlap:
            self._outlives(seq, event, done, outputs)

    def _beside(self, seq: int, event: Event, outputs: Sequence[Event]) -> None:
        """Give the fresh device the same input; what the trace has otherwise is of the past."""
        assert self._reference is not None
        answers = list(self._reference.apply(event, outputs))
        if self._overlap:
            return
        for kind, name in SHOWN_BY.items():
            seen = [output[3:] for output in outputs if output[0] == kind]
            want = [answer[1:] for answer in answers if answer[0] == kind]
            if seen and seen != want and self._evidence.get(name):
                key = (event[2], event[3]) if event[0] == _MSI else None
                self._list_is_stale(name, seq, key)

    def _outlives(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """An MSI that is delivered by what the reset removed, and nothing made anew since."""
        pair = (event[2], event[3])
        for name, keys in self._gone.items():
            kind, values = OUTLIVED[name]
            seen = any(each[0] == kind and each[3 : 3 + len(values)] == values for each in outputs)
            if (
                pair in keys
                and seen
                and (kind, *values) not in (each[: 1 + len(values)] for each in done)
            ):
                self._list_is_stale(name, seq, pair)

    def _list_is_stale(self, name: str, seq: int, key: Any = None) -> None:
        planted = self._planted.get((name, key))
        self._evidence.stale(name, seq, planted, perturbing=self._perturbing)

    def _live_row(self, seq: int, event: Event) -> None:
        """A row of debugfs: a fresh device would not have it, or not so."""
        if self._reference is None or self._overlap or not self._evidence.get("lpis"):
            return
        rows = self._reference.live_rows() or []
        row = next((each for each in rows if each[0] == event[3]), None)
        if row != event[3:] and not self._reference.may_differ(row, event[3:]):
            self._list_is_stale("lpis", seq, event[3])

    def _mapping_row(self, seq: int, event: Event) -> None:
        """A row of debugfs: while nothing was mapped since, a fresh device would not have it."""
        if self._evidence.is_open("events") and not self._overlap:
            self._list_is_stale("events", seq, (event[3], event[4]))

    def note(self, seq: int, event: Event) -> None:
        """After a loss nothing is evidence for what went before; a probe may perturb."""
        if event[0] == _PROBE:
            self._probe(seq, event)
        elif event[0] in _LOSSES:
            self._evidence = Evidence()
            self._pause.ran()  # perhaps: what follows cannot be told to be of the last reset
            self._left = None
            self._gone.clear()
            self.writers.lost()
            self._hand_over.cancel(used=self._hand_over.used)
            if self.resets:
                self.resets[-1].lossy = True

    def _probe(self, seq: int, event: Event) -> None:
        """Our own look begins, or ends."""
        begins = event[2] == 0
        perturbing = self._perturbing
        self._perturbing = begins and len(event) > 3 and event[3] != 0
        if begins:
            self._listed = 0
            return
        if not self._overlap and self.model.live_rows() is not None:
            empty = lists(event) & ~self._listed
            if empty & LISTS_LPIS:
                self._evidence.empty("lpis", seq, perturbing=perturbing)
            # Traces from before there was anything to list of an ITS have 3 and mean the LPIs.
            if empty & LISTS_ITS and not lists(event) & LISTS_LPIS:
                self._evidence.empty("events", seq, perturbing=perturbing)
        if self._dumped and self._tables_before:
            found = self.model.left_in_ram(self._tables_before, self._dumped)
            self.resets[-1].left_in_ram = {name: count for name, count in found.items() if count}

    # -- writes

    def _written(self, seq: int, event: Event) -> None:
        """Note which registers a write changed, or set anew to what they held."""
        self._left = after = self.model.registers()
        for name, value in after.items():
            if self._before.get(name) != value:
                self._touch(seq, name, value)
        found = its_register(event[2])
        if found and not (len(event) > 6 and event[6]):
            name, row, start = found
            size = event[4] if len(event) > 4 else 8
            wanted, mask = placed(event[3], event[2] - start, size, row.size_bytes)
            self._read_back.pop(name, None)
            now = after.get(name)
            if now is not None and not (now ^ wanted) & mask & ~row.read_only:
                self._touch(seq, name, now)
            else:
                # Written without effect (a register that is read-only now or here): what it shows
                # from here on is still the reset's, but no longer only the reset's.
                self._evidence.overwritten(name)
        self._handed_over(seq, event, after)

    def _touch(self, seq: int, name: str, value: int | None) -> None:
        self.writers.wrote(seq, name, value)
        self._evidence.overwritten(name)

    # -- observations

    def _observe(
        self,
        seq: int,
        found: tuple[str, Any, int] | None,
        suffix: str,
        offset: int,
        value_and_size: tuple[int, ...],
        expected: int | None,
    ) -> None:
        if found is None or expected is None:
            return
        name, row, start = found
        size = value_and_size[1] if len(value_and_size) > 1 else 8
        value, mask = placed(value_and_size[0], offset - start, size, row.size_bytes)
        seen = Observation(seq, value, mask)
        if self._hand_over.pending and name in TABLES:
            self._read_back.setdefault(name, [])[MAX_OBSERVATIONS - 1 :] = [seen]
        want, _ = placed(expected, offset - start, size, row.size_bytes)
        self._evidence.see(name + suffix, seen, want, perturbing=self._perturbing)


def _is_its(name: str) -> bool:
    return not name.startswith("GICR_")


def verify(
    reader: AnyReader, model: Verifiable, *, strict: bool = False
) -> tuple[Verifier, Engine]:
    """Replay a trace and return its verdicts."""
    verifier = Verifier(model, strict=strict, under_test=reader.header.source == IN_PROCESS)
    engine = Engine(reader, model, verifier)
    engine.run()
    return verifier, engine
