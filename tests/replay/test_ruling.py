"""One build by one signature: what is bad, what is good, and what proves nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from replay.boundary import everything, halving
from replay.builds import of_model
from replay.corpus import trace_name
from replay.equivalence.plan import PENDING, RESET, ROUND, Question
from replay.equivalence.run import Outcome
from replay.equivalence.side import Crashed, Side
from replay.equivalence.signatures import kind_of, looked_at, signatures
from replay.equivalence.words import CARRIED, Difference
from replay.judge import with_flags
from replay.manifest import manifest_path, read_manifest
from replay.model.effects import HostCrash
from replay.profiles import PROFILES, find
from replay.protocols import NOT_JUDGED
from replay.ruling import (
    BAD,
    CANNOT,
    GOOD,
    Ruling,
    blind_outcomes,
    parse_signature,
    weigh,
)
from replay.verdict import STALE
from tests.support.scenarios import SCENARIOS, paths
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER, make
from tracer.log.opening import open_trace

LPI = parse_signature("stale:ctrl_reset:lpi")


@pytest.mark.parametrize(
    ("text", "word", "kind", "what"),
    [
        ("stale:ctrl_reset:lpi", "stale", "ctrl_reset", "lpi"),
        ("suspected:system:GITS_BASER0", "suspected", "system", "GITS_BASER0"),
        ("divergent:msi.result:result", "divergent", "msi.result", "result"),
        ("crash:vgic_its_save_tables_v0", "crash", "", "vgic_its_save_tables_v0"),
        ("complaint:WARNING: CPU: N PID: N", "complaint", "", "WARNING: CPU: N PID: N"),
    ],
)
def test_a_signature_is_taken_apart(text, word, kind, what):
    found = parse_signature(text)
    assert (found.word, found.kind, found.what) == (word, kind, what)


@pytest.mark.parametrize("text", ["", "stale", "stale:lpi", "crash:", "equal:a:b", "crash:a\nb"])
def test_what_is_no_signature_is_refused(text):
    with pytest.raises(UsageError, match="a signature is "):
        parse_signature(text)


@given(st.text(max_size=200) | st.from_regex(r"(stale|crash|divergent):[\w:.]*"))
def test_any_text_is_a_signature_or_is_refused(text):
    try:
        found = parse_signature(text)
    except UsageError:
        return
    assert found.text == text
    assert found.word in text


@pytest.mark.parametrize(
    ("wanted", "found", "blind", "word"),
    [
        ("stale:ctrl_reset:lpi", ["stale:ctrl_reset:lpi"], None, BAD),
        ("stale:ctrl_reset:lpi", ["stale:ctrl_reset:lpi"], "it died", BAD),
        ("stale:ctrl_reset:lpi", ["stale:ctrl_reset:device", "crash:f"], None, GOOD),
        ("stale:ctrl_reset:lpi", ["stale:ctrl_reset:device"], "it died", CANNOT),
        ("stale:ctrl_reset:lpi", [], None, GOOD),
        ("crash:f", ["crash:g"], None, GOOD),
        # what a model suspected, a target shows; but what was shown is not met by a suspicion
        ("suspected:restore:device", ["stale:restore:device"], None, BAD),
        ("stale:restore:device", ["suspected:restore:device"], None, GOOD),
    ],
)
def test_only_the_signature_is_bad_and_only_a_look_is_good(wanted, found, blind, word):
    ruling = weigh(parse_signature(wanted), found, blind)
    assert ruling.word == word
    assert ruling.found == tuple(found)
    assert bool(ruling.why) == (word == CANNOT)


# -- on the model, with every scenario that has two sides


def sides_of(trace):
    return {each.name: each for each in read_manifest(manifest_path(trace)).expectations}


TWO_SIDED = [
    path for path in paths() if "buggy" in sides_of(path) and sides_of(path)["buggy"].signature
]


@pytest.mark.parametrize("trace", TWO_SIDED, ids=trace_name)
def test_the_buggy_side_of_a_scenario_is_bad_and_the_fixed_one_is_not(trace):
    manifest, sides = read_manifest(manifest_path(trace)), sides_of(trace)
    signature = parse_signature(sides["buggy"].signature)
    words = {}
    for name, side in sides.items():
        with open_trace(str(trace)) as reader:
            profile = with_flags(find(manifest.profile)[0], side.flags)
            strict = bool(manifest.values.get("strict"))
            words[name] = of_model(reader, profile, signature, strict=strict).word
    assert words == {"buggy": BAD, "fixed": GOOD}


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("stale:system:lpi", "no system was judged"),
        ("stale:ctrl_reset:lpis", "of a ctrl_reset no lpis is judged, but "),
        ("stale:restore:device", "no restore was judged"),
    ],
)
def test_a_component_that_nobody_judges_is_not_good(signature, why):
    with open_trace(str(SCENARIOS / "F1-lpi-outlives-ctrl-reset.its.txt")) as reader:
        ruling = of_model(
            reader, PROFILES["linux-6.1.192"], parse_signature(signature), strict=False
        )
    assert ruling.word == CANNOT
    assert ruling.why.startswith(why)


def test_another_death_hides_what_comes_behind_it():
    with open_trace(str(SCENARIOS / "S09-K23-F4-save-after-mapc-unmap.its.txt")) as reader:
        ruling = of_model(
            reader, PROFILES["linux-6.1.176"], parse_signature("crash:another"), strict=False
        )
    assert ruling.word == CANNOT
    assert ruling.found == ("crash:vgic_its_save_tables_v0",)
    assert "what follows was not seen" in ruling.why


def test_a_divergence_behind_a_hundred_others_is_found(tmp_path):
    path = tmp_path / "many.its.txt"
    reads = [". +0 reg.read offset=0x80 value=0x1 origin=vmm"] * 150
    rows = [*reads, ". +0 gicr.read cpu=0 offset=0x0 value=0x5 size=4 origin=vmm"]
    head = ["# itstrace: 1", '# profile: "linux-6.1.192"', "# cpus: 1", '# guest_ram: "complete"']
    path.write_text("\n".join([*head, *rows, ""]))
    with open_trace(str(path)) as reader:
        ruling = of_model(
            reader, PROFILES["linux-6.1.192"], parse_signature("divergent:gicr.read:value"),
            strict=False,
        )  # fmt: skip
    assert ruling.word == BAD


# -- what a target answers of itself


def outcome(question, *differences, looked=(), crash=None):
    return Outcome(
        question, "kvm:Image", differences=list(differences),
        looked=dict.fromkeys(looked, 1), crash=crash,
    )  # fmt: skip


def difference(component, word=STALE, **more):
    made = Difference(component, 0, "p0", None, 1, 0, word)
    for name, value in more.items():
        setattr(made, name, value)
    return made


CTRL = Question(RESET, 5, ev.CTRL_RESET)


@pytest.mark.parametrize(
    ("question", "component", "word", "name"),
    [
        (CTRL, "lpis", STALE, "stale:ctrl_reset:lpi"),
        (Question(RESET, 5, ev.SYSTEM), "GICR_CTLR[3]", STALE, "stale:system:GICR_CTLR"),
        (Question(ROUND, 5), "devices", CARRIED, "stale:restore:device"),
        (Question(PENDING, 5), "lpis", CARRIED, "stale:save_pending:lpi"),
    ],
)
def test_an_answer_is_named_as_a_model_names_it(question, component, word, name):
    told = outcome(question, difference(component, word), difference("events", "kept"))
    assert signatures(told) == [name]
    assert kind_of(told) == name.split(":")[1]


def test_what_the_guest_left_in_ram_is_no_signature():
    assert (
        signatures(outcome(Question(ROUND, 5), difference("devices", CARRIED, handed_over=3))) == []
    )


@pytest.mark.parametrize(
    ("signature", "outcomes", "left", "why"),
    [
        ("stale:ctrl_reset:lpi", [], 0, "nothing to ask"),
        ("stale:ctrl_reset:lpi", [outcome(CTRL, looked=["lpis"])], 3, "3 questions"),
        ("stale:ctrl_reset:lpi", [outcome(Question(ROUND, 5), looked=["lpis"])], 0, "no ctrl_reset"),
        ("stale:ctrl_reset:lpi", [outcome(CTRL, looked=["events"])], 0, "no answer spoke of lpi"),
        ("stale:ctrl_reset:lpi", [outcome(CTRL, crash=("p1", "f", []))], 0, "it died in f"),
        ("crash:g", [outcome(CTRL, crash=("p1", "f", []))], 0, "it died in f"),
    ],
)  # fmt: skip
def test_what_was_not_asked_is_not_good(signature, outcomes, left, why):
    assert why in blind_outcomes(parse_signature(signature), outcomes, left)


@pytest.mark.parametrize("looked", ["lpis", "RAM", "pending tables"])
def test_what_was_looked_at_is(looked):
    assert blind_outcomes(LPI, [outcome(CTRL, looked=[looked])], 0) is None
    assert not looked_at(outcome(CTRL, looked=[looked]), "GITS_CTLR")


# -- a list of builds


def asked(words):
    """Return how to ask builds whose rulings are known, and the places that were asked."""
    places = []

    def ask(at):
        places.append(at)
        return Ruling({"b": BAD, "g": GOOD, "-": CANNOT}[words[at]])

    return ask, places


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("gggbb", (2, 3)), ("bg", (0, 1)), ("bbbbbbbbbg", (8, 9)), ("gbbbbbbbbb", (0, 1)),
        ("-gg-bb-", (2, 4)), ("g---b", (0, 4)), ("g-b---b", (0, 2)),
    ],
)  # fmt: skip
def test_the_boundary_of_a_list_that_changes_once(words, change):
    ask, places = asked(words)
    assert halving(len(words), ask).changes() == [change]
    assert len(places) == len(set(places))
    assert everything(len(words), ask).changes() == [change]


def test_a_long_list_is_asked_a_few_times():
    for first_bad in range(1, 1000, 37):
        ask, places = asked("g" * first_bad + "b" * (1000 - first_bad))
        assert halving(1000, ask).changes() == [(first_bad - 1, first_bad)]
        assert len(places) <= 12  # the ends, and ten halves


@pytest.mark.parametrize("words", ["ggggg", "bbb", "---", "-g-", "bgb"])
def test_ends_that_are_alike_have_no_boundary(words):
    assert halving(len(words), asked(words)[0]).changes() == []


def test_a_list_that_changes_twice_shows_when_all_are_asked():
    assert everything(4, asked("bgbg")[0]).changes() == [(0, 1), (1, 2), (2, 3)]


# -- a side of a question


@pytest.mark.parametrize("answer", [HostCrash("f"), None])
def test_a_listing_that_was_not_answered_is_put_down_without_rows(answer):
    class Unlisted:
        asked = frozenset((NUMBER["probe"],))
        oops = ()

        def carry_out(self, groups):
            bound = {0: NOT_JUDGED} if answer is None else {}
            return [(group.event, answer, bound) for group in groups]

    side = Side(Unlisted())
    if answer is None:
        side.live([make("probe", 0, edge=0)])
    else:
        with pytest.raises(Crashed, match="f"):
            side.live([make("probe", 0, edge=0)])
    assert side.tape == [make("probe", 0, edge=0)]
