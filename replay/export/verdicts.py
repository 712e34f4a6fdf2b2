"""What is to be said of the resets of a trace that is being exported: it is verified meanwhile.

Counterpart: `replay.verify`. Where a trace cannot be judged, the reason is told instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from replay.engine import Engine
from replay.judge import model_of, of_reset, of_round_trip, profile_named
from replay.model.effects import HostCrash
from replay.verdict import ResetVerdict, RoundTrip
from replay.verify import Verifier
from tracer.errors import TracerError
from tracer.events import Event
from tracer.log.header import IN_PROCESS
from tracer.log.opening import AnyReader

NO_PROFILE: Final = "the trace does not say what wrote it"
BEHIND: Final = "nothing is known behind what could not be replayed"


class Verdicts:
    """Replays what it is fed; `reason` says why it does not, or no longer does."""

    def __init__(self, reader: AnyReader) -> None:
        self.reason: str | None = None
        self._reader = reader
        self._known = (0, 0)
        self._engine: Engine | None = None
        self._verifier: Verifier | None = None
        try:
            named = profile_named(None, reader.header)
            if named is None:
                self.reason = NO_PROFILE
                return
            model = model_of(reader.header, named[0])
            under_test = reader.header.source == IN_PROCESS
            self._verifier = Verifier(model, under_test=under_test)
            self._engine = Engine(reader, model, self._verifier)
        except TracerError as error:
            self.reason = str(error)

    def feed(self, first_seq: int, events: tuple[Event, ...]) -> None:
        """Replay a frame, as long as what stood before it is known."""
        if self._engine is None or self.reason:
            return
        if self._reader.status == "damaged":
            self.finish()
            self.reason = BEHIND
            return
        try:
            self._engine.feed(first_seq, events)
        except HostCrash:
            self.reason = BEHIND

    def finish(self) -> None:
        """Carry out the last input."""
        if self._engine is None or self.reason:
            return
        try:
            self._engine.settle()
        except HostCrash:
            self.reason = BEHIND

    def news(self) -> list[int]:
        """Return the events of which there is a verdict since this was asked last."""
        if self._verifier is None:
            return []
        resets, trips = self._verifier.resets, self._verifier.round_trips
        new = [each.seq for each in resets[self._known[0] :]]
        new += [each.seq for each in trips[self._known[1] :]]
        self._known = len(resets), len(trips)
        return new + ([self._engine.crash[0]] if self._engine and self._engine.crash else [])

    def told(self) -> list[tuple[int, str, dict[str, str]]]:
        """Return (event, what, annotations) of each reset and round trip, and of a crash."""
        found = []
        if self._verifier is not None:
            found += [(each.seq, each.how, _of_reset(each)) for each in self._verifier.resets]
            found += [
                (each.seq, "round trip", _of_trip(each)) for each in self._verifier.round_trips
            ]
        if self._engine is not None and self._engine.crash:
            seq, function = self._engine.crash
            found.append((seq, "crash", {"verdict": function}))
        return found


def _of_reset(reset: ResetVerdict) -> dict[str, str]:
    told = {
        "verdict": reset.word,
        "observed": f"{reset.observed} of {len(reset.spoken_of)}",
        "findings": _listed(signature for signature, _ in of_reset(reset)),
        "caveats": _listed(name for name in ("lossy", "perturbed") if getattr(reset, name)),
    }
    return {name: value for name, value in told.items() if value}


def _of_trip(trip: RoundTrip) -> dict[str, str]:
    findings = _listed(of_round_trip(trip))
    return {"verdict": trip.word} | ({"findings": findings} if findings else {})


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
