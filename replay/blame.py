"""Who wrote a component, what that rested on, and what every reset did to it.

A replay with all that `verify` sees; at the place that was asked for, the history of one component is
kept, and at the end the verdicts say which clause each reset before it broke or kept.

Counterparts: `replay.history`, which knows who wrote what, and `replay.blamed`, the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from replay.aims import PENDING, fields_of
from replay.blamed import Blame, add_verdicts
from replay.components import NotShown, Target, name_of_key, names_in, unknown
from replay.evidence import placed
from replay.history import Act, History, Raised
from replay.kept_lists import KeptLists, Walked
from replay.model import effects
from replay.model.effects import Effect
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


class Blamer:
    """Watches a replay together with a verifier, and keeps the history of what is asked for."""

    def __init__(
        self, model: Verifiable, verifier: Verifier, target: Target, at: int | None
    ) -> None:
        """`at`: after this event; None at the end.

        The verifier's writers must be a History.
        """
        assert isinstance(verifier.writers, History)
        self.model = model
        self.verifier = verifier
        self.history = verifier.writers
        self.target = target
        self._seq = at
        self.blame: Blame | None = None
        self.names: list[str] = []  # all that could have been asked for
        self._mapped = KeptLists(model.mapped_lists() or Walked(model))
        self._in_ram = bool(self._mapped.now)  # whether this family keeps mappings in guest RAM
        self._learned = False  # whether something showed mappings that no input wrote
        self._before: dict[str, Any] = {}
        self._losses: list[int] = []
        self._entry: Act | None = None  # the mem.write of the entry that the last restore read

    # -- the engine's watcher

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """What the model holds was there before the trace begins."""
        self._mapped.begin()
        self.verifier.resumed(seq, overlap=overlap)

    def before_input(self, seq: int, event: Event) -> None:
        """Stop at the place that was asked for; note the registers that the input may change."""
        if self.blame is None and self._seq is not None and seq > self._seq:
            self.freeze(self._seq)
        if self._learned and event[0] != _MEM_WRITE:
            self._mapped.look()  # nobody is known to have written what was shown
            self._learned = False
        if event[0] in _OF_REGISTERS:
            self._before = self._registers(event)
        self.verifier.before_input(seq, event)

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """Note who wrote what."""
        fetched = any(each[0] == effects.COMMAND for each in done)
        self.history.begin(seq, event, done, outputs, self._queue() if fetched else None)
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

    def _in_order(self) -> dict[str, Any]:
        """Return the lists, mappings in guest RAM in the order in which a walk meets them."""
        walk = self.model.mapped()
        if walk != self._mapped.now:  # what was shown since counts with the next input
            walk = self._mapped.copied()
        return walk | self.verifier.lists

    def _lists(self) -> dict[str, Any]:
        return self._mapped.now | self.verifier.lists

    def _queue(self) -> int | None:
        """Return where the command queue is, as long as that is known."""
        cbaser = self.model.registers().get("GITS_CBASER")
        return None if cbaser is None else Cbaser.physical_address.get(cbaser)

    def _remapped(self, seq: int, event: Event, done: list[Effect]) -> None:
        """Mappings that lie in guest RAM may have changed."""
        changes = self._mapped.look()
        if not changes and event[0] == _MEM_WRITE:
            return  # no entry of any table, as nearly always
        self.history.changed(seq, changes, self._mapped.now)
        self.history.ran(seq, done, self._mapped.now)

    def _registers(self, event: Event) -> dict[str, Any]:
        if event[0] == _REG_WRITE:
            return dict(self.model.registers())
        return dict(self.model.registers()) | self.model.redistributors()

    def _registers_changed(self, act: Act, now: dict[str, Any]) -> None:
        written, mask, taken = _written(act.event, now)
        for name, value in now.items():
            before = self._before.get(name)
            if value == before and name != written:
                continue
            bits = _difference(before, value)
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
        lists = self._in_order()
        states = self.model.shown()["lpis"]
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
            names = (("collections", "icid"), ("vpes", "vpe_id"))
            blame.target_acts = tuple(
                act for table, name in names for act in history.of(table, value.get(name))
            )
        if record is not None and record.made.event[0] == _RESTORE:
            blame.entry = self._entry
        blame.losses = [at for at in self._losses if blame.writer is None or at > blame.writer.seq]
        self.blame = blame

    def finish(self, seq: int, name: str) -> Blame:
        """Return the answer, with what the verdicts say of the resets before it.

        Raises:
            UsageError: there is no such component in this trace.
        """
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
        add_verdicts(blame, self.verifier.resets, self.verifier.round_trips)
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
