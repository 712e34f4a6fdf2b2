"""A VM on KVM that a trace joins in the middle of its life: unknown is not zero, and not a finding."""

from __future__ import annotations

import io
import random

import pytest

from replay.engine import Engine
from replay.profiles import find
from replay.targets.kvm_model import KvmModel
from replay.verify import verify
from tracer.log.text import TextReader

PROFILE = find("linux-6.12.117")[0]

HEADER = """\
# itstrace: 1
# source: "test"
# profile: "linux-6.12.117"
# cpus: 2
# guest_ram: "observed"
"""
RUNNING = HEADER + '# starts: "running"\n'
MSI = "msi device_id=0x8 event_id=0x1 path=ioctl\n"
RESET = "reset how=ctrl_reset origin=vmm\nattr.result cause=1 errno=0\n"
TABLES = """\
reg.write offset=0x0 value=0x0 size=4
reg.write offset=0x100 value=0x9907000040010200
reg.write offset=0x108 value=0x9c07000040020200
reg.write offset=0x80 value=0x9800000040030000
reg.write offset=0x0 value=0x1 size=4
"""


def reader(text: str, header: str = RUNNING) -> TextReader:
    body = "".join(f". +0 {each}\n" for each in text.splitlines() if each)
    return TextReader(io.StringIO(header + body))


def replayed(text: str, header: str = RUNNING) -> tuple[Engine, KvmModel]:
    trace = reader(text, header)
    model = KvmModel(trace.header, PROFILE)
    engine = Engine(trace, model, invariants=True)
    engine.run()
    return engine, model


OUTPUTS = {
    "reg.read", "gicr.read", "gicd.read", "command", "attr.result", "msi.result", "xlat.hit",
    "xlat.miss", "lpi.live", "its.live",
}  # fmt: skip


def command(offset: int, *words: int, cause: int = 1) -> str:
    return f"command cause={cause} queue_offset={offset:#x} " + " ".join(
        f"dw{at}={word:#x}" for at, word in enumerate(words)
    ) + "\n"  # fmt: skip


def mapd(device: int) -> tuple[int, ...]:
    return device << 32 | 8, 4, 1 << 63 | 0x4060_0000, 0


def mapc(icid: int, rdbase: int) -> tuple[int, ...]:
    return 9, 0, 1 << 63 | rdbase << 16 | icid, 0


def mapti(device: int, event: int, intid: int, icid: int) -> tuple[int, ...]:
    return device << 32 | 0xA, intid << 32 | event, icid, 0


PROPBASER = "gicr.write cpu=0 offset=0x70 value=0x4040000f\n"
ON = "gicr.write cpu=1 offset=0x0 value=0x1 size=4\n"
MAPPED = PROPBASER + ON + TABLES + "reg.write offset=0x88 value=0x60\n" + command(0, *mapd(8)) + command(
    0x20, *mapc(0, 1), cause=2) + command(0x40, *mapti(8, 1, 8193, 0), cause=3)  # fmt: skip


# --- registers


def test_a_register_that_nothing_showed_is_null_and_not_zero() -> None:
    _, model = replayed("")
    state = model.state()
    registers = state["its"]["0"]["registers"]
    assert {name for name, value in registers.items() if value is None} == {
        "GITS_CTLR", "GITS_CBASER", "GITS_CWRITER", "GITS_CREADR", "GITS_BASER0", "GITS_BASER1",
    }  # fmt: skip
    assert registers["GITS_TYPER"] == "0x1ef71"
    assert set(state["redistributors"]["1"].values()) == {None}
    fresh = KvmModel(reader("", HEADER).header, PROFILE).state()
    assert None not in fresh["its"]["0"]["registers"].values()
    assert None not in fresh["redistributors"]["1"].values()


@pytest.mark.parametrize(
    "read",
    [
        "reg.read offset=0x80 value=0x98000000425b000f",
        "reg.read offset=0x84 value=0x98000000 size=4",
        "reg.read offset=0x90 value=0x1e0",
        "reg.read offset=0x100 value=0xf907000042590600",
        "gicr.read cpu=1 offset=0x0 value=0x7 size=4",
        "gicr.read cpu=1 offset=0x70 value=0x425b078f",
        "gicr.read cpu=0 offset=0x7c value=0x1 size=4",
        "gicd.read offset=0x0 value=0x52",
        "gicd.read offset=0x4 value=0x7a0008",
    ],
)
def test_the_first_read_is_learned_the_same_again_matches_another_diverges(read: str) -> None:
    engine, _ = replayed(f"{read}\n{read}\n")
    first = engine.tally
    assert (first.learned, first.matched, first.divergent) == (1, 1, 0)
    at = read.index("value=") + 6
    digit = read[at + 2]
    other = f"{read[: at + 2]}{int(digit, 16) ^ 1:x}{read[at + 3 :]}"
    if int(other[at:].split(maxsplit=1)[0], 0) != int(read[at:].split(maxsplit=1)[0], 0):
        engine, _ = replayed(f"{read}\n{other}\n")
        assert (engine.tally.learned, engine.tally.divergent) == (1, 1)


def test_quiescent_is_known_when_both_ends_of_the_queue_are() -> None:
    ctlr = "reg.read offset=0x0 value=0x80000001 size=4\n"
    ends = "reg.read offset=0x88 value=0x20\nreg.read offset=0x90 value=0x20\n"
    assert replayed(ctlr + ctlr)[0].tally.learned == 2
    engine, _ = replayed(ctlr + ends + ctlr + ctlr.replace("0x8", "0x0"))
    assert (engine.tally.learned, engine.tally.matched, engine.tally.divergent) == (3, 1, 1)


def test_what_cannot_change_is_known_all_along() -> None:
    assert replayed("reg.read offset=0x8 value=0x1ef71\n")[0].tally.matched == 1
    assert replayed("reg.read offset=0x8 value=0x1ef70\n")[0].tally.divergent == 1
    assert replayed("reg.read offset=0x0 value=0x2 size=4\n")[0].tally.divergent == 1


def test_half_of_a_register_is_known_by_itself() -> None:
    half = "reg.read offset=0x104 value=0xf9070000 size=4\n"
    engine, model = replayed(half + "reg.read offset=0x100 value=0xf907000042590600\n")
    assert (engine.tally.learned, engine.tally.divergent) == (2, 0)
    assert model.state()["its"]["0"]["registers"]["GITS_BASER0"] == "0xf907000042590600"
    assert replayed(half)[1].state()["its"]["0"]["registers"]["GITS_BASER0"] is None
    wrong = half + "reg.read offset=0x100 value=0xf807000042590600\n"
    assert replayed(wrong)[0].tally.divergent == 1


def test_a_half_that_is_written_leaves_the_other_unknown() -> None:
    low = "reg.write offset=0x0 value=0x0 size=4\nreg.write offset=0x80 value=0x4003000f size=4\n"
    _, model = replayed(low)
    assert model.state()["its"]["0"]["registers"]["GITS_CBASER"] is None
    for value, divergent in ((0x980000004003000F, 0), (0x9800000040040000, 1)):
        engine, _ = replayed(f"{low}reg.read offset=0x80 value={value:#x}\n")
        assert (engine.tally.divergent, engine.tally.matched) == (divergent, 0)


def test_a_disabled_its_takes_what_is_written() -> None:
    _, model = replayed(TABLES)
    registers = model.state()["its"]["0"]["registers"]
    assert registers["GITS_BASER0"] == "0x9907000040010200"
    assert registers["GITS_CTLR"] == "0x80000001"
    assert None not in registers.values()


def test_whether_a_write_is_ignored_is_not_known_while_enabled_is_not() -> None:
    write = "reg.write offset=0x80 value=0x9800000040030000\n"
    for value in (0x9800000040030000, 0xB8000000425B000F):
        engine, _ = replayed(f"{write}reg.read offset=0x80 value={value:#x}\n")
        assert (engine.tally.learned, engine.tally.divergent) == (1, 0)
    assert replayed(write)[1].state()["its"]["0"]["registers"]["GITS_CBASER"] is None
    enabled = "reg.read offset=0x0 value=0x80000001 size=4\n"
    engine, _ = replayed(f"{enabled}{write}reg.read offset=0x80 value=0xb8000000425b000f\n")
    assert engine.tally.divergent == 0
    prop = "gicr.write cpu=0 offset=0x70 value=0x4040000f\n"
    assert replayed(prop)[1].state()["redistributors"]["0"]["GICR_PROPBASER"] is None
    off = "gicr.write cpu=0 offset=0x0 value=0x0 size=4\n"
    assert replayed(off + prop)[1].state()["redistributors"]["0"]["GICR_PROPBASER"] is not None


# --- the queue and the lists


def test_a_command_tells_that_the_its_is_enabled_and_where_its_queue_stands() -> None:
    text = "reg.write offset=0x88 value=0x1040\n"
    text += command(0x1000, *mapd(8)) + command(0x1020, *mapti(8, 1, 8193, 0), cause=2)
    text += "reg.read offset=0x90 value=0x1040\nreg.read offset=0x0 value=0x80000001 size=4\n"
    engine, model = replayed(text)
    assert (engine.tally.learned, engine.tally.divergent) == (0, 0)
    its = model.state()["its"]["0"]
    assert its["devices"]["0x8"]["events"]["0x1"] == {"intid": 8193, "icid": 0, "confirmed": False}
    assert its["collections"]["0"]["rdbase"] is None


def test_an_event_of_a_device_from_before_is_shown_with_what_is_known() -> None:
    text = "reg.write offset=0x88 value=0x1020\n" + command(0x1000, *mapti(8, 1, 8193, 0))
    its = replayed(text)[1].state()["its"]["0"]
    assert its["devices"]["0x8"]["itt_addr"] is None
    assert its["devices"]["0x8"]["eventid_bits"] is None
    assert its["devices"]["0x8"]["confirmed"] is False


@pytest.mark.parametrize("result", [1, 0, -16])
def test_what_a_mapping_from_before_answers_is_assumed_whatever_it_is(result: int) -> None:
    text = (
        MSI + f"xlat.miss cause=1 device_id=0x8 event_id=0x1\nmsi.result cause=2 result={result}\n"
    )
    engine, _ = replayed(text)
    assert (engine.tally.assumed, engine.tally.divergent) == (2, 0)
    # The same in a trace from the start: nothing is mapped, and the ITS is off.
    assert replayed(text, HEADER)[0].tally.divergent == (0 if result == -16 else 1)


def test_an_irqfd_that_asks_the_cache_alone_is_judged_where_the_cache_is_known() -> None:
    miss = "xlat.miss cause=0 device_id=0x8 event_id=0x1\n"
    assert replayed(miss)[0].tally.matched == 1
    sent = MSI + "xlat.miss cause=1 device_id=0x8 event_id=0x1\nmsi.result cause=2 result=1\n"
    assert replayed(MAPPED + sent + miss, HEADER)[0].tally.divergent == 1
    lost = 'loss reason="full"\n'
    assert replayed(MAPPED + sent + lost + miss, HEADER)[0].tally.learned == 1


def test_after_a_reset_everything_of_the_its_is_known_again() -> None:
    text = MSI + "msi.result cause=1 result=1\n" + RESET
    engine, model = replayed(text + "reg.read offset=0x0 value=0x80000000 size=4\n")
    assert (engine.tally.learned, engine.tally.divergent, engine.tally.matched) == (0, 0, 2)
    its = model.state()["its"]["0"]
    unknown = {name for name, value in its["registers"].items() if value is None}
    assert unknown == {"GITS_BASER0", "GITS_BASER1"}  # but for Valid
    assert its["devices"] == {}
    wrong = replayed(text + "reg.read offset=0x0 value=0x80000001 size=4\n")[0]
    assert wrong.tally.divergent == 1
    valid = replayed(text + "reg.read offset=0x100 value=0x9907000040010200\n")[0]
    assert valid.tally.divergent == 1
    kept = replayed(text + "reg.read offset=0x100 value=0x1907000040010200\n")[0]
    assert (kept.tally.learned, kept.tally.divergent) == (1, 0)
    after = replayed(text + MSI + "msi.result cause=1 result=1\n")[0]
    assert after.tally.divergent == 1
    assert replayed(text + MSI + "msi.result cause=1 result=-16\n")[0].tally.divergent == 0


def test_a_guest_that_gives_its_tables_up_makes_the_lists_known_too() -> None:
    empty = TABLES.replace("0x9907000040010200", "0x0").replace("0x9c07000040020200", "0x0")
    text = empty + TABLES + MSI + "msi.result cause=1 result=0\n"
    engine, model = replayed(text)
    assert (engine.tally.matched, engine.tally.assumed) == (1, 0)
    assert not model.vm.state.blind


def test_after_a_loss_a_register_may_hold_what_nothing_showed() -> None:
    lost = MAPPED + 'loss reason="full" count=3\n'
    for value in (0x60, 0x80):
        engine, _ = replayed(f"{lost}reg.read offset=0x90 value={value:#x}\n", HEADER)
        assert (engine.tally.learned, engine.tally.divergent) == (1, 0)
    gap = MAPPED + 'source.gap reason="MSIs are not shown"\n'
    assert replayed(gap + "reg.read offset=0x90 value=0x80\n", HEADER)[0].tally.divergent == 1
    again = lost + RESET + "reg.read offset=0x90 value=0x80\n"
    assert replayed(again, HEADER)[0].tally.divergent == 1


# --- listings


def listing(*rows: str, lists: int = 1) -> str:
    return (
        "\n".join([f"probe edge=begin lists={lists}", *rows, f"probe edge=end lists={lists}"])
        + "\n"
    )


def row(
    intid: int, target: int = 0, flags: int = 0x9, queued: int = -1, priority: int = 160
) -> str:
    return f"lpi.live cause=0 intid={intid} target={target} flags={flags:#x} priority={priority} queued={queued}"


def tally(text: str, header: str = HEADER) -> tuple[int, int, int]:
    found = replayed(text, header)[0].tally
    return found.matched, found.learned, found.divergent


def test_a_row_of_a_vm_that_was_joined_is_learned() -> None:
    _, model = replayed(listing(row(8192, 1, flags=0x49, queued=1)))
    assert model.state()["lpis"] == {"8192": {"pending": "set", "target": 1, "queued": 1}}
    again = listing(row(8192, 1))
    assert tally(again, RUNNING)[1:] == (1, 0)
    assert tally(again + again, RUNNING)[1:] == (1, 0)


def test_a_mapping_is_learned_from_its_row_and_then_known() -> None:
    its_row = "its.live cause=0 device_id=0x8 event_id=0x1 intid=8193 target=1 icid=3"
    engine, model = replayed(listing(its_row, lists=2) + listing(its_row, lists=2))
    assert (engine.tally.learned, engine.tally.divergent) == (1, 0)
    its = model.state()["its"]["0"]
    assert its["devices"]["0x8"]["events"]["0x1"]["intid"] == 8193
    assert its["collections"]["3"]["rdbase"] == 1
    assert (
        tally(listing(its_row, lists=2))[2] == 1
    )  # nothing of it was mapped in a trace from the start


def test_of_a_running_vms_row_only_what_is_certain_is_compared() -> None:
    base = tally(MAPPED)[0]
    for flags, queued, priority in ((0x9, -1, 160), (0x41, 1, 0), (0x1, -1, 255)):
        text = MAPPED + listing(row(8193, 1, flags=flags, queued=queued, priority=priority))
        matched, learned, divergent = tally(text)
        assert (learned, divergent) == (int((flags, priority) != (0x1, 0)), 0)
        assert matched >= base
    assert tally(MAPPED + listing(row(8193, 0)))[2] == 1  # another target
    assert tally(MAPPED + listing(row(8193, 1, flags=0x8)))[2] == 1  # another group
    assert tally(MAPPED + listing(row(8193, 1, flags=0x29)))[2] == 1  # a level
    assert tally(MAPPED + listing(row(8193, 1), row(8194, 1)))[2] == 1  # one that nothing mapped
    assert tally(MAPPED + listing())[2] == 1  # one that a mapping holds is missing


def test_configuration_that_a_listing_showed_is_certain_until_it_is_read_again() -> None:
    shown = MAPPED + listing(row(8193, 1))
    assert tally(shown + listing(row(8193, 1, priority=80)))[2] == 1
    inv = "reg.write offset=0x88 value=0x80\n" + command(0x60, 8 << 32 | 0xC, 1, 0, 0)
    assert tally(shown + inv + listing(row(8193, 1, priority=80)))[2] == 0


def test_an_lpi_that_only_a_queue_may_hold_may_be_there_or_not() -> None:
    discard = "reg.write offset=0x88 value=0x80\n" + command(0x60, 8 << 32 | 0xF, 1, 0, 0)
    sent = MSI + "xlat.miss cause=1 device_id=0x8 event_id=0x1\nmsi.result cause=2 result=1\n"
    for rows in ([], [row(8193, 1, queued=1)]):
        assert tally(MAPPED + sent + discard + listing(*rows))[2] == 0
    quiet = MAPPED + discard
    assert tally(quiet + listing())[2] == 0
    assert tally(quiet + listing(row(8193, 1, queued=1)))[2] == 1  # it was never sent


def test_a_listing_that_overlaps_a_command_is_ambiguous() -> None:
    overlap = "context cpu=0 thread=1 overlap=1\n"
    found = replayed(MAPPED + overlap + listing(row(8193, 0), row(9000, 0)), HEADER)[0].tally
    assert (found.ambiguous, found.divergent) == (2, 0)
    assert replayed(MAPPED + overlap + listing(), HEADER)[0].tally.divergent == 0


def test_pending_is_maybe_until_a_row_shows_it_and_again_when_a_vcpu_went_on() -> None:
    shown = MAPPED + listing(row(8193, 1, flags=0x49))
    assert replayed(MAPPED, HEADER)[1].state()["lpis"]["8193"]["pending"] == "maybe"
    assert replayed(shown, HEADER)[1].state()["lpis"]["8193"]["pending"] == "set"
    clear = MAPPED + listing(row(8193, 1))
    assert replayed(clear, HEADER)[1].state()["lpis"]["8193"]["pending"] == "clear"
    went_on = shown + "reg.write offset=0x88 value=0x60\n"
    assert replayed(went_on, HEADER)[1].state()["lpis"]["8193"]["pending"] == "maybe"


# --- verdicts of a VM that was joined


def test_a_reset_of_a_vm_that_was_joined_is_neither_suspected_nor_verified_unseen() -> None:
    trace = reader(RESET + "reg.read offset=0x0 value=0x80000000 size=4\n")
    found = verify(trace, KvmModel(trace.header, PROFILE))[0].resets[0].statuses()
    assert not {"stale", "suspected"} & set(found.values())
    assert {name for name, word in found.items() if word == "verified"} == {"GITS_CTLR"}


def test_an_orphan_after_the_reset_of_a_vm_that_was_joined_is_stale() -> None:
    """F1: an LPI that lives on in a queue, seen in debugfs after CTRL_RESET."""
    for rows, word in (([row(8192, 0, flags=0x49, queued=0)], "stale"), ([], "verified")):
        trace = reader(RESET + listing(*rows))
        verifier, engine = verify(trace, KvmModel(trace.header, PROFILE))
        assert verifier.resets[0].statuses()["lpis"] == word
        assert engine.tally.divergent == 0  # the kernel is as the model of it


def test_a_mapping_after_the_reset_is_stale() -> None:
    its_row = "its.live cause=0 device_id=0x8 event_id=0x1 intid=8193 target=1 icid=3"
    for rows, word in (([its_row], "stale"), ([], "verified")):
        trace = reader(RESET + listing(*rows, lists=2))
        verifier, _ = verify(trace, KvmModel(trace.header, PROFILE))
        assert verifier.resets[0].statuses()["events"] == word


# --- lives whose beginning is cut away


def life(rng: random.Random) -> list[str]:
    """Return the inputs of a life with outputs that its own model gave, of a VM from the start."""
    steps = [PROPBASER.strip(), *TABLES.splitlines()]
    steps += [f"gicr.write cpu={cpu} offset=0x0 value=0x1 size=4" for cpu in range(2)]
    at = 0
    for _ in range(30):
        words = rng.choice(
            [
                mapd(rng.randrange(3)), mapc(rng.randrange(3), rng.randrange(2)),
                mapti(rng.randrange(3), rng.randrange(4), 8192 + rng.randrange(6), rng.randrange(3)),
                (rng.randrange(3) << 32 | 0xF, rng.randrange(4), 0, 0),
                (rng.randrange(3) << 32 | 1, rng.randrange(4), rng.randrange(3), 0),
            ]
        )  # fmt: skip
        steps.append(f"reg.write offset=0x88 value={at + 32:#x}\n{command(at, *words)}".rstrip())
        at += 32
        read = rng.choice(["0x0 size=4", "0x80", "0x90", "0x100", "0x108", "0x88"])
        steps.append(f"READ {read}")
        steps.append(
            f"msi device_id={rng.randrange(3):#x} event_id={rng.randrange(4):#x} path=ioctl"
        )
    return steps


def answered(steps: list[str]) -> str:
    """Return the life as text, with the outputs that the model of a whole life gives."""
    trace = reader("", HEADER)
    model = KvmModel(trace.header, PROFILE)
    text = ""
    for step in steps:
        if step.startswith("READ"):
            offset, *size = step.removeprefix("READ ").split()
            width = 4 if size else 8
            value = model.vm.reg_read(0, int(offset, 0), width)[0]
            text += f"reg.read offset={offset} value={value:#x} size={width}\n"
            continue
        events = [event for _, each in reader(step, HEADER) for event in each]
        effects = model.apply(events[0], events[1:])
        text += step.split("\n")[0] + "\n"
        for back, effect in enumerate(effects, 1):
            text += shown_effect(effect, back)
    return text


def shown_effect(effect: tuple[int, ...], back: int) -> str:
    kind = {67: "command", 69: "msi.result", 76: "xlat.hit", 77: "xlat.miss"}.get(effect[0])
    if kind == "command":
        return command(effect[1], *effect[2:6], cause=back)
    if kind == "msi.result":
        return f"msi.result cause={back} result={effect[1]}\n"
    if kind is None:
        return ""
    return f"{kind} cause={back} device_id={effect[1]:#x} event_id={effect[2]:#x}\n"


@pytest.mark.parametrize("seed", range(12))
def test_a_life_whose_beginning_is_cut_away_never_diverges(seed: int) -> None:
    rng = random.Random(seed)
    whole = answered(life(rng))
    assert replayed_plain(whole, HEADER).divergent == 0
    inputs = [at for at, each in enumerate(whole.splitlines()) if each.split()[0] not in OUTPUTS]
    for _ in range(6):
        rest = "\n".join(whole.splitlines()[rng.choice(inputs) :]) + "\n"
        found = replayed_plain(rest, RUNNING)
        assert found.divergences == []
        assert found.outputs > 0


def replayed_plain(text: str, header: str):  # type: ignore[no-untyped-def]
    trace = reader(text, header)
    return Engine(trace, KvmModel(trace.header, PROFILE)).run()
