"""Registers out of the device state that QEMU saves: the sections of an ITS and of its GICv3.

`xen-save-devices-state` writes every device and no RAM; on KVM it is the only way to an ITS in the
kernel. A section begins with its name and ends with its number again, but has no length, so that
one is taken for real only where both ends fit. Source: migration/savevm.c,
hw/intc/arm_gicv3_its_common.c and arm_gicv3_common.c (vmstate_its, vmstate_gicv3_cpu); measured on
7.2.22 and 10.0.2, whose sections are the same. The counterpart is `qemu_probe`.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from tracer.errors import SourceError

MAX_STATE_BYTES: Final = 64 << 20
MAX_HEADS: Final = 64  # that are looked at; only a guest makes more than one
_HEAD: Final = rb"\x04(?P<id>....)%b%b\x00\x00\x00\x00%b"  # instance 0, and the version
_VERSIONS: Final = {b"arm_gicv3_its": b"\x00\x00\x00\x00", b"arm_gicv3": b"\x00\x00\x00\x01"}
_FOOT: Final = b"\x7e"
_SUBSECTION: Final = b"\x05"

_ITS: Final = struct.Struct(">II3Q8Q")
_ITS_REGISTERS: Final = (
    *("GITS_CTLR", "GITS_IIDR", "GITS_CBASER", "GITS_CWRITER", "GITS_CREADR"),
    *(f"GITS_BASER{n}" for n in range(8)),
)
# GICD_CTLR and STATUSR, seven bitmaps, priorities, routes and NSACR of up to 1020 interrupts
_GICD_BYTES: Final = 4 + 2 * 4 + 7 * 32 * 4 + 1020 + 1020 * 8 + 64 * 4
# level, CTLR, STATUSR twice, WAKER, PROPBASER, PENDBASER; then SGIs, PPIs and the CPU interface
_GICR: Final = struct.Struct(">I I 2I I Q Q 7I 32s 22Q")
_GICR_REGISTERS: Final = {"GICR_CTLR": 1, "GICR_PROPBASER": 5, "GICR_PENDBASER": 6}
_SUBSECTION_BYTES: Final = {
    b"arm_gicv3_cpu/virt": 8 * (3 * 4 + 1 + 16 + 1),
    b"arm_gicv3_cpu/sre_el1": 8,
    b"arm_gicv3_cpu/gicv4": 2 * 8,
    b"arm_gicv3/gicd_no_migration_shift_bug": 1,
}


Walk = tuple[list[int], int]  # places in a section, and where it ends


class Value(NamedTuple):
    """One register; `cpu` is None for one of the ITS."""

    name: str
    cpu: int | None
    value: int


class StateFile:
    """Where a QEMU saves its state: `name` is what QEMU opens, `fd` what is read here."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name

    def read(self) -> bytes:
        """Return what was saved.

        Raises:
            SourceError: it is larger than any state of a virt machine.
        """
        if os.fstat(self.fd).st_size > MAX_STATE_BYTES:
            raise SourceError(f"the device state has over {MAX_STATE_BYTES} bytes")
        return os.pread(self.fd, MAX_STATE_BYTES, 0)


def registers(state: bytes, cpus: int) -> list[Value]:
    """Return the registers of the ITS, then of each CPU's redistributor.

    Raises:
        SourceError: a section is not there, there twice, or not as it is known.
    """
    (at,) = _only(state, b"arm_gicv3_its", lambda at: ([at], at + _ITS.size))
    values = zip(_ITS_REGISTERS, _ITS.unpack_from(state, at), strict=True)
    found = [Value(name, None, value) for name, value in values]
    places = _only(state, b"arm_gicv3", lambda at: _redistributors(state, at + _GICD_BYTES, cpus))
    for cpu, at in enumerate(places):
        fields = _GICR.unpack_from(state, at)
        found += (Value(name, cpu, fields[n]) for name, n in _GICR_REGISTERS.items())
    return found


def _only(state: bytes, name: bytes, walk: Callable[[int], Walk]) -> list[int]:
    """Return the places that `walk` finds in the one section of this name.

    A guest may have written what looks like a section into a device: one that does not end where
    it must is none, and of two neither is believed.
    """
    pattern = re.compile(_HEAD % (bytes((len(name),)), name, _VERSIONS[name]), re.DOTALL)
    found = []
    for head in islice(pattern.finditer(state), MAX_HEADS):
        places, end = walk(head.end())
        if state[end : end + 5] == _FOOT + head["id"]:
            found.append(places)
    if len(found) != 1:
        raise SourceError(
            f"the device state holds {len(found)} sections {name.decode()} as they are known"
        )
    return found[0]


def _redistributors(state: bytes, at: int, cpus: int) -> Walk:
    """Return where each CPU's fields begin, and the section's end."""
    places = []
    for _ in range(cpus):
        places.append(at)
        at = _behind_subsections(state, at + _GICR.size, b"arm_gicv3_cpu/")
    return places, _behind_subsections(state, at, b"arm_gicv3/")


def _behind_subsections(state: bytes, at: int, prefix: bytes) -> int:
    """Step over the subsections that begin here: a mark, the name, a version, the data."""
    while state[at : at + 1] == _SUBSECTION and at + 2 <= len(state):
        name = state[at + 2 : at + 2 + state[at + 1]]
        if not name.startswith(prefix) or name not in _SUBSECTION_BYTES:
            break
        at += 2 + len(name) + 4 + _SUBSECTION_BYTES[name]
    return at
