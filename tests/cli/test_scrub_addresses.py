"""`itstrace scrub --move-addresses`: no address of before is left, and nothing is judged otherwise."""

from __future__ import annotations

import json
import random
import secrets
import struct

import pytest

from replay import cli
from replay.addresses import POINTERS
from replay.judge import judge_file
from replay.moving import Survey, Unmovable
from tests.support.captures import TRACES
from tests.support.scenarios import SCENARIOS
from tracer.events import KINDS, fields_of
from tracer.log.codec import pack_events
from tracer.log.opening import open_trace

BUGS = TRACES / "bugs"
CAPTURES = [
    "qemu-7.2.22-linux-6.1-two-boots.log",
    "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz",
]
HAND_MADE = [
    BUGS / "F4/F4-life.itstrace",
    *(SCENARIOS / f"{name}.its.txt" for name in (
        "S06-K17-F3-mapd-unmap-leaves-its-entry", "S07-K18-discard-leaves-its-entry", "Q7-movall",
        "K10-save-pending-reads-the-wrong-table",
    )),
    TRACES / "qemu-7.2.22-bare-metal-probed.itstrace",
]  # fmt: skip
PAGE = 0xFFFF_FFFF_F000  # bits 47:12, where most layouts have an address in place


def scrub(trace, out, *options):
    return cli.main(["scrub", str(trace), "-o", str(out), "--move-addresses", *options])


def read(path):
    with open_trace(str(path)) as reader:
        return reader.header, [event for _, events in reader for event in events]


def numbers(events):
    """Yield every number of an event that could be an address: the fields, and RAM by doublewords."""
    for event in events:
        values = fields_of(event)
        for name, value in values.items():
            if name == "data":
                aligned = range(-values["gpa"] % 8, len(value) - 7, 8)
                yield from (int.from_bytes(value[at : at + 8], "little") for at in aligned)
            elif isinstance(value, int) and not (
                name == "value" and values.get("offset", 0) % 8 == 4
            ):
                yield value  # the high half of a register holds no address below 4 GiB


def addresses(events, low, high):
    """Return what lies between `low` and `high`, in place or as KVM and QEMU store it in an entry."""
    found = set()
    for number in numbers(events):
        kvm, qemu = (number & (1 << 49) - 32) << 3, (number >> 6 & (1 << 44) - 1) << 8
        stored = (kvm,) if number >> 63 else (qemu,) if number & 1 else ()
        found |= {each for each in (number & PAGE, *stored) if low <= each < high}
    return found


def imported(name, folder):
    trace = folder / "captured.itstrace"
    ram = ("--ram", "0x40000000:0x40000000")
    assert cli.main(["import", str(TRACES / name), "-o", str(trace), *ram]) == 0
    return trace


@pytest.mark.parametrize("trace", [*CAPTURES, *HAND_MADE], ids=str)
def test_no_address_is_left_and_the_verdict_is_the_same(trace, tmp_path, monkeypatch, capsys):
    trace = imported(trace, tmp_path) if isinstance(trace, str) else trace
    out = tmp_path / "out.itstrace"
    monkeypatch.setattr(secrets, "randbelow", lambda count: count - 1)  # as far up as it goes
    assert scrub(trace, out) == 0
    assert "addresses   all moved by one distance; judged as before" in capsys.readouterr().out
    header, before = read(trace)
    after = read(out)[1]
    ranges = [(base, base + size) for base, size in header.ram_ranges if base]
    old = sorted(set().union(*(addresses(before, *each) for each in ranges)))
    assert len(old) >= 4
    assert min(addresses(after, *ranges[0])) > max(old)
    assert addresses(after, min(old), max(old) + 1) == set()
    assert len(before) == len(after)
    first, second = judge_file(str(trace)), judge_file(str(out))
    assert (first.word, first.signatures) == (second.word, second.signatures)


def test_moved_and_moved_back_is_as_it_was(tmp_path, monkeypatch):
    there, back = tmp_path / "there.itstrace", tmp_path / "back.itstrace"
    life = BUGS / "F3/F3-life.itstrace"
    monkeypatch.setattr(secrets, "randbelow", lambda count: count - 1)
    assert scrub(life, there) == 0
    assert read(there)[1] != read(life)[1]
    steps = []
    monkeypatch.setattr(secrets, "randbelow", lambda count: steps.append(count) or 0)
    assert scrub(there, back) == 0
    assert steps
    first = [fields_of(event) for event in read(life)[1]]
    again = [fields_of(event) for event in read(back)[1]]
    far = [two["gpa"] - one["gpa"] for one, two in zip(first, again, strict=True) if "data" in one]
    assert len(set(far)) == 1  # all by one distance, whatever lies there


def test_commands_in_the_queue_are_moved_whole_or_in_pieces(tmp_path):
    lines = [
        '# profile: "qemu-7.2.22-gicv4"', "# ram_ranges: [[1073741824, 16777216]]",
        ". +0 reg.write offset=0x80 value=0x8000000040010000",
        ". +0 mem.write gpa=0x40010000 data=VMAPP(vpt_size=0xf,vpt_addr=0x40050000,v=0x1)",
        ". +0 mem.write gpa=0x40010020 data=MAPD(itt_addr=0x40040100)",
        ". +0 mem.write gpa=0x40010050 data=u64(0x40060200)",  # the third doubleword of the third
        ". +0 mem.write gpa=0x40010058 data=u64(0x40060200)",
    ]  # fmt: skip
    trace, out = tmp_path / "t.its.txt", tmp_path / "out.itstrace"
    trace.write_text("\n".join(["# itstrace: 1", *lines, ""]))
    assert scrub(trace, out) == 0
    written = [fields_of(event) for event in read(out)[1]][1:]
    by = written[0]["gpa"] - 0x4001_0000
    assert by % 0x1_0000 == 0
    assert by
    words = [struct.unpack(f"<{len(each['data']) // 8}Q", each["data"]) for each in written]
    assert words[0][3] & ~0xFFFF == 0x4005_0000 + by
    assert words[1][2] == 0x4004_0100 + by
    assert words[2:] == [(0x4006_0200 + by,), (0x4006_0200,)]


NUMBERS = (0, 1, 8, 0x70, 0x80, 0x100, 0x4010_0000, 0x8000_0000_4030_0000, 1 << 40, (1 << 64) - 1)


def other(event, rng):
    """Return an event with another number in one of its fields."""
    at = rng.randrange(1, len(event))
    form = KINDS[event[0]].fields[at - 2].form if at > 1 else None
    if form not in ("hex", "dec") or event[at] is None:
        return event
    return (*event[:at], rng.choice(NUMBERS), *event[at + 1 :])


@pytest.mark.parametrize("family", sorted(POINTERS))
def test_whatever_the_events_are_they_are_moved_or_refused(family):
    rng = random.Random(family)
    life = [event for path in HAND_MADE for event in read(path)[1]]
    moved = 0
    for _ in range(60):
        events = [other(event, rng) for event in rng.sample(life, 80)]
        survey = Survey(
            [[0x4000_0000, 0x8000_0000], [1 << 40, 1 << 42]][: rng.choice((1, 2))], family
        )
        try:
            survey.find_queues(events)
            for event in events:
                survey.walk()(event)
            move = survey.move(survey.distances())
            made = [move(event) for event in events]
        except Unmovable:
            continue
        pack_events(0, made)
        assert [event[0] for event in made] == [event[0] for event in events]
        moved += 1
    assert moved >= 5


LIFE = """\
# itstrace: 1
# profile: "linux-5.10.223"
# cpus: 1
# ram_ranges: [[1073741824, 8388608]]
# guest_ram: "complete"
. +0 reg.write offset=0x100 value=0x8000000040020000 origin=vmm
. +0 reg.write offset=0x108 value=0x8000000040030000 origin=vmm
{entry}
. +0 mem.write gpa=0x40040000 data=u64(0x10000)
. +0 restore
. +0 attr.result cause=1 errno=-22
"""
DTE = 1 << 63 | 0x4004_0000 >> 3 | 3


def life(tmp_path, *lines):
    """Return a restore of a device whose event has an INTID that is no LPI: -EINVAL."""
    path = tmp_path / "life.its.txt"
    path.write_text(LIFE.format(entry="\n".join(lines)))
    return path


def test_a_pointer_that_is_not_seen_as_one_shows_when_the_traces_are_judged(tmp_path, capsys):
    data = DTE.to_bytes(8, "little").hex()
    whole = life(tmp_path, f". +0 mem.write gpa=0x40020000 data={data}")
    assert scrub(whole, tmp_path / "whole.itstrace") == 0
    capsys.readouterr()
    halves = life(
        tmp_path, f". +0 mem.write gpa=0x40020000 data={data[:8]}",
        f". +0 mem.write gpa=0x40020004 data={data[8:]}",
    )  # fmt: skip
    out = tmp_path / "halves.itstrace"
    assert scrub(halves, out) == 2
    assert capsys.readouterr().err.endswith("the verdict would be another\n")
    assert not out.exists()


PROFILE = '# profile: "linux-6.1.192"'
RESET = "0 +0 reset how=power_on"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([PROFILE, RESET], "does not say where guest RAM is: give --ram"),
        (["# ram_ranges: [[1073741824, 65536]]", RESET], "does not say what wrote it: give --profile"),
        ([PROFILE, "# ram_ranges: [[1073741824, 65536]]", "0 +0 mem.write gpa=0x40000000 data=00"],
         "all of a stretch of RAM is used"),
        ([PROFILE, "# ram_ranges: [[1073741824, 1048576]]", "0 +0 digest state=00"],
         "nobody knows those of a digest event"),
        ([PROFILE, "# ram_ranges: [[1073741824, 8589934592]]",
          "0 +0 reg.write offset=0x80 value=0x40000000 size=4"], "half of a register that holds one was accessed"),
    ],
)  # fmt: skip
def test_what_cannot_be_moved_is_refused_and_leaves_nothing(lines, message, tmp_path, capsys):
    trace, out = tmp_path / "t.its.txt", tmp_path / "out.itstrace"
    trace.write_text("\n".join(["# itstrace: 1", *lines, ""]))
    assert scrub(trace, out) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_json_says_whether_they_were_moved(tmp_path, capsys):
    out = tmp_path / "out.itstrace"
    assert scrub(HAND_MADE[0], out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["addresses_moved"] is True
    assert cli.main(["scrub", str(HAND_MADE[0]), "-o", str(out), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["addresses_moved"] is False
