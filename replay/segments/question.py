"""What is asked of a trace, as data: what it is replayed as, and who looks on.

Counterparts: `replay.segments.work`, which answers for a segment, and `replay.segments.run`, for a trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from replay.engine import Engine
from replay.judge import AnyModel, model_of, profile_named, with_flags
from replay.profiles import Profile
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.log.files import holding
from tracer.log.header import IN_PROCESS, Header
from tracer.log.opening import AnyReader


@dataclass(frozen=True, slots=True)
class Question:
    """`profile` is a name or a file's, whose bytes are in `files`; None: as the header says."""

    profile: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    cpus: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    verify: bool = False
    strict: bool = False
    invariants: bool = False

    def profile_for(self, header: Header) -> tuple[Profile, str | None]:
        """Return what a trace with this header is replayed as, and what is to be said of that.

        Raises:
            UsageError: nobody says, or it is not known.
        """
        with holding(self.files):
            named = profile_named(self.profile, header)
        if named is None:
            raise UsageError("the trace does not say what wrote it: give --profile")
        if self.cpus is not None:
            header.cpus = self.cpus
        return with_flags(named[0], self.flags), named[1]

    def model_for(self, header: Header) -> AnyModel:
        """Return a new model for a trace with this header."""
        return model_of(header, self.profile_for(header)[0])

    def verifier_for(self, model: AnyModel, header: Header) -> Verifier:
        """Return who looks on from the beginning."""
        return Verifier(model, strict=self.strict, under_test=header.source == IN_PROCESS)


@dataclass(slots=True)
class Found:
    """A trace's replay as one that was made in one piece leaves it.

    `ended` is the digest of its last state where somebody else replayed it, in so many pieces.
    """

    reader: AnyReader
    engine: Engine
    verifier: Verifier | None
    ended: str | None = None
    pieces: int = 1

    @property
    def digest(self) -> str:
        """The digest of the last state."""
        return self.ended or str(cast(AnyModel, self.engine.model).state()["digest"])
