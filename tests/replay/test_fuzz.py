"""Hostile captures through the whole pipeline: only documented errors, in little memory."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc

import pytest

from replay.engine import Engine
from replay.judge import model_of
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from replay.verify import verify
from tests.support.captures import KEXEC, TRACES, TWO_BOOTS, import_bytes
from tracer.errors import TracerError
from tracer.log.header import RUNNING
from tracer.log.stream import Reader
from tracer.log.text import TextReader

LINES = (TRACES / TWO_BOOTS).read_bytes().splitlines(keepends=True)
ITS_LINES = [line for line in LINES if b"gicv3_its" in line or b"arm-gicv3-its" in line]
PROFILES = ("qemu-7.2.22", "qemu-7.2.22-gicv4")
NUMBERS = (b"0x0", b"0x1", b"0xffffffff", b"0xffffffffffffffff", b"0x7fffffff", b"0x10000", b"8")


def mutate(rng, lines):
    lines = list(lines)
    for _ in range(rng.randrange(1, 12)):
        at = rng.randrange(len(lines))
        how = rng.randrange(6)
        if how == 0:
            del lines[at]
        elif how == 1:
            lines.insert(at, rng.choice(lines))
        elif how == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif how == 3:
            words = lines[at].split(b" ")
            words[rng.randrange(len(words))] = rng.choice(NUMBERS)
            lines[at] = b" ".join(words)
        elif how == 4:
            line = bytearray(lines[at])
            line[rng.randrange(len(line))] = rng.randrange(256)
            lines[at] = bytes(line)
        else:
            lines[at] = lines[at][: rng.randrange(len(lines[at]))]
    return b"".join(lines)


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_log_never_meets_a_bug(seed):
    rng = random.Random(seed)
    start = rng.randrange(len(ITS_LINES) - 300)
    trace = import_bytes(mutate(rng, ITS_LINES[start : start + 300]))
    profile = find(rng.choice(PROFILES))[0]
    reader = Reader(io.BytesIO(trace))
    model = QemuModel(reader.header, profile)
    tally = Engine(reader, model).run()
    state = model.state()
    assert tally.outputs >= tally.divergent
    assert len(state["digest"]) == 32
    reader = Reader(io.BytesIO(trace))
    resets = verify(reader, QemuModel(reader.header, profile))[0].resets
    assert all(each.word in ("stale", "suspected", "equal", "unproven") for each in resets)
    again = QemuModel(reader.header, profile)
    Engine(Reader(io.BytesIO(trace)), again).run()
    assert again.state() == state


KEXEC_LINES = [
    line
    for line in gzip.decompress((TRACES / KEXEC).read_bytes()).splitlines(keepends=True)
    if b"gicv3_" in line and b"value 0x1b" not in line
]


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_log_never_meets_a_bug_whoever_joins(seed):
    """With redistributors and acknowledges, over a hand-over or not, from anywhere."""
    rng = random.Random(seed)
    start = rng.randrange(len(KEXEC_LINES) - 400)
    trace = import_bytes(mutate(rng, KEXEC_LINES[start : start + 400]))
    profile = find(rng.choice(PROFILES))[0]

    def replay():
        reader = Reader(io.BytesIO(trace))
        reader.header.starts = RUNNING
        model = QemuModel(reader.header, profile)
        verifier, engine = verify(reader, model)
        return engine.tally, model.state(), [each.statuses() for each in verifier.resets]

    tally, state, words = replay()
    assert tally.outputs >= tally.divergent
    assert replay() == (tally, state, words)


@pytest.mark.parametrize("seed", range(40))
def test_random_inputs_with_complete_ram_are_survived(seed):
    """Registers, queues and tables at random, as a hostile guest would; small steps, deep."""
    rng = random.Random(seed)
    lines = ["# itstrace: 1", '# guest_ram: "complete"', "# cpus: 2"]
    lines.append("# ram_ranges: [[1073741824, 1048576]]")
    interesting = (0, 1, 0xFFFFFFFF, 2**63, 2**64 - 1, 0x8000000040000000, 0xC000000040010200)
    for _ in range(150):
        value = rng.choice([*interesting, rng.getrandbits(64), rng.getrandbits(20)])
        offset = rng.choice(
            (0, 4, 8, 0x80, 0x84, 0x88, 0x8C, 0x90, 0x94, 0x100, 0x104, 0x108, 0x110)
        )
        kind = rng.randrange(7)
        if kind < 3:
            size = rng.choice((4, 8))
            lines.append(f". +0 reg.write offset={offset:#x} value={value:#x} size={size}")
        elif kind == 3:
            gpa = 0x40000000 + rng.randrange(0x100000 - 32)
            data = rng.randbytes(rng.choice((1, 7, 8, 32)))
            lines.append(f". +0 mem.write gpa={gpa:#x} data={data.hex()}")
        elif kind == 4:
            lines.append(
                f". +0 msi device_id={value & 0xFFFFFFFF:#x} event_id={rng.getrandbits(32):#x}"
            )
        elif kind == 5:
            lines.append(
                f". +0 gicr.write cpu={rng.randrange(3)} offset={offset:#x} value={value:#x}"
            )
        else:
            lines.append(f". +0 reg.read offset={offset:#x} value=0x0")
    text = "\n".join(lines) + "\n"
    joined = text.replace("# cpus", '# starts: "running"\n# cpus')
    for name, trace in ((name, trace) for name in PROFILES for trace in (text, joined)):
        reader = TextReader(io.StringIO(trace))
        model = QemuModel(reader.header, find(name)[0])
        Engine(reader, model).run()
        snapshot = model.vm.snapshot()
        state = model.state()
        model.vm.restore(snapshot)
        assert model.state() == state


def any_line(rng):
    """An event of the kinds that a verdict listens to, with hostile values."""
    value = rng.choice((0, 1, 2**63, 2**64 - 1, 0xC000000040010200, rng.getrandbits(64)))
    offset = rng.choice((0, 0x70, 0x78, 0x80, 0x88, 0x90, 0x100, 0x108, 0x110, 0x20078))
    origin = rng.choice(("guest", "vmm", "probe"))
    cpu = rng.choice((0, 1, 7))
    return rng.choice(
        (
            f"reg.write offset={offset:#x} value={value:#x} origin={origin}",
            f"reg.write offset=0x0 value={value & 1:#x} size=4",
            f"reg.read offset={offset:#x} value={value:#x} origin={origin}",
            f"gicr.write cpu={cpu} offset={offset:#x} value={value:#x}",
            f"gicr.read cpu={cpu} offset={offset:#x} value={value:#x} origin={origin}",
            f"mem.read cause=0 gpa={value & 2**63 - 1:#x} data={rng.randbytes(64).hex()}",
            f"mem.read cause=0 gpa=0x40010000 data={rng.randbytes(64).hex()}",
            f"lpi.ack cause=0 intid={rng.choice((0, 8192, 2**32))} cpu={cpu}",
            f"probe edge={rng.choice(('begin', 'end'))} perturbing=1 lists={rng.randrange(4)}",
            f"reset how={rng.choice(('power_on', 'system', 'reinit'))}",
            (
                f"command cause=1 queue_offset={value:#x} dw0={rng.randrange(16):#x} dw1={value:#x}"
                f" dw2={value:#x} dw3={value:#x}"
            ),
            f"table.read cause=1 table=cte index={value & 0xFFFF:#x} base=0x0 valid=1 e1=0x1",
            "restore",
            'loss reason="late"',
        )
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_evidence_is_survived_and_judged_alike_twice(seed):
    rng = random.Random(seed)
    lines = ["# itstrace: 1", "# cpus: 2"]
    lines.append(f'# guest_ram: "{rng.choice(("complete", "observed"))}"')
    lines.append(f'# starts: "{rng.choice(("power_on", "running"))}"')
    text = "\n".join([*lines, *(f". +0 {any_line(rng)}" for _ in range(250))]) + "\n"
    name = rng.choice((*PROFILES, "linux-6.1.192", "linux-7.2.13", "xen-4.20"))

    def words():
        reader = TextReader(io.StringIO(text))
        verifier, engine = verify(reader, model_of(reader.header, find(name)[0]))
        return engine.tally, [(each.how, each.word, each.statuses()) for each in verifier.resets]

    assert words() == words()


def test_the_largest_identifiers_allocate_nothing_large():
    text = """\
# itstrace: 1
# guest_ram: "complete"
0 +0 reg.write offset=0x100 value=0xc0000000400002ff
1 +0 reg.write offset=0x108 value=0x80000000402002ff
2 +0 reg.write offset=0x80 value=0x80000000403000ff
3 +0 mem.write gpa=0x40300000 data=08000000ffffffff1f0000000000000000ffffffffffff800000000000000000
4 +0 mem.write gpa=0x40300020 data=0a000000ffffffffffffffffffffffffffff0000000000000000000000000000
5 +0 reg.write offset=0x0 value=0x1 size=4
6 +0 reg.write offset=0x88 value=0xfffe0
7 +0 msi device_id=0xffffffff event_id=0xffffffff
"""
    tracemalloc.start()
    reader = TextReader(io.StringIO(text))
    model = QemuModel(reader.header, find("qemu-7.2.22")[0])
    Engine(reader, model).run()
    state = model.state()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert state["its"]["0"]["devices"] == {}
    assert state["its"]["0"]["registers"]["GITS_CREADR"] == "0xfffe0"
    assert peak < 30 << 20  # a queue of 1 MiB is run through: 32,767 commands and their effects


@pytest.mark.parametrize("seed", range(200))
def test_a_mutated_trace_raises_only_documented_errors(seed):
    rng = random.Random(seed)
    trace = bytearray(import_bytes(b"".join(ITS_LINES[:200])))
    for _ in range(rng.randrange(1, 6)):
        trace[rng.randrange(len(trace))] = rng.randrange(256)
    try:
        reader = Reader(io.BytesIO(bytes(trace)))
        engine = Engine(reader, QemuModel(reader.header, find("qemu-7.2.22")[0]))
        engine.run()
    except TracerError as error:
        said = str(error)
    else:
        said = reader.status
    assert said in ("clean", "damaged", "cut") or "byte 0x" in said
