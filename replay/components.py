"""The names of what a device holds: registers, and keys of its lists, as people write them.

    GITS_BASER0    GICR_PENDBASER[1]    device 0x8    device 0x8 event 0x1    collection 3
    lpi 8192    vpe 1    translation 0x8/0x1

Each may stand behind `its N`, of several ITSes in one VM.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tracer.errors import TracerError, UsageError

# Component -> (what one of its keys is called, whether numbers are written in decimal).
_CALLED: Final = {
    "devices": ("device", False),
    "host_devices": ("host_device", False),
    "events": ("event", False),
    "collections": ("collection", True),
    "vpes": ("vpe", True),
    "lpis": ("lpi", True),
    "translation_cache": ("translation", False),
}
_BY_WORD: Final = {word: component for component, (word, _) in _CALLED.items()}
_PAIRS: Final = ("events", "translation_cache")
_TOKEN: Final = re.compile(r"[^\s/:,]+")
_MAX_CHARS: Final = 200
FORMS: Final = (
    "GITS_BASER0, GICR_PENDBASER[1], device 0x8, device 0x8 event 0x1, collection 3, lpi 8192, "
    "vpe 1, translation 0x8/0x1"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A component, or a key of one, and the index of its ITS."""

    component: str
    key: Any = None
    its: int = 0

    @property
    def name(self) -> str:
        """How it is written."""
        prefix = f"its {self.its} " if self.its else ""
        return prefix + name_of_key(self.component, self.key)


def name_of_key(component: str, key: Any) -> str:
    """Return how a key of a component is written; a register is written by its name."""
    if key is None:
        return component
    word, decimal = _CALLED.get(component, (component, False))
    if component == "events":
        return f"device {key[0]:#x} event {key[1]:#x}"
    if component == "translation_cache":
        return f"{word} {key[0]:#x}/{key[1]:#x}"
    return f"{word} {key if decimal else hex(key)}"


def names_in(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all that there is in these components."""
    for component, value in values.items():
        if isinstance(value, dict):
            yield from (name_of_key(component, key) for key in value)
        else:
            yield component


def parse_target(text: str) -> Target:
    """Return what a name means, whether it exists or not.

    Raises:
        UsageError: nothing is called so.
    """
    words = _TOKEN.findall(text[:_MAX_CHARS])
    its = 0
    if len(words) > 2 and words[0].lower() == "its":
        its, words = _number(words[1], text), words[2:]
    if len(words) == 1 and not words[0][0].isdigit():
        return Target(words[0].upper(), its=its)
    named = [word.lower() for word in words[::2]]
    numbers = [_number(word, text) for word in words[1::2]]
    if named == ["device", "event"] and len(numbers) == 2:
        return Target("events", tuple(numbers), its)
    component = _BY_WORD.get(named[0]) if named else None
    pair = component in _PAIRS
    if component is None or len(words) != (3 if pair else 2):
        raise UsageError(f"{text!r:.60} names no component; these are names: {FORMS}")
    if pair:
        return Target(component, (_number(words[1], text), _number(words[2], text)), its)
    return Target(component, numbers[0], its)


def _number(word: str, text: str) -> int:
    try:
        return int(word, 0)
    except ValueError:
        raise UsageError(f"{text!r:.60}: {word!r:.20} must be a number") from None


class NotShown(TracerError):
    """What nothing in the trace shows may all the same have been there before it began."""

    exit_code = 4


def unknown(target: Target, names: list[str]) -> str:
    """Return the sentence that says that there is no such component, with near names."""
    near = difflib.get_close_matches(target.name, dict.fromkeys(names), 3, 0.5)
    if not near and target.key is not None:
        word = target.name.split()[0]
        near = [name for name in names if name.startswith(word)][:3]
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return f"there is no {target.name}, and never was{hint}"
