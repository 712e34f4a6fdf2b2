"""Every command, against a second table from reference/its.md 2.1 and 2.2, and its 2.4.

A field is `Name=dwN[hi:lo]`, an address held in place `Name@dwN[hi:lo]`. RDbase is [51:16]: its.md
gives [50:16] for the driver's header and [51:16] for QEMU, whose log is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings, strategies as st

from tracer.its.command_errors import COMMAND_ERRORS
from tracer.its.commands import (
    BY_NAME,
    BY_OPCODE,
    COMMAND_SIZE_BYTES,
    COMMANDS,
    NO_DOORBELL,
    Opcode,
    decode,
    encode,
    join,
    known_masks,
    split,
)

TABLE = """
MOVI    0x01 GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0] ICID=dw2[15:0]
INT     0x03 GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0]
CLEAR   0x04 GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0]
SYNC    0x05 GICv3   RDbase=dw2[51:16]
MAPD    0x08 GICv3   DeviceID=dw0[63:32] Size=dw1[4:0] ITT_addr@dw2[51:8] V=dw2[63:63]
MAPC    0x09 GICv3   ICID=dw2[15:0] RDbase=dw2[51:16] V=dw2[63:63]
MAPTI   0x0a GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0] pINTID=dw1[63:32] ICID=dw2[15:0]
MAPI    0x0b GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0] ICID=dw2[15:0]
INV     0x0c GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0]
INVALL  0x0d GICv3   ICID=dw2[15:0]
MOVALL  0x0e GICv3   RDbase1=dw2[51:16] RDbase2=dw3[51:16]
DISCARD 0x0f GICv3   DeviceID=dw0[63:32] EventID=dw1[31:0]
VMOVI   0x21 GICv4   DeviceID=dw0[63:32] EventID=dw1[31:0] vPEID=dw1[47:32] D=dw2[0:0] Doorbell=dw2[63:32]
VMOVP   0x22 GICv4   SeqNum=dw0[47:32] ITSList=dw1[15:0] vPEID=dw1[47:32] RDbase=dw2[51:16] DB=dw2[63:63] Default_Doorbell=dw3[31:0]
VSGI    0x23 GICv4.1 Enable=dw0[8:8] Clear=dw0[9:9] Group=dw0[10:10] Priority=dw0[23:20] vINTID=dw0[35:32] vPEID=dw1[47:32]
VSYNC   0x25 GICv4   vPEID=dw1[47:32]
VMAPP   0x29 GICv4   Alloc=dw0[8:8] PTZ=dw0[9:9] VCONF_addr@dw0[51:16] Default_Doorbell=dw1[31:0] vPEID=dw1[47:32] RDbase=dw2[51:16] V=dw2[63:63] VPT_size=dw3[4:0] VPT_addr@dw3[51:16]
VMAPTI  0x2a GICv4   DeviceID=dw0[63:32] EventID=dw1[31:0] vPEID=dw1[47:32] vINTID=dw2[31:0] Dbell_pINTID=dw2[63:32]
VMAPI   0x2b GICv4   DeviceID=dw0[63:32] EventID=dw1[31:0] vPEID=dw1[47:32] Dbell_pINTID=dw2[63:32]
VINVALL 0x2d GICv4   vPEID=dw1[47:32]
INVDB   0x2e GICv4.1 vPEID=dw1[47:32]
"""


@dataclass(frozen=True)
class Bits:
    name: str
    word: int
    hi: int
    lo: int
    place: int

    @property
    def attr(self) -> str:
        return ATTRS.get(self.name, self.name.lower())


# Where the Python name is not just the manual's in small letters.
ATTRS = {
    "DeviceID": "device_id",
    "EventID": "event_id",
    "vPEID": "vpe_id",
    "SeqNum": "seq_num",
    "ITSList": "its_list",
}


@dataclass(frozen=True)
class Row:
    name: str
    opcode: int
    since: str
    fields: tuple[Bits, ...]


def field_of(text: str) -> Bits:
    match = re.fullmatch(r"(\w+)([=@])dw(\d)\[(\d+):(\d+)\]", text)
    assert match, text
    place = int(match[5]) if match[2] == "@" else 0
    return Bits(match[1], int(match[3]), int(match[4]), int(match[5]), place)


def parsed() -> dict[str, Row]:
    rows = {}
    for line in TABLE.strip().splitlines():
        name, opcode, since, *fields = line.split()
        rows[name] = Row(name, int(opcode, 16), since, tuple(map(field_of, fields)))
    return rows


WRITTEN = parsed()
each_command = pytest.mark.parametrize("row", WRITTEN.values(), ids=WRITTEN)


def read_slowly(digits: list[str], field: Bits) -> int:
    """`digits` are the four doublewords, each written as people do, highest bit first."""
    return int(digits[field.word][63 - field.hi : 64 - field.lo] + "0" * field.place, 2)


def as_digits(words: tuple[int, ...]) -> list[str]:
    return [f"{word:064b}" for word in words]


# --- the table, both ways


def test_these_commands_and_no_others() -> None:
    assert [spec.name for spec in COMMANDS] == list(WRITTEN)
    assert {spec.name: int(spec.opcode) for spec in COMMANDS} == {
        row.name: row.opcode for row in WRITTEN.values()
    }
    assert {spec.name: spec.since for spec in COMMANDS} == {
        row.name: row.since for row in WRITTEN.values()
    }
    assert [opcode.name for opcode in Opcode] == list(WRITTEN)
    assert list(BY_NAME) == list(WRITTEN)
    assert list(BY_OPCODE) == [row.opcode for row in WRITTEN.values()]


@each_command
def test_these_fields_and_no_others(row: Row) -> None:
    layout = BY_NAME[row.name].layout
    written = {("Opcode", "opcode", 7, 0, 0)} | {
        (
            field.name,
            field.attr,
            64 * field.word + field.hi,
            64 * field.word + field.lo,
            field.place,
        )
        for field in row.fields
    }
    assert written == {
        (field.name, field.attr, field.hi, field.lo, field.place) for field in layout.fields_
    }
    assert not any(field.alias for field in layout.fields_)
    assert layout.width_ == 256 == 8 * COMMAND_SIZE_BYTES


def test_every_error_has_a_code_and_every_code_a_command() -> None:
    used = {error for spec in COMMANDS for error in spec.errors}
    assert used == set(COMMAND_ERRORS)


def test_no_doorbell() -> None:
    assert NO_DOORBELL == 1023


# --- bit by bit


@each_command
def test_a_single_one_walks_through_all_256_bits(row: Row) -> None:
    layout = BY_NAME[row.name].layout
    for word in range(4):
        for at in range(64):
            digits = ["0" * 64] * 4
            digits[word] = "0" * (63 - at) + "1" + "0" * at
            # Laid end to end, the last doubleword's digits come first.
            seen = dict(layout(int("".join(reversed(digits)), 2)).items_())
            opcode = int(digits[0][56:], 2)
            want = {field.name: read_slowly(digits, field) for field in row.fields}
            assert seen == {"Opcode": opcode} | want
            lit = opcode or any(want.values())
            assert bool(layout.reserved_ >> (64 * word + at) & 1) == (not lit)


@each_command
@settings(derandomize=True, database=None, deadline=None, max_examples=30)
@given(words=st.tuples(*[st.integers(0, 2**64 - 1)] * 4))
def test_decode_reads_what_the_digits_say_and_encode_gives_it_back(
    row: Row, words: tuple[int, int, int, int]
) -> None:
    words = (words[0] & ~0xFF | row.opcode, *words[1:])
    digits = as_digits(words)
    name, values = decode(*words)
    assert name == row.name
    assert dict(values) == {field.name: read_slowly(digits, field) for field in row.fields}
    again = encode(row.name, **{field.attr: dict(values)[field.name] for field in row.fields})
    # What comes back is the command with its reserved bits zero.
    named = as_digits(known_masks(row.name, *(field.attr for field in row.fields)))
    for word in range(4):
        kept = [d if n == "1" else "0" for d, n in zip(digits[word], named[word], strict=True)]
        assert f"{again[word]:064b}" == "".join(kept)


@each_command
def test_every_field_refuses_one_more_than_it_can_hold(row: Row) -> None:
    for field in row.fields:
        most = int("1" * (field.hi - field.lo + 1) + "0" * field.place, 2)
        full = ["0" * 64] * 4
        full[0] = f"{row.opcode:064b}"
        ones = "0" * (63 - field.hi) + "1" * (field.hi - field.lo + 1) + "0" * field.lo
        full[field.word] = f"{int(full[field.word], 2) | int(ones, 2):064b}"
        assert as_digits(encode(row.name, **{field.attr: most})) == full
        for wrong in (most + (1 << field.place), -1 << field.place):
            with pytest.raises(ValueError) as error:  # noqa: PT011 (its whole text is compared)
                encode(row.name, **{field.attr: wrong})
            place = f"{64 * field.word + field.hi}:{64 * field.word + field.lo}"
            assert str(error.value) == f"{field.name} must fit bits {place}, not {wrong:#x}"


@each_command
def test_known_masks_are_the_opcode_and_the_named_fields(row: Row) -> None:
    assert known_masks(row.name) == (0xFF, 0, 0, 0)
    for field in row.fields:
        want = [list("0" * 64) for _ in range(4)]
        want[0][56:] = "1" * 8
        want[field.word][63 - field.hi : 64 - field.lo] = "1" * (field.hi - field.lo + 1)
        got = known_masks(row.name, field.attr)
        assert as_digits(got) == ["".join(word) for word in want]


def test_encode_refuses_a_field_that_the_command_does_not_have() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        encode("INT", device_id=1, event_id=2, icid=3)
    assert str(error.value) == ("EventCommand has no field icid, only opcode, device_id, event_id")


def test_an_opcode_that_is_no_command_is_its_own_name() -> None:
    known = {row.opcode: row.name for row in WRITTEN.values()}
    for opcode in range(256):
        words = (0xFFFF_FFFF_FFFF_FF00 | opcode, 2**64 - 1, 2**64 - 1, 2**64 - 1)
        name, fields = decode(*words)
        assert name == known.get(opcode, f"{opcode:#x}")
        assert bool(fields) == (opcode in known)


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(words=st.tuples(*[st.integers(0, 2**64 - 1)] * 4))
def test_four_doublewords_are_one_number_and_back(words: tuple[int, int, int, int]) -> None:
    raw = join(*words)
    assert f"{raw:0256b}" == "".join(reversed(as_digits(words)))
    assert split(raw) == words


# --- golden encodings: its.md 2.4, in its words (`bits=8` is Size 7; names are the manual's)

GOLDEN = """
MAPD    DeviceID=2 Size=7 ITT_addr=0x40200000 V=1 | 0000000200000008 0000000000000007 8000000040200000 0
MAPD    DeviceID=2 V=0                            | 0000000200000008 0 0 0
MAPC    ICID=3 RDbase=3 V=1                       | 0000000000000009 0 8000000000030003 0
MAPC    ICID=3 RDbase=3 V=0                       | 0000000000000009 0 0000000000030003 0
MAPTI   DeviceID=2 EventID=20 pINTID=8195 ICID=3  | 000000020000000a 0000200300000014 0000000000000003 0
MAPI    DeviceID=2 EventID=8200 ICID=3            | 000000020000000b 0000000000002008 0000000000000003 0
MOVI    DeviceID=2 EventID=20 ICID=2              | 0000000200000001 0000000000000014 0000000000000002 0
DISCARD DeviceID=2 EventID=20                     | 000000020000000f 0000000000000014 0 0
INT     DeviceID=2 EventID=20                     | 0000000200000003 0000000000000014 0 0
CLEAR   DeviceID=2 EventID=20                     | 0000000200000004 0000000000000014 0 0
INV     DeviceID=2 EventID=20                     | 000000020000000c 0000000000000014 0 0
INVALL  ICID=3                                    | 000000000000000d 0 0000000000000003 0
MOVALL  RDbase1=1 RDbase2=2                       | 000000000000000e 0 0000000000010000 0000000000020000
SYNC    RDbase=3                                  | 0000000000000005 0 0000000000030000 0
VMAPP   vPEID=5 RDbase=1 V=1 VPT_addr=0x50000000 VPT_size=15 | 0000000000000029 0000000500000000 8000000000010000 000000005000000f
VMAPTI  DeviceID=2 EventID=21 vPEID=5 vINTID=8300 Dbell_pINTID=8400 | 000000020000002a 0000000500000015 000020d00000206c 0
VMOVP   SeqNum=1 ITSList=3 vPEID=5 RDbase=2       | 0000000100000022 0000000500000003 0000000000020000 0
VINVALL vPEID=5                                   | 000000000000002d 0000000500000000 0 0
VSYNC   vPEID=5                                   | 0000000000000025 0000000500000000 0 0
"""
GOLDEN_ROWS = [line.split(" | ") for line in GOLDEN.strip().splitlines()]
each_golden = pytest.mark.parametrize(
    ("what", "words"), GOLDEN_ROWS, ids=[re.sub(" +", "-", row[0].strip()) for row in GOLDEN_ROWS]
)


def golden(what: str) -> tuple[str, dict[str, int]]:
    name, *fields = what.split()
    pairs = (field.split("=") for field in fields)
    return name, {key: int(value, 0) for key, value in pairs}


@each_golden
def test_golden_encodings(what: str, words: str) -> None:
    name, values = golden(what)
    attrs = {ATTRS.get(key, key.lower()): value for key, value in values.items()}
    assert encode(name, **attrs) == tuple(int(word, 16) for word in words.split())


@each_golden
def test_golden_decodings(what: str, words: str) -> None:
    name, values = golden(what)
    others = dict.fromkeys((field.name for field in WRITTEN[name].fields), 0)
    decoded = decode(*(int(word, 16) for word in words.split()))
    assert (decoded[0], dict(decoded[1])) == (name, others | values)
