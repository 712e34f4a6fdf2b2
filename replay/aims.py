"""What a command is about: the key that it names, and whether a value is what it asked for.

Facts of encodings are in `tracer.its.commands`; here is only which component each command writes.
The counterparts are `replay.writers` and `replay.history`, which ask who wrote a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from replay.model import effects
from replay.model.effects import Effect
from tracer.its.commands import BY_OPCODE, join

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
# Command -> what the value holds when it did what it was asked for: its name there and here.
_ASKS: Final = {
    "MAPD": (("itt_addr", "itt_addr"),),
    "MAPC": (("rdbase", "rdbase"),),
    "MAPTI": (("intid", "pintid"), ("icid", "icid")),
    "MAPI": (("intid", "event_id"), ("icid", "icid")),
    "MOVI": (("icid", "icid"),),
    "VMAPTI": (("intid", "vintid"), ("vpe_id", "vpe_id")),
    "VMAPI": (("intid", "event_id"), ("vpe_id", "vpe_id")),
    "VMOVI": (("vpe_id", "vpe_id"),),
    "VMAPP": (("vpt_addr", "vpt_addr"), ("rdbase", "rdbase")),
    "VMOVP": (("rdbase", "rdbase"),),
}
MOVES: Final = ("MOVI", "VMOVI", "VMOVP")  # they write what another command made
REMOVES: Final = ("DISCARD",)  # beside all commands that have V = 0
PENDING: Final = ("INT", "CLEAR")  # they write no mapping, but whether its LPI is pending


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
    """Return the fields of a known command by their attribute names."""
    raw = join(*words)
    return {each.attr: each.get(raw) for each in BY_OPCODE[words[0] & 0xFF].layout.fields_}


def aim(words: Words) -> tuple[str, Any] | None:
    """Return the (component, key) that a command names; None for one that names no mapping."""
    name = name_of(words)
    if name not in _NAMES:
        return None
    component, attrs = _NAMES[name]
    fields = fields_of(words)
    if len(attrs) == 1:
        return component, fields[attrs[0]]
    return component, tuple(fields[attr] for attr in attrs)


def is_asked(words: Words, value: Any) -> bool:
    """Return whether `value`, of the key that a command names, is what the command asks for."""
    fields = fields_of(words)
    asks = _ASKS.get(name_of(words) or "", ())
    if not asks or not fields.get("v", 1):
        return False
    held = value if isinstance(value, dict) else {"rdbase": value}
    same = all(held.get(there) == fields[here] for there, here in asks)
    return same and ("eventid_bits" not in held or held["eventid_bits"] == fields["size"] + 1)
