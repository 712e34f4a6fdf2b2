"""`itstrace generate`: a seeded life of a VM as a trace, with the answers of a profile's model."""

from __future__ import annotations

import argparse

from replay.commands.common import say
from replay.generator.answers import DEFAULT_EVENTS, generate, header_of
from replay.profiles import Profile, find
from tracer.errors import UsageError
from tracer.events import Event
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.opening import create_output, write_output
from tracer.log.stream import Writer
from tracer.log.text import SUFFIX, write_text

MAX_EVENTS = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seed", type=int, required=True, help="tells the life; same seed, same bytes"
    )
    parser.add_argument("--profile", required=True, help="whose VM it is, and who answers")
    add_events_option(parser)
    parser.add_argument(
        "-o", "--output", required=True, help=f"the trace; NAME{SUFFIX} for its text form"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the output")


def add_events_option(parser: argparse.ArgumentParser) -> None:
    """Declare how long a life is."""
    parser.add_argument(
        "--events", type=int, default=DEFAULT_EVENTS,
        help="inputs and questions of a life, about (default: %(default)s)",
    )  # fmt: skip


def family_of(name: str) -> Profile:
    """Return a profile that lives are generated for.

    Raises:
        UsageError: its family has no generator.
    """
    profile, note = find(name, files=True)
    if profile.family not in ("kvm", "qemu") or profile.name.endswith("-gicv4"):
        raise UsageError(f"lives are generated for linux-* and qemu-* profiles, not {name}")
    if note:
        say(f"itstrace: {note}")
    return profile


def run(options: argparse.Namespace) -> int:
    """Write one life."""
    profile = family_of(options.profile)
    if not 1 <= options.events <= MAX_EVENTS:
        raise UsageError(f"--events must be 1 to {MAX_EVENTS}, not {options.events}")
    header = header_of(options.seed, profile, options.events)
    events = list(generate(options.seed, profile, options.events))
    write_life(options.output, header, events, force=options.force)
    return 0


def write_life(path: str, header: Header, events: list[Event], *, force: bool) -> None:
    """Write a trace whose bytes follow from its events: no clock, and no compressor's version."""
    if path.endswith(SUFFIX):
        import io

        text = io.StringIO()
        write_text(header, enumerate(events), text)
        write_output(path, text.getvalue().encode(), force=force)
        return
    with create_output(path, force=force) as out:
        writer = Writer(out, header, codec=fmt.CODEC_NONE, bound_ms=0, name=path)
        for event in events:
            writer.add(event)
        writer.close()
