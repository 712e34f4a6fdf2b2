"""The probe that makes hidden state speak: chapters p0 to p12, each a list of events to carry out.

Two instances that should answer alike are asked the same. Every device, event, INTID and collection
that the life named is asked about, and a neighbour of each; tables, queue and ITTs are new and lie
in RAM that the life did not have. Nothing here knows what the answers should be. The counterparts
are `replay.equivalence.inventory`, which tells the names, and `replay.equivalence.bench`, which compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from replay.equivalence.inventory import Inventory
from replay.equivalence.probe import Probe, Step
from tracer.its.registers import Baser

_V: Final = Baser.valid.mask


class Chapter(NamedTuple):
    """One part of the probe; `attributes`: only where a VMM can save, restore and reset."""

    name: str
    title: str
    build: Callable[[Probe], list[Step]]
    attributes: bool = False


def _p0(probe: Probe) -> list[Step]:
    return [*probe.look(), *probe.registers()]


def _p1(probe: Probe) -> list[Step]:
    return [*probe.zero_pending(), *probe.pending()]


def _p2(probe: Probe) -> list[Step]:
    return [
        *probe.distributor(),
        *probe.redistributors(),
        *probe.tables(),
        *probe.its_registers(),
        *probe.look(),
    ]


def _p3(probe: Probe) -> list[Step]:
    # INT first: it looks into the lists and not into the translation cache, so that what an MSI
    # does afterwards and INT did not comes from the cache.
    return [
        *probe.each("INT", probe.old),
        *probe.look("events"),
        *probe.pending("events"),
        *probe.msis(probe.old, "translation_cache"),
        *probe.look("translation_cache"),
        *probe.pending("translation_cache"),
    ]


def _p4(probe: Probe) -> list[Step]:
    return [
        *probe.configure(enabled=False),
        *probe.map_all(),
        *probe.look(),
        *probe.configure(enabled=True),
        *probe.each("INV", probe.pairs),
        *probe.look(),
        *probe.msis(probe.pairs),
        *probe.look(),
        *probe.pending(),
    ]


def _p5(probe: Probe) -> list[Step]:
    off = probe.cpus - 1
    first = probe.collections[0]
    mine = [pair for pair, icid in zip(probe.pairs, probe.icids, strict=True) if icid == first]
    return [
        *probe.lpis(off, on=False),
        *probe.msis(mine, "translation_cache"),
        *probe.commands([probe.mapc(first, off)]),
        *probe.msis(mine, "translation_cache"),
        *probe.commands([probe.mapc(first, probe.targets[first])]),
        *probe.lpis(off, on=True),
        *probe.look(),
    ]


def _p6(probe: Probe) -> list[Step]:
    return [
        *probe.commands([probe.movi(pair) for pair in probe.pairs]),
        *probe.msis(probe.pairs),
        *probe.look(),
        *probe.pending(),
        *probe.each("CLEAR", probe.pairs),
        *probe.each("DISCARD", probe.pairs),
        *probe.look(),
        *probe.pending(),
        *probe.commands(probe.mapti()),
        *probe.look(),
        *probe.pending(),
    ]


def _p7(probe: Probe) -> list[Step]:
    cpus = range(probe.cpus)
    return [
        *(step for cpu in cpus for step in probe.lpis(cpu, on=False)),
        *(step for cpu in cpus for step in probe.lpis(cpu, on=True, ptz=True)),
        *probe.each("INV", probe.pairs),
        *probe.look(),
        *probe.pending(),
    ]


def _p8(probe: Probe) -> list[Step]:
    first = probe.pairs[0][0]
    return [
        *probe.msis(probe.pairs),
        *probe.save(),
        *probe.commands([probe.mapd(first), *probe.mapti()[:1]]),
        *probe.save(),
        Step(None),
        *probe.reset(),
        *probe.restore(),
        *probe.its_registers(),
        *probe.each("INT", probe.pairs),
        *probe.msis(probe.pairs),
        *probe.look(),
    ]


def _p9(probe: Probe) -> list[Step]:
    return [*probe.restore_tables(), *probe.msis(probe.pairs), *probe.look(), *probe.save()]


def _p10(probe: Probe) -> list[Step]:
    return [
        *probe.disable(),
        *probe.tables(alternative=True),
        *probe.msis(probe.pairs),
        *probe.look(),
        *probe.save(),
        Step(None),
    ]


def _rebuild(probe: Probe, *, two_level: bool) -> list[Step]:
    return [
        *probe.invalidate(),
        *probe.tables(two_level=two_level),
        *probe.map_all(),
        *probe.msis(probe.pairs),
    ]


def _p11(probe: Probe) -> list[Step]:
    first = probe.collections[0]
    return [
        *probe.commands([probe.mapc(first, None)]),
        *probe.save(),
        Step(None),
        *probe.commands([probe.mapc(first, probe.targets[first])]),
        *probe.msis(probe.pairs),
        *probe.look(),
    ]


def _p12(probe: Probe) -> list[Step]:
    spread = [probe.mapc(icid, at % probe.cpus) for at, icid in enumerate(probe.collections)]
    moves = [probe.movall(cpu, cpu + 1) for cpu in range(0, probe.cpus - 1, 2)]
    return [
        *probe.invalidate(),
        *probe.tables(),
        *probe.map_all(),
        *probe.commands(spread),
        *probe.msis(probe.pairs),
        *probe.look(),
        *probe.commands(moves),
        *probe.look(),
        *probe.pending(),
        Step(None),
    ]


CHAPTERS: Final = (
    Chapter("p0", "registers, live LPIs", _p0),
    Chapter("p1", "pending pages zeroed, then saved", _p1, attributes=True),
    Chapter("p2", "new tables, enabled", _p2),
    Chapter("p3", "every old event, by INT and MSI", _p3),
    Chapter("p4", "the same INTIDs on other events and vCPUs", _p4),
    Chapter("p5", "a collection on a vCPU with LPIs off", _p5),
    Chapter("p6", "MOVI, CLEAR, DISCARD, MAPTI", _p6),
    Chapter("p7", "LPIs off and on", _p7),
    Chapter("p12", "MOVALL over all vCPUs", _p12),
    Chapter("p8", "MAPD on a live device, save, reset, restore", _p8, attributes=True),
    Chapter(
        "p8 two-level", "p8 with a two-level table",
        lambda probe: [*_rebuild(probe, two_level=True), *_p8(probe)], attributes=True,
    ),
    Chapter("p10", "BASERs re-pointed with Valid 1", _p10),
    Chapter(
        "p9", "a second restore, which must fail, and a save",
        lambda probe: [
            *_rebuild(probe, two_level=False), *probe.save(), *probe.reset(), *probe.restore(),
            *_p9(probe),
        ],
        attributes=True,
    ),
    Chapter(
        "p11", "a collection unmapped under its events, and a save",
        lambda probe: [*_rebuild(probe, two_level=False), *_p11(probe)],
    ),
    Chapter(
        "p11 two-level", "p11 with a two-level table",
        lambda probe: [*_rebuild(probe, two_level=True), *_p11(probe)],
    ),
)  # fmt: skip


def _r1(probe: Probe) -> list[Step]:
    return [*probe.look(), *probe.registers()]


def _r2(probe: Probe) -> list[Step]:
    return [*probe.msis(probe.old), *probe.look()]


def _r3(probe: Probe) -> list[Step]:
    return [*probe.pending(), *probe.save(), Step(None)]


# What is asked of a device that should be in the middle of its life: nothing is set up anew first.
ROUND_TRIP: Final = (
    Chapter("r1", "registers, live LPIs", _r1),
    Chapter("r2", "every event by MSI", _r2),
    Chapter("r3", "saved again, all RAM", _r3, attributes=True),
)


def _q1(probe: Probe) -> list[Step]:
    return [*probe.invalidate(), *probe.tables(), *probe.map_all(), *probe.look()]


# What is asked where the pending tables have bits of the past: does a mapping take one for its own?
PENDING_TABLES: Final = (Chapter("q1", "MAPTI of the INTIDs whose bits are set", _q1),)


def probe_of(inventory: Inventory, **known: Any) -> Probe:
    """Return a probe of everything that a life named."""
    return Probe(inventory, **known)
