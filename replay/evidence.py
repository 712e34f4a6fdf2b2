"""What is observed of one reset, as long as no input has overwritten what an observation shows.

Counterpart: `replay.verify`, which opens one at each reset and tells it what was read and written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from replay.contracts import ALL_BITS
from replay.model import effects
from replay.verdict import Component, Observation, ResetVerdict
from tracer.its.registers import gicr_register, its_register

MAX_OBSERVATIONS: Final = 16  # of a component that are kept for whoever reads the verdict
# Kind of output -> the list that it shows something of.
SHOWN_BY: Final = {
    effects.MSI_RESULT: "events",
    effects.LPI: "lpis",
    effects.XLAT_HIT: "translation_cache",
}
# Component -> what an MSI through one of its keys shows: kind of output and its first fields.
OUTLIVED: Final[dict[str, tuple[int, tuple[int, ...]]]] = {
    "events": (effects.MSI_RESULT, (1,)),
    "translation_cache": (effects.XLAT_HIT, ()),
}


class Evidence:
    """The observations of one verdict; of none before the first reset and behind a loss."""

    def __init__(self, verdict: ResetVerdict | None = None, *, infer: bool = True) -> None:
        """`infer`: registers show what nothing can read, as clauses have it."""
        self._verdict = verdict
        components = verdict.components if verdict else []
        self._current = {each.name: each for each in components}
        self._open = dict(self._current)  # what the reset left and nothing has overwritten
        self._indirect = list(_indirect(components)) if infer else []

    def get(self, name: str) -> Component | None:
        """Return a component that the verdict speaks of."""
        return self._current.get(name)

    def is_open(self, name: str) -> bool:
        """Return whether what this component shows is the reset's."""
        return name in self._open

    def add(self, component: Component) -> None:
        """The verdict speaks of this component too."""
        self._current[component.name] = self._open[component.name] = component

    def overwritten(self, name: str) -> None:
        """What this component shows from here on is no longer the reset's."""
        self._open.pop(name, None)

    def see(
        self, name: str, seen: Observation, expected: int | None, *, perturbing: bool = False
    ) -> None:
        """Take in a register's value; `expected` is what it should show now."""
        component = self._open.get(name)
        if component is not None:
            self._take(component, seen, perturbing=perturbing)
        elif name in self._current and expected is not None:
            _echo(self._current[name], seen, expected)

    def stale(self, name: str, seq: int, planted: int | None, *, perturbing: bool = False) -> None:
        """Event `seq` showed something of the past in a list; `planted` wrote that."""
        component = self._current[name]
        if component.wrong is None:
            self._seen(perturbing=perturbing)
            component.wrong = Observation(seq, 0, 0)
            component.observed.append(component.wrong)
            component.writer = None if planted is None else (planted, None)

    def empty(self, name: str, seq: int, *, perturbing: bool = False) -> None:
        """A listing at `seq` showed that there is nothing in this list."""
        component = self._open.get(name)
        if component is not None and len(component.observed) < MAX_OBSERVATIONS:
            self._seen(perturbing=perturbing)  # a listing
            _whole(component, seq)

    def _seen(self, *, perturbing: bool) -> None:
        """Something is evidence; `perturbing`: of a probe that stopped the VM."""
        assert self._verdict is not None
        self._verdict.perturbed |= perturbing

    def _take(self, component: Component, seen: Observation, *, perturbing: bool) -> None:
        if len(component.observed) < MAX_OBSERVATIONS:
            component.observed.append(seen)
        wrong = (seen.value ^ component.fresh) & seen.mask
        if wrong & component.mask and component.wrong is None:
            component.wrong = seen
        component.shown |= seen.mask & ~wrong
        self._seen(perturbing=perturbing)
        self._infer(seen.seq)

    def _infer(self, seq: int) -> None:
        """Take what registers show of a component that nothing can read as seen."""
        for component, because, by in self._indirect:
            if all(register.shown & bits == bits for register, bits in by):
                _whole(component, seq)
                component.reason = because
        self._indirect = [item for item in self._indirect if not item[0].observed]


def _whole(component: Component, seq: int) -> None:
    """All of a component was seen, and is as on a fresh device; no bits of it were read."""
    component.observed.append(Observation(seq, 0, 0))
    component.shown = ALL_BITS


def _echo(component: Component, seen: Observation, want: int) -> None:
    """A register written since the reset that still shows its value from before it."""
    old = component.before
    if component.wrong is None and isinstance(old, int):
        bits = seen.mask & component.mask
        if (seen.value ^ want) & bits and not (seen.value ^ old) & bits:
            component.wrong = seen
            component.observed.append(seen)


def _indirect(
    components: list[Component],
) -> Iterator[tuple[Component, str, list[tuple[Component, int]]]]:
    """Yield each component that registers show, why, and these with the bits to be seen."""
    for component in components:
        shown = component.clause.shown if component.clause else None
        if shown:
            by = [
                (register, bits & (1 << register.width) - 1)
                for name, bits in shown.by
                for register in components
                if re.fullmatch(name, register.name)
            ]
            yield component, shown.because, by


# -- registers


def placed(value: int, shift_bytes: int, size: int, width_bytes: int) -> tuple[int, int]:
    """Return (value, mask) of an access at its place in the register."""
    mask = ((1 << 8 * min(size, width_bytes)) - 1) << 8 * shift_bytes & (1 << 8 * width_bytes) - 1
    return value << 8 * shift_bytes & mask, mask


def _widths(find: Callable[[int], tuple[str, Any, int] | None], end: int) -> dict[str, int]:
    found = (find(offset) for offset in range(0, end, 4))
    return {item[0]: item[1].layout.width_ for item in found if item}


_ITS_WIDTHS: Final = _widths(its_register, 0x10000)
_GICR_WIDTHS: Final = _widths(gicr_register, 0x100)


def width(name: str) -> int:
    """Return a component's bits; 64 for what is no register."""
    return _ITS_WIDTHS.get(name) or _GICR_WIDTHS.get(name.partition("[")[0]) or 64
