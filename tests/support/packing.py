"""Fast packing of table entries against the layouts, which are slow and obvious."""

from __future__ import annotations

import random


def assert_packing_agrees(layout, pack, unpack):
    """Every bit alone, and 200 random words."""
    rng = random.Random(1)
    raws = [1 << bit for bit in range(layout.width_)]
    raws += [rng.getrandbits(layout.width_) for _ in range(200)]
    for raw in raws:
        values = [value for _, value in layout(raw).items_()]
        assert list(unpack(raw)) == values
        assert pack(*values) == raw & ~layout.reserved_
