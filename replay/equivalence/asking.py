"""One life, one target, and question after question: what a bench needs, made for the life.

Counterparts: `replay.equivalence.bench`, which asks, and `replay.targets.spec`, which opens targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from replay.equivalence.bench import Bench, Choice
from replay.equivalence.inventory import Inventory, take
from replay.equivalence.plan import PENDING, ROUND, Question
from replay.equivalence.run import Outcome
from replay.equivalence.words import Judge
from replay.judge import model_of, profile_named
from replay.profiles import Profile, find
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.header import Header

# What is asked at every reset and at the end unless told otherwise, by family.
KINDS: Final = {
    "kvm": ("ctrl_reset", "system", ROUND, PENDING), "qemu": ("system",), "xen": (),
}  # fmt: skip
MAX_QUESTIONS: Final = 64
_NEAREST: Final = {"kvm": "linux-6.1.192", "qemu": "qemu-7.2.22"}
_PCI_DEVICES: Final = range(8, 0x100)  # that QEMU's bus 0 may have


def profile_for(spec: Spec, header: Header, given: str | None) -> Profile:
    """Return the profile whose contract counts, and whose model tells what a life named.

    Raises:
        UsageError: the target is a model, and nothing says of what.
    """
    of_model = spec.rest if spec.kind == "model" else None
    named = profile_named(given or of_model, header)
    if named is None and spec.kind == "model":
        raise UsageError("the trace does not say what wrote it: give --profile")
    if named is None or spec.kind not in ("model", named[0].family):
        return find(_NEAREST[spec.kind])[0]
    return named[0]


class Asker:
    """Asks one question after another; the names that a life used are taken once per place."""

    def __init__(
        self,
        targets: Targets,
        spec: Spec,
        header: Header,
        events: Sequence[Event],
        profile: Profile,
        *,
        probe: bool,
        strict: bool = False,
    ) -> None:
        self._targets = targets
        self._header = header
        self._events = events
        self._profile = profile
        self._probe = probe
        self._taken: tuple[int, Inventory] | None = None
        needs = self._needs()
        self.bench = Bench(
            header, events, lambda wanted: targets.opened(spec, wanted, needs), Judge(strict=strict),
            as_given=not probe,
        )  # fmt: skip

    def _needs(self) -> Needs:
        """Return what a QEMU must have: the devices whose MSIs are sent, and their neighbours."""
        needs = Needs.of(self._events)
        named = {pair[0] for pair in self._inventory(len(self._events)).events}
        named |= {device + 1 for device in named | needs.device_ids}
        needs.device_ids |= {device for device in named if device in _PCI_DEVICES}
        if self._probe:
            needs.inside = False
        return needs

    def _inventory(self, at: int) -> Inventory:
        if self._taken is None or self._taken[0] != at:
            model = model_of(replace(self._header), self._profile)
            self._taken = at, take(self._header, self._events[:at], model)
        return self._taken[1]

    def ask(self, question: Question, choose: Choice = list) -> Outcome:
        """Return what came of one question; `choose` tells the chapters to ask."""
        inventory = self._inventory(question.at)
        outcome = self.bench.ask(question, inventory, probe=self._probe, choose=choose)
        outcome.complaints = self._targets.findings()
        return outcome
