"""What a reproducer asks of a trace: which of its events are the life, and which the questions.

The questions are the recorded ones, as `verify --on TARGET` asks them: behind a reset, of a VM with
a past and of a fresh one; behind a restore, of a VM that was saved and restored and of one that was
not. Counterparts: `replay.equivalence.plan`, and `kvm_c`, which tells the story.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from replay.equivalence.plan import RESET, ROUND, Question, plan
from replay.manifest import manifest_path, read_manifest
from replay.profiles import find
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER, Event
from tracer.log.header import POWER_ON, Header

OUTPUTS, CRASH, ROUND_TRIP = "outputs", "crash", "round-trip"
WAYS: Final = (OUTPUTS, CRASH, RESET, ROUND_TRIP)
_RESET: Final = NUMBER["reset"]
_FUNCTION: Final = re.compile(r"crash:([A-Za-z_]\w{0,80})")


def foreign(header: Header, family: str, whose: str) -> str | None:
    """Return why a life cannot be carried out on an implementation of this family, or None."""
    profile = find(header.profile)[0] if header.profile else None
    if profile is not None and profile.family != family:
        return f"it is a trace of {profile.name}: what it shows is not {whose}"
    if header.starts != POWER_ON:
        return "it begins in the middle of a VM's life"
    return None


@dataclass(slots=True)
class Plot:
    """One way to ask; sequence numbers are indices into `events`."""

    how: str
    events: Sequence[Event]
    life: range
    questions: range
    question: Question | None = None
    function: str = ""  # in which a host dies
    shows: str = ""
    sources: list[str] = field(default_factory=list)


def plot_of(events: Sequence[Event], path: str, how: str | None, at: int | None = None) -> Plot:
    """Return how a trace is asked: as told, or as its manifest's signature and its events suggest.

    Raises:
        UsageError: the trace has no reset or round trip that could be asked about.
    """
    shows, sources, signatures = _manifest(path)
    function = next((m[1] for each in signatures if (m := _FUNCTION.fullmatch(each))), "")
    questions = [each for each in plan(events, (), probe=False) if at in (None, each.at)]
    chosen = how or _suggested(signatures, questions)
    everything = Plot(chosen, events, range(len(events)), range(0), None, function, shows, sources)
    if chosen in (OUTPUTS, CRASH):
        return everything
    wanted = RESET if chosen == RESET else ROUND
    question = next((each for each in questions if each.what == wanted), None)
    if question is None:
        where = "" if at is None else f" at event {at}"
        raise UsageError(
            f"{path}: there is no {chosen}{where} to ask about; --ask outputs compares"
        )
    everything.question = question
    everything.life = range(question.at)
    everything.questions = _questions(events, question)
    return everything


def _questions(events: Sequence[Event], question: Question) -> range:
    """Return what was recorded behind a reset or a restore, up to the next reset."""
    start = question.resumed or question.at + question.recorded
    resets = (at for at in range(start, len(events)) if events[at][0] == _RESET)
    return range(start, next(resets, len(events)))


def _suggested(signatures: Sequence[str], questions: Sequence[Question]) -> str:
    if any(each.startswith("crash:") for each in signatures):
        return CRASH
    asked = {each.what for each in questions if _can_be_asked(each)}
    if ROUND in asked:
        return ROUND_TRIP
    return RESET if RESET in asked else OUTPUTS


def _can_be_asked(question: Question) -> bool:
    return question.how != ev.REINIT


def _manifest(path: str) -> tuple[str, list[str], list[str]]:
    """Return what a trace's manifest says it shows, its sources and its signatures."""
    beside = manifest_path(Path(path))
    if path == "-" or not beside.is_file():
        return "", [], []
    manifest = read_manifest(beside)
    signatures = [each.signature for each in manifest.expectations if each.signature]
    sources = [each for each in manifest.values.get("sources", []) if isinstance(each, str)]
    return str(manifest.values.get("shows", "")), sources, signatures
