"""A real target behind the engine: it carries out a frame at once, the engine compares afterwards.

A target that is asked one question at a time spends its life waiting. So the reader is wrapped:
each frame of a trace is carried out before the engine sees it, its answers wait in a queue, and the
engine, which knows how outputs are compared, takes them from there as if a model gave them. The
counterparts are `replay.engine` and the targets, `qemu` and `kvm`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, Self

from replay.model.effects import Effect, HostCrash
from replay.passed_on import PassedOn
from replay.targets.common import Answer
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER, Event
from tracer.log.opening import AnyReader

_REG_READ, _PROBE = NUMBER["reg.read"], NUMBER["probe"]
_BEGIN: Final = 0
FAILED: Final = -2  # in an item's `bound`: the errno of a read, as text
Item = tuple[Event, Any, dict[int, str]]  # event, answer, what the engine calls `bound`


class Group(NamedTuple):
    """An input with the outputs that the trace has of it, or an output that asks for itself."""

    seq: int
    event: Event
    outputs: Sequence[Event]


class _Open(NamedTuple):
    """A group that is not whole yet."""

    seq: int
    event: Event
    outputs: list[Event]


class Target(Protocol):
    """A real implementation that inputs are carried out on."""

    name: str
    expresses: frozenset[int]
    # Kinds of outputs that ask for themselves, reg.read among them; and `probe`, if it lists LPIs.
    asked: frozenset[int]

    def carry_out(self, groups: Sequence[Group]) -> list[Item]:
        """Carry out inputs, each with the outputs that the trace has of it, and read what is asked.

        Raises:
            TargetError: it cannot, or is gone.
        """

    @property
    def oops(self) -> Sequence[str]:
        """The lines with which a kernel died; none while it lives."""

    def registers(self) -> dict[str, int]:
        """Return the ITS registers by name, as they are now."""

    def close(self) -> None:
        """End it; nothing is left running."""


class Inspectable(Target, Protocol):
    """A target whose guest RAM can be looked at from outside, and copied to another like it."""

    def about(self) -> str:
        """Return what it says of its own version and build; nothing where its name says it."""

    def complete(self) -> None:
        """From here on every write to RAM is an event: nothing is put there as a guest would."""

    def pages(self) -> dict[int, int]:
        """Return address -> CRC-32 of every 4 KiB page of RAM that is not zero."""

    def load(self, gpa: int, size: int) -> bytes | None:
        """Return RAM; None where there is none."""

    def copy_ram(self, source: Self) -> None:
        """Make RAM equal to another target's of the same kind."""


class Grouper:
    """Gathers each input with its outputs; the last input waits, as its outputs may go on."""

    def __init__(self, asked: frozenset[int]) -> None:
        self._asked = asked
        self._held: _Open | None = None

    def take(self, first_seq: int, events: Sequence[Event]) -> list[Group]:
        """Return what can be carried out when these events are known too, in order."""
        ready: list[Group] = []
        for seq, event in enumerate(events, first_seq):
            kind = event[0]
            if kind in self._asked and (kind != _PROBE or event[2] == _BEGIN):
                ready += self.rest()
                ready.append(Group(seq, event, ()))
            elif kind < ev.FIRST_OUTPUT:
                ready += self.rest()
                if kind in ev.KINDS:  # of a newer trace's, nobody can carry it out
                    self._held = _Open(seq, event, [])
            elif kind >= ev.FIRST_NOTE:  # where the engine settles, too
                ready += self.rest()
            elif self._held and seq - event[2] == self._held.seq:
                self._held.outputs.append(event)
        return ready

    def rest(self) -> list[Group]:
        """Return what was held back."""
        held, self._held = self._held, None
        return [] if held is None else [Group(*held)]


class Ahead(PassedOn):
    """The engine's reader and model in one: a trace's frames, and a target's answers to them."""

    def __init__(self, reader: AnyReader, target: Target) -> None:
        super().__init__(reader)
        self._target = target
        self._items: deque[Item] = deque()
        self._grouper = Grouper(target.asked)
        self.name = target.name
        self.expresses = target.expresses
        self.bound: dict[int, str] = {}
        self.asks: Mapping[int, Callable[[Event], Answer | None]] = {
            kind: self._answer for kind in target.asked if kind not in (_REG_READ, _PROBE)
        }

    # -- the engine's reader

    @property
    def checkpoint(self) -> None:
        """A real target has no state that could be set."""
        if self._reader.checkpoint is not None:
            raise UsageError(
                f"{self._reader.name}: begins in the middle of a life, from a state that only a "
                "model can take"
            )

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        for first_seq, events in self._reader:
            self._items += self._target.carry_out(self._grouper.take(first_seq, events))
            yield first_seq, events
        self._items += self._target.carry_out(self._grouper.rest())

    # -- the engine's model

    def _take(self, event: Event) -> Any:
        of, answer, self.bound = self._items.popleft()
        assert of is event, "the engine and the target read the same trace"
        if isinstance(answer, HostCrash):
            raise answer
        return answer

    def apply(self, event: Event, outputs: Sequence[Event]) -> list[Effect]:
        """Return what the target did at an input; nothing where it cannot tell, as `bound` says."""
        answer: list[Effect] | None = self._take(event)
        return answer or []

    def read(self, event: Event) -> int | None:
        """Return what the target's register read; None for a bad access."""
        answer: int | None = self._take(event)
        return answer

    def _answer(self, event: Event) -> Answer | None:
        answer: Answer | None = self._take(event)
        return answer

    def errno(self) -> int:
        """Return the errno of the last thing that was asked for."""
        return int(self.bound.get(FAILED, 0))

    def learn(self, event: Event) -> None:
        """A target knows what it answers."""

    def unsure(self, *, registers: bool = False) -> None:
        """Events that are lost are lost to the target, too."""

    def hidden(self, event: Event) -> int:
        """A target was carried from its power-on: it hides nothing."""
        return 0

    def live_rows(self) -> list[tuple[int, ...]] | None:
        """Return the live LPIs that the target listed where a probe begins."""
        if _PROBE not in self._target.asked:
            return None
        rows: list[tuple[int, ...]] | None = self._items.popleft()[1]
        return rows

    def may_differ(self, row: tuple[int, ...] | None, got: tuple[int, ...] | None) -> bool:
        """No row may: a target's listing is what it lists."""
        return False

    def not_listed(self, row: tuple[int, ...]) -> None:
        """A target cannot take that over."""

    def violations(self) -> list[str]:
        """A target's inside is not seen."""
        return []
