"""Where guest addresses stand: fields of registers and commands, and words in guest RAM.

`Place` says what an address becomes. Counterparts: `replay.moving`, which moves all of a trace's,
and `replay.minimize.addresses`, which moves one table and asks an oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from replay.model.qemu.entry_layouts import Dte as QemuDte, Vte
from replay.model.xen.entries import Dte as XenDte
from replay.numbers import Number
from tracer.its.layout import Field, address
from tracer.its.registers import Level1

Place = Callable[[int, int], int]  # (an address, the bytes that lie there) -> what it becomes
Pointer = tuple[int, Field]  # bits that must be set in a word, and the address in it

ADDRESSES: Final = frozenset(("physical_address", "itt_addr", "vpt_addr", "vconf_addr"))
ALIGN: Final = 0x1_0000
LEVEL1: Final[Pointer] = (Level1.valid.mask, Level1.physical_address)
KVM_DTE: Final[Pointer] = (1 << 63, address(48, 5, "ITT_addr", place=8))
# family -> what a doubleword of its tables may be
POINTERS: Final[dict[str, tuple[Pointer, ...]]] = {
    "kvm": (LEVEL1, KVM_DTE),
    "qemu": (
        LEVEL1,
        (QemuDte.valid.mask, QemuDte.itt_addr),
        (Vte.valid.mask, Vte.vpt_addr),
    ),
    "xen": (LEVEL1, (0, XenDte.itt_addr)),
}
_PAGES: Final = {0: 0x1000, 1: 0x4000, 2: 0x1_0000, 3: 0x1_0000}


def size_of(number: Number) -> int:
    """Return how much RAM a table takes, as far as the fields beside its address say."""
    fields = {field.attr: field for field in number.fields}
    get = number.get
    if "page_size" in fields:
        return (get(fields["size"]) + 1) * _PAGES[get(fields["page_size"])]
    if "id_bits" in fields:
        return 1 << min(get(fields["id_bits"]) + 1, 32)
    if "itt_addr" in fields:
        return 16 << min(get(fields["size"]) + 1, 32)
    if "valid" in fields and "size" in fields:
        return get(fields["size"]) + 1 << 12
    return ALIGN


def has_address(number: Number) -> bool:
    """Return whether part of an address can stand in a number."""
    return any(field.attr in ADDRESSES and number.mask(field) for field in number.fields)


def number_at(number: Number, place: Place) -> int | None:
    """Return the number with its addresses where `place` puts them; None where one does not fit."""
    for field in number.fields:
        if field.attr in ADDRESSES and number.mask(field):
            was = number.get(field)
            to = place(was, size_of(number))
            raw = number.raw if to == was else number.put(field, to)
            if raw is None:
                return None
            number = replace(number, raw=raw)
    return number.raw


def words_at(data: bytes, gpa: int, pointers: Sequence[Pointer], place: Place) -> bytes:
    """Return bytes of guest RAM with the pointers among their doublewords where `place` puts them."""
    if gpa % 8 or len(data) % 8:
        return data
    words = (int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8))
    return b"".join(_word(word, pointers, place).to_bytes(8, "little") for word in words)


def _word(word: int, pointers: Sequence[Pointer], place: Place) -> int:
    for valid, field in pointers:
        if word & valid == valid:
            was = field.get(word)
            to = place(was, ALIGN)
            if to != was:
                return word & ~field.mask | (to >> field.place & field.ones) << field.lo
    return word
