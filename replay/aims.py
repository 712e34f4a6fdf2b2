"""What a command is about: the key that it names, and whether a value is what it asked for.

Facts of encodings are in `tracer.its.commands`; here is only which component each command writes.
The counterparts are `replay.writers` and `replay.history`, which ask who wrote a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from replay.model import effects
from replay.model.effects import Effect
from tracer.its.commands import BY_OPCODE, COMMANDS, CommandSpec, join
from tracer.its.layout import Field

Words = tuple[int, ...]  # the four doublewords of a command
# Command -> the component that it names, and by which fields.
_NAMES: Final = {
    "MAPD": ("devices", ("device_id",)),
    "MAPC": ("collections", ("icid",)),
    **dict.fromkeys(
        ("MAPTI", "MAPI", "MOVI", "DISCARD", "VMAPTI", "VMAPI", "VMOVI", "INT", "CLEAR", "INV"),
        ("events", ("device_id", "event_id")),
    ),
    **dict.fromkeys(("VMAPP", "VMOVP"), ("vpes", ("vpe_id",))),
}
# Command -> what the value holds when it did what it was asked for: name there, name in the
# command, and how much more there is than the field says.
_ASKS: Final = {
    "MAPD": (("itt_addr", "itt_addr", 0), ("eventid_bits", "size", 1)),
    "MAPC": (("rdbase", "rdbase", 0),),
    "MAPTI": (("intid", "pintid", 0), ("icid", "icid", 0)),
    "MAPI": (("intid", "event_id", 0), ("icid", "icid", 0)),
    "MOVI": (("icid", "icid", 0),),
    "VMAPTI": (("intid", "vintid", 0), ("vpe_id", "vpe_id", 0)),
    "VMAPI": (("intid", "event_id", 0), ("vpe_id", "vpe_id", 0)),
    "VMOVI": (("vpe_id", "vpe_id", 0),),
    "VMAPP": (("vpt_addr", "vpt_addr", 0), ("rdbase", "rdbase", 0)),
    "VMOVP": (("rdbase", "rdbase", 0),),
}
MOVES: Final = ("MOVI", "VMOVI", "VMOVP")  # they write what another command made
REMOVES: Final = ("DISCARD",)  # beside all commands that have V = 0
PENDING: Final = ("INT", "CLEAR")  # they write no mapping, but whether its LPI is pending


class _Place(NamedTuple):
    """Where a field stands among the doublewords; no field of a command crosses two."""

    word: int
    shift: int
    ones: int
    place: int

    @classmethod
    def of(cls, field: Field) -> _Place:
        """Return a field's place."""
        return cls(field.lo // 64, field.lo % 64, field.ones, field.place)

    def get(self, words: Words) -> int:
        """Return the field's value."""
        return (words[self.word] >> self.shift & self.ones) << self.place


def _place(spec: CommandSpec, attr: str) -> _Place:
    return _Place.of(getattr(spec.layout, attr))


# The same by opcode, with the places of the fields: it is asked of every command.
_AIMS: Final = {
    int(spec.opcode): (component, tuple(_place(spec, attr) for attr in attrs))
    for spec in COMMANDS
    if spec.name in _NAMES
    for component, attrs in (_NAMES[spec.name],)
}
# Opcode -> its V if it has one, and what the value holds: its name there, its field, how much more.
_ASKED: Final = {
    int(spec.opcode): (
        _place(spec, "v") if hasattr(spec.layout, "v") else None,
        tuple((there, _place(spec, here), more) for there, here, more in _ASKS[spec.name]),
    )
    for spec in COMMANDS
    if spec.name in _ASKS
}


def fetched(done: Sequence[Effect]) -> Iterator[Words]:
    """Yield the doublewords of each command among the effects of an input."""
    for effect in done:
        if effect[0] == effects.COMMAND:
            yield effect[2:6]


def name_of(words: Words) -> str | None:
    """Return a command's name; None for an unknown opcode."""
    spec = BY_OPCODE.get(words[0] & 0xFF)
    return None if spec is None else spec.name


def fields_of(words: Words) -> dict[str, int]:
    """Return the fields of a command by their attribute names; none of an unknown one."""
    raw, spec = join(*words), BY_OPCODE.get(words[0] & 0xFF)
    return {each.attr: each.get(raw) for each in spec.layout.fields_} if spec else {}


def asks(words: Words) -> bool:
    """Return whether a command can set a key to a value."""
    return words[0] & 0xFF in _ASKED


def aim(words: Words) -> tuple[str, Any] | None:
    """Return the (component, key) that a command names; None for one that names no mapping."""
    found = _AIMS.get(words[0] & 0xFF)
    if found is None:
        return None
    component, fields = found
    if len(fields) == 1:
        return component, fields[0].get(words)
    return component, tuple(field.get(words) for field in fields)


def is_asked(words: Words, value: Any) -> bool:
    """Return whether `value`, of the key that a command names, is what the command asks for."""
    asked = _ASKED.get(words[0] & 0xFF)
    if asked is None:
        return False
    valid, pairs = asked
    if valid is not None and not valid.get(words):
        return False
    held = value if isinstance(value, dict) else {"rdbase": value}
    return all(held.get(there) == field.get(words) + more for there, field, more in pairs)
