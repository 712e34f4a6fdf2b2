"""A reader's frames passed on by somebody who changes some of them, or sees them first.

How the file fares is as the reader says. Counterpart: `replay.protocols`, whose Frames this is.
"""

from __future__ import annotations

from replay.protocols import Frames


class PassedOn:
    """What is the reader's own; whoever passes frames on says in `__iter__` which."""

    def __init__(self, reader: Frames) -> None:
        self._reader = reader
        self.name, self.header = reader.name, reader.header

    @property
    def status(self) -> str:
        """As the reader's."""
        return self._reader.status

    @property
    def open_end(self) -> bool:
        """As the reader's."""
        return self._reader.open_end

    @property
    def checkpoint(self) -> bytes | None:
        """As the reader's."""
        return self._reader.checkpoint
