"""A model that goes on from a checkpoint answers as the one that never stopped."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import msgpack
import pytest

from replay import checkpoints
from replay.checkpoints import Standing
from replay.engine import Engine
from replay.judge import model_of
from replay.kept import MODELS
from replay.model.kvm.state import HostCrash
from replay.model.memory import GuestRam
from replay.profiles import PROFILES, find
from replay.shapes import Each, Inside, Keyed, Maybe, Record
from replay.vectors import OPERATIONS, new_vm
from tests.conformance import profile_of, read_lines
from tests.replay.test_xen_model import (
    RAM as XEN_RAM,
    lpis as xen_lpis,
    step as xen_step,
    tables as xen_tables,
)
from tests.support.captures import ALL, TRACES, open_capture
from tests.support.compiled import pure_only
from tracer.errors import DamagedTrace, NewerTrace, TraceError, UsageError
from tracer.log.checks import PayloadError
from tracer.log.header import Header
from tracer.log.opening import open_trace

VECTORS = Path(__file__).parents[1] / "vectors"
FILES = sorted(VECTORS.glob("*/*.txt.gz"))
SCENARIOS = sorted((TRACES / "scenarios").glob("*.its.txt"))


def model_like(vm, profile):
    """Return a model around a VM of the vectors."""
    model = model_of(Header(guest_ram="complete"), profile)
    model.vm = vm
    if profile.family == "kvm":
        model._ids = vm.state.vcpu_ids
    else:
        model._cpus = len(vm.cpus)
    return model


def moved(vm, header_line, profile):
    """Return another VM that went through a checkpoint's bytes."""
    raw = checkpoints.snapshot(model_like(vm, profile), 7, Standing())
    fresh = model_like(new_vm(profile, header_line), profile)
    checkpoints.resume(raw, "t", 7, fresh)
    assert checkpoints.snapshot(fresh, 7, Standing()) == raw
    return fresh.vm


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".txt.gz"))
def test_recorded_lives_go_on_from_a_checkpoint_with_the_recorded_answers(path):
    """Cut at random places, some of them in a row; the answers are those of real devices."""
    profile = find(profile_of(path))[0]
    rng = random.Random(path.name)
    operations = OPERATIONS[profile.family]
    vm, header_line, checked, cuts = None, "", 0, 0
    for line in read_lines(path)[:4000]:
        fields = line.split()
        if not fields:
            continue
        if fields[0] == "#":
            vm, header_line = new_vm(profile, line), line
            continue
        if vm is None or fields[0] not in operations:
            continue
        if rng.random() < 0.03:
            vm = moved(vm, header_line, profile)
            cuts += 1
        operation, inputs = operations[fields[0]]
        try:
            got = operation(vm, fields)
        except HostCrash:
            vm = None
            continue
        expected = " ".join(fields[inputs:])
        if got is not None and expected != "?":
            checked += 1
            assert got == expected, line
    assert checked >= 1
    assert cuts >= 1 or len(FILES) > 40  # a file of one short life may have none


# -- whole replays


def outcome(engine):
    tally = engine.tally
    return (
        {name: getattr(tally, name) for name in ("matched", "learned", "assumed", "not_judged")},
        tally.divergent, engine.crash, engine.model.state(), engine.model.components(),
    )  # fmt: skip


def model_for(reader):
    return model_of(reader.header, find(reader.header.profile)[0])


def blocks(reader):
    return [(first + at, (event,)) for first, events in reader for at, event in enumerate(events)]


def fed(engine, events):
    try:
        for first_seq, block in events:
            engine.feed(first_seq, block)
        assert engine.standing
    except HostCrash as crash:
        engine.crash = (engine.seq, crash.function)


def inputs_of(events):
    return [at for at, (_, (event,)) in enumerate(events) if event[0] < 64]


def cut_and_gone_on(reader, events, at):
    """Return what a replay says that was moved to another model before event `at`."""
    first = Engine(reader, model_for(reader))
    fed(first, events[:at])
    if first.crash:
        return outcome(first)
    raw = checkpoints.snapshot(first.model, at, first.standing)
    second = Engine(reader, model_for(reader))
    second.standing = checkpoints.resume(raw, "t", at, second.model)
    second.tally = first.tally
    fed(second, events[at:])
    return outcome(second)


@pytest.mark.parametrize("name", ALL)
def test_a_capture_goes_on_from_a_checkpoint(name):
    reader = open_capture(name)
    events = blocks(reader)
    whole = Engine(reader, model_for(reader))
    fed(whole, events)
    for at in random.Random(name).sample(inputs_of(events), 6):
        assert cut_and_gone_on(reader, events, at) == outcome(whole), at


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name.removesuffix(".its.txt"))
def test_a_scenario_goes_on_from_a_checkpoint_at_every_input(path):
    with open_trace(str(path)) as reader:
        events = blocks(reader)
    whole = Engine(reader, model_for(reader))
    fed(whole, events)
    for at in inputs_of(events):
        assert cut_and_gone_on(reader, events, at) == outcome(whole), at


# -- the tables


def attributes(cls):
    """Return the names of everything that an object of `cls` holds."""
    slots = [name for each in cls.__mro__ for name in getattr(each, "__slots__", ())]
    return set(slots)


def records_in(shape):
    """Yield each record that a shape is made of."""
    match shape:
        case Record():
            yield shape
            for each in shape.kept.values():
                yield from records_in(each)
        case Inside(record):
            yield from records_in(record)
        case Each() | Maybe():
            yield from records_in(shape.shape)
        case Keyed():
            yield from records_in(shape.value)


@pure_only
@pytest.mark.parametrize("kept", MODELS.values(), ids=lambda kept: kept.family)
def test_the_tables_name_every_attribute_once(kept):
    """A field that somebody adds to a model fails here until the table says what becomes of it."""
    records = list(records_in(kept.record))
    assert len(records) >= 3
    for record in records:
        assert not record.anew & record.kept.keys()
        named = record.anew | record.kept.keys()
        if record is kept.record:
            profile = next(p for p in PROFILES.values() if p.family == kept.family)
            assert named == vars(model_of(Header(cpus=1), profile)).keys()
        else:
            assert named == attributes(record.of), record.of


# -- bytes that somebody made to hurt


def vector_life(name):
    """Return a life of vectors, half lived, and what goes on with it."""
    path = VECTORS / name
    profile = find(profile_of(path))[0]
    operations = OPERATIONS[profile.family]
    head, *lines = "\n".join(read_lines(path)).split("# seed ")[7].splitlines()
    half = len(lines) // 2

    def live(vm, lines):
        with suppress(HostCrash):
            for line in lines:
                fields = line.split()
                operations[fields[0]][0](vm, fields)

    vm = new_vm(profile, head)
    live(vm, lines[:half])
    return model_like(vm, profile), lambda vm: live(vm, lines[half:] + lines[:half])


def xen_life():
    """Return a random life of Xen, and what goes on with it."""
    model = model_of(Header(cpus=4, guest_ram="complete"), find("xen-4.20")[0])
    model.vm.ram = GuestRam(XEN_RAM)
    xen_tables(model.vm)
    xen_lpis(model.vm)
    model.vm.reg_write(0, 1, 4)

    def live(vm, seed, steps):
        rng = random.Random(seed)
        with suppress(HostCrash):
            for _ in range(steps):
                xen_step(vm, rng)

    live(model.vm, 5, 250)
    return model, lambda vm: live(vm, 6, 60)


LIVES = {
    "kvm": lambda: vector_life("kvm/deep.linux-6.1.192.txt.gz"),
    "kvm-per-its-cache": lambda: vector_life("kvm/deep.linux-7.2.13.txt.gz"),
    "qemu": lambda: vector_life("qemu/deep.qemu-7.2.22.txt.gz"),
    "qemu-gicv4": lambda: vector_life("qemu/v4.qemu-7.2.22-gicv4.txt.gz"),
    "xen": xen_life,
}


def another(model):
    """Return a new model of the same VM, that nobody has used."""
    return model.fresh()


@pytest.mark.parametrize("seed", range(8))
def test_lives_of_xen_go_on_from_a_checkpoint(seed):
    """There are no recorded answers of Xen: two models live the same life, one through bytes."""
    rngs = random.Random(seed), random.Random(seed)
    models = [model_of(Header(cpus=4), find("xen-4.20")[0]) for _ in rngs]
    for model in models:
        model.vm.ram = GuestRam(XEN_RAM, complete=seed % 2 == 0)
        xen_tables(model.vm)
        xen_lpis(model.vm)
    steps = 0
    with suppress(HostCrash):
        for _ in range(200):
            for model, rng in zip(models, rngs, strict=True):
                model.vm.effects.clear()
                xen_step(model.vm, rng)
            assert models[0].vm.effects == models[1].vm.effects
            assert models[0].state() == models[1].state()
            moved = another(models[1])
            raw = checkpoints.snapshot(models[1], 3, Standing())
            checkpoints.resume(raw, "t", 3, moved)
            models[1] = moved
            steps += 1
    assert steps > 10


def plain_of(raw):
    return msgpack.unpackb(raw, strict_map_key=True)


def mutated(value, rng):
    """Return a copy with one thing changed, somewhere inside."""
    if isinstance(value, dict):
        key = "state" if "state" in value and rng.random() < 0.8 else rng.choice(list(value))
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.98:
        at = rng.randrange(len(value))
        chance = rng.random()
        if chance < 0.03:
            return value[:at] + value[at + 1 :]
        if chance < 0.06:
            return [*value[:at], value[at], *value[at:]]
        if chance < 0.1:
            other = rng.randrange(len(value))
            return [*value[:at], value[other], *value[at + 1 :]]
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    near = [value + 1, value - 1, value ^ 0x40] if type(value) is int else []
    return rng.choice((
        None, True, False, -1, 0, 1, 2, 255, 8192, 1 << 16, 1 << 32, (1 << 64) - 1, -(1 << 63),
        "", "x" * 1000, b"", b"1234", bytes(18), bytes(range(18)), [], [0], [[]] * 40, {"a": 1},
        1.5, *(each for each in near if -(1 << 63) <= each < 1 << 64),
    ))  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
def test_a_changed_checkpoint_is_refused_or_gives_a_model_that_lives(name):
    """Whatever state is accepted can be asked everything and go on through the rest of a life."""
    rng = random.Random(name)
    model, go_on = LIVES[name]()
    raw = checkpoints.snapshot(model, 9, Standing())
    refused = accepted = 0
    for _ in range(400):
        plain = plain_of(raw)
        for _ in range(rng.choice((1, 1, 1, 1, 2))):
            plain = mutated(plain, rng)
        again = another(model)
        try:
            checkpoints.resume(msgpack.packb(plain), "t", 9, again)
        except (TraceError, UsageError):
            refused += 1
            continue
        accepted += 1
        again.state()
        again.components()
        go_on(again.vm)
        again.state()
        list(again.violations())
    assert refused > 100
    assert accepted > 20


@pytest.mark.parametrize("name", LIVES)
def test_flipped_bytes_are_refused_or_harmless(name):
    rng = random.Random(name)
    model, go_on = LIVES[name]()
    raw = checkpoints.snapshot(model, 9, Standing())
    refused = 0
    for _ in range(400):
        data = bytearray(raw)
        for _ in range(rng.choice((1, 1, 3))):
            data[rng.randrange(len(data))] = rng.choice((0, 0x7F, 0x80, 0xC0, 0xDF, 0xFF))
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        again = another(model)
        try:
            checkpoints.resume(bytes(data), "t", 9, again)
        except (TraceError, UsageError):
            refused += 1
            continue
        again.state()
        go_on(again.vm)
    assert refused > 100


def test_a_number_that_claims_much_allocates_nothing():
    for head in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        raw = b"\x81\xa5state" + head
        tracemalloc.start()
        try:
            with pytest.raises(PayloadError):
                checkpoints.load(raw)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000  # msgpack's own buffer
        finally:
            tracemalloc.stop()
    with pytest.raises(PayloadError, match="there must be at most"):
        checkpoints.load(bytes((4 << 20) + 1))


# -- what it is of


def small(family="qemu-7.2.22", **header):
    return model_of(Header(**{"cpus": 2} | header), find(family)[0])


def test_a_checkpoint_of_another_family_is_told():
    raw = checkpoints.snapshot(small(), 0, Standing())
    with pytest.raises(UsageError, match=r"of qemu-7\.2\.22: a model of kvm cannot go on from it"):
        checkpoints.resume(raw, "t", 0, small("linux-6.1.192"))


@pytest.mark.parametrize(
    ("first_seq", "cpus", "message"),
    [
        (1, 2, "it is of event 0, the trace begins with 1"),
        (0, 3, "it has 2 CPUs, the trace 3"),
    ],
)
def test_a_checkpoint_of_something_else_wrong(first_seq, cpus, message):
    raw = checkpoints.snapshot(small(), 0, Standing())
    with pytest.raises(DamagedTrace, match=message):
        checkpoints.resume(raw, "t", first_seq, small(cpus=cpus))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "more": 1}, "checkpoint format 2: use a newer itstrace"),
        ({"version": 9}, "a state of qemu in version 9, this itstrace has 1: use the one"),
    ],
)
def test_a_checkpoint_of_another_itstrace_is_called_so(changes, message):
    plain = plain_of(checkpoints.snapshot(small(), 0, Standing())) | changes
    with pytest.raises(NewerTrace, match=message):
        checkpoints.resume(msgpack.packb(plain), "t", 0, small())


def test_a_state_too_large_for_a_checkpoint_is_told():
    model = small(guest_ram="complete")
    model.vm.ram.store_bytes(0, b"\1" * (4 << 20))
    with pytest.raises(UsageError, match=r"a checkpoint at most 4194304"):
        checkpoints.snapshot(model, 0, Standing())


def test_a_target_without_such_a_state_is_told():
    with pytest.raises(UsageError, match="real has no state"):
        checkpoints.snapshot(SimpleNamespace(name="real"), 0, Standing())
