"""A model as a target beside real ones: it answers with what it is certain of.

Counterparts: `ahead`, whose protocol it follows, and `replay.engine`, which lets a model learn.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from replay.judge import AnyModel
from replay.model.effects import HostCrash
from replay.targets.ahead import FAILED, Group, Item
from replay.targets.shared_ram import PAGE_BYTES
from tracer import events as ev
from tracer.events import NUMBER, Event

_REG_READ, _MEM_READ, _PROBE = NUMBER["reg.read"], NUMBER["mem.read"], NUMBER["probe"]


class ModelTarget:
    """One model that a trace is carried out on."""

    oops: Sequence[str] = ()

    def __init__(self, model: AnyModel) -> None:
        self._model = model
        self._dead: HostCrash | None = None
        self.name = f"model {model.name}"
        self.expresses = model.expresses
        listed = () if model.live_rows() is None else (_PROBE,)
        self.asked = frozenset((_REG_READ, *model.asks, *listed))

    def carry_out(self, groups: Sequence[Group]) -> list[Item]:
        """Carry out inputs and ask for outputs, one behind the other."""
        return [self._one(event, outputs) for _, event, outputs in groups]

    def _one(self, event: Event, outputs: Sequence[Event]) -> Item:
        model = self._model
        if self._dead is not None:
            return event, self._dead, {}
        if event[0] == _REG_READ:
            value = model.read(event)
            return event, value, self._failed(event)
        if event[0] == _PROBE:
            return event, model.live_rows(), {}
        if event[0] >= ev.FIRST_OUTPUT:
            answer = model.asks[event[0]](event)
            if answer is not None and not answer.certain:
                model.learn(event)
                answer = None
            return event, answer, self._failed(event)
        try:
            done = list(model.apply(event, outputs))
        except HostCrash as crash:
            self._dead = crash
            return event, crash, {}
        return event, done, dict(model.bound)

    def _failed(self, event: Event) -> dict[int, str]:
        errno = 0 if event[0] == _MEM_READ else self._model.errno()
        return {FAILED: str(errno)} if errno else {}

    def registers(self) -> dict[str, int]:
        """Return the ITS registers by name."""
        known = self._model.registers()
        return {name: value for name, value in known.items() if value is not None}

    def close(self) -> None:
        """Nothing is left of it."""

    def about(self) -> str:
        """Its name says it."""
        return ""

    # -- its RAM, from outside

    def complete(self) -> None:
        """From here on every write to RAM is an event."""
        self._model.vm.ram.complete = True

    def pages(self) -> dict[int, int]:
        """Return address -> CRC-32 of every page that is not zero."""
        ram = self._model.vm.ram
        found = {}
        for page in {key << 2 & -PAGE_BYTES for key in ram.words}:
            data = ram.load_bytes(page, PAGE_BYTES) or b""
            if any(data):
                found[page] = zlib.crc32(data)
        return found

    def load(self, gpa: int, size: int) -> bytes | None:
        """Return RAM; None where none is, or is known."""
        ram = self._model.vm.ram
        return ram.load_bytes(gpa, size) if ram.backed(gpa, size) else None

    def copy_ram(self, source: ModelTarget) -> None:
        """Make RAM equal to that of another model's VM."""
        self._model.vm.ram.restore(source._model.vm.ram.snapshot())
