"""Who wrote a component, what that rested on, and what every reset did to it.

A replay with all that `verify` sees; at the place that was asked for, the history of one component is
kept, and at the end the verdicts say which clause each reset before it broke or kept.

Counterparts: `replay.history`, which knows who wrote what, and `replay.commands.blame`, which tells it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from replay.aims import PENDING, fields_of
from replay.components import NotShown, Target, name_of_key, names_in, unknown
from replay.contracts import KEPT
from replay.evidence import placed
from replay.history import Act, History, Raised, Record
from replay.model import effects
from replay.model.effects import Effect
from replay.verdict import FINDINGS, STALE, Component, ResetVerdict, RoundTrip
from replay.verifiable import Verifiable
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import NUMBER, Event
from tracer.its.registers import Cbaser, gicr_register, its_register

_RESET: Final = NUMBER["reset"]
_REG_WRITE: Final = NUMBER["reg.write"]
_GICR_WRITE: Final = NUMBER["gicr.write"]
_MEM_WRITE: Final = NUMBER["mem.write"]
_SAVE: Final = NUMBER["save"]
_RESTORE: Final = NUMBER["restore"]
_MSI: Final = NUMBER["msi"]
_MEM_READ: Final = NUMBER["mem.read"]
_LPI_ACK: Final = NUMBER["lpi.ack"]
_LOSSES: Final = (NUMBER["loss"], NUMBER["source.gap"])
_OF_REGISTERS: Final = (_RESET, _REG_WRITE, _GICR_WRITE, NUMBER["gicd.write"])
_ALL_BITS: Final = (1 << 64) - 1
MAX_LOSSES: Final = 100
SAVED: Final = ("devices", "events", "collections")

# What a reset did to a component that it is said to have lived through.
REWROTE: Final = "rewrote it"
LEFT: Final = "left it as it was"
REMOVED: Final = "removed it"
ABSENT: Final = "was not there"
IN_RAM: Final = "left its entry in guest RAM"

# What became of the contract's clause in a reset.
BROKE: Final = "broke"
HELD: Final = "kept"
ALLOWS: Final = "allows it"
UNSPOKEN: Final = "no clause"


@dataclass(slots=True)
class Passage:
    """One reset that the component went through, and what became of the clause about it."""

    verdict: ResetVerdict
    did: str
    clause: str
    component: Component
    lived: bool  # whether the component is as it was since before this reset


@dataclass(slots=True)
class Blame:
    """The history of one component as of `seq`."""

    target: Target
    seq: int
    value: Any
    present: bool
    record: Record | None = None
    bits: list[tuple[Act, int]] = field(default_factory=list)  # of a register, last first
    raised: Raised | None = None  # of an LPI
    touched: Act | None = None  # of an LPI: what last raised, cleared or took it
    collection: tuple[Act, ...] = ()  # of an event: what its collection is
    entry: Act | None = None  # what wrote the entry that a restore read
    joined: bool = False
    losses: list[int] = field(default_factory=list)  # since it was written
    passages: list[Passage] = field(default_factory=list)
    trips: list[RoundTrip] = field(default_factory=list)

    @property
    def writer(self) -> Act | None:
        """The act that last wrote it; None for what no event of the trace wrote."""
        if self.target.key is None:
            return self.bits[0][0] if self.bits else None
        if self.touched is not None and (
            self.record is None or self.touched.seq >= self.record.last.seq
        ):
            return self.touched
        return None if self.record is None else self.record.last

    @property
    def since(self) -> Act | None:
        """The act that gave it the value it has; the oldest where several wrote its bits."""
        if self.target.key is None:
            return self.bits[-1][0] if self.bits else None
        return None if self.record is None else self.record.since

    def chain(self) -> tuple[Act, ...]:
        """Return what is behind the last write, in the order in which it happened."""
        acts: list[Act] = [each for each, _ in self.bits]
        if self.record is not None:
            acts += self.record.chain()
        if self.raised is not None:
            acts += [*self.raised.behind, self.raised.act]
        acts += [*self.collection, *([self.entry] if self.entry else [])]
        return tuple(sorted({each for each in acts if each != self.writer}))


class Blamer:
    """Watches a replay together with a verifier, and keeps the history of what is asked for."""

    def __init__(
        self, model: Verifiable, verifier: Verifier, target: Target, at: int | str | None
    ) -> None:
        """`at`: after this event; `reset:N` right behind that reset; None at the end.

        The verifier's writers must be a History.
        """
        assert isinstance(verifier.writers, History)
        self.model = model
        self.verifier = verifier
        self.history = verifier.writers
        self.target = target
        self._seq = at if isinstance(at, int) else None
        self._reset = int(at.partition(":")[2]) if isinstance(at, str) else None
        self.blame: Blame | None = None
        self.names: list[str] = []  # all that could have been asked for
        self._mapped: dict[str, Any] = model.mapped()
        self._in_ram = bool(self._mapped)  # whether this family keeps its mappings in guest RAM
        self._learned = False  # whether something showed mappings that no input wrote
        self._before: dict[str, Any] = {}
        self._losses: list[int] = []
        self._entry: Act | None = None  # the mem.write of the entry that the last restore read

    # -- the engine's watcher

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """What the model holds was there before the trace begins."""
        self._mapped = self.model.mapped()
        self.verifier.resumed(seq, overlap=overlap)

    def before_input(self, seq: int, event: Event) -> None:
        """Stop at the place that was asked for; note the registers that the input may change."""
        if self.blame is None and self._seq is not None and seq > self._seq:
            self.freeze(self._seq)
        if self._learned and event[0] != _MEM_WRITE:
            self._mapped, self._learned = self.model.mapped(), False
        if event[0] in _OF_REGISTERS:
            self._before = self._registers(event)
        self.verifier.before_input(seq, event)

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Note who wrote what."""
        self.history.begin(seq, event, done, outputs, self._queue() if done else None)
        if event[0] == _MEM_WRITE:
            self.history.stored(Act(seq, event), event[2], len(event[3]))
        self.verifier.after_input(seq, event, done, outputs)
        if self._in_ram and _may_remap(event, done):
            self._remapped(seq, event, done)
        elif self._in_ram and self.model.bound:
            self._learned = True
        self._lpis(Act(seq, event), done)
        if event[0] in _OF_REGISTERS:
            self._registers_changed(Act(seq, event), self._registers(event))
        if event[0] == _SAVE:
            keys = ((name, key) for name in SAVED for key in self._lists().get(name, ()))
            self.history.saved(Act(seq, event), keys)
        if event[0] == _RESTORE:
            self._restored(seq, done)
        if self._reset is not None and len(self.verifier.resets) > self._reset:
            self._reset = None
            self.freeze(seq)

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """Hand on; a CPU that takes an LPI has written whether it is pending."""
        if event[0] == _LPI_ACK:
            self.history.touched[event[3]] = Act(seq, event)
        elif event[0] == _MEM_READ:
            self._learned = self._in_ram
        self.verifier.output(seq, event, expected)

    def note(self, seq: int, event: Event) -> None:
        """Hand on; what was lost may have written anything."""
        if event[0] in _LOSSES and len(self._losses) < MAX_LOSSES:
            self._losses.append(seq)
        self.verifier.note(seq, event)

    # -- what an input wrote

    def _restored(self, seq: int, done: list[Effect]) -> None:
        if all(each[0] != effects.ATTR_RESULT or not each[1] for each in done):
            self.history.restored(seq)
        key = (self.target.component, self.target.key)
        gpa = self.model.entry_gpa(*key) if self.target.component in SAVED else None
        self._entry = None if gpa is None else self.history.entry_written(key, gpa)

    def _lists(self) -> dict[str, Any]:
        return self._mapped | self.verifier.lists

    def _queue(self) -> int | None:
        """Return where the command queue is, as long as that is known."""
        cbaser = self.model.registers().get("GITS_CBASER")
        return None if cbaser is None else Cbaser.physical_address.get(cbaser)

    def _remapped(self, seq: int, event: Event, done: list[Effect]) -> None:
        """Mappings that lie in guest RAM may have changed."""
        before, self._mapped = self._mapped, self.model.mapped()
        self.history.changed(seq, before, self._mapped)
        self.history.ran(seq, done, self._mapped)

    def _registers(self, event: Event) -> dict[str, Any]:
        if event[0] == _REG_WRITE:
            return dict(self.model.registers())
        found = self.model.components()
        return {name: value for name, value in found.items() if not isinstance(value, dict)}

    def _registers_changed(self, act: Act, now: dict[str, Any]) -> None:
        written, mask, taken = _written(act.event, now)
        for name, value in now.items():
            bits = _difference(self._before.get(name), value)
            if name == written and (bits or taken):
                bits |= mask
            if bits:
                self.history.bits_written(act, name, bits)

    def _lpis(self, act: Act, done: list[Effect]) -> None:
        """Note what made an LPI pending, or took that back."""
        if act.event[0] == _MSI and _delivered(done):
            self._raised(act, (act.event[2], act.event[3]))
        listed = "lpis" in self._lists()  # then it is told by its key who moved and cleared one
        for each in self.history.commands():
            if each.command is None or not each.did(*PENDING, "MOVI", "MOVALL"):
                continue
            fields = fields_of(each.command.words)
            pair = (fields.get("device_id", -1), fields.get("event_id", -1))
            if each.did("INT"):
                self._raised(each, pair)
            elif not listed and each.did("MOVALL"):
                self.history.touched.update(dict.fromkeys(self.history.raised, each))
            elif not listed and (intid := self._event(pair).get("intid")) is not None:
                self.history.touched[intid] = each

    def _event(self, pair: tuple[int, int]) -> dict[str, Any]:
        found: dict[str, Any] = self._lists().get("events", {}).get(pair, {})
        return found

    def _raised(self, act: Act, pair: tuple[int, int]) -> None:
        event = self._event(pair)
        if "intid" in event:
            self.history.touched[event["intid"]] = act
            behind = self.history.mapping(pair, event.get("icid"))
            self.history.raises(event["intid"], Raised(act, pair, behind))

    # -- the answer

    def freeze(self, seq: int) -> None:
        """Answer as of event `seq`: the replay goes on, for the evidence of resets before it."""
        lists = self._lists()
        states = self.model.state()["lpis"]
        values = self.model.components() | lists
        values["lpis"] = {int(intid): state for intid, state in states.items()}
        target, history = self.target, self.history
        gone = ((component, key) for component, key in history.records)
        self.names = [*names_in(values), *(name_of_key(*each) for each in gone)]
        key = (target.component, target.key)
        value = values.get(target.component)
        if target.key is not None:
            value = (value or {}).get(target.key)
        record = history.records.get(key)
        blame = Blame(
            target, seq, value,
            present=target.component in values if target.key is None else value is not None,
            record=None if record is None else replace(record),
            bits=list(history.bits.get(target.component, ())) if target.key is None else [],
            joined=self.model.joined,
        )  # fmt: skip
        if target.component == "lpis":
            blame.raised, blame.touched = (
                history.raised.get(target.key),
                history.touched.get(target.key),
            )
        if target.component == "events" and value:
            blame.collection = history.of("collections", value.get("icid"))
        if record is not None and record.made.event[0] == _RESTORE:
            blame.entry = self._entry
        blame.losses = [at for at in self._losses if blame.writer is None or at > blame.writer.seq]
        self.blame = blame

    def finish(self, seq: int, name: str) -> Blame:
        """Return the answer, with what the verdicts say of the resets before it.

        Raises:
            UsageError: the place or the component is not in this trace.
        """
        if self._reset is not None:
            last = len(self.verifier.resets) - 1
            raise UsageError(f"{name}: there is no reset {self._reset}; the last is {last}")
        if self.blame is None:
            self.freeze(seq)
        blame = self.blame
        assert blame is not None
        if (
            not blame.present
            and blame.writer is None
            and blame.joined
            and blame.target.key is not None
        ):
            raise NotShown(
                f"{name}: no event shows {self.target.name}, and the recording began in the middle "
                "of the VM's life: it may be there all the same"
            )
        if not blame.present and blame.writer is None:
            raise UsageError(f"{name}: {unknown(self.target, self.names)}")
        begun = min((act.seq for act in (*blame.chain(), blame.writer) if act), default=-1)
        for verdict in self.verifier.resets:
            if verdict.seq <= blame.seq and (passage := _passage(verdict, blame, begun)):
                blame.passages.append(passage)
        for trip in self.verifier.round_trips:
            if trip.seq <= blame.seq and any(
                self.target.key in found.get(self.target.component, ())
                for found in (trip.came_back, trip.lost)
            ):
                blame.trips.append(trip)
        return blame


def _may_remap(event: Event, done: Sequence[Effect]) -> bool:
    """Return whether an input can have changed a mapping that lies in guest RAM."""
    if event[0] in (_MSI, _GICR_WRITE):
        return False
    return bool(done) or event[0] in (_RESET, _RESTORE, _REG_WRITE, _MEM_WRITE)


def _delivered(done: Sequence[Effect]) -> bool:
    """Return whether an MSI went anywhere."""
    return bool(done) and all(each[0] != effects.MSI_RESULT or each[1] > 0 for each in done)


def _difference(old: Any, new: Any) -> int:
    """Return the bits that are not what they were; all, where nobody knew what they were."""
    if not isinstance(new, int):
        return 0
    return old ^ new if isinstance(old, int) else _ALL_BITS


def _written(event: Event, now: dict[str, Any]) -> tuple[str, int, bool]:
    """Return (register, bits) of a write, and whether the register now holds what it asked for."""
    if event[0] == _REG_WRITE:
        found, start, rest, suffix = its_register(event[2]), event[2], event[3:], ""
    elif event[0] == _GICR_WRITE:
        found, start, rest, suffix = gicr_register(event[3]), event[3], event[4:], f"[{event[2]}]"
    else:
        return "", 0, False
    if found is None:
        return "", 0, False
    name, row, offset = found
    wanted, mask = placed(rest[0], start - offset, rest[1] if len(rest) > 1 else 8, row.size_bytes)
    value = now.get(name + suffix)
    taken = value is None or not (value ^ wanted) & mask & ~row.read_only
    return name + suffix, mask & ~row.read_only, taken


# -- resets


def _passage(verdict: ResetVerdict, blame: Blame, begun: int) -> Passage | None:
    """Return what a reset did to the component; None where the reset was not about it."""
    component = next((e for e in verdict.components if e.name == blame.target.component), None)
    if component is None:
        return None
    did = _did(component, blame.target.key)
    made = blame.record and blame.record.made
    if did == ABSENT and made and made.event[0] == _RESTORE and verdict.seq < made.seq:
        did = IN_RAM
    return Passage(
        verdict, did, _clause(verdict, component, blame), component,
        lived=begun < verdict.seq and did != ABSENT,
    )  # fmt: skip


def _did(component: Component, key: Any) -> str:
    if key is None:
        return LEFT if component.before in (component.replayed, None) else REWROTE
    was = (component.before or {}).get(key)
    now = (component.replayed or {}).get(key)
    if now is None:
        return ABSENT if was is None else REMOVED
    return LEFT if was in (now, None) else REWROTE


def _clause(verdict: ResetVerdict, component: Component, blame: Blame) -> str:
    """Return what became of the clause, as far as this component is concerned."""
    if component.clause is None:
        return UNSPOKEN
    status = component.status(strict=verdict.strict)
    key = blame.target.key
    if key is not None and status in FINDINGS:
        survived = (component.replayed or {}).get(key)
        its = survived is not None and survived != (component.fresh or {}).get(key)
        seen = status == STALE and component.blame in {act.seq for act in blame.chain()}
        status = status if its or seen else HELD
    if component.clause.word == KEPT:
        return ALLOWS
    return BROKE if status in FINDINGS else HELD
