"""When a reset's verdict may be told: its probe has ended, or enough of the next life was seen.

A reset is final when the next one comes or the trace ends; before that more evidence may come.
Counterparts: `verify -f`, which tells verdicts as they happen, and the flight recorder's triggers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from replay.verdict import STALE, ResetVerdict
from replay.verify import Verifier
from tracer.events import EDGES, NUMBER, Event

_PROBE: Final = NUMBER["probe"]
_BEGIN: Final = EDGES.index("begin")
EVENTS_AFTER_RESET: Final = 1000


class Settling:
    """Follows what a verifier is given, frame by frame."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.probing = False
        self.probed_seq = -1  # the last end of a probe

    def feed(self, first_seq: int, events: Sequence[Event]) -> None:
        """Note the probes among events that the verifier was given."""
        for seq, event in enumerate(events, first_seq):
            if event[0] == _PROBE:
                self.probing = event[2] == _BEGIN
                if not self.probing:
                    self.probed_seq = seq

    def evidence_is_in(self, verdict: ResetVerdict, next_seq: int) -> bool:
        """Return whether what was to be seen of a reset soon after it was seen."""
        if verdict is not self._verifier.resets[-1]:
            return True
        if self.probing:
            return False
        return self.probed_seq > verdict.seq or next_seq > verdict.seq + EVENTS_AFTER_RESET

    def is_stale(self, verdict: ResetVerdict) -> bool:
        """Return whether a reset was seen stale, and no probe is still looking at it."""
        last = verdict is self._verifier.resets[-1]
        return verdict.word == STALE and not (last and self.probing)
