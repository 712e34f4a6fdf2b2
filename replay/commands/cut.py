"""`itstrace cut`: a part of a trace as a trace of its own, which replays as it did in the whole."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from replay.commands.common import clean, number, once_only, print_json, progress
from replay.commands.recover import verify_written
from replay.commands.replaying import add_replay_options, make_profile
from replay.cutting import Layout, cut, lay_out
from replay.profiles import Profile
from tracer.errors import UsageError
from tracer.log.header import Header
from tracer.log.opening import create_output, open_trace

PLACE: Final = "%n"  # in the name of an output: the number of the part
_RANGE: Final = re.compile(
    r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})?\.\.(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})?"
)
MAX_PARTS: Final = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--range", metavar="A..B", help="events A to B, with what belongs to them; either may miss"
    )
    which.add_argument(
        "--reset", type=number, metavar="N",
        help="the N-th reset that verify judges, with the life before it and what shows of it",
    )  # fmt: skip
    which.add_argument(
        "--by", choices=("reset",), help="all of it, a file a reset; the output has %%n in it"
    )
    which.add_argument("--vm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", required=True, help="the new trace")
    parser.add_argument("--force", action="store_true", help="overwrite the output")


def run(options: argparse.Namespace) -> int:
    """Write the parts."""
    _check(options)
    with open_trace(options.trace) as reader:
        profile = _profile(reader.header, options)
        layout = lay_out(reader, profile)
    parts = _parts(layout, options)
    if len(parts) > MAX_PARTS:
        raise UsageError(f"{len(parts)} parts are more than {MAX_PARTS}: cut a range first")
    written = []
    for at, part in enumerate(progress(parts, "parts"), 1):
        written.append(_write(options, profile, layout, part, at))
    if options.json:
        print_json({"schema": "itstrace.cut/1", "parts": written})
    else:
        for each in written:
            print(f"{clean(each['output'])}: events {each['first']} to {each['last']}")
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.output == "-" or once_only(options.trace):
        raise UsageError("cut reads a file more than once, and reads again what it wrote")
    if options.vm:
        raise UsageError(
            "a trace is of one VM already: `itstrace import -o 'NAME-%p.itstrace'` makes one for "
            "each VM of a host's capture"
        )
    if (options.by is not None) != (PLACE in options.output):
        raise UsageError(f"--by and {PLACE} in the name of the output belong together")


def _profile(header: Header, options: argparse.Namespace) -> Profile | None:
    """Return what wrote the trace; None where nobody says, which is enough to cut an end off."""
    if options.profile is None and header.profile is None:
        return None
    profile = make_profile(header, options)
    header.profile = header.profile or profile.name
    return profile


def _parts(layout: Layout, options: argparse.Namespace) -> list[range]:
    if options.by:
        return layout.by_reset()
    if options.reset is not None:
        return [layout.of_reset(options.reset)]
    match = _RANGE.fullmatch(options.range)
    if match is None:
        raise UsageError(f"--range must be A..B, not {options.range!r:.40}")
    first, last = (int(each, 0) if each else None for each in match.groups())
    first = layout.first_seq if first is None else first
    behind = layout.next_seq if last is None else last + 1
    if not layout.first_seq < behind or not first < min(behind, layout.next_seq):
        raise UsageError(
            f"there is no event in {options.range}: the trace has {layout.first_seq} to "
            f"{layout.next_seq - 1}"
        )
    return [layout.part(first, behind)]


def _write(
    options: argparse.Namespace, profile: Profile | None, layout: Layout, part: range, at: int
) -> dict[str, Any]:
    output = options.output.replace(PLACE, f"{at:04d}")
    with open_trace(options.trace) as reader:
        if profile is not None:
            make_profile(reader.header, options)  # takes in what the header did not know
            reader.header.profile = reader.header.profile or profile.name
        with create_output(output, force=options.force) as out:
            splice = cut(reader, layout, part, profile, out, output)
    verify_written(output, splice)
    return {"output": output, "first": part.start, "last": part.stop - 1, "events": splice.count}
