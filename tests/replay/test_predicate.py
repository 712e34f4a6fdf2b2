"""Predicates: what a path leads to is what the document says, and nothing is taken for what it is not."""

from __future__ import annotations

import random
import re

import pytest

from replay.engine import Engine
from replay.glimpse import ABSENT, family_of
from replay.judge import model_of
from replay.model.effects import HostCrash
from replay.predicate import MAX_DEPTH, MAX_TEXT, MAX_TOKENS, compile_predicate
from replay.profiles import find
from replay.vectors import OPERATIONS, new_vm
from tests.conformance import read_lines
from tests.replay.test_checkpoints import FILES, LIVES, model_like, profile_of
from tests.support.captures import TRACES, TWO_BOOTS, open_capture
from tests.support.linear import model_for
from tracer.errors import UsageError
from tracer.its.registers import Baser
from tracer.log.header import Header
from tracer.log.opening import open_trace

SCENARIOS = sorted((TRACES / "scenarios").glob("*.its.txt"))


def number(value):
    return int(value, 16) if isinstance(value, str) and value.startswith("0x") else value


def agrees(found, entry):
    """An entry that is not listed is absent, or not known: never something else."""
    if entry is None:
        return found is ABSENT or found is None
    plain = {name: number(value) for name, value in entry.items() if name != "events"}
    return found == plain


def check_all(model):
    """Compare every path of a document, and some beside it, with a glimpse; return how many."""
    family, state = family_of(model), model.state()
    its = state["its"]["0"]
    checked = 0
    for name, value in its["registers"].items():
        assert family.register(model, name) == number(value), name
    near = [int(each, 16) + off for each in its["devices"] for off in (0, 1)] or [0, 8]
    for device_id in near:
        device = its["devices"].get(hex(device_id))
        assert agrees(family.device(model, device_id), device), hex(device_id)
        for event_id in range(5):
            event = device["events"].get(hex(event_id)) if device else None
            assert agrees(family.event(model, device_id, event_id), event), (device_id, event_id)
            checked += event is not None
        assert family.count_events(model, device_id) == len(device["events"] if device else ())
    for icid in range(6):
        assert agrees(family.collection(model, icid), its["collections"].get(str(icid))), icid
    for vpe_id in range(3):
        assert agrees(family.vpe(model, vpe_id), its["vpes"].get(str(vpe_id))), vpe_id
    cached = {(int(d, 16), int(e, 16)): intid for d, e, intid in its["translation_cache"]}
    for pair in [*cached, (1, 77)]:
        entry = {"intid": cached[pair]} if pair in cached else None
        assert agrees(family.translation(model, *pair), entry)
    for cpu, registers in state["redistributors"].items():
        assert agrees(family.redistributor(model, int(cpu)), registers)
    assert family.redistributor(model, 900) is ABSENT
    for intid in [*map(int, state["lpis"]), 8191, 70000]:
        assert agrees(family.lpi(model, intid), state["lpis"].get(str(intid))), intid
    for part in ("devices", "collections", "vpes", "translation_cache"):
        assert family.count(model, part) == len(its[part]), part
    assert family.count(model, "lpis") == len(state["lpis"])
    return checked


@pytest.mark.parametrize("path", FILES[::3], ids=lambda path: path.name.removesuffix(".txt.gz"))
def test_glimpses_of_recorded_lives_agree_with_the_document(path):
    profile = find(profile_of(path))[0]
    operations, rng = OPERATIONS[profile.family], random.Random(path.name)
    vm, looked = None, 0
    for line in read_lines(path)[:1500]:
        fields = line.split()
        if fields[:1] == ["#"]:
            vm = new_vm(profile, line)
        elif vm is not None and fields and fields[0] in operations:
            try:
                operations[fields[0]][0](vm, fields)
            except HostCrash:
                vm = None
                continue
            if rng.random() < 0.02:
                check_all(model_like(vm, profile))
                looked += 1
    assert looked >= 1


@pytest.mark.parametrize("name", ["xen", "qemu-gicv4"])
def test_glimpses_of_other_models_agree_with_the_document(name):
    model, go_on = LIVES[name]()
    check_all(model)
    go_on(model.vm)
    check_all(model)


def test_glimpses_of_observed_ram_agree_with_the_document():
    reader = open_capture(TWO_BOOTS)
    events = [event for _, block in reader for event in block]
    model = model_for(reader.header)
    engine = Engine(reader, model)
    checked = 0
    for seq, event in enumerate(events):
        engine.feed(seq, (event,))
        if event[0] < 64 and seq % 7 == 0:
            checked += check_all(model)
    assert checked > 50


def test_unknown_ram_is_not_absent():
    """Of a VM whose RAM nobody saw, a device that no event showed may be mapped."""
    reader = open_capture(TWO_BOOTS)
    model = model_for(reader.header)
    Engine(reader, model).run(200)
    assert family_of(model).device(model, 0x7) is None
    for text in ("devices[7].valid", "not devices[7].valid", "devices[7].itt_addr != 0"):
        assert not compile_predicate(text).begin(model), text
    assert not compile_predicate("known(devices[7].itt_addr)").begin(model)


# -- the language


@pytest.fixture(scope="module")
def mapped():
    """Return KVM's model after the set-up of F1, with LPI 8192 pending."""
    path = next(path for path in SCENARIOS if path.name.startswith("F1-lpi-outlives"))
    with open_trace(str(path)) as reader:
        model = model_for(reader.header)
        Engine(reader, model).run(17)
    return model


@pytest.mark.parametrize(
    "text",
    [
        "devices[0x0].valid",
        "devices[0]",
        "its[0].devices[0].itt_addr == 0x40600000",
        "devices[0].events[0].intid == 8192 and devices[0].events[0].icid == 0",
        "devices[0].events[0]",
        "not devices[1].valid",
        "not devices[1]",
        "!(devices[1] || devices[2])",
        "lpis[8192].pending == set",
        "lpis[8192].pending != clear && lpis[8192].queued == 0",
        "registers.GITS_CTLR.Enabled",
        "registers.GITS_BASER0.Valid == 1 and registers.GITS_BASER0.Page_Size == 2",
        "registers.GITS_BASER0.Valid == true",
        "redistributors[0].GICR_CTLR.EnableLPIs",
        "redistributors[1].GICR_PENDBASER.Physical_Address >= 0x40520000",
        "count(devices) == 1",
        "count(devices[0].events) == 1 and count(devices[9].events) == 0",
        "count(lpis) > 0",
        "translation_cache[0][0].intid == 8192",
        "collections[0].rdbase == 0",
        "known(devices[0].itt_addr) and not known(devices[1].itt_addr)",
        "1 < 2",
        "false or (true and not false)",
    ],
)  # fmt: skip
def test_holds(mapped, text):
    assert compile_predicate(text).begin(mapped), text


@pytest.mark.parametrize(
    "text",
    [
        "devices[1].valid",
        "devices[1].itt_addr == 0",
        "devices[1].itt_addr != 0",  # what is not there equals nothing, and differs from nothing
        "lpis[8192].pending == clear",
        "lpis[9000].pending == maybe",
        "lpis[8192].pending < set",
        "registers.GITS_CTLR == 0",
        "not registers.GITS_CTLR.Enabled",
        "redistributors[77].GICR_CTLR == 0",
        "count(collections) > 1",
        "devices[0].events[1]",
        "devices[0].valid changes",
        "false",
    ],
)
def test_does_not_hold(mapped, text):
    assert not compile_predicate(text).begin(mapped), text


def test_fields_are_those_of_the_register_table(mapped):
    for field in Baser.fields_:
        value = field.get(mapped.registers()["GITS_BASER0"])
        predicate = compile_predicate(f"registers.GITS_BASER0.{field.name} == {value:#x}")
        assert predicate.begin(mapped), field.name


def test_changes_is_of_one_event():
    path = next(path for path in SCENARIOS if path.name.startswith("F1-lpi-outlives"))
    with open_trace(str(path)) as reader:
        events = [event for _, block in reader for event in block]
        model = model_for(reader.header)
        predicate = compile_predicate("devices[0].valid changes and not lpis[8192].pending == set")
        predicate.begin(model)
        engine = Engine(reader, model)
        held = []
        for seq, event in enumerate(events):
            engine.feed(seq, (event,))
            assert engine.standing
            if predicate.holds(model):
                held.append(seq)
            assert not predicate.still_holds(model)
    assert held == [15]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: 'the end' is no part of the state; there are registers"),
        ("devices", "column 8: '[' is expected, not 'the end'"),
        ("devices[x]", "column 9: a number is expected, not 'x'"),
        ("devices[1].vald", "column 12: 'vald' is no value of devices; did you mean valid?"),
        ("device[1].valid", "column 1: 'device' is no part of the state; did you mean devices?"),
        ("devices[1].valid ==", "column 20: 'the end' is no part of the state"),
        ("devices[1].valid and", "column 21: 'the end' is no part"),
        ("registers.GITS_BASR0", "column 11: 'GITS_BASR0' is no register of the ITS; did you mean"),
        ("registers.GITS_CTLR.Valid", "column 21: 'Valid' is no field of GITS_CTLR; there are Enab"),
        ("(devices[1].valid", "column 18: ')' is expected, not 'the end'"),
        ("devices[1].valid)", "column 17: and, or, or the end is expected, not ')'"),
        ("devices[1] == 2 3", "column 17: and, or, or the end is expected, not '3'"),
        ("devices[1] $ 2", "column 11: cannot understand '$ 2'"),
        ("1 changes", "column 1: only a path changes"),
        ("events[1].intid", "column 1: devices[...], which has the events, is expected"),
        ("its[1].devices[0]", "column 5: there is one ITS, 0"),
        ("count(registers)", "column 7: 'registers' is no list that can be counted"),
        ("devices[0x1ffffffffffffffff]", "column 9: a number must be at most 0xffffffffffffffff"),
        ("devices[" + "9" * 5000, "at most 4096 characters"),
        ("not " * (MAX_DEPTH + 2) + "devices[0]", f"nested more than {MAX_DEPTH} deep"),
        ("(" * (MAX_DEPTH + 2) + "1", f"nested more than {MAX_DEPTH} deep"),
        ("1 or " * 700 + "1", f"there must be at most {MAX_TOKENS} words"),
        ("1" * (MAX_TEXT + 1), f"at most {MAX_TEXT} characters"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_wrong(text, message):
    with pytest.raises(UsageError) as caught:
        compile_predicate(text)
    assert message in str(caught.value)


def test_any_text_is_understood_or_refused_and_answers():
    rng = random.Random(9)
    words = [
        "devices",
        "registers",
        "lpis",
        "collections",
        "count",
        "known",
        "redistributors",
        "its",
        "translation_cache",
        "events",
        "[",
        "]",
        "(",
        ")",
        ".",
        "==",
        "!=",
        "<",
        ">",
        "<=",
        ">=",
        "and",
        "or",
        "not",
        "changes",
        "set",
        "maybe",
        "true",
        "0",
        "1",
        "0x8",
        "8192",
        "valid",
        "pending",
        "GITS_CTLR",
        "GITS_BASER0",
        "Valid",
        "GICR_CTLR",
        "itt_addr",
        "intid",
        "&&",
        "||",
        "!",
        "$",
        "\x00",
        "é",
        "-1",
        "1.5",
        '"',
        "'",
        "#",
    ]
    seeds = [
        "devices[0x8].valid changes and lpis[8192].pending == set",
        "not (registers.GITS_BASER0.Valid or count(devices) > 3)",
        "devices[0x8].events[0x1].intid == 8192 or redistributors[0].GICR_CTLR",
    ]
    model = model_of(Header(cpus=2), find("linux-6.1.192")[0])
    understood = refused = 0
    for _ in range(4000):
        parts = re.findall(r"\w+|\W", rng.choice(seeds))
        for _ in range(rng.choice((0, 1, 1, 2, 6))):
            at = rng.randrange(len(parts))
            parts[at : at + rng.choice((0, 1))] = [rng.choice(words)] * rng.choice((0, 1, 1, 2))
            parts = parts or ["1"]
        try:
            predicate = compile_predicate("".join(parts))
        except UsageError:
            refused += 1
            continue
        understood += 1
        predicate.begin(model)
        predicate.holds(model)
    assert understood > 500
    assert refused > 500
