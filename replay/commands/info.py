"""`itstrace info`: what a trace holds, and in which state the file is."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any, Final

from replay.commands.common import EXIT_CANNOT_JUDGE, EXIT_LOST, clean, paint, print_json, progress
from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.log.header import RUNNING
from tracer.log.opening import AnyReader, open_trace
from tracer.sources import ftrace

MAX_MISSING: Final = 64
SHOWN_PROBLEMS: Final = 10
SHOWN_RESETS: Final = 20
_KVM_HOST: Final = (ftrace.NAME, "record-kvm")
# Of a KVM host's trace, what a record of the kernel's own kvm_mmio cannot show: kind -> by what.
_BEYOND_MMIO: Final = {
    "attr.result": "what the VMM did: resets, saves, restores (set_attr, gset_attr)",
    "command": "commands (rd, cmd)",
    "msi": "MSIs and the translation cache (msi, msic)",
    "lpi.live": "live LPIs (debugfs vgic-state)",
}
_BAD_AT: Final = {NUMBER["reg.read"]: 6, NUMBER["reg.write"]: 6}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


class _Count:
    """What one pass over the events gathers."""

    def __init__(self) -> None:
        self.kinds: Counter[int] = Counter()
        self.bad = 0
        self.lost = 0
        self.duration_ns = 0
        self.first_ns = 0
        self.resets: list[tuple[int, str]] = []
        self.missing: dict[str, None] = {}  # what the source could not see, each once

    def add(self, first_seq: int, events: tuple[Event, ...]) -> None:
        for seq, event in enumerate(events, first_seq):
            kind = event[0]
            self.kinds[kind] += 1
            self.duration_ns += event[1]
            if kind == NUMBER["reset"]:
                self.resets.append((seq, ev.RESET_KINDS[event[2]]))
            elif kind in _BAD_AT and len(event) > _BAD_AT[kind] and event[_BAD_AT[kind]]:
                self.bad += 1
            elif kind == NUMBER["loss"]:
                self.lost += (event[3] if len(event) > 3 else None) or 1
            elif kind == NUMBER["source.gap"]:
                self.lost += 1
                if (len(event) < 4 or event[3] is None) and len(self.missing) < MAX_MISSING:
                    self.missing[event[2]] = None


def run(options: argparse.Namespace) -> int:
    """Print the answer; 3 for a damaged file, 4 for inputs of a newer itstrace."""
    count = _Count()
    with open_trace(options.trace) as reader:
        first_ns = None
        for first_seq, events in progress(reader, "events", every=lambda: reader.events):
            if first_ns is None:
                first_ns = events[0][1]
            count.add(first_seq, events)
        answer = _answer(reader, count, first_ns or 0)
    if options.json:
        print_json(answer)
    else:
        _print(answer)
    if answer["status"] == "damaged":
        return EXIT_LOST
    unknown = [kind for kind in count.kinds if kind not in ev.KINDS and kind < ev.FIRST_OUTPUT]
    return EXIT_CANNOT_JUDGE if unknown else 0


def _answer(reader: AnyReader, count: _Count, first_ns: int) -> dict[str, Any]:
    header = reader.header.to_map()
    return {
        "schema": "itstrace.info/1",
        "events": {ev.kind_name(kind): n for kind, n in sorted(count.kinds.items())},
        "total": sum(count.kinds.values()),
        "bad_accesses": count.bad,
        "resets": [{"seq": seq, "kind": kind} for seq, kind in count.resets],
        "clean_end": reader.status == "clean",
        "status": reader.status,
        "problems": [{"offset": p.offset, "what": p.what} for p in reader.problems],
        "lost": count.lost,
        "missing": list(count.missing),
        "absent": _absent(header, count),
        "duration_ns": count.duration_ns - first_ns if header["clock"] != "none" else None,
        "checkpoint": reader.checkpoint is not None,
        "digest": reader.chain.hex(),
        "header": header,
    }


def _absent(header: dict[str, Any], count: _Count) -> list[str]:
    """Return what no event of a KVM host's trace shows: nothing of it happened, or nothing saw it."""
    if header["source"] not in _KVM_HOST:
        return []
    return [what for kind, what in _BEYOND_MMIO.items() if not count.kinds[NUMBER[kind]]]


def _print(answer: dict[str, Any]) -> None:
    header = answer["header"]
    guessed = set(header["guessed"])
    for key in ("source", "implementation", "implementation_version", "profile", "cpus", "clock"):
        if header[key] is not None:
            mark = paint("  (guessed)", "dim") if key in guessed else ""
            print(f"{key.replace('_', ' '):24} {clean(str(header[key]))}{mark}")
    if header.get("starts") == RUNNING:
        print(f"{'starts':24} in the middle of the VM's life")
    print(f"{'guest RAM':24} {header['guest_ram']}")
    _print_beginning(answer)
    if answer["duration_ns"] is not None:
        print(f"{'duration':24} {answer['duration_ns'] / 1e9:.6f} s")
    print(f"{'digest':24} {answer['digest']}")
    colour = {"clean": "green", "cut": "yellow", "damaged": "red"}[answer["status"]]
    print(f"{'file':24} {paint(answer['status'], colour)}")
    for problem in answer["problems"][:SHOWN_PROBLEMS]:
        print(f"{'':24} byte {problem['offset']:#x}: {problem['what']}")
    print(f"{'lost':24} {answer['lost']}")
    for reason in answer["missing"]:
        print(f"{'missing':24} {clean(reason)}")
    for what in answer["absent"]:
        print(f"{'absent':24} {what}")
    print(f"{'events':24} {answer['total']:>9,}")
    for name, n in answer["events"].items():
        print(f"  {name:22} {n:>9,}")
    _print_resets(answer)


def _print_resets(answer: dict[str, Any]) -> None:
    for reset in answer["resets"][:SHOWN_RESETS]:
        print(f"{'reset':24} {reset['kind']} at event {reset['seq']}")
    more = len(answer["resets"]) - SHOWN_RESETS
    if more > 0:
        print(f"{'':24} and {more:,} more resets, which --json lists")


def _print_beginning(answer: dict[str, Any]) -> None:
    """Say where a trace begins that is a part of one."""
    header = answer["header"]
    if header["first_seq"]:
        state = "its state then" if answer["checkpoint"] else "no state"
        print(f"{'begins':24} with event {header['first_seq']:,}, with {state}")
    if "ring" in header["annotations"]:
        print(f"{'ring written out':24} {clean(header['annotations']['ring'])}")
