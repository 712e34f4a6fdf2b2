"""What the verifier needs of a model beyond replay: a fresh one, its components, its lists.

Counterparts: `replay.verify`, and the models of `replay.targets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from replay.protocols import Model
from replay.reinit import Registers


class Listening(Protocol):
    """Who hears which keys of lists may have changed."""

    def taken(self) -> dict[str, set[Any]] | None:
        """Return list -> keys that may have changed since the last time; None for any of all."""

    def leave(self) -> None:
        """Ask no more."""


class Listed(Protocol):
    """Lists by component and key."""

    def structures(self) -> dict[str, Any]:
        """Return all of them."""

    def value(self, component: str, key: Any) -> Any:
        """Return what `structures` has for one key; None for nothing."""

    def touched_since(self) -> Listening | None:
        """Return who tells from now on which keys may have changed; None: nobody does."""


class Verifiable(Model, Protocol):
    """What the verifier needs of a model target beyond replay."""

    @property
    def profile(self) -> Any:
        """The profile, for its family."""

    @property
    def joined(self) -> bool:
        """Whether the recording began in the middle of this VM's life."""

    def fresh(self) -> Verifiable:
        """Return a device never used, in a VM with a copy of this RAM."""

    def handed_over(self) -> Verifiable | None:
        """Return a copy of this VM whose ITS has nothing mapped; None where nobody can have one."""

    def components(self) -> dict[str, Any]:
        """Return every component that a reset is judged by; None for what is not known."""

    def redistributors(self) -> dict[str, Any]:
        """Return those of the redistributors, which are named with their CPU."""

    def registers(self) -> Registers:
        """Return the ITS registers by name; None for one that is not wholly known."""

    def structures(self) -> dict[str, Any]:
        """Return what is kept outside guest RAM, by component and key."""

    def value(self, component: str, key: Any) -> Any:
        """Return what `structures` has for one key; None for nothing."""

    def touched_since(self) -> Listening | None:
        """Return who tells from now on which keys may have changed; None: nobody does."""

    def mapped(self) -> dict[str, Any]:
        """Return the mappings that guest RAM holds, by component and key."""

    def mapped_lists(self) -> Listed | None:
        """Return these for one who follows them; None where they cannot be followed."""

    def entry_gpa(self, component: str, key: Any) -> int | None:
        """Return where a restore reads the entry of a key, None where nobody knows."""

    def state(self) -> dict[str, Any]:
        """Return the state as JSON has it."""

    def shown(self) -> dict[str, Any]:
        """Return it without its digest."""

    @property
    def may_stray(self) -> bool:
        """Whether an LPI may live that no mapping holds, and that nobody could see."""

    def left_in_ram(
        self, before: Mapping[str, Any], pages: list[tuple[int, int]]
    ) -> dict[str, int]:
        """Return component -> valid entries in these (address, bytes) of the tables of before."""
