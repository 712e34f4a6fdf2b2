"""A VM that is joined in the middle of its life: unknown until shown, and never guessed."""

from __future__ import annotations

import io
import json
from functools import cache

import pytest

from replay import cli
from replay.model.qemu import reset
from replay.model.unknown import Unknown
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from replay.verify import verify
from tests.replay.test_probe_evidence import ITS, RESET, probe
from tests.support.captures import KEXEC, TWO_BOOTS, open_capture, trace_bytes
from tracer.events import FIRST_OUTPUT, NUMBER
from tracer.log.stream import Reader, Writer
from tracer.log.text import TextReader

PROFILE = find("qemu-7.2.22")[0]
HEADER = """\
# itstrace: 1
# source: "test"
# profile: "qemu-7.2.22"
# cpus: 1
# guest_ram: "observed"
# starts: "running"
"""
READ = ". +0 reg.read offset={} value={} size={}\n"


def read(offset, value, size=8):
    return READ.format(f"{offset:#x}", f"{value:#x}", size)


def write(offset, value, size=8):
    return f". +0 reg.write offset={offset:#x} value={value:#x} size={size}\n"


def command(at, dw0, dw1=0, dw2=0, cause=1):
    return f". +0 command cause={cause} queue_offset={at:#x} dw0={dw0:#x} dw1={dw1:#x} dw2={dw2:#x} dw3=0x0\n"


def sync(at, cause=1):
    return command(at, 5, cause=cause)


def replay(*parts, steps=reset.STEPS):
    reader = TextReader(io.StringIO(HEADER + "".join(parts)), "life")
    model = QemuModel(reader.header, PROFILE, reset_steps=steps)
    verifier, engine = verify(reader, model)
    return engine.tally, model, verifier


def registers(model):
    return model.state()["its"]["0"]["registers"]


# -- registers


def test_what_is_not_known_is_null_and_what_is_constant_is_known():
    shown = registers(replay()[1])
    assert {name for name, value in shown.items() if value is None} == {
        "GITS_CTLR", "GITS_CBASER", "GITS_CWRITER", "GITS_CREADR", "GITS_BASER0", "GITS_BASER1",
    }  # fmt: skip
    assert replay()[1].state()["redistributors"]["0"] == dict.fromkeys(
        ("GICR_CTLR", "GICR_PROPBASER", "GICR_PENDBASER")
    )


@pytest.mark.parametrize("name", ["GITS_CTLR", "GITS_CBASER", "GITS_BASER0", "GITS_BASER1"])
def test_a_read_is_learned_once_and_known_from_then_on(name):
    offset, size, fresh = ITS[name]
    line = READ.format(offset, f"{fresh | 1:#x}", size)
    tally, model, _ = replay(line, line)
    assert (tally.learned, tally.matched, tally.divergent) == (1, 1, 0)
    assert registers(model)[name] == hex(fresh | 1)
    tally, _, _ = replay(line, line, READ.format(offset, f"{fresh:#x}", size))
    assert (tally.learned, tally.divergent) == (1, 1)


def test_bits_that_cannot_differ_are_not_learned():
    """Type and entry size of a BASER, Quiescent, and a BASER that there is not."""
    for line in (read(0x100, 0x0407_0000_0000_0200), read(0, 0, 4), read(0x110, 1)):
        tally, _, _ = replay(line)
        assert (tally.learned, tally.divergent) == (0, 1)


def test_half_a_register_leaves_the_other_half_unknown():
    half = write(0x100, 0x4010_0200, 4)
    disabled = write(0, 0, 4)
    tally, model, _ = replay(
        disabled, half, read(0x100, 0x4010_0200, 4), read(0x104, 0x8107_0000, 4)
    )
    assert (tally.matched, tally.learned, tally.divergent) == (1, 1, 0)
    assert registers(model)["GITS_BASER0"] == hex(0x8107_0000_4010_0200)
    assert registers(replay(disabled, half)[1])["GITS_BASER0"] is None


def test_a_write_that_an_enabled_its_would_ignore_is_unknown_until_it_is_read():
    tally, model, _ = replay(write(0x100, 0x8107_0000_4010_0200))
    assert registers(model)["GITS_BASER0"] is None
    for value in (0x8107_0000_4010_0200, 0x8107_0000_4070_0200):
        tally, _, _ = replay(write(0x100, 0x8107_0000_4010_0200), read(0x100, value))
        assert (tally.learned, tally.divergent) == (1, 0)
    known = write(0, 0, 4) + write(0x100, 0x8107_0000_4010_0200)
    assert replay(known, read(0x100, 0x8107_0000_4010_0200))[0].matched == 1
    assert replay(known, read(0x100, 0x8107_0000_4070_0200))[0].divergent == 1


def test_a_cbaser_write_zeroes_creadr_if_it_was_taken():
    taken = write(0, 0, 4) + write(0x80, 1 << 63 | 0x4030_0000)
    assert registers(replay(taken)[1])["GITS_CREADR"] == "0x0"
    maybe = read(0x90, 0x40) + write(0x80, 1 << 63 | 0x4030_0000)
    assert registers(replay(maybe)[1])["GITS_CREADR"] is None


def test_a_redistributor_is_learned_register_by_register():
    pend = ". +0 gicr.read cpu=0 offset=0x78 value=0x425c0780\n"
    tally, model, _ = replay(pend, pend, pend.replace("425c", "426c"))
    assert (tally.learned, tally.matched, tally.divergent) == (1, 1, 1)
    gicr = model.state()["redistributors"]["0"]
    assert gicr == {"GICR_CTLR": None, "GICR_PROPBASER": None, "GICR_PENDBASER": "0x425c0780"}
    on = ". +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4\n"
    assert replay(on)[1].state()["redistributors"]["0"]["GICR_CTLR"] == "0x3"


# -- commands and MSIs


def test_commands_that_ran_show_that_it_is_enabled_and_where_creadr_stood():
    tally, model, _ = replay(write(0x88, 0x80), sync(0x40), sync(0x60, 2))
    assert (tally.matched, tally.divergent) == (2, 0)
    shown = registers(model)
    assert shown["GITS_CTLR"] == "0x80000001"
    tally, _, _ = replay(write(0x88, 0x80), sync(0x40), sync(0x60, 2), read(0x90, 0x80))
    assert (tally.learned, tally.divergent) == (1, 0)  # its other bits are learned
    tally, _, _ = replay(write(0x88, 0x80), sync(0x40), sync(0x60, 2), read(0x90, 0x60))
    assert tally.divergent == 1


def test_a_queue_of_unknown_size_begins_anew_where_the_guest_has_it():
    tally, _, _ = replay(write(0x88, 0), sync(0x1FE0), read(0x90, 0, 4))
    assert tally.divergent == 0
    tally, _, _ = replay(write(0x88, 0x20), sync(0x1FE0), sync(0, 2), read(0x90, 0x20, 4))
    assert (tally.matched, tally.divergent) == (2, 0)


def test_what_a_command_did_to_a_table_that_nobody_knows_is_kept():
    mapped = (
        write(0x88, 0x20)
        + command(0, 0x8 | 2 << 32, 1, 1 << 63 | 0x4060_0000)
        + ". +0 table.write cause=2 table=dte index=0x2 base=0x0 valid=1 e1=0x1 e2=0x40600000\n"
    )
    tally, model, _ = replay(mapped)
    assert (tally.matched, tally.divergent) == (2, 0)
    assert list(model.state()["its"]["0"]["devices"]) == ["0x2"]
    lookup = (
        ". +0 msi device_id=0x2 event_id=0x0\n"
        ". +0 table.read cause=1 table=dte index=0x2 base=0x0 valid=1 e1={} e2=0x40600000\n"
        ". +0 table.read cause=2 table=ite index=0x0 base=0x40600000 valid=0"
        " e1=0x0 e2=0x0 e3=0x0 e4=0x0 e5=0x0\n"
    )
    assert replay(mapped, lookup.format("0x1"))[0].divergent == 0
    assert replay(mapped, lookup.format("0x2"))[0].divergent == 1


def test_nothing_is_invented_for_an_msi_that_shows_nothing():
    """It may be disabled, or the DeviceID beyond the table."""
    msi = ". +0 msi device_id=0x2 event_id=0x0\n"
    looked = ". +0 table.read cause=1 table=dte index=0x1 base=0x0 valid=0 e1=0x0 e2=0x0\n"
    other = msi.replace("0x2", "0x1") + looked
    assert replay(msi, msi)[0].outputs == 0
    assert replay(other, msi, msi)[0].divergent == 0


def test_commands_that_run_again_diverge_though_the_queue_is_not_known():
    first = write(0x88, 0x80) + sync(0x40) + sync(0x60, 2)
    again = write(0x88, 0xA0)
    assert replay(first, again, sync(0x80))[0].divergent == 0
    assert replay(first, again, sync(0x60))[0].divergent >= 1  # it ran before
    assert replay(first, write(0x88, 0xC0), sync(0x80))[0].divergent == 1  # 0xa0 did not run


def test_a_queue_that_is_known_again_is_followed_strictly():
    """Two commands stand in the queue and one is seen to run."""
    known = write(0, 0, 4) + write(0x80, 1 << 63 | 0x4030_0000) + write(0x88, 0) + write(0, 1, 4)
    assert replay(known, write(0x88, 0x40), sync(0), sync(0x20, 2))[0].divergent == 0
    assert replay(known, write(0x88, 0x40), sync(0))[0].divergent == 1
    assert replay(known, write(0x88, 0x40), sync(0x20))[0].divergent >= 1


# -- resets


def test_a_reset_defines_every_register_and_is_judged_as_ever():
    tally, model, verifier = replay(
        RESET, probe("GICR_CTLR[1]", "GICR_PROPBASER[1]", "GICR_PENDBASER[1]")
    )
    assert (tally.learned, tally.divergent) == (0, 0)
    assert verifier.resets[0].word == "verified"
    assert None not in registers(model).values()


def test_what_was_planted_before_the_recording_is_said_to_be(tmp_path, capsys):
    trace = tmp_path / "life.its.txt"
    trace.write_text(HEADER + RESET + read(0x80, 1 << 63 | 0x4030_0000))
    assert cli.main(["verify", str(trace)]) == 1
    out = capsys.readouterr().out
    assert "written by no event of this trace: it was there before the trace begins" in out
    assert cli.main(["verify", "--json", str(trace)]) == 1
    (verdict,) = json.loads(capsys.readouterr().out)["resets"]
    told = [each for each in verdict["components"] if each["planted_before_recording"]]
    assert [each["name"] for each in told] == ["GITS_CBASER"]
    # In a trace from power-on nobody can have planted it earlier.
    trace.write_text((HEADER + RESET + read(0x80, 1 << 63)).replace('"running"', '"power_on"'))
    assert cli.main(["verify", str(trace)]) == 1
    assert "before the trace begins" not in capsys.readouterr().out


def test_what_an_event_of_the_trace_wrote_is_blamed_on_it():
    value = 1 << 63 | 0x4030_0000
    _, _, verifier = replay(write(0, 0, 4), write(0x80, value), RESET, read(0x80, value))
    (verdict,) = verifier.resets
    cbaser = next(each for each in verdict.components if each.name == "GITS_CBASER")
    assert (cbaser.blame, verdict.planted_before(cbaser)) == (1, False)


def test_a_reset_that_forgets_a_register_nobody_knew_is_not_suspected_of_it():
    """What it held is not known, so neither is whether it was forgotten."""
    steps = tuple(step for step in reset.STEPS if step[0] != "GITS_CBASER")
    _, _, verifier = replay(write(0, 0, 4), write(0x80, 1 << 63), RESET, steps=steps)
    assert verifier.resets[0].statuses()["GITS_CBASER"] == "suspected"


def test_a_hand_over_is_seen_though_nobody_knew_the_tables_of_before():
    used = write(0x88, 0x20) + sync(0)
    repointed = write(0x100, 0) + write(0x100, 1 << 63 | 0x4070_0200) + write(0, 1, 4)
    _, _, verifier = replay(used, write(0, 0, 4), repointed)
    assert [each.how for each in verifier.resets] == ["reinit"]
    # With Valid 1 all the time it may have been the same table.
    _, _, verifier = replay(used, write(0, 0, 4), repointed.partition("\n")[2])
    assert verifier.resets == []


# -- a real VM, joined anywhere


@cache
def whole(name):
    return [event for _, block in open_capture(name) for event in block]


def joined_at(name, at):
    header = open_capture(name).header
    header.starts = "running"
    out = io.BytesIO()
    writer = Writer(out, header, bound_ms=0)
    for event in whole(name)[at:]:
        writer.add(event)
    writer.close()
    reader = Reader(io.BytesIO(out.getvalue()), name)
    model = QemuModel(reader.header, PROFILE)
    verifier, engine = verify(reader, model)
    return engine.tally, model, verifier


BEGINS_AT = (NUMBER["reg.read"], NUMBER["gicr.read"])


@pytest.mark.parametrize("name", [KEXEC, TWO_BOOTS])
def test_a_real_vm_diverges_nowhere_wherever_it_is_joined(name):
    model = QemuModel(open_capture(name).header, PROFILE)
    verify(open_capture(name), model)
    end = registers(model)
    places = [
        at
        for at, event in enumerate(whole(name))
        if event[0] < FIRST_OUTPUT or event[0] in BEGINS_AT
    ]
    for at in places[1::9]:
        tally, joined, _ = joined_at(name, at)
        assert tally.divergences == [], at
        assert tally.learned > 0 or at < 20 or at > len(whole(name)) - 20
        found = registers(joined)
        assert {k: v for k, v in found.items() if v is not None}.items() <= end.items(), at


def test_a_kexec_is_judged_alike_by_who_joins_before_it():
    full = verify(open_capture(KEXEC), QemuModel(open_capture(KEXEC).header, PROFILE))[0].resets[1]
    for at in (100, 200, 300):
        (found,) = joined_at(KEXEC, at)[2].resets
        assert (found.how, found.word, found.seq) == ("reinit", full.word, full.seq - at)


def test_the_trace_of_a_whole_life_is_what_was_cut():
    assert trace_bytes(KEXEC)
    assert whole(KEXEC)[0][0] == NUMBER["reset"]


def test_unknown_bits_are_known_one_by_one():
    unknown = Unknown({"GITS_CBASER": 0xFF, "GITS_CTLR": 0})
    assert unknown.of("GITS_CBASER") == 0xFF
    assert unknown.of("GITS_CTLR") == 0
    unknown.know("GITS_CBASER", 0xF)
    assert unknown.of("GITS_CBASER") == 0xF0
    unknown.doubt("GITS_CBASER", 0x1)
    assert unknown.snapshot() == {"GITS_CBASER": 0xF1}
    unknown.know("GITS_CBASER")
    assert not unknown


@pytest.mark.parametrize("pointer", [0xFFFE0, 0x10])
@pytest.mark.parametrize("profile", ["linux-6.1.192", "qemu-7.2.22"])
def test_a_queue_that_no_device_can_have_ends(tmp_path, profile, pointer):
    # A made-up trace: beyond the queue's one page, or between two commands, no pointer stops at.
    path = tmp_path / "life.its.txt"
    path.write_text(
        HEADER.replace(PROFILE.name, profile)
        + read(0x0, 0x80000001, 4)
        + read(0x80, 1 << 63 | 0x4000_0000)
        + read(0x90, pointer)
        + read(0x88, 0)
        + write(0x88, 0x20)
    )
    assert cli.main(["check", str(path)]) == 0
