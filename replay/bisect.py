"""The first event of a trace after which something holds, and how it was found.

By binary search over checkpoints where what holds once holds from there on; elsewhere by looking at
every event. Which of them is told, and why it may be believed. Counterparts: `held`, which looks, and
`replay.timetravel`, which has the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from replay.engine import Engine, Stopped
from replay.held import first_held
from replay.judge import AnyModel, generalised
from replay.model.effects import Effect
from replay.predicate import Predicate
from replay.timetravel.timeline import Timeline
from replay.verdict import FINDINGS, ResetVerdict
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import IN_PROCESS
from tracer.log.opening import open_trace

SEARCH: Final = "binary search"
SCAN: Final = "scan"
NOTED: Final = "noted in a replay"
BY_CONSTRUCTION: Final = "by construction"  # "a divergence was met up to here"
ASSUMED: Final = "assumed"  # by whoever asked
NOT_MONOTONE: Final = "no"
_SPOTS: Final = 4  # places on each side at which an assumption is tried


@dataclass(slots=True)
class Found:
    """The event, if there is one, and how it was looked for."""

    seq: int | None
    method: str
    monotone: str
    probes: int = 0  # states that were looked at by themselves
    note: str = ""  # what else is to be known of it


# -- a predicate


def by_predicate(timeline: Timeline, predicate: Predicate, *, monotone: bool) -> Found:
    """Find the first event after which a predicate holds.

    `monotone`: once it holds it is taken to hold from there on. Where that proves wrong, or cannot
    tell because it does not hold at the end, every event is looked at after all.
    """
    if not monotone:
        return Found(_first(timeline, predicate, None), SCAN, NOT_MONOTONE)
    if predicate.changing:
        raise UsageError("`changes` holds at single events: it is not monotone")
    return _searched(timeline, predicate)


def _first(timeline: Timeline, predicate: Predicate, last: int | None) -> int | None:
    return first_held(timeline, predicate, timeline.header.first_seq, last)


def _searched(timeline: Timeline, predicate: Predicate) -> Found:
    end = timeline.last()
    stops = timeline.stops()
    known: dict[int, bool] = {}

    def holds(at: int) -> bool:
        """Return whether it holds before stop `at`, or after everything."""
        if at not in known:
            seq = stops[at] - 1 if at < len(stops) else end
            known[at] = predicate.begin(timeline.model_at(seq))
        return known[at]

    low, high = 0, len(stops)
    if not holds(high) or holds(low):
        found = _first(timeline, predicate, None)
        note = "" if holds(low) else "it does not hold at the end"
        return Found(found, SCAN, NOT_MONOTONE if note else ASSUMED, len(known), note)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    wrong = _refuted(holds, low, high, len(stops))
    if wrong is not None:
        seq = stops[wrong] - 1
        note = f"the assumption proved wrong after event {seq}"
        return Found(_first(timeline, predicate, None), SCAN, NOT_MONOTONE, len(known), note)
    last = stops[high] - 1 if high < len(stops) else end
    return Found(first_held(timeline, predicate, stops[low], last), SEARCH, ASSUMED, len(known))


def _refuted(holds: Callable[[int], bool], low: int, high: int, count: int) -> int | None:
    """Return a place among a few at which it holds too early, or does not where it should."""
    for spot in range(1, _SPOTS + 1):
        early, late = low * spot // (_SPOTS + 1), high + (count - high) * spot // (_SPOTS + 1)
        if holds(early):
            return early
        if not holds(late):
            return late
    return None


# -- what a replay notes of itself


def by_divergence(timeline: Timeline, kind: str | None) -> Found:
    """Find the first output that the model answers otherwise, of `KIND:FIELD` if that is given."""
    timeline.last()
    return Found(_of_kind(timeline.course.divergent, kind), NOTED, BY_CONSTRUCTION)


def _of_kind(divergent: dict[tuple[str, str], int], kind: str | None) -> int | None:
    wanted = None if kind is None else tuple(kind.split(":", 1))
    if wanted is not None and len(wanted) != 2:
        raise UsageError(f"a divergence must be KIND:FIELD, not {kind!r:.60}")
    return min((seq for name, seq in divergent.items() if wanted in (None, name)), default=None)


def by_crash(timeline: Timeline) -> Found:
    """Find the input that the host dies of."""
    timeline.last()
    crash = timeline.course.crash
    if crash is None:
        return Found(None, NOTED, BY_CONSTRUCTION)
    return Found(crash[0], NOTED, BY_CONSTRUCTION, note=f"the host dies in {crash[1]}")


def by_target(path: str, cpus: int | None, target: str, kind: str | None) -> Found:
    """Find the first output that a target answers otherwise than the trace at `path` says.

    A target begins at the beginning: there are no checkpoints of it.
    """
    from replay.targets.ahead import Ahead
    from replay.targets.qemu import Needs
    from replay.targets.spec import Targets, parse

    spec, needs = parse(target), Needs.of_trace(path)
    with open_trace(path) as reader, Targets() as made:
        reader.header.cpus = cpus or reader.header.cpus
        with made.opened(spec, reader.header, needs) as opened:
            ahead = Ahead(reader, opened)
            engine = Engine(ahead, ahead, stop=kind is None)
            engine.run()
    if engine.crash and kind is None:
        return Found(engine.crash[0], SCAN, BY_CONSTRUCTION, note=f"it dies in {engine.crash[1]}")
    return Found(_of_kind(engine.tally.kinds, kind), SCAN, BY_CONSTRUCTION)


# -- invariants and resets


class _Invariants:
    """A watcher that ends a replay where an invariant is broken."""

    def __init__(self, model: AnyModel, name: str | None) -> None:
        self._model = model
        self._name = name
        self.found: tuple[int, str] | None = None

    def before_input(self, seq: int, event: Event) -> None:
        """Nothing has happened yet."""

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """An input was carried out."""
        for name in self._model.violations():
            if self._name in (None, name):
                self.found = (seq, name)
                raise Stopped

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """No answer breaks one."""

    def note(self, seq: int, event: Event) -> None:
        """No note breaks one."""

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """The model was filled before anyone looked."""


def by_invariant(timeline: Timeline, name: str | None) -> Found:
    """Find the first input after which an invariant does not hold."""
    made: list[_Invariants] = []

    def watch(model: AnyModel) -> _Invariants:
        made.append(_Invariants(model, name))
        return made[0]

    timeline.watched(timeline.header.first_seq, None, watch)
    found = made[0].found
    if found is None:
        return Found(None, SCAN, NOT_MONOTONE)
    return Found(found[0], SCAN, NOT_MONOTONE, note=f"{found[1]} does not hold")


def by_stale(timeline: Timeline, component: str) -> Found:
    """Find the first reset that left a component as it was before, by what `verify` says of it."""
    made: list[Verifier] = []

    def watch(model: AnyModel) -> Verifier:
        made.append(Verifier(model, under_test=timeline.header.source == IN_PROCESS))
        return made[0]

    timeline.watched(timeline.header.first_seq, None, watch)
    names = {name for reset in made[0].resets for name in reset.statuses()}
    if made[0].resets and not any(_is(component, name) for name in names):
        known = ", ".join(sorted({generalised(name) for name in names}))
        raise UsageError(f"a component must be one of {known}, not {component!r:.60}")
    for reset in made[0].resets:
        for name, status in reset.statuses().items():
            if _is(component, name) and status in FINDINGS:
                return Found(reset.seq, SCAN, NOT_MONOTONE, note=_stale(reset, name, status))
    return Found(None, SCAN, NOT_MONOTONE)


def _is(wanted: str, component: str) -> bool:
    return wanted in (component, generalised(component))


def _stale(reset: ResetVerdict, name: str, status: str) -> str:
    component = next((each for each in reset.components if each.name == name), None)
    blame = component.blame if component else None
    planted = "" if blame is None else f", planted by event {blame}"
    return f"{status}:{reset.how}:{generalised(name)}{planted}"
