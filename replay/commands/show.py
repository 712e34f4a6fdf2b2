"""`itstrace show`: events, decoded, filtered, as text or JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from replay.commands.common import EXIT_LOST, clean, say
from replay.commands.following import each_shown, opened
from replay.decode import decode, describe, to_json
from replay.filter import compile_filter
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log.opening import AnyReader
from tracer.log.text import format_event, write_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form; - for standard input")
    parser.add_argument("-Y", dest="filter", metavar="FILTER", help="only events that pass")
    parser.add_argument(
        "--range", metavar="A..B", help="only events A to B; either may be left out"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="wait for what is written next, until its end"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document a line")
    parser.add_argument("--text", action="store_true", help="the lossless text form")


def run(options: argparse.Namespace) -> int:
    """Print the events; 3 for a damaged file."""
    first, last = _range(options.range)
    passes = compile_filter(options.filter) if options.filter else None
    with opened(options) as reader:
        events = _events(reader, first, last)
        if options.text and passes is None and options.range is None:
            shown = ((seq, event) for seq, _, event in events)
            write_text(reader.header, shown, sys.stdout, reader.checkpoint)
        else:
            _print(events, passes, options)
        for problem in reader.problems:
            say(f"{reader.name}: byte {problem.offset:#x}: {problem.what}")
        return EXIT_LOST if reader.status == "damaged" else 0


def _print(
    events: Iterator[tuple[int, int, Event]],
    passes: Callable[[dict[str, object]], bool] | None,
    options: argparse.Namespace,
) -> None:
    for seq, time_ns, event in events:
        shown = decode(seq, time_ns, event) if passes or options.json else {}
        if passes is not None and not passes(shown):
            continue
        if options.json:
            print(to_json(shown))
        elif options.text:
            print(format_event(seq, event))
        else:
            print(f"{seq:>8} {time_ns / 1e9:>17.6f}  {clean(describe(event))}")


def _events(reader: AnyReader, first: int, last: int | None) -> Iterator[tuple[int, int, Event]]:
    time_ns = 0
    for first_seq, events in each_shown(reader):
        for seq, event in enumerate(events, first_seq):
            time_ns += event[1]
            if last is not None and seq > last:
                return
            if seq >= first:
                yield seq, time_ns, event


def _range(text: str | None) -> tuple[int, int | None]:
    if text is None:
        return 0, None
    start, dots, end = text.partition("..")
    try:
        if dots:
            return int(start or "0", 0), int(end, 0) if end else None
        return int(start, 0), int(start, 0)
    except ValueError as error:
        raise UsageError(f"--range must be A..B, not {text!r:.40}") from error
