"""What the engine needs of others: a model, whoever looks on, and a reader.

Protocols only. The counterpart is `replay.engine`, which calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from replay.model import effects
from replay.targets.common import Answer
from tracer.events import Event
from tracer.log.header import Header

NOT_JUDGED: Final = "not judged"  # in `bound`: the model could not carry an input out

Apply = Callable[[Event, Sequence[Event]], list[effects.Effect]]
Read = Callable[[Event], int | None]


class Model(Protocol):
    """What the engine needs of a model target."""

    name: str
    expresses: frozenset[int]
    bound: dict[int, str]  # effect index -> `learned` or `assumed: why`, of the last input

    @property
    def apply(self) -> Apply:
        """Carries out an input, given the outputs that name it; returns its effects."""

    def unsure(self, *, registers: bool = False) -> None:
        """Events were lost: nothing known of guest RAM is certain any more.

        `registers`: any may have been, writes of registers too.
        """

    @property
    def read(self) -> Read:
        """Returns what a reg.read should have given; None for a bad access."""

    def errno(self) -> int:
        """Return the errno of the last thing that was asked for."""

    @property
    def asks(self) -> Mapping[int, Callable[[Event], Answer | None]]:
        """Kind of output that asks for itself -> what should have come."""

    def learn(self, event: Event) -> None:
        """Take over what was asked for and not certain."""

    def hidden(self, event: Event) -> int:
        """Return the bits of what a register's read gave that nothing had shown or set before.

        Only asked of a VM that was joined in the middle of its life (`replay.model.unknown`).
        """

    def live_rows(self) -> list[tuple[int, ...]] | None:
        """Return the live LPIs as lpi.live has them, or None where there are no such objects."""

    def may_differ(self, row: tuple[int, ...] | None, got: tuple[int, ...] | None) -> bool:
        """Return whether a listing may have `got` where the model has `row`, None for no row."""

    def not_listed(self, row: tuple[int, ...]) -> None:
        """Take over that an LPI was not listed, which `may_differ` allowed."""

    def violations(self) -> list[str]:
        """Return the names of invariants that do not hold."""


class Watcher(Protocol):
    """Who looks on while a trace is replayed; called after the model has taken the event in."""

    def before_input(self, seq: int, event: Event) -> None:
        """An input is about to be carried out."""

    def after_input(
        self, seq: int, event: Event, done: list[effects.Effect], outputs: Sequence[Event]
    ) -> None:
        """It was, with these effects on the model; the trace has these outputs of it."""

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """A register was read; `expected` is the model's answer."""

    def note(self, seq: int, event: Event) -> None:
        """A note was met."""

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """The replay begins with event `seq`, in the middle: the model was filled meanwhile."""


class Frames(Protocol):
    """What the engine needs of a reader: frames of events, and how the file fares."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def header(self) -> Header:
        """The trace's header."""

    @property
    def status(self) -> str:
        """`clean`, `cut` or `damaged`, as far as read."""

    @property
    def open_end(self) -> bool:
        """Whether outputs of the last input may be missing, once everything was read."""

    @property
    def checkpoint(self) -> bytes | None:
        """The state before the first event, where the trace begins with one."""

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        """Yield (first sequence number, events) of each frame."""
