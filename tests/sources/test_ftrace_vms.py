"""A stream of our recorder: VMs told apart, attributes, returns, stack windows, listings, limits."""

from __future__ import annotations

import random
import textwrap
import tracemalloc
from collections import Counter

import pytest

from replay import cli
from tests.support.ftrace_text import asked, back, got, msi, mutate, split, without_times, write
from tracer.errors import SourceError
from tracer.events import Event, fields_of, kind_name
from tracer.log.checks import check_events
from tracer.log.header import Header
from tracer.sources.ftrace_samples import MAX_ROWS, MAX_SAMPLES
from tracer.sources.ftrace_vms import MAX_VMS, WAIT_RECORDS, Vms

KVM, OTHER = 0xFFFF0000AAAA0000, 0xFFFF0000BBBB0000
PREAMBLE = """\
Welcome to host! CPU:0 is fine
#its stream: 1
#its release: 6.1.0-56-arm64
#its version: Linux version 6.1.0-56-arm64 (gcc (Debian 12.2.0-14) 12.2.0) #1 SMP Debian 6.1.192-2
#its clock: mono
#its cpus: 2
"""


def line(
    seconds: float, what: str, thread: int = 101, tgid: int | None = 100, comm: str = "CPU 0/KVM"
) -> str:
    process = "(-------)" if tgid is None else f"({tgid:7d})"
    return f" {comm}-{thread}  {process} [000] d..1. {seconds:11.6f}: {what}\n"


def lines(*whats: str, at: float = 10.0, **who) -> str:  # type: ignore[no-untyped-def]
    return "".join(line(at + n / 1000, what, **who) for n, what in enumerate(whats))


def marker(seconds: float, text: str) -> str:
    return line(seconds, f"tracing_mark_write: its: {text}", thread=9, tgid=9, comm="sh")


def attr(name: str, group: int, number: int, val: str = "(fault)", kvm: int = KVM, **more) -> str:  # type: ignore[no-untyped-def]
    extra = "".join(f" {key}={value:#x}" for key, value in more.items())
    return (
        f"{name}: (vgic_function+0x0/0x60) dev=0xffff000000000001 kvm={kvm:#x} group={group} "
        f"attr={number:#x} uaddr=0xffffd0bdb890 val={val}{extra}"
    )


def born(kvm: int = KVM) -> list[str]:
    return [attr("set_attr", 4, 0, kvm=kvm), back("set_attr_ret", 0)]


def fetch(gpa: int, offset: int = 40) -> str:
    sp = 0xFFFF800008433700
    return f"rd: (kvm_read_guest+0x0/0xdc) kvm={KVM:#x} gpa={gpa:#x} data={sp + offset:#x} len=32 sp={sp:#x}"


def stack(
    *words: int, at: int = 5, size: int = 16, caller: str = "vgic_its_process_commands"
) -> str:
    window = [0xDEAD] * size
    window[at : at + len(words)] = words
    text = ",".join(map(hex, window[:size]))
    return f"cmd: ({caller}+0xbc/0xa5c <- kvm_read_guest) stk={{{text}}}"


def only(text: str, **options) -> tuple[Header, list[Event]]:  # type: ignore[no-untyped-def]
    _, found = split(text.encode(), **options)
    ((header, events),) = found.values()
    check_events(events)
    return header, events


def story(text: str, wanted: str) -> None:
    """Compare the events of a stream's only VM with what is wanted, its birth left out."""
    _, events = only(PREAMBLE + lines(*born(), at=1.0) + text)
    skip = "context cpu=0 thread=101\ninit\nattr.result cause=1 errno=0\n".splitlines()
    assert without_times(events) == skip + textwrap.dedent(wanted).strip().splitlines()


# --- what the stream says of itself


def test_the_header_has_what_the_stream_says() -> None:
    text = (
        PREAMBLE
        + "#its missing: dispatch_mmio_write when an access ends\n#its command: 100 qemu -smp 4\n"
        + "#its vm: 100-15 tgid=100 vcpus=4 its=9080000\n"
        + lines(write(0x9080088, 0))
    )
    header, events = only(text)
    assert (header.implementation_version, header.profile) == ("6.1.192", "linux-6.1.192")
    assert (header.clock, header.cpus, header.its_bases) == ("mono", 4, [0x9080000])
    assert (header.starts, header.command_line) == ("running", ["qemu", "-smp", "4"])
    assert header.annotations["release"] == "6.1.0-56-arm64"
    assert header.guessed == ["gicd_base", "gicr_base"]
    gaps = [fields_of(each)["reason"] for each in events if kind_name(each[0]) == "source.gap"]
    assert gaps == ["this kernel lacks dispatch_mmio_write when an access ends"]


def test_a_vm_whose_its_is_made_in_the_stream_starts_at_power_on() -> None:
    assert only(PREAMBLE + lines(*born()))[0].starts == "power_on"
    assert only(PREAMBLE + lines(write(0x8080088, 0), *born()))[0].starts == "running"


def test_a_recorder_that_did_not_begin_is_an_error_in_its_words() -> None:
    with pytest.raises(SourceError, match=r"^the recorder did not begin: no tracefs$"):
        split(b"#its error: no tracefs\n")


def test_what_the_kernel_counted_as_lost_is_a_loss_less_what_was_shown() -> None:
    text = PREAMBLE + lines(*born()) + "CPU:0 [LOST 3 EVENTS]\n"
    text += "#its lost: cpu 0 overrun 5 dropped 2\n#its missed: cmd 4\n#its end: stop\n"
    vms, found = split(text.encode())
    ((_, events),) = found.values()
    losses = [fields_of(each) for each in events if kind_name(each[0]) == "loss"]
    assert [each["count"] for each in losses] == [3, 4, 4]
    assert losses[2]["reason"] == "the kernel did not run our probe cmd"
    assert vms.facts.ended == "stop"


# --- VMs told apart


def test_each_vm_of_a_host_gets_its_own_trace() -> None:
    text = PREAMBLE
    for tgid, kvm in ((100, KVM), (200, OTHER)):
        text += lines(*born(kvm), at=tgid / 100, thread=tgid, tgid=tgid)
    text += lines(write(0x8080088, 0x20), at=3, thread=101)
    text += lines(write(0x8080088, 0x40), at=4, thread=201, tgid=200)
    _, found = split(text.encode())
    shown = {name: [each for each in without_times(events) if each.startswith("reg")]
             for name, (_, events) in found.items()}  # fmt: skip
    assert shown == {
        "100": ["reg.write offset=0x88 value=0x20"],
        "200": ["reg.write offset=0x88 value=0x40"],
    }


def worker_msi(kvm: int, at: float) -> str:
    records = [f"{each} kvm={kvm:#x}" for each in (msi("msi"), msi("msic"))]
    records += [back("msic_ret", -11), back("msi_ret", 1)]
    return lines(*records, at=at, thread=55, tgid=55, comm="kworker/1:2")


def interrupted(kvm: int, at: float, thread: int, tgid: int, comm: str) -> str:
    records = [f"{msi('msic')} kvm={kvm:#x}", back("msic_ret", 0)]
    return lines(*records, at=at, thread=thread, tgid=tgid, comm=comm)


def test_workers_vhost_and_interrupts_belong_to_the_vm_whose_kvm_they_name() -> None:
    text = PREAMBLE
    for tgid, kvm in ((100, KVM), (200, OTHER)):
        text += lines(*born(kvm), at=tgid / 100, thread=tgid, tgid=tgid)
    text += worker_msi(OTHER, 3) + interrupted(KVM, 4, 77, 77, "vhost-100")
    text += interrupted(OTHER, 5, 101, 100, "CPU 0/KVM")  # an interrupt in the other VM's thread
    _, found = split(text.encode())
    count = {
        name: Counter(kind_name(each[0]) for each in events) for name, (_, events) in found.items()
    }
    assert (count["100"]["msi"], count["200"]["msi"]) == (1, 2)
    assert (count["200"]["xlat.miss"], count["200"]["xlat.hit"]) == (1, 1)
    assert [each for each in without_times(found["100"][1]) if "gap" in each] == []
    assert (count["100"]["xlat.hit"], count["100"]["source.gap"]) == (1, 0)


def test_a_worker_that_comes_first_works_for_the_only_vm() -> None:
    text = PREAMBLE + lines(write(0x8080088, 0x20), at=1) + worker_msi(KVM, 2)
    events = only(text)[1]
    assert [each for each in without_times(events) if "msi" in each] == [
        "msi device_id=0x8 event_id=0x2 doorbell=0x8090040 path=worker",
        "msi.result cause=2 result=1",
    ]


def test_a_thread_that_nothing_told_of_waits_until_something_does() -> None:
    two = lines(*born(), at=1, thread=100) + lines(*born(OTHER), at=2, thread=200, tgid=200)
    early = lines(write(0x8080088, 0x20), at=3, thread=201, tgid=None)
    behind = lines(write(0x8080088, 0x40), at=3.1, thread=101)
    told = marker(3.2, "threads 200 200 201")
    _, found = split((PREAMBLE + two + early + behind + told).encode())
    assert without_times(found["200"][1])[-1] == "reg.write offset=0x88 value=0x20"
    assert without_times(found["100"][1])[-1] == "reg.write offset=0x88 value=0x40"
    vms, _ = split((PREAMBLE + two + early + behind).encode())
    assert vms.stats.gaps == [
        (vms.stats.lines, "a record of a thread that nothing tells the VM of")
    ]


def test_a_vm_whose_first_records_name_no_process_is_one_vm() -> None:
    """As a busy host printed it: the thread that makes the VM has not been switched to yet."""
    early = lines(attr("gset_attr", 4, 0), back("gset_attr_ret", 0), thread=118, tgid=None)
    text = PREAMBLE + early + lines(*born(), at=11, thread=118, tgid=118)
    vms, _ = split(text.encode())
    assert list(vms.known) == ["118"]


def test_a_look_up_that_began_before_the_recording_is_no_gap() -> None:
    text = PREAMBLE + lines(back("msic_ret", 0), at=9) + lines(*born())
    vms, _ = split(text.encode())
    assert vms.stats.gap_count == 0
    late = text + lines(back("msic_ret", 0), at=12)
    vms, _ = split(late.encode())
    assert vms.stats.gap_count == 1


def test_whose_a_kvm_is_helps_what_came_before() -> None:
    """An irqfd of a VM that was joined is signalled by a thread of nobody's, before a vCPU runs."""
    text = PREAMBLE + "#its threads: 100 101\n#its threads: 200 201\n"
    text += interrupted(KVM, 10.0, 7, 7, "backend") + interrupted(OTHER, 10.5, 7, 7, "backend")
    text += line(11, f"who: (kvm_arch_vcpu_load+0x0/0x100) kvm={KVM:#x}", thread=101)
    text += line(11.1, f"who: (kvm_arch_vcpu_load+0x0/0x100) kvm={OTHER:#x}", thread=201, tgid=None)
    vms, found = split(text.encode())
    assert vms.stats.gap_count == 0
    assert [(name, vm.kvm) for name, vm in vms.known.items()] == [("100", KVM), ("200", OTHER)]
    for _, events in found.values():
        assert [kind_name(each[0]) for each in events].count("msi") == 1


def test_a_thread_that_nothing_tells_of_is_the_only_vms() -> None:
    text = PREAMBLE + lines(*born(), at=1, thread=100)
    text += lines(write(0x8080088, 0x20), at=3, thread=101, tgid=None)
    assert without_times(only(text)[1])[-1] == "reg.write offset=0x88 value=0x20"


def test_the_next_vm_of_a_process_is_another_one() -> None:
    gone = f"destroy: (vgic_its_destroy+0x0/0xc4) dev=0x1 kvm={KVM:#x}"
    text = PREAMBLE + lines(*born(), gone, *born(), write(0x8080088, 0x20))
    _, found = split(text.encode())
    assert list(found) == ["100", "100-2"]
    assert without_times(found["100-2"][1])[-1] == "reg.write offset=0x88 value=0x20"
    assert not any("source.gap" in each for each in without_times(found["100"][1]))


def test_two_vms_at_once_in_one_process_are_told_to_be_mixed() -> None:
    _, found = split((PREAMBLE + lines(*born(), *born(OTHER))).encode())
    assert list(found) == ["100", "100-2"]
    assert "its process has several VMs" in "".join(without_times(found["100"][1]))


def test_only_one_vm_is_made_when_only_one_is_wanted() -> None:
    text = PREAMBLE + lines(*born(), at=1) + lines(*born(OTHER), at=2, thread=200, tgid=200)
    vms, found = split(text.encode(), only=200)
    assert list(found) == ["200"]
    assert set(vms.known) == {"100", "200"}


# --- attributes


REDIST, DIST = 5, 1


def value(name: str, group: int, number: int, val: int, ret: int = 0, sp: int = 0x10) -> list[str]:
    return [
        attr(name, group, number, ptr=0x10, sp=sp),
        f"{back(name + '_ret', ret)} val={val:#x}",
    ]


def test_a_vmms_reads_are_reads_with_their_errno() -> None:
    story(
        lines(
            *value("get_attr", 8, 0x100, 0x1907000000000600),
            *value("get_attr", 8, 0x48, 0x77, ret=-6),
            *value("gget_attr", REDIST, 3 << 32 | 0x70, 0xFFFF0000425C078F),
            *value("gget_attr", DIST, 0, 0x50),
        ),
        """
        reg.read offset=0x100 value=0x1907000000000600 origin=vmm
        attr.result cause=1 errno=0
        reg.read offset=0x48 value=0x0 origin=vmm
        attr.result cause=1 errno=-6
        gicr.read cpu=3 offset=0x70 value=0x425c078f size=4 origin=vmm
        attr.result cause=1 errno=0
        gicd.read offset=0x0 value=0x50 origin=vmm
        attr.result cause=1 errno=0
        """,
    )


def test_a_value_that_does_not_stand_at_the_stack_pointer_is_refused() -> None:
    story(
        lines(*value("get_attr", 8, 0x100, 0x1907000000000600, sp=0x20)),
        """
        source.gap reason="what the VMM reads is not shown: its attribute does not stand where we look"
        """,
    )


def test_a_vmms_writes_to_the_gic_by_what_they_are() -> None:
    story(
        lines(
            attr("gset_attr", 0, 2, "0x9000000"), back("gset_attr_ret", 0),
            attr("gset_attr", 3, 0, "0xffff00000120"), back("gset_attr_ret", 0),
            attr("gset_attr", REDIST, 0x101 << 32 | 0x70, "0x4040000f"), back("gset_attr_ret", 0),
            attr("gset_attr", REDIST, 0x10080, "0x1"), back("gset_attr_ret", 0),
            back("gset_attr_ret", 0),  # of an entry that is filtered out
            attr("gset_attr", DIST, 0, "0x52"), back("gset_attr_ret", 0),
            attr("gset_attr", DIST, 0x100, "0x1"), back("gset_attr_ret", 0),
            attr("gset_attr", 4, 3), back("gset_attr_ret", -16),
        ),
        """
        attr.set device=gic group=0 attr=0x2 value=0x9000000
        attr.result cause=1 errno=0
        attr.set device=gic group=3 attr=0x0 value=0x120
        attr.result cause=1 errno=0
        gicr.write cpu=17 offset=0x70 value=0x4040000f size=4 origin=vmm
        attr.result cause=1 errno=0
        gicd.write offset=0x0 value=0x52 origin=vmm
        attr.result cause=1 errno=0
        save_pending
        attr.result cause=1 errno=-16
        """,
    )  # fmt: skip


def test_the_gics_addresses_are_those_that_the_vmm_set() -> None:
    region = 2 << 52 | 0x3000_0000
    text = PREAMBLE + lines(
        attr("gset_attr", 0, 2, "0x20000000"), attr("gset_attr", 0, 5, hex(region)), *born(),
        write(0x2000_0000, 2, 4), write(0x3002_0070, 0x4040000F), write(0x80A0070, 1),
        write(0x3004_0070, 1),
    )  # fmt: skip
    header, events = only(text)
    written = [each for each in without_times(events) if ".write" in each]
    assert written == [
        "gicd.write offset=0x0 value=0x2",
        "gicr.write cpu=1 offset=0x70 value=0x4040000f",
    ]
    assert header.annotations["gicd_base"] == "0x20000000"
    assert header.annotations["gicr_base"] == "0x30000000"


# --- intervals


def read_beside(end: float) -> str:
    """A write that returns at `end`, and another vCPU's read from 5.0002 to 5.0003."""
    text = lines(write(0x8080100, 0), at=5.0)
    text += line(5.0002, asked(0x8080090), thread=102) + (
        line(end, back("mmio_ret", 0)) if end < 5.0003 else ""
    )
    text += line(5.0003, "mmio_rret: (f+0x1/0x2 <- dispatch_mmio_read) ret=0", thread=102)
    text += line(5.00031, got(0x8080090, 7), thread=102)
    return text + (line(end, back("mmio_ret", 0)) if end >= 5.0003 else "")


@pytest.mark.parametrize(("end", "overlap"), [(5.00019, False), (5.00025, True), (5.0009, True)])
def test_a_returns_record_ends_an_access_exactly(end: float, overlap: bool) -> None:
    text = read_beside(end)
    if end < 5.0002:  # in the order of time
        text = "".join(sorted(text.splitlines(True), key=lambda each: each.split("[000]")[1]))
    _, events = only(PREAMBLE + lines(*born(), at=1.0) + text)
    overlaps = [fields_of(each)["overlap"] for each in events if kind_name(each[0]) == "context"]
    assert (1 in overlaps) is overlap


# --- commands out of the caller's stack

QUEUE = [write(0x8080080, 0x8000000040300000), write(0x8080000, 1, 4)]
SHOWN_QUEUE = """\
reg.write offset=0x80 value=0x8000000040300000
reg.write offset=0x0 value=0x1 size=4
reg.write offset=0x88 value=0x40
"""


def queue_story(*records: str, wanted: str) -> None:
    accesses = [
        each
        for access in (*QUEUE, write(0x8080088, 0x40))
        for each in (access, back("mmio_ret", 0))
    ]
    accesses.pop()
    story(lines(*accesses, *records, back("mmio_ret", 0)), SHOWN_QUEUE + wanted)


def test_commands_stand_where_the_fetch_says_and_have_its_place() -> None:
    queue_story(
        fetch(0x40300000), stack(5, 1, 2, 3), fetch(0x40300020), stack(5, 4, 5, 6),
        wanted="command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3\n"
        "command cause=2 queue_offset=0x20 dw0=0x5 dw1=0x4 dw2=0x5 dw3=0x6",
    )  # fmt: skip


def test_a_place_comes_from_the_address_and_not_from_a_count() -> None:
    queue_story(
        fetch(0x40300000), stack(5, 1, 2, 3),  # the second one is not recorded
        wanted="command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([stack(5, 1, 2, 3)], "a command is not shown: where it was read to was not recorded"),
        ([fetch(0x40300000, 104), stack(5, 1, 2, 3)],
         "commands are not shown: they stand outside of the stack that is recorded"),
        ([fetch(0x40300000), stack(0, 0, 0, 0).replace("0xdead", "0x0")],
         "commands are not shown: trace-cmd and perf print arrays as zeros"),
        ([fetch(0x40300000, 41), stack(5, 1, 2, 3)],
         "commands are not shown: they stand outside of the stack that is recorded"),
        ([fetch(0x40300000, -8), stack(5, 1, 2, 3)],
         "commands are not shown: they stand outside of the stack that is recorded"),
    ],
)  # fmt: skip
def test_a_stack_that_does_not_fit_is_refused(records: list[str], why: str) -> None:
    queue_story(*records, wanted=f'source.gap reason="{why}"')


def test_a_place_in_the_stack_that_changes_is_refused() -> None:
    queue_story(
        fetch(0x40300000), stack(5, 1, 2, 3), fetch(0x40300020, 48), stack(5, 4, 5, 6, at=6),
        wanted="command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3\n"
        'source.gap reason="a command is not shown: it does not stand where this kernel keeps them"',
    )  # fmt: skip


def test_a_part_of_the_function_that_runs_the_queue_is_that_function() -> None:
    queue_story(
        fetch(0x40300000), stack(5, 1, 2, 3, caller="vgic_its_process_commands.part.0"),
        wanted="command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3",
    )  # fmt: skip


def test_others_read_32_bytes_too() -> None:
    queue_story(
        fetch(0x40300000), stack(9, 9, 9, 9, caller="kvm_something"),
        fetch(0x40300020), stack(5, 1, 2, 3),
        wanted="command cause=1 queue_offset=0x20 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3",
    )  # fmt: skip


def test_of_callers_that_are_addresses_those_are_commands_that_read_the_queue() -> None:
    address = stack(5, 1, 2, 3).replace("vgic_its_process_commands+0xbc/0xa5c", "ffff800080123456")
    queue_story(
        fetch(0x40900000), address, fetch(0x40300020), address,
        wanted="command cause=1 queue_offset=0x20 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3",
    )  # fmt: skip


def test_the_queue_of_a_vm_that_was_joined_is_found_by_its_last_command() -> None:
    text = PREAMBLE + lines(
        write(0x8080088, 0x1040), fetch(0x40301000), stack(5, 1, 2, 3), fetch(0x40301020),
        stack(5, 4, 5, 6), back("mmio_ret", 0), write(0x8080088, 0x20), fetch(0x40301040),
        stack(5, 7, 8, 9), fetch(0x40300000), stack(5, 1, 1, 1), back("mmio_ret", 0),
    )  # fmt: skip
    places = [
        fields_of(each)["queue_offset"] for each in only(text)[1] if kind_name(each[0]) == "command"
    ]
    assert places == [0x1000, 0x1020, 0x1040, 0x0]


# --- listings

LPI = "lpi        LPI 8192      1 0001001        0        1  0 160       -1 "
BEGIN, END = "sample 1 begin 100-15 start", "sample 1 end rows=1 skipped=0 lists=1"


def listing(*texts: str, at: float = 20.0) -> str:
    return "".join(marker(at + n / 1000, text) for n, text in enumerate(texts))


def test_a_listing_is_a_probe_that_disturbs_nothing() -> None:
    story(
        listing(BEGIN, f"sample 1 {LPI}", END),
        """
        context
        probe edge=begin lists=1
        lpi.live cause=0 intid=8192 target=1 flags=0x9 priority=160 queued=-1
        probe edge=end lists=1
        """,
    )


def test_a_listing_of_the_its() -> None:
    story(
        listing(
            BEGIN,
            "sample 1 its Device ID: 0x8, Event ID Range: [0 - 31]",
            "sample 1 its EVENT_ID    INTID  HWINTID   TARGET   COL_ID HW",
            "sample 1 its -----------------------------------------------",
            "sample 1 its        2     8194        0        3        3  0",
            "sample 1 its        3     8195        0 4294967295        4  0",
            "sample 1 end rows=2 skipped=0 lists=3",
        ),
        """
        context
        probe edge=begin lists=1
        probe edge=end lists=1
        probe edge=begin lists=2
        its.live cause=0 device_id=0x8 event_id=0x2 intid=8194 target=3 icid=3
        its.live cause=0 device_id=0x8 event_id=0x3 intid=8195 target=-1 icid=4
        probe edge=end lists=2
        """,
    )


def shown_overlap(*between: str) -> int:
    text = listing(BEGIN) + "".join(between) + listing(f"sample 1 {LPI}", END, at=21.0)
    events = only(PREAMBLE + lines(*born(), at=1.0) + text)[1]
    at = next(n for n, each in enumerate(events) if kind_name(each[0]) == "probe")
    context = [each for each in events[:at] if kind_name(each[0]) == "context"][-1]
    return int(fields_of(context)["overlap"])


def test_a_listing_overlaps_what_may_have_changed_what_it_lists() -> None:
    mmio = lines(write(0x8080088, 0x20), back("mmio_ret", 0), at=20.1)
    read = lines(asked(0x8080090), got(0x8080090, 0), at=20.1)
    pending = lines(f"{msi('msi')} kvm={KVM:#x}", back("msi_ret", 1), at=20.1)
    assert shown_overlap() == 0
    assert shown_overlap(read, pending) == 0
    assert shown_overlap(mmio) == 1
    assert shown_overlap(lines(write(0x8080088, 0x20), at=20.1)) == 1


@pytest.mark.parametrize(
    ("rows", "lists"),
    [
        (["sample 1 lpi        LPI 8192 freed"], 1),
        (["sample 1 lpi what is this"], 0),
        ([f"sample 1 {LPI}"], 1),
    ],
)
def test_a_listing_with_a_line_that_cannot_be_read_lists_nothing_whole(
    rows: list[str], lists: int
) -> None:
    events = only(PREAMBLE + lines(*born(), at=1.0) + listing(BEGIN, *rows, END))[1]
    assert fields_of(events[-1])["lists"] == lists


def test_a_listing_whose_begin_or_end_is_damaged_is_a_gap() -> None:
    for texts in ([f"sample 1 {LPI}"], ["sample 1 begin me start"], [BEGIN, "sample 1 end rows"]):
        vms, _ = split((PREAMBLE + lines(*born(), at=1.0) + listing(*texts)).encode())
        assert vms.stats.gap_count == 1


# --- the command line


def two_vms() -> str:
    text = PREAMBLE + "#its command: 200 qemu -name beta\n"
    text += lines(*born(), at=1) + lines(*born(OTHER), at=2, thread=200, tgid=200)
    return text + lines(write(0x8080088, 0x20), at=3, thread=201, tgid=200)


def test_several_vms_are_listed_and_the_way_out_is_named(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    source, trace = tmp_path / "two.txt", tmp_path / "two.itstrace"
    source.write_text(two_vms())
    assert cli.main(["import", str(source), "-o", str(trace)]) == 2
    said = capsys.readouterr().err
    assert "there are 2 VMs in it: 100, 200 (qemu -name beta)" in said
    assert "--pid" in said
    assert "%p" in said
    assert not trace.exists()
    assert cli.main(["import", str(source), "-o", str(trace), "--pid", "200"]) == 0
    assert trace.exists()
    assert cli.main(["import", str(source), "-o", str(tmp_path / "x"), "--pid", "7"]) == 2
    assert "no VM of process 7 is in it: there are 100, 200" in capsys.readouterr().err


def test_each_vm_goes_into_a_file_of_its_own(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / "two.txt"
    source.write_text(two_vms())
    assert cli.main(["import", str(source), "-o", str(tmp_path / "vm-%p.itstrace")]) == 0
    assert {each.name for each in tmp_path.glob("vm-*")} == {"vm-100.itstrace", "vm-200.itstrace"}


def test_a_text_without_an_its_says_where_msis_go(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / "x.txt"
    far = msi("msi", addr=0x30010040) + f" kvm={KVM:#x}"
    source.write_text(PREAMBLE + lines(far, back("msi_ret", 1)))
    assert cli.main(["import", str(source), "-o", str(tmp_path / "x.itstrace")]) == 3
    assert "give --its-base 0x30000000" in capsys.readouterr().err
    given = ["import", str(source), "-o", str(tmp_path / "x.itstrace"), "--its-base", "0x30000000"]
    assert cli.main(given) == 0


# --- what a hostile stream can make grow


def peak_of(text: bytes) -> int:
    """Return the most that is held at a time, in bytes, when events are used as they come."""
    stream = text.splitlines()
    vms = Vms()
    tracemalloc.start()
    for each in stream:
        vms.take(each)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def many(count: int, make) -> bytes:  # type: ignore[no-untyped-def]
    return (PREAMBLE + "".join(make(at) for at in range(count))).encode()


def test_a_million_vms_are_a_few_and_it_is_said() -> None:
    text = many(3000, lambda at: line(1 + at / 1e5, born(KVM + at)[0], thread=at + 1, tgid=at + 1))
    vms, found = split(text)
    assert len(vms.known) == len(found) == MAX_VMS
    assert [reason for _, reason in vms.stats.gaps] == [
        "there are more than 256 VMs: records of others are not used"
    ]
    assert all(len(vm.log._open) <= 1 for vm in vms.known.values())


def test_the_vm_that_is_wanted_is_found_behind_any_number_of_others() -> None:
    text = many(400, lambda at: line(1 + at / 1e5, born(KVM + at)[0], thread=at + 1, tgid=at + 1))
    _, found = split(text, only=400)
    assert [each for each in without_times(found["400"][1]) if "init" in each] == ["init"]


ENDLESS = {
    "threads": lambda at: line(1 + at / 1e6, write(0x8080088, 0), thread=at + 1, tgid=100),
    "unknown": lambda at: line(1 + at / 1e6, write(0x8080088, 0), thread=at + 1, tgid=None),
    "listings": lambda at: marker(1 + at / 1e6, f"sample {at} begin {at}-1 start"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_comes_without_end_does_not_grow(what: str) -> None:
    vms, _ = split(many(WAIT_RECORDS + 1000, ENDLESS[what]))
    assert len(vms.facts.threads) <= 4096
    assert len(vms._samples) <= MAX_SAMPLES
    assert len(vms._waiting) <= WAIT_RECORDS
    assert all(len(vm.log._open) <= 4096 for vm in vms.known.values())


def test_memory_does_not_follow_the_length_of_a_stream() -> None:
    def access(at: int) -> str:
        return lines(asked(0x8080090), got(0x8080090, at & 0xFFE0), at=1 + at / 100)

    short, long = many(2_000, access), many(8_000, access)
    assert peak_of(long) < 2 * peak_of(short)


def test_a_listing_has_as_many_rows_as_there_can_be_lpis() -> None:
    rows = "".join(marker(20, f"sample 1 {LPI}") for _ in range(MAX_ROWS + 5))
    text = PREAMBLE + lines(*born(), at=1.0) + marker(19, BEGIN) + rows + marker(21, END)
    events = only(text)[1]
    assert sum(kind_name(each[0]) == "lpi.live" for each in events) == MAX_ROWS
    assert fields_of(events[-1])["lists"] == 0


def sample_text() -> list[str]:
    """A text with every kind of line."""
    text = PREAMBLE + "#its vm: 200-3 tgid=200 vcpus=2 its=8080000,9080000\n#its missing: x y\n"
    text += "#its threads: 100 100 101 102\n" + two_vms() + worker_msi(OTHER, 3)
    text += interrupted(KVM, 4, 101, 100, "CPU 0/KVM") + read_beside(5.0009)
    text += lines(*QUEUE, write(0x8080088, 0x40), fetch(0x40300000), stack(5, 1, 2, 3), at=6)
    text += lines(*value("get_attr", 8, 0x100, 1), *value("gget_attr", REDIST, 0x70, 1), at=7)
    text += lines(attr("gset_attr", REDIST, 0x70, "0x1"), back("gset_attr_ret", 0), at=8)
    text += listing(BEGIN, f"sample 1 {LPI}", "sample 1 its Device ID: 8, Event ID Range: [0 - 31]",
                    "sample 1 its        2     8194        0        3        3  0", END)  # fmt: skip
    text += marker(22, "threads 100 103") + marker(22, "vm 100-15 tgid=100 vcpus=2")
    return [*text.splitlines(), "#its lost: cpu 0 overrun 1 dropped 0", "#its missed: cmd 1"]


@pytest.mark.parametrize("seed", range(3))
def test_mutated_streams_give_sound_events(seed: int) -> None:
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()
    for _ in range(150):
        texts = sample_text()
        for _ in range(rng.randrange(1, 25)):
            mutate(rng, texts)
        data = "\n".join(texts).encode(errors="replace") + b"\n" * rng.randrange(2)
        try:
            _, found = split(data, only=rng.choice((None, None, 100)))
        except SourceError:
            kinds["SourceError"] += 1
            continue
        for _, events in found.values():
            check_events(events)
            kinds.update(kind_name(each[0]) for each in events)
            assert len(events) <= 4 * len(texts) + 200
    assert min(kinds[name] for name in ("source.gap", "lpi.live", "command", "gicr.write")) > 20
