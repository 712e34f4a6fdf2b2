"""Was a reset a reset? Each one's components, compared with a fresh device, with the evidence.

Check 1 compares the state that the model rebuilt after the reset with a fresh device. Check 2
compares what was observed after it, as long as no input has overwritten what an observation shows.
`verified` rests on observations of the second kind only; `stale` rests on an observation that
shows something of the past; what only the model says is `suspected`. Words: docs/verdicts.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from replay.contracts import ALL_BITS, clause_for
from replay.engine import Engine, Model, lists_lpis, overlaps
from replay.model import effects
from replay.model.effects import Effect
from replay.verdict import Component, Observation, ResetVerdict, RoundTrip
from tracer import events as ev
from tracer.events import NUMBER, RESET_KINDS, Event
from tracer.its.registers import gicr_register, its_register
from tracer.log.opening import AnyReader

_RESET: Final = NUMBER["reset"]
_REG_WRITE: Final = NUMBER["reg.write"]
_REG_READ: Final = NUMBER["reg.read"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_GICR_READ: Final = NUMBER["gicr.read"]
_PROBE: Final = NUMBER["probe"]
_CONTEXT: Final = NUMBER["context"]
_MSI: Final = NUMBER["msi"]
_SAVE: Final = NUMBER["save"]
_RESTORE: Final = NUMBER["restore"]
_LPI_LIVE: Final = NUMBER["lpi.live"]
# Inputs that no list outside guest RAM and no register can change by: most of a trace's inputs.
_LEAVES_LISTS: Final = frozenset((NUMBER["mem.write"], NUMBER["vcpu"], _CONTEXT))
# Kind of output -> the list that it shows something of.
_SHOWN_BY: Final = {
    effects.MSI_RESULT: "events",
    effects.LPI: "lpis",
    effects.XLAT_HIT: "translation_cache",
}
# What SAVE_TABLES writes, of which a round trip brings back what was not unmapped since.
_SAVED: Final = ("devices", "events", "collections")
_MAPD: Final = 0x08
_MAP_EVENT: Final = (0x0A, 0x0B, 0x0F)  # MAPTI, MAPI, DISCARD
_LOSSES: Final = (NUMBER["loss"], NUMBER["source.gap"])
MAX_OBSERVATIONS: Final = 16


class Verifiable(Model, Protocol):
    """What the verifier needs of a model target beyond replay."""

    @property
    def profile(self) -> Any:
        """The profile, for its family."""

    def fresh(self) -> Verifiable:
        """Return a device never used, in a VM with a copy of this RAM."""

    def components(self) -> dict[str, Any]:
        """Return every component that a reset is judged by."""

    def registers(self) -> dict[str, int]:
        """Return the ITS registers by name."""

    def structures(self) -> dict[str, Any]:
        """Return what is kept outside guest RAM, by component and key."""


class Verifier:
    """Watches a replay and gathers a verdict for every reset and every round trip.

    Where the model's reset leaves a list that a fresh device does not have, a fresh device runs
    beside it from there on, given the same inputs: an output of the trace that differs from what
    that one answers shows something of the past.
    """

    def __init__(self, model: Verifiable, *, strict: bool = False) -> None:
        self.model = model
        self.strict = strict
        self.resets: list[ResetVerdict] = []
        self._writers: dict[str, tuple[int, Any]] = {}
        self._before: dict[str, Any] = {}
        self._open: dict[str, Component] = {}  # what a reset left and nothing has overwritten
        self._current: dict[str, Component] = {}
        self._lists = model.structures()
        self._key_writers: dict[tuple[str, Any], int] = {}
        self._planted: dict[tuple[str, Any], int] = {}  # the same, as of the last reset
        self._reference: Verifiable | None = None
        self._overlap = False  # whether what comes now has no order with another thread's
        self._listed = False  # whether the listing that is being read has a row
        self.round_trips: list[RoundTrip] = []
        self._trip: RoundTrip | None = None  # the one whose events MSIs still speak of
        self._remapped: set[Any] = set()  # devices and events that commands named since
        self._saved: tuple[int, dict[str, Any]] | None = None
        self.begins = 0  # what a trace that begins later is asked to blame may lie before it

    # -- the engine's watcher

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """What the model holds was there before `seq`, the first event: nobody knows since when."""
        self._lists = self.model.structures()
        self._overlap = overlap
        self.begins = seq

    def before_input(self, seq: int, event: Event) -> None:
        """Note the state that the input will change."""
        if event[0] == _RESET:
            self._before = self.model.components()
        elif event[0] in (_REG_WRITE, _GICR_WRITE):
            self._before = dict(self.model.registers())
        elif event[0] == _CONTEXT:
            self._overlap = overlaps(event)

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Open a verdict at a reset; elsewhere note what was written."""
        if self._reference is not None and event[0] != _RESET:
            self._beside(seq, event, outputs)
        if event[0] in _LEAVES_LISTS:
            return
        before, self._lists = self._lists, self.model.structures()
        if event[0] in (_SAVE, _RESTORE, _RESET):
            self._round_trip(seq, event, done, before)
        elif self._trip is not None:
            self._witness_round_trip(self._trip, event, outputs, seq)
            self._remapped |= set(_mapped_by(done))
        if before != self._lists:
            self._lists_changed(seq, before)
        if event[0] == _RESET:
            self._reset(seq, event)
        elif event[0] == _REG_WRITE:
            self._written(seq, event)
        elif event[0] == _GICR_WRITE:
            found = gicr_register(event[3])
            if found:
                name = f"{found[0]}[{event[2]}]"
                self._touch(seq, name, self.model.components().get(name))

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """Take a register read as evidence."""
        if event[0] == _LPI_LIVE:
            self._listed = True
            self._live_row(seq, event)
        elif event[0] == _REG_READ:
            self._observe(seq, its_register(event[2]), "", event[2], event[3:], expected)
        elif event[0] == _GICR_READ:
            at = f"[{event[2]}]"
            self._observe(seq, gicr_register(event[3]), at, event[3], event[4:], expected)

    # -- resets

    def _reset(self, seq: int, event: Event) -> None:
        how = RESET_KINDS[event[2]]
        device = self.model.fresh()
        fresh, replayed = device.components(), self.model.components()
        kept = any(fresh.get(name) != item for name, item in self._lists.items())
        self._reference = device if kept else None
        self._planted = dict(self._key_writers)
        family = self.model.profile.family
        components = [
            Component(
                name, fresh[name], replayed[name], self._before.get(name),
                _width(name), clause_for(family, how, name), self._writers.get(name),
            )
            for name in fresh
        ]  # fmt: skip
        unit = "its" if event[2] == ev.CTRL_RESET else "lpi"
        if unit == "its":
            components = [each for each in components if not each.name.startswith("GICR_")]
        verdict = ResetVerdict(seq, how, unit, components, strict=self.strict, begins=self.begins)
        self.resets.append(verdict)
        self._current = {each.name: each for each in components}
        self._open = dict(self._current)

    # -- lists that are kept outside guest RAM

    def _lists_changed(self, seq: int, before: dict[str, Any]) -> None:
        """Note who wrote which key; what a list shows is no longer the reset's."""
        for name, now in self._lists.items():
            was = before.get(name, {})
            if now == was:
                continue
            self._writers[name] = (seq, None)
            self._open.pop(name, None)
            for key, value in now.items():
                if was.get(key) != value:
                    self._key_writers[name, key] = seq

    def _beside(self, seq: int, event: Event, outputs: Sequence[Event]) -> None:
        """Give the fresh device the same input; what the trace has otherwise is of the past."""
        assert self._reference is not None
        answers = list(self._reference.apply(event, outputs))
        if self._overlap:
            return
        for kind, name in _SHOWN_BY.items():
            seen = [output[3:] for output in outputs if output[0] == kind]
            want = [answer[1:] for answer in answers if answer[0] == kind]
            if seen and seen != want and name in self._current:
                key = (event[2], event[3]) if event[0] == _MSI else None
                self._list_is_stale(name, seq, key)

    def _list_is_stale(self, name: str, seq: int, key: Any = None) -> None:
        component = self._current[name]
        if component.wrong is None:
            component.wrong = Observation(seq, 0, 0)
            component.observed.append(component.wrong)
            planted = self._planted.get((name, key))
            component.writer = None if planted is None else (planted, None)

    def _live_row(self, seq: int, event: Event) -> None:
        """A row of debugfs: a fresh device would not have it, or not so."""
        component = self._current.get("lpis")
        if component is None:
            return
        wanted = self._reference.live_rows() if self._reference else self.model.live_rows()
        if event[3:] not in (wanted or []) and self._reference is not None:
            self._list_is_stale("lpis", seq, event[3])

    def _round_trip(
        self, seq: int, event: Event, done: list[Effect], before: dict[str, Any]
    ) -> None:
        errno = next((effect[1] for effect in done if effect[0] == effects.ATTR_RESULT), 0)
        if event[0] == _RESET:
            self._trip = None  # an MSI behind it says nothing of what was restored before
        if event[0] == _SAVE:
            # A family that keeps its mappings in guest RAM has no lists to save.
            listed = not errno and before.keys() >= set(_SAVED)
            self._saved = (seq, {name: before[name] for name in _SAVED}) if listed else None
        elif self._saved is None or not before:
            return
        elif event[0] == _RESET:
            saved_seq, saved = self._saved
            self._saved = (
                saved_seq,
                {
                    name: {key: item for key, item in was.items() if before[name].get(key) == item}
                    for name, was in saved.items()
                },
            )
        else:
            self._trip = self._compare_round_trip(seq, errno)
            self._remapped.clear()
            self.round_trips.append(self._trip)

    def _compare_round_trip(self, seq: int, errno: int) -> RoundTrip:
        assert self._saved is not None
        saved_seq, saved = self._saved
        came_back, lost = {}, {}
        for name, want in saved.items():
            now = self._lists[name]
            extra = sorted(key for key in now if now[key] != want.get(key))
            gone = sorted(key for key in want if key not in now)
            if extra:
                came_back[name] = extra
            if gone:
                lost[name] = gone
        trip = RoundTrip(seq, saved_seq, came_back, lost, errno)
        for name, keys in came_back.items():
            trip.blame = trip.blame or self._key_writers.get((name, keys[0]))
        return trip

    def _witness_round_trip(
        self, trip: RoundTrip, event: Event, outputs: Sequence[Event], seq: int
    ) -> None:
        """An MSI that is delivered through a mapping that should not have come back shows it."""
        if event[0] != _MSI or trip.witness is not None:
            return
        pair = (event[2], event[3])
        if pair in self._remapped or event[2] in self._remapped:
            return
        delivered = any(each[0] == effects.MSI_RESULT and each[3] == 1 for each in outputs)
        blocked = any(each[0] == effects.MSI_RESULT and each[3] == 0 for each in outputs)
        if (delivered and pair in trip.came_back.get("events", ())) or (
            blocked and pair in trip.lost.get("events", ())
        ):
            trip.witness = seq

    def note(self, seq: int, event: Event) -> None:
        """After a loss nothing is evidence for what went before; a probe may have perturbed."""
        if event[0] == _PROBE:
            if event[2] == 0:
                self._listed = False
            elif lists_lpis(event) and not self._listed:
                self._empty_listing(seq)
            if self.resets and len(event) > 3 and event[3]:
                self.resets[-1].perturbed = True
        elif event[0] in _LOSSES:
            self._open.clear()
            self._current.clear()
            self._writers.clear()
            if self.resets:
                self.resets[-1].lossy = True

    def _empty_listing(self, seq: int) -> None:
        """A listing without a row shows that no LPI lives."""
        if "lpis" in self._open and self.model.live_rows() is not None:
            self._open["lpis"].observed.append(Observation(seq, 0, 0))
            self._open["lpis"].shown = ALL_BITS

    # -- writes

    def _written(self, seq: int, event: Event) -> None:
        """Note which registers a write changed, or set anew to what they held."""
        after = self.model.registers()
        for name, value in after.items():
            if self._before.get(name) != value:
                self._touch(seq, name, value)
        found = its_register(event[2])
        if found and not (len(event) > 6 and event[6]):
            name, row, start = found
            size = event[4] if len(event) > 4 else 8
            wanted, mask = _placed(event[3], event[2] - start, size, row.size_bytes)
            if name in after and not (after[name] ^ wanted) & mask & ~row.read_only:
                self._touch(seq, name, after[name])
            else:
                # Written without effect (a register that is read-only now or here): what it shows
                # from here on is still the reset's, but no longer only the reset's.
                self._open.pop(name, None)

    def _touch(self, seq: int, name: str, value: int | None) -> None:
        self._writers[name] = (seq, value)
        self._open.pop(name, None)

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
        value, mask = _placed(value_and_size[0], offset - start, size, row.size_bytes)
        seen = Observation(seq, value, mask)
        component = self._open.get(name + suffix)
        if component is not None:
            self._evidence(component, seen)
        elif name + suffix in self._current:
            want, _ = _placed(expected, offset - start, size, row.size_bytes)
            self._echo(self._current[name + suffix], seen, want)

    def _evidence(self, component: Component, seen: Observation) -> None:
        if len(component.observed) < MAX_OBSERVATIONS:
            component.observed.append(seen)
        wrong = (seen.value ^ component.fresh) & seen.mask
        if wrong & component.mask and component.wrong is None:
            component.wrong = seen
        component.shown |= seen.mask & ~wrong

    def _echo(self, component: Component, seen: Observation, want: int) -> None:
        """A register written since the reset that still shows its value from before it."""
        old = component.before
        if component.wrong is None and isinstance(old, int):
            bits = seen.mask & component.mask
            if (seen.value ^ want) & bits and not (seen.value ^ old) & bits:
                component.wrong = seen
                component.observed.append(seen)


def _mapped_by(done: list[Effect]) -> Iterator[int | tuple[int, int]]:
    """Yield the devices, and (device, event), that commands among these effects map or unmap."""
    for effect in done:
        if effect[0] == effects.COMMAND:
            opcode, device_id = effect[2] & 0xFF, effect[2] >> 32
            if opcode == _MAPD:
                yield device_id
            elif opcode in _MAP_EVENT:
                yield device_id, effect[3] & 0xFFFF_FFFF


def _placed(value: int, shift_bytes: int, size: int, width_bytes: int) -> tuple[int, int]:
    """Return (value, mask) of an access at its place in the register."""
    mask = ((1 << 8 * size) - 1) << 8 * shift_bytes & (1 << 8 * width_bytes) - 1
    return value << 8 * shift_bytes & mask, mask


def _widths(find: Callable[[int], tuple[str, Any, int] | None], end: int) -> dict[str, int]:
    found = (find(offset) for offset in range(0, end, 4))
    return {item[0]: item[1].layout.width_ for item in found if item}


_ITS_WIDTHS: Final = _widths(its_register, 0x10000)
_GICR_WIDTHS: Final = _widths(gicr_register, 0x100)


def _width(name: str) -> int:
    """Return a component's bits; 64 for what is no register."""
    return _ITS_WIDTHS.get(name) or _GICR_WIDTHS.get(name.partition("[")[0]) or 64


def verify(
    reader: AnyReader, model: Verifiable, *, strict: bool = False
) -> tuple[Verifier, Engine]:
    """Replay a trace and return its verdicts."""
    verifier = Verifier(model, strict=strict)
    engine = Engine(reader, model, verifier)
    engine.run()
    return verifier, engine
