"""The real captures, end to end: what QEMU printed is what the model does."""

from __future__ import annotations

import re

import pytest

from replay.engine import Engine
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from replay.verify import verify
from tests.support.captures import ALL, TRACES, TWO_BOOTS, TWO_BOOTS_TIMED, open_capture


def replay(name, until=None):
    reader = open_capture(name)
    model = QemuModel(reader.header, find(reader.header.profile)[0])
    engine = Engine(reader, model)
    return engine, engine.run(until), model


@pytest.mark.parametrize("name", ALL)
def test_no_output_diverges_and_few_are_taken_on_trust(name):
    engine, tally, _ = replay(name)
    assert tally.divergences == []
    assert tally.divergent == 0
    assert tally.not_judged == 0
    assert tally.outputs == sum(
        1 for _, events in open_capture(name) for event in events if 64 <= event[0] < 128
    )
    assert (tally.learned + tally.assumed) * 20 <= tally.outputs
    assert engine.lost == 0


@pytest.mark.parametrize("name", [TWO_BOOTS, TWO_BOOTS_TIMED])
def test_the_level_1_entry_is_assumed_once_a_boot(name):
    _, tally, _ = replay(name)
    assert [why for _, why in tally.assumptions] == [
        "the guest made the level-1 entry valid before it used what lies below"
    ] * 2


def mappings_by_hand(name):
    """What QEMU's own lines leave mapped after the last reset, by nothing but string search."""
    log = (TRACES / name).read_text()
    lines = log[log.rfind("(arm-gicv3-its)") :].splitlines()
    devices, events, collections = {}, {}, {}
    for line in lines:
        if "dte_write" in line:
            match = re.search(r"DeviceID (\S+): valid (\d) size (\S+) ITTaddr (\S+)", line)
            device, valid, size, itt = (int(word, 0) for word in match.groups())
            devices.pop(device, None)
            if valid:
                devices[device] = (itt * 256, size + 1)
        elif "cte_write" in line:
            match = re.search(r"ICID (\S+): valid (\d) RDBase (\S+)", line)
            icid, valid, rdbase = (int(word, 0) for word in match.groups())
            collections.pop(icid, None)
            if valid:
                collections[icid] = rdbase
        elif "ite_write" in line:
            match = re.search(
                r"ITTaddr (\S+) EventID (\S+): valid (\d) inttype \d intid (\S+) ICID (\S+) ", line
            )
            itt, event, valid, intid, icid = (int(word, 0) for word in match.groups())
            events.pop((itt, event), None)
            if valid:
                events[itt, event] = (intid, icid)
    return devices, events, collections


@pytest.mark.parametrize("name", ALL)
def test_the_last_state_is_what_qemu_wrote_after_the_last_reset(name):
    _, _, model = replay(name)
    its = model.state()["its"]["0"]
    devices, events, collections = mappings_by_hand(name)
    confirmed = {k: v for k, v in its["devices"].items() if v["confirmed"]}
    assert {
        int(k, 0): (int(v["itt_addr"], 0), v["eventid_bits"]) for k, v in confirmed.items()
    } == (devices)
    assert {
        (int(device["itt_addr"], 0), int(key, 0)): (event["intid"], event["icid"])
        for device in confirmed.values()
        for key, event in device["events"].items()
        if event["confirmed"]
    } == {key: value for key, value in events.items() if key[0] in {d[0] for d in devices.values()}}
    assert {int(k): v["rdbase"] for k, v in its["collections"].items() if v["confirmed"]} == (
        collections
    )


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (TWO_BOOTS, ["power_on", "system"]),
        (TWO_BOOTS_TIMED, ["power_on", "system"]),
    ],
)
def test_each_reset_is_equal_in_what_linux_reads_and_no_more_is_claimed(name, kinds):
    reader = open_capture(name)
    resets = verify(reader, QemuModel(reader.header, find(reader.header.profile)[0]))[0].resets
    assert [each.how for each in resets] == kinds
    for each in resets:
        statuses = each.statuses()
        assert each.word == "equal"
        assert each.observed == 4
        assert len(each.spoken_of) == 24
        assert {name for name, word in statuses.items() if word == "verified"} == {
            "GITS_CTLR",
            "GITS_IIDR",
            "GITS_TYPER",
            "GITS_PIDR2",
        }
        assert set(statuses.values()) == {"verified", "unproven"}


def test_kvm_unit_tests_read_more_and_more_is_verified():
    reader = open_capture("qemu-7.2.22-kvm-unit-tests-its-trigger.log")
    resets = verify(reader, QemuModel(reader.header, find(reader.header.profile)[0]))[0].resets
    words = resets[0].statuses()
    assert [each.how for each in resets] == ["power_on"]
    assert resets[0].word == "equal"
    assert {name for name, word in words.items() if word == "verified"} == {
        "GITS_TYPER",
        "GITS_BASER0",
        "GITS_BASER1",
    }


def test_state_at_an_event_takes_in_what_that_event_did():
    # 78 is the MAPD of DeviceID 0x20, 79 the DTE it wrote; both belong to the write at 77.
    for until in (77, 78, 79):
        engine, _, model = replay(TWO_BOOTS, until)
        assert list(model.state()["its"]["0"]["devices"]) == ["0x20"]
        assert engine.seq == until
    _, _, model = replay(TWO_BOOTS, 76)
    assert model.state()["its"]["0"]["devices"] == {}
