"""Do two behaviours do the same with a candidate? A quick look, without comparing outputs one by one.

Where nothing that they do and answer differs, no output of the one diverges on the other: most
candidates that are too small are told by this alone. Where something differs, nothing is said, and
`replay.engine` decides. Counterpart: `model_oracle`.
"""

from __future__ import annotations

from typing import Any, Final

from replay.judge import model_of
from replay.minimize.oracle import Candidate
from replay.model.effects import HostCrash
from replay.profiles import Profile
from tracer.events import FIRST_OUTPUT, NUMBER, Event

_REG_READ: Final = NUMBER["reg.read"]
_PROBE: Final = NUMBER["probe"]


def agree(candidate: Candidate, one: Profile, other: Profile) -> bool:
    """Return whether two behaviours do and answer the same, as far as can be told at once."""
    first, second = (model_of(candidate.header, each) for each in (one, other))
    for event in candidate.events:
        if event[0] < FIRST_OUTPUT:
            try:
                same = first.apply(event, ()) == second.apply(event, ())
            except HostCrash:
                return False
        else:
            same = _told(first, event) == _told(second, event)
        if not same:
            return False
    return True


def _told(model: Any, event: Event) -> object:
    """Return what a model answers to a question."""
    if event[0] == _REG_READ:
        answer: object = model.read(event)
    elif event[0] == _PROBE:
        return model.live_rows()
    else:
        answer = model.asks[event[0]](event)
    return answer, model.errno()
