"""Verdicts as a page has them: what is the same of many resets stands there once.

A boot that is repeated is judged alike each time; only the numbers of its events are others. So a
component counts them from its reset. Counterpart: assets/resets.js.
"""

from __future__ import annotations

import json
from typing import Any

from replay.report.stories import Place, Story
from replay.verdict import Component, Observation, ResetVerdict, RoundTrip
from replay.verify import Verifier


class Shared:
    """Documents that are kept once."""

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self._ids: dict[str, int] = {}

    def id_of(self, document: Any) -> int:
        """Return the number of a document."""
        key = json.dumps(document)
        found = self._ids.setdefault(key, len(self.documents))
        if found == len(self.documents):
            self.documents.append(document)
        return found


def summaries(verifier: Verifier) -> list[dict[str, Any]]:
    """Return of each reset what the page shows before anybody asks for more."""
    return [{"seq": each.seq, "kind": each.how, "verdict": each.word} for each in verifier.resets]


def verdicts(verifier: Verifier, told: dict[Place, Story]) -> dict[str, Any]:
    """Return all of it: resets, round trips, and what they share."""
    shared = Shared()
    return {
        "resets": [_reset(each, told, shared) for each in verifier.resets],
        "round_trips": [_trip(each, told) for each in verifier.round_trips],
        "shared": shared.documents,
    }


def _reset(verdict: ResetVerdict, told: dict[Place, Story], shared: Shared) -> dict[str, Any]:
    blames = {
        each.name: {"seq": each.blame, "story": told.get((verdict.seq, each.name))}
        for each in verdict.components
        if each.blame is not None
    }
    return {
        "observed": verdict.observed,
        "of": len(verdict.spoken_of),
        "perturbed": verdict.perturbed,
        "lossy": verdict.lossy,
        "disabled_at": verdict.since,
        "left_in_ram": verdict.left_in_ram,
        "components": [shared.id_of(_component(each, verdict, shared)) for each in verdict.components],
        "blames": blames,
    }  # fmt: skip


def _component(each: Component, verdict: ResetVerdict, shared: Shared) -> dict[str, Any]:
    seen = each.wrong or (each.observed[0] if each.observed else None)
    clause = each.clause and shared.id_of(f"{each.clause.says} ({each.clause.source})")
    return {
        "name": each.name,
        "status": each.status(strict=verdict.strict),
        "fresh": _brief(each.fresh),
        "replayed": _brief(each.replayed),
        "seen": seen and _seen(seen, verdict.seq),
        "clause": clause,
        "because": each.reason,
        "before_recording": verdict.planted_before(each),
    }


def _seen(seen: Observation, since: int) -> dict[str, Any]:
    return {"after": seen.seq - since, "value": hex(seen.value) if seen.mask else None}


def _brief(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return hex(value)
    return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}" if value else "none"


def _trip(each: RoundTrip, told: dict[Place, Story]) -> dict[str, Any]:
    places = ((each.seq, name) for name in each.came_back)
    story = next((told[place] for place in places if place in told), None)
    return {
        "seq": each.seq,
        "saved_seq": each.saved_seq,
        "verdict": each.word,
        "errno": each.errno,
        "came_back": {name: len(keys) for name, keys in each.came_back.items()},
        "lost": {name: len(keys) for name, keys in each.lost.items()},
        "witness": each.witness,
        "blame": None if each.blame is None else {"seq": each.blame, "story": story},
    }
