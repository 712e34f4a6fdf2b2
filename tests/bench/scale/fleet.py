"""A fleet on paper: what so many VMs would need, each figure from measured ones and from named assumptions.

Counterparts: `growth` and `rates`, whose figures these are. `Need` says what a resource is asked for and what
one of it gives: the one that is asked for most, in parts of what there is, is the first bottleneck.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.scale.rates import Life

DAY_SECONDS: Final = 86_400
MB: Final = 1e6
OBJECT_BYTES: Final = 64 << 20  # a file that is rotated when it has this size
OBJECT_SECONDS: Final = 3600  # or this age
RING_BYTES: Final = 64 << 20  # of `record --ring 64M`
INTERRUPTS: Final = (
    1_000,
    10_000,
    50_000,
)  # of VMs that are busier than the measured one, a second


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here: a fleet's own numbers go in its place."""

    vms: int = 100_000
    vms_per_host: int = 50
    cores_per_host: int = 64
    boots_a_day: float = 1.0
    busy_share: float = 0.1
    kept_days: int = 30


@dataclass(frozen=True)
class Costs:
    """What was measured: seconds of a core an event, and bytes."""

    append: float
    read: float
    replay: float
    importing: float  # of a busy VM's probes, with the lines that are not the ITS's
    idle: Life
    busy: Life
    boots: Sequence[Life]
    start: float  # a process that checks one small trace

    @property
    def boot_judging(self) -> float:
        return sum(each.judging for each in self.boots) / sum(each.boots for each in self.boots)

    @property
    def boot_events(self) -> float:
        return sum(each.events for each in self.boots) / sum(each.boots for each in self.boots)

    @property
    def boot_bytes(self) -> float:
        return sum(each.bytes for each in self.boots) / sum(each.boots for each in self.boots)

    @property
    def busy_rate(self) -> float:
        return self.busy.events / self.busy.seconds

    @property
    def idle_rate(self) -> float:
        return self.idle.events / self.idle.seconds

    @property
    def event_bytes(self) -> float:
        """What an event of a busy VM weighs; of the captures, boots with their headers weigh more."""
        return self.busy.bytes / self.busy.events

    @property
    def events_per_msi(self) -> float:
        return self.busy.events / self.busy.msis


Rows = list[list[str]]


def boots_only(cost: Costs, fleet: Assumed) -> Rows:
    """What it takes to keep every boot and every reset, each its own small trace."""
    boots = fleet.vms * fleet.boots_a_day
    return [
        ["every boot kept, nothing else", "", "from"],
        ["boots a second", f"{boots / DAY_SECONDS:.2f}", "VMs x boots a day"],
        ["events a boot", f"{cost.boot_events:,.0f}", "the captures"],
        ["bytes a boot", f"{cost.boot_bytes:,.0f}", "the captures, header and index with them"],
        ["a day", f"{boots * cost.boot_bytes / MB:,.0f} MB in {boots:,.0f} objects", ""],
        [f"{fleet.kept_days} days", f"{fleet.kept_days * boots * cost.boot_bytes / MB / 1e3:,.1f} GB", ""],
        ["cores that judge them as they come", f"{boots / DAY_SECONDS * cost.boot_judging:.4f}",
         "a boot's verdict, in a process that is there: a corpus"],
        ["the same, a process each", f"{boots / DAY_SECONDS * cost.start:.2f}", "`itstrace check`"],
    ]  # fmt: skip


def flight(cost: Costs, fleet: Assumed) -> Rows:
    """What it takes to keep the last of every VM on its host, and send away what is stale."""
    held = RING_BYTES / (cost.busy_rate * cost.event_bytes)
    events = rate(cost, fleet) / fleet.vms * fleet.vms_per_host
    return [
        ["the last of every VM kept on its host", "", "from"],
        ["of a core, for a busy VM", f"{cost.busy_rate * (cost.append + cost.replay):.1%}",
         "events x (append + replay): the model runs along"],
        ["of a host's cores", f"{events * (cost.append + cost.replay) / fleet.cores_per_host:.2%}",
         f"{fleet.vms_per_host} VMs, {fleet.cores_per_host} cores"],
        ["hours of a busy VM in a ring", f"{held / 3600:,.1f}", f"{RING_BYTES >> 20} MiB"],
        ["disk on a host", f"{fleet.vms_per_host * RING_BYTES * 9 / 8 / 1e9:,.1f} GB",
         "rings, and an eighth"],
    ]  # fmt: skip


def rate(cost: Costs, fleet: Assumed) -> float:
    """Return the events a second of the whole fleet."""
    busy = fleet.busy_share * cost.busy_rate + (1 - fleet.busy_share) * cost.idle_rate
    return fleet.vms * (busy + fleet.boots_a_day * cost.boot_events / DAY_SECONDS)


def everything(cost: Costs, fleet: Assumed) -> Rows:
    """What it takes to keep every event."""
    events = rate(cost, fleet)
    flow = events * cost.event_bytes
    objects = _objects_a_day(cost, fleet)
    return [
        ["every event kept", "", "from"],
        ["events a second, idle", f"{cost.idle_rate:,.1f} a VM", "measured"],
        ["events a second, busy", f"{cost.busy_rate:,.0f} a VM", "measured"],
        ["events a second, the fleet", f"{events / 1e6:,.1f} million", "busy share, idle share, boots"],
        ["bytes a second", f"{flow / MB:,.0f} MB", "events x bytes an event"],
        ["a day", f"{flow * DAY_SECONDS / 1e12:,.1f} TB", ""],
        [f"{fleet.kept_days} days", f"{fleet.kept_days * flow * DAY_SECONDS / 1e15:,.2f} PB", ""],
        ["objects a day", f"{objects:,.0f}", f"{OBJECT_BYTES >> 20} MiB or an hour"],
        ["cores that append", f"{events * cost.append:,.0f}", "events x append"],
        ["cores that read the hosts' probes", f"{events * cost.importing:,.0f}", "events x import"],
        ["cores that replay all as it comes", f"{events * (cost.read + cost.replay):,.0f}",
         "events x (read + replay)"],
    ]  # fmt: skip


def _objects_a_day(cost: Costs, fleet: Assumed) -> float:
    """One an hour for each VM that recorded something, more for who fills one sooner."""
    an_hour = max(1.0, cost.busy_rate * cost.event_bytes * OBJECT_SECONDS / OBJECT_BYTES)
    recording = fleet.busy_share * an_hour + (1 - fleet.busy_share) * (cost.idle_rate > 0)
    return fleet.vms * DAY_SECONDS / OBJECT_SECONDS * recording


def interrupts(cost: Costs) -> Rows:
    """What one VM takes that has so many interrupts a second."""
    rows = [
        ["MSIs a second of one VM", "events/s", "KB/s", "a core appends", "a core reads probes", "a core replays"]
    ]  # fmt: skip
    for msis in (cost.busy.msis / cost.busy.seconds, *INTERRUPTS):
        events = msis * cost.events_per_msi
        rows.append(
            [
                f"{msis:,.0f}",
                f"{events:,.0f}",
                f"{events * cost.event_bytes / 1e3:,.0f}",
                f"{events * cost.append:.1%}",
                f"{events * cost.importing:.0%}",
                f"{events * (cost.read + cost.replay):.0%}",
            ]
        )
    return rows


@dataclass(frozen=True)
class Need:
    """A resource: what the fleet asks of it, beside what there is."""

    name: str
    part: float  # of what there is
    why: str


def needs(cost: Costs, fleet: Assumed) -> Iterator[Need]:
    """Yield what is asked of each resource in parts of it; every event is kept and replayed."""
    hosts = fleet.vms / fleet.vms_per_host
    host_events = rate(cost, fleet) / hosts
    yield Need(
        "one recorder process of a KVM host", host_events * (cost.importing + cost.append),
        "it reads the probes of all of a host's VMs on one core",
    )  # fmt: skip
    yield Need(
        "a host's cores, for recording",
        host_events * (cost.importing + cost.append) / fleet.cores_per_host,
        f"{fleet.cores_per_host} cores",
    )  # fmt: skip
    yield Need(
        "a host's network, 10 Gbit/s", host_events * cost.event_bytes * 8 / 1e10, "compressed"
    )
    yield Need(
        "a cluster of one core for each host, that replays", host_events * (cost.read + cost.replay),
        f"{hosts:,.0f} cores",
    )  # fmt: skip


def bottleneck(cost: Costs, fleet: Assumed) -> Rows:
    """Rows of what is asked for, the tightest first."""
    tightest = sorted(needs(cost, fleet), key=lambda need: -need.part)
    return [
        ["resource", "asked of it", "which is"],
        *([need.name, f"{need.part:.2%}", need.why] for need in tightest),
    ]
