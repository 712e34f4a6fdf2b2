"""Prints what babeltrace2 reads of a CTF trace, a JSON list a line: run by the Python that has bt2.

[kind, clock, stream, seq, time_ns, fields]; a variant is what it holds, bytes are hexadecimal, an
enumeration is [number, labels]. What it says was discarded is ["discarded", count].
"""

from __future__ import annotations

import json
import sys

import bt2


def plain(field):
    if field is None or isinstance(field, bt2._StringFieldConst):
        return None if field is None else str(field)
    if isinstance(field, bt2._VariantFieldConst):
        return plain(field.selected_option)
    if isinstance(field, bt2._EnumerationFieldConst):
        return [int(field), labels(field)]
    if isinstance(field, bt2._StructureFieldConst):
        return {name: plain(field[name]) for name in field} or None
    if isinstance(field, bt2._ArrayFieldConst):
        return bytes(map(int, field)).hex()
    return int(field)


def labels(field):
    try:
        return sorted(field.labels)
    except AssertionError:  # how bt2 2.0 says that there are none
        return []


def main(path):
    for message in bt2.TraceCollectionMessageIterator(path):
        if type(message) is bt2._DiscardedEventsMessageConst:
            print(json.dumps(["discarded", message.count]))
        if type(message) is bt2._EventMessageConst:
            event = message.event
            context = event.common_context_field
            print(json.dumps([
                event.name, message.default_clock_snapshot.value, event.stream.name.rpartition("/")[2],
                int(context["seq"]), int(context["time_ns"]), plain(event.payload_field),
            ]))  # fmt: skip
        if type(message) is bt2._StreamBeginningMessageConst:
            trace = message.stream.trace
            environment = {key: str(value) for key, value in trace.environment.items()}
            clock = message.stream.cls.default_clock_class
            print(
                json.dumps(
                    ["trace", environment, str(trace.uuid), clock.frequency, clock.description]
                )
            )


if __name__ == "__main__":
    main(sys.argv[1])
