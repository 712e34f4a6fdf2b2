"""Reads a Perfetto trace as its trace_processor does.

Packets are sorted by time, then as they stand in the file; slices of a track nest; what a sequence
interned is looked up; arrows bind to slices. What trace_processor would count as an error is one.
`by_hand` has the part of Perfetto's protos that is needed, written down here; `by_descriptors` the
whole, as Perfetto publishes it, and tests/consumers holds the two to each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
CLEARED, NEEDED = 1, 2

# message -> field number -> (name, how it is written or which message it is)
PROTOS = {
    "Trace": {1: ("packet", "TracePacket")},
    "TracePacket": {
        6: ("clock_snapshot", "ClockSnapshot"), 8: ("timestamp", int),
        10: ("trusted_packet_sequence_id", int), 11: ("track_event", "TrackEvent"),
        12: ("interned_data", "InternedData"), 13: ("sequence_flags", int),
        60: ("track_descriptor", "TrackDescriptor"),
    },
    "TrackEvent": {
        3: ("category_iids", int), 4: ("debug_annotations", "DebugAnnotation"), 9: ("type", int),
        10: ("name_iid", int), 11: ("track_uuid", int), 23: ("name", str),
        30: ("counter_value", int), 44: ("double_counter_value", float),
        47: ("flow_ids", "fixed64"), 48: ("terminating_flow_ids", "fixed64"),
    },
    "DebugAnnotation": {
        1: ("name_iid", int), 3: ("uint_value", int), 4: ("int_value", "int64"),
        6: ("string_value", str), 7: ("pointer_value", int),
    },
    "InternedData": {
        1: ("event_categories", "Name"), 2: ("event_names", "Name"),
        3: ("debug_annotation_names", "Name"),
    },
    "Name": {1: ("iid", int), 2: ("name", str)},
    "TrackDescriptor": {
        1: ("uuid", int), 2: ("name", str), 5: ("parent_uuid", int),
        8: ("counter", "CounterDescriptor"), 11: ("child_ordering", int),
        12: ("sibling_order_rank", int),
    },
    "CounterDescriptor": {},
    "ClockSnapshot": {1: ("clocks", "Clock")},
    "Clock": {1: ("clock_id", int), 2: ("timestamp", int)},
}  # fmt: skip
REPEATED = {
    "packet", "category_iids", "debug_annotations", "flow_ids", "terminating_flow_ids", "clocks",
    "event_categories", "event_names", "debug_annotation_names",
}  # fmt: skip
ANNOTATED = ("uint_value", "int_value", "string_value", "pointer_value")
INTERNED = ("event_categories", "event_names", "debug_annotation_names")


def wire(data):
    """Yield (field number, value) of a message: a number, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                assert value < 1 << 64
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            assert tag & 7 in (1, 2)
            size = 8 if tag & 7 == 1 else varint()
            assert at + size <= len(data)
            yield tag >> 3, data[at : at + size]
            at += size
    assert at == len(data)


def by_hand(data, message="Trace"):
    """Return a message as name -> value; a field that is not in PROTOS is an error."""
    found = {}
    for number, value in wire(data):
        name, form = PROTOS[message][number]
        if form == "int64":
            value -= (value >> 63) << 64
        elif form == "fixed64":
            (value,) = struct.unpack("<Q", value)
        elif form is float:
            (value,) = struct.unpack("<d", value)
        elif form is str:
            value = value.decode()
        elif form is not int:
            value = by_hand(value, form)
        if name in REPEATED:
            found.setdefault(name, []).append(value)
        else:
            assert name not in found
            found[name] = value
    return found


def by_descriptors(data):
    """Return the same of the descriptors that Perfetto publishes; unknown fields are an error."""
    from google.protobuf.unknown_fields import UnknownFieldSet
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    def plain(message):
        assert not list(UnknownFieldSet(message))
        return {each.name: one(value) for each, value in message.ListFields()}

    def one(value):
        if hasattr(value, "ListFields"):
            return plain(value)
        if isinstance(value, int | float | str):
            return value
        return [one(item) for item in value]

    trace = Trace()
    trace.ParseFromString(data)
    return plain(trace)


@dataclass
class Slice:
    track: str
    name: str
    category: str
    ts: int
    dur: int | None  # None: it never ended
    depth: int
    args: dict = field(default_factory=dict)


@dataclass
class Seen:
    slices: list
    counters: dict  # track -> [(ts, value), ...]
    arrows: list  # (slice, slice)
    tracks: dict  # path -> descriptor
    wall_clock: bool


def read(trace):
    """Return what is seen of a trace as `by_hand` or `by_descriptors` gives it."""
    tracks, names = {}, {}
    interned = {kind: {} for kind in INTERNED}
    timed, clock = [], False
    for at, packet in enumerate(trace["packet"]):
        assert bool(packet.get("sequence_flags", 0) & CLEARED) == (at == 0)
        for kind, known in interned.items():
            for each in packet.get("interned_data", {}).get(kind, ()):
                assert known.setdefault(each["iid"], each["name"]) == each["name"]
        if each := packet.get("track_descriptor"):
            parent = names[each["parent_uuid"]] + "/" if "parent_uuid" in each else ""
            assert each["uuid"] not in tracks
            tracks[each["uuid"]] = each
            names[each["uuid"]] = parent + each["name"]
        clock |= "clock_snapshot" in packet
        if event := packet.get("track_event"):
            assert packet["sequence_flags"] == NEEDED
            assert event["track_uuid"] in tracks
            timed.append((packet["timestamp"], at, event))
    assert len(set(names.values())) == len(names), "two tracks of one name are drawn as one"
    seen = Seen([], {}, [], {names[uuid]: each for uuid, each in tracks.items()}, clock)
    stacks, flows = {}, {}
    for ts, _, event in sorted(timed, key=lambda each: each[:2]):
        _event(ts, event, names[event["track_uuid"]], interned, seen, stacks, flows)
    return seen


def _event(ts, event, track, interned, seen, stacks, flows):
    assert 0 <= ts < 1 << 63
    assert (event["type"] == COUNTER) == ("counter" in seen.tracks[track])
    stack = stacks.setdefault(track, [])
    if event["type"] == COUNTER:
        value = event.get("counter_value", event.get("double_counter_value"))
        seen.counters.setdefault(track, []).append((ts, value))
        return
    args = {
        interned["debug_annotation_names"][each["name_iid"]]: value
        for each in event.get("debug_annotations", ())
        for value in [each[name] for name in ANNOTATED if name in each]
    }
    if event["type"] == END:
        assert stack, f"an end without a beginning on {track}"
        top = stack.pop()
        top.dur = ts - top.ts
        top.args |= args
        return
    name = interned["event_names"][event["name_iid"]] if "name_iid" in event else event["name"]
    (category,) = (interned["event_categories"][each] for each in event["category_iids"])
    dur = 0 if event["type"] == INSTANT else None
    made = Slice(track, name, category, ts, dur, len(stack), args)
    seen.slices.append(made)
    if dur is None:
        stack.append(made)
    for each in (*event.get("flow_ids", ()), *event.get("terminating_flow_ids", ())):
        if each in flows:
            seen.arrows.append((flows[each], made))
        flows[each] = made
    for each in event.get("terminating_flow_ids", ()):
        flows.pop(each)
