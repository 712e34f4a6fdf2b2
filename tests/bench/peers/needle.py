"""A trace to minimise whose oracle a model and a real QEMU can both be asked: what does it answer at last?

It is the scenario Q7-movall, among noise that does not touch it, as somebody recorded it whose MOVALL does
nothing (QEMU before 7.0). The question is its last read of RAM: a QEMU 7.2 moves the pending bit, so it
answers otherwise than was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from replay.generator.answers import answered
from replay.generator.dice import Dice
from replay.judge import model_of, with_flags
from replay.minimize.items import COMMAND, KICK, Item, command
from replay.minimize.oracle import Candidate
from replay.minimize.script import Script, lift, lower
from replay.profiles import Profile, find
from replay.targets.qtest_lines import QtestLines
from tests.support.captures import TRACES
from tracer.events import NUMBER, Event, make
from tracer.log.opening import open_trace

SCENARIO: Final = TRACES / "scenarios" / "Q7-movall.its.txt"
SIGNATURE: Final = "divergent:mem.read:data"
FIXED: Final = find("qemu-7.2.22")[0]
BUGGY: Final[Profile] = with_flags(FIXED, {"movall_implemented": False})
_MEM_READ: Final = NUMBER["mem.read"]
_ASKED: Final = frozenset((NUMBER["reg.read"], _MEM_READ))
_NOISE_RAM: Final = 0x4280_0000


def planted(noise: int) -> Candidate:
    """Return the scenario with so many pieces of noise before each of its steps."""
    with open_trace(str(SCENARIO)) as reader:
        small = Candidate(reader.header, tuple(event for _, block in reader for event in block))
    script = lift(small, outputs=False)
    asked = lower(Script(small.header, tuple(_noisy(script.items, noise)))).events
    model = model_of(small.header, BUGGY)
    return Candidate(small.header, tuple(answered(asked, model, frozenset())))


def _noisy(items: Sequence[Item], noise: int) -> Iterator[Item]:
    dice = Dice(1)
    for item in items:
        for _ in range(noise):
            yield from _noise(dice, commands=item.event[0] in (COMMAND, KICK))
        yield item


def _noise(dice: Dice, *, commands: bool) -> Iterator[Item]:
    device = 0x70 + dice.below(4)
    if commands and dice.chance(50):
        itt = _NOISE_RAM + 0x10_0000 + 0x1_0000 * (device & 3)
        yield Item(command(0x8 | device << 32, 2, 1 << 63 | itt, 0))  # MAPD
        yield Item(command(0xA | device << 32, 8300 + device << 32, 9, 0))  # MAPTI to no collection
        return
    yield Item(make("mem.write", 0, gpa=_NOISE_RAM + 8 * dice.below(64), data=bytes(range(8))))
    yield Item(make("reg.read", 0, offset=0x8, value=0))


def qtest_lines(candidate: Candidate) -> tuple[list[str], str]:
    """Return a candidate as lines of qtest that end with its last read of RAM, and the recorded answer."""
    lines = QtestLines(candidate.header.cpus or 1, virtual=False)
    last = max(at for at, event in enumerate(candidate.events) if event[0] == _MEM_READ)
    found: list[str] = []
    for event in candidate.events[: last + 1]:
        found += lines.of(event) or []
    return found, f"OK 0x{recorded(candidate.events[last]).hex()}"


def recorded(event: Event) -> bytes:
    """Return what a read of RAM gave."""
    data: bytes = event[4]
    return data
