"""A hand-over without a reset: seen, told from a suspend, and judged by what each kernel frees."""

from __future__ import annotations

import gzip
import io
import json
import re

import pytest

from replay import cli
from replay.judge import judge as judge_trace, with_flags
from replay.model.kvm import registers
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from replay.verify import verify
from tests.replay.test_kvm_verify import HEADER, MAP, MSI, Queue, life, result
from tests.support.captures import KEXEC, KEXEC_5_10, TRACES, open_capture
from tests.support.compiled import pure_only
from tracer.events import NUMBER
from tracer.log.text import TextReader

V6_1 = find("linux-6.1.192")[0]  # frees a list when its BASER becomes invalid only
V7_2 = find("linux-7.2.13")[0]  # frees it whenever the BASER changes
QEMU = find("qemu-7.2.22")[0]

DISABLE = ". +0 reg.write offset=0x0 value=0x0 size=4\n"
ENABLE = ". +0 reg.write offset=0x0 value=0x1 size=4\n"
# Other tables and another queue, as a new kernel names them.
BASER0 = ". +0 reg.write offset=0x100 value=0x8000000040700200\n"
BASER1 = ". +0 reg.write offset=0x108 value=0x8000000040800200\n"
CBASER = ". +0 reg.write offset=0x80 value=0x8000000040900000\n"
NEW = CBASER + BASER0 + BASER1
INVALID = (
    ". +0 reg.write offset=0x100 value=0x0\n. +0 reg.write offset=0x108 value=0x0\n"  # Linux 6.1
)
# The tables and the queue of `life`, written again.
OLD = (
    ". +0 reg.write offset=0x80 value=0x8000000040300000\n"
    ". +0 reg.write offset=0x100 value=0x8000000040100200\n"
    ". +0 reg.write offset=0x108 value=0x8000000040200200\n"
)


def judge(*parts, profile=V6_1, **flags):
    text = life(Queue().run(*MAP), *parts)
    return judge_trace(TextReader(io.StringIO(text), "life"), with_flags(profile, flags))


def reinit(found):
    """The one reinit of a judgement."""
    (only,) = [each for each in found.verifier.resets if each.how == "reinit"]
    return only


def components(verdict):
    return {each.name: each for each in verdict.components}


def test_lists_that_a_kernel_frees_only_behind_an_invalid_baser_are_unspecified_with_the_reason():
    found = judge(DISABLE, NEW, ENABLE)
    verdict = reinit(found)
    words = verdict.statuses()
    assert found.word == "unproven"
    assert found.signatures == []
    assert {words[name] for name in ("devices", "events", "collections")} == {"unspecified"}
    devices = components(verdict)["devices"]
    assert list(devices.replayed) == [1]
    assert "8cd92f77ae4f" in devices.reason
    mapc, mapd = 12, 14  # behind 11 events of set-up, two for each command
    assert (devices.blame, components(verdict)["collections"].blame) == (mapd, mapc)


def test_a_kernel_that_frees_them_whenever_the_table_changes_is_clean():
    freed = reinit(judge(DISABLE, NEW, ENABLE, baser_change_frees_list=True))
    assert set(freed.statuses().values()) <= {"unproven", "kept"}
    assert freed.word == "unproven"
    clause = components(freed)["devices"].clause
    assert clause is not None
    assert "8cd92f77ae4f" in clause.source


@pure_only
def test_a_kernel_of_7_3_that_keeps_them_all_the_same_is_stale(monkeypatch):
    for name in ("free_devices", "free_collections"):
        monkeypatch.setattr(registers, name, lambda state: None)
    found = judge(DISABLE, NEW, ENABLE, MSI, result(1), profile=V7_2)
    verdict = reinit(found)
    assert verdict.statuses()["devices"] == "suspected"
    assert verdict.statuses()["events"] == "stale"
    assert "stale:reinit:event" in found.signatures


def test_a_baser_that_was_invalid_in_between_frees_its_list():
    verdict = reinit(judge(DISABLE, INVALID, NEW, ENABLE))
    assert {name for name, word in verdict.statuses().items() if word not in ("unproven",)} == {
        "GICR_CTLR[0]", "GICR_PENDBASER[0]", "GICR_CTLR[1]", "GICR_PENDBASER[1]",
        *(f"GICR_PROPBASER[{cpu}]" for cpu in range(4)),
    }  # fmt: skip
    assert "36d6961c2b48" in components(verdict)["devices"].clause.source


def test_a_kernel_without_that_fix_promises_nothing_of_it_either():
    verdict = reinit(judge(DISABLE, INVALID, NEW, ENABLE, baser_invalid_frees_list=False))
    assert verdict.statuses()["devices"] == "unspecified"


def test_an_msi_that_a_forgotten_event_still_delivers_is_evidence_against_the_lists():
    found = judge(MSI, result(1), DISABLE, NEW, ENABLE, MSI, result(1))
    events = components(reinit(found))["events"]
    assert events.wrong is not None
    assert events.status(strict=False) == "unspecified"
    assert events.status(strict=True) == "stale"
    assert events.blame == 16  # the queue write that ran MAPTI


def test_an_msi_that_is_blocked_is_none():
    found = judge(MSI, result(1), DISABLE, INVALID, NEW, ENABLE, MSI, result(0))
    assert components(reinit(found))["events"].wrong is None


@pytest.mark.parametrize(
    ("profile", "between"), [(V7_2, (NEW,)), (V6_1, (INVALID, NEW))], ids=["changed", "invalidated"]
)
@pytest.mark.parametrize("before", [(), (MSI, result(1))], ids=["no LPI lives", "an LPI lives"])
def test_an_event_that_the_kernel_says_it_freed_and_delivers_all_the_same_is_stale(
    profile, between, before
):
    """The model frees the lists, so nothing of it is left to compare with: the output shows it."""
    found = judge(*before, DISABLE, *between, ENABLE, MSI, result(1), profile=profile)
    events = components(reinit(found))["events"]
    assert (events.status(strict=False), events.blame) == ("stale", 16)
    assert "stale:reinit:event" in found.signatures
    assert "divergent:msi.result:result" in found.signatures
    blocked = judge(*before, DISABLE, *between, ENABLE, MSI, result(0), profile=profile)
    assert blocked.signatures == []


def test_an_event_that_the_new_kernel_maps_itself_outlives_nothing():
    mapped = Queue().run(*MAP).replace("0x403", "0x409")
    found = judge(MSI, result(1), DISABLE, INVALID, NEW, ENABLE, mapped, MSI, result(1))
    assert components(reinit(found))["events"].wrong is None
    assert found.signatures == []


def test_a_cached_translation_that_outlives_the_hand_over_is_stale():
    hit = ". +0 xlat.hit cause=1 device_id=0x1 event_id=0x0\n. +0 msi.result cause=2 result=1\n"
    found = judge(MSI, result(1), DISABLE, INVALID, NEW, ENABLE, MSI, hit)
    assert components(reinit(found))["translation_cache"].status(strict=False) == "stale"


def test_redistributors_are_the_guests_own():
    verdict = reinit(judge(DISABLE, NEW, ENABLE))
    propbaser = components(verdict)["GICR_PROPBASER[0]"]
    assert propbaser.status(strict=True) == "kept"
    assert verdict.unit == "its"


@pytest.mark.parametrize(
    "between",
    [
        pytest.param((), id="disabled and enabled"),
        pytest.param((OLD,), id="suspend and resume: the same tables written again"),
        pytest.param((CBASER,), id="a new queue alone"),
        pytest.param((OLD, ". +0 reg.write offset=0x88 value=0x0\n"), id="a queue begun anew"),
        pytest.param((OLD.replace("200\n", "600\n"),), id="other attributes of the same tables"),
        pytest.param((NEW, OLD), id="other tables, and the first ones again"),
    ],
)
def test_a_driver_that_disables_and_enables_with_its_own_tables_is_no_hand_over(between):
    found = judge(DISABLE, *between, ENABLE)
    assert found.verifier.resets == []


@pytest.mark.parametrize(
    "between",
    [
        pytest.param((NEW.replace("\n", " origin=vmm\n"),), id="a vmm writes registers"),
        pytest.param((". +0 reset how=ctrl_reset origin=vmm\n", NEW), id="a reset"),
        pytest.param((NEW, ". +0 restore\n"), id="a restore"),
        pytest.param((NEW, '. +0 loss reason="late"\n'), id="a loss"),
    ],
)
def test_what_else_stands_between_is_not_a_guest_that_hands_over(between):
    found = judge(DISABLE, *between, ENABLE)
    assert [each for each in found.verifier.resets if each.how == "reinit"] == []


def test_an_its_that_ran_no_command_has_nothing_to_hand_over():
    text = life(DISABLE, NEW, ENABLE)
    found = judge_trace(TextReader(io.StringIO(text), "life"), V6_1)
    assert found.verifier.resets == []


def test_a_table_that_stays_is_no_survivor():
    """Only the device table is another one: the collections are still the guest's."""
    verdict = reinit(judge(DISABLE, BASER0, ENABLE))
    assert verdict.statuses()["devices"] == "unspecified"
    assert verdict.statuses()["collections"] == "kept"


def test_each_hand_over_is_judged_by_itself():
    again = Queue().run(*MAP).replace("0x403", "0x409")
    found = judge(DISABLE, NEW, ENABLE, again, DISABLE, OLD, ENABLE)
    assert [each.how for each in found.verifier.resets] == ["reinit", "reinit"]


JOINED = (
    HEADER.replace('"complete"', '"observed"\n# starts: "running"')
    + """\
0 +0 reg.read offset=0x100 value=0x9907000040100600 origin=vmm
1 +0 reg.read offset=0x108 value=0x9c07000040200600 origin=vmm
2 +0 reg.read offset=0x80 value=0x9800000040300000 origin=vmm
3 +0 reg.read offset=0x88 value=0x0 origin=vmm
4 +0 reg.read offset=0x90 value=0x0 origin=vmm
5 +0 reg.read offset=0x0 value=0x80000001 origin=vmm
"""
)


def test_a_joined_vm_on_kvm_hands_over_too():
    """Nobody saw its redistributors, so the device beside it does not know them either."""
    again = Queue().run(*MAP).replace("0x403", "0x409")
    text = JOINED + Queue().run(*MAP) + DISABLE + NEW + ENABLE + again + MSI + result(1)
    found = judge_trace(TextReader(io.StringIO(text), "life"), V6_1)
    verdict = reinit(found)
    assert verdict.joined
    assert components(verdict)["devices"].status(strict=False) == "unspecified"
    assert components(verdict)["events"].wrong is None
    assert found.signatures == []


def test_a_hand_over_is_told_with_its_beginning(tmp_path, capsys):
    trace = tmp_path / "life.its.txt"
    trace.write_text(life(Queue().run(*MAP), DISABLE, NEW, ENABLE))
    assert cli.main(["verify", str(trace)]) == 0
    out = " ".join(capsys.readouterr().out.split())  # as if no line were broken
    assert "reset 0: reinit at event 21 (disabled at 17)" in out
    assert "devices, events, collections: this kernel frees a list when its BASER" in out
    assert out.count("kept: a kernel takes its predecessor's LPI tables over") == 1
    assert cli.main(["verify", "--json", str(trace)]) == 0
    (only,) = json.loads(capsys.readouterr().out)["resets"]
    assert (only["kind"], only["seq"], only["disabled_at"]) == ("reinit", 21, 17)
    assert cli.main(["verify", "--strict=bits", str(trace)]) == 1


# -- QEMU keeps its mappings in guest RAM

QEMU_LIFE = """\
# itstrace: 1
# source: "test"
# profile: "qemu-7.2.22"
# cpus: 1
# guest_ram: "complete"
0 +0 reg.write offset=0x100 value=0x8000000040100200
1 +0 reg.write offset=0x108 value=0x8000000040200200
2 +0 reg.write offset=0x80 value=0x8000000040300000
3 +0 mem.write gpa=0x40300000 data=MAPD(device_id=0x1,size=0x3,itt_addr=0x40600000,v=0x1)
4 +0 reg.write offset=0x0 value=0x1 size=4
5 +0 reg.write offset=0x88 value=0x20
"""
READ_BACK = (
    ". +0 reg.read offset=0x100 value=0x8107000040700200\n"
    ". +0 reg.read offset=0x108 value=0x8407000040800200\n"
)


def judge_qemu(*parts):
    return judge_trace(TextReader(io.StringIO(QEMU_LIFE + "".join(parts)), "life"), QEMU)


def test_qemu_keeps_nothing_and_tables_that_are_read_back_show_it():
    verdict = reinit(judge_qemu(DISABLE, NEW, READ_BACK, ENABLE))
    assert verdict.word == "verified"
    assert verdict.observed == 3


@pytest.mark.parametrize("where", ["before", "behind"])
def test_tables_are_read_back_before_enabling_or_behind(where):
    parts = (READ_BACK, ENABLE) if where == "before" else (ENABLE, READ_BACK)
    assert reinit(judge_qemu(DISABLE, NEW, *parts)).word == "verified"


def test_a_table_that_is_not_read_back_is_not_observed():
    verdict = reinit(judge_qemu(DISABLE, NEW, READ_BACK.splitlines()[0] + "\n", ENABLE))
    assert verdict.word == "equal"
    assert verdict.statuses()["collections"] == "unproven"
    assert reinit(judge_qemu(DISABLE, NEW, ENABLE)).word == "unproven"


def test_what_was_read_before_the_last_write_shows_nothing():
    verdict = reinit(judge_qemu(DISABLE, BASER1, BASER0, READ_BACK, BASER0, ENABLE))
    assert verdict.statuses()["devices"] == "unproven"
    assert verdict.statuses()["collections"] == "verified"


def test_a_table_that_reads_back_as_the_old_one_shows_no_hand_over():
    old = READ_BACK.replace("40700200", "40100200")
    found = judge_qemu(DISABLE, NEW, old, ENABLE)
    assert reinit(found).statuses()["devices"] == "unproven"
    assert found.word == "divergent"


# -- a real kernel that boots itself again


def log_of(name):
    return gzip.decompress((TRACES / name).read_bytes()).decode()


def hand_over_of(name):
    """(index of the write that disables, of the one that enables), and all writes, by search."""
    writes = re.findall(r"GICv3 ITS write: offset (0x\w+) data (0x\w+) size (\d)", log_of(name))
    disabling = max(at for at, each in enumerate(writes) if each == ("0x0", "0x80000000", "4"))
    return disabling, writes.index(("0x0", "0x80000001", "4"), disabling), writes


@pytest.mark.parametrize("name", [KEXEC, KEXEC_5_10])
def test_a_kexec_of_linux_is_one_hand_over_and_leaves_nothing_mapped(name):
    reader = open_capture(name)
    verifier, engine = verify(reader, QemuModel(reader.header, QEMU))
    assert engine.tally.divergences == []
    assert [each.how for each in verifier.resets] == ["power_on", "reinit"]
    verdict = verifier.resets[1]
    assert (verdict.word, verdict.observed) == ("verified", 3)
    words = verdict.statuses()
    assert {words[f"GICR_{name}[0]"] for name in ("CTLR", "PROPBASER", "PENDBASER")} == {"kept"}


@pytest.mark.parametrize("name", [KEXEC, KEXEC_5_10])
def test_it_stands_where_the_log_has_it(name):
    disabling, enabling, _ = hand_over_of(name)
    reader = open_capture(name)
    verdict = verify(reader, QemuModel(reader.header, QEMU))[0].resets[1]
    events = [event for _, block in open_capture(name) for event in block]
    seqs = [seq for seq, event in enumerate(events) if event[0] == NUMBER["reg.write"]]
    assert (verdict.since, verdict.seq) == (seqs[disabling], seqs[enabling])
    # And the redistributor still has the first kernel's table when the second one looks.
    first = re.search(r"redistributor 0x0 write: offset 0x70 data (0x\w+)", log_of(name))
    assert first is not None
    assert components(verdict)["GICR_PROPBASER[0]"].observed[0].value == int(first[1], 16)


@pytest.mark.parametrize(
    ("name", "left"), [(KEXEC, set()), (KEXEC_5_10, {"collections"})], ids=["6.1", "5.10"]
)
def test_what_a_real_kernel_writes_leaves_this_on_a_kernel_that_only_frees_invalid_tables(
    name, left
):
    """The guest's own writes, on KVM of Linux 6.1: 5.10 re-points BASER1 with Valid 1."""
    disabling, enabling, writes = hand_over_of(name)
    lines = "".join(
        f". +0 reg.write offset={offset} value={value} size={size}\n"
        for offset, value, size in writes[disabling : enabling + 1]
    )
    tables = "".join(
        f". +0 reg.write offset={offset} value={value} size={size}\n"
        for offset, value, size in writes[:disabling]
        if offset in ("0x100", "0x108")
    )
    start = life(DISABLE, tables, ENABLE).replace('"complete"', '"observed"')
    commands = Queue().run(*MAP)
    ram = "# ram_ranges: [[1073741824, 1073741824]]\n"
    text = re.sub("# ram_ranges.*\n", ram, start) + commands + lines
    verdict = reinit(judge_trace(TextReader(io.StringIO(text), "life"), V6_1))
    words = verdict.statuses()
    assert {each for each, word in words.items() if word == "unspecified"} == left
