"""`itstrace diff`: where two traces of what should be the same boot first differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    EXIT_LOST,
    clean,
    paint,
    print_json,
    progress,
    say,
)
from replay.decode import describe
from replay.diff import WINDOW, Diff, Difference
from replay.diff_items import DEFAULT, IGNORABLE, ORDERS, Item, Items, ignored
from replay.diff_ranges import Part, events_of, parse_part
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER
from tracer.log.opening import AnyReader, open_trace

MAX_DIFFERENCES = 100
MAX_WINDOW = 65_536
_SHOWN = 8  # events of one side of a difference
_LOSS = NUMBER["loss"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("a", metavar="A", help="a trace, or TRACE@reset:N, TRACE@SEQ..SEQ")
    parser.add_argument("b", metavar="B", help="the other")
    parser.add_argument(
        "--ignore", default="", metavar="WORDS",
        help=f"what may differ, too: of {', '.join(IGNORABLE)}; none,WORDS: nothing but these "
        f"(always: {', '.join(word for word in IGNORABLE if word in DEFAULT)})",
    )  # fmt: skip
    parser.add_argument(
        "--compare", default="", metavar="WORDS", help="what is usually ignored, and not here"
    )
    parser.add_argument(
        "--order", choices=ORDERS, default="device",
        help="what must come in the same order: what concerns one device or one redistributor, "
        "what one CPU did, or everything (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=int, default=WINDOW, metavar="N",
        help="events that others may be overtaken by (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true",
        help=f"go on behind the first difference, up to {MAX_DIFFERENCES}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


class _Source:
    """The items of one part of a trace, and what limits what is said of it."""

    def __init__(self, reader: AnyReader, part: Part, items: Items) -> None:
        self.reader = reader
        self.part = part
        self._items = items
        self.lost = 0
        self.unknown: set[int] = set()
        self.count = 0

    def __iter__(self) -> Iterator[Item]:
        for seq, event in events_of(self.reader, self.part):
            self.count += 1
            self.lost += event[0] == _LOSS
            if event[0] < ev.FIRST_OUTPUT and event[0] not in ev.KINDS:
                self.unknown.add(event[0])
            yield from self._items.of(seq, event)
        yield from self._items.end()

    def caveats(self) -> list[str]:
        """Return a sentence for everything that limits what was said."""
        name = self.reader.name
        found = [f"{name}: byte {each.offset:#x}: {each.what}" for each in self.reader.problems]
        if self.lost:
            found.append(f"{name}: events are missing in {self.lost} places")
        if self.unknown:
            kinds = ", ".join(map(ev.kind_name, sorted(self.unknown)))
            found.append(f"{name}: inputs of a newer itstrace ({kinds}) are compared as numbers")
        return found


def run(options: argparse.Namespace) -> int:
    """Compare; 0 the same, 1 different, 2 wrong usage, 3 damaged, 4 cannot judge."""
    ignore = ignored(options.ignore, options.compare)
    if not 1 <= options.window <= MAX_WINDOW:
        raise UsageError(f"--window must be 1 to {MAX_WINDOW}, not {options.window}")
    parts = parse_part(options.a), parse_part(options.b)
    if parts[0].path == parts[1].path == "-":
        raise UsageError("only one of the two can be standard input")
    with open_trace(parts[0].path) as one, open_trace(parts[1].path) as other:
        sources = [
            _Source(reader, part, Items(ignore, options.order))
            for reader, part in zip((one, other), parts, strict=True)
        ]
        a, b = sources
        diff = Diff(
            iter(progress(a, "comparing", every=lambda: a.count)), iter(b),
            window=options.window, most=MAX_DIFFERENCES if options.all else 1,
        )  # fmt: skip
        found = diff.run()
        caveats = [sentence for each in sources for sentence in each.caveats()]
        caveats += _unrelated(one, other)
        if options.json:
            print_json(_json(diff, found, parts, ignore, options) | {"notes": caveats})
        else:
            _print(diff, found, parts)
            for sentence in caveats:
                say(sentence)
        return _code(sources, found, diff.same)


def _unrelated(one: AnyReader, other: AnyReader) -> list[str]:
    """Return a sentence where a difference is likely one of what was recorded, and not of a boot."""
    a, b = (each.header.implementation for each in (one, other))
    return (
        [f"A is of {a}, B of {b}: two implementations differ in nearly all"]
        if a and b and a != b
        else []
    )


def _code(sources: Iterable[_Source], found: list[Difference], same: int) -> int:
    if any(each.reader.status == "damaged" for each in sources):
        return EXIT_LOST
    if found:
        return EXIT_FINDING
    if any(each.lost for each in sources):
        return EXIT_LOST
    return EXIT_CANNOT_JUDGE if not same or any(each.unknown for each in sources) else 0


# -- text


def _print(diff: Diff, found: list[Difference], parts: tuple[Part, Part]) -> None:
    for part, side in zip(parts, "AB", strict=True):
        print(f"{side}: {clean(part.text)}")
    if not found and not diff.same:
        print("nothing was compared: neither has an event that counts")
        return
    if not found:
        print(f"no difference: {diff.same:,} events are the same, {len(diff.renaming):,} renamed")
        return
    first = found[0]
    if diff.last is None:
        print("nothing is the same before it")
    else:
        a, b = diff.last
        print(f"the same in {first.same:,} events, the last {a.seq} of A and {b.seq} of B")
    for each in found:
        _print_difference(each)
    if len(found) == diff.most and diff.most > 1:
        print(f"no more than {diff.most} differences are shown")


def _print_difference(each: Difference) -> None:
    print(paint(f"{each.what}", "bold"))
    for a, b in each.before:
        print(f"    {a.seq:>8} {b.seq:>8}  {clean(describe(a.event))}")
    _print_side("-", each.a, "red")
    _print_side("+", each.b, "green")
    for line in _names(each):
        print(f"    {line}")
    for a, b in zip(each.after_a, each.after_b, strict=False):
        print(f"    {a.seq:>8} {b.seq:>8}  {clean(describe(a.event))}")


def _print_side(sign: str, items: list[Item], colour: str) -> None:
    for item in items[:_SHOWN]:
        where = f"{item.seq:>8} {'':>8}" if sign == "-" else f"{'':>8} {item.seq:>8}"
        print(paint(f"  {sign} {where}  {clean(describe(item.event))}", colour))
    if len(items) > _SHOWN:
        print(f"  {sign} and {len(items) - _SHOWN} more, up to {items[-1].seq}")


def _names(each: Difference) -> Iterator[str]:
    """Say what the names in a difference are bound to, where that is not to each other."""
    for space, a, to_b, b, to_a in each.names:
        word = space[0] if isinstance(space, tuple) else space
        for name, bound, ours, theirs in ((a, to_b, "A", "B"), (b, to_a, "B", "A")):
            if bound is not None and bound != (b if ours == "A" else a):
                yield f"{word}: {name:#x} of {ours} is {bound:#x} of {theirs}"


# -- JSON


def _json(
    diff: Diff,
    found: list[Difference],
    parts: tuple[Part, Part],
    ignore: frozenset[str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    return {
        "schema": "itstrace.diff/1",
        "a": parts[0].text,
        "b": parts[1].text,
        "ignored": sorted(ignore),
        "order": options.order,
        "window": options.window,
        "same": not found,
        "agreed": found[0].same if found else diff.same,
        "last": None if diff.last is None else {"a": diff.last[0].seq, "b": diff.last[1].seq},
        "renamed": len(diff.renaming),
        "differences": [_difference(each) for each in found],
    }


def _difference(each: Difference) -> dict[str, Any]:
    return {
        "what": each.what,
        "a": [_item(item) for item in each.a],
        "b": [_item(item) for item in each.b],
        "before": [{"a": a.seq, "b": b.seq, "event": describe(a.event)} for a, b in each.before],
        "after": {
            "a": [item.seq for item in each.after_a],
            "b": [item.seq for item in each.after_b],
        },
        "renamings": [
            {
                "space": space[0] if isinstance(space, tuple) else space,
                "a": None if a < 0 else hex(a),
                "a_is": None if to_b is None else hex(to_b),
                "b": None if b < 0 else hex(b),
                "b_is": None if to_a is None else hex(to_a),
            }
            for space, a, to_b, b, to_a in each.names
        ],
    }


def _item(item: Item) -> dict[str, Any]:
    return {"seq": item.seq, "event": describe(item.event)}
