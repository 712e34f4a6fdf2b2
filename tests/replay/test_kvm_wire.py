"""The protocol between itstrace and the program on a KVM host: one set of numbers, no belief."""

from __future__ import annotations

import mmap
import random
import re
import struct
import zlib
from pathlib import Path

import pytest

from replay.targets import kvm_wire as wire
from replay.targets.errors import TargetError
from replay.targets.kvm_wire import Reply, Request, Wire, unpack

FOLDER = Path(wire.__file__).with_name("kvm_host")
SOURCE = "".join(path.read_text() for path in sorted(FOLDER.glob("*.[ch]")))


def number(name):
    """The value of an enumeration's member or macro of host.c."""
    text = re.search(rf"\b{name}\b(?: =)? (\w+(?: << \w+)?)", SOURCE)[1]
    left, _, shift = text.removesuffix("ull").partition(" << ")
    return int(left, 0) << int(shift or 0)


@pytest.mark.parametrize("name", ["MAX_VMS", "MAX_ACCESSES", "ACCESSES_AT", "MAGIC"])
def test_a_limit_is_the_same_on_both_sides(name):
    assert number(name) == getattr(wire, name)


def test_the_areas_lie_where_the_program_has_them():
    assert number("AREA") == wire.AREA_BYTES
    words = re.search(r"struct shared \{\n(.*?)\n\};", SOURCE, re.DOTALL)[1]
    named = re.search(r"uint64_t (magic.*);", words)[1].split(", ")
    unused = int(re.search(r"unused\[(\d+)\]", words)[1])
    assert 8 * (len(named) + unused) == wire.REQUESTS_AT
    assert named == [
        "magic", "asked", "answered", "done",
        "request_bytes", "request_crc", "answer_bytes", "answer_crc", "lives",
    ]  # fmt: skip
    order = ["_MAGIC", "_ASKED", "_ANSWERED", "_DONE", "_REQUEST_BYTES", "_REQUEST_CRC"]
    order += ["_ANSWER_BYTES", "_ANSWER_CRC", "_LIVES"]
    assert [getattr(wire, each) for each in order] == [*range(9)]
    assert wire.ACCESSES_AT + 32 * (wire.MAX_ACCESSES + 1) <= wire.SHARED_BYTES


def test_every_operation_has_the_same_number():
    text = re.search(r"enum op \{(.*?)\};", SOURCE, re.DOTALL)[1]
    names = [word.strip().removeprefix("OP_") for word in text.replace(" = 1", "").split(",")]
    found = {name: at for at, name in enumerate(filter(None, names), 1)}
    assert len(found) == 18
    assert found == {name: getattr(wire, name) for name in found}


def test_a_request_is_laid_out_as_the_program_reads_it():
    assert (
        "struct request { uint32_t op; uint8_t vm, sub; uint16_t cpu; uint64_t x, y, z; };"
        in SOURCE
    )
    assert "struct answer { uint64_t value; int32_t error; uint32_t bytes; };" in SOURCE
    packed = Request(8, 1, 2, 0x304, 5, 6, 3, b"abc").packed()
    assert packed == struct.pack("<IBBHQQQ", 8, 1, 2, 0x304, 5, 6, 3) + b"abc" + bytes(5)


def answer(value=0, error=0, data=b""):
    return struct.pack("<QiI", value, error, len(data)) + data + bytes(-len(data) % 8)


WHOLE = answer(1) + answer(2, -6) + answer(3, 0, b"hello") + answer(4, 0, bytes(64))


def test_answers_are_taken_apart():
    assert unpack(WHOLE, 4, "host")[1:3] == [Reply(2, -6, b""), Reply(3, 0, b"hello")]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (WHOLE, 3), (WHOLE, 5), (WHOLE[:-1], 4), (WHOLE + b"\0" * 8, 4), (b"", 1),
        (answer(1)[:12] + b"\xff\xff\xff\xff", 1),
    ],
)  # fmt: skip
def test_too_few_too_many_and_cut_answers_are_refused(data, count):
    with pytest.raises(TargetError, match=rf"^host: \d answers to {count} requests$"):
        unpack(data, count, "host")


def test_no_change_of_an_answer_does_more_than_be_refused_or_give_other_values():
    dice = random.Random(5)
    refused = 0
    for _ in range(3000):
        data = bytearray(WHOLE)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        try:
            assert len(unpack(bytes(data), 4, "host")) == 4
        except TargetError:
            refused += 1
    assert refused > 500


@pytest.fixture
def memory():
    with mmap.mmap(-1, wire.SHARED_BYTES) as found:
        yield found


def answering(memory, data, *, crc=None, size=None):
    """A program that has its answer ready whatever it is asked."""

    def alive():
        struct.pack_into("@Q", memory, 8 * 6, len(data) if size is None else size)
        struct.pack_into("@Q", memory, 8 * 7, zlib.crc32(data) if crc is None else crc)
        memory[wire.ANSWERS_AT : wire.ANSWERS_AT + len(data)] = data
        memory[16:24] = memory[8:16]

    return alive


def test_a_batch_is_asked_and_answered(memory):
    found = Wire(memory, answering(memory, WHOLE), "host")
    assert [reply.value for reply in found.ask([Request(1)] * 4, 5)] == [1, 2, 3, 4]
    assert not found.lost


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"crc": 0}, "its answer is damaged"),
        ({"size": 1 << 40}, "an answer of 1099511627776 bytes cannot be"),
        ({"size": 8}, "its answer is damaged"),
    ],
)
def test_what_was_not_checked_is_not_believed(memory, how, said):
    found = Wire(memory, answering(memory, WHOLE, **how), "host")
    with pytest.raises(TargetError, match=said):
        found.ask([Request(1)] * 4, 5)
    assert found.lost


def test_no_answer_in_time_is_said(memory):
    found = Wire(memory, lambda: None, "host")
    with pytest.raises(wire.Silent, match=r"^host: it does not answer within 0\.01 s$"):
        found.ask([Request(1)], 0.01)
    assert found.lost


def test_a_number_is_stored_at_once():
    # `<Q` goes out byte by byte: a program that looks meanwhile takes 0x100 behind 0xff for 0, and
    # carries a batch out twice.
    assert wire._WORD.format == "@Q"
    assert "asked != answered + 1" in SOURCE


def test_what_does_not_fit_goes_in_several_batches():
    big = Request(wire.WRITE, z=1 << 20, data=bytes(1 << 20))
    assert [len(each) for each in wire._batches([big] * 7)] == [3, 3, 1]
    listing = Request(wire.LIVE)
    assert [len(each) for each in wire._batches([listing] * 40)] == [15, 15, 10]


def test_accesses_that_a_vcpu_made_count_as_done(memory):
    found = Wire(memory, lambda: None, "host")
    struct.pack_into("@Q", memory, 8 * 3, 5)
    assert found.done == 5
    for at, state in enumerate((1, 2, 0, 0)):
        struct.pack_into("<QQQQ", memory, wire.ACCESSES_AT + 32 * at, 3, 0x8080000, 0, state)
    assert found.done == 7
