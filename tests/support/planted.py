"""Scenarios planted in the middle of a long life of the same family: what minimising has to find.

Before the scenario there is a life, then a power-on of the same VM, then the scenario with other
identifiers and addresses and with noise between its events; behind it another life. What the VM
answered, the profile answered that the scenario was recorded on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from replay.corpus import trace_name
from replay.generator.answers import answered
from replay.generator.dice import Dice
from replay.generator.life import Life
from replay.judge import model_of, with_flags
from replay.manifest import Expectation, manifest_path, read_manifest
from replay.minimize import speaks
from replay.minimize.addresses import Stretch, moved
from replay.minimize.case import Told
from replay.minimize.items import COMMAND, KICK, Item, command
from replay.minimize.oracle import Candidate
from replay.minimize.renumber import renumbered, used
from replay.minimize.script import Script, lift, lower
from replay.profiles import Profile, find
from tests.support.scenarios import paths
from tracer import events as ev
from tracer.events import NUMBER, Event, make
from tracer.log.header import Header
from tracer.log.opening import open_trace

RAM = 0x4000_0000
RAM_BYTES = 128 << 20
MOVED_BY = 64 << 20  # behind the RAM of the lives
OF_SCENARIO = Stretch(RAM, RAM + (32 << 20))
NOISE_RAM = RAM + (40 << 20)
CPUS = 4
SHOWN = frozenset(
    NUMBER[name]
    for name in ("attr.result", "msi.result", "command", "table.read", "table.write", "table.fault")
)
# Scenarios that need just their CPUs and their RAM.
OWN_VM = (
    "K15-cache-without-bound", "K22-mapti-into-no-memory", "K26-target", "change-typer-last",
)  # fmt: skip
# Lives in which a scenario is not hidden by what the life itself shows.
SEEDS = {
    "S06-K17-F3-as-5.10-answered-buggy": 1,  # the host dies early in the others
    "S06-K17-F3-as-5.10-answered-fixed": 1,
    "S13-Q2-enable-runs-the-queue-again-buggy": 7,  # lives show it too, of another making
}


@dataclass(frozen=True)
class Planted:
    """A scenario in a life, and what must be found in it."""

    name: str
    small: Candidate  # the scenario as somebody wrote it
    large: Candidate
    profile: Profile  # under which the signature shows
    told: Told

    @property
    def signature(self) -> str:
        assert self.told.signature
        return self.told.signature


def read(path: Path) -> Candidate:
    """Return a scenario's header and events."""
    with open_trace(str(path)) as reader:
        return Candidate(reader.header, tuple(event for _, block in reader for event in block))


def cases() -> list[tuple[Path, Expectation]]:
    """Return every scenario with each of its variants that is a finding."""
    return [
        (path, each)
        for path in paths()
        for each in read_manifest(manifest_path(path)).expectations
        if each.signature
    ]


def name_of(path: Path, variant: Expectation) -> str:
    return f"{trace_name(path)}-{variant.name.replace(' ', '-')}"


def plant(path: Path, variant: Expectation, *, events: int = 5000, seed: int = 1) -> Planted:
    """Return the scenario at `path` in a life of about so many events."""
    manifest = read_manifest(manifest_path(path))
    small = read(path)
    base = find(manifest.profile or "")[0]
    profile = with_flags(base, variant.flags)
    others = tuple(
        with_flags(base, each.flags) for each in manifest.expectations if each.name != variant.name
    )
    told = Told(variant.signature, others, bool(manifest.values.get("strict")))
    name = name_of(path, variant)
    header = small.header if any(map(name.startswith, OWN_VM)) else _header(small.header)
    seed += SEEDS.get(name, 0)
    dice = Dice(seed)
    inside = _disguised(lift(small, outputs=False), header, dice)
    inside = inside if header is not small.header else lift(small, outputs=False)
    half = max(events - 2 * len(inside.items), 0) // 4  # about as many are answers
    asked = (
        *Life(dice.number(), profile).lived(half),
        make("reset", 0, how=ev.POWER_ON),
        *lower(inside).events,
        *Life(dice.number(), profile).lived(half),
    )
    word = told.signature.partition(":")[0] if told.signature else ""
    if word == "crash":
        recorded: tuple[Event, ...] = asked
    else:
        by = others[0] if word == "divergent" else profile
        recorded = tuple(answered(asked, model_of(header, by), SHOWN))
    large = Candidate(header, recorded)
    return Planted(name, small, large, profile, told)


def _header(small: Header) -> Header:
    """Return the header of a VM that both the lives and the scenario can have."""
    cpus = max(CPUS, small.cpus or 1)
    mpidrs = list(small.mpidrs or [])
    free = (number for number in range(64) if number not in mpidrs)
    mpidrs += [next(free) for _ in range(cpus - len(mpidrs))]
    beyond = [each for each in small.ram_ranges or [] if each[0] > RAM]
    before = [each for each in small.ram_ranges or [] if each[0] < RAM]
    ranges = [*before, [RAM, RAM_BYTES], *beyond]
    return replace(small, cpus=cpus, mpidrs=mpidrs, ram_ranges=ranges, source="planted")


def _disguised(script: Script, header: Header, dice: Dice) -> Script:
    """Return a scenario with other numbers, elsewhere in RAM, and with noise."""
    for what, add in ((speaks.DEVICE, 0x40), (speaks.COLLECTION, 5)):
        numbers = {name: name + add for name in used(script, what)}
        if _plain(script, what):
            script = renumbered(script, what, numbers)
    script = moved(script, OF_SCENARIO, RAM + MOVED_BY)
    return Script(header, tuple(_noisy(script, dice)))


def _plain(script: Script, what: str) -> bool:
    """Return whether no table of RAM names what is renumbered, and no number is odd."""
    written = any(
        item.event[0] == NUMBER["mem.write"] and len(item.event[3]) not in (8,)
        for item in script.items
    )
    restores = any(item.event[0] == NUMBER["restore"] for item in script.items)
    reads = any(item.event[0] == NUMBER["mem.read"] for item in script.items)
    return not written and not restores and not reads and all(n < 16 for n in used(script, what))


def _noisy(script: Script, dice: Dice) -> Iterator[Item]:
    for item in script.items:
        if dice.chance(50):
            yield from _noise(dice, commands=item.event[0] in (COMMAND, KICK))
        yield item


def _noise(dice: Dice, *, commands: bool) -> Iterator[Item]:
    device = 0x70 + dice.below(4)
    menu = [
        [make("msi", 0, device_id=device, event_id=0, origin=ev.VMM)],
        [make("mem.write", 0, gpa=NOISE_RAM + 8 * dice.below(64), data=bytes(range(8)))],
        [make("reg.read", 0, offset=0x8, value=0, size=8, origin=ev.VMM)],
    ]
    if commands:
        itt = NOISE_RAM + 0x1_0000 * (device & 3)
        menu = [
            [command(0x8 | device << 32, 2, 1 << 63 | itt, 0)],
            [command(0xA | device << 32, 8300 + device << 32, 9, 0)],
            [command(0x5, 0, 0, 0)],
        ]
    yield from (Item(event) for event in dice.pick(menu))
