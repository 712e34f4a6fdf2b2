"""The flight recorder's writer, and the model that runs along with a ring.

The model is what makes the first event that is kept replayable, and its verifier what tells a
stale reset when it happens. Counterpart: `tracer.log.ring`.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from types import FrameType
from typing import Any, BinaryIO, Final

from replay import checkpoints
from replay.commands.common import say
from replay.commands.ring_options import RESET, STALE, Folder
from replay.engine import Engine
from replay.judge import model_of, profile_named
from replay.model.effects import HostCrash
from replay.profiles import Profile
from replay.settling import Settling
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.events import POWER_ON, RESET_KINDS, Event
from tracer.log.header import IN_PROCESS, RUNNING, Header
from tracer.log.ring import END, Ring
from tracer.log.stream import Writer

_FIRST: Final = RESET_KINDS[POWER_ON]  # before which there is nothing to write out
QUIET_SECONDS: Final = 1.0  # after which a reset is not waited on for more evidence


def make_writer(
    out: BinaryIO | Folder, output: str, header: Header, options: argparse.Namespace, **more: Any
) -> Writer | Ring:
    """Return what events are to be added to."""
    bounds = {
        "bound_events": options.bound_events, "bound_ms": options.bound_ms,
        "fsync": options.fsync,
    } | more  # fmt: skip
    if not isinstance(out, Folder):
        return Writer(out, header, name=output, **bounds)
    reasons = options.dump_on or [END]
    return Ring(
        output, header, size_bytes=options.ring, along=Flight.of(header, output, reasons),
        at_end=END in reasons, folder=out.path, **bounds,
    )  # fmt: skip


@contextmanager
def dumps_on_signal(writer: Writer | Ring) -> Iterator[None]:
    """Let SIGUSR1 write the ring out."""
    if not isinstance(writer, Ring):
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        writer.ask("SIGUSR1")

    before = signal.signal(signal.SIGUSR1, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def tell_dumps(writer: Writer | Ring) -> None:
    """Say what a ring wrote."""
    if isinstance(writer, Ring):
        said = ", ".join(writer.dumps) or "no file: nothing asked for one"
        say(f"the ring was written to {said}")


class _Live:
    """What an engine asks of the reader of a trace that is given to it as it is written."""

    def __init__(self, header: Header, name: str) -> None:
        self.header = header
        self.name = name
        self.status = "clean"
        self.checkpoint = None
        self.open_end = True

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        return iter(())


class Flight:
    """Replays what is recorded, and keeps no more of it than the model's state."""

    def __init__(self, header: Header, name: str, profile: Profile, reasons: Sequence[str]) -> None:
        self._header = header
        self._name = name
        self._profile = profile
        self._reasons = reasons
        self._told: dict[str, int] = {}  # reason -> the last reset that it was given for
        self._last_event_s = monotonic()
        self._begin(header)

    def _begin(self, header: Header) -> None:
        self._model = model_of(header, self._profile)
        self.verifier = Verifier(self._model, under_test=header.source == IN_PROCESS)
        self._settling = Settling(self.verifier)
        judged = RESET in self._reasons or STALE in self._reasons
        reader = _Live(header, self._name)
        self._engine: Engine | None = Engine(reader, self._model, self.verifier if judged else None)

    @classmethod
    def of(cls, header: Header, name: str, reasons: Sequence[str]) -> Flight | None:
        """Return one for the profile that the header names; without one there is no state."""
        try:
            named = profile_named(None, header)
            if named is None:
                raise UsageError("nobody knows what writes this trace")
            return cls(header, name, named[0], reasons)
        except UsageError as error:
            if set(reasons) - {END}:
                raise
            say(f"{name}: the ring begins without a state: {error}")
            return None

    def feed(self, first_seq: int, events: Sequence[Event]) -> str | None:
        """Replay events; return why to dump now, if at all."""
        if self._engine is None:
            return None
        if events:
            self._last_event_s = monotonic()
            try:
                self._engine.feed(first_seq, tuple(events))
            except HostCrash as crash:
                self._give_up(f"the host dies in {crash.function}")
                return STALE if STALE in self._reasons else None
            if self._engine.unknown_inputs:
                self._give_up("it has inputs of a newer itstrace")
                return None
            self._settling.feed(first_seq, events)
        return self._why(first_seq + len(events))

    def _why(self, next_seq: int) -> str | None:
        resets = self.verifier.resets
        quiet = monotonic() - self._last_event_s > QUIET_SECONDS
        for at, verdict in enumerate(resets):
            if STALE in self._reasons and self._settling.is_stale(verdict):
                due = STALE
            elif (
                RESET in self._reasons
                and verdict.how != _FIRST
                and (quiet or self._settling.evidence_is_in(verdict, next_seq))
            ):
                due = RESET
            else:
                continue
            if self._told.get(due, -1) < verdict.seq:
                self._told[due] = verdict.seq
                del resets[:at]  # those are told, and a VM may be reset for years
                return f"{due} at event {verdict.seq}"
        del resets[:-1]
        return None

    def checkpoint(self, seq: int) -> bytes | None:
        """Return the state before event `seq`; None where it is not known from here on."""
        if self._engine is None:
            return None
        try:
            standing = self._engine.standing
            return checkpoints.snapshot(self._model, seq, standing)
        except HostCrash as crash:
            self._give_up(f"the host dies in {crash.function}")
        except UsageError as error:
            self._forget(seq, str(error))
        return None

    def _forget(self, seq: int, why: str) -> None:
        """Begin anew as if the VM were joined here: what a model knows of RAM grows for years."""
        self._begin(replace(self._header, starts=RUNNING, first_seq=seq))
        if self._model.joined:
            say(f"{self._name}: what was known of the VM before event {seq} is forgotten: {why}")
        else:
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        """Go on without a model: what is recorded from here on begins with an unknown state."""
        say(f"{self._name}: from here on the ring has no state to begin with: {why}")
        self._engine = None
