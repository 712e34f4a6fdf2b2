"""What is pending in a VM that runs: set, clear or maybe, and an acknowledge that cannot be."""

from __future__ import annotations

import io

import pytest

from replay.engine import Engine
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from tracer.log.text import TextReader

HEADER = """\
# itstrace: 1
# source: "test"
# profile: "qemu-7.2.22"
# cpus: 2
# guest_ram: "{ram}"
"""
# DeviceID 2 with events 0 and 1 as LPI 8192 and 8193, collection 0 on CPU 0, collection 1 on CPU 1.
COMMANDS = (
    "MAPC(icid=0x0,rdbase=0x0,v=0x1)",
    "MAPC(icid=0x1,rdbase=0x1,v=0x1)",
    "MAPD(device_id=0x2,size=0x3,itt_addr=0x40600000,v=0x1)",
    "MAPTI(device_id=0x2,event_id=0x0,pintid=0x2000,icid=0x0)",
    "MAPTI(device_id=0x2,event_id=0x1,pintid=0x2001,icid=0x0)",
)


def redistributor(cpu, pendbaser):
    return (
        f". +0 gicr.write cpu={cpu} offset=0x70 value=0x4040000f\n"
        f". +0 gicr.write cpu={cpu} offset=0x78 value={pendbaser:#x}\n"
        f". +0 gicr.write cpu={cpu} offset=0x0 value=0x1 size=4\n"
    )


GICR = redistributor(0, 0x40500000) + redistributor(1, 0x40520000)
TABLES = """\
. +0 reg.write offset=0x100 value=0x8000000040100200
. +0 reg.write offset=0x108 value=0x8000000040200200
. +0 reg.write offset=0x80 value=0x8000000040300000
. +0 reg.write offset=0x0 value=0x1 size=4
"""
RESET = ". +0 reset how=system\n"


class Queue:
    """Commands at their places in the queue, each run at once."""

    def __init__(self):
        self.at = 0

    def run(self, *commands):
        lines = []
        for command in commands:
            lines.append(f". +0 mem.write gpa={0x40300000 + self.at:#x} data={command}")
            self.at += 32
            lines.append(f". +0 reg.write offset=0x88 value={self.at:#x}")
        return "".join(f"{line}\n" for line in lines)


def msi(event_id=0):
    return f". +0 msi device_id=0x2 event_id={event_id:#x}\n"


def ack(intid=8192, cpu=0):
    return f". +0 lpi.ack cause=0 intid={intid} cpu={cpu}\n"


# Another LPI is taken first, so that it is known that the trace shows what CPUs take.
SHOWN = msi(1) + ack(8193)


@pytest.fixture(params=["observed", "complete"])
def replay(request):
    """Replay a life and more; return (engine, what `state` says of LPI 8192)."""

    def run(*parts, queue=None, gicr=GICR, ram=request.param):
        queue = queue or Queue()
        text = HEADER.format(ram=ram) + gicr + TABLES + queue.run(*COMMANDS) + "".join(parts)
        reader = TextReader(io.StringIO(text), "life")
        model = QemuModel(reader.header, find("qemu-7.2.22")[0])
        engine = Engine(reader, model, invariants=True)
        engine.run()
        assert engine.violated == []
        return engine, model.state()["lpis"].get("8192", {}).get("pending")

    run.ram = request.param
    return run


def only_divergence(engine):
    (found,) = engine.tally.divergences
    return found.kind, found.field, found.expected, found.got


def test_an_msi_makes_it_pending_and_the_cpu_that_takes_it_clears_it(replay):
    engine, word = replay(SHOWN, msi())
    assert (engine.tally.divergent, word) == (0, "set")
    engine, word = replay(SHOWN, msi(), ack())
    assert (engine.tally.divergent, word) == (0, "clear")


def test_what_is_taken_twice_and_raised_once_diverges(replay):
    engine, _ = replay(SHOWN, msi(), ack(), ack())
    assert only_divergence(engine) == ("lpi.ack", "pending", "clear", "set")


def test_two_msis_that_meet_are_taken_once(replay):
    engine, word = replay(SHOWN, msi(), msi(), ack())
    assert (engine.tally.divergent, word) == (0, "clear")


def test_an_lpi_that_nothing_raised_may_have_been_pending_in_ram_that_nobody_saw(replay):
    engine, word = replay(ack())
    if replay.ram == "observed":
        assert (engine.tally.divergent, engine.tally.learned, word) == (0, 1, "clear")
    else:
        assert only_divergence(engine) == ("lpi.ack", "pending", "clear", "set")


def test_without_any_acknowledge_it_is_not_known_whether_it_was_taken(replay):
    assert replay(msi())[1] == ("maybe" if replay.ram == "observed" else "set")


@pytest.mark.parametrize("command", ["CLEAR", "DISCARD"])
def test_a_command_that_clears_it_is_as_good_as_taking_it(replay, command):
    queue = Queue()
    queue.run(*COMMANDS)
    clear = queue.run(f"{command}(device_id=0x2,event_id=0x0)")
    engine, _ = replay(SHOWN, msi(), clear, ack())
    assert only_divergence(engine) == ("lpi.ack", "pending", "clear", "set")


@pytest.mark.parametrize(
    "command",
    ["MOVI(device_id=0x2,event_id=0x0,icid=0x1)", "MOVALL(rdbase1=0x0,rdbase2=0x1)"],
)
def test_what_was_moved_is_taken_by_the_other_cpu(replay, command):
    queue = Queue()
    queue.run(*COMMANDS)
    move = queue.run(command)
    assert replay(SHOWN, msi(), move, ack(cpu=1))[0].tally.divergent == 0
    engine, _ = replay(SHOWN, msi(), move, ack(cpu=0))
    assert only_divergence(engine) == ("lpi.ack", "pending", "clear", "set")


def test_a_move_of_what_nobody_knows_leaves_the_other_cpu_unknown(replay):
    """Taken by CPU 1, so clear there; then moved to it from CPU 0, where it may have been set."""
    queue = Queue()
    queue.run(*COMMANDS)
    there = queue.run("MOVI(device_id=0x2,event_id=0x0,icid=0x1)")
    engine, _ = replay(ack(cpu=1), there, ack(cpu=1))
    assert engine.tally.divergent == (2 if replay.ram == "complete" else 0)


def test_what_is_disabled_is_not_made_pending(replay):
    off = ". +0 gicr.write cpu=0 offset=0x0 value=0x0 size=4\n"
    engine, word = replay(SHOWN, msi(), ack(), off, msi())
    assert (engine.tally.divergent, word) == (0, "clear")


def test_a_table_may_have_been_rewritten_before_lpis_are_enabled(replay):
    off_and_on = "".join(
        f". +0 gicr.write cpu=0 offset=0x0 value={value} size=4\n" for value in ("0x0", "0x1")
    )
    engine, word = replay(SHOWN, msi(), ack(), off_and_on)
    assert word == ("maybe" if replay.ram == "observed" else "clear")
    assert engine.tally.divergent == 0


@pytest.mark.parametrize("between", [RESET, '. +0 loss reason="late"\n'])
def test_behind_a_reset_and_behind_a_loss_nothing_is_known_of_ram(replay, between):
    engine, _ = replay(SHOWN, msi(), ack(), between, GICR, ack())
    if replay.ram == "observed":
        assert engine.tally.divergent == 0
    else:
        assert only_divergence(engine)[0] == "lpi.ack"


def test_guest_ram_that_is_shown_says_what_is_pending(replay):
    shown = ". +0 mem.write gpa=0x40500400 data={}000000\n"
    assert replay(SHOWN, shown.format("01"))[1] == "set"
    assert replay(SHOWN, msi(), shown.format("00"))[1] == "clear"


def test_where_no_redistributor_is_seen_it_is_maybe_for_ever(replay):
    if replay.ram == "complete":
        return  # a trace that shows all of RAM shows the redistributors too
    engine, word = replay(msi(1), ack(8193), msi(), ack(), gicr="")
    assert (engine.tally.divergent, word) == (0, "maybe")


def test_a_cpu_that_this_vm_does_not_have_is_believed(replay):
    engine, _ = replay(ack(cpu=7))
    assert engine.tally.divergent == 0
    assert engine.tally.learned == 1


def test_a_snapshot_holds_what_is_pending(replay):
    text = HEADER.format(ram=replay.ram) + GICR + TABLES + Queue().run(*COMMANDS) + SHOWN + msi()
    reader = TextReader(io.StringIO(text), "life")
    model = QemuModel(reader.header, find("qemu-7.2.22")[0])
    Engine(reader, model).run()
    other = model.handed_over()
    assert other.state() == model.state()
    other.vm.acknowledge(0, 8192)
    assert model.state()["lpis"]["8192"]["pending"] == "set"
    assert other.state()["digest"] != model.state()["digest"]
