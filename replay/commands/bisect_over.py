"""`itstrace bisect TRACE --over TARGET ...`: between which builds of a list does the bug change?

Counterparts: `replay.boundary`, which searches, and `replay.builds`, which judges one build.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from replay.boundary import MAX_BUILDS, Search, everything, halving
from replay.builds import rule
from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    clean,
    once_only,
    paint,
    print_json,
    say,
)
from replay.commands.git_bisect import add_signature, wanted
from replay.kernel_image import banner
from replay.ruling import BAD, CANNOT, GOOD, Ruling, Signature
from replay.targets.errors import TargetError
from replay.targets.spec import FORMS, Spec, Targets, parse
from tracer.errors import UsageError
from tracer.log.opening import open_trace

NOT_ASKED = "not asked"
_COLOUR = {BAD: "red", GOOD: "green"}


def configure_over(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a bisection over builds."""
    parser.add_argument(
        "--over", nargs="+", metavar="TARGET", help=f"builds in order, oldest first: {FORMS}"
    )
    parser.add_argument(
        "--all", action="store_true", help="with --over: ask every build, and trust no order"
    )
    add_signature(parser)


def run(options: argparse.Namespace) -> int:
    """Print each build's ruling and the boundary; 1 when there is one, 4 when there is none."""
    if len(options.over) < 2:
        raise UsageError("--over wants two builds at least, in order, the oldest first")
    if len(options.over) > MAX_BUILDS:
        raise UsageError(f"--over takes {MAX_BUILDS} builds at most")
    specs = [parse(text) for text in options.over]
    signature = wanted(options)
    strict = getattr(options, "strict", None) == "bits"
    asking = _Asking(options.trace, specs, signature, strict=strict)
    search = (everything if options.all else halving)(len(specs), asking)
    if options.json:
        print_json(_json(signature, specs, search))
    else:
        _print(signature, specs, search)
    return EXIT_FINDING if search.changes() else EXIT_CANNOT_JUDGE


class _Asking:
    """Judges one build of the list; one host is up at a time."""

    def __init__(
        self, trace: str, specs: list[Spec], signature: Signature, *, strict: bool
    ) -> None:
        if once_only(trace):
            raise UsageError("a trace is carried out on each build: give a file")
        self._trace = trace
        self._specs = specs
        self._signature = signature
        self._strict = strict
        with open_trace(trace) as reader:
            self._header = reader.header

    def __call__(self, at: int) -> Ruling:
        spec = self._specs[at]
        if sys.stderr.isatty():
            say(f"asking {at + 1} of {len(self._specs)}: {spec.text}")
        try:
            with Targets() as made:
                return rule(
                    made, spec, self._trace, self._header, self._signature, strict=self._strict
                )
        except TargetError as error:
            return Ruling(CANNOT, (), str(error))


def _about(spec: Spec) -> str:
    """Return what a kernel's image says of itself; of others their name says enough."""
    path = Path(spec.rest)
    return banner(path) if spec.kind == "kvm" and path.is_file() else ""


def _print(signature: Signature, specs: list[Spec], search: Search) -> None:
    print(f"{clean(signature.text)}, asked of {len(search.rulings)} of {search.count} builds")
    width = max(len(each.text) for each in specs)
    for at, spec in enumerate(specs):
        ruling = search.rulings.get(at)
        word = ruling.word if ruling else NOT_ASKED
        shown = paint(f"{word:12}", _COLOUR.get(word, "dim"))
        print(f"{at + 1:3}  {shown}  " + clean(f"{spec.text:{width}}  {_about(spec)}").rstrip())
        if ruling and ruling.why:
            print(clean(f"     {ruling.why}"))
        if ruling and ruling.found:
            print(clean(f"     found: {', '.join(ruling.found)}"))
    for change in search.changes():
        print(_change(change, specs, search))
    print(_how_sure(search))


def _change(change: tuple[int, int], specs: list[Spec], search: Search) -> str:
    one, other = change
    between = other - one - 1
    doubt = f", with {between} between them that cannot be judged" if between else ""
    return clean(
        f"from {search.rulings[one].word} to {search.rulings[other].word}{doubt}: "
        f"{one + 1} to {other + 1}, {specs[one].text} to {specs[other].text}"
    )


def _how_sure(search: Search) -> str:
    judged, changes = search.judged(), search.changes()
    if not judged:
        return "no build can be judged"
    rest = search.count - len(search.rulings)
    if not changes:
        who = "all that were judged" if rest == 0 else "both ends"
        more = "" if rest == 0 else "; --all asks the others, too"
        return f"{who} are {search.rulings[judged[0]].word}: there is no boundary{more}"
    if len(changes) > 1:
        return (
            f"it changes {len(changes)} times: the list is not in the order of one change, "
            "as where a fix was brought back to some of the releases and not to others"
        )
    if rest:
        return (
            f"both sides of the boundary were asked, and {len(search.rulings)} of {search.count} "
            "builds: of the others that holds if the list changes once (--all asks them)"
        )
    return "every build was asked, and it changes once"


def _json(signature: Signature, specs: list[Spec], search: Search) -> dict[str, Any]:
    changes = [_as_json(each, search) for each in search.changes()]
    whole = len(search.rulings) == search.count
    return {
        "schema": "itstrace.bisect_over/1",
        "signature": signature.text,
        "builds": [_build(at, spec, search) for at, spec in enumerate(specs)],
        "asked": len(search.rulings),
        "boundary": changes[0] if len(changes) == 1 else None,
        "changes": changes,
        "monotone": len(changes) < 2 if whole else None,
    }


def _as_json(change: tuple[int, int], search: Search) -> dict[str, Any]:
    one, other = change
    return {
        "from": search.rulings[one].word,
        "to": search.rulings[other].word,
        "last": one,
        "first": other,
        "not_judged": list(range(one + 1, other)),
    }


def _build(at: int, spec: Spec, search: Search) -> dict[str, Any]:
    ruling = search.rulings.get(at)
    return {
        "target": spec.text,
        "about": _about(spec) or None,
        "verdict": ruling.word if ruling else NOT_ASKED,
        "found": list(ruling.found) if ruling else [],
        "why": (ruling.why or None) if ruling else None,
    }
