"""`itstrace fingerprint`: which behaviour flags an image has, told by short lives on it."""

from __future__ import annotations

import argparse
import gzip
import re
from pathlib import Path
from typing import Any

from replay.commands.common import clean, paint, print_json
from replay.fingerprint import nearest, read_answers, tell, vectors
from replay.profiles import FLAGS, PROFILES, find
from tracer.errors import SourceError, UsageError
from tracer.log.opening import write_output

MAX_ANSWERS_BYTES = 64 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("target", nargs="?", help="qemu[:BINARY] or kvm[:KERNEL]; none: the table")
    parser.add_argument("--profile-out", metavar="FILE.toml", help="write the flags as a profile")
    parser.add_argument("--force", action="store_true", help="overwrite FILE.toml")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--vectors", action="store_true", help="print the lives as operation vectors")
    what.add_argument("--answers", help="tell flags from what an image answered to the lives")
    parser.add_argument("--profile", help="with --vectors: leave out what would kill that host")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Print the lives, the flags of an image, or the table of profiles."""
    if options.target:
        _measure(options)
    elif options.vectors:
        profile = find(options.profile, files=True)[0] if options.profile else None
        print("\n".join(vectors(profile)))
    elif options.answers:
        _told(options)
    else:
        _table(as_json=options.json)
    return 0


def _measure(options: argparse.Namespace) -> None:
    """Run the lives on a target and print one line of flags."""
    from replay.measure import about, measured, told
    from replay.profile_file import format_profile
    from replay.targets.spec import Targets, parse

    spec = parse(options.target)
    if spec.kind == "model":
        raise UsageError("a model's flags are in its profile: give qemu[:BINARY] or kvm[:KERNEL]")
    with Targets() as made:
        image = about(made, spec)
        found = measured(made, spec)
    start = nearest(found, spec.kind)
    flags = told(found, start)
    name = _name(spec.kind, image)
    if options.profile_out:
        if not options.profile_out.endswith(".toml"):
            raise UsageError("a profile is a file NAME.toml")
        profile = format_profile(name, start, image, flags)
        write_output(options.profile_out, profile.encode(), force=options.force)
    if options.json:
        print_json(
            {
                "schema": "itstrace.fingerprint/1", "name": name, "image": image,
                "nearest": start.name, "flags": flags,
            }
        )  # fmt: skip
        return
    words = " ".join(
        f"{flag}={'?' if value is None else str(value).lower()}" for flag, value in flags.items()
    )
    other = [
        flag for flag, value in flags.items() if value not in (None, getattr(start.choices, flag))
    ]
    as_known = f"as {start.name}" + (f" but for {', '.join(other)}" if other else "")
    print(f"{name} ({clean(image)}): {as_known}: {words}")


def _name(kind: str, image: str) -> str:
    """Return a profile's name for an image: Debian's version tells more than the release."""
    version = re.search(r"Debian ([0-9]+\.[0-9]+\.[0-9]+)", image) if kind == "kvm" else None
    release = re.match(r"[0-9A-Za-z.+~-]{1,40}", image)
    number = version[1] if version else release[0] if release else "unknown"
    return f"{'linux' if kind == 'kvm' else kind}-{number}"


def _told(options: argparse.Namespace) -> None:
    found = read_answers(_read(options.answers).splitlines(), options.answers)
    start = nearest(found)
    told = tell(found, start)
    if options.json:
        print_json({"schema": "itstrace.fingerprint/1", "nearest": start.name, "flags": told})
        return
    print(f"nearest profile: {start.name}")
    for name, value in told.items():
        known = getattr(start.choices, name)
        text = "not told" if value is None else str(value).lower()
        print(f"{name:44} {text:8} {'' if value in (None, known) else f'({start.name}: {known})'}")


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_ANSWERS_BYTES)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(path) as packed:
                data = packed.read(MAX_ANSWERS_BYTES)
        return data.decode()
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _table(*, as_json: bool) -> None:
    """Print flag x profile; read values in parentheses."""
    table: dict[str, dict[str, Any]] = {}
    for family, rows in FLAGS.items():
        profiles = [each for each in PROFILES.values() if each.family == family]
        for row in rows:
            table[row.name] = {
                each.name: [getattr(each.choices, row.name), each.known(row.name)]
                for each in profiles
            }
    if as_json:
        print_json({"schema": "itstrace.flags/1", "flags": table})
        return
    for family, rows in FLAGS.items():
        names = [each.name for each in PROFILES.values() if each.family == family]
        shorts = [name.removeprefix("linux-").removeprefix("qemu-") for name in names]
        print(paint(f"{family}: measured, or (read)", "bold"))
        print(" " * 42, *(f"{short:>12}" for short in shorts))
        for row in rows:
            cells = (table[row.name][name] for name in names)
            print(f"{row.name:42}", *(f"{_cell(*cell):>12}" for cell in cells))


def _cell(value: Any, known: str) -> str:
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    return text if known == "measured" else f"({text})"
