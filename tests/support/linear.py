"""States of a trace as a replay from its beginning passes through them: what travelling must equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from replay.engine import Engine
from replay.judge import AnyModel, model_of, with_flags
from replay.model.effects import HostCrash
from replay.profiles import find
from tracer import events as ev
from tracer.log.header import Header
from tracer.log.opening import open_trace


def model_for(header: Header) -> AnyModel:
    """Return the model that a header names."""
    assert header.profile is not None
    flags = {name: value[0] for name, value in header.flags.items()}
    return model_of(header, with_flags(find(header.profile)[0], flags))


def states(path: str, places: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yield (place, digest of the state after it), places in order."""
    for place, model in passed(path, places):
        yield place, model.state()["digest"]


def passed(path: str, places: Iterable[int]) -> Iterator[tuple[int, AnyModel]]:
    """Yield (place, the model after it), places in order, in one replay; it ends with the host."""
    with open_trace(path) as reader:
        model = model_for(reader.header)
        engine = Engine(reader, model)
        first_seq = reader.header.first_seq
        events = [event for _, block in reader for event in block]
        at, last_input = 0, -1
        for place in sorted(set(places)):
            end = place - first_seq + 1
            inputs = (k for k in range(end - 1, at - 1, -1) if events[k][0] < ev.FIRST_OUTPUT)
            last_input = next(inputs, last_input)
            while end < len(events) and _is_caused(events, end, last_input):
                end += 1
            try:
                if end > at:
                    engine.feed(first_seq + at, tuple(events[at:end]))
                assert engine.standing  # which carries out what is held
            except HostCrash:
                return
            at = max(at, end)
            yield place, model


def _is_caused(events: list[ev.Event], at: int, by: int) -> bool:
    event = events[at]
    fields = ev.KINDS[event[0]].fields if event[0] in ev.KINDS else ()
    return (
        ev.FIRST_OUTPUT <= event[0] < ev.FIRST_NOTE
        and bool(fields)
        and fields[0].name == "cause"
        and at - event[2] == by
    )
