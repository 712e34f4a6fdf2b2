"""Every command of the ITS: opcode, fields, and the errors it can meet. What it does is elsewhere.

A command is four little-endian doublewords, here one 256-bit integer, so that registers and
commands share one primitive. Fields as in QEMU gicv3_internal.h @83baec642a13 and Linux
arm-gic-v3.h @3a32b7df; RDbase is [51:16] in newer headers, 32 bits of it in QEMU's MAPC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

from tracer.its.layout import Layout, dw, dw_address

COMMAND_SIZE_BYTES: Final = 32
NO_DOORBELL: Final = 1023


@unique
class Opcode(IntEnum):
    """dw0[7:0], in numeric order."""

    MOVI = 0x01
    INT = 0x03
    CLEAR = 0x04
    SYNC = 0x05
    MAPD = 0x08
    MAPC = 0x09
    MAPTI = 0x0A
    MAPI = 0x0B
    INV = 0x0C
    INVALL = 0x0D
    MOVALL = 0x0E
    DISCARD = 0x0F
    VMOVI = 0x21
    VMOVP = 0x22
    VSGI = 0x23
    VSYNC = 0x25
    VMAPP = 0x29
    VMAPTI = 0x2A
    VMAPI = 0x2B
    VINVALL = 0x2D
    INVDB = 0x2E


class Movi(Layout, width=256):
    """MOVI: point an event's ITE at another collection."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")
    icid = dw(2, 15, 0, "ICID")


class EventCommand(Layout, width=256):
    """INT, CLEAR, INV and DISCARD: they name an event and nothing else."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")


class Sync(Layout, width=256):
    """SYNC: wait for earlier commands towards a redistributor."""

    opcode = dw(0, 7, 0, "Opcode")
    rdbase = dw(2, 51, 16, "RDbase")


class Mapd(Layout, width=256):
    """MAPD: give a device its interrupt translation table, or take it away (V=0)."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    size = dw(1, 4, 0, "Size")  # EventID bits - 1
    itt_addr = dw_address(2, 51, 8, "ITT_addr")
    v = dw(2, 63, 63, "V")


class Mapc(Layout, width=256):
    """MAPC: map a collection to a redistributor, or unmap it (V=0)."""

    opcode = dw(0, 7, 0, "Opcode")
    icid = dw(2, 15, 0, "ICID")
    rdbase = dw(2, 51, 16, "RDbase")
    v = dw(2, 63, 63, "V")


class Mapti(Layout, width=256):
    """MAPTI (MAPVI in old headers): map an event to an LPI and a collection."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")
    pintid = dw(1, 63, 32, "pINTID")
    icid = dw(2, 15, 0, "ICID")


class Mapi(Layout, width=256):
    """MAPI: MAPTI with pINTID = EventID."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")
    icid = dw(2, 15, 0, "ICID")


class Invall(Layout, width=256):
    """INVALL: re-read the configuration of a collection's LPIs."""

    opcode = dw(0, 7, 0, "Opcode")
    icid = dw(2, 15, 0, "ICID")


class Movall(Layout, width=256):
    """MOVALL: move a redistributor's pending LPIs to another."""

    opcode = dw(0, 7, 0, "Opcode")
    rdbase1 = dw(2, 51, 16, "RDbase1")
    rdbase2 = dw(3, 51, 16, "RDbase2")


class Vmovi(Layout, width=256):
    """VMOVI (GICv4): move a vLPI's event to another vPE."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")
    vpe_id = dw(1, 47, 32, "vPEID")
    d = dw(2, 0, 0, "D")
    doorbell = dw(2, 63, 32, "Doorbell")


class Vmovp(Layout, width=256):
    """VMOVP (GICv4): move a vPE to another redistributor."""

    opcode = dw(0, 7, 0, "Opcode")
    seq_num = dw(0, 47, 32, "SeqNum")
    its_list = dw(1, 15, 0, "ITSList")
    vpe_id = dw(1, 47, 32, "vPEID")
    rdbase = dw(2, 51, 16, "RDbase")
    db = dw(2, 63, 63, "DB")  # GICv4.1
    default_doorbell = dw(3, 31, 0, "Default_Doorbell")  # GICv4.1


class Vsgi(Layout, width=256):
    """VSGI (GICv4.1)."""

    opcode = dw(0, 7, 0, "Opcode")
    enable = dw(0, 8, 8, "Enable")
    clear = dw(0, 9, 9, "Clear")
    group = dw(0, 10, 10, "Group")
    priority = dw(0, 23, 20, "Priority")  # priority >> 4
    vintid = dw(0, 35, 32, "vINTID")
    vpe_id = dw(1, 47, 32, "vPEID")


class VpeCommand(Layout, width=256):
    """VSYNC, VINVALL and INVDB: they name a vPE and nothing else."""

    opcode = dw(0, 7, 0, "Opcode")
    vpe_id = dw(1, 47, 32, "vPEID")


class Vmapp(Layout, width=256):
    """VMAPP (GICv4): map a vPE to a redistributor and a virtual pending table."""

    opcode = dw(0, 7, 0, "Opcode")
    alloc = dw(0, 8, 8, "Alloc")  # GICv4.1
    ptz = dw(0, 9, 9, "PTZ")  # GICv4.1
    vconf_addr = dw_address(0, 51, 16, "VCONF_addr")  # GICv4.1
    default_doorbell = dw(1, 31, 0, "Default_Doorbell")  # GICv4.1
    vpe_id = dw(1, 47, 32, "vPEID")
    rdbase = dw(2, 51, 16, "RDbase")
    v = dw(2, 63, 63, "V")
    vpt_size = dw(3, 4, 0, "VPT_size")  # vINTID bits - 1
    vpt_addr = dw_address(3, 51, 16, "VPT_addr")


class Vmapti(Layout, width=256):
    """VMAPTI (GICv4): map an event to a vLPI of a vPE."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")
    vpe_id = dw(1, 47, 32, "vPEID")
    vintid = dw(2, 31, 0, "vINTID")
    dbell_pintid = dw(2, 63, 32, "Dbell_pINTID")


class Vmapi(Layout, width=256):
    """VMAPI (GICv4): VMAPTI with vINTID = EventID."""

    opcode = dw(0, 7, 0, "Opcode")
    device_id = dw(0, 63, 32, "DeviceID")
    event_id = dw(1, 31, 0, "EventID")
    vpe_id = dw(1, 47, 32, "vPEID")
    dbell_pintid = dw(2, 63, 32, "Dbell_pINTID")


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command: its opcode, its fields, and the names of the errors it can meet."""

    opcode: Opcode
    layout: type[Layout]
    errors: tuple[str, ...] = ()
    since: str = "GICv3"

    @property
    def name(self) -> str:
        """The command's name in the manual."""
        return self.opcode.name


COMMANDS: Final = (
    CommandSpec(Opcode.MOVI, Movi, ("MOVI_UNMAPPED_INTERRUPT", "MOVI_UNMAPPED_COLLECTION")),
    CommandSpec(Opcode.INT, EventCommand, ("INT_UNMAPPED_INTERRUPT",)),
    CommandSpec(Opcode.CLEAR, EventCommand, ("CLEAR_UNMAPPED_INTERRUPT",)),
    CommandSpec(Opcode.SYNC, Sync),
    CommandSpec(Opcode.MAPD, Mapd, ("MAPD_DEVICE_OOR", "MAPD_ITTSIZE_OOR")),
    CommandSpec(Opcode.MAPC, Mapc, ("MAPC_PROCNUM_OOR", "MAPC_COLLECTION_OOR")),
    CommandSpec(
        Opcode.MAPTI, Mapti,
        ("MAPTI_UNMAPPED_DEVICE", "MAPTI_ID_OOR", "MAPTI_PHYSICALID_OOR", "MAPC_COLLECTION_OOR"),
    ),
    CommandSpec(
        Opcode.MAPI, Mapi,
        ("MAPTI_UNMAPPED_DEVICE", "MAPTI_ID_OOR", "MAPTI_PHYSICALID_OOR", "MAPC_COLLECTION_OOR"),
    ),
    CommandSpec(Opcode.INV, EventCommand, ("INV_UNMAPPED_INTERRUPT",)),
    CommandSpec(Opcode.INVALL, Invall, ("INVALL_UNMAPPED_COLLECTION",)),
    CommandSpec(Opcode.MOVALL, Movall, ("MOVALL_PROCNUM_OOR",)),
    CommandSpec(Opcode.DISCARD, EventCommand, ("DISCARD_UNMAPPED_INTERRUPT",)),
    CommandSpec(Opcode.VMOVI, Vmovi, since="GICv4"),
    CommandSpec(Opcode.VMOVP, Vmovp, since="GICv4"),
    CommandSpec(Opcode.VSGI, Vsgi, since="GICv4.1"),
    CommandSpec(Opcode.VSYNC, VpeCommand, since="GICv4"),
    CommandSpec(Opcode.VMAPP, Vmapp, since="GICv4"),
    CommandSpec(Opcode.VMAPTI, Vmapti, since="GICv4"),
    CommandSpec(Opcode.VMAPI, Vmapi, since="GICv4"),
    CommandSpec(Opcode.VINVALL, VpeCommand, since="GICv4"),
    CommandSpec(Opcode.INVDB, VpeCommand, since="GICv4.1"),
)  # fmt: skip

BY_OPCODE: Final = {int(spec.opcode): spec for spec in COMMANDS}
BY_NAME: Final = {spec.name: spec for spec in COMMANDS}


def join(dw0: int, dw1: int, dw2: int, dw3: int) -> int:
    """Return the 256-bit integer of four doublewords."""
    return dw0 | dw1 << 64 | dw2 << 128 | dw3 << 192


def split(raw: int) -> tuple[int, int, int, int]:
    """Return the four doublewords of a 256-bit integer."""
    ones = (1 << 64) - 1
    return raw & ones, raw >> 64 & ones, raw >> 128 & ones, raw >> 192


def encode(name: str, **fields: int) -> tuple[int, int, int, int]:
    """Return the doublewords of command `name`; ValueError for a field it does not have."""
    spec = BY_NAME[name]
    return split(spec.layout.pack_(opcode=int(spec.opcode), **fields))


def known_masks(name: str, *attrs: str) -> tuple[int, int, int, int]:
    """Return which bits of each doubleword are known from the opcode and these fields."""
    fields = {field.attr: field for field in BY_NAME[name].layout.fields_}
    mask = fields["opcode"].mask
    for attr in attrs:
        mask |= fields[attr].mask
    return split(mask)


def decode(dw0: int, dw1: int, dw2: int, dw3: int) -> tuple[str, list[tuple[str, int]]]:
    """Return (name, [(field, value), ...]); an unknown opcode is named `0x..` without fields."""
    spec = BY_OPCODE.get(dw0 & 0xFF)
    if spec is None:
        return f"{dw0 & 0xFF:#x}", []
    values = spec.layout(join(dw0, dw1, dw2, dw3)).items_()
    return spec.name, [item for item in values if item[0] != "Opcode"]
