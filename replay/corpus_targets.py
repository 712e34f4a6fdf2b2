"""A corpus on targets: each trace on each real QEMU and each kernel, one word for each.

Counterparts: `replay.corpus`, which does it with models, and `replay.targets.spec`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replay.engine import Engine
from replay.targets.ahead import Ahead
from replay.targets.errors import TargetError
from replay.targets.qemu import Needs
from replay.targets.spec import Spec, Targets
from tracer.errors import TracerError
from tracer.log.header import Header
from tracer.log.opening import open_trace

EQUAL, DIVERGENT, CRASHED, COMPLAINED, CANNOT, OTHER = (
    "equal", "divergent", "crashed", "complained", "cannot", "-",
)  # fmt: skip
FINDINGS: Final = frozenset((DIVERGENT, CRASHED, COMPLAINED))
_FAMILIES: Final = {"linux": "kvm", "qemu": "qemu"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a target made of a trace: a word, and in a sentence why."""

    word: str
    why: str = ""
    matched: int = 0
    not_judged: int = 0


def on_targets(
    traces: Sequence[Path], specs: Sequence[Spec]
) -> Iterator[tuple[Path, list[Outcome]]]:
    """Yield each trace with its outcome on each target; a host is booted once for all."""
    with Targets() as made:
        for trace in traces:
            yield trace, [_outcome(trace, spec, made) for spec in specs]


def _outcome(trace: Path, spec: Spec, made: Targets) -> Outcome:
    try:
        needs = Needs()
        with open_trace(str(trace)) as reader:
            if spec.kind != "model" and _family(reader.header) not in (None, spec.kind):
                return Outcome(OTHER)
            for _, events in reader:
                for event in events:
                    needs.see(event)
        with open_trace(str(trace)) as reader, made.opened(spec, reader.header, needs) as target:
            ahead = Ahead(reader, target)
            engine = Engine(ahead, ahead, stop=True)
            tally = engine.run()
            complaints = made.findings()
    except TargetError as error:
        return Outcome(CANNOT, str(error))
    except TracerError as error:
        return Outcome(CANNOT, f"{trace}: {error}")
    numbers = (tally.matched, tally.not_judged)
    if engine.crash:
        return Outcome(CRASHED, f"event {engine.crash[0]}: {engine.crash[1]}", *numbers)
    if tally.divergent:
        first = tally.divergences[0]
        return Outcome(DIVERGENT, f"event {first.seq}: {first.kind}: {first.field}", *numbers)
    if complaints:
        return Outcome(COMPLAINED, complaints[0], *numbers)
    return Outcome(EQUAL, "", *numbers)


def _family(header: Header) -> str | None:
    """Return the kind of target that a trace is of, if its header tells."""
    return _FAMILIES.get((header.profile or header.implementation or "").partition("-")[0])
