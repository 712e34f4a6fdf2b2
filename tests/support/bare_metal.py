"""A guest without a kernel: machine code of a few instructions that drives an ITS on QEMU's virt.

It boots an ITS, maps one LPI and raises it, counts the life in RAM, and then resets the machine,
powers it off or begins anew. The counterpart is `small_guest`, which does so from Python.
"""

from __future__ import annotations

import struct
import sys

START = 0x4020_0000  # QEMU puts its device tree before it
COUNTER = 0x4100_0000
ITS = 0x0808_0000
_QUEUE, _ITT, _DEVICES, _COLLECTIONS = 0x4200_0000, 0x4201_0000, 0x4300_0000, 0x4203_0000
_CTLR, _TYPER, _CBASER, _CWRITER, _CREADR, _BASER = 0x0, 0x8, 0x80, 0x88, 0x90, 0x100
VALID = 1 << 63

# DeviceID 2 with 2^5 events, collection 0 on PE 0, EventID 3 as LPI 8195
_COMMANDS = (
    (0x08 | 2 << 32, 4, _ITT | VALID, 0),  # MAPD
    (0x09, 0, VALID, 0),  # MAPC
    (0x0A | 2 << 32, 3 | 8195 << 32, 0, 0),  # MAPTI
    (0x05, 0, 0, 0),  # SYNC
    (0x03 | 2 << 32, 3, 0, 0),  # INT
)
HVC, _SYSTEM_OFF, SYSTEM_RESET = 0xD400_0002, 0x8400_0008, 0x8400_0009


def move(register: int, value: int) -> list[int]:
    """movz and three movk: `register` = `value`."""
    return [
        (0xF280_0000 if at else 0xD280_0000)
        | at << 21
        | (value >> 16 * at & 0xFFFF) << 5
        | register
        for at in range(4)
    ]


def store(address: int, value: int, size: int = 8) -> list[int]:
    opcode = 0xF900_0001 if size == 8 else 0xB900_0001
    return [*move(0, address), *move(1, value), opcode]  # str x1, [x0]


def load(address: int, size: int = 8) -> list[int]:
    return [*move(0, address), 0xF940_0001 if size == 8 else 0xB940_0001]  # ldr x1, [x0]


def _life(table_size: int) -> list[int]:
    """Boot the ITS, have it run its commands, and look at what it says."""
    code = [*load(ITS + _TYPER), *load(ITS + _CREADR)]
    for at, doublewords in enumerate(_COMMANDS):
        for n, value in enumerate(doublewords):
            code += store(_QUEUE + 32 * at + 8 * n, value)
    code += store(ITS + _CTLR, 0, 4)
    code += store(ITS + _BASER, VALID | _DEVICES | table_size)
    code += store(ITS + _BASER + 8, VALID | _COLLECTIONS)
    code += store(ITS + _CBASER, VALID | _QUEUE)
    code += store(ITS + _CWRITER, 0)
    code += store(ITS + _CTLR, 1, 4)
    code += store(ITS + _CWRITER, 32 * len(_COMMANDS))
    return [*code, *load(ITS + _CREADR), *load(ITS + _CTLR, 4)]


def image(lives: int | None = None, *, table_size: int = 0, spin: int = 0) -> bytes:
    """Return the code: so many lives with a reset between any two, or (None) one without end.

    `table_size` is the Size and Page_Size of the device table's BASER; `spin` counts down in each
    life, for a guest that leaves others something of the machine.
    """
    count = [*load(COUNTER), 0x9100_0421, 0xF900_0001]  # add x1, x1, 1; str x1, [x0]
    wait = [*move(1, spin), 0xF100_0421, 0x54FF_FFE1] if spin else []  # subs x1, x1, 1; b.ne
    code = [*_life(table_size), *wait, *count]
    if lives is None:
        code.append(0x1400_0000 | -len(code) & 0x03FF_FFFF)  # b start
    else:
        off, reset = ([*move(0, call), HVC] for call in (_SYSTEM_OFF, SYSTEM_RESET))
        code += [0xF100_001F | lives << 10 | 1 << 5, 0x5400_0003 | (len(off) + 1) << 5]  # b.lo
        code += [*off, *reset]
    return struct.pack(f"<{len(code)}I", *code)


def main() -> None:
    """Write a guest of three lives to standard output; `qemu-system-aarch64 -kernel` takes it."""
    sys.stdout.buffer.write(image(3))


if __name__ == "__main__":
    main()
