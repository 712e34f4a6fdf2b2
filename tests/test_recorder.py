"""A recorded device behaves as it does alone, and its trace tells all of it."""

from __future__ import annotations

import io
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

import tracer.recorder
from replay.cli import main
from replay.judge import judge_file
from replay.model.memory import GuestRam
from replay.model.qemu.vm import QemuVm
from tests.support.compiled import pure_only
from tests.support.small_guest import INTID, PENDING, VALID, boot, look
from tests.support.small_its import BASER0, BASER1, CBASER, CREADR, CTLR, CWRITER, Ram, SmallIts
from tests.support.traces import read
from tracer import Recorder
from tracer.errors import UsageError, WriteError
from tracer.events import GUEST, PROBE, VMM, fields_of, kind_name
from tracer.log import format as fmt
from tracer.log.stream import Writer

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "recorder.md"
PROFILE = "qemu-10.0.13"
SECOND_LIFE = 1 << 19  # bytes that its tables are further up


@pytest.fixture
def path(tmp_path):
    return tmp_path / "life.itstrace"


def block(name):
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)[1]


def python(name):
    return block(name).removeprefix("```python\n").removesuffix("```\n")


def events(path):
    """Return (kind's name, fields without their time) of every event of a clean trace."""
    outcome = read(Path(path).read_bytes())
    assert (outcome.status, outcome.problems) == ("clean", [])
    return [(kind_name(event[0]), fields_of(event)) for _, event in outcome.events]


def names(path):
    return [name for name, _ in events(path)]


def forgetting(attribute):
    class Forgetful(SmallIts):
        def reset(self, how):
            kept = getattr(self, attribute, None)
            super().reset(how)
            if kept is not None:
                setattr(self, attribute, kept)

    return Forgetful(Ram())


def two_lives(its):
    boot(its)
    its.reset()
    look(its)
    boot(its, SECOND_LIFE)
    its.memory.read(PENDING + SECOND_LIFE + INTID // 8, 1)


def judged(device, path, life=two_lives):
    with Recorder(device, path, profile=PROFILE) as its:
        life(its)
    return judge_file(str(path))


# -- what the page says


def test_the_example_of_the_page_runs_and_finds_the_forgotten_pointer(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("example.py").write_text(python("example"))
    runpy.run_path("example.py")
    assert main(["verify", "life.itstrace"]) == 1
    said = capsys.readouterr().out
    for line in block("output").splitlines():
        if not line.strip().startswith(("$", "...")):
            assert line.removeprefix("    ") in said.splitlines()


def test_the_page_blames_the_write_that_moved_the_pointer(path):
    verdict = judged(forgetting("creadr"), path)
    component = next(
        each for each in verdict.verifier.resets[0].components if each.name == "GITS_CREADR"
    )
    kind, fields = events(path)[component.blame]
    assert (component.blame, kind, fields["offset"]) == (12, "reg.write", CWRITER)


def test_the_fixture_of_the_page_runs(tmp_path):
    test = tmp_path / "test_page.py"
    imports = (
        "from tests.support.small_guest import boot, look\n"
        "from tests.support.small_its import Ram, SmallIts\n\n"
    )
    test.write_text(imports + python("fixture"))
    done = run_pytest(tmp_path, "--its-traces", "kept")
    assert done.returncode == 0, done.stdout
    assert len(list((tmp_path / "kept").glob("*test_a_reset_leaves_nothing-0.itstrace"))) == 1


# -- verdicts


def test_a_correct_device_is_not_stale_in_anything_and_diverges_nowhere(path):
    verdict = judged(SmallIts(Ram()), path)
    words = verdict.verifier.resets[0].statuses()
    assert (verdict.word, verdict.signatures) == ("equal", [])
    assert {name for name, word in words.items() if word != "verified"} == {
        "devices",
        "events",
        "collections",
    }
    assert names(path).count("command") == 4
    assert verdict.engine.tally.matched == verdict.engine.tally.outputs > 20


FORGOTTEN = {
    "ctlr": ("GITS_CTLR", CTLR),
    "cbaser": ("GITS_CBASER", CBASER),
    "cwriter": ("GITS_CWRITER", CWRITER),
    "creadr": ("GITS_CREADR", CWRITER),
    "baser0": ("GITS_BASER0", BASER0),
    "baser1": ("GITS_BASER1", BASER1),
    "gicr_ctlr": ("GICR_CTLR[0]", 0x00),
    "propbaser": ("GICR_PROPBASER[0]", 0x70),
    "pendbaser": ("GICR_PENDBASER[0]", 0x78),
}


@pytest.mark.parametrize("attribute", FORGOTTEN)
def test_a_line_left_out_of_the_reset_is_stale_and_blamed_on_what_wrote_it(attribute, path):
    component, offset = FORGOTTEN[attribute]
    verdict = judged(forgetting(attribute), path)
    reset = verdict.verifier.resets[0]
    assert verdict.word == "stale"
    assert [name for name, word in reset.statuses().items() if word == "stale"] == [component]
    blame = next(each for each in reset.components if each.name == component).blame
    assert blame < reset.seq
    assert events(path)[blame][1]["offset"] == offset


def test_a_list_left_out_of_the_reset_is_a_divergent_answer(path):
    verdict = judged(forgetting("cached"), path)
    assert verdict.signatures == ["divergent:mem.read:data"]
    assert verdict.engine.tally.divergences[0].seq == len(events(path)) - 1


@pytest.mark.parametrize(
    ("known", "options", "says"),
    [
        ({}, {}, "the trace does not say what wrote it: give a profile"),
        ({"profile": "abacus"}, {}, "profile must be one of "),
    ],
)
def test_a_trace_of_nobody_knows_what_wrong(path, known, options, says):
    with Recorder(SmallIts(Ram()), path, **known):
        pass
    with pytest.raises(UsageError, match=says):
        judge_file(str(path), **options)
    assert judge_file(str(path), profile=PROFILE).word == "unproven"


def test_the_flags_of_the_header_hold_unless_another_profile_is_given(path):
    with Recorder(
        SmallIts(Ram()), path, profile=PROFILE, flags={"movi_implemented": [False, "read"]}
    ):
        pass
    found = [judge_file(str(path), profile=each).verifier.model for each in (None, PROFILE)]
    assert [model.profile.choices.movi_implemented for model in found] == [False, True]


# -- transparent


def operations(random, count):
    """Return random accesses, most of them of a guest that knows what it does."""
    tables = [VALID | at << 16 for at in range(0x4000, 0x4010)]
    for _ in range(count):
        value = random.choice([0, 1, 0x20, 0x40, *tables, random.getrandbits(64)])
        yield random.choice(
            [
                ("reg_write", random.choice([CTLR, CBASER, CWRITER, BASER0, BASER1, 0x40]), value, 8),
                ("reg_read", random.choice([CTLR, CBASER, CREADR, 0x13, 0xFFE8]), 8),
                ("gicr_write", 0, random.choice([0x0, 0x70, 0x78, 0x33]), value, 8),
                ("gicr_read", 0, random.choice([0x0, 0x70, 0x78]), 8),
                ("msi", random.randrange(4), random.randrange(4)),
                ("memory", 0x4000_0000 + random.randrange(1 << 20), random.randbytes(40)),
                ("reset", 1),
            ]
        )  # fmt: skip


def carry_out(its, operation):
    name, *args = operation
    call = its.memory.write if name == "memory" else getattr(its, name)
    try:
        return call(*args)
    except (KeyError, ValueError) as error:
        return repr(error)


@pytest.mark.parametrize("seed", range(20))
def test_a_recorded_device_does_what_it_does_alone(seed, path):
    alone, recorded = SmallIts(Ram()), SmallIts(Ram())
    with Recorder(recorded, path) as its:
        for operation in operations(Random(seed), 300):
            assert carry_out(its, operation) == carry_out(alone, operation)
    assert vars(recorded) | {"memory": 0} == vars(alone) | {"memory": 0}
    assert recorded.memory.read(0x4000_0000, 1 << 20) == alone.memory.read(0x4000_0000, 1 << 20)
    assert type(recorded.memory) is Ram
    assert events(path)


class Model:
    """The model of QEMU's ITS as a device: it knows every access, and where there is no RAM."""

    def __init__(self):
        self.vm = QemuVm(ram=GuestRam(((0x4000_0000, 1 << 20),), complete=True))
        self.memory = self
        self.ranges = [(0x4000_0000, 1 << 20)]
        self.reg_read, self.reg_write = self.vm.reg_read, self.vm.reg_write
        self.gicr_read, self.gicr_write = self.vm.gicr_read, self.vm.gicr_write
        self.msi = self.vm.msi

    def reset(self, how):
        self.vm.reset()

    def read(self, gpa, size):
        return self.vm.ram.load_bytes(gpa, size)

    def write(self, gpa, data):
        self.vm.mem_write(gpa, data)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_recorded_of_the_model_is_what_the_model_replays(seed, path):
    random = Random(seed)
    with Recorder(Model(), path, profile=PROFILE) as its:
        boot(its)
        for operation in operations(random, 300):
            if operation[0] != "gicr_read" or operation[2] != 0:  # GICR_CTLR has 4 bytes
                carry_out(its, operation)
            its.memory.read(0x4000_0000 + random.randrange(0xF_FF00), 64)
    verdict = judge_file(str(path))
    assert verdict.signatures == []
    assert verdict.engine.tally.matched > 300


class Told(Exception):
    """An error of the device's own."""

    def __str__(self):
        raise RuntimeError("even this")


class Scripted:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, answer=None):
        self.memory = Ram(size=4096)
        self.answer = answer
        self.asked = []

    def _ask(self, *args):
        self.asked.append(args)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    reg_read = reg_write = msi = reset = save = save_pending = restore = _ask


def every_call(its):
    yield its.reg_read, (0x80, 4)
    yield its.reg_write, (0x88, 0x20, 8)
    yield its.msi, (1, 2)
    yield its.reset, (2,)
    yield its.save, ()
    yield its.save_pending, ()
    yield its.restore, ()


def test_an_answer_passes_through_and_is_recorded(path):
    answer = 7
    with Recorder(Scripted(answer), path) as its:
        asked = [args for call, args in every_call(its) if call(*args) is answer]
    assert its.device.asked == asked
    assert len(asked) == 7
    assert [(name, fields.get("result", fields.get("errno"))) for name, fields in events(path)] == [
        ("reg.read", None), ("reg.write", None), ("msi", None), ("msi.result", 7),
        ("reset", None), ("attr.result", 7), ("save", None), ("attr.result", 7),
        ("save_pending", None), ("attr.result", 7), ("restore", None), ("attr.result", 7),
    ]  # fmt: skip
    assert {fields["cause"] for _, fields in events(path) if "cause" in fields} == {1}


def test_none_is_no_result_and_a_bad_read(path):
    with Recorder(Scripted(), path) as its:
        assert [call(*args) for call, args in every_call(its)] == [None] * 7
    found = events(path)
    assert [name for name, _ in found] == [
        "reg.read", "reg.write", "msi", "reset", "save", "save_pending", "restore",
    ]  # fmt: skip
    assert found[0][1] == {"offset": 0x80, "value": 0, "size": 4, "origin": 0, "bad": 1}


def test_an_exception_passes_through_and_everything_before_it_is_in_the_file(path):
    error = Told()
    device = Scripted()
    so_far = []

    def fail():
        with Recorder(device, path, bound_ms=0) as its:
            its.reg_write(0x80, 1)
            device.answer = error
            try:
                its.reg_write(0x88, 2)
            finally:
                so_far.extend(read(path.read_bytes()).events)

    with pytest.raises(Told) as raised:
        fail()
    assert raised.value is error
    assert [kind_name(event[0]) for _, event in so_far] == ["reg.write", "reg.write", "marker"]
    assert names(path) == ["reg.write", "reg.write", "marker"]
    text = events(path)[-1][1]["text"]
    assert text.startswith("_ask raised ")
    assert "Told" in text


def test_a_device_may_raise_and_go_on(path):
    device = Scripted(ValueError("not \udc80 now"))
    with Recorder(device, path) as its:
        with pytest.raises(ValueError, match=r"not .* now"):
            its.reg_read(0)
        device.answer = 5
        assert its.reg_read(0) == 5
    assert [fields.get("text", fields.get("value")) for _, fields in events(path)] == [
        r"_ask raised ValueError: not \udc80 now",
        5,
    ]


def test_what_a_device_lacks_is_its_own_error_and_no_event(path):
    with Recorder(Scripted(), path) as its, pytest.raises(AttributeError, match="gicr_write"):
        its.gicr_write(0, 0, 0)
    assert names(path) == []


def test_after_close_the_device_goes_on_unrecorded(path):
    device = SmallIts(Ram())
    its = Recorder(device, path)
    its.close()
    its.close()
    its.reg_write(CWRITER, 0x40)
    its.memory.write(0x4000_0000, b"later")
    with pytest.raises(ValueError, match="no memory"):
        its.memory.read(0, 1)
    with pytest.raises(KeyError):
        its.gicr_read(0, 0x33)
    its.close()
    assert device.cwriter == 0x40
    assert names(path) == []


# -- what no event can hold


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, "text", None])
def test_a_value_that_no_event_holds_reaches_the_device_and_is_a_gap(value, path):
    device = Scripted(value)
    with Recorder(device, path) as its:
        its.reg_write(CBASER, value)
        its.reg_read(CBASER)
        its.reset(value)
    assert device.asked == [(CBASER, value, 8), (CBASER, 8), (value,)]
    found = events(path)
    assert found[0][0] == "source.gap"
    assert found[0][1]["reason"] == f"reg.write with ({CBASER}, {value!r}, 8) is no event"
    assert "reset with (None,) is no event" in [fields.get("reason") for _, fields in found]


@pytest.mark.parametrize("gpa", [-4096, 1 << 64])
def test_ram_at_no_address_is_a_gap(gpa, path):
    device = Scripted()
    device.memory = Ram(base=gpa, size=4096)
    with Recorder(device, path, ram_ranges=None) as its:
        its.memory.write(gpa, b"there")
        assert its.memory.read(gpa, 5) == b"there"
        assert its.memory.ranges == device.memory.ranges == [(gpa, 4096)]
    assert [fields["reason"] for _, fields in events(path)] == [
        f"{name} with {gpa} is no event" for name in ("mem.write", "mem.read")
    ]


def test_a_result_of_what_is_in_no_event_names_no_cause(path):
    with Recorder(Scripted(1), path) as its:
        its.msi(1, 2)
        its.msi(-1, 2)
    assert [fields.get("cause") for _, fields in events(path)] == [None, 1, None, 0]


def test_a_reset_of_no_known_kind_is_a_gap(path):
    with Recorder(Scripted(), path) as its:
        its.reset(99)
    assert names(path) == ["source.gap"]


def test_a_truth_is_a_number_in_the_trace(path):
    with Recorder(Scripted(True), path) as its:
        assert its.reg_read(0, 4) is True
    assert events(path)[0][1]["value"] == 1


@pytest.mark.parametrize("origin", [3, -1, None])
def test_an_origin_wrong(origin, path):
    with (
        Recorder(Scripted(), path) as its,
        pytest.raises(UsageError, match="origin must be 0 to 2"),
    ):
        its.origin = origin


def test_who_accesses_is_recorded(path):
    with Recorder(SmallIts(Ram()), path) as its:
        for its.origin in (GUEST, VMM, PROBE):
            its.reg_read(0)
            its.reg_read(0x40000, 2)
            its.reg_write(CWRITER, 0)
            its.gicr_read(0, 0)
            its.gicr_write(0, 0, 0)
            its.msi(1, 2)
            its.reset()
            assert its.origin in (GUEST, VMM, PROBE)
    found = [fields["origin"] for _, fields in events(path)]
    assert found == [GUEST] * 7 + [VMM] * 7 + [PROBE] * 7


# -- guest RAM


def test_a_large_write_is_split_at_the_formats_bound(path):
    device = Scripted()
    device.memory = Ram(size=8 << 20)
    data = Random(1).randbytes(3 * fmt.MAX_EVENT_BYTES + 5)
    with Recorder(device, path, bound_ms=0) as its:
        its.memory.write(0x4000_0003, bytearray(data))
        assert its.memory.read(0x4000_0003, len(data)) == data
    found = [fields for _, fields in events(path)]
    assert [len(fields["data"]) for fields in found] == [*[fmt.MAX_EVENT_BYTES] * 3, 5] * 2
    assert names(path) == ["mem.write"] * 4 + ["mem.read"] * 4
    assert b"".join(fields["data"] for fields in found[:4]) == data
    assert [fields["gpa"] - 0x4000_0003 for fields in found[:4]] == [
        at * fmt.MAX_EVENT_BYTES for at in range(4)
    ]


def test_bulky_writes_do_not_pile_up_in_the_writer(path):
    with Recorder(Scripted(), path, bound_ms=0, codec=fmt.CODEC_NONE) as its:
        for _ in range(1000):
            its.memory.write(0x4000_0000, bytes(4096))
            assert its._tape._held_bytes <= 1 << 20
        assert path.stat().st_size > 2 << 20


def test_ram_that_is_not_zero_when_recording_begins_is_recorded_first(path):
    device = SmallIts(Ram(base=0x4000_0000, size=(3 << 20) + 4096))
    for gpa in (0x4000_0FFF, 0x4000_1000, 0x4020_0010, 0x4030_0FFF):
        device.memory.write(gpa, b"\x55")
    before = device.memory.read(0x4000_0000, (3 << 20) + 4096)
    with Recorder(device, path) as its:
        its.reg_read(0)
    *pages, last = events(path)
    assert [fields["gpa"] for _, fields in pages] == [
        0x4000_0000, 0x4000_1000, 0x4020_0000, 0x4030_0000,
    ]  # fmt: skip
    assert all(fields["data"] in before for _, fields in pages)
    assert last[0] == "reg.read"


def test_a_write_that_ram_refuses_is_not_recorded(path):
    with Recorder(Scripted(), path) as its, pytest.raises(ValueError, match="no memory at 0x1000"):
        its.memory.write(0x1000, b"x")
    assert names(path) == []


class Reader8(Scripted):
    """Fetches commands by doublewords, in the order it is told."""

    def fetch(self, *offsets, size=8):
        for offset in offsets:
            self.memory.read(0x4000_0000 + offset, size)


@pytest.mark.parametrize(
    ("offsets", "size", "commands"),
    [
        ((0, 8, 16, 24), 8, [0]),
        ((32, 40, 48, 56, 64, 72, 80, 88), 8, [32, 64]),
        ((0, 16, 24), 8, []),
        ((8, 16, 24, 32), 8, []),
        ((0, 8, 0, 8, 16, 24), 8, [0]),
        ((24, 0, 8, 16), 8, []),
        ((0, 16), 16, [0]),
        ((0, 32), 32, [0, 32]),
        ((16,), 32, []),
        ((0,), 64, []),
        ((4096,), 32, []),
        ((16, 24, 32, 40, 48, 56), 8, [32]),
        ((0, 8, 8, 24), 8, []),
    ],
)
def test_a_command_is_seen_when_all_of_it_is_read(offsets, size, commands, path):
    device = Reader8()
    device.memory = Ram(size=8192)
    with Recorder(device, path) as its:
        its.reg_write(CBASER, VALID | 0x4000_0000)
        device.fetch(*offsets, size=size)
    found = [fields["queue_offset"] for name, fields in events(path) if name == "command"]
    assert found == commands


def test_no_more_than_a_command_is_kept_of_what_is_read(path):
    device = Reader8()
    with Recorder(device, path) as its:
        its.reg_write(CBASER, VALID | 0x4000_0000)
        device.fetch(*range(16, 1024, 32), size=32)
        assert len(device.memory._part) < 32
    assert names(path) == ["reg.write"]


def test_the_queue_is_where_cbaser_says_when_it_may_say_so(path):
    device = Reader8()
    device.memory = Ram(size=16384)
    with Recorder(device, path) as its:
        its.reg_write(CBASER, VALID | 0x4000_2000, 1 << 60)  # no such access
        its.reg_write(CBASER, 0x4000_1000, 4)
        its.reg_write(CBASER + 4, 1 << 31, 4)
        its.reg_write(CTLR, 1, 4)
        its.reg_write(CBASER, VALID | 0x4000_2000)  # too late
        device.fetch(4096, 8192, size=32)
        its.reset()
        device.fetch(4096, size=32)  # it goes on where it was
        its.reg_write(CBASER, VALID | 0x4000_2000)
        device.fetch(4096, 8192 + 32, size=32)
    found = [
        (fields["cause"], fields["queue_offset"])
        for name, fields in events(path)
        if name == "command"
    ]
    assert found == [(1, 0), (1, 0), (1, 32)]


# -- the file


def test_the_header_says_what_the_recorder_knows_and_what_it_was_told(path):
    with Recorder(Scripted(), path, cpus=4, implementation="small", profile=PROFILE):
        pass
    header = read(path.read_bytes()).header
    assert (header.source, header.order, header.clock) == ("recorder", "total", "monotonic")
    assert (header.cpus, header.implementation, header.profile) == (4, "small", PROFILE)
    assert (header.guest_ram, header.ram_ranges) == ("complete", [[0x4000_0000, 4096]])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", header.created)
    assert len(header.uuid) == 36


def test_times_are_those_of_the_clock(path):
    ticks = iter([1000, 1007, 1007, 1100])
    with Recorder(Scripted(), path, clock=lambda: next(ticks)) as its:
        for _ in range(4):
            its.marker("tick")
    times = [event[1] for _, event in read(path.read_bytes()).events]
    assert times == [1000, 7, 0, 93]


def test_a_file_that_exists_is_not_overwritten(path):
    path.write_text("mine")
    device = SmallIts(Ram())
    with pytest.raises(UsageError, match="exists already"):
        Recorder(device, path)
    assert path.read_text() == "mine"
    assert type(device.memory) is Ram
    Recorder(device, path, force=True).close()
    assert names(path) == []


def test_a_key_that_no_header_has_wrong(path):
    with pytest.raises(TypeError, match="colour"):
        Recorder(SmallIts(Ram()), path, colour="red")
    assert not path.exists()


class Full(io.BytesIO):
    """Takes so many writes, then none."""

    room = 3

    def write(self, data):
        self.room -= 1
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.fixture
def full(monkeypatch):
    out = Full()

    @contextmanager
    def create(path, *, force):
        yield out

    monkeypatch.setattr(tracer.recorder, "create_output", create)
    return out


def test_a_full_disk_stops_the_trace_and_not_the_device(full):
    device = SmallIts(Ram())
    its = Recorder(device, "full", bound_events=4, bound_ms=0)
    for value in range(0, 320, 32):
        its.reg_write(CWRITER, value)
    assert device.cwriter == 288
    with pytest.raises(WriteError, match="No space left on device; everything up to event 4 is"):
        its.close()
    its.close()  # said once
    outcome = read(full.getvalue())
    assert outcome.status == "cut"
    assert [event[3] for _, event in outcome.events] == [0, 32, 64, 96]
    assert type(device.memory) is Ram


def test_a_full_disk_does_not_hide_the_devices_own_error(full):
    device = Scripted()

    def fail():
        with Recorder(device, "full", bound_events=1, bound_ms=0) as its:
            for _ in range(5):
                its.reg_write(CWRITER, 0)
            device.answer = ValueError("mine")
            its.reg_write(CWRITER, 0)

    with pytest.raises(ValueError, match="mine") as raised:
        fail()
    assert any("No space left on device" in note for note in raised.value.__notes__)


@pure_only
def test_a_trace_that_lacks_an_event_goes_no_further_and_has_no_clean_end(path, monkeypatch):
    refused = WriteError("no room for this one")

    def refuse(self, event):
        if event[3] == 1:
            raise refused
        self._events.append(event)

    monkeypatch.setattr(Writer, "add", refuse)
    its = Recorder(Scripted(), path, bound_ms=0)
    for value in (0, 1, 2):
        its.reg_write(CWRITER, value)
    with pytest.raises(WriteError) as raised:
        its.close()
    assert raised.value is refused
    outcome = read(path.read_bytes())
    assert ([event[3] for _, event in outcome.events], outcome.status) == ([0], "cut")


def test_a_full_disk_at_the_end_of_the_block_is_told(full):
    full.room = 2
    with pytest.raises(WriteError), Recorder(SmallIts(Ram()), "full", bound_ms=0) as its:
        its.reg_read(0)


KILLED = """
import os, signal, sys
from tests.support.small_its import Ram, SmallIts
from tracer import Recorder

class Dies(SmallIts):
    def reg_write(self, offset, value, size):
        if value == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

its = Recorder(Dies(Ram()), sys.argv[1], bound_events=64, bound_ms=0)
for value in range(10_000):
    its.reg_write(0x88, value)
"""


@pytest.mark.parametrize("last", [64, 1000, 6399])
def test_a_process_that_dies_in_the_device_loses_no_more_than_the_bound(last, path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(last)], cwd=REPOSITORY, check=False
    )
    assert done.returncode == -signal.SIGKILL
    outcome = read(path.read_bytes())
    assert outcome.status == "cut"
    assert [event[3] for _, event in outcome.events] == list(range((last + 1) // 64 * 64))


# -- what is imported, and the plugin


@pytest.mark.parametrize(
    ("imported", "not_imported"),
    [
        ("tracer", {"msgpack", "tracer.recorder", "replay"}),
        ("tracer.recorder", {"replay", "pytest", "structlog", "rich"}),
        ("replay.judge", {"pytest", "structlog", "tracer.recorder"}),
        ("replay.pytest_plugin", {"tracer.recorder", "replay.engine", "replay.judge", "msgpack"}),
    ],
)
def test_nothing_is_imported_that_is_not_needed(imported, not_imported):
    code = f"import sys, {imported}; print(*({not_imported!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_tracer_has_a_recorder_and_no_other_surprises():
    assert tracer.Recorder is tracer.recorder.Recorder
    with pytest.raises(AttributeError, match="no attribute 'Player'"):
        _ = tracer.Player


def test_the_plugin_is_registered_where_pytest_looks():
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nitstrace = "replay.pytest_plugin"\n' in project


def run_pytest(folder, *options):
    """Run pytest in `folder` with the plugin, whether or not it is installed."""
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "replay.pytest_plugin", "-W", "error", *options],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


FAILING = """
import pytest
from tests.support.small_guest import boot, look
from tests.support.small_its import Ram, SmallIts

@pytest.mark.its(verify=False)
def test_two(its_recorder, tmp_path):
    first, second = its_recorder(SmallIts(Ram())), its_recorder(SmallIts(Ram()))
    boot(first)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "test_two-0.itstrace", "test_two-1.itstrace"
    ]

def test_fails(its_recorder):
    boot(its_recorder(SmallIts(Ram())))
    assert False

def test_judged(its_recorder):
    its = its_recorder(SmallIts(Ram()), bound_ms=0)
    boot(its)
    its.reset()
    look(its)
    assert its_recorder.judge(its, profile="qemu-10.0.13").word == "equal"
"""


def test_traces_of_tests_that_fail_are_whole(tmp_path):
    (tmp_path / "test_some.py").write_text(FAILING)
    done = run_pytest(tmp_path, "--basetemp", str(tmp_path / "temp"))
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    (failed,) = (tmp_path / "temp").rglob("test_fails-0.itstrace")
    assert names(failed).count("command") == 4


def test_traces_that_are_kept_are_overwritten_by_the_next_run(tmp_path):
    (tmp_path / "test_some.py").write_text(FAILING)
    for _ in range(2):
        done = run_pytest(tmp_path, "--its-traces", "kept", "-k", "judged")
        assert "1 passed" in done.stdout, done.stdout
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [
        "test_some.py-test_judged-0.itstrace"
    ]
