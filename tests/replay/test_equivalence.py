"""Check 3 with targets that answer at once: models of kernels with and without a bug, a small ITS.

The same on real kernels is tests/targets/test_verify_on.py.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from replay import cli
from replay.equivalence.asking import Asker
from replay.equivalence.bench import Bench
from replay.equivalence.inventory import take
from replay.equivalence.plan import RESET, ROUND, Question, is_fair, plan
from replay.equivalence.signatures import signatures
from replay.equivalence.words import Judge
from replay.judge import model_of
from replay.profiles import find
from replay.targets.model_target import ModelTarget
from replay.targets.spec import Targets, parse
from tests.support.clean_lives import CleanLife
from tests.support.small_its import SmallIts
from tests.support.small_target import Forgetful, Swapped, opener
from tracer import events as ev
from tracer.events import make
from tracer.its.commands import encode
from tracer.log.header import Header
from tracer.log.stream import Writer

TRACES = Path(__file__).parents[2] / "traces"
SCENARIOS = TRACES / "scenarios"
CAPTURE = TRACES / "qemu-7.2.22-linux-6.1-two-boots.log"
QEMU = "qemu-system-aarch64"
RAM = 0x4000_0000
DEVICES, COLLECTIONS, QUEUE, ITT = RAM + 0x1_0000, RAM + 0x2_0000, RAM + 0x3_0000, RAM + 0x4_0000
CONFIG, PENDING = RAM + 0x5_0000, RAM + 0x6_0000


def verify(capsys, name, target, *words):
    path = SCENARIOS / f"{name}.its.txt"
    code = cli.main(["verify", str(path), "--on", target, "--json", *words])
    return code, json.loads(capsys.readouterr().out)["questions"]


def words_of(question):
    return {(each["component"], each["status"]) for each in question["differences"]}


def asked(questions, what, kind=None):
    return [q for q in questions if q["what"] == what and q["kind"] == kind]


# -- F1, F5: a reset and what lives on


def test_an_lpi_that_outlives_ctrl_reset_is_found_without_a_hint(capsys):
    code, questions = verify(capsys, "F1-lpi-outlives-ctrl-reset", "model:linux-6.1.192", "--probe")
    first = asked(questions, "reset", "ctrl_reset")[0]
    lpi = next(each for each in first["differences"] if each["component"] == "lpis")
    assert (code, first["verdict"], lpi["status"], lpi["key"]) == (1, "stale", "stale", "8192")
    assert lpi["blame"] == {"seq": 16}
    mapped = next(each for each in first["differences"] if each["chapter"] == "p4")
    assert ("pending" in mapped["one"], "pending" in mapped["other"]) == (True, False)
    assert (mapped["one"][:7], mapped["other"][:7]) == (
        "(vCPU 0",
        "(vCPU 1",
    )  # the old one, the new


def test_switching_lpis_off_cures_it(capsys):
    _, questions = verify(capsys, "F1-lpi-outlives-ctrl-reset", "model:linux-6.1.192", "--probe")
    cured = asked(questions, "reset", "system")[0]
    assert cured["verdict"] == "equal"
    assert "lpis" in cured["equal"]


def test_bits_that_no_clause_names_are_unspecified_unless_strict(capsys):
    name, target = "F5-baser-keeps-its-address", "model:linux-6.1.192"
    code, questions = verify(capsys, name, target, "--probe")
    assert code == 0
    assert ("GITS_BASER0", "unspecified") in words_of(questions[0])
    code, questions = verify(capsys, name, target, "--probe", "--strict", "bits")
    assert code == 1
    assert ("GITS_BASER0", "stale") in words_of(questions[0])


# -- F3: what a round trip carries in RAM

F3 = "S06-K17-F3-mapd-unmap-leaves-its-entry"


def test_a_device_that_comes_back_is_carried_in_ram_by_the_device(capsys):
    code, questions = verify(capsys, F3, "model:linux-5.10.223", "--probe", "--kind", "round trip")
    trip = asked(questions, "round trip")[0]
    back = next(each for each in trip["differences"] if each["component"] == "devices")
    assert (code, back["status"], back["key"]) == (1, "carried in RAM", "0x0")
    assert back["ram"]["by"] == "device"
    assert back["ram"]["seq"] == 12  # the save


def test_it_does_not_where_mapd_clears_the_entry(capsys):
    code, questions = verify(capsys, F3, "model:linux-6.1.192", "--probe", "--kind", "round trip")
    assert code == 0
    assert {each["verdict"] for each in questions} == {"equal"}


def carried(tmp_path, capsys, *lines):
    """Return the exit code, and the event that a round trip carries, of S06's beginning and `lines`."""
    text = (SCENARIOS / f"{F3}.its.txt").read_text()
    start = text.partition(". +0 mem.write gpa=0x40300060")[0]
    path = tmp_path / "life.its.txt"
    path.write_text(start + "".join(f". +0 {line}\n" for line in lines))
    words = ("--on", "model:linux-6.1.192", "--probe", "--json", "--kind", "round trip")
    code = cli.main(["verify", str(path), *words])
    (trip,) = json.loads(capsys.readouterr().out)["questions"]
    return code, next(each for each in trip["differences"] if each["component"] == "events")


def test_a_device_that_is_back_is_told_as_one_where_its_lpi_lives_on_elsewhere(tmp_path, capsys):
    """No list differs, since another device's event holds the same LPI: only the MSI tells."""
    text = (SCENARIOS / f"{F3}.its.txt").read_text()
    start = text.partition(". +0 reg.write offset=0x88")[0]
    lines = (
        "mem.write gpa=0x40300060 data=MAPD(device_id=0x1,size=0x3,itt_addr=0x40610000,v=0x1)",
        "mem.write gpa=0x40300080 data=MAPTI(device_id=0x1,pintid=0x2000)",
        "reg.write offset=0x88 value=0xa0 origin=vmm",
        "save",
        "mem.write gpa=0x403000a0 data=MAPD()",
        "reg.write offset=0x88 value=0xc0 origin=vmm",
        "save",
        "msi device_id=0x0 event_id=0x0 origin=vmm path=ioctl",
    )
    path = tmp_path / "life.its.txt"
    path.write_text(start + "".join(f". +0 {line}\n" for line in lines))
    words = ("--on", "model:linux-5.10.223", "--probe", "--json", "--kind", "round trip")
    code = cli.main(["verify", str(path), *words])
    (trip,) = json.loads(capsys.readouterr().out)["questions"]
    (back,) = trip["differences"]
    assert (code, back["component"], back["key"]) == (1, "devices", "0x0")
    assert (back["one"], back["other"]) == ("1", "0")  # what each answered to the MSI


MAPD_AGAIN = (
    "mem.write gpa=0x40300060 data=MAPD(size=0x3,itt_addr={itt},v=0x1)",
    "reg.write offset=0x88 value=0x80 origin=vmm",
)


def test_an_itt_that_the_guest_did_not_zero_is_not_the_devices_doing(tmp_path, capsys):
    lines = [line.format(itt="0x40600000") for line in MAPD_AGAIN]
    code, back = carried(tmp_path, capsys, *lines)
    assert (code, back["status"], back["key"]) == (0, "carried in RAM", "0x0/0x0")
    assert (back["ram"]["by"], back["ram"]["seq"], back["ram"]["handed_over"]) == ("device", 12, 14)


def test_an_entry_that_the_guest_wrote_itself_is_the_guests(tmp_path, capsys):
    lines = [line.format(itt="0x40700000") for line in MAPD_AGAIN]
    code, back = carried(tmp_path, capsys, *lines, "mem.write gpa=0x40700000 data=u64(0x20000000)")
    assert (code, back["status"]) == (0, "carried in RAM")
    assert (back["ram"]["by"], back["ram"]["seq"]) == ("guest", 15)


def recorded_trip(tmp_path, capsys, *gone, on="linux-5.10.223"):
    """Ask 5.10 about S06's recorded round trip, less the last lines that begin like this."""
    lines = (SCENARIOS / "S06-K17-F3-as-5.10-answered.its.txt").read_text().splitlines()
    for beginning in gone:
        del lines[max(at for at, line in enumerate(lines) if line.startswith(beginning))]
    path = tmp_path / "trip.its.txt"
    path.write_text("\n".join(lines) + "\n")
    code = cli.main(["verify", str(path), "--on", f"model:{on}", "--json"])
    (trip,) = asked(json.loads(capsys.readouterr().out)["questions"], "round trip")
    return code, trip


def test_a_recorded_round_trip_is_carried_out_as_it_was_recorded(tmp_path, capsys):
    code, trip = recorded_trip(tmp_path, capsys)
    assert (code, ("devices", "carried in RAM") in words_of(trip)) == (1, True)


@pytest.mark.parametrize("seed", [14, 15])
def test_recorded_round_trips_of_a_clean_life_leave_both_with_the_same_tables(seed):
    life = CleanLife(seed, steps=60)
    spec, profile = parse("model:linux-6.1.192"), find("linux-6.1.192")[0]
    with Targets() as targets:
        asker = Asker(targets, spec, life.header, life.events, profile, probe=False)
        trips = [each for each in plan(life.events, (), probe=False) if each.what == ROUND]
        outcomes = list(map(asker.ask, trips))
    assert trips
    assert [signatures(each) for each in outcomes] == [[]] * len(trips)
    assert all(each.looked.get("RAM") for each in outcomes)


def test_an_its_that_was_given_no_tables_back_was_not_restored(tmp_path, capsys):
    code, trip = recorded_trip(tmp_path, capsys, ". +0 reg.write offset=0x100")
    assert (code, trip["differences"]) == (0, [])
    assert "the round trip: GITS_BASER0 is not given back" in trip["not_looked_at"]


def test_a_register_that_the_vmm_did_not_write_back_is_not_the_devices_doing(tmp_path, capsys):
    gone = (". +0 reg.write offset=0x0 ", ". +0 msi ", ". +0 msi.result")
    code, trip = recorded_trip(tmp_path, capsys, *gone, on="linux-6.1.192")
    ctlr = next(each for each in trip["differences"] if each["component"] == "GITS_CTLR")
    assert (code, ctlr["status"]) == (0, "unspecified")
    assert ctlr["reason"] == "the VMM did not write it back"


def test_what_a_disabled_its_refuses_is_no_device_that_is_back(tmp_path, capsys):
    _, trip = recorded_trip(tmp_path, capsys, ". +0 reg.write offset=0x0 ")
    assert {
        each["component"] for each in trip["differences"] if each["chapter"] == "recorded"
    } == set()


# -- pending bits of the past


def test_a_saved_pending_bit_that_outlives_its_event_is_found(capsys):
    name = "its12-saved-pending-bit-outlives-its-event"
    words = ("--probe", "--kind", "pending tables", "--at", "16", "--at", "24")
    code, (before, after) = verify(capsys, name, "model:linux-6.1.192", *words)
    (bit,) = after["differences"]
    assert (code, before["verdict"], bit["status"]) == (1, "equal", "carried in RAM")
    assert (bit["ram"]["by"], bit["ram"]["seq"]) == ("device", 15)


# -- kinds of resets


def test_lists_that_outlive_a_reinit_are_told_where_no_clause_speaks_of_them(capsys):
    words = ("--probe", "--kind", "reinit", "--kind", "register_fallback", "--at", "12")
    code, (old, fallback) = verify(capsys, F3, "model:linux-6.1.192", *words)
    assert code == 0
    assert ("events", "unspecified") in words_of(old)
    assert not {"events", "devices", "lpis"} & {component for component, _ in words_of(fallback)}
    _, (new, _) = verify(capsys, F3, "model:linux-7.2.13", *words)
    assert "events" not in {component for component, _ in words_of(new)}


def test_what_was_recorded_behind_a_reset_is_the_probe_unless_one_is_generated(capsys):
    code, questions = verify(capsys, "F1-lpi-outlives-ctrl-reset", "model:linux-6.1.192")
    (reset,) = questions
    chapters = {e["chapter"] for e in reset["differences"] if e["component"] == "lpis"}
    assert (code, reset["verdict"]) == (1, "stale")
    assert chapters >= {"p0", "recorded"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probe",), "give --on"),
        (("--on", "model:linux-6.1.192", "--at", "3"), "give --probe"),
        (("--on", "xen", "--probe"), "--target must be"),
        (("--on", "model:linux-6.1.192", "--record", __file__), "exists already"),
    ],
)
def test_questions_that_cannot_be_asked_are_a_wrong_usage(words, said, capsys):
    path = SCENARIOS / f"{F3}.its.txt"
    assert cli.main(["verify", str(path), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_target_that_is_not_there_cannot_judge(capsys):
    path = SCENARIOS / f"{F3}.its.txt"
    assert cli.main(["verify", str(path), "--on", "kvm:/nowhere/Image", "--probe"]) == 4
    assert "/nowhere/Image: there is no such kernel image" in capsys.readouterr().err


def test_the_run_is_recorded_with_what_was_answered(tmp_path, capsys):
    path, out = SCENARIOS / f"{F3}.its.txt", tmp_path / "run.itstrace"
    words = ("--probe", "--kind", "round trip", "--at", "17", "--record", str(out))
    cli.main(["verify", str(path), "--on", "model:linux-5.10.223", *words])
    capsys.readouterr()
    assert cli.main(["check", str(out), "--profile", "linux-5.10.223", "--json"]) == 0
    tally = json.loads(capsys.readouterr().out)
    assert tally["outputs"] == tally["matched"] > 50
    # the same life as another kernel's: what was recorded is 5.10.223's
    assert cli.main(["check", str(out), "--profile", "linux-6.1.192"]) == 1


# -- F4: a host that dies


def test_a_host_that_dies_is_crashed_and_the_rest_is_not_looked_at(capsys):
    code, questions = verify(capsys, "F5-baser-keeps-its-address", "model:linux-6.1.176", "--probe")
    first = questions[0]
    assert (code, first["verdict"]) == (1, "crashed")
    assert first["crash"]["chapter"] == "p9"
    assert first["crash"]["function"] == "vgic_its_save_tables_v0"
    assert any(each.startswith("p11 (") for each in first["not_looked_at"])  # it came behind
    # the next question leaves out what killed a host, says so, and dies of the next
    assert any("a host died of it before" in each for each in questions[1]["not_looked_at"])
    assert questions[1]["crash"]["chapter"] == "p11"


# -- a real QEMU, and a capture that does not show guest RAM


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not installed")
@pytest.mark.parametrize("words", [(), ("--probe",)])
def test_the_reset_of_a_captured_boot_is_equal_on_qemu(words, tmp_path, capsys):
    trace = tmp_path / "boots.itstrace"
    assert cli.main(["import", str(CAPTURE), "-o", str(trace)]) == 0
    capsys.readouterr()
    code = cli.main(["verify", str(trace), "--on", "qemu", "--json", *words])
    questions = json.loads(capsys.readouterr().out)["questions"]
    assert (code, {each["verdict"] for each in questions}) == (0, {"equal"})
    assert "RAM" in questions[0]["equal"]
    assert ("translation_cache" in questions[0]["equal"]) == bool(words)


# -- lives in which there is nothing to find


@pytest.mark.parametrize(
    ("seed", "profile"),
    [(0, "linux-6.1.192"), (1, "linux-7.2.13"), (2, "linux-6.1.192"), (3, "linux-7.2.13")],
)
def test_a_clean_life_comes_out_clean(seed, profile):
    life = CleanLife(seed, steps=20)
    bench = _bench(life.header, life.events, lambda header: _model(header, profile))
    for question in _all_questions(len(life.events)):
        model = model_of(life.header, find(profile)[0])
        inventory = take(life.header, life.events, model)
        outcome = bench.ask(question, inventory, probe=True)
        assert {each.component for each in outcome.differences if each.is_finding()} == set()
        assert outcome.looked
        assert outcome.crash is None


def _all_questions(at):
    return [
        Question(RESET, at, ev.CTRL_RESET),
        Question(RESET, at, ev.SYSTEM),
        Question("round trip", at),
        Question("pending tables", at),
    ]


def _model(header, profile):
    return ModelTarget(model_of(header, find(profile)[0]))


def _bench(header, events, start):
    from contextlib import contextmanager

    @contextmanager
    def opened(wanted):
        yield start(wanted)

    return Bench(header, events, opened, Judge())


# -- a reset that skips one field is stale in exactly that


def small_life():
    """A life of the small ITS that leaves something in every field."""
    events = [
        make("gicr.write", 0, cpu=0, offset=0x70, value=CONFIG | 0xF, size=4),
        make("gicr.write", 0, cpu=0, offset=0x78, value=PENDING, size=4),
        make("gicr.write", 0, cpu=0, offset=0, value=1, size=4),
        make("reg.write", 0, offset=0x80, value=1 << 63 | QUEUE),
        make("reg.write", 0, offset=0x100, value=1 << 63 | DEVICES | 0x200),
        make("reg.write", 0, offset=0x108, value=1 << 63 | COLLECTIONS | 0x200),
        make("reg.write", 0, offset=0, value=1, size=4),
    ]
    commands = (
        encode("MAPD", device_id=2, size=4, itt_addr=ITT, v=1),
        encode("MAPC", icid=0, rdbase=0, v=1),
        encode("MAPTI", device_id=2, event_id=1, pintid=8195, icid=0),
    )
    for at, words in enumerate(commands):
        data = b"".join(word.to_bytes(8, "little") for word in words)
        events.append(make("mem.write", 0, gpa=QUEUE + 32 * at, data=data))
    events.append(make("reg.write", 0, offset=0x88, value=32 * len(commands)))
    events.append(make("msi", 0, device_id=2, event_id=1))
    return events


HEADER = Header(
    cpus=1, guest_ram="complete", profile="qemu-7.2.22", ram_ranges=[[RAM, 1 << 20]],
)  # fmt: skip


def small_verdict(device):
    events = small_life()
    inventory = take(HEADER, events, model_of(HEADER, find("qemu-7.2.22")[0]))
    bench = Bench(HEADER, events, opener(device), Judge())
    outcome = bench.ask(Question(RESET, len(events), ev.SYSTEM), inventory, probe=True)
    return {each.component for each in outcome.differences if each.is_finding()}, outcome


FIELDS = {
    "ctlr": "GITS_CTLR", "cbaser": "GITS_CBASER", "cwriter": "GITS_CWRITER",
    "creadr": "GITS_CREADR", "baser0": "GITS_BASER0", "baser1": "GITS_BASER1",
    "gicr_ctlr": "GICR_CTLR[0]", "propbaser": "GICR_PROPBASER[0]",
    "pendbaser": "GICR_PENDBASER[0]", "cached": "translation_cache",
}  # fmt: skip


@pytest.mark.parametrize(("field", "component"), FIELDS.items())
def test_a_reset_that_skips_a_field_is_stale_in_exactly_that(field, component):
    stale, _ = small_verdict(lambda ram: Forgetful(ram, field))
    assert stale == {component}


def test_a_whole_reset_is_equal_in_all_of_them():
    stale, outcome = small_verdict(SmallIts)
    assert stale == set()
    assert {*FIELDS.values()} - {"translation_cache"} <= outcome.looked.keys()
    assert outcome.looked["translation_cache"]


def test_lpi_tables_that_are_written_before_lpis_are_off_are_stale():
    stale, _ = small_verdict(Swapped)
    assert stale == {"GICR_PROPBASER[0]", "GICR_PENDBASER[0]"}


@pytest.mark.parametrize("origin", [ev.GUEST, ev.VMM])
def test_a_round_trip_that_goes_on_with_commands_in_a_new_queue_is_not_asked_about(
    origin, tmp_path, capsys
):
    """The side that was never reset is at another place in its queue: all that follows differs."""
    reset = make("reset", 0, how=ev.CTRL_RESET)
    creadr = make("reg.write", 0, offset=0x90, value=0x20, origin=ev.VMM)
    kick = make("reg.write", 0, offset=0x88, value=0x40, origin=origin)
    save, restore = make("save", 0), make("restore", 0)
    told = {}
    for name, events in {
        "commands": [save, reset, restore, kick],
        "another life's": [save, reset, restore, reset, kick],
        "in its queue": [save, reset, creadr, restore, kick],
    }.items():
        (asked,) = (each for each in plan(events, (), probe=False) if each.what == ROUND)
        told[name] = is_fair(asked, events)
    assert told == {"commands": False, "another life's": True, "in its queue": True}
    path = tmp_path / "trip.itstrace"
    header = Header(profile="linux-6.1.192", cpus=1, guest_ram="complete")
    with path.open("wb") as out, closing(Writer(out, header, bound_ms=0)) as writer:
        for event in [make("reset", 0, how=ev.POWER_ON), save, reset, restore, kick]:
            writer.add(event)
    cli.main(["verify", str(path), "--on", "model:linux-6.1.192"])
    assert "the round trip at event 1 is not asked about" in capsys.readouterr().err
