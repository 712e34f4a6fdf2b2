"""Every register of the ITS and the LPI registers of a redistributor: where, how wide, whose.

Facts only; what a write does is in `replay.model`. Two access columns, because a VMM restoring a
VM may write what a guest may not (Linux vgic-its.c, REGISTER_ITS_DESC_UACCESS). Names, offsets and
bits as in Linux include/linux/irqchip/arm-gic-v3.h @3a32b7df and QEMU hw/intc/gicv3_internal.h
@83baec642a13, which agree where both speak; MPAM and UMSI bits as in VirtualBox's GIC header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tracer.its.layout import Layout, address, bit, bits

CONTROL_FRAME_SIZE_BYTES: Final = 0x10000
TRANSLATION_FRAME: Final = 0x10000
VSGI_FRAME: Final = 0x20000
RD_FRAME_SIZE_BYTES: Final = 0x10000
VLPI_FRAME: Final = 0x20000

# Who may do what. RAZ_WI is a register that an implementation may leave out.
RO: Final = "RO"
RW: Final = "RW"
WO: Final = "WO"
RW1C: Final = "RW1C"
NONE: Final = "none"


class Ctlr(Layout, width=32):
    """GITS_CTLR."""

    enabled = bit(0, "Enabled")
    imde = bit(1, "ImDe")
    its_number = bits(7, 4, "ITS_Number")
    umsi_irq = bit(8, "UMSIirq")
    quiescent = bit(31, "Quiescent")


class Iidr(Layout, width=32):
    """GITS_IIDR."""

    implementer = bits(11, 0, "Implementer")
    revision = bits(15, 12, "Revision")
    variant = bits(19, 16, "Variant")
    product_id = bits(31, 24, "ProductID")


class Typer(Layout, width=64):
    """GITS_TYPER."""

    physical = bit(0, "Physical")
    virtual = bit(1, "Virtual")
    cct = bit(2, "CCT")
    impdef = bit(3, "IMPDEF")
    itt_entry_size = bits(7, 4, "ITT_entry_size")  # bytes - 1
    id_bits = bits(12, 8, "ID_bits")  # EventID bits - 1
    devbits = bits(17, 13, "Devbits")  # DeviceID bits - 1
    seis = bit(18, "SEIS")
    pta = bit(19, "PTA")
    hcc = bits(31, 24, "HCC")
    cidbits = bits(35, 32, "CIDbits")  # ICID bits - 1, when CIL
    cil = bit(36, "CIL")
    vmovp = bit(37, "VMOVP")
    mpam = bit(38, "MPAM")
    vsgi = bit(39, "VSGI")
    vmapp = bit(40, "VMAPP")
    svpet = bits(42, 41, "SVPET")
    nid = bit(43, "nID")
    umsi = bit(44, "UMSI")
    umsi_irq = bit(45, "UMSIirq")
    inv = bit(46, "INV")


class Mpamidr(Layout, width=32):
    """GITS_MPAMIDR."""

    partid_max = bits(15, 0, "PARTIDmax")
    pmg_max = bits(23, 16, "PMGmax")


class Partidr(Layout, width=32):
    """GITS_PARTIDR."""

    partid = bits(15, 0, "PARTID")
    pmg = bits(23, 16, "PMG")


class Mpidr(Layout, width=32):
    """GITS_MPIDR (GICv4.1). The affinity bits are from memory, not from a source."""

    affinity = bits(31, 8, "Affinity")


class Statusr(Layout, width=32):
    """GITS_STATUSR. The bits are from memory, not from a source."""

    rrd = bit(0, "RRD")
    wrd = bit(1, "WRD")
    rwod = bit(2, "RWOD")
    wrod = bit(3, "WROD")
    syndrome = bit(4, "Syndrome")
    overflow = bit(5, "Overflow")


class Umsir(Layout, width=64):
    """GITS_UMSIR. The bits are from memory, not from a source."""

    event_id = bits(31, 0, "EventID")
    device_id = bits(63, 32, "DeviceID")


class Cbaser(Layout, width=64):
    """GITS_CBASER."""

    size = bits(7, 0, "Size")  # 4 KiB pages - 1
    shareability = bits(11, 10, "Shareability")
    physical_address = address(51, 12, "Physical_Address")
    outer_cache = bits(55, 53, "OuterCache")
    inner_cache = bits(61, 59, "InnerCache")
    valid = bit(63, "Valid")


class Cwriter(Layout, width=64):
    """GITS_CWRITER; the offset is in bytes and counts whole 32-byte entries."""

    retry = bit(0, "Retry")
    offset = address(19, 5, "Offset")


class Creadr(Layout, width=64):
    """GITS_CREADR."""

    stalled = bit(0, "Stalled")
    offset = address(19, 5, "Offset")


class Baser(Layout, width=64):
    """GITS_BASER<n>.

    With 64 KiB pages PA[47:16] stays in place and PA[51:48] moves to bits [15:12], so the two
    halves are aliases of `physical_address`.
    """

    size = bits(7, 0, "Size")  # pages - 1
    page_size = bits(9, 8, "Page_Size")
    shareability = bits(11, 10, "Shareability")
    physical_address = address(47, 12, "Physical_Address")
    physical_address_low_64k = address(47, 16, "Physical_Address_64K", alias=True)
    physical_address_high_64k = address(15, 12, "Physical_Address_64K_high", place=48, alias=True)
    entry_size = bits(52, 48, "Entry_Size")  # bytes - 1
    outer_cache = bits(55, 53, "OuterCache")
    table_type = bits(58, 56, "Type")
    inner_cache = bits(61, 59, "InnerCache")
    indirect = bit(62, "Indirect")
    valid = bit(63, "Valid")


class Level1(Layout, width=64):
    """An entry of a level-1 table; the address is aligned to the page size of its BASER."""

    physical_address = address(51, 12, "Physical_Address")
    valid = bit(63, "Valid")


class IdRegister(Layout, width=32):
    """A PIDR or CIDR register."""

    value = bits(7, 0, "Value")


class Pidr2(Layout, width=32):
    """GITS_PIDR2."""

    jedec = bits(3, 0, "DES_1_JEDEC")
    arch_rev = bits(7, 4, "ArchRev")


class Translater(Layout, width=32):
    """GITS_TRANSLATER; the DeviceID travels beside the data."""

    event_id = bits(31, 0, "EventID")


class Sgir(Layout, width=64):
    """GITS_SGIR (GICv4.1)."""

    vintid = bits(3, 0, "vINTID")
    vpe_id = bits(47, 32, "vPEID")


class GicrCtlr(Layout, width=32):
    """GICR_CTLR."""

    enable_lpis = bit(0, "EnableLPIs")
    ces = bit(1, "CES")
    ir = bit(2, "IR")
    rwp = bit(3, "RWP")
    dpg0 = bit(24, "DPG0")
    dpg1ns = bit(25, "DPG1NS")
    dpg1s = bit(26, "DPG1S")
    uwp = bit(31, "UWP")


class Lpir(Layout, width=64):
    """GICR_SETLPIR and GICR_CLRLPIR."""

    pintid = bits(31, 0, "pINTID")


class Propbaser(Layout, width=64):
    """GICR_PROPBASER and GICR_VPROPBASER."""

    id_bits = bits(4, 0, "IDbits")  # INTID bits - 1
    inner_cache = bits(9, 7, "InnerCache")
    shareability = bits(11, 10, "Shareability")
    physical_address = address(51, 12, "Physical_Address")
    outer_cache = bits(58, 56, "OuterCache")


class Pendbaser(Layout, width=64):
    """GICR_PENDBASER."""

    inner_cache = bits(9, 7, "InnerCache")
    shareability = bits(11, 10, "Shareability")
    physical_address = address(51, 16, "Physical_Address")
    outer_cache = bits(58, 56, "OuterCache")
    ptz = bit(62, "PTZ")


class Vpendbaser(Layout, width=64):
    """GICR_VPENDBASER."""

    inner_cache = bits(9, 7, "InnerCache")
    shareability = bits(11, 10, "Shareability")
    physical_address = address(51, 16, "Physical_Address")
    outer_cache = bits(58, 56, "OuterCache")
    dirty = bit(60, "Dirty")
    pending_last = bit(61, "PendingLast")
    idai = bit(62, "IDAI")
    valid = bit(63, "Valid")


class Invlpir(Layout, width=64):
    """GICR_INVLPIR."""

    intid = bits(31, 0, "INTID")
    vpe_id = bits(47, 32, "vPEID")
    v = bit(63, "V")


class Invallr(Layout, width=64):
    """GICR_INVALLR."""

    vpe_id = bits(47, 32, "vPEID")
    v = bit(63, "V")


class Syncr(Layout, width=32):
    """GICR_SYNCR."""

    busy = bit(0, "Busy")


class Vsgir(Layout, width=32):
    """GICR_VSGIR (GICv4.1)."""

    vpe_id = bits(15, 0, "vPEID")


class Vsgipendr(Layout, width=32):
    """GICR_VSGIPENDR (GICv4.1)."""

    pending = bits(15, 0, "Pending")
    busy = bit(31, "Busy")


@dataclass(frozen=True, slots=True)
class Register:
    """One row: `count` registers of `layout` from `offset`, `stride` bytes apart.

    `widths` are the access sizes in bytes that the architecture allows. `read_only` are bits that
    a write never changes in a register that is otherwise writable; `implementation_defined` are
    bits, or with -1 the whole register, whose meaning or presence is an implementation's choice.
    """

    name: str
    offset: int
    layout: type[Layout]
    guest: str
    vmm: str
    widths: tuple[int, ...] = (4,)
    count: int = 1
    stride: int = 8
    read_only: int = 0
    implementation_defined: int = 0

    @property
    def size_bytes(self) -> int:
        """The register's own width."""
        return self.layout.width_ // 8

    @property
    def reserved(self) -> int:
        """The bits that are RES0."""
        return self.layout.reserved_


_WIDE: Final = (4, 8)
_BASER_RO: Final = Baser.table_type.mask | Baser.entry_size.mask
_BASER_IMPDEF: Final = Baser.indirect.mask | Baser.page_size.mask

ITS_REGISTERS: Final = (
    Register("GITS_CTLR", 0x0000, Ctlr, RW, RW, read_only=Ctlr.quiescent.mask),
    Register("GITS_IIDR", 0x0004, Iidr, RO, RW),
    Register("GITS_TYPER", 0x0008, Typer, RO, RO, _WIDE, implementation_defined=Typer.impdef.mask),
    Register("GITS_MPAMIDR", 0x0010, Mpamidr, RO, NONE, implementation_defined=-1),
    Register("GITS_PARTIDR", 0x0014, Partidr, RW, NONE, implementation_defined=-1),
    Register("GITS_MPIDR", 0x0018, Mpidr, RO, NONE, implementation_defined=-1),
    Register("GITS_STATUSR", 0x0040, Statusr, RW1C, NONE, implementation_defined=-1),
    Register("GITS_UMSIR", 0x0048, Umsir, RO, NONE, _WIDE, implementation_defined=-1),
    Register("GITS_CBASER", 0x0080, Cbaser, RW, RW, _WIDE),
    Register("GITS_CWRITER", 0x0088, Cwriter, RW, RW, _WIDE),
    Register("GITS_CREADR", 0x0090, Creadr, RO, RW, _WIDE),
    Register(
        "GITS_BASER", 0x0100, Baser, RW, RW, _WIDE, count=8,
        read_only=_BASER_RO, implementation_defined=_BASER_IMPDEF,
    ),
    Register("GITS_PIDR4", 0xFFD0, IdRegister, RO, RO, count=4, stride=4),  # PIDR4 to PIDR7
    Register("GITS_PIDR0", 0xFFE0, IdRegister, RO, RO, count=2, stride=4),  # PIDR0, PIDR1
    Register("GITS_PIDR2", 0xFFE8, Pidr2, RO, RO),
    Register("GITS_PIDR3", 0xFFEC, IdRegister, RO, RO),
    Register("GITS_CIDR0", 0xFFF0, IdRegister, RO, RO, count=4, stride=4),  # CIDR0 to CIDR3
    Register("GITS_TRANSLATER", 0x10040, Translater, WO, NONE, (2, 4)),
    Register("GITS_SGIR", 0x20020, Sgir, WO, NONE, (8,), implementation_defined=-1),
)  # fmt: skip

GICR_REGISTERS: Final = (
    Register(
        "GICR_CTLR", 0x0000, GicrCtlr, RW, RW,
        read_only=GicrCtlr.ces.mask | GicrCtlr.ir.mask | GicrCtlr.rwp.mask | GicrCtlr.uwp.mask,
    ),
    Register("GICR_SETLPIR", 0x0040, Lpir, WO, NONE, (8,), implementation_defined=-1),
    Register("GICR_CLRLPIR", 0x0048, Lpir, WO, NONE, (8,), implementation_defined=-1),
    Register("GICR_PROPBASER", 0x0070, Propbaser, RW, RW, _WIDE),
    Register("GICR_PENDBASER", 0x0078, Pendbaser, RW, RW, _WIDE),
    Register("GICR_INVLPIR", 0x00A0, Invlpir, WO, NONE, (8,), implementation_defined=-1),
    Register("GICR_INVALLR", 0x00B0, Invallr, WO, NONE, (8,), implementation_defined=-1),
    Register("GICR_SYNCR", 0x00C0, Syncr, RO, NONE, implementation_defined=-1),
    Register("GICR_VPROPBASER", VLPI_FRAME + 0x70, Propbaser, RW, NONE, _WIDE),
    Register("GICR_VPENDBASER", VLPI_FRAME + 0x78, Vpendbaser, RW, NONE, _WIDE),
    Register("GICR_VSGIR", VLPI_FRAME + 0x80, Vsgir, WO, NONE, implementation_defined=-1),
    Register("GICR_VSGIPENDR", VLPI_FRAME + 0x88, Vsgipendr, RO, NONE, implementation_defined=-1),
)  # fmt: skip

# BASER Type values.
TABLE_NONE: Final = 0
TABLE_DEVICE: Final = 1
TABLE_VPE: Final = 2
TABLE_COLLECTION: Final = 4


def _instances(rows: tuple[Register, ...]) -> dict[int, tuple[str, Register, int]]:
    """Return offset -> (name with index, row, register's first offset), every byte offset once."""
    found: dict[int, tuple[str, Register, int]] = {}
    for row in rows:
        for index in range(row.count):
            start = row.offset + index * row.stride
            name = _numbered(row, index)
            for at in range(start, start + row.size_bytes):
                if at in found:
                    raise TypeError(f"{name} overlaps {found[at][0]} at {at:#x}")
                found[at] = (name, row, start)
    return found


def _numbered(row: Register, index: int) -> str:
    if row.count == 1:
        return row.name
    stem = row.name.rstrip("0123456789")
    first = int(row.name[len(stem) :] or "0")
    return f"{stem}{first + index}"


_ITS_AT: Final = _instances(ITS_REGISTERS)
_GICR_AT: Final = _instances(GICR_REGISTERS)


def its_register(offset: int) -> tuple[str, Register, int] | None:
    """Return (name, row, first offset) of the ITS register that covers `offset`, or None."""
    return _ITS_AT.get(offset)


def gicr_register(offset: int) -> tuple[str, Register, int] | None:
    """Return (name, row, first offset) of the redistributor register covering `offset`."""
    return _GICR_AT.get(offset)


def its_register_names() -> list[str]:
    """Return every ITS register's name, by offset."""
    return list(dict.fromkeys(name for _, (name, _, _) in sorted(_ITS_AT.items())))


def gicr_register_names() -> list[str]:
    """Return every redistributor register's name, by offset."""
    return list(dict.fromkeys(name for _, (name, _, _) in sorted(_GICR_AT.items())))


def layout_of(name: str) -> type[Layout]:
    """Return the layout of a register, by its name; KeyError for one that is none."""
    return _LAYOUTS[name]


_LAYOUTS: Final = {name: row.layout for at in (_ITS_AT, _GICR_AT) for name, row, _ in at.values()}
