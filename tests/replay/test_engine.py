"""The engine's quick way through reads and outputs: it counts what the slow one would."""

from __future__ import annotations

import io

import pytest

from replay.engine import Engine
from replay.observing import all_match
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from tracer.log.text import TextReader

HEADER = """\
# itstrace: 1
# source: "test"
# profile: "qemu-7.2.22"
# cpus: 1
# guest_ram: "observed"
"""
IIDR = ". +0 reg.read offset=0x4 value=0x43b size=4{}\n"


def tally(*lines):
    reader = TextReader(io.StringIO(HEADER + "".join(lines)), "life")
    return Engine(reader, QemuModel(reader.header, find("qemu-7.2.22")[0])).run()


def test_a_read_with_the_right_value_that_the_device_called_bad_diverges():
    assert tally(IIDR.format("")).matched == 1
    assert tally(IIDR.format(" bad=0")).matched == 1
    found = tally(IIDR.format(" bad=1"))
    assert (found.matched, found.kinds) == (0, {("reg.read", "bad"): 0})


def test_reads_beside_another_thread_are_ambiguous_from_the_context_on():
    overlap, alone = (f". +0 context its=0 cpu=0 thread=1 overlap={word}\n" for word in (1, 0))
    found = tally(
        IIDR.format(""), overlap, IIDR.format(""), IIDR.format(""), alone, IIDR.format("")
    )
    assert (found.matched, found.ambiguous) == (2, 2)


@pytest.mark.parametrize(
    ("outputs", "matches"),
    [
        ([(71, 5, 1, 0, 8, 0, 1, 2)], True),
        ([(71, 5, 1, 0, 8, 0, 1, 2, 99)], True),  # it tells more
        ([(71, 5, 1, 0, 8, 0, 1)], False),
        ([(71, 5, 1, 0, 8, 0, 1, 3)], False),
        ([(72, 5, 1, 0, 8, 0, 1, 2)], False),
        ([], False),
        ([(71, 5, 1, 0, 8, 0, 1, 2)] * 2, False),
    ],
)
def test_outputs_match_field_by_field(outputs, matches):
    assert all_match([(71, 0, 8, 0, 1, 2)], outputs) is matches
