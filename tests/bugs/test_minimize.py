"""What the product is judged by: planted and generated bugs, minimised. `make test-bugs`; some in CI.

Whether a result is 1-minimal, and still the same bug, is judged here by `naive`, which shares the
models and the verifier with the product and nothing of `replay.minimize`'s oracle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from replay.generator.answers import answered, header_of
from replay.generator.dice import Dice
from replay.generator.life import Life
from replay.judge import judge, model_of, with_flags
from replay.minimize.case import Opened, Told, open_case
from replay.minimize.model_oracle import INPUTS, RECORDED, Frames
from replay.minimize.oracle import Candidate
from replay.minimize.run import minimize
from replay.minimize.script import QUESTIONS, count_inputs
from replay.profiles import FLAGS, PROFILES, Profile
from tests.support.planted import SHOWN, cases, name_of, plant
from tracer.events import FIRST_OUTPUT, NUMBER

DEEP = "ITSTRACE_BUGS" in os.environ
PLANTED = cases() if DEEP else cases()[3::12]
GENERATED = 200 if DEEP else 4
BASES = ("linux-5.10.223", "linux-6.1.192", "linux-6.12.117", "linux-7.2.13", "qemu-7.2.22")
_PROBE = NUMBER["probe"]
FURTHER_BACK = "not among the divergences that are listed"
_EXACT = ("msi.result", "attr.result")


def marks(found: Opened, candidate: Candidate, profile: Profile, by: Profile | None):
    """Return what a behaviour shows of the signature, apart from its numbers; None for nothing."""
    if by is not None:
        model = model_of(candidate.header, by)
        events = tuple(answered(candidate.events, model, found.case.shown))
        candidate = candidate._replace(events=events)
    judged = judge(Frames(candidate), profile, strict=found.case.strict)
    signature = found.case.signature
    if signature not in judged.signatures:
        return None
    if not signature.startswith("divergent"):
        return "shown"
    for each in judged.engine.tally.divergences:
        if f"divergent:{each.kind}:{each.field}" == signature:
            pair = each.expected, each.got
            return pair if each.kind in _EXACT else tuple(value is None for value in pair)
    return FURTHER_BACK


def naive(found: Opened, candidate: Candidate):
    """Return what a candidate shows of the case's signature, if it is absent under its cure."""
    case = found.case
    shown = marks(found, candidate, case.profile, case.answering)
    if shown is None or case.cure is None or case.answering == case.cure:
        return shown
    by = None if case.way == INPUTS else case.cure
    return shown if marks(found, candidate, case.cure, by) is None else None


def assert_same_and_least(found: Opened) -> Candidate:
    """Minimise; the result shows what the original shows, and without any event it does not."""
    result = minimize(found.candidate, found.oracle)
    least = result.candidate
    assert result.minimal
    assert all(e[0] < FIRST_OUTPUT or e[0] in QUESTIONS or e[0] == _PROBE for e in least.events)
    mark = naive(found, least)
    assert mark is not None
    at = found.oracle.about(found.candidate)
    head = found.candidate._replace(events=found.candidate.events[: at + 1])
    assert naive(found, head) in (mark, FURTHER_BACK)
    for at in range(len(least.events)):
        left = least._replace(events=least.events[:at] + least.events[at + 1 :])
        if naive(found, left) == mark:
            assert not found.oracle.shows([left])[0], (at, least.events[at])
            assert _slips(found, left), (at, least.events[at])
    return least


def _slips(found: Opened, candidate: Candidate) -> bool:
    """Return whether a candidate shows findings, or a witness, that the original had not."""
    case = found.case
    if not case.signature.startswith(("stale", "suspected")):
        return False
    return found.oracle.became(candidate) != "nothing is found"


@pytest.mark.parametrize(("path", "variant"), PLANTED, ids=[name_of(*each) for each in PLANTED])
def test_a_planted_scenario_is_found_again(path, variant):
    planted = plant(path, variant, events=6000 if DEEP else 2000)
    found = open_case(planted.large, planted.profile, planted.told)
    least = assert_same_and_least(found)
    assert count_inputs(least) <= count_inputs(planted.small) + 2


def generated() -> Iterator[tuple[str, Candidate, Profile, Told]]:
    """Yield lives in which one flag is otherwise, so that something is found; without an end."""
    seed = 0
    while True:
        seed += 1
        dice = Dice(seed)
        base = PROFILES[dice.pick(BASES)]
        row = dice.pick(FLAGS[base.family])
        value = getattr(base.choices, row.name)
        if not isinstance(value, bool):
            continue
        buggy = with_flags(base, {row.name: not value})
        life = Life(seed, buggy).lived(400)
        header = header_of(seed, base, 400)
        dead = _asked_to_the_end(Candidate(header, tuple(life)), buggy)
        recorded = dead or tuple(answered(life, model_of(header, base), SHOWN))
        candidate = Candidate(header, recorded)
        here = judge(Frames(candidate), buggy).signatures
        there = judge(Frames(candidate), base).signatures
        new = [each for each in here if each not in there]
        if new:
            signature = dice.pick(new)
            yield f"{seed}-{row.name}", candidate, buggy, Told(signature, (base,))


def _asked_to_the_end(candidate: Candidate, profile: Profile):
    """Return the inputs of a life that kills its host, else None."""
    if judge(Frames(candidate), profile).word != "crash":
        return None
    return tuple(each for each in candidate.events if each[0] < FIRST_OUTPUT)


def test_generated_bugs_stay_the_same():
    words: dict[str, int] = {}
    sizes = []
    for (name, candidate, profile, told), _ in zip(generated(), range(GENERATED), strict=False):
        found = open_case(candidate, profile, told)
        assert found.case.way != RECORDED, name
        least = assert_same_and_least(found)
        word = found.case.signature.partition(":")[0]
        words[word] = words.get(word, 0) + 1
        sizes.append(count_inputs(least))
    assert sum(words.values()) == GENERATED
    assert max(sizes) <= 60
    if DEEP:
        print(words, "inputs:", sorted(sizes))
        assert set(words) >= {"divergent", "suspected"}
