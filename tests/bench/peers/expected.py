"""What every contestant must have seen: worked out from the workload itself, by none of them.

A fact that a sample tells is held against this; one that is wrong ends the run, whose times would say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from replay.judge import model_of
from replay.profiles import find
from tests.bench.peers import workload
from tests.bench.peers.measure import Row, Sample
from tracer.events import FIRST_OUTPUT


class Disagreement(Exception):
    """A contestant did other work than the others."""


@cache
def _told(count: int) -> list[int]:
    return list(workload.told(workload.stream(count)))


@cache
def _final(count: int) -> list[list[int]]:
    return workload.folded(workload.stream(count)).final


@cache
def _groups(count: int) -> list[list[int]]:
    return workload.grouped(workload.stream(count))


@cache
def _registers(count: int) -> dict[str, str]:
    """By a model that is fed the inputs and the outputs that it caused, without the engine."""
    model = model_of(workload.header(), find(workload.PROFILE)[0])
    held, outputs = None, []
    for seq, event in enumerate(workload.stream(count)):
        if event[0] < FIRST_OUTPUT:
            if held is not None:
                model.apply(held[1], outputs)
            held, outputs = (seq, event), []
        elif held is not None and event[0] in model.expresses and seq - event[2] == held[0]:
            outputs.append(event)
    if held is not None:
        model.apply(held[1], outputs)
    registers: dict[str, str] = model.state()["its"]["0"]["registers"]
    return registers


def _same_registers(row: Row, got: dict[str, str]) -> bool:
    expected = _registers(row.count)
    return bool(got) and all(expected[name] == value for name, value in got.items())


def _first_events(row: Row, got: list[int]) -> bool:
    """After a kill: the first events, to the last byte; else all of them."""
    if not row.options.get("kill"):
        return got == _told(row.count)
    return got[0] <= row.count and got == _told(got[0])


_CHECKS: Final[dict[str, Callable[[Row, Any], bool]]] = {
    "told": _first_events,
    "events": lambda row, got: bool(got == row.count),
    "final": lambda row, got: bool(got == _final(row.count)),
    "groups": lambda row, got: bool(got == _groups(row.count)),
    "registers": _same_registers,
    "shown": lambda _, got: got is True,
    "compiled": lambda row, got: not row.compiled or got is True,
}


def check(row: Row, sample: Sample) -> None:
    """Hold a sample's facts against what they must be.

    Raises:
        Disagreement: one is not that.
    """
    for name, is_right in _CHECKS.items():
        if name in sample and not is_right(row, sample[name]):
            raise Disagreement(f"{row.name}: {name} is {str(sample[name])[:200]}")
