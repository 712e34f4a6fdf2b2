"""What `show -f` and `verify -f` share: a trace that is followed, and output that does not wait.

A verdict is told when its word changes, when the evidence of a probe is in, and when it is final:
the next reset came, or the trace ended. Counterpart: `replay.settling`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from replay.commands.common import say
from replay.engine import Engine
from replay.model.effects import HostCrash
from replay.settling import Settling
from replay.verdict import UNPROVEN, ResetVerdict
from replay.verify import Verifier
from tracer.events import Event
from tracer.log.follow import follow_trace
from tracer.log.opening import AnyReader, open_trace


def opened(options: argparse.Namespace) -> AbstractContextManager[AnyReader]:
    """Open the trace that the options name, to its end or following it."""
    if options.follow:
        return follow_trace(options.trace, say)
    return open_trace(options.trace)


def each_shown(reader: AnyReader) -> Iterator[tuple[int, tuple[Event, ...]]]:
    """Yield frames; what was printed of one is out before the next is waited for."""
    for frame in reader:
        yield frame
        sys.stdout.flush()


# When a verdict is told.
CHANGED: Final = "changed"
PROBED: Final = "probed"
FINAL: Final = "final"
Tell = Callable[[int, ResetVerdict, str], None]


class Following:
    """Tells the verdicts of a verifier, frame by frame."""

    def __init__(self, verifier: Verifier, tell: Tell) -> None:
        self._verifier = verifier
        self._settling = Settling(verifier)
        self._tell = tell
        self._open = 0  # the first reset that is not final
        self._word = UNPROVEN  # what was told of it
        self._probed_seq = -1  # the probe after which it was told

    def after(self, first_seq: int, events: Sequence[Event]) -> None:
        """Tell what is new after these events."""
        self._settling.feed(first_seq, events)
        self._finish(len(self._verifier.resets) - 1)
        if self._open < len(self._verifier.resets):
            self._so_far(self._verifier.resets[self._open])
        sys.stdout.flush()

    def _so_far(self, verdict: ResetVerdict) -> None:
        probed_seq = self._settling.probed_seq
        if self._settling.probing:
            return
        if probed_seq > max(verdict.seq, self._probed_seq):
            self._probed_seq, self._word = probed_seq, verdict.word
            self._tell(self._open, verdict, PROBED)
        elif verdict.word != self._word:
            self._word = verdict.word
            self._tell(self._open, verdict, CHANGED)

    def _finish(self, count: int) -> None:
        while self._open < count:
            self._tell(self._open, self._verifier.resets[self._open], FINAL)
            self._open += 1
            self._word = UNPROVEN

    def end(self) -> None:
        """Nothing more comes: tell the rest."""
        self._finish(len(self._verifier.resets))


def follow(engine: Engine, verifier: Verifier, tell: Tell) -> bool:
    """Replay what is written while it is, and tell its verdicts; return whether ^C ended it."""
    following = Following(verifier, tell)
    interrupted = False
    try:
        engine.run(after=following.after)
    except KeyboardInterrupt:
        interrupted = True
        with suppress(HostCrash):
            engine.settle()
    finally:
        following.end()
    return interrupted
