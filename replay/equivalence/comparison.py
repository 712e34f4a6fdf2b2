"""Two instances' answers to the same questions: which component does a difference speak of?

The first is the one with a past, the second is what it should be like. A live LPI or a pending bit
that was told apart once is told apart again only when either side has changed. The counterpart is
`replay.equivalence.bench`, which asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from replay.equivalence.probe import Step
from replay.model import effects
from replay.model.effects import HostCrash
from replay.protocols import NOT_JUDGED
from replay.targets.ahead import Inspectable, Item
from replay.targets.common import Answer
from replay.targets.shared_ram import PAGE_BYTES
from tracer.events import FIRST_OUTPUT, NUMBER, Event, fields_of, kind_name
from tracer.its.registers import gicr_register, its_register

_REG_READ, _GICR_READ = NUMBER["reg.read"], NUMBER["gicr.read"]
_REG_WRITE, _GICR_WRITE = NUMBER["reg.write"], NUMBER["gicr.write"]
_MSI, _MEM_READ, _PROBE = NUMBER["msi"], NUMBER["mem.read"], NUMBER["probe"]
_ANSWERS: Final = (effects.ATTR_RESULT, effects.MSI_RESULT)
_ATTRIBUTES: Final = {
    NUMBER["save"]: "SAVE_TABLES",
    NUMBER["save_pending"]: "SAVE_PENDING_TABLES",
    NUMBER["restore"]: "RESTORE_TABLES",
    NUMBER["reset"]: "CTRL_RESET",
}
MAX_PAGES: Final = 16  # whose differing words are looked at, of one comparison
_WORD: Final = 8


class Told(NamedTuple):
    """One difference: what it speaks of, and what either side said."""

    component: str
    key: Any
    event: Event | None
    one: Any
    other: Any
    mask: int = -1  # of a register: the bits that the access showed


class Row(NamedTuple):
    """A live LPI, as debugfs has it."""

    target: int
    flags: int
    priority: int
    queued: int

    @property
    def pending(self) -> int:
        """Whether it is pending."""
        return self.flags >> 6 & 1


def value_of(item: Item) -> Any:
    """Return an answer as something that two targets' can be compared by; None: it has none."""
    event, answer, bound = item
    if NOT_JUDGED in bound.values() and not isinstance(answer, HostCrash):
        return NOT_JUDGED
    if isinstance(answer, HostCrash):
        return answer
    if event[0] == _REG_READ:
        return "bad" if answer is None else answer
    if isinstance(answer, Answer):
        return answer.expected
    if event[0] == _PROBE:
        return None if answer is None else {row[0]: Row(*row[1:]) for row in answer}
    if isinstance(answer, list):
        shown = tuple(effect for effect in answer if effect[0] in _ANSWERS)
        return shown[0][1] if shown else None
    return None


class Comparison:
    """Compares step by step; `looked` counts the answers that were equal, by component."""

    def __init__(self) -> None:
        self.looked: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self._last: dict[tuple[str, Any], tuple[Any, Any]] = {}

    def step(self, step: Step, one: Any, other: Any) -> list[Told]:
        """Return what two answers to one step tell."""
        assert step.event is not None
        name, key, mask = _component(step)
        if NOT_JUDGED in (one, other):
            self.unanswered[f"{kind_name(step.event[0])}: the target cannot carry each out"] += 1
            return []
        if one is None or other is None:
            if step.cpu is not None:
                self.unanswered[f"the pending table of vCPU {step.cpu}: not in RAM"] += 1
            elif step.event[0] >= FIRST_OUTPUT:
                self.unanswered[f"{kind_name(step.event[0])}: no answer"] += 1
            return []
        if step.event[0] == _PROBE:
            return self._keyed(step, "row", one, other)
        if step.event[0] == _MEM_READ and step.cpu is not None:
            bits = [pending_bits(step.event, each) for each in (one, other)]
            return self._keyed(step, step.cpu, *bits)
        if one == other:
            self.looked[name] += 1
            return []
        return [Told(name, key, step.event, one, other, mask)]

    def told_apart(self, intid: int) -> bool:
        """Return whether an LPI's pending bit, or the LPI itself, was told apart already."""
        return any(key == intid and pair[0] != pair[1] for (_, key), pair in self._last.items())

    def _keyed(self, step: Step, space: Any, one: Any, other: Any) -> list[Told]:
        """Compare what is listed by INTID; tell what is new since the last list."""
        about = step.about or "lpis"
        told = []
        for intid in sorted(one.keys() | other.keys()):
            pair = (one.get(intid), other.get(intid))
            before = self._last.get((space, intid), (None, None))
            self._last[space, intid] = pair
            if pair[0] == pair[1]:
                continue
            if pair != before:
                told.append(Told(about, intid, step.event, *pair))
        if not told:
            self.looked[about] += 1
        return told


def pending_bits(event: Event, data: bytes) -> dict[int, str]:
    """Return the INTIDs whose bit is set in a part of a pending table."""
    first = event[3] % (1 << 16) * _WORD
    return {
        first + at * _WORD + bit: "pending bit"
        for at, byte in enumerate(data)
        if byte
        for bit in range(_WORD)
        if byte >> bit & 1
    }


def _component(step: Step) -> tuple[str, Any, int]:
    """Return the component that an event speaks of, its key, and the bits that it shows."""
    event = step.event
    assert event is not None
    kind, fields = event[0], fields_of(event)
    if kind == _MSI:
        return step.about or "events", (event[2], event[3]), -1
    if kind in (_REG_READ, _REG_WRITE):
        return _register(its_register(fields["offset"]), "", fields)
    if kind in (_GICR_READ, _GICR_WRITE):
        return _register(gicr_register(fields["offset"]), f"[{fields['cpu']}]", fields)
    if kind == _MEM_READ:
        return "RAM", event[3], -1
    return _ATTRIBUTES.get(kind, ""), None, -1


def _register(found: Any, suffix: str, fields: dict[str, Any]) -> tuple[str, Any, int]:
    if found is None:
        return f"{fields['offset']:#x}{suffix}", None, -1
    name, _, start = found
    shift = fields["offset"] - start
    return name + suffix, shift, (1 << 8 * fields["size"]) - 1 << 8 * shift


def ram(one: Inspectable, other: Inspectable) -> Iterator[tuple[int, int, int]]:
    """Yield (address, word of one, word of the other) where RAM differs, of so many pages."""
    mine, theirs = one.pages(), other.pages()
    differ = sorted(
        page for page in mine.keys() | theirs.keys() if mine.get(page) != theirs.get(page)
    )
    for page in differ[:MAX_PAGES]:
        left, right = one.load(page, PAGE_BYTES), other.load(page, PAGE_BYTES)
        if left is None or right is None:
            continue
        for at in range(0, PAGE_BYTES, _WORD):
            if left[at : at + _WORD] != right[at : at + _WORD]:
                a, b = (int.from_bytes(d[at : at + _WORD], "little") for d in (left, right))
                yield page + at, a, b
