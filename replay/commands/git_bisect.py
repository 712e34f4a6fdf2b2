"""`--git-bisect` of run, verify and check: one build, told as `git bisect run` wants it.

0 good, 1 bad, 125 for everything else. Only a `Ruled` is a 0 or a 1; `replay.cli` makes 125 of all
other codes, so that no wrong option and no missing file is ever taken for a good or a bad build.
"""

from __future__ import annotations

import argparse

from replay.commands.common import once_only, print_json, say
from replay.commands.replaying import make_profile
from replay.manifest import manifest_path, read_manifest
from replay.ruled import EXIT_SKIP, Ruled
from replay.ruling import BAD, GOOD, Ruling, Signature, parse_signature
from tracer.errors import UsageError
from tracer.log.files import exists, where
from tracer.log.opening import open_trace

_CODES = {GOOD: 0, BAD: 1}


def add_git_bisect(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--git-bisect", action="store_true",
        help="exit 0 for a good build, 1 for a bad one, 125 for one to skip; only the signature "
        "in the trace's manifest is bad",
    )  # fmt: skip
    add_signature(parser)


def add_signature(parser: argparse.ArgumentParser) -> None:
    """Declare --signature."""
    parser.add_argument(
        "--signature", metavar="S", help="what a bad build shows, if not what the manifest says"
    )


def wanted(options: argparse.Namespace) -> Signature:
    """Return the signature that counts: the one given, or the one stored with the trace.

    Raises:
        UsageError: none is known.
    """
    return parse_signature(options.signature or _stored(options.trace))


def _stored(trace: str) -> str:
    if once_only(trace):
        raise UsageError("a trace from standard input has no manifest: give --signature")
    path = manifest_path(where(trace))
    if not exists(path):
        raise UsageError(f"{path}: there is no manifest with a signature: give --signature")
    found = read_manifest(path).bug
    if found is None:
        raise UsageError(f"{path}: it names no signature of a bug: give --signature")
    return found


def rule_on_model(options: argparse.Namespace) -> Ruled:
    """Judge the model that the options make, with every check; tell it, and return its exit code."""
    from replay.builds import of_model

    signature = wanted(options)
    strict = getattr(options, "strict", None) == "bits"
    with open_trace(options.trace) as reader:
        ruling = of_model(reader, make_profile(reader.header, options), signature, strict=strict)
    return conclude(ruling, signature, options)


def conclude(ruling: Ruling, signature: Signature, options: argparse.Namespace) -> Ruled:
    """Tell a ruling, and return its exit code."""
    say(f"itstrace: {sentence(ruling, signature)}")
    if options.json:
        print_json(
            {
                "schema": "itstrace.git_bisect/1",
                "signature": signature.text,
                "verdict": ruling.word,
                "found": list(ruling.found),
                "why": ruling.why or None,
            }
        )
    return Ruled(_CODES.get(ruling.word, EXIT_SKIP))


def sentence(ruling: Ruling, signature: Signature) -> str:
    """Return a ruling in words: what was found, and which of it counts."""
    others = [each for each in ruling.found if not signature.is_met_by(each)]
    beside = f"; found, and not counted: {', '.join(others)}" if others else ""
    if ruling.word == BAD:
        return f"bad: {signature.text} was found{beside}"
    if ruling.word == GOOD:
        return f"good: {signature.text} was looked for, and is not there{beside}"
    return f"skip: {signature.text}: {ruling.why}{beside}"
