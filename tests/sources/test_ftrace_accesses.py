"""A guest's accesses where the vgic takes them: the same events as the kernel's tracepoint gives.

The captures have both in one recording (tests/support/both_sources.py), so that nothing but the source differs.
"""

from __future__ import annotations

import random
import re
from functools import cache

import pytest

from tests.sources.test_ftrace_vms import (
    SHOWN_QUEUE,
    born,
    fetch,
    line,
    lines,
    only,
    stack,
    story,
)
from tests.support.both_sources import BUSY, NEW, OLD, after, before, lines_of, without
from tests.support.ftrace_text import back, got, mutate, split, without_times, write
from tracer.events import fields_of, kind_name
from tracer.log.checks import check_events
from tracer.sources.ftrace_vms import Vms

BOTH = [OLD, NEW, BUSY]
SP = 0xFFFF800008433700


def told(text: list[str]) -> tuple[Vms, list[str]]:
    vms, found = split("".join(text).encode())
    ((_, events),) = found.values()
    return vms, without_times(events)


@cache
def told_by_ours(name: str) -> tuple[Vms, list[str]]:
    return told(after(name))


@pytest.mark.parametrize("name", BOTH)
def test_both_sources_tell_the_same(name: str) -> None:
    kernels, wanted = told(before(name))
    ours, events = told_by_ours(name)
    assert events == wanted
    assert len(events) > 1000
    assert ours.stats.skipped < kernels.stats.skipped / 2
    assert ours.stats.ours == kernels.stats.ours


@pytest.mark.parametrize(("name", "read"), [(OLD, 0), (NEW, 7)])
def test_until_a_read_has_shown_its_value_the_tracepoint_tells_it(name: str, read: int) -> None:
    """As the script records: reads' values of all devices, and from some moment on no more."""
    both = without(r": mmio_rret: |: kvm_mmio: mmio (write|unsat)", lines_of(name))
    reads = [at for at, each in enumerate(both) if " kvm_mmio: mmio read " in each]
    first = next(at for at, each in enumerate(both) if ": mr_ret: " in each)
    switch = [at for at in reads if at > first][read]
    begun = both[:switch] + without(r": kvm_mmio: ", both[switch:])
    assert told(begun)[1] == told_by_ours(name)[1]


@pytest.mark.parametrize("name", [NEW])
def test_where_the_stack_does_not_fit_the_tracepoint_tells_all_values(name: str) -> None:
    both = without(r": mmio_rret: |: kvm_mmio: mmio (write|unsat)", lines_of(name))
    small = [re.sub(r"(: mr_ret: .*stk=\{0x[0-9a-f]+),.*\}", r"\1}", each) for each in both]
    assert small != both
    assert told(small)[1] == told_by_ours(name)[1]


def test_a_capture_without_reads_says_so() -> None:
    small = [re.sub(r"(: mr_ret: .*stk=\{0x[0-9a-f]+),.*\}", r"\1}", each) for each in after(NEW)]
    _, events = told(small)
    assert not any(
        each.startswith(("reg.read", "gicr.read")) and "origin" not in each for each in events
    )
    assert sum("reads are not shown: they stand outside" in each for each in events) == 1


# --- by hand


def mw(gpa: int, value: int, size: int = 8) -> str:
    return f"mw: (dispatch_mmio_write+0x0/0x130) gpa={gpa:#x} len={size} val={value:#x}"


def mr(gpa: int, size: int = 8, offset: int = 16) -> str:
    return f"mr: (dispatch_mmio_read+0x0/0x140) gpa={gpa:#x} len={size} data={SP + offset:#x}"


def mr_ret(value: int, at: int = 2, fill: int = 0xDEAD) -> str:
    words = [fill] * 16
    words[at] = value
    text = ",".join(map(hex, words))
    return f"mr_ret: (io_mem_abort+0x1b4/0x260 <- kvm_io_bus_read) ret=0 sp={SP:#x} stk={{{text}}}"


def test_commands_belong_to_the_write_that_the_vgic_takes() -> None:
    accesses = [mw(0x8080080, 0x8000000040300000), mw(0x8080000, 1, 4)]
    ended = [each for access in accesses for each in (access, back("mmio_ret", 0))]
    story(
        lines(
            *ended, mw(0x8080088, 0x20), fetch(0x40300000), stack(5, 1, 2, 3), back("mmio_ret", 0)
        ),
        SHOWN_QUEUE.replace("0x40\n", "0x20\n")
        + "command cause=1 queue_offset=0x0 dw0=0x5 dw1=0x1 dw2=0x2 dw3=0x3",
    )


def test_bytes_beyond_an_access_are_none_of_it() -> None:
    story(
        lines(
            mw(0x8080000, 0xFFFF_0000_0000_0001, 4), mr(0x8080000, 4), mr_ret(0xAAAA_0000_8000_0001)
        ),
        "reg.write offset=0x0 value=0x1 size=4\nreg.read offset=0x0 value=0x80000001 size=4",
    )


def test_a_read_that_is_told_twice_is_one_and_its_value_is_the_first() -> None:
    story(
        lines(mr(0x8080090), mr_ret(0x20), got(0x8080090, 0x20), mr(0x8080090), mr_ret(0x40)),
        "reg.read offset=0x90 value=0x20\nreg.read offset=0x90 value=0x40",
    )


def test_a_thread_that_reads_the_same_again_is_not_taken_for_the_same_read() -> None:
    story(
        lines(mr(0x8080090), mr_ret(0x20), got(0x8080090, 0x20), got(0x8080090, 0x20)),
        "reg.read offset=0x90 value=0x20\nreg.read offset=0x90 value=0x20",
    )


def test_what_is_read_of_the_distributor_is_no_value_of_a_read_before() -> None:
    story(
        lines(mr(0x8000004, 4), mr_ret(0x7), mr(0x8080090), mr_ret(0x60), mr_ret(0x80)),
        "reg.read offset=0x90 value=0x60",
    )


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([mr(0x8080090, offset=128), mr_ret(7)],
         "reads are not shown: they stand outside of the stack that is recorded"),
        ([mr(0x8080090, offset=-8), mr_ret(7)],
         "reads are not shown: they stand outside of the stack that is recorded"),
        ([mr(0x8080090, offset=12), mr_ret(7)],
         "reads are not shown: they stand outside of the stack that is recorded"),
        ([mr(0x8080090), mr_ret(0, fill=0)],
         "reads are not shown: trace-cmd and perf print arrays as zeros"),
        ([mr(0x8080090), "mr_ret: (f+0x1/0x2 <- kvm_io_bus_read) ret=0 sp=0x10"],
         "a read is not shown: the stack that holds it was not recorded"),
    ],
)  # fmt: skip
def test_a_stack_that_does_not_fit_is_refused(records: list[str], why: str) -> None:
    story(lines(*records), f'source.gap reason="{why}"')
    story(lines(*records, mr(0x8000004, 4)), f'source.gap reason="{why}"')
    story(lines(*records, got(0x8080090, 9)), "reg.read offset=0x90 value=0x9")


def test_a_place_in_the_stack_that_changes_is_refused() -> None:
    story(
        lines(mr(0x8080090), mr_ret(0x20), mr(0x8080090, offset=24), mr_ret(0x40, at=3)),
        "reg.read offset=0x90 value=0x20\n"
        'source.gap reason="a read is not shown: it does not stand where this kernel keeps them"',
    )


def test_a_return_that_nobody_began_is_nothing() -> None:
    story(lines(mr_ret(0x20), write(0x8080100, 1)), "reg.write offset=0x100 value=0x1")


def test_a_size_that_no_processor_has_is_a_gap() -> None:
    _, events = only(lines(*born(), mw(0x8080088, 0x20, 3)))
    gaps = [fields_of(each) for each in events if kind_name(each[0]) == "source.gap"]
    assert [each["reason"] for each in gaps if each["line"]] == [
        "an access of a size that no processor makes"
    ]


def test_a_read_lasts_from_where_the_vgic_takes_it_to_its_return() -> None:
    text = line(5.0, mr(0x8080090)) + line(5.0001, mw(0x8080100, 0), thread=102)
    text += line(5.0002, back("mmio_ret", 0), thread=102) + line(5.0003, mr_ret(0x20))
    _, events = only(lines(*born(), at=1.0) + text)
    overlaps = [fields_of(each)["overlap"] for each in events if kind_name(each[0]) == "context"]
    assert overlaps == [0, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_mutated_records_are_events_or_gaps(seed: int) -> None:
    rng = random.Random(seed)
    whole = after(NEW)
    for _ in range(10):
        at = rng.randrange(len(whole) - 300)
        texts = whole[:6] + whole[at : at + 300]
        for _ in range(40):
            mutate(rng, texts)
        vms, found = split("".join(texts).encode(errors="replace"))
        for _, events in found.values():
            check_events(events)
        assert vms.stats.lines > 0
