"""Why a trace got its word, in lines that a log can hold: each reset, what was expected and got, the blame.

Counterparts: `replay.judge`, which finds it, and `replay.corpus`, which asks for it where an expectation
is not met.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from replay.blame import Blamer
from replay.blame_text import lines as blame_lines
from replay.commands.common import clean
from replay.components import Target, name_of_key
from replay.decode import describe
from replay.engine import Engine
from replay.history import History
from replay.judge import Judgement, model_of
from replay.one_its import OneIts
from replay.profiles import Profile
from replay.verdict import FINDINGS, STALE, Component, ResetVerdict, RoundTrip
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.log.files import Where
from tracer.log.header import IN_PROCESS
from tracer.log.opening import open_trace

SHOWN: Final = 3  # resets with a finding, divergences, broken invariants, keys of a list
SHOWN_COMPONENTS: Final = 6  # of one reset
SHOWN_HEADLINES: Final = 10
SHOWN_BYTES: Final = 16
BLAMED: Final = 2  # components with their whole history; each costs a replay
MAX_LINE_CHARS: Final = 400


class Explainer:
    """Tells of one judgement; `replayed` are what the replay was made with."""

    def __init__(self, found: Judgement, trace: Where, profile: Profile, *, strict: bool) -> None:
        self._found = found
        self._trace = trace
        self._profile = profile
        self._strict = strict
        self._blamed = 0
        self.asked: str | None = None  # the component whose history is told, as `blame` takes it
        self.at: int | None = None

    def lines(self) -> list[str]:
        """Return what was found, worst first, clean and of bounded length."""
        return [clean(each)[:MAX_LINE_CHARS] for each in self._told()]

    def _told(self) -> Iterator[str]:
        engine, verifier = self._found.engine, self._found.verifier
        if engine.crash:
            yield f"event {engine.crash[0]}: the host dies in {engine.crash[1]}"
        yield from self._resets(verifier.resets)
        for trip in verifier.round_trips[:SHOWN_HEADLINES]:
            yield from self._trip(trip)
        for each in engine.tally.divergences[:SHOWN]:
            yield (
                f"event {each.seq}: {each.kind}: {each.field}: recorded {_short(each.got)}, "
                f"{self._profile.name} answers {_short(each.expected)}"
            )
        for seq, name in engine.violated[:SHOWN]:
            yield f"event {seq}: the state breaks the invariant {name}"
        if engine.lost:
            yield f"events are missing in {engine.lost} places of this trace"

    def _resets(self, resets: list[ResetVerdict]) -> Iterator[str]:
        if not resets:
            yield "no reset in this trace"
        told = 0
        for index, verdict in enumerate(resets[:SHOWN_HEADLINES]):
            total = len(verdict.spoken_of)
            yield (
                f"reset {index}: {verdict.how} at event {verdict.seq}: {verdict.word} "
                f"({verdict.observed} of {total} components observed equal to a fresh device)"
            )
            if verdict.word in FINDINGS and told < SHOWN:
                told += 1
                yield from self._findings(verdict)
        if len(resets) > SHOWN_HEADLINES:
            yield f"and {len(resets) - SHOWN_HEADLINES} more resets"

    def _findings(self, verdict: ResetVerdict) -> Iterator[str]:
        words = verdict.statuses()
        found = [each for each in verdict.components if words[each.name] in FINDINGS]
        found.sort(key=lambda each: FINDINGS.index(words[each.name]))
        for each in found[:SHOWN_COMPONENTS]:
            yield from self._component(each, verdict)
        if len(found) > SHOWN_COMPONENTS:
            yield f"  and {len(found) - SHOWN_COMPONENTS} more components"

    def _component(self, each: Component, verdict: ResetVerdict) -> Iterator[str]:
        status = each.status(strict=verdict.strict)
        yield f"  {each.name}: {status}"
        yield f"    expected  {_short(each.fresh, each.name)}, as a fresh device has it"
        if status == STALE and each.wrong:
            seen = hex(each.wrong.value) if each.wrong.mask else _short(_left(each), each.name)
            yield f"    got       {seen}, shown by event {each.wrong.seq}"
        else:
            yield f"    got       {_short(each.replayed, each.name)}, as the model has it"
        if each.clause:
            yield f"    contract  {each.clause.says} [{each.clause.source}]"
        yield from (f"    {line}" for line in self._history(each, verdict.seq))

    def _history(self, each: Component, at: int) -> Iterator[str]:
        yield from self._written(_target(each), at, each.blame)

    def _written(self, target: Target | None, at: int, blame: int | None) -> Iterator[str]:
        """Yield who wrote it: its whole history for the first few, else the event alone."""
        if self._blamed < BLAMED and target is not None:
            self._blamed += 1
            with suppress(UsageError):  # there is no such thing: the event is all that is known
                yield from self._blame(target, at)
                return
        if blame is not None:
            yield f"written by {self._event(blame)}"

    def _blame(self, target: Target, at: int) -> Iterator[str]:
        with open_trace(str(self._trace)) as reader:
            model = model_of(reader.header, self._profile)
            verifier = Verifier(
                model, strict=self._strict, under_test=reader.header.source == IN_PROCESS,
                writers=History(),
            )  # fmt: skip
            blamer = Blamer(model, verifier, target, at)
            engine = Engine(OneIts(reader, target.its), model, blamer)
            engine.run()
            blame = blamer.finish(engine.seq, str(self._trace))
        if self.asked is None:
            self.asked, self.at = target.name, at
        yield from blame_lines(blame, model.name)

    def _trip(self, trip: RoundTrip) -> Iterator[str]:
        yield f"round trip: saved at event {trip.saved_seq}, restored at {trip.seq}: {trip.word}"
        if trip.errno:
            yield f"  expected  a restore that works; got {trip.errno}"
        for words, found in (
            ("gone, since it was unmapped or never saved; got it back", trip.came_back),
            ("there again; got nothing of it", trip.lost),
        ):
            for name, keys in found.items():
                yield f"  expected  {_short(dict.fromkeys(keys), name)} {words}"
        if trip.witness is not None:
            yield f"  shown by  event {trip.witness}"
        yield from (f"  {line}" for line in self._history_of_trip(trip))

    def _history_of_trip(self, trip: RoundTrip) -> Iterator[str]:
        """Yield who wrote the first key that came back or was lost."""
        found = next(
            (item for item in (*trip.came_back.items(), *trip.lost.items()) if item[1]), None
        )
        target = Target(found[0], found[1][0]) if found else None
        yield from self._written(target, trip.seq, trip.blame)

    def _event(self, wanted: int) -> str:
        """Return an event in words; it is read again, as nobody kept it."""
        with open_trace(str(self._trace)) as reader:
            for first, events in reader:
                if first <= wanted < first + len(events):
                    return f"event {wanted}: {describe(events[wanted - first])}"
        return f"event {wanted}"


def _left(each: Component) -> Any:
    """Return what of a list should not be there: what outlived the reset, else what was before it."""
    return each.replayed if each.replayed_differs() else each.before


def _target(each: Component) -> Target | None:
    """Return what to ask the history of: a register, or the first key that a fresh list lacks."""
    if isinstance(each.fresh, int):
        return Target(each.name)
    left, fresh = _left(each), each.fresh or {}
    if not isinstance(left, dict):
        return None
    key = next((key for key, item in left.items() if fresh.get(key) != item), None)
    return None if key is None else Target(each.name, key)


def _short(value: Any, component: str = "") -> str:
    if isinstance(value, dict):
        names = [name_of_key(component, key) for key in list(value)[:SHOWN]]
        more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return ", ".join(names) + more if names else "none"
    if value is None:
        return "unknown"
    if isinstance(value, bytes):
        return value[:SHOWN_BYTES].hex() + ("..." if len(value) > SHOWN_BYTES else "")
    return hex(value) if isinstance(value, int) else str(value)
