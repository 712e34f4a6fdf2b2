"""Kernel trace text as events: two real captures, the three tools' forms, each trap, hostile input."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import subprocess
import sys
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from replay import cli
from replay.engine import Engine
from replay.profiles import find
from replay.tally import Tally
from replay.targets.kvm_model import KvmModel
from replay.verify import verify
from tests.support.ftrace_text import (
    INIT,
    SHOWN_INIT,
    asked,
    back,
    cmd,
    got,
    msi,
    record,
    shown,
    split,
    take,
    told,
    without_times,
    write,
)
from tracer.errors import SourceError
from tracer.events import Event, fields_of, kind_name
from tracer.log.checks import check_events
from tracer.log.header import Header
from tracer.log.stream import Reader, Writer
from tracer.sources import ftrace, qemu_log, vectors
from tracer.sources.ftrace_order import MAX_WAITING
from tracer.sources.ftrace_vms import Vms
from tracer.sources.lines import MAX_LINE_BYTES
from tracer.sources.stats import Stats

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "traces"
LINUX = TRACES / "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz"
UNIT_TEST = TRACES / "kvm-6.1.192-kvm-unit-tests-its-trigger.ftrace.txt.gz"
each_capture = pytest.mark.parametrize("path", [LINUX, UNIT_TEST], ids=["linux", "unit-test"])


@cache
def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def imported(data: bytes) -> tuple[list[Event], Stats]:
    """Return the events of a text with one VM or none, also when nothing of them is an ITS's."""
    vms, found = split(data)
    assert len(found) <= 1
    held = [event for vm in vms.known.values() for event in vm.held]
    return [event for _, events in found.values() for event in events] or held, vms.stats


def reader_of(text: str | bytes) -> Reader:
    _, found = split(text.encode() if isinstance(text, str) else text)
    header, events = next(iter(found.values()), (Header(), []))
    out = io.BytesIO()
    writer = Writer(out, header, bound_ms=0)
    for event in events:
        writer.add(event)
    writer.close()
    return Reader(io.BytesIO(out.getvalue()), "the.itstrace")


def replayed(text: str) -> tuple[Engine, Tally, KvmModel]:
    reader = reader_of(text)
    model = KvmModel(reader.header, find("linux-6.1.192")[0])
    engine = Engine(reader, model, invariants=True)
    return engine, engine.run(), model


def story(text: str, wanted: str) -> Stats:
    """Import the records and compare with events without times."""
    events, stats = imported(text.encode())
    check_events(events)
    assert without_times(events) == textwrap.dedent(wanted).strip().splitlines()
    return stats


# --- real captures, counted a second way


def accesses(text: str, how: str) -> Counter[str]:
    """Count accesses by device, by nothing but str methods."""
    lpi_registers = (0x0, 0x70, 0x78, 0xA0, 0xB0, 0xC0)
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if f"kvm_mmio: mmio {how} " not in line:
            continue
        gpa = int(line.split(" gpa ")[1].split()[0], 16)
        if 0x8080000 <= gpa < 0x80A0000:
            found["reg"] += 1
        elif gpa == 0x8000000:
            found["gicd"] += 1
        elif 0x80A0000 <= gpa < 0x8120000 and gpa % 0x20000 in lpi_registers:
            found["gicr"] += 1
    return found


@each_capture
def test_counts_are_what_grep_counts(path: Path) -> None:
    text = text_of(path)
    reads, writes = accesses(text, "read"), accesses(text, "write")
    want = Counter(
        {
            **{f"{name}.read": count for name, count in reads.items()},
            **{f"{name}.write": count for name, count in writes.items()},
            "command": text.count(": cmd: (vgic_its_process_commands+"),
            "init": text.count("group=4 attr=0x0 "),
            "save": text.count("group=4 attr=0x1 "),
            "reset": text.count("group=4 attr=0x4 "),
            "attr.set": text.count("group=0 attr=0x4 "),
            "attr.result": text.count(": set_attr_ret: "),
            "msi": text.count(": msi: "),
            "msi.result": text.count(": msi_ret: "),
            "xlat.hit": len(re.findall(r": msic_ret: .* ret=0$", text, re.MULTILINE)),
            "xlat.miss": len(re.findall(r": msic_ret: .* ret=-11$", text, re.MULTILINE)),
        }
    )
    events, stats = imported(text.encode())
    count = Counter(kind_name(event[0]) for event in events)
    count.pop("context")
    assert count == +want
    assert (stats.gap_count, stats.gaps, stats.cut_last_line) == (0, [], False)
    assert stats.lines == stats.ours + stats.skipped == text.count("\n")


def test_the_numbers_themselves() -> None:
    """The same, with numbers that `grep -c` gave once: neither side may drift."""
    for path, numbers in (
        (LINUX, {"reg.read": 59, "reg.write": 24, "command": 15, "msi": 6, "reset": 2, "save": 1}),
        (UNIT_TEST, {"reg.read": 23, "reg.write": 22, "command": 17, "reset": 1}),
    ):
        count = Counter(kind_name(event[0]) for event in imported(path.read_bytes())[0])
        assert {name: count[name] for name in numbers} == numbers


@each_capture
def test_every_command_belongs_to_the_write_that_moved_the_end_of_the_queue(path: Path) -> None:
    events = imported(path.read_bytes())[0]
    ends: dict[int, int] = {}
    for seq, event in enumerate(events):
        if kind_name(event[0]) == "command":
            f = fields_of(event)
            assert all(f[f"known{at}"] == 2**64 - 1 for at in range(4))
            ends[seq - f["cause"]] = f["queue_offset"] + 32
    for at, end in ends.items():
        cause = fields_of(events[at])
        assert (kind_name(events[at][0]), cause["offset"], cause["value"]) == (
            "reg.write",
            0x88,
            end,
        )


def test_the_save_and_both_resets_stand_where_they_happened() -> None:
    time_ns, found = 0, []
    for event in imported(LINUX.read_bytes())[0]:
        time_ns += event[1]
        if kind_name(event[0]) in ("reset", "save"):
            found.append((kind_name(event[0]), time_ns))
    assert found == [
        ("reset", 10_929_363_000),
        ("save", 20_848_781_000),
        ("reset", 23_246_550_000),
    ]


@pytest.mark.parametrize(
    ("path", "matched", "assumed"), [(LINUX, 110, 4), (UNIT_TEST, 51, 4)], ids=["linux", "unit"]
)
def test_no_output_diverges_and_what_is_assumed_is_named(
    path: Path, matched: int, assumed: int
) -> None:
    engine, tally, _ = replayed(text_of(path))
    assert tally.divergences == []
    assert (tally.matched, tally.assumed, tally.outputs) == (matched, assumed, matched + assumed)
    assert (tally.not_judged, tally.ambiguous, engine.lost, engine.violated) == (0, 0, 0, [])
    level1 = sum("level-1 entry valid" in why for _, why in tally.assumptions)
    assert level1 == (1 if path is LINUX else 0)


EDITS = {
    "reg.read": (" gpa 0x8080090 val 0x120\n", " gpa 0x8080090 val 0x100\n"),
    "gicr.read": ("read len 8 gpa 0x80a0070 val 0x425b078f", "read len 8 gpa 0x80a0070 val 0x0"),
    "gicd.read": ("gpa 0x8000000 val 0x52", "gpa 0x8000000 val 0x50"),
    "attr.result": ("vgic_its_set_attr) ret=0", "vgic_its_set_attr) ret=-22"),
    "msi.result": ("vgic_its_inject_msi) ret=1", "vgic_its_inject_msi) ret=0"),
    "xlat.miss": ("ret=-11", "ret=0"),
    "device": ("dw0=0x800000008 dw1=0x1", "dw0=0x900000008 dw1=0x1"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_one_wrong_answer_diverges(edit: str) -> None:
    old, new = EDITS[edit]
    text = text_of(LINUX)
    assert old in text
    # The last one, so that nothing before it can be to blame.
    changed = new.join(text.rsplit(old, 1)) if edit != "attr.result" else text.replace(old, new, 1)
    assert replayed(changed)[1].divergent > 0


def commands_of(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines(True)
        if "<- kvm_read_guest) dw0" in line and "process" in line
    ]


@pytest.mark.parametrize("change", ["lost", "twice"])
def test_a_command_too_few_or_too_many_diverges(change: str) -> None:
    text = text_of(LINUX)
    line = commands_of(text)[4]
    changed = text.replace(line, "" if change == "lost" else line * 2)
    assert replayed(changed)[1].divergent > 0


def test_each_reset_is_judged_by_what_linux_read_and_no_more() -> None:
    reader = reader_of(text_of(LINUX))
    resets = verify(reader, KvmModel(reader.header, find("linux-6.1.192")[0]))[0].resets
    assert [(each.how, each.word) for each in resets] == [
        ("ctrl_reset", "equal"),
        ("ctrl_reset", "unproven"),
    ]
    verified = {name for name, word in resets[0].statuses().items() if word == "verified"}
    assert verified == {"GITS_CTLR", "GITS_IIDR", "GITS_TYPER", "GITS_PIDR2"}
    assert not {"stale", "suspected"} & {w for each in resets for w in each.statuses().values()}


def test_the_state_before_the_save_is_what_the_commands_made_and_pending_is_maybe() -> None:
    reader = reader_of(text_of(LINUX))
    model = KvmModel(reader.header, find("linux-6.1.192")[0])
    Engine(reader, model).run(162)
    state = model.state()
    assert state["its"]["0"]["devices"]["0x8"]["itt_addr"] == "0x427aee00"
    assert list(state["its"]["0"]["devices"]["0x8"]["events"]) == ["0x0", "0x1", "0x2"]
    assert {intid: lpi["pending"] for intid, lpi in state["lpis"].items()} == {
        "8192": "maybe",
        "8193": "maybe",
        "8194": "maybe",
    }


def test_the_header_tells_what_the_capture_tells_and_names_what_is_guessed() -> None:
    for path, cpus in ((LINUX, 2), (UNIT_TEST, 4)):
        header = header_of(text_of(path))
        assert (header.cpus, header.its_bases, header.order) == (cpus, [0x8080000], "per_cpu")
        assert (header.guest_ram, header.profile) == ("observed", "linux-6.1.192")
        assert {"profile", "implementation_version", "command.queue_offset"} <= set(header.guessed)
        assert not {"its_bases", "cpus"} & set(header.guessed)
        assert header.starts == "power_on"
    ours = record(1, got(0x8080000, 0, 4))
    seen = header_of(record(1, got(0x80C0000, 6, 4)) + ours)
    assert (seen.cpus, "cpus" in seen.guessed) == (2, True)
    alone = header_of(ours)
    assert (alone.cpus, alone.its_bases, alone.starts) == (None, [0x8080000], "running")
    assert "its_bases" in alone.guessed
    perf = header_of("# os release : 6.12.107+deb13-arm64\n" + ours)
    assert (perf.profile, "profile" in perf.guessed) == ("linux-6.12.107", False)


def header_of(text: str) -> Header:
    _, found = split(text.encode())
    ((header, _),) = found.values()
    return header


# --- without our probes


def kvm_mmio_alone(path: Path) -> str:
    return "".join(each for each in text_of(path).splitlines(True) if "kvm_mmio:" in each)


@each_capture
def test_kvm_mmio_alone_is_a_poorer_trace_that_says_so(path: Path) -> None:
    events, stats = imported(kvm_mmio_alone(path).encode())
    gaps = [fields_of(each)["reason"] for each in events if kind_name(each[0]) == "source.gap"]
    assert gaps == [
        "what the VMM did to the ITS is not shown: there is no record of set_attr",
        "commands ran that are not shown: there is no record of cmd",
    ]
    assert stats.gap_count == 0
    engine, tally, model = replayed(kvm_mmio_alone(path))
    assert tally.divergences == []
    assert tally.outputs == sum(64 <= event[0] < 128 for event in events)
    assert engine.lost == 2
    assert model.vm.state.blind


def test_what_unseen_mappings_answer_is_assumed_and_a_reset_ends_that() -> None:
    text = text_of(LINUX)
    for line in commands_of(text):
        text = text.replace(line, "")
    _, tally, model = replayed(text)
    assert tally.divergent == 0
    # 6 MSIs with two answers each, and the save.
    assert sum("without being shown" in why for _, why in tally.assumptions) == 13
    assert not model.vm.state.blind


# --- the three writers, and the head of a record


def as_trace_cmd(text: str) -> str:
    head = re.compile(r"(?m)^ qemu-system-aar-([0-9]+) +\[([0-9]+)\] \S+ +([0-9.]+): (\S+): ")
    return "cpus=2\n" + head.sub(r"     CPU 0/KVM-\1  [\2]    \3: \4:             ", text)


def as_perf(text: str) -> str:
    head = re.compile(r"(?m)^ qemu-system-aar-([0-9]+) +\[([0-9]+)\] \S+ +([0-9.]+): (\S+): ")
    grouped = head.sub(r"CPU 0/KVM 183/\1 [\2]   \3:    its:\4: ", text)
    return grouped.replace("its:kvm_mmio", "kvm:kvm_mmio")


def with_tgid(text: str) -> str:
    return re.sub(r"(?m)^( qemu-system-aar-[0-9]+) +\[", r"\1  (    180) [", text)


def with_nanoseconds(text: str) -> str:
    return re.sub(r"(?m)( [0-9]+\.[0-9]{6}): ", r"\g<1>000: ", text)


@pytest.mark.parametrize("form", [as_trace_cmd, as_perf, with_tgid, with_nanoseconds])
@each_capture
def test_every_tools_form_gives_the_same_events(path: Path, form) -> None:  # type: ignore[no-untyped-def]
    text = text_of(path)
    changed = form(text)
    assert changed != text
    assert ftrace.recognise(changed.encode()[:4096])
    events, stats = imported(changed.encode())
    assert events == imported(text.encode())[0]
    assert stats.gap_count == 0


@pytest.mark.parametrize("comm", ["CPU 0/KVM", "a-b 12", "x", "<...>", "vhost-183", "[000] 1.0:"])
def test_a_tasks_name_may_be_anything(comm: str) -> None:
    events, _ = imported(record(1.5, INIT[0], thread=4711, cpu=12, comm=comm).encode())
    assert shown(events) == ["+1500000000 context cpu=12 thread=4711", "+0 init"]


TOOLS = {
    "tracefs": "kvm-6.1.192-linux-6.1-boot.tracefs.txt.gz",
    "trace-cmd": "kvm-6.1.192-linux-6.1-boot.trace-cmd.txt.gz",
    "perf": "kvm-6.1.192-linux-6.1-boot.perf.txt.gz",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_really_wrote_of_a_boot_replays_without_a_divergence(tool: str) -> None:
    text = text_of(TRACES / TOOLS[tool])
    events, stats = imported(text.encode())
    count = Counter(kind_name(event[0]) for event in events)
    assert stats.gap_count == 0
    # Each fetch of 32 bytes is a command here, counted by nothing but its text.
    assert count["command"] == len(re.findall(r"\brd: .* len=32 ", text)) == 23
    assert (count["save"], count["reset"], count["save_pending"], count["create"]) == (1, 1, 1, 1)
    assert count["xlat.hit"] + count["xlat.miss"] == len(re.findall(r"\bmsic: +\(", text))
    engine, tally, _ = replayed(text)
    assert tally.divergences == []
    assert tally.matched > 400
    assert (tally.not_judged, engine.lost, engine.violated) == (0, 0, [])
    header = header_of(text)
    assert (header.cpus, header.its_bases, header.starts) == (2, [0x8080000], "power_on")
    assert not {"its_bases", "gicd_base", "gicr_base", "cpus"} & set(header.guessed)


def test_a_text_of_perf_without_its_guests_part_says_that_records_are_missing() -> None:
    """perf script leaves out what the kernel marks as the guest's, unless it is told otherwise."""
    text = text_of(TRACES / TOOLS["perf"])
    rest = "".join(each for each in text.splitlines(True) if "[guest/" not in each)
    engine, tally, _ = replayed(rest)
    assert (tally.divergent, engine.lost) == (0, 1)
    told = [each for each in without_times(imported(rest.encode())[0]) if "reason=" in each]
    assert told == [
        'loss reason="records are missing: interrupts come through an ITS that no guest set up"'
    ]


def test_trace_cmd_prints_callers_as_addresses_and_then_no_record_is_a_command() -> None:
    address = cmd(1, 2, 3, 4, caller="ffff800080123456")
    stats = story(
        told([write(0x8080000, 1, 4), write(0x8080088, 0x20), address, address]),
        SHOWN_INIT
        + """reg.write offset=0x0 value=0x1 size=4
reg.write offset=0x88 value=0x20
source.gap reason="which records are commands is not shown: callers are addresses"
source.gap reason="commands ran that are not shown: there is no record of cmd"
""",
    )
    assert stats.skipped == 2


# --- the queue


def test_offsets_are_counted_back_from_the_end_of_the_queue_and_wrap() -> None:
    story(
        told(
            [
                write(0x8080080, 0x8000000040000000),
                write(0x8080000, 1, 4),
                write(0x8080088, 0xFE0),
                *[cmd(5, 0, 0, at) for at in range(2)],
                write(0x8080088, 0x20),
                *[cmd(5, 0, 0, at) for at in range(2)],
            ]
        ),
        SHOWN_INIT
        + """reg.write offset=0x80 value=0x8000000040000000
reg.write offset=0x0 value=0x1 size=4
reg.write offset=0x88 value=0xfe0
command cause=1 queue_offset=0xfa0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0
command cause=2 queue_offset=0xfc0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x1
reg.write offset=0x88 value=0x20
command cause=1 queue_offset=0xfe0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0
command cause=2 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x1
""",
    )


def test_a_write_of_ctlr_runs_what_was_queued_and_so_does_the_vmms() -> None:
    enable = "set_attr: (vgic_its_set_attr+0x0/0x380) flags=0 group=8 attr=0x0 uaddr=0x1 val=0x1"
    story(
        told(
            [
                write(0x8080088, 0x20),
                write(0x8080000, 1, 4),
                cmd(5, 0, 0, 0),
                enable,
                cmd(5, 0, 0, 1),
                back("set_attr_ret", 0),
            ]
        ),
        SHOWN_INIT
        + """reg.write offset=0x88 value=0x20
reg.write offset=0x0 value=0x1 size=4
command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0
reg.write offset=0x0 value=0x1 origin=vmm
command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x1
attr.result cause=2 errno=0
""",
    )


def test_records_of_other_callers_are_no_commands() -> None:
    others = ("update_lpi_config", "vgic_its_check_id", "vgic_v3_save_pending_tables")
    stats = story(told(cmd(1, 2, 3, 4, caller=f"{each}+0x1/0x2") for each in others), SHOWN_INIT)
    assert (stats.skipped, stats.gap_count) == (3, 0)


def test_a_command_without_its_write_is_kept_with_no_cause() -> None:
    story(
        told([cmd(5, 0, 0, 0)]),
        SHOWN_INIT + "command cause=0 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0",
    )


# --- reads, attributes, MSIs


def test_a_read_that_kvm_did_not_answer_is_none() -> None:
    story(
        told([asked(0x8080008), asked(0x8080000, 4), got(0x8080000, 0x80000000, 4)]),
        SHOWN_INIT + "reg.read offset=0x0 value=0x80000000 size=4",
    )


def test_the_address_of_the_its_is_the_one_that_the_vmm_set() -> None:
    place = (
        "set_attr: (vgic_its_set_attr+0x0/0x380) flags=0 group=0 attr=0x4 uaddr=0x1 val=0x9080000"
    )
    text = told([place, back("set_attr_ret", 0), write(0x9080088, 0), write(0x8080088, 0x20)])
    stats = story(
        text,
        SHOWN_INIT
        + """attr.set device=its group=0 attr=0x4 value=0x9080000
attr.result cause=1 errno=0
reg.write offset=0x88 value=0x0
""",
    )
    assert stats.skipped == 1
    assert header_of(text).its_bases == [0x9080000]


def test_attributes_by_what_they_are() -> None:
    prefix = "set_attr: (vgic_its_set_attr+0x0/0x380) flags=0"
    story(
        told(
            [
                f"{prefix} group=4 attr=0x1 uaddr=0x0 val=0x0",
                "save: (vgic_its_save_tables_v0+0x0/0x4bc)",
                back("set_attr_ret", -14),
                "restore: (vgic_its_restore_tables_v0+0x0/0x4bc)",
                f"{prefix} group=4 attr=0x2",
                back("set_attr_ret", 0xFFFFFFEA),
                f"{prefix} group=8 attr=0x80 uaddr=0x1 val=(fault)",
                f"{prefix} group=4 attr=0x9",
            ]
        ),
        SHOWN_INIT
        + """save
attr.result cause=1 errno=-14
restore
restore
attr.result cause=1 errno=-22
attr.set device=its group=8 attr=0x80
attr.set device=its group=4 attr=0x9
""",
    )


def test_an_msi_that_both_paths_see_is_one() -> None:
    cached = [msi("msi"), msi("msic"), back("msic_ret", 0), back("msi_ret", 1)]
    slow = [msi("msi"), msi("msic"), back("msic_ret", -11), back("msi_ret", 0)]
    story(
        told([*cached, *slow]),
        SHOWN_INIT
        + """msi device_id=0x8 event_id=0x2 doorbell=0x8090040 path=ioctl
xlat.hit cause=1 device_id=0x8 event_id=0x2
msi.result cause=2 result=1
msi device_id=0x8 event_id=0x2 doorbell=0x8090040 path=ioctl
xlat.miss cause=1 device_id=0x8 event_id=0x2
msi.result cause=2 result=0
""",
    )


def test_an_irqfds_hit_is_an_msi_and_its_miss_is_the_workers() -> None:
    text = record(1, msi("msic"), comm="vhost-1") + record(
        1.001, back("msic_ret", 0), comm="vhost-1"
    )
    text += record(2, msi("msic"), comm="vhost-1") + record(
        2.1, back("msic_ret", -11), comm="vhost-1"
    )
    worker = (msi("msi"), msi("msic"), back("msic_ret", -11), back("msi_ret", 1))
    for at, each in enumerate(worker):
        text += record(3 + at / 100, each, thread=9, cpu=1, comm="kworker/1:2")
    story(
        text,
        """
        context cpu=0 thread=7
        msi device_id=0x8 event_id=0x2 doorbell=0x8090040 path=irqfd
        xlat.hit cause=1 device_id=0x8 event_id=0x2
        msi.result cause=2 result=1
        xlat.miss cause=0 device_id=0x8 event_id=0x2
        context cpu=1 thread=9
        msi device_id=0x8 event_id=0x2 doorbell=0x8090040 path=worker
        xlat.miss cause=1 device_id=0x8 event_id=0x2
        msi.result cause=2 result=1
        """,
    )


def test_an_interrupt_in_a_write_does_not_take_its_commands() -> None:
    story(
        told(
            [
                write(0x8080000, 1, 4),
                write(0x8080088, 0x20),
                msi("msic"),
                back("msic_ret", 0),
                cmd(5, 0, 0, 0),
            ]
        ),
        SHOWN_INIT
        + """reg.write offset=0x0 value=0x1 size=4
reg.write offset=0x88 value=0x20
command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0
msi device_id=0x8 event_id=0x2 doorbell=0x8090040 path=irqfd
xlat.hit cause=1 device_id=0x8 event_id=0x2
msi.result cause=2 result=1
""",
    )


def test_an_msi_to_another_doorbell_is_another_devices() -> None:
    elsewhere = [msi("msi", addr=0x8010040), msi("msic", addr=0x8010040)]
    stats = story(told([*elsewhere, back("msic_ret", -11), back("msi_ret", -19)]), SHOWN_INIT)
    assert stats.gap_count == 0


# --- order


def overlapping(value: int) -> str:
    """A write of CWRITER whose command still runs while another vCPU reads CREADR."""
    text = "".join(record(1 + at / 10**3, each) for at, each in enumerate(INIT))
    text += record(2, write(0x8080100, 0x8107000040010000)) + record(
        2.1, write(0x8080108, 0x8407000040020000)
    )
    text += record(2.2, write(0x8080080, 0x8000000040030000)) + record(2.3, write(0x8080000, 1, 4))
    text += record(3, write(0x8080088, 0x20))
    text += record(3.000001, asked(0x8080090), thread=8, cpu=1)
    text += record(3.000002, cmd(5, 0, 0, 0))
    text += record(3.000003, got(0x8080090, value), thread=8, cpu=1)
    return text + record(4, asked(0x8080090)) + record(4.1, got(0x8080090, 0x20))


@pytest.mark.parametrize("value", [0, 0x20])
def test_what_overlaps_is_ambiguous_whatever_it_shows(value: int) -> None:
    events, _ = imported(overlapping(value).encode())
    contexts = [fields_of(each) for each in events if kind_name(each[0]) == "context"]
    assert [(each["thread"], each["overlap"]) for each in contexts] == [
        (7, 0),
        (7, 1),
        (8, 1),
        (7, 0),
    ]
    _, tally, _ = replayed(overlapping(value))
    assert (tally.ambiguous, tally.divergent, tally.matched) == (2, 0, 2)


def test_a_wrong_read_that_overlaps_nothing_diverges() -> None:
    text = overlapping(0).replace("thread=8", "").replace("KVM-8 ", "KVM-7 ")
    assert replayed(text)[1].divergent > 0


def test_an_input_that_never_ends_holds_up_others_for_a_while_only() -> None:
    vms = Vms()
    vms.take(record(1, INIT[0]).strip("\n").encode())
    waiting = vms.known["vm"].log._order._waiting
    for at in range(3 * MAX_WAITING):
        vms.take(record(1.1, write(0x8080100, at), thread=8).strip("\n").encode())
        assert len(waiting) <= MAX_WAITING + 1
    vms.take(record(30, write(0x8080100, 0), thread=8).strip("\n").encode())
    assert not waiting


# --- loss, gaps, cut lines


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("CPU:1 [LOST 5 EVENTS]", "5"),
        ("CPU:1 [LOST EVENTS]", None),
        ("CPU:0 [7 EVENTS DROPPED]", "7"),
        ("x 1 [001] 1.000000: PERF_RECORD_LOST lost 9", "9"),
    ],
)
def test_lost_records_are_a_loss_in_their_place(line: str, count: str | None) -> None:
    stats = story(
        told([]) + line + "\n" + record(3, write(0x8080100, 0)),
        SHOWN_INIT
        + 'loss reason="the kernel\'s ring buffer was full"'
        + (f" count={count}" if count else "")
        + "\nreg.write offset=0x100 value=0x0",
    )
    assert stats.gap_count == 0


def test_an_overwritten_beginning_is_a_loss() -> None:
    text = text_of(LINUX).replace("written: 3123/3123", "written: 3123/4000")
    event = imported(text.encode())[0][0]
    assert (kind_name(event[0]), fields_of(event)["count"]) == ("loss", 877)


def test_a_lost_command_behind_a_loss_is_no_divergence_of_the_model() -> None:
    text = text_of(LINUX)
    line = commands_of(text)[-2]  # a MAPTI
    engine, tally, model = replayed(text.replace(line, "CPU:0 [LOST 1 EVENTS]\n"))
    assert (tally.divergent, engine.lost) == (0, 1)
    assert sum("without being shown" in why for _, why in tally.assumptions) == 13  # MSIs, save
    assert not model.vm.state.blind


BAD = [
    record(3, "kvm_mmio: mmio write len 8 gpa 0x8080088 val"),
    record(3, "kvm_mmio: mmio write len 3 gpa 0x8080088 val 0x0"),
    record(3, "kvm_mmio: mmio write len 8 gpa 0x80800880808088008 val 0x0"),
    record(3, "set_attr: (vgic_its_set_attr+0x0/0x380) flags=0 attr=0x4"),
    record(3, "set_attr: (vgic_its_set_attr+0x0/0x380) group=-4 attr=0x4"),
    record(3, "set_attr: (vgic_its_set_attr+0x0/0x380) group=99999999999999999999 attr=0x4"),
    record(3, back("set_attr_ret", "what")),
    record(3, back("set_attr_ret", "(fault)")),
    record(3, back("msic_ret", "0")),
    record(3, "cmd: vgic_its_process_commands dw0=0x1"),
    "[000] 3.000000: kvm_mmio: mmio write len 8 gpa 0x8080088 val 0x0\n",
    record(9_999_999_999, INIT[0]),
    " qemu-8 [001] d.... 3.0: kvm_mmio: mmio write len 8 gpa 0x8080088 val 0x0\n",
]


@pytest.mark.parametrize("line", BAD)
def test_a_damaged_line_of_ours_is_reported_with_its_number(line: str) -> None:
    events, stats = imported((told([]) + line).encode())
    check_events(events)
    assert kind_name(events[-1][0]) == "source.gap"
    assert fields_of(events[-1])["line"] == 3
    assert [number for number, _ in stats.gaps] == [3]
    assert stats.lines == 3


def test_a_line_longer_than_the_limit_is_a_gap() -> None:
    events, stats = imported(b"x" * (MAX_LINE_BYTES + 1) + b"\n" + told([]).encode())
    assert (kind_name(events[0][0]), stats.gap_count) == ("source.gap", 1)


@pytest.mark.parametrize("bytes_short", [1, 2, 9, 30])
def test_a_last_line_cut_in_the_middle_is_normal(bytes_short: int) -> None:
    whole = told([write(0x8080100, 0x123456789ABC)])
    events, stats = imported(whole[:-bytes_short].encode())
    assert (stats.cut_last_line, stats.gap_count) == (True, 0)
    assert without_times(events) == SHOWN_INIT.strip().splitlines()


# --- the command line


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_import_and_check_from_the_command_line(tmp_path, capsys, packed, named) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / ("c.txt.gz" if packed else "c.txt")
    source.write_bytes(LINUX.read_bytes() if packed else text_of(LINUX).encode())
    trace = tmp_path / "c.itstrace"
    option = ["--from", "ftrace"] if named else []
    assert cli.main(["import", str(source), "-o", str(trace), *option]) == 0
    capsys.readouterr()
    assert cli.main(["check", str(trace), "--profile", "linux-6.1.192", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["outputs"], found["divergent_count"]) == (114, 0)
    assert cli.main(["verify", str(trace), "--profile", "linux-6.1.192"]) == 0


@pytest.mark.parametrize("packed", [True, False])
def test_import_from_a_pipe(tmp_path, packed) -> None:  # type: ignore[no-untyped-def]
    trace = tmp_path / "c.itstrace"
    command = [sys.executable, "-c", "import sys; from replay import cli; sys.exit(cli.main())"]
    data = LINUX.read_bytes() if packed else text_of(LINUX).encode()
    done = subprocess.run(
        [*command, "import", "-", "-o", str(trace)], input=data, cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert sum(len(events) for _, events in Reader(io.BytesIO(trace.read_bytes()), "t")) == 166


def test_a_poorer_trace_says_so_in_check(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    source, trace = tmp_path / "c.txt", tmp_path / "c.itstrace"
    source.write_text(kvm_mmio_alone(LINUX))
    assert cli.main(["import", str(source), "-o", str(trace)]) == 0
    capsys.readouterr()
    cli.main(["info", str(trace), "--json"])
    assert json.loads(capsys.readouterr().out)["events"]["source.gap"] == 2
    cli.main(["check", str(trace), "--json"])
    assert json.loads(capsys.readouterr().out)["lossy"] is True


def test_the_sources_do_not_take_each_other_s_files() -> None:
    for path in (*TRACES.glob("qemu-*.log"), *(ROOT / "tests" / "vectors").glob("*/*.gz")):
        data = path.read_bytes()
        start = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)[: 1 << 18]
        assert not ftrace.recognise(start)
    for path in (LINUX, UNIT_TEST):
        start = text_of(path).encode()[: 1 << 18]
        assert ftrace.recognise(start)
        assert not qemu_log.recognise(start)
        assert not vectors.recognise(start)


# --- hostile input


def flip(rng: random.Random, lines: list[bytes], at: int) -> None:
    line = bytearray(lines[at])
    if line:
        line[rng.randrange(len(line))] ^= 1 << rng.randrange(8)
    lines[at] = bytes(line)


def cut(rng: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]


def drop(rng: random.Random, lines: list[bytes], at: int) -> None:
    del lines[at]


def twice(rng: random.Random, lines: list[bytes], at: int) -> None:
    lines.insert(at, lines[at])


def swap(rng: random.Random, lines: list[bytes], at: int) -> None:
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def thread(rng: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = re.sub(rb"-[0-9]+ ", b"-%d " % rng.randrange(5), lines[at], count=1)


def number(rng: random.Random, lines: list[bytes], at: int) -> None:
    big = rng.choice((b"0", b"ffffffffffffffff", b"8080088", b"f" * 17, b"-1", b"9" * 30))
    lines[at] = re.sub(rb"(?<=0x)[0-9a-f]+", lambda _: big, lines[at])


MUTATIONS = (flip, cut, drop, twice, swap, thread, number)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_text_gives_sound_events_or_a_documented_error(seed: int) -> None:
    rng = random.Random(seed)
    ours = [
        line
        for path in (LINUX, UNIT_TEST)
        for line in text_of(path).encode().splitlines()
        if b" 0x808" in line or b" (" in line
    ]
    kinds: Counter[str] = Counter()
    for _ in range(200):
        at = rng.randrange(len(ours) - 60)
        lines = ours[at : at + 60]
        for _ in range(rng.randrange(1, 12)):
            rng.choice(MUTATIONS)(rng, lines, rng.randrange(len(lines)))
        data = b"\n".join(lines) + b"\n" * rng.randrange(2)
        if rng.randrange(10) == 0:
            packed = bytearray(gzip.compress(data))
            packed[rng.randrange(2, len(packed))] ^= 0xFF
            data = bytes(packed)
        try:
            events, stats = imported(data)
        except SourceError:
            kinds["SourceError"] += 1
            continue
        check_events(events)
        assert len(events) <= 3 * stats.lines + 3
        kinds.update(kind_name(event[0]) for event in events)
        reader = reader_of(data)
        Engine(reader, KvmModel(reader.header, find("linux-6.1.192")[0])).run()
    assert kinds["source.gap"] > 50
    assert kinds["command"] > 50
    assert kinds["SourceError"] > 3


def test_random_bytes_are_no_events() -> None:
    rng = random.Random(5)
    for size in (0, 1, 100, 10_000):
        events, _ = imported(b"\0" + rng.randbytes(size))
        assert events == []


@pytest.mark.parametrize(
    "unit", [b" ", b"-1", b"[001] ", b"[001] d.. ", b"1 [001] 1.000000: ", b"- "]
)
def test_no_line_takes_long(unit: bytes) -> None:
    line = unit * (60_000 // len(unit))
    data = b"".join(line + b" kvm_mmio: mmio write\n" for _ in range(20))
    events, stats = imported(data)
    assert stats.lines == 20
    check_events(events)


# --- what the captures do not have


def place(base: int) -> str:
    return f"set_attr: (vgic_its_set_attr+0x0/0x380) flags=0 group=0 attr=0x4 val={base:#x}"


def test_an_address_that_comes_late_counts_from_then_on() -> None:
    records = [place(0x9080000), back("set_attr_ret", 0), write(0x9080088, 0)]
    assert kind_name(imported(told(records).encode())[0][-1][0]) == "reg.write"


def test_the_address_is_set_once_and_aligned() -> None:
    answers = [(0x9080001, -22), (0x9080000, 0), (0x9080000, -17)]
    records = [
        each for base, errno in answers for each in (place(base), back("set_attr_ret", errno))
    ]
    _, tally, _ = replayed(told(records))
    assert (tally.matched, tally.divergent) == (4, 0)
    assert replayed(told(records[2:4] * 2))[1].divergent == 1


def test_a_window_whose_only_command_is_lost_is_no_sign_of_a_missing_probe() -> None:
    text = text_of(LINUX)
    line = next(each for each in commands_of(text) if "dw0=0x800000008" in each)
    engine, tally, _ = replayed(text.replace(line, "CPU:0 [LOST 1 EVENTS]\n"))
    assert (tally.divergent, engine.lost) == (0, 1)


def test_what_never_ends_is_given_up_after_a_while() -> None:
    for seconds, given in ((2, []), (30, ["context", "init", "context", "reg.write"])):
        vms = Vms()
        found: dict[str, tuple[Header, list[Event]]] = {}
        take(found, vms.take(record(1, INIT[0]).strip("\n").encode()))
        line = record(seconds, write(0x8080100, 0), thread=8).strip("\n").encode()
        take(found, vms.take(line))
        shown = [kind_name(each[0]) for _, events in found.values() for each in events]
        assert shown == given


def test_a_read_right_behind_another_threads_write_is_ambiguous() -> None:
    text = told([]) + record(2, write(0x8080088, 0))
    text += record(2.1, write(0x8080088, 0x20)) + record(3, write(0x8080100, 0))
    late = (
        text
        + record(3.000004, asked(0x8080090), thread=8)
        + record(3.000009, got(0x8080090, 7), thread=8)
    )
    assert replayed(late)[1].ambiguous == 1
    later = (
        text + record(3.1, asked(0x8080090), thread=8) + record(3.2, got(0x8080090, 7), thread=8)
    )
    assert replayed(later)[1].divergent == 1


def test_a_model_that_was_shown_no_command_knows_that_it_does_not_know() -> None:
    events, _ = imported(kvm_mmio_alone(LINUX).encode())
    out = io.BytesIO()
    writer = Writer(out, Header(cpus=2), bound_ms=0)
    for event in events:
        if kind_name(event[0]) != "source.gap":
            writer.add(event)
    writer.close()
    reader = Reader(io.BytesIO(out.getvalue()), "t")
    model = KvmModel(reader.header, find("linux-6.1.192")[0])
    Engine(reader, model).run()
    assert model.vm.state.blind
    assert all(not each["confirmed"] for each in model.state()["its"]["0"]["collections"].values())
