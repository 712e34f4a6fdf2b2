"""QEMU's trace log as events: real captures, then each trap as a transcript, then hostile input.

A transcript shows the lines of a log and, behind an empty line, the events in text form.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from tracer import events as ev
from tracer.errors import SourceError
from tracer.events import KINDS, Event, fields_of, kind_name
from tracer.its.commands import decode
from tracer.log import format as fmt
from tracer.log.checks import check_events
from tracer.log.stream import Reader, Writer
from tracer.log.text import format_event
from tracer.sources import qemu_log
from tracer.sources.lines import MAX_LINE_BYTES, LineReader
from tracer.sources.qemu_formats import PATTERNS
from tracer.sources.qemu_log import QemuLog, Stats

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "traces"
CAPTURES = sorted(TRACES.glob("qemu-7.2.22-*.log"))
TWO_BOOTS = TRACES / "qemu-7.2.22-linux-6.1-two-boots.log"
TWO_BOOTS_STAMPED = TRACES / "qemu-7.2.22-linux-6.1-two-boots.timestamps.log"
each_capture = pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)


def imported(data: bytes, name: str = "the.log") -> tuple[list[Event], Stats]:
    log = QemuLog(LineReader(io.BytesIO(data), name))
    return list(log.events()), log.stats


def shown(events: Iterable[Event]) -> list[str]:
    return [format_event(seq, event) for seq, event in enumerate(events)]


def transcript(text: str) -> Stats:
    """Import what stands before the empty line, compare with what stands behind it."""
    log, _, wanted = textwrap.dedent(text).strip("\n").partition("\n\n")
    events, stats = imported(log.encode() + b"\n")
    check_events(events)
    assert shown(events) == wanted.splitlines()
    return stats


def named(events: Iterable[Event], kind: str) -> list[dict[str, object]]:
    return [fields_of(event) for event in events if kind_name(event[0]) == kind]


# --- real captures, counted a second way


def plain_lines(path: Path) -> list[tuple[str, str]]:
    """(event name, its text) of every line, found with str methods only."""
    found = []
    for line in path.read_text().splitlines():
        stamp, colon, rest = line.partition(":")
        if colon and "@" in stamp and " " not in stamp:
            line = rest
        name, _, text = line.partition(" ")
        found.append((name, text))
    return found


def after(text: str, word: str) -> int:
    """The number behind `word`."""
    value = text.split(f"{word} ", 1)[1].split(" ", maxsplit=1)[0].rstrip(":,")
    return int(value, 0)


def test_there_are_four_captures() -> None:
    assert len(CAPTURES) == 4


@each_capture
def test_counts_are_what_grep_counts(path: Path) -> None:
    names = Counter(name for name, _ in plain_lines(path))
    resets = path.read_text().count("(arm-gicv3-its) method=")
    want = Counter(
        {
            "reset": resets,
            "reg.read": names["gicv3_its_read"] + names["gicv3_its_badread"],
            "reg.write": names["gicv3_its_write"] + names["gicv3_its_badwrite"],
            "msi": names["gicv3_its_translation_write"],
            "command": names["gicv3_its_process_command"],
            "table.read": sum(names[f"gicv3_its_{table}_read"] for table in ("dte", "cte", "ite")),
            "table.write": sum(
                names[f"gicv3_its_{table}_write"] for table in ("dte", "cte", "ite")
            ),
        }
    )
    events, stats = imported(path.read_bytes())
    got = Counter(kind_name(event[0]) for event in events)
    assert got == +want
    lines = path.read_text().count("\n")
    commands = sum(count for name, count in names.items() if name.startswith("gicv3_its_cmd_"))
    assert (stats.lines, stats.ours) == (lines, want.total() + commands)
    assert stats.skipped == lines - stats.ours
    assert (stats.gap_count, stats.gaps, stats.cut_last_line) == (0, [], False)


def test_the_numbers_themselves() -> None:
    """The same, with numbers that `grep -c` gave once: neither side may drift."""
    counts = {
        path.stem.removeprefix("qemu-7.2.22-"): len(imported(path.read_bytes())[0])
        for path in CAPTURES
    }
    assert counts == {
        "kvm-unit-tests-its-introspection": 1 + 14 + 7 + 3,
        "kvm-unit-tests-its-trigger": 1 + 23 + 22 + 17 + 9 + 6 + 6 + 3 + 2 + 2,
        "linux-6.1-two-boots": 2 + 295 + 93 + 47 + 116 + 92 + 78 + 73 + 6 + 5 + 25,
        "linux-6.1-two-boots.timestamps": 2 + 209 + 71 + 43 + 74 + 68 + 58 + 57 + 4 + 5 + 13,
    }


@each_capture
def test_every_register_access_is_there_in_order_with_its_value(path: Path) -> None:
    want = [
        (name.endswith("write"), after(text, "offset"), after(text, "data"), after(text, "size"))
        for name, text in plain_lines(path)
        if name in ("gicv3_its_read", "gicv3_its_write", "gicv3_its_badwrite")
    ]
    got = [
        (event[0] == 1, values["offset"], values["value"], values["size"])
        for event in imported(path.read_bytes())[0]
        if kind_name(event[0]) in ("reg.read", "reg.write")
        for values in [fields_of(event)]
    ]
    assert got == want


@each_capture
def test_every_table_entry_is_there_in_order_with_its_value(path: Path) -> None:
    want = []
    for name, text in plain_lines(path):
        if name in ("gicv3_its_dte_read", "gicv3_its_dte_write"):
            shift = 8 if name.endswith("write") else 0
            entry = (after(text, "size"), after(text, "ITTaddr") << shift, None)
            want.append((name, after(text, "DeviceID"), 0, after(text, "valid"), entry))
        elif name in ("gicv3_its_cte_read", "gicv3_its_cte_write"):
            entry = (after(text, "RDBase"), None, None)
            want.append((name, after(text, "ICID"), 0, after(text, "valid"), entry))
        elif name in ("gicv3_its_ite_read", "gicv3_its_ite_write"):
            entry = (after(text, "inttype"), after(text, "intid"), after(text, "ICID"))
            at = after(text, "EventID"), after(text, "ITTaddr")
            want.append((name, *at, after(text, "valid"), entry))
    # Written with V=0, an entry is zero and what is printed is the request.
    want = [
        (*row[:4], (None, None, None)) if row[0].endswith("write") and not row[3] else row
        for row in want
    ]
    got = []
    for event in imported(path.read_bytes())[0]:
        kind = kind_name(event[0])
        if kind in ("table.read", "table.write"):
            values = fields_of(event)
            name = f"gicv3_its_{ev.TABLES[event[3]]}_{kind.removeprefix('table.')}"
            entry = (values["e1"], values["e2"], values["e3"])
            got.append((name, values["index"], values["base"], values["valid"], entry))
    assert got == want


@each_capture
def test_every_command_has_the_opcode_and_the_fields_that_were_printed(path: Path) -> None:
    want = []
    for name, text in plain_lines(path):
        if name == "gicv3_its_process_command":
            index, opcode = text.split("offset ")[1].split(": ")
            want.append([int(index, 16) * 32, int(opcode, 16), {}])
        elif name.startswith("gicv3_its_cmd_"):
            words = text.split("command ")[1].split(" ")[1:]
            pairs = dict(zip(words[::2], (int(word, 0) for word in words[1::2]), strict=True))
            if "ITT_addr" in pairs:
                pairs["ITT_addr"] <<= 8
            want[-1][2] = pairs
    got = []
    for values in named(imported(path.read_bytes())[0], "command"):
        words = [cast(int, values[f"dw{at}"]) for at in range(4)]
        masks = [cast(int, values[f"known{at}"]) for at in range(4)]
        assert all(not word & ~mask for word, mask in zip(words, masks, strict=True))
        printed = want[len(got)][2]
        fields = {name: value for name, value in decode(*words)[1] if name in printed}
        got.append([values["queue_offset"], words[0] & 0xFF, fields])
    assert got == want


@each_capture
def test_every_effect_names_the_input_that_it_belongs_to(path: Path) -> None:
    events, _ = imported(path.read_bytes())
    inputs = Counter()
    for at, event in enumerate(events):
        kind = kind_name(event[0])
        if kind == "command":
            cause = events[at - event[2]]
            assert kind_name(cause[0]) == "reg.write"
            assert cause[2] in (0x0, 0x88)  # GITS_CTLR or GITS_CWRITER
            inputs["write"] += 1
        elif kind.startswith("table."):
            cause = events[at - event[2]]
            assert kind_name(cause[0]) in ("reg.write", "msi")
            between = {kind_name(each[0]) for each in events[at - event[2] + 1 : at]}
            assert between <= {"command", "table.read", "table.write"}
            inputs[kind_name(cause[0])] += 1
    assert inputs["write"] == len(named(events, "command"))


def test_the_resets_of_two_boots() -> None:
    for path in (TWO_BOOTS, TWO_BOOTS_STAMPED):
        events, _ = imported(path.read_bytes())
        how = [ev.RESET_KINDS[cast(int, reset["how"])] for reset in named(events, "reset")]
        assert how == ["power_on", "system"]
        assert events[0][0] == ev.NUMBER["reset"]


def test_times_of_the_stamped_boot_add_up_to_its_stamps() -> None:
    events, _ = imported(TWO_BOOTS_STAMPED.read_bytes())
    reads = []
    now = 0
    for event in events:
        now += event[1]
        if kind_name(event[0]) == "reg.read":
            reads.append(now)
    stamps = [
        int(line.split("@")[1].split(":")[0].replace(".", "")) * 1000
        for line in TWO_BOOTS_STAMPED.read_text().splitlines()
        if ":gicv3_its_read " in line
    ]
    assert reads == stamps
    assert any(event[1] < 0 for event in events)


def test_a_log_without_stamps_has_no_times() -> None:
    events, _ = imported(TWO_BOOTS.read_bytes())
    assert {event[1] for event in events} == {0}


# --- order


def test_a_writes_line_comes_after_the_commands_that_it_ran() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x8
        gicv3_its_cmd_mapd GICv3 ITS: command MAPD DeviceID 0x2 Size 0x7 ITT_addr 0x4026e0 V 1
        gicv3_its_dte_write GICv3 ITS: Device Table write for DeviceID 0x2: valid 1 size 0x7 ITTaddr 0x4026e0
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x1: 0x5
        gicv3_its_cmd_sync GICv3 ITS: command SYNC
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x40 size 8
        gicv3_its_read GICv3 ITS read: offset 0x90 data 0x40 size 4

        0 +0 reg.write offset=0x88 value=0x40
        1 +0 command cause=1 queue_offset=0x0 dw0=0x200000008 dw1=0x7 dw2=0x800000004026e000 dw3=0x0 known0=0xffffffff000000ff known1=0x1f known2=0x800fffffffffff00 known3=0x0
        2 +0 table.write cause=2 table=dte index=0x2 base=0x0 valid=1 e1=0x7 e2=0x4026e000
        3 +0 command cause=3 queue_offset=0x20 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        4 +0 reg.read offset=0x90 value=0x40 size=4
        """)


def test_enabling_runs_the_queue_too() -> None:
    transcript("""
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0xd
        gicv3_its_cmd_invall GICv3 ITS: command INVALL
        gicv3_its_write GICv3 ITS write: offset 0x0 data 0x1 size 4

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 reg.write offset=0x0 value=0x1 size=4
        2 +0 command cause=1 queue_offset=0x0 dw0=0xd dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        """)


def test_an_msis_line_comes_before_its_effects() -> None:
    transcript("""
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 4 requester_id 0x8
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x8: valid 1 size 0x1 ITTaddr 0x4261be00
        gicv3_its_ite_read GICv3 ITS: Interrupt Table read for ITTaddr 0x4261be00 EventID 0x1: valid 1 inttype 1 intid 0x2001 ICID 0x0 vPEID 0x0 doorbell 0x3ff
        gicv3_its_cte_read GICv3 ITS: Collection Table read for ICID 0x0: valid 1 RDBase 0x0
        gicv3_its_read GICv3 ITS read: offset 0x90 data 0x2a0 size 4

        0 +0 msi device_id=0x8 event_id=0x1 doorbell=0x10040
        1 +0 table.read cause=1 table=dte index=0x8 base=0x0 valid=1 e1=0x1 e2=0x4261be00
        2 +0 table.read cause=2 table=ite index=0x1 base=0x4261be00 valid=1 e1=0x1 e2=0x2001 e3=0x0 e4=0x0 e5=0x3ff
        3 +0 table.read cause=3 table=cte index=0x0 base=0x0 valid=1 e1=0x0
        4 +0 reg.read offset=0x90 value=0x2a0 size=4
        """)


def test_commands_behind_an_msi_are_not_the_msis() -> None:
    transcript("""
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 2 requester_id 0x8
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x8: valid 0 size 0x0 ITTaddr 0x0
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x3: 0x3
        gicv3_its_cmd_int GICv3 ITS: command INT DeviceID 0x2 EventID 0x14
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x2: valid 1 size 0x7 ITTaddr 0x4026e000
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x80 size 8

        0 +0 msi device_id=0x8 event_id=0x1 doorbell=0x10040 size=2
        1 +0 table.read cause=1 table=dte index=0x8 base=0x0 valid=0 e1=0x0 e2=0x0
        2 +0 reg.write offset=0x88 value=0x80
        3 +0 command cause=1 queue_offset=0x60 dw0=0x200000003 dw1=0x14 dw2=0x0 dw3=0x0 known0=0xffffffff000000ff known1=0xffffffff known2=0x0 known3=0x0
        4 +0 table.read cause=2 table=dte index=0x2 base=0x0 valid=1 e1=0x7 e2=0x4026e000
        """)


def test_an_msi_behind_an_msi_owns_its_own_effects() -> None:
    transcript("""
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 4 requester_id 0x8
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x8: valid 0 size 0x0 ITTaddr 0x0
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x2 size 4 requester_id 0x9
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x9: valid 0 size 0x0 ITTaddr 0x0

        0 +0 msi device_id=0x8 event_id=0x1 doorbell=0x10040
        1 +0 table.read cause=1 table=dte index=0x8 base=0x0 valid=0 e1=0x0 e2=0x0
        2 +0 msi device_id=0x9 event_id=0x2 doorbell=0x10040
        3 +0 table.read cause=1 table=dte index=0x9 base=0x0 valid=0 e1=0x0 e2=0x0
        """)


def test_effects_keep_their_own_times_so_a_delta_may_be_negative() -> None:
    transcript("""
        6337@10.000100:gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size 4
        6337@10.000200:gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x9
        6337@10.000201:gicv3_its_cmd_mapc GICv3 ITS: command MAPC ICID 0x3 RDbase 0x3 V 1
        6337@10.000205:gicv3_its_cte_write GICv3 ITS: Collection Table write for ICID 0x3: valid 1 RDBase 0x3
        6337@10.000210:gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8
        6337@10.000215:gicv3_its_read GICv3 ITS read: offset 0x90 data 0x20 size 4

        0 +10000100000 reg.read offset=0x90 value=0x0 size=4
        1 +110000 reg.write offset=0x88 value=0x20
        2 -10000 command cause=1 queue_offset=0x0 dw0=0x9 dw1=0x0 dw2=0x8000000000030003 dw3=0x0 known0=0xff known1=0x0 known2=0x80000000ffffffff known3=0x0
        3 +5000 table.write cause=2 table=cte index=0x3 base=0x0 valid=1 e1=0x3
        4 +10000 reg.read offset=0x90 value=0x20 size=4
        """)


# --- shifted addresses


def test_itt_addr_is_shifted_in_mapd_and_dte_write_but_not_in_dte_read() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x8
        gicv3_its_cmd_mapd GICv3 ITS: command MAPD DeviceID 0x1f Size 0x1f ITT_addr 0xfffffffffff V 1
        gicv3_its_dte_write GICv3 ITS: Device Table write for DeviceID 0x1f: valid 1 size 0x1f ITTaddr 0xfffffffffff
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x1f: valid 1 size 0x1f ITTaddr 0xfffffffffff00
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 command cause=1 queue_offset=0x0 dw0=0x1f00000008 dw1=0x1f dw2=0x800fffffffffff00 dw3=0x0 known0=0xffffffff000000ff known1=0x1f known2=0x800fffffffffff00 known3=0x0
        2 +0 table.write cause=2 table=dte index=0x1f base=0x0 valid=1 e1=0x1f e2=0xfffffffffff00
        3 +0 table.read cause=3 table=dte index=0x1f base=0x0 valid=1 e1=0x1f e2=0xfffffffffff00
        """)


def test_vpt_addr_is_shifted_everywhere() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x29
        gicv3_its_cmd_vmapp GICv3 ITS: command VMAPP vPEID 0x5 RDbase 0x1 V 1 VPT_addr 0x5000 VPT_size 0xf
        gicv3_its_vte_write GICv3 ITS: vPE Table write for vPEID 0x5: valid 1 VPTsize 0xf VPTaddr 0x5000 RDbase 0x1
        gicv3_its_vte_read GICv3 ITS: vPE Table read for vPEID 0x5: valid 1 VPTsize 0xf VPTaddr 0x5000 RDbase 0x1
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 command cause=1 queue_offset=0x0 dw0=0x29 dw1=0x500000000 dw2=0x8000000000010000 dw3=0x5000000f known0=0xff known1=0xffff00000000 known2=0x800fffffffff0000 known3=0xfffffffff00ff
        2 +0 table.write cause=2 table=vte index=0x5 base=0x0 valid=1 e1=0xf e2=0x50000000 e3=0x1
        3 +0 table.read cause=3 table=vte index=0x5 base=0x0 valid=1 e1=0xf e2=0x50000000 e3=0x1
        """)


def test_a_vpt_size_of_more_than_five_bits_is_printed_and_is_no_damage() -> None:
    # its.md 2.2: the field is [4:0], QEMU extracts and prints eight bits.
    events, stats = imported(
        b"gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x29\n"
        b"gicv3_its_cmd_vmapp GICv3 ITS: command VMAPP vPEID 0x5 RDbase 0x1 V 1 "
        b"VPT_addr 0x5000 VPT_size 0x2f\n"
        b"gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8\n"
    )
    assert stats.gap_count == 0
    assert [kind_name(event[0]) for event in events] == ["reg.write", "command"]


# --- VMAPTI is printed as VMAPI


def test_vmapti_and_vmapi_print_the_same_name() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x2a
        gicv3_its_cmd_vmapti GICv3 ITS: command VMAPI DeviceID 0x2 EventID 0x15 vPEID 0x5 vINTID 0x206c Dbell_pINTID 0x20d0
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x1: 0x2b
        gicv3_its_cmd_vmapi GICv3 ITS: command VMAPI DeviceID 0x2 EventID 0x2015 vPEID 0x5 Dbell_pINTID 0x3ff
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x40 size 8

        0 +0 reg.write offset=0x88 value=0x40
        1 +0 command cause=1 queue_offset=0x0 dw0=0x20000002a dw1=0x500000015 dw2=0x20d00000206c dw3=0x0 known0=0xffffffff000000ff known1=0xffffffffffff known3=0x0
        2 +0 command cause=2 queue_offset=0x20 dw0=0x20000002b dw1=0x500002015 dw2=0x3ff00000000 dw3=0x0 known0=0xffffffff000000ff known1=0xffffffffffff known2=0xffffffff00000000 known3=0x0
        """)


# --- what is known of a command


def test_invall_does_not_print_its_icid_so_it_is_unknown() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x4: 0xd
        gicv3_its_cmd_invall GICv3 ITS: command INVALL
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0xa0 size 8

        0 +0 reg.write offset=0x88 value=0xa0
        1 +0 command cause=1 queue_offset=0x80 dw0=0xd dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        """)


def test_mapc_prints_16_bits_of_rdbase_and_of_an_unmapping_none() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x9
        gicv3_its_cmd_mapc GICv3 ITS: command MAPC ICID 0xffff RDbase 0xffff V 1
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x1: 0x9
        gicv3_its_cmd_mapc GICv3 ITS: command MAPC ICID 0x3 RDbase 0x0 V 0
        gicv3_its_cte_write GICv3 ITS: Collection Table write for ICID 0x3: valid 0 RDBase 0x0
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x40 size 8

        0 +0 reg.write offset=0x88 value=0x40
        1 +0 command cause=1 queue_offset=0x0 dw0=0x9 dw1=0x0 dw2=0x80000000ffffffff dw3=0x0 known0=0xff known1=0x0 known2=0x80000000ffffffff known3=0x0
        2 +0 command cause=2 queue_offset=0x20 dw0=0x9 dw1=0x0 dw2=0x3 dw3=0x0 known0=0xff known1=0x0 known2=0x800000000000ffff known3=0x0
        3 +0 table.write cause=3 table=cte index=0x3 base=0x0 valid=0
        """)


EVENT = "DeviceID 0x12345678 EventID 0x9abcdef0"
EVENT_WORDS = "dw1=0x9abcdef0 dw2=0x0 dw3=0x0"
EVENT_KNOWN = "known0=0xffffffff000000ff known1=0xffffffff known2=0x0 known3=0x0"
OTHER_COMMANDS = {
    f"cmd_int 0x3 INT {EVENT}": f"dw0=0x1234567800000003 {EVENT_WORDS} {EVENT_KNOWN}",
    f"cmd_clear 0x4 CLEAR {EVENT}": f"dw0=0x1234567800000004 {EVENT_WORDS} {EVENT_KNOWN}",
    f"cmd_inv 0xc INV {EVENT}": f"dw0=0x123456780000000c {EVENT_WORDS} {EVENT_KNOWN}",
    f"cmd_discard 0xf DISCARD {EVENT}": f"dw0=0x123456780000000f {EVENT_WORDS} {EVENT_KNOWN}",
    f"cmd_movi 0x1 MOVI {EVENT} ICID 0xffff": (
        "dw0=0x1234567800000001 dw1=0x9abcdef0 dw2=0xffff dw3=0x0 "
        "known0=0xffffffff000000ff known1=0xffffffff known2=0xffff known3=0x0"
    ),
    f"cmd_mapi 0xb MAPI {EVENT} ICID 0x3": (
        "dw0=0x123456780000000b dw1=0x9abcdef0 dw2=0x3 dw3=0x0 "
        "known0=0xffffffff000000ff known1=0xffffffff known2=0xffff known3=0x0"
    ),
    f"cmd_mapti 0xa MAPTI {EVENT} ICID 0x3 pINTID 0x2003": (
        "dw0=0x123456780000000a dw1=0x20039abcdef0 dw2=0x3 dw3=0x0 "
        "known0=0xffffffff000000ff known2=0xffff known3=0x0"
    ),
    "cmd_movall 0xe MOVALL RDbase1 0xfffffffff RDbase2 0x2": (
        "dw0=0xe dw1=0x0 dw2=0xfffffffff0000 dw3=0x20000 "
        "known0=0xff known1=0x0 known2=0xfffffffff0000 known3=0xfffffffff0000"
    ),
    "cmd_vmovp 0x22 VMOVP vPEID 0x5 RDbase 0x2": (
        "dw0=0x22 dw1=0x500000000 dw2=0x20000 dw3=0x0 "
        "known0=0xff known1=0xffff00000000 known2=0xfffffffff0000 known3=0x0"
    ),
    f"cmd_vmovi 0x21 VMOVI {EVENT} vPEID 0x5 D 1 Dbell_pINTID 0x20d0": (
        "dw0=0x1234567800000021 dw1=0x59abcdef0 dw2=0x20d000000001 dw3=0x0 "
        "known0=0xffffffff000000ff known1=0xffffffffffff known2=0xffffffff00000001 known3=0x0"
    ),
    "cmd_vinvall 0x2d VINVALL vPEID 0x5": (
        "dw0=0x2d dw1=0x500000000 dw2=0x0 dw3=0x0 "
        "known0=0xff known1=0xffff00000000 known2=0x0 known3=0x0"
    ),
    "cmd_sync 0x5 SYNC": (
        "dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0"
    ),
    "cmd_vsync 0x25 VSYNC": (
        "dw0=0x25 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0"
    ),
}


@pytest.mark.parametrize(("line", "words"), OTHER_COMMANDS.items(), ids=OTHER_COMMANDS)
def test_the_other_commands(line: str, words: str) -> None:
    event, opcode, text = line.split(" ", 2)
    stats = transcript(
        f"gicv3_its_process_command GICv3 ITS: processing command at offset 0x7ff: {opcode}\n"
        f"gicv3_its_{event} GICv3 ITS: command {text}\n"
        "gicv3_its_write GICv3 ITS write: offset 0x88 data 0x0 size 8\n"
        "\n"
        "0 +0 reg.write offset=0x88 value=0x0\n"
        f"1 +0 command cause=1 queue_offset=0xffe0 {words}"
    )
    assert (stats.ours, stats.gap_count) == (3, 0)


def test_an_unknown_command() -> None:
    stats = transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x99
        gicv3_its_cmd_unknown GICv3 ITS: unknown command 0x99
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 command cause=1 queue_offset=0x0 dw0=0x99 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        """)
    assert stats.gap_count == 0


def test_a_command_whose_fields_are_missing_is_its_opcode_alone() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x8
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x1: 0x3
        gicv3_its_cmd_int GICv3 ITS: command INT DeviceID 0x2 EventID 0x14
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x40 size 8

        0 +0 reg.write offset=0x88 value=0x40
        1 +0 command cause=1 queue_offset=0x0 dw0=0x8 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        2 +0 command cause=2 queue_offset=0x20 dw0=0x200000003 dw1=0x14 dw2=0x0 dw3=0x0 known0=0xffffffff000000ff known1=0xffffffff known2=0x0 known3=0x0
        """)


# --- table entries


def test_an_entry_written_with_v_0_prints_the_request_and_is_zero() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x8
        gicv3_its_cmd_mapd GICv3 ITS: command MAPD DeviceID 0x2 Size 0x7 ITT_addr 0x0 V 0
        gicv3_its_dte_write GICv3 ITS: Device Table write for DeviceID 0x2: valid 0 size 0x7 ITTaddr 0x0
        gicv3_its_cte_write GICv3 ITS: Collection Table write for ICID 0x1: valid 0 RDBase 0x9
        gicv3_its_ite_write GICv3 ITS: Interrupt Table write for ITTaddr 0x4026e000 EventID 0x14: valid 0 inttype 1 intid 0x2003 ICID 0x3 vPEID 0x0 doorbell 0x3ff
        gicv3_its_vte_write GICv3 ITS: vPE Table write for vPEID 0x5: valid 0 VPTsize 0xf VPTaddr 0x5000 RDbase 0x1
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 command cause=1 queue_offset=0x0 dw0=0x200000008 dw1=0x7 dw2=0x0 dw3=0x0 known0=0xffffffff000000ff known1=0x1f known2=0x800fffffffffff00 known3=0x0
        2 +0 table.write cause=2 table=dte index=0x2 base=0x0 valid=0
        3 +0 table.write cause=3 table=cte index=0x1 base=0x0 valid=0
        4 +0 table.write cause=4 table=ite index=0x14 base=0x4026e000 valid=0
        5 +0 table.write cause=5 table=vte index=0x5 base=0x0 valid=0
        """)


def test_faults_of_all_tables() -> None:
    transcript("""
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 4 requester_id 0x8
        gicv3_its_dte_read_fault GICv3 ITS: Device Table read for DeviceID 0x8: faulted
        gicv3_its_ite_read_fault GICv3 ITS: Interrupt Table read for ITTaddr 0xffff0000 EventID 0x1: faulted
        gicv3_its_cte_read_fault GICv3 ITS: Collection Table read for ICID 0x3: faulted
        gicv3_its_vte_read_fault GICv3 ITS: vPE Table read for vPEID 0x5: faulted

        0 +0 msi device_id=0x8 event_id=0x1 doorbell=0x10040
        1 +0 table.fault cause=1 table=dte index=0x8 base=0x0
        2 +0 table.fault cause=2 table=ite index=0x1 base=0xffff0000
        3 +0 table.fault cause=3 table=cte index=0x3 base=0x0
        4 +0 table.fault cause=4 table=vte index=0x5 base=0x0
        """)


def test_a_fault_in_a_command_belongs_to_the_write() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0xc
        gicv3_its_cmd_inv GICv3 ITS: command INV DeviceID 0x2 EventID 0x14
        gicv3_its_dte_read_fault GICv3 ITS: Device Table read for DeviceID 0x2: faulted
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 command cause=1 queue_offset=0x0 dw0=0x20000000c dw1=0x14 dw2=0x0 dw3=0x0 known0=0xffffffff000000ff known1=0xffffffff known2=0x0 known3=0x0
        2 +0 table.fault cause=2 table=dte index=0x2 base=0x0
        """)


# --- registers


def test_bad_accesses() -> None:
    transcript("""
        gicv3_its_badread GICv3 ITS read: offset 0x7777 size 4: error
        gicv3_its_badwrite GICv3 ITS write: offset 0x8 data 0xa5a55a5a size 4: error
        gicv3_its_badwrite GICv3 ITS write: offset 0xffe0 data 0xffffffffffffffff size 8: error

        0 +0 reg.read offset=0x7777 value=0x0 size=4 bad=1
        1 +0 reg.write offset=0x8 value=0xa5a55a5a size=4 bad=1
        2 +0 reg.write offset=0xffe0 value=0xffffffffffffffff bad=1
        """)


def test_redistributor_lines_of_lpi_registers_are_events_and_others_are_skipped() -> None:
    stats = transcript("""
        gicv3_redist_read GICv3 redistributor 0x1 read: offset 0x0 data 0x2 size 4 secure 0
        gicv3_redist_write GICv3 redistributor 0x1 write: offset 0x70 data 0x425b078f size 8 secure 0
        gicv3_redist_write GICv3 redistributor 0x1 write: offset 0x7c data 0x40000000 size 4 secure 1
        gicv3_redist_badread GICv3 redistributor 0x0 read: offset 0xc0 size 8 secure 0: error
        gicv3_redist_badwrite GICv3 redistributor 0x0 write: offset 0x40 data 0x2001 size 8 secure 0: error
        gicv3_redist_read GICv3 redistributor 0x1 read: offset 0x8 data 0x100000000 size 8 secure 0
        gicv3_redist_write GICv3 redistributor 0x1 write: offset 0x10100 data 0xffffffff size 4 secure 0
        gicv3_redist_badwrite GICv3 redistributor 0x0 write: offset 0x3333 data 0x0 size 8 secure 0: error
        gicv3_redist_set_irq GICv3 redistributor 0x0 interrupt 27 level changed to 1
        gicv3_redist_send_sgi GICv3 redistributor 0x0 pending SGI 1

        0 +0 gicr.read cpu=1 offset=0x0 value=0x2 size=4
        1 +0 gicr.write cpu=1 offset=0x70 value=0x425b078f
        2 +0 gicr.write cpu=1 offset=0x7c value=0x40000000 size=4
        3 +0 gicr.read cpu=0 offset=0xc0 value=0x0 bad=1
        4 +0 gicr.write cpu=0 offset=0x40 value=0x2001 bad=1
        """)
    assert (stats.lines, stats.ours, stats.skipped, stats.gap_count) == (10, 5, 5, 0)


def test_a_redistributor_access_between_commands_and_their_write_keeps_its_place() -> None:
    transcript("""
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 4 requester_id 0x8
        gicv3_redist_read GICv3 redistributor 0x1 read: offset 0x0 data 0x1 size 4 secure 0
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x8: valid 0 size 0x0 ITTaddr 0x0

        0 +0 msi device_id=0x8 event_id=0x1 doorbell=0x10040
        1 +0 gicr.read cpu=1 offset=0x0 value=0x1 size=4
        2 +0 table.read cause=2 table=dte index=0x8 base=0x0 valid=0 e1=0x0 e2=0x0
        """)


# --- resets


def test_a_reset_is_the_hold_phase_of_an_its_and_of_nothing_else() -> None:
    stats = transcript("""
        resettable_phase_hold_exec obj=0x559173bee3f0(cortex-a57-arm-cpu) method=0
        resettable_phase_hold_exec obj=0x559173d73cc0(arm-gicv3) method=0
        resettable_phase_hold_exec obj=0x559173d74010(arm-gicv3-its) method=0
        gicv3_its_read GICv3 ITS read: offset 0x0 data 0x80000000 size 4
        resettable_phase_hold_exec obj=0x559173d74010(arm-gicv3-its) method=0

        0 +0 reset how=power_on
        1 +0 reg.read offset=0x0 value=0x80000000 size=4
        2 +0 reset how=system
        """)
    assert (stats.lines, stats.ours, stats.skipped) == (5, 3, 2)


def test_resets_of_qemu_10_end_in_method_1() -> None:
    transcript("""
        3@1.000001:resettable_phase_hold_exec obj=0x559173d74010(arm-gicv3-its) method=1
        3@2.000001:resettable_phase_hold_exec obj=0x559173d74010(arm-gicv3-its) method=1

        0 +1000001000 reset how=power_on
        1 +1000000000 reset how=system
        """)


@pytest.mark.parametrize(
    "line",
    [
        "gicv3_its_read GICv3 ITS read: offset 0x0 data 0x80000001 size 4",
        "gicv3_its_write GICv3 ITS write: offset 0x0 data 0x0 size 4",
        "gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 4 requester_id 0x8",
        "gicv3_redist_write GICv3 redistributor 0x1 write: offset 0x0 data 0x1 size 4 secure 0",
    ],
    ids=lambda line: line.split(" ")[0],
)
def test_a_log_that_starts_in_the_middle_has_no_power_on(line: str) -> None:
    reset = "resettable_phase_hold_exec obj=0x559173d74010(arm-gicv3-its) method=0"
    events, _ = imported(f"{line}\n{reset}\n".encode())
    assert shown(events)[-1] == "1 +0 reset how=system"


def test_a_damaged_reset_line_is_a_gap() -> None:
    stats = transcript("""
        resettable_phase_hold_exec obj=0x5591(arm-gicv3-its) metho

        0 +0 source.gap reason="a reset of the ITS, damaged" line=1
        """)
    assert stats.gaps == [(1, "a reset of the ITS, damaged")]


def test_an_msi_before_a_reset_has_no_effects_after_it() -> None:
    transcript("""
        gicv3_its_translation_write GICv3 ITS TRANSLATER write: offset 0x40 data 0x1 size 4 requester_id 0x8
        resettable_phase_hold_exec obj=0x559173d74010(arm-gicv3-its) method=0
        gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x8: valid 0 size 0x0 ITTaddr 0x0
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x0 size 8

        0 +0 msi device_id=0x8 event_id=0x1 doorbell=0x10040
        1 +0 reset how=system
        2 +0 reg.write offset=0x88 value=0x0
        3 +0 table.read cause=1 table=dte index=0x8 base=0x0 valid=0 e1=0x0 e2=0x0
        """)


# --- QEMU's own messages and other devices


def test_qemus_own_messages_are_no_events_and_no_damage() -> None:
    stats = transcript("""
        gicv3_its_read: invalid guest read at offset 0x7777 size 4
        gicv3_its_write: invalid guest write at offset 0x8 size 4
        gicv3_its_translation_write: invalid guest write at offset 0x44 size 4
        gicv3_redist_read: invalid guest read at offset 0xc0 size 8
        process_mapti: invalid command attributes: icid 1 or devid 2 or pIntid 3 or eventid 4
        update_cte: invalid collection table entry
        Trace event "gicv3_dist_read" does not exist
        qemu-system-aarch64: terminating on signal 15

        """)
    assert (stats.lines, stats.ours, stats.skipped, stats.gap_count) == (8, 0, 8, 0)


def test_other_devices_are_skipped() -> None:
    stats = transcript("""
        gicv3_dist_read GICv3 distributor read: offset 0x8 data 0x43b size 4 secure 0
        gicv3_icc_pmr_read GICv3 ICC_PMR read cpu 0 value 0xf8
        virtio_set_status vdev 0x55 val 1

        """)
    assert (stats.ours, stats.skipped, stats.gap_count) == (0, 3, 0)


GLUE = "lookup_ite: invalid command attributes: devid 5>=0"


def test_the_message_without_newline_is_glued_to_the_next_line() -> None:
    stats = transcript(f"""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x3
        gicv3_its_cmd_int GICv3 ITS: command INT DeviceID 0x5 EventID 0x14
        {GLUE}gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8
        gicv3_its_read GICv3 ITS read: offset 0x90 data 0x20 size 4

        0 +0 reg.write offset=0x88 value=0x20
        1 +0 command cause=1 queue_offset=0x0 dw0=0x500000003 dw1=0x14 dw2=0x0 dw3=0x0 known0=0xffffffff000000ff known1=0xffffffff known2=0x0 known3=0x0
        2 +0 reg.read offset=0x90 value=0x20 size=4
        """)
    assert (stats.ours, stats.gap_count) == (4, 0)


def test_two_such_messages_and_a_reset_behind_them() -> None:
    stats = transcript(f"""
        {GLUE}{GLUE.replace("devid 5>=0", "devid -1>=65536")}gicv3_its_read GICv3 ITS read: offset 0x90 data 0x20 size 4
        {GLUE}resettable_phase_hold_exec obj=0x5591(arm-gicv3-its) method=0

        0 +0 reg.read offset=0x90 value=0x20 size=4
        1 +0 reset how=system
        """)
    assert stats.gap_count == 0


def test_the_glued_message_in_a_log_with_timestamps() -> None:
    # The message's number and the next line's process id run together: "devid 5>=0" "6337@10.".
    stats = transcript(f"""
        6337@10.000100:gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size 4
        {GLUE}6337@10.000200:gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8
        {GLUE}6337@10.000300:resettable_phase_hold_exec obj=0x5591(arm-gicv3-its) method=0

        0 +10000100000 reg.read offset=0x90 value=0x0 size=4
        1 +100000 reg.write offset=0x88 value=0x20
        2 +100000 reset how=system
        """)
    assert stats.gap_count == 0


def test_a_glued_message_at_the_end_and_before_another_device() -> None:
    stats = transcript(f"""
        {GLUE}virtio_set_status vdev 0x55 val 1
        {GLUE}

        """)
    assert (stats.skipped, stats.gap_count) == (2, 0)


# --- damage


def test_crlf_is_taken_off() -> None:
    data = TWO_BOOTS.read_bytes()
    assert imported(data.replace(b"\n", b"\r\n"))[0] == imported(data)[0]


def test_an_its_event_of_a_newer_qemu_is_a_gap() -> None:
    stats = transcript("""
        gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size 4
        gicv3_its_cmd_vsgi GICv3 ITS: command VSGI vPEID 0x5

        0 +0 reg.read offset=0x90 value=0x0 size=4
        1 +0 source.gap reason="an ITS event that this itstrace does not know, or a damaged line" line=2
        """)
    assert stats.gap_count == 1


@pytest.mark.parametrize(
    "line",
    [
        "gicv3_its_read GICv3 ITS read: offset 0x data 0x0 size 4",
        "gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0",
        "gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size 4 ",
        "gicv3_its_read GICv3 ITS read: offset 0x90 data 0xfffffffffffffffff size 4",
        "gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size 99999999999",
        "gicv3_its_read GICv3 ITS read: offset -1 data 0x0 size 4",
        "gicv3_its_read GICv3 ITS read: offset 0X90 data 0x0 size 4",
        "gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size \u0664",
        "gicv3_its_read GICv3 ITS write: offset 0x90 data 0x0 size 4",
        "gicv3_its_read",
        "gicv3_its_cmd_sync GICv3 ITS: command VSYNC",
        "gicv3_its_dte_read GICv3 ITS: Device Table read for DeviceID 0x100000000: faulted",
    ],
)
def test_a_damaged_line_is_a_gap_with_its_number(line: str) -> None:
    name = line.split(" ", maxsplit=1)[0]
    good = "gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4"
    stats = transcript(
        f"{good}\n{line}\n{good}\n\n"
        "0 +0 reg.read offset=0x4 value=0x43b size=4\n"
        f'1 +0 source.gap reason="this is not how QEMU prints {name}" line=2\n'
        "2 +0 reg.read offset=0x4 value=0x43b size=4"
    )
    assert stats.gaps == [(2, f"this is not how QEMU prints {name}")]
    assert (stats.lines, stats.ours, stats.skipped) == (3, 2, 0)


def test_a_line_with_bytes_that_are_no_text_is_a_gap() -> None:
    events, stats = imported(b"gicv3_its_\xff\xfe GICv3\ngicv3_its_read \xff\n")
    assert shown(events) == [
        '0 +0 source.gap reason="an ITS event that this itstrace does not know, or a damaged line" line=1',
        '1 +0 source.gap reason="this is not how QEMU prints gicv3_its_read" line=2',
    ]
    assert stats.gap_count == 2


def test_fields_without_their_command_are_a_gap() -> None:
    transcript("""
        gicv3_its_cmd_int GICv3 ITS: command INT DeviceID 0x2 EventID 0x14
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x4
        gicv3_its_cmd_int GICv3 ITS: command INT DeviceID 0x2 EventID 0x14
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 source.gap reason="the fields of INT, but no such command was announced" line=1
        1 +0 source.gap reason="the fields of INT, but no such command was announced" line=3
        2 +0 reg.write offset=0x88 value=0x20
        3 +0 command cause=1 queue_offset=0x0 dw0=0x4 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        """)


def test_fields_that_no_command_can_hold_are_a_gap() -> None:
    transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x8
        gicv3_its_cmd_mapd GICv3 ITS: command MAPD DeviceID 0x2 Size 0x20 ITT_addr 0x0 V 1
        gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8

        0 +0 source.gap reason="MAPD: Size must fit bits 68:64, not 0x20" line=2
        1 +0 reg.write offset=0x88 value=0x20
        2 +0 command cause=1 queue_offset=0x0 dw0=0x8 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        """)


@pytest.mark.parametrize(
    ("opcode", "fields"),
    [
        ("0x109", "cmd_mapc GICv3 ITS: command MAPC ICID 0x3 RDbase 0x3 V 1"),  # it prints 8 bits
        ("0x9", "cmd_mapc GICv3 ITS: command MAPC ICID 0x3 RDbase 0x10003 V 1"),  # it prints 16
    ],
    ids=["opcode", "rdbase"],
)
def test_numbers_that_qemu_cuts_before_it_prints_them_are_damage_when_longer(
    opcode: str, fields: str
) -> None:
    events, stats = imported(
        f"gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: {opcode}\n"
        f"gicv3_its_{fields}\n"
        "gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8\n".encode()
    )
    assert stats.gap_count >= 1
    for command in named(events, "command"):  # a bit that is not known is given as 0
        for at in range(4):
            assert not cast(int, command[f"dw{at}"]) & ~cast(int, command[f"known{at}"])


def test_effects_whose_write_is_not_in_the_log_are_told() -> None:
    stats = transcript("""
        gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x5
        gicv3_its_cmd_sync GICv3 ITS: command SYNC

        0 +0 source.gap reason="1 effects of a write whose own line is not in the log"
        1 +0 command cause=0 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff known1=0x0 known2=0x0 known3=0x0
        """)
    assert stats.gap_count == 1


@pytest.mark.parametrize(
    "between",
    [
        "gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 siz",  # damaged, so not its own
        "resettable_phase_hold_exec obj=0x5591(arm-gicv3-its) method=0",
    ],
    ids=["damaged write", "reset"],
)
def test_effects_are_never_given_to_a_later_write(between: str) -> None:
    events, stats = imported(
        b"gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x5\n"
        b"gicv3_its_cmd_sync GICv3 ITS: command SYNC\n"
        + between.encode()
        + b"\ngicv3_its_write GICv3 ITS write: offset 0x80 data 0x0 size 8\n"
    )
    assert stats.gap_count >= 1
    write = max(at for at, event in enumerate(events) if kind_name(event[0]) == "reg.write")
    assert fields_of(events[write])["offset"] == 0x80
    assert [kind_name(event[0]) for event in events[write + 1 :]] == []


def test_more_effects_than_a_queue_can_have_lose_their_cause_with_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(qemu_log, "MAX_HELD_EVENTS", 3)
    line = "gicv3_its_cte_read_fault GICv3 ITS: Collection Table read for ICID 0x3: faulted"
    stats = transcript(
        f"{line}\n{line}\n{line}\n{line}\n"
        "gicv3_its_write GICv3 ITS write: offset 0x88 data 0x20 size 8\n\n"
        '0 +0 source.gap reason="over 3 effects without a write" line=4\n'
        "1 +0 table.fault cause=0 table=cte index=0x3 base=0x0\n"
        "2 +0 table.fault cause=0 table=cte index=0x3 base=0x0\n"
        "3 +0 table.fault cause=0 table=cte index=0x3 base=0x0\n"
        "4 +0 reg.write offset=0x88 value=0x20\n"
        "5 +0 table.fault cause=1 table=cte index=0x3 base=0x0"
    )
    assert stats.gap_count == 1


def test_an_over_long_line_is_a_gap() -> None:
    read = b"gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n"
    for size in (MAX_LINE_BYTES + 1, 1_000_000):
        events, stats = imported(read + b"gicv3_its_" + b"x" * size + b"\n" + read)
        assert shown(events) == [
            "0 +0 reg.read offset=0x4 value=0x43b size=4",
            '1 +0 source.gap reason="the line is longer than any line of QEMU\'s" line=2',
            "2 +0 reg.read offset=0x4 value=0x43b size=4",
        ]
        assert (stats.lines, stats.gap_count) == (3, 1)


def test_only_the_first_thousand_gaps_are_listed_but_all_are_counted() -> None:
    events, stats = imported(b"gicv3_its_x\n" * 1234)
    assert (len(stats.gaps), stats.gap_count, len(events)) == (1000, 1234, 1234)


# --- the last line


def test_a_last_line_cut_anywhere_is_normal() -> None:
    first = b"gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n"
    last = b"gicv3_its_read GICv3 ITS read: offset 0x90 data 0x1234 size 4"
    for length in range(1, len(last) + 1):
        events, stats = imported(first + last[:length])
        assert shown(events) == ["0 +0 reg.read offset=0x4 value=0x43b size=4"]
        assert stats.gap_count == 0
        assert stats.cut_last_line == (length >= len("gicv3_its_"))


def test_a_last_line_cut_in_the_middle_of_a_queue() -> None:
    events, stats = imported(
        b"gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x5\n"
        b"gicv3_its_cmd_sync GICv3 ITS: comm"
    )
    assert shown(events) == [
        '0 +0 source.gap reason="1 effects of a write whose own line is not in the log"',
        (
            "1 +0 command cause=0 queue_offset=0x0 dw0=0x5 dw1=0x0 dw2=0x0 dw3=0x0 known0=0xff "
            "known1=0x0 known2=0x0 known3=0x0"
        ),
    ]
    assert (stats.cut_last_line, stats.gap_count) == (True, 0)


def test_every_prefix_of_a_capture_is_a_prefix_of_its_events() -> None:
    data = (TRACES / "qemu-7.2.22-kvm-unit-tests-its-trigger.log").read_bytes()
    whole = imported(data)[0]
    start = data.index(b"(arm-gicv3-its)")
    for end in range(start, len(data), 61):
        events, stats = imported(data[:end])
        orphans = [at for at, event in enumerate(events) if kind_name(event[0]) == "source.gap"]
        del events[orphans[0] if orphans else len(events) :]  # their write did not make it
        assert events == whole[: len(events)]
        assert stats.gap_count <= 1


# --- files, pipes, gzip


@each_capture
def test_a_gzip_gives_the_same_events(path: Path) -> None:
    data = path.read_bytes()
    assert imported(gzip.compress(data)) == imported(data)


def test_a_damaged_gzip_is_an_error_that_names_the_file() -> None:
    packed = gzip.compress(TWO_BOOTS.read_bytes())
    with pytest.raises(SourceError, match=r"^the\.log\.gz: .*: the compressed file is damaged$"):
        imported(packed[:-200], "the.log.gz")


@each_capture
def test_a_pipe_gives_the_same_events(path: Path) -> None:
    data = path.read_bytes()
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as out:
            for at in range(0, len(data), 777):
                out.write(data[at : at + 777])

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        lines = LineReader(cast(BinaryIO, stream), "-")
        log = QemuLog(lines)
        events = list(log.events())
    thread.join()
    assert (events, log.stats) == imported(data)


# --- the header's guesses


def test_header_of_the_plain_capture() -> None:
    header = qemu_log.header(TWO_BOOTS.read_bytes())
    assert (header.source, header.order) == ("qemu-log", "total")
    assert (header.implementation, header.implementation_version) == ("qemu-tcg", "7.2.22")
    assert (header.profile, header.its_bases) == ("qemu-7.2.22", [0x8080000])
    assert (header.cpus, header.clock, header.guest_ram) == (2, "none", "observed")
    assert header.guessed == [
        "cpus",
        "implementation",
        "implementation_version",
        "its_bases",
        "profile",
        "reset.how",
    ]


def test_header_of_the_stamped_capture() -> None:
    header = qemu_log.header(TWO_BOOTS_STAMPED.read_bytes())
    assert (header.cpus, header.clock) == (2, "realtime")


def test_header_of_qemu_10() -> None:
    header = qemu_log.header(b"resettable_phase_hold_exec obj=0x5591(arm-gicv3-its) method=1\n")
    assert (header.profile, header.implementation_version) == ("qemu-10.0.13", "10.0.13")


def test_header_of_a_log_that_starts_in_the_middle_guesses_no_cpus() -> None:
    header = qemu_log.header(b"gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n")
    assert header.cpus is None
    assert "cpus" not in header.guessed
    assert header.profile == "qemu-7.2.22"


def test_a_message_before_the_first_stamp_does_not_hide_the_clock() -> None:
    line = b"6337@10.000100:gicv3_its_read GICv3 ITS read: offset 0x90 data 0x0 size 4\n"
    assert qemu_log.header(b"gicv3_its_read: invalid guest read\n" + line).clock == "realtime"


def test_header_of_a_log_with_more_cpus_than_can_be_is_still_readable() -> None:
    start = b"".join(
        b"resettable_phase_hold_exec obj=%#x(max-arm-cpu) method=0\n" % (0x1000 * number)
        for number in range(1, 601)
    )
    assert through_a_file(qemu_log.header(start), []) == []


@pytest.mark.parametrize(
    ("start", "known"),
    [
        (b"gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n", True),
        (b"7@1.000000:gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n", True),
        (b"resettable_phase_hold_exec obj=0x5591(max-arm-cpu) method=0\n", True),
        (b"a message first\nresettable_phase_hold_exec obj=0x5591(x) method=0\n", True),
        (b"", False),
        (b"virtio_set_status vdev 0x55 val 1\n", False),
        (b"# itstrace: 1\n", False),
        (b"\x89ITST\r\n\x1a", False),
    ],
)
def test_recognise(start: bytes, known: bool) -> None:
    assert qemu_log.recognise(start) == known


# --- hostile input


class Sink(io.BytesIO):
    """A file in memory that a Writer can write to."""


def through_a_file(header: object, events: list[Event]) -> list[Event]:
    """Write a trace and read it back."""
    out = Sink()
    writer = Writer(out, header, codec=fmt.CODEC_NONE, bound_ms=0)  # type: ignore[arg-type]
    for event in events:
        writer.add(event)
    writer.close()
    reader = Reader(io.BytesIO(out.getvalue()))
    again = [event for _, block in reader for event in block]
    assert reader.status == "clean"
    return again


def sound(data: bytes) -> list[Event]:
    """Import, and check all that must hold of the events of any log whatever."""
    events, stats = imported(data)
    check_events(events)
    assert stats.lines == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    assert stats.ours + stats.skipped <= stats.lines
    assert stats.gap_count >= len(stats.gaps)
    for at, event in enumerate(events):
        assert len(event) <= len(KINDS[event[0]].fields) + 2
        if ev.FIRST_OUTPUT <= event[0] < ev.FIRST_NOTE and "cause" in fields_of(event):
            assert 0 <= event[2] <= at
            cause = events[at - event[2]]
            if event[2]:
                assert kind_name(cause[0]) in ("reg.write", "msi")
            else:
                assert "source.gap" in {kind_name(each[0]) for each in events[:at]}
    assert through_a_file(qemu_log.header(data[: 1 << 18]), events) == events
    return events


def test_a_stamp_of_many_digits_makes_no_time_that_a_trace_cannot_hold() -> None:
    sound(
        b"7@999999999999.999999:gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n"
        b"7@0.000000:gicv3_its_read GICv3 ITS read: offset 0x4 data 0x43b size 4\n"
    )


HUGE = [b"99999999999", b"0x10000000000000000", b"0xffffffffffffffff", b"0xffffffff", b"-1", b"0x"]
HUGE += [b"4294967296", b"9" * 5000, b"0x" + b"f" * 5000, b"999999999999", b"9999999999"]


def cut(rng: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]


def flip(rng: random.Random, lines: list[bytes], at: int) -> None:
    line = bytearray(lines[at])
    if line:
        line[rng.randrange(len(line))] ^= 1 << rng.randrange(8)
    lines[at] = bytes(line)


def duplicate(rng: random.Random, lines: list[bytes], at: int) -> None:
    lines[at:at] = [lines[at]] * rng.randrange(1, 4)


def swap(rng: random.Random, lines: list[bytes], at: int) -> None:
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def insert(rng: random.Random, lines: list[bytes], at: int) -> None:
    where = rng.randrange(len(lines[at]) + 1)
    lines[at] = lines[at][:where] + rng.randbytes(rng.randrange(1, 9)) + lines[at][where:]


def number(rng: random.Random, lines: list[bytes], at: int) -> None:
    words = lines[at].replace(b":", b": ").split(b" ")
    words[rng.randrange(len(words))] = rng.choice(HUGE)
    lines[at] = b" ".join(words).replace(b": ", b":", rng.randrange(2))


def stamp(rng: random.Random, lines: list[bytes], at: int) -> None:
    seconds = rng.choice([0, 1, 10**9, 10**11, 10**12 - 1, rng.randrange(10**12)])
    lines[at] = b"%d@%d.%06d:" % (rng.randrange(10**6), seconds, rng.randrange(10**6)) + lines[at]


def join(rng: random.Random, lines: list[bytes], at: int) -> None:
    if at + 1 < len(lines):
        lines[at : at + 2] = [lines[at] + lines[at + 1]]


def drop(rng: random.Random, lines: list[bytes], at: int) -> None:
    if len(lines) > 1:
        del lines[at]


def change_word(rng: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = lines[at].replace(b"gicv3_its_", rng.choice(sorted(PATTERNS)), 1)


MUTATIONS = [cut, flip, duplicate, swap, insert, number, join, drop, change_word]


def mutated(rng: random.Random, lines: list[bytes], mutations: list[object]) -> bytes:
    begin = rng.randrange(len(lines))
    some = lines[begin : begin + rng.randrange(1, 40)]
    for _ in range(rng.randrange(1, 6)):
        rng.choice(mutations)(rng, some, rng.randrange(len(some)))  # type: ignore[operator]
    return b"\n".join(some) + b"\n" * rng.randrange(2)


@pytest.mark.parametrize("seed", range(8))
def test_mutated_logs_give_sound_events_or_a_documented_error(seed: int) -> None:
    rng = random.Random(seed)
    lines = [line for path in CAPTURES for line in path.read_bytes().splitlines() if b"its" in line]
    kinds: Counter[str] = Counter()
    for _ in range(700):
        data = mutated(rng, lines, MUTATIONS)
        if rng.randrange(10) == 0:
            data = damaged_gzip(rng, data)
        try:
            events = sound(data) if data[:2] != b"\x1f\x8b" else imported(data)[0]
        except SourceError:
            kinds["SourceError"] += 1
            continue
        kinds.update(kind_name(event[0]) for event in events)
    # The mutations are neither too mild nor too wild to say anything.
    assert kinds["source.gap"] > 100
    assert kinds["table.read"] > 100
    assert kinds["SourceError"] > 10


def damaged_gzip(rng: random.Random, data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data, mtime=0))
    packed[rng.randrange(2, len(packed))] ^= 1 << rng.randrange(8)
    return bytes(packed)


def test_mutated_stamps_give_sound_events() -> None:
    rng = random.Random(99)
    lines = TWO_BOOTS.read_bytes().splitlines()[80:]
    negative = 0
    for _ in range(500):
        events = sound(mutated(rng, lines, [stamp, stamp, swap, drop]))
        negative += sum(event[1] < 0 for event in events)
    assert negative > 100


def test_random_bytes_are_no_events() -> None:
    rng = random.Random(7)
    for _ in range(200):
        data = rng.randbytes(rng.randrange(2000))
        if data[:2] != b"\x1f\x8b":
            assert sound(data) == []


# --- memory

PEAK_GROWTH_KIB = 24 * 1024  # held events, one frame and the index of 50 frames

MEASURE = """
import io, sys
from pathlib import Path
from tracer.log.stream import Writer
from tracer.sources import qemu_log
from tracer.sources.lines import LineReader

def peak_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

class Null(io.RawIOBase):
    def write(self, data):
        return len(data)

def load(path):
    with open(path, "rb", buffering=0) as stream:
        lines = LineReader(stream, path)
        header = qemu_log.header(lines.sniff())
        log = qemu_log.QemuLog(lines)
        writer = Writer(Null(), header, bound_ms=0)
        for event in log.events():
            writer.add(event)
        writer.close()
        return log.stats.lines, log.stats.gap_count, writer.next_seq

small, large = sys.argv[1:]
load(small)
before = peak_kib()
print(*load(large), peak_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
def test_200_000_lines_import_in_bounded_memory(tmp_path: Path) -> None:
    # The accesses of two boots without their resets, over and over.
    lines = [line for line in TWO_BOOTS.read_bytes().splitlines(True) if b"gicv3_its_" in line]
    small, large = tmp_path / "small.log", tmp_path / "large.log"
    small.write_bytes(b"".join(lines) * 20)
    large.write_bytes(b"".join((lines * (200_000 // len(lines) + 1))[:200_000]))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    count, gaps, events, growth = map(int, done.stdout.split())
    assert count == 200_000
    assert gaps <= 1  # the last queue may have been cut from its write
    assert events > 150_000
    assert growth < PEAK_GROWTH_KIB


def live_log(data: bytes) -> tuple[QemuLog, Iterator[Event]]:
    log = QemuLog(LineReader(io.BytesIO(data), "log", plain=True))
    return log, log.events()


READ = b"gicv3_its_read GICv3 ITS read: offset 0x8 data 0x1 size 8\n"
GICR_READ = (
    b"gicv3_redist_read GICv3 redistributor 0x101 read: offset 0x70 data 0x1 size 8 secure 0\n"
)


def test_an_acknowledged_lpi_is_an_event_and_other_interrupts_are_not() -> None:
    stats = transcript(
        """
        gicv3_icc_iar1_read GICv3 ICC_IAR1 read cpu 0x1 value 0x2003
        gicv3_icc_iar1_read GICv3 ICC_IAR1 read cpu 0x0 value 0x1b
        gicv3_icc_iar1_read GICv3 ICC_IAR1 read cpu 0x0 value 0x3ff
        gicv3_icc_iar1_read GICv3 ICC_IAR1 read cpu 0x101 value 0x1fff
        gicv3_icc_iar1_read GICv3 ICC_IAR1 read cpu 0x101 value 0x2000
        gicv3_icc_iar1_read GICv3 ICC_IAR1 read cpu 0x0 value 0x1000000

        0 +0 lpi.ack cause=0 intid=8195 cpu=1
        1 +0 lpi.ack cause=0 intid=8192 cpu=17
        """
    )
    assert (stats.ours, stats.skipped, stats.gap_count) == (2, 4, 0)


def test_a_reset_of_an_its_in_the_kernel_is_a_reset() -> None:
    transcript(
        """
        resettable_phase_hold_exec obj=0x55(arm-its-kvm) method=0
        resettable_phase_hold_exec obj=0x55(arm-its-kvm) method=1

        0 +0 reset how=power_on
        1 +0 reset how=system
        """
    )


def test_only_the_read_that_we_asked_for_is_ours() -> None:
    log, events = live_log((READ + GICR_READ) * 3)
    found = [next(events), next(events)]
    log.asks(None, 8, 8)
    found += [next(events), next(events)]
    log.asks(17, 0x70, 8)
    found += [next(events), next(events)]
    origins = [fields_of(event)["origin"] for event in found]
    assert origins == [0, 0, ev.PROBE, 0, 0, ev.PROBE]


def test_what_is_asked_for_is_forgotten_when_the_look_ends() -> None:
    log, events = live_log(READ)
    log.asks(None, 8, 8)
    log.probe(1, perturbing=False)
    assert [fields_of(event).get("origin") for event in events] == [None, 0]


def test_what_was_found_otherwise_is_ours_too() -> None:
    log, events = live_log(b"\n")
    log.probe(0, perturbing=True)
    log.found(None, 0, 4, 0x8000_0000)
    log.found(2, 0x70, 8, 5)
    log.live((8192, 1, 0b1000000, 160, -1))
    log.memory(0x4200_0000, bytes(8))
    log.probe(1, perturbing=True, lists=1)
    assert shown(events) == [
        "0 +0 probe edge=begin perturbing=1 lists=0",
        "1 +0 reg.read offset=0x0 value=0x80000000 size=4 origin=probe",
        "2 +0 gicr.read cpu=2 offset=0x70 value=0x5 origin=probe",
        "3 +0 lpi.live cause=0 intid=8192 target=1 flags=0x40 priority=160 queued=-1",
        f"4 +0 mem.read cause=0 gpa=0x42000000 data={'00' * 8}",
        "5 +0 probe edge=end perturbing=1 lists=1",
    ]


def test_what_the_monitor_tells_stands_between_two_events() -> None:
    log, events = live_log(READ * 3)
    next(events)
    log.tick()
    next(events)
    log.tell("QMP: STOP")
    assert fields_of(next(events))["text"] == "QMP: STOP; not before event 1, not after event 2"


def test_lines_that_were_dropped_are_counted_and_orphan_what_waits() -> None:
    held = b"gicv3_its_process_command GICv3 ITS: processing command at offset 0x0: 0x5\n"
    log, events = live_log(held + READ)
    log.lose(1)
    rest = iter(events)
    assert fields_of(next(rest)) == {
        "reason": "the trace could not be written as fast as QEMU's log came",
        "count": 1,
    }
    assert log.lost == 1
    assert fields_of(next(rest))["offset"] == 8
