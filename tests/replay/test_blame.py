"""`blame` names the right event: in every scenario, as somebody found by reading it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json

import pytest
from hypothesis import given, settings, strategies as st

from replay import writers
from replay.blame import Blamer
from replay.cli import main
from replay.components import parse_target
from replay.corpus import trace_name
from replay.engine import Engine
from replay.generator.answers import header_of
from replay.generator.guest import CTLR
from replay.generator.life import Life
from replay.history import History
from replay.judge import model_of
from replay.kept_lists import Change
from replay.manifest import manifest_path, read_manifest
from replay.profiles import find
from replay.verify import Verifier
from tests.support.any_events import EVENTS
from tests.support.planting import COMPONENTS, KINDS, life
from tests.support.scenarios import SCENARIOS, paths
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.header import Header
from tracer.log.text import TextReader, write_text

TRACES = paths()


def blame(capsys, *args):
    code = main(["blame", "--json", *map(str, args)])
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else out.err


@pytest.mark.parametrize("trace", TRACES, ids=trace_name)
def test_the_right_event_is_named_in_every_scenario(trace, capsys):
    planted = read_manifest(manifest_path(trace)).planted
    code, answer = blame(capsys, trace, planted.component)
    assert code == 0
    act = answer["written"] if answer["present"] else answer["removed"]
    assert (act and act["seq"]) == planted.seq, planted.because
    queued_by = act and act["command"] and act["command"]["queued_by"]
    assert queued_by == planted.queued_by, planted.because
    behind = [*answer["chain"], *([] if act is answer["written"] else [answer["written"]])]
    assert set(planted.behind) <= {each["seq"] for each in behind}


# -- generated lives with something planted in them

IMAGES = ("qemu-7.2.22", "linux-6.1.192", "linux-5.10.223", "linux-7.2.13")
LIVES = 100


def traced(header, events):
    text = io.StringIO()
    write_text(header, enumerate(events), text)
    return TextReader(io.BytesIO(text.getvalue().encode()), "life")


def ask(header, events, component, at):
    profile = find(header.profile)[0]
    model = model_of(header, profile)
    verifier = Verifier(model, writers=History())
    blamer = Blamer(model, verifier, parse_target(component), at)
    engine = Engine(traced(header, events), model, blamer)
    engine.run()
    return blamer.finish(engine.seq, "life")


@pytest.mark.parametrize("image", IMAGES)
def test_what_was_planted_in_a_generated_life_is_found(image):
    profile = find(image)[0]
    found = dict.fromkeys(KINDS, 0)
    for seed in itertools.count():
        if sum(found.values()) == LIVES // len(IMAGES):
            break
        kind = KINDS[seed % len(KINDS)]
        planted_life = life(seed, profile, kind)
        if planted_life is None:
            continue  # it ended before
        header, events, planted, queued_by, asked_at = planted_life
        found[kind] += 1
        blame = ask(header, events, COMPONENTS[kind], asked_at)
        act = blame.writer if kind != "discarded" else blame.record.removed
        assert act.seq == planted, (seed, kind)
        assert blame.present == (kind != "discarded")
        by = act.command and act.command.queued_by
        if kind == "register":  # the upper half was written last, the address is in the lower
            (by,) = (each for each, bits in blame.bits if bits & 0xFFFF_0000)
        assert (by and by.seq) == queued_by, (seed, kind)
    assert all(found.values())


# -- what else is told

F1 = SCENARIOS / "F1-lpi-outlives-ctrl-reset.its.txt"
F3 = SCENARIOS / "S06-K17-F3-as-5.10-answered.its.txt"
F5 = SCENARIOS / "F5-baser-keeps-its-address.its.txt"
HEAD = """\
# itstrace: 1
# source: "test"
# profile: "linux-6.1.192"
# cpus: 2
# ram_ranges: [[1073741824, 33554432]]
# guest_ram: "complete"
"""
VALID = 1 << 63
TABLES = """\
. +0 reg.write offset=0x100 value=0x8000000040100000 origin=vmm
. +0 reg.write offset=0x108 value=0x8000000040200000 origin=vmm
. +0 reg.write offset=0x80 value=0x8000000040300000 origin=vmm
. +0 reg.write offset=0x0 value=0x1 origin=vmm
"""


def told(tmp_path, lines, head=HEAD):
    path = tmp_path / "life.its.txt"
    path.write_text(head + lines)
    return path


def test_the_reset_that_an_lpi_outlived_broke_its_clause(capsys):
    _, answer = blame(capsys, F1, "lpi 8192")
    (reset,) = answer["resets"]
    assert (reset["seq"], reset["did"], reset["clause"]) == (18, "left it as it was", "broke")
    assert (reset["status"], reset["lived"]) == ("stale", True)
    assert answer["raised_through"] == ["0x0", "0x0"]
    assert [each["command"]["name"] for each in answer["chain"]] == ["MAPD", "MAPC", "MAPTI"]


def test_an_event_rests_on_its_device_and_what_it_was_moved_from(capsys):
    _, answer = blame(capsys, SCENARIOS / "Q7-movi.its.txt", "device 0 event 0")
    assert answer["written"]["command"]["name"] == "MOVI"
    names = [each["command"]["name"] for each in answer["chain"]]
    assert names == ["MAPD", "MAPC", "MAPTI"]


def test_a_command_was_queued_by_the_last_of_its_pieces(tmp_path, capsys):
    words = (8, 3, VALID | 0x4060_0000, 0)
    mapd = b"".join(word.to_bytes(8, "little") for word in words).hex()
    trace = told(
        tmp_path,
        TABLES
        + f". +0 mem.write gpa=0x40300000 data={mapd[:32]}\n"
        + f". +0 mem.write gpa=0x40300010 data={mapd[32:]}\n"
        + ". +0 reg.write offset=0x88 value=0x20 origin=vmm\n",
    )
    _, answer = blame(capsys, trace, "device 0")
    assert (answer["written"]["seq"], answer["written"]["command"]["queued_by"]) == (6, 5)


@pytest.mark.parametrize("verb", ["check", "verify", "blame", "diff"])
@pytest.mark.parametrize("profile", ["linux-6.1.192", "qemu-7.2.22"])
def test_an_access_of_any_size_is_no_bug_of_ours(verb, profile, tmp_path, capsys):
    trace = told(
        tmp_path,
        "".join(
            f". +0 {kind} {cpu}offset={at:#x} value=0x1 size=99999999999\n"
            for kind, cpu, at in (
                ("reg.write", "", 0x100), ("reg.read", "", 0x100), ("gicr.write", "cpu=0 ", 0x70),
                ("gicr.read", "cpu=0 ", 0x70), ("reg.write", "", 0x88),
            )
        ),
        HEAD.replace("linux-6.1.192", profile),
    )  # fmt: skip
    more = {"blame": ["GITS_BASER0"], "diff": [str(trace)]}.get(verb, [])
    assert main([verb, str(trace), *more]) in (0, 1)
    capsys.readouterr()


def test_a_register_is_blamed_bit_by_bit(capsys):
    _, answer = blame(capsys, F5, "GITS_BASER0")
    assert answer["bits"][0] == {"mask": hex(1 << 63), "seq": 2}
    assert answer["bits"][1]["seq"] == 0
    (reset,) = answer["resets"]
    assert (reset["clause"], reset["status"]) == ("kept", "unspecified")


def test_a_device_that_a_restore_brought_back_went_through_the_reset_in_ram(capsys):
    _, answer = blame(capsys, F3, "device", "0")
    (reset,) = answer["resets"]
    assert (reset["did"], reset["lived"]) == ("left its entry in guest RAM", True)
    (trip,) = answer["round_trips"]
    assert trip == {"seq": 22, "saved_seq": 15, "came_back": True, "verdict": "stale"}
    names = [(each["seq"], (each["command"] or {}).get("name")) for each in answer["chain"]]
    assert names == [(11, "MAPD"), (12, None), (14, "MAPD")]  # mapped, saved, unmapped


@pytest.mark.parametrize(
    ("at", "seq", "present", "written"),
    [
        ("15", 15, True, 15),
        ("16", 16, True, 15),
        ("reset:0", 19, False, 15),
        ("-1", 35, True, 29),
        ("reset:-1", 19, False, 15),
    ],
)
def test_it_is_told_as_of_any_place(at, seq, present, written, capsys):
    trace = SCENARIOS / "F1-cured-by-lpis-off.its.txt"
    code, answer = blame(capsys, trace, "device 0", "--at", at)
    assert (code, answer["at"], answer["present"]) == (0, seq, present)
    assert answer["written"]["seq"] == written


def test_a_place_that_there_is_not_is_wrong_usage(capsys):
    for at, sentence in (
        ("99", "the events are 0 to 33"),
        ("reset:1", "has 1 resets: reset:1 is none of them"),
    ):
        code, err = blame(capsys, F1, "device 0", "--at", at)
        assert code == 2
        assert sentence in err


@pytest.mark.parametrize("at", ["x", "reset:x", "reset:", "1.5", "--1"])
def test_a_place_that_cannot_be_read_is_wrong_usage(at, capsys):
    assert main(["blame", str(F1), "device", "0", f"--at={at}"]) == 2
    assert "a moment must be SEQ, -N from the end, reset:N" in capsys.readouterr().err


def test_what_there_never_was_is_wrong_usage_with_near_names(capsys):
    code, err = blame(capsys, F1, "GITS_BASR0")
    assert code == 2
    assert "there is no GITS_BASR0, and never was; did you mean GITS_BASER0" in err
    code, err = blame(capsys, F1, "device 1")
    assert code == 2
    assert "did you mean device 0x0" in err


def test_a_write_of_the_same_value_is_the_last_write_and_said_to_be_the_same(tmp_path, capsys):
    """MAPD twice, with the same ITT: KVM frees the device and makes it anew."""
    mapd = "MAPD(size=0x3,itt_addr=0x40600000,v=0x1)"
    trace = told(
        tmp_path,
        TABLES
        + f". +0 mem.write gpa=0x40300000 data={mapd}\n"
        + ". +0 reg.write offset=0x88 value=0x20 origin=vmm\n"
        + f". +0 mem.write gpa=0x40300020 data={mapd}\n"
        + ". +0 reg.write offset=0x88 value=0x40 origin=vmm\n",
    )
    _, answer = blame(capsys, trace, "device 0")
    assert (answer["written"]["seq"], answer["since"]["seq"]) == (7, 5)
    assert answer["written"]["command"]["queued_by"] == 6
    main(["blame", str(trace), "device", "0"])
    assert "set again to what it was since event 5" in capsys.readouterr().out


def test_a_command_that_set_an_entry_in_guest_ram_to_what_it_was_wrote_it():
    profile = find("qemu-7.2.22")[0]
    guest = Life(0, profile)
    guest.tables()
    guest.write(CTLR, 1)
    guest.mapd(8, 4)
    guest.mapd(8, 4)
    last = len(guest.events) - 1
    found = ask(header_of(0, profile, last), guest.events, "device 8", None)
    assert (found.writer.seq, found.since.seq, found.record.writes) == (last, last - 2, 2)


def test_what_was_there_before_the_recording_is_said_to_be(tmp_path, capsys):
    head = HEAD.replace('"complete"', '"observed"') + '# starts: "running"\n'
    trace = told(tmp_path, ". +0 reg.read offset=0x100 value=0x8107000040100200\n", head)
    code, answer = blame(capsys, trace, "GITS_BASER0")
    assert (code, answer["written"], answer["before_recording"]) == (0, None, True)
    main(["blame", str(trace), "GITS_BASER0"])
    assert "it was there before the recording began" in capsys.readouterr().out
    code, err = blame(capsys, trace, "device 8")
    assert code == 4
    assert "it may be there all the same" in err


def test_what_a_device_comes_up_with_nobody_wrote(capsys):
    code, answer = blame(capsys, F1, "GITS_TYPER")
    assert (code, answer["written"], answer["before_recording"]) == (0, None, False)


def test_a_vpe_and_an_event_of_it(tmp_path, capsys):
    vmapp = "VMAPP(vpe_id=0x1,rdbase=0x0,v=0x1,vpt_size=0xd,vpt_addr=0x40500000)"
    trace = told(
        tmp_path,
        TABLES
        + ". +0 reg.write offset=0x0 value=0x0 size=4\n"
        + ". +0 reg.write offset=0x110 value=0x8000000040280000\n"
        + ". +0 reg.write offset=0x0 value=0x1 size=4\n"
        + f". +0 mem.write gpa=0x40300000 data={vmapp}\n"
        + ". +0 mem.write gpa=0x40300020 data=MAPD(size=0x3,itt_addr=0x40600000,v=0x1)\n"
        + ". +0 mem.write gpa=0x40300040 data=VMAPTI(vpe_id=0x1,vintid=0x2000,dbell_pintid=0x3ff)\n"
        + ". +0 reg.write offset=0x88 value=0x60\n"
        + ". +0 mem.write gpa=0x40300060 data=VMOVP(vpe_id=0x1,rdbase=0x1)\n"
        + ". +0 reg.write offset=0x88 value=0x80\n",
        HEAD.replace("linux-6.1.192", "qemu-7.2.22-gicv4").replace("origin=vmm", ""),
    )
    _, answer = blame(capsys, trace, "vpe 1")
    assert (answer["written"]["seq"], answer["written"]["command"]["name"]) == (12, "VMOVP")
    assert answer["written"]["command"]["queued_by"] == 11
    _, answer = blame(capsys, trace, "device 0 event 0")
    assert answer["written"]["command"]["name"] == "VMAPTI"
    assert [each["command"]["name"] for each in answer["chain"]] == ["VMAPP", "MAPD", "VMOVP"]


def test_a_loss_behind_the_write_is_told(tmp_path, capsys):
    trace = told(tmp_path, TABLES + '. +0 loss reason="ring" count=3\n')
    code, answer = blame(capsys, trace, "GITS_BASER0")
    assert (code, answer["written"]["seq"], answer["lost_since"]) == (3, 0, [4])


def test_the_events_of_another_its_are_not_its_own(tmp_path, capsys):
    trace = told(
        tmp_path,
        TABLES
        + ". +0 context its=1\n"
        + TABLES.replace("40100000", "41100000")
        + ". +0 context its=0\n. +0 reg.write offset=0x0 value=0x0 origin=vmm\n",
    )
    for name, seq, value in (("GITS_BASER0", 0, 0x40100000), ("its 1 GITS_BASER0", 5, 0x41100000)):
        _, answer = blame(capsys, trace, name)
        assert (answer["written"]["seq"], answer["its"]) == (seq, int(seq > 0))
        assert int(answer["value"], 16) & 0xFFFF_F000 == value
    assert blame(capsys, trace, "its 1 GITS_CTLR")[1]["written"]["seq"] == 8


@pytest.mark.parametrize(
    ("text", "component", "key"),
    [
        ("GITS_BASER0", "GITS_BASER0", None),
        ("gicr_pendbaser[1]", "GICR_PENDBASER[1]", None),
        ("device 8", "devices", 8),
        ("device 0x8 event 1", "events", (8, 1)),
        ("event 0x8/0x1", "events", (8, 1)),
        ("collection 3", "collections", 3),
        ("LPI 8192", "lpis", 8192),
        ("vpe 1", "vpes", 1),
        ("translation 0x8/0x1", "translation_cache", (8, 1)),
    ],
)
def test_a_name_means_a_component(text, component, key):
    target = parse_target(text)
    assert (target.component, target.key) == (component, key)
    assert parse_target(target.name) == target


@settings(max_examples=100)
@given(st.text(max_size=40) | st.from_regex(r"(its |device |event |lpi |[0-9x/: ]){1,8}"))
def test_no_name_does_anything_but_mean_something_or_not(text):
    with contextlib.suppress(UsageError):
        parse_target(text)


def test_who_wrote_what_is_gone_is_known_for_so_many_and_no_more(monkeypatch):
    monkeypatch.setattr(writers, "MAX_GONE", 10)
    who = History()
    who.begin(0, make("reset", 0, how=0), [], [], None)
    for seq in range(100):
        who.changed(seq, [Change("devices", seq, None, 1)], {"devices": {seq: 1}})
        who.changed(seq, [Change("devices", seq, 1, None)], {"devices": {}})
    known = [seq for seq in range(100) if who.of_key("devices", seq) is not None]
    assert known == list(range(90, 100))
    assert len(who.records) == len(who.as_of_now()) == 10


@settings(max_examples=30, deadline=None)
@given(EVENTS, st.sampled_from(("linux-6.1.192", "qemu-7.2.22")))
def test_whatever_the_trace_holds_it_is_no_bug_of_ours(events, image):
    """Its values are within what a reader lets through, and mean nothing."""
    header = Header(source="test", profile=image, cpus=2, guest_ram="complete")
    for name in ("device 8", "GITS_BASER0", "lpi 8192"):
        with contextlib.suppress(UsageError):
            ask(header, events, name, None)
