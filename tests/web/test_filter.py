"""The page's filter and `show -Y` choose the same events, and refuse the same filters."""

from __future__ import annotations

import random

import pytest

from replay.decode import decode, names
from replay.filter import COMPARE, compile_filter
from tests.support.captures import PROBED, TWO_BOOTS_TIMED
from tracer.errors import UsageError
from tracer.log.opening import open_trace

TRACES = (
    TWO_BOOTS_TIMED, PROBED, "scenarios/F1-lpi-outlives-ctrl-reset.its.txt",
    "scenarios/S09-K23-F4-save-after-mapc-unmap.its.txt",
)  # fmt: skip
WRITTEN = (
    "command == MAPTI and DeviceID == 0x8", "register ~ BASER or kind == reset", "reset",
    "not (reg.read or reg.write)", "! reset && ! command || register ~ ctlr", '"reg.read"',
    "seq >= 0x10 and seq < 1_00", "seq == 007", "seq > -5", "value == 0xb80000004258040f", "dt_ns > 0",
    "value > 18446744073709551615", "value < 18446744073709551616", "register ~ 0", "time_ns ~ 7",
    "time_ns > 1795347131337558000", "kind ~ REG", "origin != guest", "valid == 1 and table == ite",
    "kind == \"reset\" or \"MAPD\"", "cause > 2", "RDbase ~ 0", "gpa ~ 4", "how == system",
    "value == 0b1", "value == 0o17", "value != 0", "kind < m", "kind >= reset", "and", "==", ") )",
    "reset and", "(reset", "nothing == 1", "kind ==", "reset )", "kind = reset", "", "   ",
    "not " * 99 + "reset", "not " * 102 + "reset", "(" * 120 + "reset", "or " * 1001, "seq == --5", "seq == 1__0", "seq == 0x",
    "kind\u00a0==\u2003reset", "kind\u200b== reset", "data ~ x00",
)  # fmt: skip
SEED = 7


def decoded(path):
    time_ns = 0
    found = []
    with open_trace(str(path)) as reader:
        for first_seq, events in reader:
            for seq, event in enumerate(events, first_seq):
                time_ns += event[1]
                found.append(decode(seq, time_ns, event))
    return found


def random_filter(dice, shown, known):
    """Return a filter of names and values that a trace has, or nearly has."""
    parts = []
    for _ in range(dice.randint(1, 4)):
        event = dice.choice(shown)
        name = dice.choice([each for each in event if each != "data"])
        value = event[name]
        if dice.random() < 0.1:
            name = dice.choice(known)
        if isinstance(value, int):
            value += dice.choice((0, 0, 0, 1, -1))
            value = hex(value) if dice.random() < 0.5 else value
        elif isinstance(value, str) and dice.random() < 0.3:
            value = value[1:-1] or "x"
        word = dice.choice((f"{name} {dice.choice(list(COMPARE))} {value}", event["kind"]))
        word = f'"{event["kind"]}"' if dice.random() < 0.1 else word
        word = f"not {word}" if dice.random() < 0.2 else word
        parts.append(f"({word})" if dice.random() < 0.3 else word)
    text = parts[0]
    for each in parts[1:]:
        text += f" {dice.choice(('and', 'or', '&&', '||'))} {each}"
    return text


@pytest.mark.parametrize("name", TRACES)
def test_both_choose_the_same(opened, name):
    shown = opened(name)
    events = decoded(shown.trace)
    dice = random.Random(SEED)
    known = sorted(names() - {"data"})
    made = [random_filter(dice, events, known) for _ in range(150)]
    some = 0
    for text in [*WRITTEN, *made]:
        if "data" in text and name == PROBED:
            continue  # a page has the beginning of long data only
        if not text.strip():
            assert shown.chosen(text) is None
            continue
        invalid = shown.page.locator("[aria-invalid=true]")
        try:
            passes = compile_filter(text)
        except UsageError:
            shown.page.evaluate("text => itstrace.views[0].list.filter(text)", text)
            assert invalid.count() == 1, text
            continue
        found = shown.chosen(text)
        assert invalid.count() == 0, text
        want = [at for at, event in enumerate(events) if passes(event)]
        assert found == want, text
        some += 0 < len(want) < len(events)
    assert some > 60
