"""After every event, what a model said that changed, against the whole of its lists and of its state.

Traces that are here, vectors, and generated lives of which not everything is seen: guest RAM that is not
wholly known, a recording that begins in the middle, events that are missing, losses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from replay.engine import Engine
from replay.generator.answers import generate, header_of
from replay.generator.guest import DEVICE_IDS, EVENT_IDS, INTIDS, RAM, RAM_BYTES
from replay.judge import model_of, profile_named
from replay.kept_lists import KeptLists, Walked, differences
from replay.profiles import find
from replay.report.follow import Followed, changes, told
from tracer.events import GUEST, NUMBER, POWER_ON, fields_of, make
from tracer.log.header import Header
from tracer.log.opening import open_trace

SELDOM = 7
WAYS = ("complete", "observed", "joined", "lossy")
PROFILES = (
    "linux-5.1", "linux-4.14", "linux-5.4", "linux-6.1", "linux-6.10", "linux-6.12.107", "linux-7.3",
    "linux-5.19", "linux-6.17", "linux-4.19", "linux-5.10.223", "qemu-7.2.22", "qemu-10.0.13",
)  # fmt: skip


class AgainstTheWhole:
    """A watcher that looks after every event, and beside it one that looks seldom."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.kept, self.seldom = KeptLists(model), KeptLists(model)
        self.whole = model.structures()
        self.mapped = InRam(model)
        self.followed = Followed(model)
        self.followed.begin()
        self.told = told(model, digest=False)
        self.looks = self.changes = 0

    def resumed(self, seq, *, overlap):
        self.kept.begin()
        self.seldom.begin()
        self.whole = self.model.structures()
        self.mapped.begin()
        self.followed.anew()
        self.followed.begin()
        self.told = told(self.model, digest=False)

    def before_input(self, seq, event):
        """Nothing has happened."""

    def after_input(self, seq, event, done, outputs):
        self.look((seq, event))

    def output(self, seq, event, expected):
        self.look((seq, event))

    def note(self, seq, event):
        self.look((seq, event))

    def look(self, where):
        whole = self.model.structures()
        expected = list(differences(self.whole, whole))
        assert self.kept.look() == expected, where
        assert self.kept.now == whole, where
        self.whole = whole
        self.looks += 1
        self.changes += len(expected)
        self.mapped.look(where, seldom=self.looks % SELDOM == 0)
        state = told(self.model, digest=False)
        assert self.followed.look() == dict(changes(self.told, state)), where
        assert self.followed.state == state, where
        self.told = state
        if self.looks % SELDOM == 0:
            self.seldom.look()
            assert self.seldom.now == whole, where


class InRam:
    """The mappings that guest RAM holds: followed, and beside that walked each time."""

    def __init__(self, model: Any) -> None:
        self.model = model
        lists = [model.mapped_lists() or Walked(model) for _ in range(2)]
        self.kept, self.seldom = map(KeptLists, lists)
        self.whole = model.mapped()

    def begin(self) -> None:
        self.kept.begin()
        self.seldom.begin()
        self.whole = self.model.mapped()

    def look(self, where: Any, *, seldom: bool) -> None:
        whole = self.model.mapped()
        expected = list(differences(self.whole, whole))
        assert self.kept.look() == expected, where
        assert self.kept.now == whole, where
        self.whole = whole
        if seldom:
            self.seldom.look()
            assert self.seldom.now == whole, where


class Frames:
    """What an engine asks of a reader, of events that are here."""

    name = "life"
    status = "clean"
    open_end = False
    checkpoint = None

    def __init__(self, header: Header, events: list[Any]) -> None:
        self.header = header
        self._events = events

    def __iter__(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for at in range(0, len(self._events), 64):
            yield at, tuple(self._events[at : at + 64])


def life(seed: int, profile: str, how: str, events: int) -> Frames:
    """Return a generated life, of which not all may be seen."""
    made = find(profile)[0]
    header = header_of(seed, made, events)
    found = list(generate(seed, made, events))
    dice = random.Random(seed)
    if how == "complete":
        return Frames(header, found)
    header = replace(header, guest_ram="observed")
    if how == "joined":
        header = replace(header, starts="running")
        found = found[dice.randrange(len(found) // 2) :]
        for _ in range(events // 20):
            found.insert(dice.randrange(len(found)), _row(dice))
    if how == "lossy":
        for kind in ("loss", "source.gap", "loss"):
            found.insert(dice.randrange(len(found)), make(kind, 0, reason="a test"))
        found.insert(len(found) // 2, make("reset", 0, how=POWER_ON))
        at = len(found) - len(found) // 8
        found.insert(at, make("ram", 0, gpa=RAM, size=RAM_BYTES, present=0))
    found = [event for event in found if dice.random() > 0.02]
    return Frames(header, [_by_a_guest(event, dice) for event in found])


def _row(dice: random.Random) -> Any:
    """Return what a listing shows of an event, of which nothing may have been known."""
    return make(
        "its.live", 0, cause=0, device_id=dice.choice(DEVICE_IDS), event_id=dice.choice(EVENT_IDS),
        intid=dice.choice((*INTIDS, 9000 + dice.randrange(50))), target=dice.choice((-1, 0, 1)),
        icid=dice.randrange(5),
    )  # fmt: skip


def _by_a_guest(event: Any, dice: random.Random) -> Any:
    """Have a vCPU make some of the VMM's writes: while one runs, LPIs are taken unseen."""
    if event[0] != NUMBER["reg.write"] or dice.random() < 0.5:
        return event
    return make("reg.write", event[1], **fields_of(event) | {"origin": GUEST})


def watched(reader: Any, profile: Any, watcher: Any) -> Any:
    """Replay a trace under a watcher of its model, and return that."""
    model = model_of(reader.header, profile)
    made = watcher(model)
    Engine(reader, model, made).run()
    return made


def watched_trace(path: str, watcher: Any) -> Any:
    """Do the same with a trace that is here; None where nobody knows what wrote it."""
    with open_trace(path) as reader:
        named = profile_named(None, reader.header)
        return None if named is None else watched(reader, named[0], watcher)
