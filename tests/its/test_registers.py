"""Every register of the ITS and every LPI register of a redistributor, from a second table.

The table is written from reference/its.md 1.2 to 1.4 (access by a VMM from 3.2), by hand and not
from the product: offset, width, guest's access, VMM's access, access sizes, fields. A field is
`Name[hi:lo]`, an address held in place `Name@[hi:lo]`, a moved address `Name@place[hi:lo]`, and a
`~` marks one that shares its bits with another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings, strategies as st

from tracer.its import registers
from tracer.its.registers import (
    GICR_REGISTERS,
    ITS_REGISTERS,
    Register,
    gicr_register,
    its_register,
    its_register_names,
)

BASER_FIELDS = (
    "Size[7:0] Page_Size[9:8] Shareability[11:10] Physical_Address@[47:12] "
    "~Physical_Address_64K@[47:16] ~Physical_Address_64K_high@48[15:12] Entry_Size[52:48] "
    "OuterCache[55:53] Type[58:56] InnerCache[61:59] Indirect[62] Valid[63]"
)
TYPER_FIELDS = (
    "Physical[0] Virtual[1] CCT[2] IMPDEF[3] ITT_entry_size[7:4] ID_bits[12:8] Devbits[17:13] "
    "SEIS[18] PTA[19] HCC[31:24] CIDbits[35:32] CIL[36] VMOVP[37] MPAM[38] VSGI[39] VMAPP[40] "
    "SVPET[42:41] nID[43] UMSI[44] UMSIirq[45] INV[46]"
)
CACHED = "InnerCache[9:7] Shareability[11:10]"

ITS = f"""
GITS_CTLR        0x00000 32 RW   RW   4   Enabled[0] ImDe[1] ITS_Number[7:4] UMSIirq[8] Quiescent[31]
GITS_IIDR        0x00004 32 RO   RW   4   Implementer[11:0] Revision[15:12] Variant[19:16] ProductID[31:24]
GITS_TYPER       0x00008 64 RO   RO   4,8 {TYPER_FIELDS}
GITS_MPAMIDR     0x00010 32 RO   none 4   PARTIDmax[15:0] PMGmax[23:16]
GITS_PARTIDR     0x00014 32 RW   none 4   PARTID[15:0] PMG[23:16]
GITS_MPIDR       0x00018 32 RO   none 4   Affinity[31:8]
GITS_STATUSR     0x00040 32 RW1C none 4   RRD[0] WRD[1] RWOD[2] WROD[3] Syndrome[4] Overflow[5]
GITS_UMSIR       0x00048 64 RO   none 4,8 EventID[31:0] DeviceID[63:32]
GITS_CBASER      0x00080 64 RW   RW   4,8 Size[7:0] Shareability[11:10] Physical_Address@[51:12] OuterCache[55:53] InnerCache[61:59] Valid[63]
GITS_CWRITER     0x00088 64 RW   RW   4,8 Retry[0] Offset@[19:5]
GITS_CREADR      0x00090 64 RO   RW   4,8 Stalled[0] Offset@[19:5]
GITS_BASER0      0x00100 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER1      0x00108 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER2      0x00110 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER3      0x00118 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER4      0x00120 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER5      0x00128 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER6      0x00130 64 RW   RW   4,8 {BASER_FIELDS}
GITS_BASER7      0x00138 64 RW   RW   4,8 {BASER_FIELDS}
GITS_PIDR4       0x0FFD0 32 RO   RO   4   Value[7:0]
GITS_PIDR5       0x0FFD4 32 RO   RO   4   Value[7:0]
GITS_PIDR6       0x0FFD8 32 RO   RO   4   Value[7:0]
GITS_PIDR7       0x0FFDC 32 RO   RO   4   Value[7:0]
GITS_PIDR0       0x0FFE0 32 RO   RO   4   Value[7:0]
GITS_PIDR1       0x0FFE4 32 RO   RO   4   Value[7:0]
GITS_PIDR2       0x0FFE8 32 RO   RO   4   DES_1_JEDEC[3:0] ArchRev[7:4]
GITS_PIDR3       0x0FFEC 32 RO   RO   4   Value[7:0]
GITS_CIDR0       0x0FFF0 32 RO   RO   4   Value[7:0]
GITS_CIDR1       0x0FFF4 32 RO   RO   4   Value[7:0]
GITS_CIDR2       0x0FFF8 32 RO   RO   4   Value[7:0]
GITS_CIDR3       0x0FFFC 32 RO   RO   4   Value[7:0]
GITS_TRANSLATER  0x10040 32 WO   none 2,4 EventID[31:0]
GITS_SGIR        0x20020 64 WO   none 8   vINTID[3:0] vPEID[47:32]
"""

# its.md 1.4 gives no fields for SETLPIR, CLRLPIR and the registers of the VLPI frame: those are
# the architecture's, with the VLPI frame at 0x20000.
GICR = f"""
GICR_CTLR        0x00000 32 RW   RW   4   EnableLPIs[0] CES[1] IR[2] RWP[3] DPG0[24] DPG1NS[25] DPG1S[26] UWP[31]
GICR_SETLPIR     0x00040 64 WO   none 8   pINTID[31:0]
GICR_CLRLPIR     0x00048 64 WO   none 8   pINTID[31:0]
GICR_PROPBASER   0x00070 64 RW   RW   4,8 IDbits[4:0] {CACHED} Physical_Address@[51:12] OuterCache[58:56]
GICR_PENDBASER   0x00078 64 RW   RW   4,8 {CACHED} Physical_Address@[51:16] OuterCache[58:56] PTZ[62]
GICR_INVLPIR     0x000A0 64 WO   none 8   INTID[31:0] vPEID[47:32] V[63]
GICR_INVALLR     0x000B0 64 WO   none 8   vPEID[47:32] V[63]
GICR_SYNCR       0x000C0 32 RO   none 4   Busy[0]
GICR_VPROPBASER  0x20070 64 RW   none 4,8 IDbits[4:0] {CACHED} Physical_Address@[51:12] OuterCache[58:56]
GICR_VPENDBASER  0x20078 64 RW   none 4,8 {CACHED} Physical_Address@[51:16] OuterCache[58:56] Dirty[60] PendingLast[61] IDAI[62] Valid[63]
GICR_VSGIR       0x20080 32 WO   none 4   vPEID[15:0]
GICR_VSGIPENDR   0x20088 32 RO   none 4   Pending[15:0] Busy[31]
"""


@dataclass(frozen=True)
class Bits:
    name: str
    hi: int
    lo: int
    place: int
    alias: bool


@dataclass(frozen=True)
class Row:
    name: str
    offset: int
    width: int
    guest: str
    vmm: str
    sizes: tuple[int, ...]
    fields: tuple[Bits, ...]


def parsed(table: str) -> list[Row]:
    rows = []
    for line in table.strip().splitlines():
        name, offset, width, guest, vmm, sizes, *fields = line.split()
        rows.append(
            Row(
                name,
                int(offset, 16),
                int(width),
                guest,
                vmm,
                tuple(map(int, sizes.split(","))),
                tuple(map(field_of, fields)),
            )
        )
    return rows


def field_of(text: str) -> Bits:
    match = re.fullmatch(r"(~?)(\w+?)(?:(@)(\d*))?\[(\d+)(?::(\d+))?\]", text)
    assert match, text
    hi = int(match[5])
    lo = int(match[6] or hi)
    place = int(match[4] or lo) if match[3] else 0
    return Bits(match[2], hi, lo, place, bool(match[1]))


def found(table: tuple[Register, ...], at: object) -> list[Row]:
    """What the product says, in the same words: one row an instance, through its lookup."""
    rows = []
    for register in table:
        for index in range(register.count):
            offset = register.offset + index * register.stride
            name, row, first = at(offset)  # type: ignore[operator]
            assert (row, first) == (register, offset)
            fields = tuple(
                Bits(field.name, field.hi, field.lo, field.place, field.alias)
                for field in register.layout.fields_
            )
            width = register.layout.width_
            assert register.size_bytes * 8 == width
            rows.append(
                Row(name, offset, width, register.guest, register.vmm, register.widths, fields)
            )
    return rows


def by_place(row: Row) -> Row:
    fields = tuple(sorted(row.fields, key=lambda field: (field.lo, field.hi)))
    return Row(row.name, row.offset, row.width, row.guest, row.vmm, row.sizes, fields)


WRITTEN_ITS = [by_place(row) for row in parsed(ITS)]
WRITTEN_GICR = [by_place(row) for row in parsed(GICR)]
WRITTEN = WRITTEN_ITS + WRITTEN_GICR


def register_of(name: str) -> Register:
    row = next(row for row in WRITTEN if row.name == name)
    lookup = its_register if name.startswith("GITS") else gicr_register
    hit = lookup(row.offset)
    assert hit is not None
    assert hit[0] == name
    return hit[1]


# --- the tables, both ways


def test_the_its_has_these_registers_and_no_others() -> None:
    assert found(ITS_REGISTERS, its_register) == WRITTEN_ITS


def test_a_redistributor_has_these_lpi_registers_and_no_others() -> None:
    assert found(GICR_REGISTERS, gicr_register) == WRITTEN_GICR


def test_every_byte_of_the_frames_belongs_to_its_register_or_to_none() -> None:
    for rows, lookup in ((WRITTEN_ITS, its_register), (WRITTEN_GICR, gicr_register)):
        owner = {}
        for row in rows:
            for at in range(row.offset, row.offset + row.width // 8):
                assert at not in owner
                owner[at] = (row.name, row.offset)
        for at in range(-8, 0x30000):
            hit = lookup(at)
            assert (hit and (hit[0], hit[2])) == owner.get(at), hex(at)


def test_names_by_offset() -> None:
    assert its_register_names() == [
        row.name for row in sorted(WRITTEN_ITS, key=lambda row: row.offset)
    ]
    assert len(its_register_names()) == 33


def test_where_the_frames_are() -> None:
    assert registers.CONTROL_FRAME_SIZE_BYTES == 0x10000
    assert registers.TRANSLATION_FRAME == 0x10000
    assert registers.VSGI_FRAME == 0x20000
    assert registers.RD_FRAME_SIZE_BYTES == 0x10000
    assert registers.VLPI_FRAME == 0x20000


def test_table_types() -> None:
    types = registers.TABLE_NONE, registers.TABLE_DEVICE, registers.TABLE_VPE
    assert types == (0, 1, 2)
    assert registers.TABLE_COLLECTION == 4


def test_two_registers_at_one_place_are_refused() -> None:
    rows = (
        Register("GITS_A", 0x10, registers.Cbaser, "RW", "RW"),
        Register("GITS_B", 0x14, registers.Ctlr, "RW", "RW"),
    )
    with pytest.raises(TypeError) as error:
        registers._instances(rows)
    assert str(error.value) == "GITS_B overlaps GITS_A at 0x14"


# --- what a write never changes, and what is an implementation's choice


@pytest.mark.parametrize(
    ("name", "read_only"),
    [
        ("GITS_CTLR", 0x8000_0000),  # Quiescent
        ("GITS_BASER0", 0x071F_0000_0000_0000),  # Type and Entry_Size
        ("GITS_BASER7", 0x071F_0000_0000_0000),
        ("GITS_CBASER", 0),
        ("GITS_CWRITER", 0),
        ("GICR_CTLR", 0x8000_000E),  # CES, IR, RWP, UWP
        ("GICR_PROPBASER", 0),
        ("GICR_PENDBASER", 0),
    ],
)
def test_read_only_bits_of_writable_registers(name: str, read_only: int) -> None:
    assert hex(register_of(name).read_only) == hex(read_only)


def test_implementation_defined_bits() -> None:
    assert register_of("GITS_TYPER").implementation_defined == 1 << 3
    assert register_of("GITS_BASER3").implementation_defined == 1 << 62 | 3 << 8
    optional = {row.name for row in WRITTEN if register_of(row.name).implementation_defined == -1}
    assert optional == {
        "GITS_MPAMIDR",
        "GITS_PARTIDR",
        "GITS_MPIDR",
        "GITS_STATUSR",
        "GITS_UMSIR",
        "GITS_SGIR",
        "GICR_SETLPIR",
        "GICR_CLRLPIR",
        "GICR_INVLPIR",
        "GICR_INVALLR",
        "GICR_SYNCR",
        "GICR_VSGIR",
        "GICR_VSGIPENDR",
    }


# --- bit by bit

LAYOUTS = {row.name: row for row in WRITTEN if not re.search("BASER[1-7]|PIDR[14567]", row.name)}
each_layout = pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)


def read_slowly(digits: str, field: Bits) -> int:
    """`digits` begins with the highest bit, as people write numbers."""
    width = len(digits)
    return int(digits[width - 1 - field.hi : width - field.lo] + "0" * field.place, 2)


@each_layout
def test_a_single_one_walks_through_every_bit(row: Row) -> None:
    layout = register_of(row.name).layout
    for at in range(row.width):
        digits = "0" * (row.width - 1 - at) + "1" + "0" * at
        want = [(field.name, read_slowly(digits, field)) for field in row.fields]
        assert layout(int(digits, 2)).items_() == want
        lit = [field.name for field in row.fields if not field.alias and read_slowly(digits, field)]
        assert len(lit) <= 1
        assert bool(layout.reserved_ >> at & 1) == (not lit)


@each_layout
def test_a_single_zero_walks_through_every_bit(row: Row) -> None:
    layout = register_of(row.name).layout
    for at in range(row.width):
        digits = "1" * (row.width - 1 - at) + "0" + "1" * at
        want = [(field.name, read_slowly(digits, field)) for field in row.fields]
        assert layout(int(digits, 2)).items_() == want


@each_layout
def test_reserved_is_what_no_field_names(row: Row) -> None:
    digits = ["1"] * row.width
    for field in row.fields:
        for at in range(field.lo, field.hi + 1):
            digits[row.width - 1 - at] = "0"
    register = register_of(row.name)
    assert f"{register.reserved:0{row.width}b}" == "".join(digits)


@each_layout
@settings(derandomize=True, database=None, deadline=None, max_examples=30)
@given(data=st.data())
def test_unpack_and_pack_are_each_others_inverse(row: Row, data: st.DataObject) -> None:
    layout = register_of(row.name).layout
    raw = data.draw(st.integers(0, (1 << row.width) - 1))
    digits = f"{raw:0{row.width}b}"
    seen = layout(raw)
    assert seen.items_() == [(field.name, read_slowly(digits, field)) for field in row.fields]
    values = {field.attr: getattr(seen, field.attr) for field in layout.fields_ if not field.alias}
    assert layout.pack_(**values) == raw & ~layout.reserved_


@each_layout
def test_every_field_refuses_one_more_than_it_can_hold(row: Row) -> None:
    layout = register_of(row.name).layout
    for field, written in zip(layout.fields_, row.fields, strict=True):
        size = written.hi - written.lo + 1
        most = int("1" * size + "0" * written.place, 2)
        assert field.put(most) == int("1" * size + "0" * written.lo, 2)
        for wrong in (most + (1 << written.place), -1 << written.place):
            with pytest.raises(ValueError) as error:  # noqa: PT011
                layout.pack_(**{field.attr: wrong})
            place = f"{written.hi}:{written.lo}"
            assert str(error.value) == f"{written.name} must fit bits {place}, not {wrong:#x}"
        if written.place:
            with pytest.raises(ValueError, match=f"^{written.name} must fit bits "):
                layout.pack_(**{field.attr: 1})


# --- values that were measured (its.md 4.1 and 11)


def test_baser_of_a_fresh_qemu() -> None:
    baser = registers.Baser(0x0107_0000_0000_0200)
    assert (baser.table_type, baser.entry_size, baser.page_size) == (1, 7, 2)
    assert (baser.valid, baser.indirect, baser.physical_address) == (0, 0, 0)


def test_baser_of_a_fresh_kvm() -> None:
    baser = registers.Baser(0x1C07_0000_0000_0600)
    assert (baser.table_type, baser.entry_size, baser.page_size) == (4, 7, 2)
    assert (baser.inner_cache, baser.shareability, baser.outer_cache) == (3, 1, 0)


def test_a_64k_address_above_48_bits_is_in_two_halves() -> None:
    baser = registers.Baser(0x8000_4003_0000_A200)
    assert hex(baser.physical_address_low_64k) == "0x400300000000"
    assert hex(baser.physical_address_high_64k) == "0xa000000000000"
    assert hex(baser.physical_address) == "0x40030000a000"


def test_typer_of_qemu_and_of_kvm() -> None:
    qemu = registers.Typer(0x1F_0001_EFB1)
    assert (qemu.physical, qemu.virtual, qemu.itt_entry_size, qemu.id_bits) == (1, 0, 11, 15)
    assert (qemu.devbits, qemu.pta, qemu.cil, qemu.cidbits, qemu.vmovp) == (15, 0, 1, 15, 0)
    kvm = registers.Typer(0x1EF71)
    assert (kvm.physical, kvm.itt_entry_size, kvm.id_bits, kvm.devbits) == (1, 7, 15, 15)
    assert (kvm.cil, kvm.hcc) == (0, 0)


def test_iidr_of_kvm() -> None:
    iidr = registers.Iidr(0x4B00_043B)
    assert (iidr.implementer, iidr.revision, iidr.product_id) == (0x43B, 0, 0x4B)


def test_queue_offsets_are_in_bytes() -> None:
    assert registers.Cwriter(0x1E1).offset == 0x1E0
    assert registers.Cwriter(0x1E1).retry == 1
    assert registers.Creadr(0xF_FFE0).offset == 0xF_FFE0
    assert registers.Creadr(0x10_0000).offset == 0


def test_a_level_1_entry() -> None:
    entry = registers.Level1(0x8000_0000_4123_0000)
    assert (entry.valid, hex(entry.physical_address)) == (1, "0x41230000")
    assert registers.Level1.reserved_ == 0x7FF0_0000_0000_0FFF
