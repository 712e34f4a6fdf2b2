"""The verdict can fail: every component, by an observation and by the model's own reset."""

from __future__ import annotations

import io
import re

import pytest

from replay.engine import Engine
from replay.model.qemu import reset
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from replay.verify import verify
from tests.support.captures import TRACES, TWO_BOOTS, TWO_BOOTS_TIMED, import_bytes
from tracer.log.stream import Reader
from tracer.log.text import TextReader

PROFILE = find("qemu-7.2.22")[0]

# A life that leaves no register at its reset value: 9 writes, then the reset at event 14.
LIFE = """\
# itstrace: 1
# source: "test"
# profile: "qemu-7.2.22"
# cpus: 2
# guest_ram: "complete"
0 +0 reset how=power_on
1 +0 reg.write offset=0x100 value=0x8000000040100200
2 +0 reg.write offset=0x108 value=0x8000000040200200
3 +0 reg.write offset=0x80 value=0x8000000040300000
4 +0 mem.write gpa=0x40300000 data=0900000000000000000000000000000000000100000000800000000000000000
5 +0 mem.write gpa=0x40300020 data=08000000020000000100000000000000000060400000008000000000000000000000000000000000
6 +0 reg.write offset=0x0 value=0x1 size=4
7 +0 reg.write offset=0x88 value=0x40
8 +0 gicr.write cpu=0 offset=0x70 value=0x4040000f
9 +0 gicr.write cpu=0 offset=0x78 value=0x40500000
10 +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4
11 +0 gicr.write cpu=1 offset=0x70 value=0x4040000f
12 +0 gicr.write cpu=1 offset=0x78 value=0x40520000
13 +0 gicr.write cpu=1 offset=0x0 value=0x1 size=4
14 +0 reset how=system
"""

# component -> (how to read it, fresh value, value before the reset, the event that wrote that)
COMPONENTS = {
    "GITS_CTLR": ("reg.read offset=0x0 size=4", 0x80000000, 0x80000001, 6),
    "GITS_CBASER": ("reg.read offset=0x80", 0, 0x8000000040300000, 3),
    "GITS_CWRITER": ("reg.read offset=0x88", 0, 0x40, 7),
    "GITS_CREADR": ("reg.read offset=0x90", 0, 0x40, 7),
    "GITS_BASER0": ("reg.read offset=0x100", 0x0107000000000200, 0x8107000040100200, 1),
    "GITS_BASER1": ("reg.read offset=0x108", 0x0407000000000200, 0x8407000040200200, 2),
    "GICR_CTLR[0]": ("gicr.read cpu=0 offset=0x0 size=4", 0x2, 0x3, 10),
    "GICR_PROPBASER[0]": ("gicr.read cpu=0 offset=0x70", 0, 0x4040000F, 8),
    "GICR_PENDBASER[0]": ("gicr.read cpu=0 offset=0x78", 0, 0x40500000, 9),
    "GICR_CTLR[1]": ("gicr.read cpu=1 offset=0x0 size=4", 0x2, 0x3, 13),
    "GICR_PROPBASER[1]": ("gicr.read cpu=1 offset=0x70", 0, 0x4040000F, 11),
    "GICR_PENDBASER[1]": ("gicr.read cpu=1 offset=0x78", 0, 0x40520000, 12),
}
CONSTANT = {
    "GITS_IIDR": ("reg.read offset=0x4 size=4", 0x43B),
    "GITS_TYPER": ("reg.read offset=0x8", 0x1F0001EFB1),
    "GITS_PIDR2": ("reg.read offset=0xffe8 size=4", 0x3B),
    **{f"GITS_BASER{n}": (f"reg.read offset={0x100 + 8 * n:#x}", 0) for n in range(2, 8)},
}


def probed(**wrong):
    """The life, and after its reset a read of every register; `wrong` replaces a value."""
    lines = [f". +0 {how} value={fresh:#x}" for how, fresh in CONSTANT.values()]
    for name, (how, fresh, _, _) in COMPONENTS.items():
        lines.append(f". +0 {how} value={wrong.get(name, fresh):#x}")
    return LIFE + "\n".join(lines) + "\n"


def judge(text, steps=reset.STEPS, strict=False):
    reader = TextReader(io.StringIO(text), "life")
    model = QemuModel(reader.header, PROFILE, reset_steps=steps)
    verifier, engine = verify(reader, model, strict=strict)
    return verifier.resets[-1], engine


def test_a_reset_of_which_every_register_was_read_is_verified():
    verdict, engine = judge(probed())
    assert engine.tally.divergent == 0
    assert verdict.statuses() == dict.fromkeys(
        [*COMPONENTS, *CONSTANT, "devices", "events", "collections"], "verified"
    )
    assert verdict.word == "verified"
    assert (verdict.observed, len(verdict.spoken_of)) == (24, 24)


@pytest.mark.parametrize("name", COMPONENTS)
def test_one_read_that_shows_the_value_from_before_is_stale_and_blamed(name):
    _, _, old, writer = COMPONENTS[name]
    verdict, engine = judge(probed(**{name: old}))
    component = next(each for each in verdict.components if each.name == name)
    assert verdict.word == "stale"
    assert [k for k, word in verdict.statuses().items() if word == "stale"] == [name]
    assert component.blame == writer
    assert component.clause is not None
    assert engine.tally.divergent == 1


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_value_that_is_neither_fresh_nor_old_is_stale_but_nobody_is_blamed(name):
    _, fresh, old, _ = COMPONENTS[name]
    verdict, _ = judge(probed(**{name: old ^ fresh ^ 0x1000}))
    component = next(each for each in verdict.components if each.name == name)
    assert component.status(strict=False) == "stale"
    assert component.blame is None


GICV3_STEPS = [
    name for name, _ in reset.STEPS if name in {each.partition("[")[0] for each in COMPONENTS}
]


@pytest.mark.parametrize("step", GICV3_STEPS)
def test_a_reset_that_forgets_one_step_is_suspected_without_any_observation(step):
    """The mutation that shows that check 1 can fail: each step left out in turn."""
    steps = tuple(each for each in reset.STEPS if each[0] != step)
    verdict, engine = judge(LIFE, steps)
    suspected = {name for name, word in verdict.statuses().items() if word == "suspected"}
    stem = {name for name in COMPONENTS if name.partition("[")[0] == step}
    # A BASER that keeps Valid also leaves the mappings of its table within reach.
    reach = {"GITS_BASER0": {"devices"}, "GITS_BASER1": {"collections"}}.get(step, set())
    assert suspected == stem | reach
    assert verdict.word == "suspected"
    for component in verdict.components:
        if component.name in stem:
            assert component.blame == COMPONENTS[component.name][3]
    assert engine.tally.outputs == 0


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name.startswith("GITS")])
def test_an_observation_that_shows_fresh_overrules_the_model(name):
    steps = tuple(each for each in reset.STEPS if each[0] != name)
    verdict, engine = judge(probed(), steps)
    component = next(each for each in verdict.components if each.name == name)
    assert component.status(strict=False) == "verified"
    assert engine.tally.divergent == 1  # the model, not the device, is wrong


def test_a_read_after_a_write_says_nothing_of_the_reset():
    text = LIFE + ". +0 reg.write offset=0x80 value=0x0\n. +0 reg.read offset=0x80 value=0x0\n"
    verdict, _ = judge(text)
    assert verdict.statuses()["GITS_CBASER"] == "unproven"
    assert verdict.word == "unproven"


def test_a_register_that_survives_even_a_write_is_stale():
    text = LIFE + (
        ". +0 reg.write offset=0x80 value=0x0\n. +0 reg.read offset=0x80 value=0x8000000040300000\n"
    )
    verdict, _ = judge(text)
    component = next(each for each in verdict.components if each.name == "GITS_CBASER")
    assert verdict.word == "stale"
    assert component.blame == 3


def test_half_a_register_is_not_the_register():
    text = LIFE + ". +0 reg.read offset=0x80 size=4 value=0x0\n"
    assert judge(text)[0].statuses()["GITS_CBASER"] == "unproven"
    text += ". +0 reg.read offset=0x84 size=4 value=0x0\n"
    assert judge(text)[0].statuses()["GITS_CBASER"] == "verified"
    stale = text.replace("offset=0x84 size=4 value=0x0", "offset=0x84 size=4 value=0x80000000")
    assert judge(stale)[0].statuses()["GITS_CBASER"] == "stale"


def test_blame_reaches_back_over_a_reset():
    text = LIFE + ". +0 reset how=system\n. +0 reg.read offset=0x80 value=0x8000000040300000\n"
    verdict, _ = judge(text)
    component = next(each for each in verdict.components if each.name == "GITS_CBASER")
    assert verdict.word == "stale"
    assert component.blame == 3


def test_a_write_of_the_same_value_again_is_the_last_that_wrote_it():
    text = LIFE.replace(
        "4 +0 mem.write", "4 +0 reg.write offset=0x80 value=0x8000000040300000\n. +0 mem.write"
    )
    text = text.replace("\n14 +0 reset", "\n. +0 reset")
    for seq in range(5, 14):
        text = text.replace(f"\n{seq} +0", "\n. +0")
    verdict, _ = judge(text + ". +0 reg.read offset=0x80 value=0x8000000040300000\n")
    component = next(each for each in verdict.components if each.name == "GITS_CBASER")
    assert component.blame == 4


def test_a_loss_ends_the_evidence_and_is_said():
    verdict, engine = judge(
        LIFE
        + '. +0 loss reason="ring full" count=3\n'
        + (". +0 reg.read offset=0x80 value=0x8000000040300000\n")
    )
    assert verdict.lossy
    assert verdict.statuses()["GITS_CBASER"] == "unproven"
    assert engine.lost == 1


# -- the same on the real capture


@pytest.mark.parametrize(
    ("offset", "component"),
    [("0x0", "GITS_CTLR"), ("0x90", "GITS_CREADR"), ("0x100", "GITS_BASER0")],
)
@pytest.mark.parametrize("name", [TWO_BOOTS, TWO_BOOTS_TIMED])
def test_a_capture_with_one_read_changed_to_its_old_value_is_stale(name, offset, component):
    log = (TRACES / name).read_text()
    reset_at = log.rfind("(arm-gicv3-its)")
    read = re.compile(rf"ITS read: offset {offset} data (\S+) ")
    # CTLR is enabled after its last read, every other register is read after its last change.
    old = "0x80000001" if offset == "0x0" else read.findall(log[:reset_at])[-1]
    first = read.search(log, reset_at)
    assert old != first[1]
    changed = log[: first.start(1)] + old + log[first.end(1) :]
    reader = Reader(io.BytesIO(import_bytes(changed.encode())))
    before, verdict = verify(reader, QemuModel(reader.header, PROFILE))[0].resets
    stale = [each for each in verdict.components if each.status(strict=False) == "stale"]
    assert before.word == "equal"
    assert verdict.word == "stale"
    assert [each.name for each in stale] == [component]
    assert stale[0].blame == _last_writer(log, component)


def _events(trace):
    for first, events in Reader(io.BytesIO(trace)):
        yield from enumerate(events, first)


def _last_writer(log, component):
    """The last write in the first boot that set what `component` then held, by hand."""
    offset = {"GITS_CTLR": 0x0, "GITS_CREADR": 0x88, "GITS_BASER0": 0x100}[component]
    last = None
    resets = 0
    for seq, event in _events(import_bytes(log.encode())):
        resets += event[0] == 8
        if resets == 2:
            return last
        if event[0] == 1 and event[2] == offset:
            last = seq
    raise AssertionError("no second reset")


def test_the_engine_alone_shows_the_divergence_with_the_events_before_it():
    reader = TextReader(io.StringIO(probed(GITS_CBASER=0x8000000040300000)), "life")
    engine = Engine(reader, QemuModel(reader.header, PROFILE))
    tally = engine.run()
    (divergence,) = tally.divergences
    assert (divergence.kind, divergence.field) == ("reg.read", "value")
    assert (divergence.expected, divergence.got) == (0, 0x8000000040300000)
    assert [seq for seq, _ in divergence.before] == list(range(divergence.seq - 5, divergence.seq))
