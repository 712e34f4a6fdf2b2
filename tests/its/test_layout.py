"""The bit-layout primitive, against strings of binary digits: the slow and obvious way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from tracer.its.layout import Field, Layout, address, bit, bits, dw, dw_address

seeded = settings(derandomize=True, database=None, deadline=None, max_examples=200)


class Sample(Layout, width=32):
    low = bits(3, 0, "Low")
    flag = bit(5, "Flag")
    page = address(27, 12, "Page")
    page_high = address(15, 12, "Page_high", place=28, alias=True)
    top = bit(31, "Top")


# --- reading


@pytest.mark.parametrize(
    ("digits", "low", "flag", "page", "top"),
    [
        ("0000 0000000000000000 000000 0 0 0000", 0, 0, 0, 0),
        ("0000 0000000000000000 000000 0 0 0001", 1, 0, 0, 0),
        ("0000 0000000000000000 000000 0 0 1000", 8, 0, 0, 0),
        ("0000 0000000000000000 000000 0 1 0000", 0, 0, 0, 0),  # bit 4 is nobody's
        ("0000 0000000000000000 000000 1 0 0000", 0, 1, 0, 0),
        ("0000 0000000000000000 111111 0 0 0000", 0, 0, 0, 0),  # bits 11 to 6 neither
        ("0000 0000000000000001 000000 0 0 0000", 0, 0, 0x1000, 0),
        ("0000 1000000000000000 000000 0 0 0000", 0, 0, 0x8000000, 0),
        ("0111 0000000000000000 000000 0 0 0000", 0, 0, 0, 0),
        ("1000 0000000000000000 000000 0 0 0000", 0, 0, 0, 1),
        ("1111 1111111111111111 111111 1 1 1111", 15, 1, 0xFFFF000, 1),
    ],
)
def test_each_bit_belongs_to_its_field(
    digits: str, low: int, flag: int, page: int, top: int
) -> None:
    seen = Sample(int(digits.replace(" ", ""), 2))
    assert (seen.low, seen.flag, seen.page, seen.top) == (low, flag, page, top)


def test_an_address_field_is_read_in_place_and_a_moved_one_where_it_belongs() -> None:
    seen = Sample(0x0ABC_D000)
    assert hex(seen.page) == "0xabcd000"
    assert hex(seen.page_high) == "0xd0000000"


def test_the_class_attribute_is_the_field() -> None:
    field = Sample.page
    assert isinstance(field, Field)
    assert (field.hi, field.lo, field.name, field.attr) == (27, 12, "Page", "page")
    assert (hex(field.mask), hex(field.ones), field.place) == ("0xffff000", "0xffff", 12)
    assert repr(field) == "Field(Page [27:12])"


def test_fields_are_in_bit_order_and_what_they_leave_is_reserved() -> None:
    assert [field.name for field in Sample.fields_] == ["Low", "Flag", "Page_high", "Page", "Top"]
    assert f"{Sample.reserved_:032b}" == "01110000000000000000111111010000"
    assert Sample.width_ == 32


def test_items_are_what_the_manual_calls_them() -> None:
    assert Sample(0x8123_4021).items_() == [
        ("Low", 1),
        ("Flag", 1),
        ("Page_high", 0x4000_0000),
        ("Page", 0x123_4000),
        ("Top", 1),
    ]


def test_a_layout_is_a_value() -> None:
    class Other(Layout, width=32):
        low = bits(3, 0, "Low")

    assert Sample(5) == Sample(5)
    assert hash(Sample(5)) == hash(Sample(5))
    assert Sample(5) != Sample(6)
    assert Sample(5) != Other(5)
    assert Sample(5) != 5
    assert len({Sample(5), Sample(5), Other(5)}) == 2
    shown = "Sample(0x25: Low=0x5 Flag=0x1 Page_high=0x0 Page=0x0 Top=0x0)"
    assert repr(Sample(0x25)) == shown


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (1 << 32, "Sample must fit 32 bits, not 0x100000000"),
        (-1, "Sample must fit 32 bits, not -0x1"),
        (1 << 200, f"Sample must fit 32 bits, not {1 << 200:#x}"),
    ],
)
def test_an_integer_that_does_not_fit_is_refused(raw: int, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (its whole text is compared)
        Sample(raw)
    assert str(error.value) == message


# --- writing


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ({}, "00000000000000000000000000000000"),
        ({"low": 15}, "00000000000000000000000000001111"),
        ({"flag": 1}, "00000000000000000000000000100000"),
        ({"page": 0x1000}, "00000000000000000001000000000000"),
        ({"page": 0xFFFF000}, "00001111111111111111000000000000"),
        ({"page_high": 0xF000_0000}, "00000000000000001111000000000000"),
        ({"low": 9, "top": 1}, "10000000000000000000000000001001"),
    ],
)
def test_pack_puts_every_value_at_its_place(values: dict[str, int], digits: str) -> None:
    assert f"{Sample.pack_(**values):032b}" == digits


@pytest.mark.parametrize(
    ("attr", "value", "message"),
    [
        ("low", 16, "Low must fit bits 3:0, not 0x10"),
        ("low", -1, "Low must fit bits 3:0, not -0x1"),
        ("flag", 2, "Flag must fit bits 5:5, not 0x2"),
        ("page", 0x1001, "Page must fit bits 27:12, not 0x1001"),  # would lose its low bit
        ("page", 0xFFF, "Page must fit bits 27:12, not 0xfff"),
        ("page", 0x1000_0000, "Page must fit bits 27:12, not 0x10000000"),
        ("page", -0x1000, "Page must fit bits 27:12, not -0x1000"),
        ("page_high", 0x1000, "Page_high must fit bits 15:12, not 0x1000"),
        ("page_high", 1 << 32, "Page_high must fit bits 15:12, not 0x100000000"),
    ],
)
def test_put_refuses_what_does_not_fit(attr: str, value: int, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        getattr(Sample, attr).put(value)
    assert str(error.value) == message
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Sample.pack_(**{attr: value})
    assert str(error.value) == message


def test_pack_refuses_a_field_that_the_layout_does_not_have() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Sample.pack_(low=1, size=2)
    known = "low, flag, page_high, page, top"
    assert str(error.value) == f"Sample has no field size, only {known}"


@seeded
@given(width=st.integers(1, 256), data=st.data())
def test_any_field_of_any_number_reads_as_its_digits(width: int, data: st.DataObject) -> None:
    lo = data.draw(st.integers(0, width - 1))
    hi = data.draw(st.integers(lo, width - 1))
    raw = data.draw(st.integers(0, (1 << width) - 1))
    digits = f"{raw:0{width}b}"[::-1]  # the digit at index n is bit n
    value = int(digits[lo : hi + 1][::-1], 2)
    assert bits(hi, lo, "X").get(raw) == value
    assert address(hi, lo, "X").get(raw) == int(digits[lo : hi + 1][::-1] + "0" * lo, 2)
    cleared = int("".join(d if lo <= n <= hi else "0" for n, d in enumerate(digits))[::-1], 2)
    assert bits(hi, lo, "X").put(value) == cleared
    assert address(hi, lo, "X").put(value << lo) == cleared
    assert bits(hi, lo, "X").mask == int("1" * (hi - lo + 1) + "0" * lo, 2)


# --- doublewords


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_a_doubleword_field_counts_its_bits_within_its_doubleword(index: int) -> None:
    field = dw(index, 47, 32, "vPEID")
    assert (field.hi, field.lo) == (64 * index + 47, 64 * index + 32)
    words = [0, 0, 0, 0]
    words[index] = 0xABCD << 32
    raw = int("".join(f"{word:064b}" for word in reversed(words)), 2)
    assert field.get(raw) == 0xABCD
    assert field.put(0xABCD) == raw


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_a_doubleword_address_is_in_place_within_its_doubleword(index: int) -> None:
    field = dw_address(index, 51, 8, "ITT_addr")
    assert field.get(0x000F_1234_5678_9A00 << 64 * index) == 0x000F_1234_5678_9A00
    assert field.put(0x4020_0000) == 0x4020_0000 << 64 * index
    with pytest.raises(ValueError) as error:  # noqa: PT011
        field.put(0x4020_0080)
    assert str(error.value) == (
        f"ITT_addr must fit bits {64 * index + 51}:{64 * index + 8}, not 0x40200080"
    )


# --- tables that must not come to be


def test_fields_must_not_overlap() -> None:
    with pytest.raises(TypeError) as error:

        class Bad(Layout, width=8):
            one = bits(3, 0, "One")
            two = bits(7, 3, "Two")

    assert str(error.value) == "Bad.Two overlaps another field"


def test_a_field_inside_another_overlaps_too() -> None:
    with pytest.raises(TypeError) as error:

        class Bad(Layout, width=8):
            outer = bits(7, 0, "Outer")
            inner = bit(4, "Inner")

    assert str(error.value) == "Bad.Inner overlaps another field"


def test_an_alias_may_overlap_and_takes_no_bits_of_its_own() -> None:
    class Good(Layout, width=8):
        outer = bits(5, 0, "Outer")
        inner = bits(7, 4, "Inner", alias=True)

    assert f"{Good.reserved_:08b}" == "11000000"
    assert (Good(0b1101_0010).outer, Good(0b1101_0010).inner) == (0b01_0010, 0b1101)


def test_neighbours_do_not_overlap() -> None:
    class Good(Layout, width=8):
        one = bits(3, 0, "One")
        two = bits(7, 4, "Two")

    assert Good.reserved_ == 0
    assert Good.pack_(one=0xA, two=0x5) == 0x5A


@pytest.mark.parametrize("width", [8, 32, 64, 256])
def test_a_field_must_end_within_its_layout(width: int) -> None:
    with pytest.raises(TypeError) as error:
        type("Bad", (Layout,), {"far": bits(width, 0, "Far")}, width=width)
    assert str(error.value) == f"Bad.Far ends at bit {width} of {width}"
    good = type("Good", (Layout,), {"near": bits(width - 1, 0, "Near")}, width=width)
    assert good.fields_[0].hi == width - 1


def test_an_alias_must_end_within_its_layout_too() -> None:
    with pytest.raises(TypeError) as error:
        type("Bad", (Layout,), {"far": bits(8, 4, "Far", alias=True)}, width=8)
    assert str(error.value) == "Bad.Far ends at bit 8 of 8"


@pytest.mark.parametrize(("hi", "lo"), [(3, 4), (0, 1), (-1, 0), (3, -1), (-1, -1)])
def test_a_field_runs_from_a_high_to_a_low_bit(hi: int, lo: int) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        bits(hi, lo, "Backwards")
    assert str(error.value) == f"field Backwards must run from a high to a low bit, not {hi}:{lo}"


def test_names_that_end_in_an_underscore_are_the_machinerys() -> None:
    with pytest.raises(TypeError) as error:
        bit(0, "Raw").__set_name__(Sample, "raw_")
    assert str(error.value) == "field Raw must not be called raw_: names in _ are ours"


def test_a_class_with_such_a_name_does_not_come_to_be() -> None:
    # Python 3.11 wraps what __set_name__ raises in a RuntimeError, 3.12 does not.
    with pytest.raises((TypeError, RuntimeError)) as error:

        class Bad(Layout, width=8):
            width_ = bits(3, 0, "Width")  # type: ignore[assignment]

    first = error.value if isinstance(error.value, TypeError) else error.value.__cause__
    assert str(first) == "field Width must not be called width_: names in _ are ours"


def test_a_register_may_own_a_field_called_size_or_width() -> None:
    class Good(Layout, width=8):
        size = bits(3, 0, "Size")
        width = bits(7, 4, "Width")

    assert (Good(0x5A).size, Good(0x5A).width, Good.width_) == (0xA, 0x5, 8)
