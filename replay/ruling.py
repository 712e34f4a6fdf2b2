"""Good, bad, or not to be judged: what a build is, by one signature.

A finding of another signature is not bad, so that a second bug misleads no bisection. That the
signature is absent is good only where it would have been seen: what was lost, hidden behind another
death, or never asked proves nothing. Counterpart: `replay.builds`, which runs one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from replay.engine import MAX_LISTED, Engine
from replay.equivalence.run import Outcome
from replay.equivalence.signatures import kind_of, looked_at
from replay.judge import DIVERGENT, INVARIANT, generalised
from replay.verdict import STALE, SUSPECTED
from replay.verify import Verifier
from tracer.errors import UsageError

GOOD: Final = "good"
BAD: Final = "bad"
CANNOT: Final = "cannot judge"
COMPLAINT: Final = "complaint"
OF_A_RESET: Final = (STALE, SUSPECTED)
_FORM: Final = re.compile(
    r"(?P<word>crash|invariant|complaint):(?P<what>[^\x00-\x1f]{1,80})"
    r"|(?P<verdict>stale|suspected|divergent):(?P<kind>[a-z_.]{1,40}):(?P<part>[\w.\[\]-]{1,60})"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature taken apart: `stale:ctrl_reset:lpi` is word, kind and what."""

    text: str
    word: str
    kind: str
    what: str

    def is_met_by(self, found: str) -> bool:
        """Return whether a finding is this one: what was suspected may since have been shown."""
        return found == self.text or (
            self.word == SUSPECTED and found == f"{STALE}:{self.kind}:{self.what}"
        )


def parse_signature(text: str) -> Signature:
    """Take a signature apart.

    Raises:
        UsageError: it has no such form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"a signature is stale:RESET:COMPONENT, suspected:..., divergent:EVENT:FIELD, "
            f"crash:FUNCTION, invariant:NAME or complaint:LINE, not {text!r:.80}"
        )
    if match["verdict"]:
        return Signature(text, match["verdict"], match["kind"], match["part"])
    return Signature(text, match["word"], "", match["what"])


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a build is; `found` are the signatures of all that was found, `why` it cannot be judged."""

    word: str
    found: tuple[str, ...] = ()
    why: str = ""


def weigh(wanted: Signature, found: Iterable[str], blind: str | None) -> Ruling:
    """Rule; `blind` is why the signature's absence would prove nothing."""
    told = tuple(dict.fromkeys(found))
    if any(map(wanted.is_met_by, told)):
        return Ruling(BAD, told)
    return Ruling(CANNOT, told, blind) if blind else Ruling(GOOD, told)


def spoiled(engine: Engine) -> str | None:
    """Return why nothing that was found in a replay counts, or None."""
    if engine.reader.status == "damaged":
        return "the trace is damaged"
    return "the trace holds inputs of a newer itstrace" if engine.unknown_inputs else None


def blind_replay(wanted: Signature, engine: Engine) -> str | None:
    """Return why a replay that does not show the signature proves nothing, or None."""
    if engine.crash:
        seq, function = engine.crash
        return f"it dies in {function} at event {seq}, and what follows was not seen"
    if engine.lost:
        return "events are missing in the trace"
    unjudged = engine.tally.unjudged.get(wanted.kind, 0) if wanted.word == DIVERGENT else 0
    if unjudged:
        return f"{unjudged} x {wanted.kind} could not be judged"
    if wanted.word == INVARIANT and len(engine.violated) >= MAX_LISTED:
        return "too many violations: those behind the first were not looked at"
    return None


def blind_verdicts(wanted: Signature, verifier: Verifier) -> str | None:
    """Return why the verdicts of a replay could not have shown the signature, or None."""
    if wanted.word not in OF_A_RESET:
        return None
    told: dict[str, set[str]] = {}
    for reset in verifier.resets:
        told.setdefault(reset.how, set()).update(map(generalised, reset.statuses()))
    if verifier.round_trips:
        told["restore"] = {"device", "event", "collection", "errno"}
    if wanted.kind not in told:
        return f"no {wanted.kind} was judged"
    if wanted.what not in told[wanted.kind]:
        known = ", ".join(sorted(told[wanted.kind]))
        return f"of a {wanted.kind} no {wanted.what} is judged, but {known}"
    return None


def blind_outcomes(wanted: Signature, outcomes: Sequence[Outcome], left: int) -> str | None:
    """Return why a target's answers could not have shown the signature, or None."""
    if not outcomes:
        return "there was nothing to ask"
    if left:
        return f"{left} questions were not asked"
    if wanted.word in OF_A_RESET:
        asked = [each for each in outcomes if kind_of(each) == wanted.kind]
        if not asked:
            return f"no {wanted.kind} was asked about"
        return next((_unseen(wanted, each) for each in asked if _unseen(wanted, each)), None)
    died = next((each.crash for each in outcomes if each.crash), None)
    return f"it died in {died[1]}, and what follows was not asked" if died else None


def _unseen(wanted: Signature, outcome: Outcome) -> str | None:
    if looked_at(outcome, wanted.what):
        return None
    died = f": it died in {outcome.crash[1]}" if outcome.crash else ""
    return f"{outcome.title()}: no answer spoke of {wanted.what}{died}"
