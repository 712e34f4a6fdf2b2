"""Reads a Perfetto trace as its trace_processor does, with the descriptors that Perfetto publishes.

Packets are sorted by time, then as they stand in the file; slices of a track nest; what a sequence
interned is looked up; arrows bind to slices. What trace_processor would count as an error is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4


@dataclass
class Slice:
    track: str
    name: str
    category: str
    ts: int
    dur: int | None  # None: it never ended
    depth: int
    args: dict = field(default_factory=dict)
    flows: tuple = ()


@dataclass
class Seen:
    slices: list
    counters: dict  # track -> [(ts, value), ...]
    arrows: list  # (slice, slice)
    tracks: dict  # path -> descriptor
    wall_clock: bool


def read(data: bytes) -> Seen:
    trace = Trace()
    trace.ParseFromString(data)
    tracks, names = {}, {}
    interned = {"event_categories": {}, "event_names": {}, "debug_annotation_names": {}}
    timed, cleared, clock = [], False, False
    for at, packet in enumerate(trace.packet):
        assert not unknown_fields(packet), at
        cleared |= bool(packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED)
        assert cleared or not packet.sequence_flags & TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        for kind, known in interned.items():
            for each in getattr(packet.interned_data, kind):
                assert each.iid
                assert known.setdefault(each.iid, each.name) == each.name
        if packet.HasField("track_descriptor"):
            each = packet.track_descriptor
            assert each.uuid not in tracks
            parent = names[each.parent_uuid] + "/" if each.parent_uuid else ""
            tracks[each.uuid] = each
            names[each.uuid] = parent + each.name
        clock |= packet.HasField("clock_snapshot")
        if packet.HasField("track_event"):
            assert packet.track_event.track_uuid in tracks
            timed.append((packet.timestamp, at, packet.track_event))
    assert len(set(names.values())) == len(names), "two tracks of one name are drawn as one"
    seen = Seen([], {}, [], {names[uuid]: each for uuid, each in tracks.items()}, clock)
    stacks, flows = {}, {}
    for ts, _, event in sorted(timed, key=lambda each: each[:2]):
        _event(ts, event, names[event.track_uuid], tracks, interned, seen, stacks, flows)
    return seen


def _event(ts, event, track, tracks, interned, seen, stacks, flows):
    assert 0 <= ts < 1 << 63
    stack = stacks.setdefault(track, [])
    if event.type == TrackEvent.TYPE_COUNTER:
        assert tracks[event.track_uuid].HasField("counter")
        value = event.WhichOneof("counter_value_field")
        seen.counters.setdefault(track, []).append((ts, getattr(event, value)))
        return
    args = {
        interned["debug_annotation_names"][each.name_iid]: getattr(each, each.WhichOneof("value"))
        for each in event.debug_annotations
    }
    if event.type == TrackEvent.TYPE_SLICE_END:
        assert stack, f"an end without a beginning on {track}"
        top = stack.pop()
        top.dur = ts - top.ts
        top.args |= args
        return
    name = interned["event_names"][event.name_iid] if event.name_iid else event.name
    (category,) = (interned["event_categories"][each] for each in event.category_iids)
    instant = event.type == TrackEvent.TYPE_INSTANT
    made = Slice(track, name, category, ts, 0 if instant else None, len(stack), args)
    seen.slices.append(made)
    if not instant:
        stack.append(made)
    made.flows = (*event.flow_ids, *event.terminating_flow_ids)
    for each in made.flows:
        if each in flows:
            seen.arrows.append((flows[each], made))
        flows[each] = made
    for each in event.terminating_flow_ids:
        flows.pop(each)


def unknown_fields(packet) -> list:
    from google.protobuf.unknown_fields import UnknownFieldSet

    return list(UnknownFieldSet(packet))
