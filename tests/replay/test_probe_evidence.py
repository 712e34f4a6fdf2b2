"""What a probe after a reset proves: every register seen, the mappings by rule, and what it missed."""

from __future__ import annotations

import io
import json

import pytest

from replay import cli
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from replay.verify import verify
from tests.support.captures import PROBED, TRACES
from tracer.events import NUMBER, PROBE, fields_of
from tracer.log.stream import Reader, Writer
from tracer.log.text import TextReader

HEADER = """\
# itstrace: 1
# source: "test"
# profile: "qemu-7.2.22"
# cpus: 2
# guest_ram: "observed"
"""
# A life whose device table (two-level) and collection table are at 0x40100000 and 0x40200000.
LIFE = """\
. +0 reg.write offset=0x100 value=0xc000000040100000
. +0 reg.write offset=0x108 value=0x8000000040200000
. +0 reg.write offset=0x80 value=0x8000000040300000
. +0 gicr.write cpu=0 offset=0x70 value=0x4040000f
. +0 gicr.write cpu=0 offset=0x78 value=0x40500000
. +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4
. +0 reg.write offset=0x0 value=0x1 size=4
. +0 reg.write offset=0x88 value=0x40
. +0 command cause=1 queue_offset=0x0 dw0=0x9 dw1=0x0 dw2=0x8000000000010000 dw3=0x0
. +0 table.write cause=2 table=cte index=0x0 base=0x0 valid=1 e1=0x1
. +0 command cause=3 queue_offset=0x20 dw0=0x200000008 dw1=0x1 dw2=0x8000000040600000 dw3=0x0
. +0 table.write cause=4 table=dte index=0x2 base=0x0 valid=1 e1=0x1 e2=0x40600000
"""
POWER_ON = "0 +0 reset how=power_on\n"
RESET = ". +0 reset how=system\n"
BEGIN = ". +0 probe edge=begin perturbing=1 lists=0\n"
END = ". +0 probe edge=end perturbing=1 lists=0\n"
ITS = {
    "GITS_CTLR": ("0x0", 4, 0x80000000),
    "GITS_IIDR": ("0x4", 4, 0x43B),
    "GITS_TYPER": ("0x8", 8, 0x1F0001EFB1),
    "GITS_CBASER": ("0x80", 8, 0),
    "GITS_CWRITER": ("0x88", 8, 0),
    "GITS_CREADR": ("0x90", 8, 0),
    "GITS_BASER0": ("0x100", 8, 0x0107000000000200),
    "GITS_BASER1": ("0x108", 8, 0x0407000000000200),
    **{f"GITS_BASER{n}": (f"{0x100 + 8 * n:#x}", 8, 0) for n in range(2, 8)},
    "GITS_PIDR2": ("0xffe8", 4, 0x3B),
}
GICR = {
    f"{name}[{cpu}]": (cpu, *at)
    for cpu in range(2)
    for name, at in {
        "GICR_CTLR": ("0x0", 4, 2),
        "GICR_PROPBASER": ("0x70", 8, 0),
        "GICR_PENDBASER": ("0x78", 8, 0),
    }.items()
}
MAPPINGS = {"devices", "events", "collections"}


def probe(*skip, dump="", **wrong):
    """A look at every register but `skip`, showing `wrong` values, then `dump`."""
    lines = []
    for name, (offset, size, fresh) in ITS.items():
        if name not in skip:
            value = wrong.get(name, fresh)
            lines.append(f". +0 reg.read offset={offset} value={value:#x} size={size} origin=probe")
    for name, (cpu, offset, size, fresh) in GICR.items():
        if name not in skip:
            value = wrong.get(name, fresh)
            lines.append(
                f". +0 gicr.read cpu={cpu} offset={offset} value={value:#x} size={size} origin=probe"
            )
    return BEGIN + "".join(f"{line}\n" for line in lines) + dump + END


def judge(*parts, header=HEADER, profile="qemu-7.2.22"):
    reader = TextReader(io.StringIO(header + "".join(parts)), "life")
    verifier, engine = verify(reader, QemuModel(reader.header, find(profile)[0]))
    return verifier.resets, engine


def dump(gpa, *entries):
    """A page as the probe finds it, its first doublewords given."""
    data = b"".join(entry.to_bytes(8, "little") for entry in entries).ljust(4096, b"\0")
    return f". +0 mem.read cause=0 gpa={gpa:#x} data={data.hex()}\n"


def test_a_power_on_and_a_system_reset_that_were_probed_whole_are_verified():
    resets, engine = judge(POWER_ON, probe(), LIFE, RESET, probe())
    assert engine.tally.divergences == []
    assert [(each.how, each.word, each.observed, len(each.spoken_of)) for each in resets] == [
        ("power_on", "verified", 24, 24),
        ("system", "verified", 24, 24),
    ]
    for each in resets:
        assert set(each.statuses().values()) == {"verified"}


@pytest.mark.parametrize("name", [*ITS, *GICR])
def test_with_one_register_not_probed_it_is_equal_and_says_what_was_not_looked_at(
    name, tmp_path, capsys
):
    trace = tmp_path / "life.its.txt"
    trace.write_text(HEADER + POWER_ON + LIFE + RESET + probe(name))
    assert cli.main(["verify", str(trace)]) == 0
    last = capsys.readouterr().out.partition("reset 1:")[2]
    # Without Enabled, the queue's Valid or a table's nobody knows what can still be reached.
    unseen = {name} | (MAPPINGS if name.startswith(("GITS_CTLR", "GITS_CB", "GITS_BA")) else set())
    assert f"equal in {24 - len(unseen)} of 24 observed" in last
    assert set(last.partition("not looked at: ")[2].splitlines()[0].split(", ")) == unseen


@pytest.mark.parametrize(("name", "old"), [("GITS_BASER0", 1 << 63), ("GITS_CTLR", 0x80000001)])
def test_a_table_that_is_still_valid_proves_nothing_of_the_mappings(name, old):
    resets, _ = judge(POWER_ON, LIFE, RESET, probe(**{name: old}))
    words = resets[-1].statuses()
    assert resets[-1].word == "stale"
    assert words[name] == "stale"
    assert {words[each] for each in MAPPINGS} == {"unproven"}


def test_the_rule_by_which_mappings_count_as_seen_is_told(tmp_path, capsys):
    trace = tmp_path / "life.its.txt"
    trace.write_text(HEADER + POWER_ON + LIFE + RESET + probe())
    assert cli.main(["verify", str(trace)]) == 0
    assert "devices, events, collections: Enabled 0, and Valid 0" in capsys.readouterr().out
    assert cli.main(["verify", "--json", str(trace)]) == 0
    components = json.loads(capsys.readouterr().out)["resets"][1]["components"]
    told = {each["name"] for each in components if each["because"]}
    assert told == MAPPINGS


def test_the_mappings_are_seen_by_reads_of_the_guest_too():
    reads = probe().replace(" origin=probe", "").replace(BEGIN, "").replace(END, "")
    resets, _ = judge(POWER_ON, LIFE, RESET, reads)
    assert resets[-1].word == "verified"
    assert not resets[-1].perturbed


def test_a_baser_that_was_written_before_it_was_read_proves_nothing():
    write = ". +0 reg.write offset=0x100 value=0x0\n"
    resets, _ = judge(POWER_ON, LIFE, RESET, write, probe(GITS_BASER0=0x0107000000000000))
    words = resets[-1].statuses()
    assert {words[each] for each in (*MAPPINGS, "GITS_BASER0")} == {"unproven"}


def test_a_perturbing_probe_is_named_where_it_gave_evidence_and_nowhere_else():
    seen = ". +0 reg.read offset=0x0 value=0x80000000 size=4\n"
    wrote = "".join(  # what Linux overwrites before anybody looks again
        f". +0 reg.write offset={offset:#x} value=0x0\n" for offset in (0x80, 0x88, 0x100, 0x108)
    )
    look = BEGIN + ". +0 reg.read offset=0x80 value=0x0 origin=probe\n" + END
    resets, _ = judge(POWER_ON, seen, wrote, look, RESET, probe(), RESET)
    assert [each.perturbed for each in resets] == [False, True, False]


def test_what_a_guest_reads_behind_a_probe_is_the_guests():
    seen = ". +0 reg.read offset=0x0 value=0x80000000 size=4\n"
    assert not judge(POWER_ON, BEGIN, END, seen)[0][0].perturbed


def test_a_probe_that_stops_nothing_perturbs_nothing():
    quiet = probe().replace("perturbing=1", "perturbing=0")
    assert not judge(POWER_ON, quiet)[0][0].perturbed


def test_gicv4_is_verified_with_its_vpes_and_its_best_vlpi():
    more = "".join(
        f". +0 gicr.read cpu={cpu} offset={offset} value=0x0 origin=probe\n"
        for cpu in range(2)
        for offset in ("0x20070", "0x20078")
    )
    v4 = {"GITS_TYPER": 0x3F0001EFB3, "GITS_PIDR2": 0x4B, "GITS_BASER2": 0x0207000000000200}
    resets, engine = judge(
        POWER_ON, LIFE, RESET, probe(dump=more, **v4), profile="qemu-7.2.22-gicv4"
    )
    assert engine.tally.divergences == []
    assert (resets[-1].word, resets[-1].observed) == ("verified", 31)
    assert resets[-1].statuses()["best vLPI[1]"] == "verified"
    missed, _ = judge(POWER_ON, LIFE, RESET, probe(**v4), profile="qemu-7.2.22-gicv4")
    assert missed[-1].statuses()["best vLPI[1]"] == "unproven"


# -- tables that a probe dumps

LEVEL1 = dump(0x40100000, 1 << 63 | 0x40110000)
# DeviceID 2 as QEMU packs it: Valid, Size 1, ITT at 0x40600000; DeviceID 3 is not valid.
LEVEL2 = dump(0x40110000, 0, 0, 1 | 1 << 1 | 0x406000 << 6, 2)
COLLECTIONS = dump(0x40200000, 1 | 1 << 1)


def test_entries_left_in_guest_ram_are_told_and_are_no_verdict(tmp_path, capsys):
    trace = tmp_path / "life.its.txt"
    text = HEADER + POWER_ON + LIFE + RESET + probe(dump=LEVEL1 + LEVEL2 + COLLECTIONS)
    trace.write_text(text)
    assert cli.main(["verify", str(trace)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("valid entries of the old tables") == 1
    assert "2 valid entries of the old tables still in guest RAM (devices 1, collections 1)" in out
    resets, engine = judge(text.removeprefix(HEADER))
    assert engine.tally.divergences == []
    assert resets[-1].word == "verified"
    assert resets[-1].left_in_ram == {"devices": 1, "collections": 1}
    assert resets[0].left_in_ram == {}


def test_only_what_was_dumped_counts():
    """The model knows of the entries that QEMU wrote; a guest may have zeroed them since."""
    assert judge(POWER_ON, LIFE, RESET, probe())[0][-1].left_in_ram == {}
    found = judge(POWER_ON, LIFE, RESET, probe(dump=dump(0x40200000)))[0][-1].left_in_ram
    assert found == {}
    other = judge(POWER_ON, LIFE, RESET, probe(dump=dump(0x40700000, 3)))[0][-1].left_in_ram
    assert other == {}


def test_ram_that_a_guest_has_written_since_is_learned_and_diverges_from_nothing():
    dumped = probe(dump=COLLECTIONS)
    again = probe(dump=dump(0x40200000, 0xFFFF))
    _, engine = judge(POWER_ON, LIFE, RESET, dumped, LIFE, RESET, again)
    assert engine.tally.divergences == []
    assert engine.tally.learned == 2


def test_complete_ram_that_is_read_otherwise_diverges():
    complete = HEADER.replace("observed", "complete")
    _, engine = judge(POWER_ON, dump(0x40200000, 1), header=complete)
    assert [each.kind for each in engine.tally.divergences] == ["mem.read"]


# -- a real QEMU, recorded with --probe-resets


def real(without=None):
    """The recorded trace, less what the last probe read by this (kind, offset, cpu)."""
    reader = Reader(io.BytesIO((TRACES / PROBED).read_bytes()), PROBED)
    events = [event for _, block in reader for event in block]
    if without is not None:
        matching = [at for at, event in enumerate(events) if _place(event) == without]
        del events[matching[-1]]
    out = io.BytesIO()
    writer = Writer(out, reader.header, bound_ms=0)
    for event in events:
        writer.add(event)
    writer.close()
    again = Reader(io.BytesIO(out.getvalue()), PROBED)
    return verify(again, QemuModel(again.header, find(again.header.profile)[0]))


def _place(event):
    """(kind, offset, cpu) of a probe's read of a register."""
    fields = fields_of(event)
    if fields.get("origin") != PROBE:
        return None
    return event[0], fields["offset"], fields.get("cpu")


def test_every_reset_of_a_real_qemu_that_was_probed_is_verified():
    verifier, engine = real()
    assert engine.tally.divergences == []
    assert [(each.how, each.word, each.observed) for each in verifier.resets] == [
        ("power_on", "verified", 24),
        ("system", "verified", 24),
        ("system", "verified", 24),
    ]
    # One device and one collection a life, which bare_metal maps and nobody unmaps.
    assert [each.left_in_ram for each in verifier.resets] == [
        {},
        *[{"devices": 1, "collections": 1}] * 2,
    ]


# What bare_metal reads itself before it writes anything.
GUEST_READS = {"GITS_TYPER", "GITS_CREADR"}


@pytest.mark.parametrize("name", sorted({*ITS, *GICR} - GUEST_READS))
def test_a_read_that_the_real_probe_lacks_is_one_that_is_not_looked_at(name):
    if name in ITS:
        place = (NUMBER["reg.read"], int(ITS[name][0], 0), None)
    else:
        place = (NUMBER["gicr.read"], int(GICR[name][1], 0), GICR[name][0])
    resets = real(place)[0].resets
    unseen = {name} | (MAPPINGS if name.startswith(("GITS_CTLR", "GITS_CB", "GITS_BA")) else set())
    assert [each.word for each in resets] == ["verified", "verified", "equal"]
    words = resets[-1].statuses()
    assert {each for each, word in words.items() if word == "unproven"} == unseen


def test_what_the_guest_reads_itself_needs_no_probe():
    assert real((NUMBER["reg.read"], 0x90, None))[0].resets[-1].word == "verified"
