"""Bit layouts: the one primitive behind registers, commands and table entries.

A `Layout` is a named set of `Field`s over an integer of fixed width. The class form gives typed
reading (`Baser(raw).valid`), the class attribute gives the field itself (`Baser.valid.mask`).
Names of this machinery end in `_`, so that a register may own a field called `size` or `width`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, overload


class Field:
    """Bits `hi`..`lo` (inclusive, as the manual writes them) under the manual's name."""

    __slots__ = ("alias", "attr", "hi", "lo", "mask", "name", "ones", "place")

    def __init__(self, hi: int, lo: int, name: str, *, place: int = 0, alias: bool = False) -> None:
        if not 0 <= lo <= hi:
            raise ValueError(f"field {name} must run from a high to a low bit, not {hi}:{lo}")
        self.hi = hi
        self.lo = lo
        self.name = name
        self.attr = ""
        self.ones = (1 << (hi - lo + 1)) - 1
        self.mask = self.ones << lo
        # An address field is read in place: its lowest bit stands for address bit `place`.
        self.place = place
        self.alias = alias

    def __set_name__(self, owner: type, attr: str) -> None:
        if attr.endswith("_"):
            raise TypeError(f"field {self.name} must not be called {attr}: names in _ are ours")
        self.attr = attr

    @overload
    def __get__(self, layout: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layout: Layout, owner: type) -> int: ...
    def __get__(self, layout: Layout | None, owner: type) -> Self | int:
        return self if layout is None else self.get(layout.raw_)

    def get(self, raw: int) -> int:
        """Return this field's value in `raw` (an address for an address field)."""
        return (raw >> self.lo & self.ones) << self.place

    def put(self, value: int) -> int:
        """Return `value` at this field's place; ValueError when it does not fit."""
        stored = value >> self.place
        if not 0 <= stored <= self.ones or stored << self.place != value:
            raise ValueError(f"{self.name} must fit bits {self.hi}:{self.lo}, not {value:#x}")
        return stored << self.lo

    def __repr__(self) -> str:
        return f"Field({self.name} [{self.hi}:{self.lo}])"


def bits(hi: int, lo: int, name: str, *, alias: bool = False) -> Field:
    """Return a plain number in bits `hi`..`lo`; `alias` allows it to overlap another field."""
    return Field(hi, lo, name, alias=alias)


def bit(at: int, name: str) -> Field:
    """Return a one-bit field."""
    return Field(at, at, name)


def address(hi: int, lo: int, name: str, *, place: int | None = None, alias: bool = False) -> Field:
    """Return an address whose bit `place` (by default `lo`) is stored in bit `lo`."""
    return Field(hi, lo, name, place=lo if place is None else place, alias=alias)


def dw(index: int, hi: int, lo: int, name: str) -> Field:
    """Return bits `hi`..`lo` of doubleword `index`, as the command figures number them."""
    return Field(64 * index + hi, 64 * index + lo, name)


def dw_address(index: int, hi: int, lo: int, name: str) -> Field:
    """Return an address held in place in doubleword `index`."""
    return Field(64 * index + hi, 64 * index + lo, name, place=lo)


class Layout:
    """An integer of `width_` bits seen through its fields. Immutable, compared by value."""

    __slots__ = ("raw_",)
    width_: ClassVar[int] = 0
    fields_: ClassVar[tuple[Field, ...]] = ()
    reserved_: ClassVar[int] = 0  # the bits that no field names

    def __init_subclass__(cls, *, width: int, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields = sorted((f for f in vars(cls).values() if isinstance(f, Field)), key=_by_place)
        used = 0
        for field in fields:
            if field.hi >= width:
                raise TypeError(f"{cls.__name__}.{field.name} ends at bit {field.hi} of {width}")
            if not field.alias and field.mask & used:
                raise TypeError(f"{cls.__name__}.{field.name} overlaps another field")
            if not field.alias:
                used |= field.mask
        cls.width_ = width
        cls.fields_ = tuple(fields)
        cls.reserved_ = ((1 << width) - 1) & ~used

    def __init__(self, raw: int) -> None:
        if not 0 <= raw < 1 << self.width_:
            raise ValueError(f"{type(self).__name__} must fit {self.width_} bits, not {raw:#x}")
        self.raw_ = raw

    @classmethod
    def pack_(cls, **values: int) -> int:
        """Return the integer with the named fields set and all other bits zero."""
        raw = 0
        known = {field.attr: field for field in cls.fields_}
        for attr, value in values.items():
            if attr not in known:
                raise ValueError(f"{cls.__name__} has no field {attr}, only {', '.join(known)}")
            raw |= known[attr].put(value)
        return raw

    def items_(self) -> list[tuple[str, int]]:
        """Return (manual's name, value) of every field, lowest bit first."""
        return [(field.name, field.get(self.raw_)) for field in self.fields_]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw_ == self.raw_

    def __hash__(self) -> int:
        return hash((type(self), self.raw_))

    def __repr__(self) -> str:
        shown = " ".join(f"{name}={value:#x}" for name, value in self.items_())
        return f"{type(self).__name__}({self.raw_:#x}: {shown})"


def _by_place(field: Field) -> tuple[int, int]:
    return field.lo, field.hi
