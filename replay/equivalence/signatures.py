"""The signatures of what a target answered of itself, and what it was asked about at all.

They are spelled as a model's are, so that both name one bug alike: what a round trip carries in RAM
is `stale:restore:device`. Counterpart: `replay.judge`.
"""

from __future__ import annotations

from typing import Final

from replay.equivalence.plan import PENDING, ROUND
from replay.equivalence.run import Outcome
from replay.judge import CRASH, generalised
from replay.verdict import STALE

# What a signature calls a question that is of no reset.
NAMES: Final = {ROUND: "restore", PENDING: "save_pending"}
# What a comparison of all RAM shows: everything that SAVE_TABLES and SAVE_PENDING_TABLES write.
_IN_RAM: Final = frozenset(("device", "event", "collection", "lpi"))


def kind_of(outcome: Outcome) -> str:
    """Return what a signature calls the question: the reset's kind, `restore`, `save_pending`."""
    question = outcome.question
    return question.kind or NAMES[question.what]


def signatures(outcome: Outcome) -> list[str]:
    """Return the signatures of an outcome's findings; what a guest did itself is none."""
    found = [f"{CRASH}:{outcome.crash[1]}"] if outcome.crash else []
    found += [
        f"{STALE}:{kind_of(outcome)}:{generalised(each.component)}"
        for each in outcome.differences
        if each.is_finding()
    ]
    return list(dict.fromkeys(found))


def looked_at(outcome: Outcome, component: str) -> bool:
    """Return whether an answer spoke of a component, whatever it said."""
    told = {generalised(name) for name in outcome.looked}
    told |= {generalised(each.component) for each in outcome.differences}
    if component in told:
        return True
    compared = {"RAM", "pending tables"} & outcome.looked.keys() or any(
        each.gpa is not None for each in outcome.differences
    )
    return bool(compared) and component in _IN_RAM
