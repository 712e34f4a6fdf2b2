"""A guest without a kernel that does random things to its ITS: registers, commands, resets.

Machine code of one endless round: random numbers (xorshift) decide which steps are taken and with
which values, half of them near what a driver would write. The state of the generator is in RAM, so
that a life goes on where the one before it was reset. The counterpart is `bare_metal`.
"""

from __future__ import annotations

import struct

from tests.support.bare_metal import HVC, ITS, START, SYSTEM_RESET, VALID, load, move, store

SEED = 0x4110_0000
_GICR = 0x080A_0000  # of CPU 0
_QUEUE, _TABLES = 0x4200_0000, 0x4280_0000
_CTLR, _CBASER, _CWRITER, _CREADR, _BASER, _TRANSLATER = 0x0, 0x80, 0x88, 0x90, 0x100, 0x1_0040
_STATE, _AT, _MASK, _VALUE, _ADDRESS = 20, 9, 8, 1, 0  # registers of the CPU
ANY = 2**64 - 1
_SCRATCH = 7
_VECTORS_BYTES = 0x1000  # from the start of the code; 0x200 further is where our faults go
# mrs elr_el1, add 4, msr elr_el1, eret: an access that the bus refuses is left out
_SKIP = (
    0xD538_4020 | _SCRATCH,
    0x9100_1000 | _SCRATCH << 5 | _SCRATCH,
    0xD518_4020 | _SCRATCH,
    0xD69F_03E0,
)
# (bits that are set, or by chance not; bits by chance) of the dwords of a command that has a
# chance: few devices, events and collections, all opcodes
_LIKELY = (
    (0, 0x0000_0003_0000_003F),
    (0, 0x0000_201F_0000_0007),
    (0x4300_0000, 0x8000_0000_0003_FF03),
    (0, 0x0000_0000_0FFF_0000),
)
_ANYTHING = ((0, ANY),) * 4
_IN_RAM = (0x4000_0000, 0x07FF_FFFF)


def _random(register: int, mask: int) -> list[int]:
    """Set a register to a random number under a mask."""
    shifts = ((0, 13), (1, 7), (0, 17))  # left, right, left
    return [
        *(
            0xCA00_0000 | way << 22 | _STATE << 16 | by << 10 | _STATE << 5 | _STATE
            for way, by in shifts
        ),
        *move(_MASK, mask),
        0x8A00_0000 | _MASK << 16 | _STATE << 5 | register,  # and
    ]


def _sometimes(body: list[int], *, one_in_log2: int = 1) -> list[int]:
    """Do `body` once in 2^n rounds."""
    guards: list[int] = []
    for n in range(one_in_log2):
        over = len(body) + one_in_log2 - n
        guards.append(0x3600_0000 | (20 + n) << 19 | over << 5 | _STATE)  # tbz
    return [*_random(_VALUE, 0), *guards, *body]


def _near_value(fixed: int, mask: int) -> list[int]:
    """Set a register to what a driver would write, with some bits flipped."""
    return [
        *_random(_VALUE, mask),
        *move(2, fixed),
        0xCA00_0000 | 2 << 16 | _VALUE << 5 | _VALUE,  # eor
    ]


def _near(address: int, fixed: int, mask: int, size: int = 8) -> list[int]:
    """Write that to a register."""
    opcode = 0xF900_0000 if size == 8 else 0xB900_0000
    return [
        *_near_value(fixed, mask),
        *move(_ADDRESS, address),
        opcode | _ADDRESS << 5 | _VALUE,
    ]


def _anywhere(base: int, offsets: int, value: tuple[int, int], size: int) -> list[int]:
    """Write it to a random register."""
    opcode = 0xF900_0000 if size == 8 else 0xB900_0000
    return [
        *_near_value(*value),
        *_random(2, offsets),
        *move(_ADDRESS, base),
        0x8B00_0000 | 2 << 16 | _ADDRESS << 5 | _ADDRESS,  # add
        opcode | _ADDRESS << 5 | _VALUE,
    ]


def _command(dwords: tuple[tuple[int, int], ...]) -> list[int]:
    """Write a random command to a random place of the queue."""
    code = [*_random(3, 0xFE0), *move(_ADDRESS, _QUEUE), 0x8B00_0000 | 3 << 16 | _ADDRESS << 5 | 3]
    for n, (fixed, mask) in enumerate(dwords):
        code += [*_near_value(fixed, mask), 0xF900_0000 | n << 10 | 3 << 5 | _VALUE]
    return code


def _round() -> list[int]:
    keep = [*move(_AT, SEED), 0xF900_0000 | _AT << 5 | _STATE]  # str
    baser = [
        *_near(ITS + _BASER, VALID | _TABLES, 0x4000_0000_0000_0303),
        *_near(ITS + _BASER + 8, VALID | _TABLES + 0x40_0000, 0x0000_0000_0000_0303),
    ]
    lpis = [
        *_near(_GICR + 0x70, 0x4400_000D, 0x0000_0000_0000_0F9F),
        *_near(_GICR + 0x78, 0x4500_0000, 0x4000_0000_0000_0F80),
        *_near(_GICR, 1, 1, 4),
    ]
    steps = [
        *_sometimes(store(ITS + _CTLR, 0, 4), one_in_log2=3),
        *_sometimes(baser, one_in_log2=3),
        *_sometimes(store(ITS + _CBASER, VALID | _QUEUE), one_in_log2=3),
        *_sometimes(_near(ITS + _CBASER, VALID | _QUEUE, 0x3), one_in_log2=6),
        *_sometimes(store(ITS + _CTLR, 1, 4), one_in_log2=2),
        *_sometimes(lpis, one_in_log2=4),
        *_sometimes(_anywhere(ITS, 0x1F8, (0, ANY), 8), one_in_log2=4),
        *_sometimes(_anywhere(ITS, 0x1FC, _IN_RAM, 4), one_in_log2=4),
        *_sometimes(_anywhere(ITS, 0x1_FFF8, (0, ANY), 8), one_in_log2=4),
        *_sometimes(_near(ITS + _TRANSLATER, 0, 7, 4)),
        *_sometimes(_anywhere(_GICR, 0x7C, _IN_RAM, 4), one_in_log2=5),
        *_sometimes(_command(_LIKELY)),
        *_sometimes(_command(_LIKELY)),
        *_sometimes(_command(_ANYTHING), one_in_log2=3),
        *_sometimes(_near(ITS + _CWRITER, 0, 0xFE0), one_in_log2=3),
        *_sometimes(_near(ITS + _CWRITER, 0, ANY), one_in_log2=6),
        *_sometimes(load(ITS + _CREADR), one_in_log2=2),
        *_sometimes([*keep, *move(_ADDRESS, SYSTEM_RESET), HVC], one_in_log2=9),
    ]
    return [*steps, *keep]


def image(seed: int) -> bytes:
    """Return the code for one seed, which is not 0."""
    start = [
        *move(_SCRATCH, START + _VECTORS_BYTES),
        0xD518_C000 | _SCRATCH,  # msr vbar_el1
        *move(_AT, SEED),
        0xF940_0000 | _AT << 5 | _STATE,  # ldr
        0xB500_0000 | 5 << 5 | _STATE,  # cbnz
        *move(_STATE, seed),
    ]
    body = _round()
    code = [*start, *body, 0x1400_0000 | -len(body) & 0x03FF_FFFF]
    packed = struct.pack(f"<{len(code)}I", *code)
    return packed.ljust(_VECTORS_BYTES + 0x200, b"\0") + struct.pack("<4I", *_SKIP)
