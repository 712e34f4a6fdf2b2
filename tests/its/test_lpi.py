"""LPIs in guest RAM, and the error codes of commands: tables computed by hand."""

from __future__ import annotations

import pytest

from tracer.its.command_errors import COMMAND_ERRORS, ERROR_NAMES
from tracer.its.lpi import (
    FIRST_LPI,
    PENDING_UNUSED_BYTES,
    LpiConfig,
    config_byte,
    pending_bit,
)


@pytest.mark.parametrize(
    ("propbase", "intid", "where"),
    [
        (0x0000_0000, 8192, 0x0000_0000),
        (0x4261_0000, 8192, 0x4261_0000),
        (0x4261_0000, 8193, 0x4261_0001),
        (0x4261_0000, 8195, 0x4261_0003),
        (0x4261_0000, 16383, 0x4261_1FFF),
        (0x4261_0000, 16384, 0x4261_2000),
        (0x4261_0000, 65535, 0x4261_DFFF),
        (0xF_FFFF_FFFF_0000, 8192, 0xF_FFFF_FFFF_0000),
    ],
)
def test_the_configuration_byte_of_an_lpi(propbase: int, intid: int, where: int) -> None:
    assert hex(config_byte(propbase, intid)) == hex(where)


@pytest.mark.parametrize(
    ("pendbase", "intid", "where", "bit"),
    [
        (0x0000_0000, 8192, 0x0000_0400, 0),
        (0x4262_0000, 8192, 0x4262_0400, 0),
        (0x4262_0000, 8193, 0x4262_0400, 1),
        (0x4262_0000, 8195, 0x4262_0400, 3),
        (0x4262_0000, 8199, 0x4262_0400, 7),
        (0x4262_0000, 8200, 0x4262_0401, 0),
        (0x4262_0000, 8300, 0x4262_040D, 4),
        (0x4262_0000, 65535, 0x4262_1FFF, 7),
    ],
)
def test_the_pending_bit_of_an_lpi(pendbase: int, intid: int, where: int, bit: int) -> None:
    found = pending_bit(pendbase, intid)
    assert (hex(found[0]), found[1]) == (hex(where), bit)


def test_lpis_begin_at_8192_and_the_first_kib_of_a_pending_table_is_not_theirs() -> None:
    assert FIRST_LPI == 8192
    assert PENDING_UNUSED_BYTES == 1024
    assert pending_bit(0, FIRST_LPI) == (PENDING_UNUSED_BYTES, 0)


@pytest.mark.parametrize(
    ("byte", "enable", "group1", "priority"),
    [
        (0x00, 0, 0, 0x00),
        (0x01, 1, 0, 0x00),
        (0x02, 0, 1, 0x00),
        (0x04, 0, 0, 0x04),
        (0xA3, 1, 1, 0xA0),
        (0xFC, 0, 0, 0xFC),
        (0xFF, 1, 1, 0xFC),
    ],
)
def test_a_configuration_byte(byte: int, enable: int, group1: int, priority: int) -> None:
    seen = LpiConfig(byte)
    assert (seen.enable, seen.group1) == (enable, group1)
    # its.md 1.4: Priority[7:2], mask 0xfc; the field is the six bits, used with low bits zero.
    assert seen.priority << 2 == priority
    assert LpiConfig.priority.mask == 0xFC
    assert LpiConfig.reserved_ == 0


# its.md 2.3, word for word.
ERRORS = """
MOVI_UNMAPPED_INTERRUPT     0x010107
MOVI_UNMAPPED_COLLECTION    0x010109
INT_UNMAPPED_INTERRUPT      0x010307
CLEAR_UNMAPPED_INTERRUPT    0x010507
MAPD_DEVICE_OOR             0x010801
MAPD_ITTSIZE_OOR            0x010802
MAPC_PROCNUM_OOR            0x010902
MAPC_COLLECTION_OOR         0x010903
MAPTI_UNMAPPED_DEVICE       0x010a04
MAPTI_ID_OOR                0x010a05
MAPTI_PHYSICALID_OOR        0x010a06
INV_UNMAPPED_INTERRUPT      0x010c07
INVALL_UNMAPPED_COLLECTION  0x010d09
MOVALL_PROCNUM_OOR          0x010e01
DISCARD_UNMAPPED_INTERRUPT  0x010f07
"""


def test_error_codes() -> None:
    written = {name: int(code, 16) for name, code in map(str.split, ERRORS.strip().splitlines())}
    assert written == COMMAND_ERRORS
    assert {code: name for name, code in written.items()} == ERROR_NAMES
    assert len(ERROR_NAMES) == len(COMMAND_ERRORS) == 15


def test_the_error_of_clear_does_not_follow_its_opcode() -> None:
    assert COMMAND_ERRORS["CLEAR_UNMAPPED_INTERRUPT"] >> 8 & 0xFF == 0x05
