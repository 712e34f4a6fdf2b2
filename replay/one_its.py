"""One ITS of a trace of several: the models have one, so that the events of others are left out.

LPIs and redistributors belong to the VM: what another ITS did to them is then not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from replay.passed_on import PassedOn
from replay.protocols import Frames
from tracer.events import NUMBER, Event, make

_CONTEXT: Final = NUMBER["context"]
_OF_THE_VM: Final = frozenset(
    NUMBER[name]
    for name in (
        "gicr.write", "gicd.write", "gicr.read", "gicd.read", "mem.write", "mem.read", "ram",
        "vcpu", "context", "lpi.live", "lpi.ack", "loss", "source.gap", "marker", "probe",
    )
)  # fmt: skip
_LEFT_OUT: Final[Event] = make("marker", 0, text="of another ITS")


class OneIts(PassedOn):
    """Frames of which the events of other ITSes are left out; they keep their numbers."""

    def __init__(self, frames: Frames, its: int) -> None:
        super().__init__(frames)
        self._its = its
        self._now = 0

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        """Yield (first sequence number, events) of each frame."""
        for first_seq, events in self._reader:
            yield first_seq, tuple(self._kept(event) for event in events)

    def _kept(self, event: Event) -> Event:
        if event[0] == _CONTEXT:
            self._now = event[2] if len(event) > 2 else 0
        if self._now == self._its or event[0] in _OF_THE_VM:
            return event
        return _LEFT_OUT
