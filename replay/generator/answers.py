"""A life with the answers that the model of a profile gives: a trace like any recorded one.

Nobody else answered, and the header says so: a real target is compared with the model when it runs
such a trace, and in lockstep the answers are not looked at. Counterparts: `life`, `replay.lockstep`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from replay.generator.guest import CPUS, RAM, RAM_BYTES
from replay.generator.life import Life
from replay.judge import AnyModel, model_of
from replay.model import effects
from replay.model.effects import HostCrash
from replay.profiles import Profile
from tracer import events as ev
from tracer.events import NUMBER, Event, make
from tracer.log.header import Header

SOURCE: Final = "generated"
DEFAULT_EVENTS: Final = 1000
_FLASH: Final = [0, 128 << 20]  # of QEMU's virt machine reads as memory, too
_ITS_BASE: Final = 0x0808_0000
_REG_READ, _MEM_READ, _PROBE = NUMBER["reg.read"], NUMBER["mem.read"], NUMBER["probe"]
_IMPLEMENTATIONS: Final = {"kvm": "linux-kvm", "qemu": "qemu-tcg"}
# What real targets show of an input, by family.
_SHOWN: Final = {
    "kvm": frozenset((effects.ATTR_RESULT, effects.MSI_RESULT)),
    "qemu": frozenset(
        (effects.COMMAND, effects.TABLE_READ, effects.TABLE_WRITE, effects.TABLE_FAULT)
    ),
}


def header_of(seed: int, profile: Profile, events: int) -> Header:
    """Return the header of a generated trace; all of it follows from the arguments."""
    ram = [RAM, RAM_BYTES]
    name = f"{profile.name} {seed} {events}"
    return Header(
        uuid=blake2b(name.encode(), digest_size=16).hexdigest(),
        source=SOURCE,
        order="total",
        implementation=_IMPLEMENTATIONS[profile.family],
        implementation_version=profile.name.partition("-")[2],
        profile=profile.name,
        its_bases=[_ITS_BASE],
        cpus=CPUS,
        mpidrs=list(range(CPUS)),
        ram_ranges=[ram] if profile.family == "kvm" else [_FLASH, ram],
        guest_ram="complete",
        annotations={"seed": str(seed), "answers": f"model {profile.name}"},
    )


def generate(seed: int, profile: Profile, events: int) -> Iterator[Event]:
    """Yield the events of a life, answered; it ends before what would kill the host."""
    model = model_of(header_of(seed, profile, events), profile)
    return answered(Life(seed, profile).lived(events), model, _SHOWN[profile.family])


def answered(asked: Iterable[Event], model: AnyModel, shown: frozenset[int]) -> Iterator[Event]:
    """Yield inputs and questions with what the model answers."""
    for event in asked:
        kind = event[0]
        if kind == _PROBE:
            yield event
            for intid, target, flags, priority, queued in model.live_rows() or ():
                yield make(
                    "lpi.live", 0, cause=0, intid=intid, target=target, flags=flags,
                    priority=priority, queued=queued,
                )  # fmt: skip
            yield make("probe", 0, edge=ev.EDGES.index("end"))
        elif kind >= ev.FIRST_OUTPUT:
            yield _filled(event, _told(model, event))
            if kind != _MEM_READ and (errno := model.errno()):
                yield make("attr.result", 0, cause=1, errno=errno)
        else:
            try:
                done = list(model.apply(event, ()))
            except HostCrash:
                return
            yield event
            seen = [effect for effect in done if effect[0] in shown]
            yield from ((effect[0], 0, at, *effect[1:]) for at, effect in enumerate(seen, 1))


def _told(model: AnyModel, event: Event) -> int | bytes | None:
    if event[0] == _REG_READ:
        return model.read(event)
    answer = model.asks[event[0]](event)
    told: int | bytes | None = None if answer is None else answer.expected
    return told


_ANSWER_AT: Final = {
    NUMBER["reg.read"]: 3, NUMBER["gicr.read"]: 4, NUMBER["gicd.read"]: 3, NUMBER["mem.read"]: 4,
}  # fmt: skip


def _filled(event: Event, value: int | bytes | None) -> Event:
    """Return a question with its answer; None is a bad access, which reads as 0."""
    at = _ANSWER_AT[event[0]]
    if value is not None:
        return (*event[:at], value, *event[at + 1 :])
    fields = ev.fields_of(event) | {"bad": 1}
    return make(ev.kind_name(event[0]), 0, **fields)
