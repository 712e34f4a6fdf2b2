"""`itstrace show`: events, decoded, filtered, as text or JSON lines; by what holds after them, too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator

from replay.commands.common import EXIT_LOST, clean, say
from replay.commands.following import each_shown, opened
from replay.commands.replaying import (
    add_cache_option,
    add_model_options,
    make_model,
    opened_timeline,
)
from replay.decode import decode, describe, to_json
from replay.engine import Engine
from replay.filter import compile_filter
from replay.held import Looking, Timed, last_held, shown
from replay.predicate import compile_predicate
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
    parser.add_argument(
        "--when", metavar="EXPR", help="only events after which this holds of the ITS's state"
    )
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--first", action="store_true", help="with --when: the first of them alone")
    ends.add_argument("--last", action="store_true", help="with --when: the last of them alone")
    add_model_options(parser)
    add_cache_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the events; 3 for a damaged file."""
    first, last = _range(options.range)
    passes = compile_filter(options.filter) if options.filter else None
    if options.last:
        first = last = _last(options)
    elif options.first and not options.when:
        raise UsageError("--first is of --when EXPR")
    with opened(options) as reader:
        events = _events(reader, options) if not options.last else _timed(each_shown(reader))
        events = _within(events, first, last)
        if options.text and passes is None and options.range is options.when is None:
            shown = ((seq, event) for seq, _, event in events)
            write_text(reader.header, shown, sys.stdout, reader.checkpoint)
        else:
            _print(events, passes, options)
        for problem in reader.problems:
            say(f"{reader.name}: byte {problem.offset:#x}: {problem.what}")
        return EXIT_LOST if reader.status == "damaged" else 0


def _last(options: argparse.Namespace) -> int:
    """Return the last event after which --when holds; one before all events when there is none."""
    if not options.when or options.filter or options.range or options.follow:
        raise UsageError("--last is of --when EXPR in a whole trace: without -Y, --range and -f")
    predicate = compile_predicate(options.when)
    with opened_timeline(options) as timeline:
        seq = last_held(timeline, predicate)
    return -1 if seq is None else seq


def _print(
    events: Iterator[Timed],
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
        if options.first:
            return


def _events(reader: AnyReader, options: argparse.Namespace) -> Iterator[Timed]:
    """Return all events, or those after which --when holds."""
    if options.when is None:
        return _timed(each_shown(reader))
    predicate = compile_predicate(options.when)
    model = make_model(reader.header, options)
    looking = Looking(predicate, model)
    engine = Engine(reader, model, looking)
    looking.begin(reader.header.first_seq)
    return shown(_undamaged(reader), engine, looking)


def _undamaged(reader: AnyReader) -> Iterator[list[Timed]]:
    """Yield frames of events up to where damage begins: nobody knows the state behind it."""
    time_ns = 0
    for first_seq, events in each_shown(reader):
        if reader.status == "damaged":
            return
        frame = list(_timed([(first_seq, events)], time_ns))
        time_ns = frame[-1][1] if frame else time_ns
        yield frame


def _timed(frames: Iterable[tuple[int, tuple[Event, ...]]], time_ns: int = 0) -> Iterator[Timed]:
    for first_seq, events in frames:
        for seq, event in enumerate(events, first_seq):
            time_ns += event[1]
            yield seq, time_ns, event


def _within(events: Iterator[Timed], first: int, last: int | None) -> Iterator[Timed]:
    for each in events:
        if last is not None and each[0] > last:
            return
        if each[0] >= first:
            yield each


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
