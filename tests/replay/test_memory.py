"""Guest RAM: known and unknown bytes, slots, and what costs nothing however large a guest asks."""

from __future__ import annotations

from replay.model.memory import GuestRam

BASE = 0x4000_0000


def ram(size=0x1000, **kwargs):
    return GuestRam([(BASE, size)], **kwargs)


# -- known, unknown, zero


def test_complete_ram_reads_zero_and_observed_ram_reads_unknown():
    assert ram().load64(BASE) == 0
    observed = ram(complete=False)
    assert observed.load8(BASE) is observed.load32(BASE) is observed.load64(BASE) is None
    observed.store32(BASE, 0)
    assert observed.load32(BASE) == 0
    assert observed.load64(BASE) is None


def test_a_known_byte_does_not_make_its_word_known():
    observed = ram(complete=False)
    observed.store8(BASE + 1, 0xAB)
    assert observed.load8(BASE + 1) == 0xAB
    assert observed.load8(BASE) is None
    assert observed.load32(BASE) is None
    for lane in (0, 2, 3):
        observed.store8(BASE + lane, lane)
    assert observed.load32(BASE) == 0x0302AB00
    assert observed.snapshot()[1] == ()


def test_a_stored_word_makes_its_bytes_known():
    observed = ram(complete=False)
    observed.store8(BASE, 1)
    observed.store32(BASE, 0x04030201)
    assert [observed.load8(BASE + lane) for lane in range(4)] == [1, 2, 3, 4]


def test_stores_and_loads_at_any_address():
    complete = ram()
    complete.store_bytes(BASE + 3, bytes(range(1, 10)))
    assert complete.load_bytes(BASE + 3, 9) == bytes(range(1, 10))
    assert complete.load64(BASE) == 0x0504030201000000
    assert complete.load64(BASE + 3) == 0x0807060504030201
    complete.store64(BASE + 0x21, 0x1122334455667788)
    assert complete.load64(BASE + 0x21) == 0x1122334455667788
    assert complete.load32(BASE + 0x20) == 0x66778800


def test_load_bytes_is_unknown_where_one_byte_is():
    observed = ram(complete=False)
    observed.store_bytes(BASE, b"abc")
    assert observed.load_bytes(BASE, 3) == b"abc"
    assert observed.load_bytes(BASE, 4) is None
    assert observed.load_bytes(BASE, 0) == b""


# -- slots


def test_backed_needs_every_byte_and_joins_slots():
    three = GuestRam([(BASE + 0x1000, 0x1000), (BASE, 0x1000), (BASE + 0x3000, 0x10)])
    assert three.backed(BASE, 0x2000)
    assert not three.backed(BASE, 0x2001)
    assert not three.backed(BASE + 0x2000)
    assert not three.backed(BASE - 1, 2)
    assert three.backed(BASE + 0x3008, 8)
    assert three.backed_until(BASE + 8) == BASE + 0x2000
    assert three.backed_until(BASE - 1) == BASE - 1
    assert not GuestRam([]).backed(0)


def test_without_slots_everything_is_taken_to_be_ram():
    anywhere = GuestRam()
    assert anywhere.slots is None
    assert anywhere.backed(0, 1 << 60)
    assert anywhere.backed_until(5) == 1 << 64


def test_slots_come_and_go():
    unsure = GuestRam()
    unsure.add_slot(BASE, 0x1000)
    assert unsure.slots == ((BASE, 0x1000),)
    assert not unsure.backed(0)
    unsure.add_slot(BASE + 0x1000, 0x1000)
    unsure.store64(BASE + 0xFF8, 7)
    unsure.store64(BASE + 0x1000, 8)
    assert unsure.backed(BASE + 0xFF8, 16)
    unsure.remove_slot(BASE + 0x1000, 0x1000)
    assert not unsure.backed(BASE + 0xFF8, 16)
    unsure.add_slot(BASE + 0x1000, 0x1000)
    assert (unsure.load64(BASE + 0xFF8), unsure.load64(BASE + 0x1000)) == (7, 0)


def test_a_removed_slot_takes_half_known_words_along():
    observed = ram(complete=False)
    observed.store8(BASE, 1)
    observed.remove_slot(BASE, 0x1000)
    assert observed.snapshot() == ((), ())
    observed.remove_slot(BASE, 0x1000)  # is not there any more
    assert observed.slots == ()


# -- snapshots, and walks over what is kept


def test_equal_contents_have_equal_snapshots():
    one, two = ram(), ram()
    one.store64(BASE, 1 << 40)
    one.store64(BASE + 8, 5)
    two.store64(BASE + 8, 5)
    two.store64(BASE, 1 << 40)
    two.store64(BASE + 16, 7)
    two.store64(BASE + 16, 0)
    assert one.snapshot() == two.snapshot()
    three = ram()
    three.restore(one.snapshot())
    assert three.load64(BASE) == 1 << 40


def test_a_snapshot_is_not_touched_by_what_follows():
    observed = ram(complete=False)
    observed.store8(BASE, 1)
    before = observed.snapshot()
    observed.store64(BASE, 2)
    observed.restore(before)
    assert observed.load8(BASE) == 1
    assert observed.load8(BASE + 1) is None


def test_touched_yields_what_is_kept_in_order():
    complete = ram()
    for offset in (0x20, 0, 0x10, 0x14):
        complete.store32(BASE + offset, 1)
    assert list(complete.touched(BASE, BASE + 0x1000)) == [BASE + o for o in (0, 0x10, 0x14, 0x20)]
    assert list(complete.touched(BASE + 0x10, BASE + 0x14)) == [BASE + 0x10]
    complete.store32(BASE + 0x10, 0)
    complete.store32(BASE + 0x18, 5)
    assert list(complete.touched(BASE + 4, BASE + 0x20)) == [BASE + 0x14, BASE + 0x18]


def test_touched_counts_known_zeros_of_observed_ram():
    observed = ram(complete=False)
    observed.store32(BASE + 4, 0)
    assert list(observed.touched(BASE, BASE + 8)) == [BASE + 4]


def test_next_word_and_nonzero64_near_and_far():
    large = ram(1 << 24)
    large.store32(BASE + 0x10_0004, 9)
    large.store64(BASE + 0x20, 1)
    assert large.next_word(BASE, BASE + 0x20) is None
    assert large.next_word(BASE, BASE + 0x24) == BASE + 0x20
    assert large.next_word(BASE + 0x28, BASE + (1 << 24)) == BASE + 0x10_0004
    assert large.nonzero64(BASE, 8) == [(4, 1)]
    assert large.nonzero64(BASE, 1 << 21) == [(4, 1), (0x2_0000, 9 << 32)]
    assert large.nonzero64(BASE, 1) == []
