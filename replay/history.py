"""How each register and each key of a list came to be as it is: `replay.writers`, with the reasons.

A record keeps the acts that made a key, moved it last and removed it, and what these rested on: the
device that an event was mapped in, the save that a restore read. A register is blamed bit by bit,
because a reset rewrites some bits and keeps others, and a guest writes halves.

Counterparts: `replay.blame`, which feeds it from a replay and makes an answer of it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from replay.aims import MOVES, PENDING, REMOVES, Words, aim, fields_of, is_asked, name_of
from replay.kept_lists import Change, Lists
from replay.model import effects
from replay.model.effects import Effect
from replay.writers import MAX_GONE, Key, Writers
from tracer.events import NUMBER, Event
from tracer.its.commands import COMMAND_SIZE_BYTES

_WORD_BYTES: Final = 8
# Doublewords of guest RAM of which it is known who wrote them last: a whole command queue.
MAX_RAM_WORDS: Final = 1 << 17
MAX_BEHIND: Final = 16
MAPPINGS: Final = ("devices", "events", "collections", "vpes")
_RESTORE: Final = NUMBER["restore"]
_COMMAND: Final = NUMBER["command"]
_MSI: Final = NUMBER["msi"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A command that the device took from its queue."""

    queue_offset: int
    words: Words
    seq: int | None  # the output that shows it, where the trace has one
    queued_by: Act | None  # the mem.write that put it into the queue, where the trace has it


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """What one event did: an input, or the command that an input made the device fetch.

    `step` counts the commands of an input; `seen` marks what the event only showed: it was there
    before.
    """

    seq: int
    event: Event = field(compare=False)
    step: int = -1
    command: Fetched | None = field(default=None, compare=False)
    seen: bool = field(default=False, compare=False)

    def did(self, *names: str) -> bool:
        """Return whether it is one of these commands."""
        return self.command is not None and name_of(self.command.words) in names


@dataclass(slots=True)
class Record:
    """One key: the acts that made it, gave it its value, wrote it last, and took it away."""

    made: Act
    since: Act  # its value stands since
    last: Act  # who wrote it last, perhaps to the value that it had
    writes: int = 1
    removed: Act | None = None
    behind: tuple[Act, ...] = ()  # what it rested on when it was made

    def chain(self) -> tuple[Act, ...]:
        """Return what it rests on, then what made and moved it, each once."""
        since = (self.since,) if self.since >= self.made else ()  # older ones were made anew
        return tuple(dict.fromkeys((*self.behind, self.made, *since, self.last)))[-MAX_BEHIND:]


@dataclass(slots=True)
class Raised:
    """An LPI that an event made pending: what did it, by which event, and what that rested on."""

    act: Act
    pair: tuple[int, int]
    behind: tuple[Act, ...]


@dataclass(slots=True)
class Input:
    """The input whose outcome is taken in now."""

    act: Act
    commands: list[Act] = field(default_factory=list)


class History(Writers):
    """Writers, with the acts behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[Key, Record] = {}
        self.bits: dict[str, list[tuple[Act, int]]] = {}  # register -> who wrote which, last first
        self.raised: dict[int, Raised] = {}
        self.touched: dict[int, Act] = {}  # INTID -> what last raised, cleared or took it
        self._saved: dict[Key, Act] = {}
        self._ram: dict[int, Act] = {}  # doubleword -> the mem.write that wrote it last
        self._input: Input | None = None
        self._now: Mapping[str, Any] = {}  # the lists after the input
        self._lists: Mapping[str, Any] = {}  # events and collections before or after it

    # -- one input at a time

    def begin(
        self,
        seq: int,
        event: Event,
        done: Sequence[Effect],
        outputs: Sequence[Event],
        queue_gpa: int | None,
    ) -> None:
        """What is told next is the outcome of this input, which fetched from a queue there."""
        now = Input(Act(seq, event))
        shown = {each[3]: seq + each[2] for each in outputs if each[0] == _COMMAND}
        for effect in done:
            if effect[0] == effects.COMMAND:
                at = None if queue_gpa is None else queue_gpa + effect[1]
                by = None if at is None else self._written_by(at, COMMAND_SIZE_BYTES)
                command = Fetched(effect[1], effect[2:6], shown.get(effect[1]), by)
                now.commands.append(Act(seq, event, len(now.commands), command))
        self._input = now

    def commands(self) -> list[Act]:
        """Return the commands that the input made the device fetch, in order."""
        return self._input.commands if self._input else []

    def stored(self, act: Act, gpa: int, size: int) -> None:
        """Guest RAM was written by a mem.write."""
        ram = self._ram
        for at in range(gpa // _WORD_BYTES, (gpa + size - 1) // _WORD_BYTES + 1):
            ram.pop(at, None)
            ram[at] = act
        while len(ram) > MAX_RAM_WORDS:
            del ram[next(iter(ram))]

    def _written_by(self, gpa: int, size: int) -> Act | None:
        words = range(gpa // _WORD_BYTES, (gpa + size - 1) // _WORD_BYTES + 1)
        acts = (act for at in words if (act := self._ram.get(at)) is not None)
        return max(acts, key=lambda act: act.seq, default=None)

    def _act(self, key: Key, value: Any) -> Act:
        """Return what of the input left `key` at `value`, None for gone: a command, or the input.

        The last command that asked for just this, else the last one that is about it.
        """
        assert self._input is not None
        about = [each for each in self._input.commands if _concerns(each, key, self._lists)]
        asked = [each for each in about if each.command and _did(each.command.words, key, value)]
        if asked or about:
            return (asked or about)[-1]
        act = self._input.act
        # A command, or an MSI, that is about something else has only shown what was there.
        shown = bool(self._input.commands) or act.event[0] == _MSI
        return replace(act, seen=True) if shown and key[0] in MAPPINGS else act

    def _made(self, key: Key, act: Act) -> Act:
        """Return what of the input made `key`, of which `act` wrote the value that it has."""
        makers = [act, *reversed(self.commands())]
        return next((each for each in makers if _makes(each, key)), act)

    # -- keys of lists

    def changed(self, seq: int, changes: Sequence[Change], now: Lists) -> list[str]:
        """Take in what an input made of lists."""
        self._now = now
        gone: dict[str, dict[Any, Any]] = {"events": {}, "collections": {}}
        for each in changes:
            if each.new is None and each.component in gone:
                gone[each.component][each.key] = each.old
        self._lists = {name: ChainMap(now.get(name, {}), gone[name]) for name in gone}
        return super().changed(seq, changes, now)

    def set(self, seq: int, key: Key) -> None:
        """A key came, or has another value."""
        new = key not in self._keys
        super().set(seq, key)
        act = self._act(key, self._now.get(key[0], {}).get(key[1]))
        old = self.records.get(key)
        if old is None or new:
            made = self._made(key, act)
            self.records[key] = Record(made, act, act, behind=self._rests_on(key, act, old))
            return
        old.since = old.last = act
        old.writes += 1

    def again(self, seq: int, key: Key) -> None:
        """A key was set to the value that it had."""
        super().again(seq, key)
        record = self.records.get(key)
        if record is None:
            return
        record.last = act = self._act(key, self._now.get(key[0], {}).get(key[1]))
        record.writes += 1
        if _makes(act, key):
            record.made, record.behind = act, self._rests_on(key, act, None)

    def unset(self, seq: int, key: Key) -> None:
        """A key left its list."""
        record = self.records.get(key)
        if record is not None:
            record.removed = self._act(key, None)
        super().unset(seq, key)

    def forget(self, key: Key) -> None:
        """A key that is gone is told no more."""
        self.records.pop(key, None)
        self._saved.pop(key, None)

    def restored(self, seq: int) -> None:
        """RESTORE_TABLES read what had been saved: it wrote that, even if it was there."""
        for key, saved in self._saved.items():
            record = self.records.get(key)
            if key in self._keys and record is not None and record.last.seq != seq:
                self.again(seq, key)
                record.behind = (*record.behind, saved)

    def _rests_on(self, key: Key, act: Act, old: Record | None) -> tuple[Act, ...]:
        """Return what a key that came to be rests on."""
        if key[0] == "events" and act.command is not None:
            return self.of("devices", key[1][0])
        if key[0] in ("lpis", "translation_cache") and act.event[0] == _MSI:
            return self.mapping((act.event[2], act.event[3]))
        if act.event[0] == _RESTORE:
            was = () if old is None else (*old.chain(), *([old.removed] if old.removed else ()))
            return (*was, self._saved[key]) if key in self._saved else was
        if act.command is not None or old is None:
            return ()
        return old.chain()

    def of(self, component: str, key: Any) -> tuple[Act, ...]:
        """Return the chain of a key that is in its list."""
        record = self.records.get((component, key))
        return record.chain() if record is not None and (component, key) in self._keys else ()

    def mapping(self, pair: tuple[int, int], icid: int | None = None) -> tuple[Act, ...]:
        """Return what an MSI of this (DeviceID, EventID) goes through."""
        acts = (
            *self.of("devices", pair[0]),
            *self.of("events", pair),
            *(() if icid is None else self.of("collections", icid)),
        )
        return tuple(dict.fromkeys(acts))

    # -- save and restore

    def saved(self, act: Act, keys: Iterator[Key]) -> None:
        """SAVE_TABLES wrote an entry for each of these keys."""
        for key in keys:
            self._saved.pop(key, None)
            self._saved[key] = act
        while len(self._saved) > MAX_GONE:
            del self._saved[next(iter(self._saved))]

    def entry_written(self, key: Key, gpa: int) -> Act | None:
        """Return the mem.write that wrote a key's entry in guest RAM since it was saved."""
        act = self._written_by(gpa, _WORD_BYTES)
        saved = self._saved.get(key)
        return act if act is not None and (saved is None or act.seq > saved.seq) else None

    # -- registers and LPIs

    def bits_written(self, act: Act, name: str, mask: int) -> None:
        """These bits of a register hold what `act` put there."""
        older = [(each, left) for each, was in self.bits.get(name, ()) if (left := was & ~mask)]
        self.bits[name] = [(act, mask), *older]

    def raises(self, intid: int, raised: Raised) -> None:
        """An LPI was made pending."""
        self.raised.pop(intid, None)
        self.raised[intid] = raised
        if len(self.raised) > MAX_GONE:
            del self.raised[next(iter(self.raised))]


def _makes(act: Act, key: Key) -> bool:
    """Return whether a command names a key and can have made it."""
    named = act.command is not None and aim(act.command.words) == key
    return named and not act.did(*MOVES, *REMOVES, *PENDING)


def _did(words: Words, key: Key, value: Any) -> bool:
    """Return whether a command that is about `key` asked for what became of it."""
    name = name_of(words)
    if value is None:
        return name in REMOVES or fields_of(words).get("v") == 0
    return aim(words) == key and is_asked(words, value)


def _concerns(act: Act, key: Key, lists: Mapping[str, Any]) -> bool:
    """Return whether a command can have written a key, given what was and is mapped."""
    assert act.command is not None
    words = act.command.words
    component, at = key
    name = name_of(words)
    named = aim(words)
    if named == key:
        return name not in PENDING
    if component == "events":
        return _takes_along(name, words, at, lists)
    if component == "translation_cache":
        return named is None or named[1] == at or named[0] != "events"
    if component == "lpis":
        return _moves_lpi(name, words, at, lists)
    return False


def _takes_along(name: str | None, words: Words, pair: Any, lists: Mapping[str, Any]) -> bool:
    """Return whether a MAPD of its device or a MAPC of its collection changes an event."""
    if name == "MAPD":
        return bool(fields_of(words)["device_id"] == pair[0])
    event = lists.get("events", {}).get(pair, {})
    return name == "MAPC" and event.get("icid") in (fields_of(words)["icid"], None)


def _moves_lpi(name: str | None, words: Words, intid: int, lists: Mapping[str, Any]) -> bool:
    """Return whether a command makes, moves, raises or retires an LPI."""
    if name is None:
        return False
    fields = fields_of(words)
    if name == "MOVALL" or intid == fields.get("pintid", fields.get("event_id", -1)):
        return name in ("MOVALL", "MAPTI", "MAPI")
    mapped = lists.get("events", {})
    if "event_id" in fields:
        event = mapped.get((fields["device_id"], fields["event_id"]), {})
        return bool(event.get("intid") == intid)
    if name == "MAPD":
        return any(
            pair[0] == fields["device_id"] and event.get("intid") == intid
            for pair, event in mapped.items()
        )
    if name == "MAPC":
        return any(
            event.get("icid") in (fields["icid"], None) and event.get("intid") == intid
            for event in mapped.values()
        )
    return name == "INVALL"
