"""The verbs as their own parsers declare them, in a form that does not change with Python's argparse.

Counterparts: `tests.support.gendocs` makes a page of them, `tests.support.man` a man page of each.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from replay.cli import EXIT_CODES, VERBS
from replay.commands.common import LazyParser, build_parser

# verb -> the page of docs/ that tells more
PAGES = {
    "import": "capture", "check": "model", "verify": "verdicts", "run": "targets",
    "minimize": "minimize", "export": "export", "record": "capture", "reset": "capture",
    "info": "capture", "show": "time-travel", "state": "time-travel", "blame": "blame-and-diff",
    "diff": "blame-and-diff", "bisect": "bisecting", "doctor": "damaged-traces",
    "recover": "damaged-traces", "migrate": "damaged-traces", "scrub": "damaged-traces",
    "cut": "damaged-traces", "merge": "damaged-traces", "corpus": "ci", "fingerprint": "targets",
    "kernels": "targets", "generate": "targets", "fuzz": "targets", "demo": "first-trace",
    "report": "report",
}  # fmt: skip
SHARED = ("-h", "--log-level")  # every verb has them


@dataclass(frozen=True)
class Entry:
    """An option or an argument: how it is written, and what it does."""

    written: str
    text: str
    required: bool


@dataclass(frozen=True)
class Verb:
    """A verb, or one of its actions: `name` as it is typed, and what its parser knows."""

    name: str
    summary: str
    arguments: tuple[Entry, ...]
    options: tuple[Entry, ...]
    actions: tuple[Verb, ...]
    epilog: str
    usage: str


def every_verb() -> list[Verb]:
    """Return all verbs in the order of `itstrace --help`."""
    return [_verb(name, module, text) for name, (module, text) in VERBS.items()]


def shared_options() -> tuple[Entry, ...]:
    """Return the options that every verb has."""
    return tuple(_entries(build_parser("", "-"), lambda action: action.option_strings))


def exit_codes() -> list[tuple[int, str]]:
    """Return each exit code and what it says."""
    said = EXIT_CODES.partition(":")[2]
    return [(int(code), text) for code, text in re.findall(r"(\d+) ([^,\n]+)", said)]


def _verb(name: str, module: str, text: str) -> Verb:
    parser = build_parser(name, text)
    import_module(f"replay.commands.{module}").configure(parser)
    return _described(name, text, parser)


def _described(name: str, text: str, parser: argparse.ArgumentParser) -> Verb:
    if isinstance(parser, LazyParser):
        parser.declare()
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    told = {choice.dest: choice.help or "" for each in below for choice in each._choices_actions}
    actions = [
        _described(f"{name} {each}", told[each], choice)
        for action in below
        for each, choice in action.choices.items()
    ]
    return Verb(
        name,
        text,
        tuple(_entries(parser, lambda action: not action.option_strings and action not in below)),
        tuple(_entries(parser, _own)),
        tuple(actions),
        "" if parser.epilog in (None, EXIT_CODES) else parser.epilog.strip(),
        " ".join(_usage(name, parser)),
    )


def _usage(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the words of a call: what must be given, and that there is more."""
    yield f"itstrace {name}"
    yield from (_short(action) for action in parser._actions if _own(action) and action.required)
    for group in parser._mutually_exclusive_groups:
        if group.required:
            shown = [each for each in group._group_actions if each.help is not argparse.SUPPRESS]
            yield f"({' | '.join(map(_short, shown))})"
    yield "[OPTION ...]"
    yield from (_value(action) for action in parser._actions if not action.option_strings)


def _short(action: argparse.Action) -> str:
    return f"{action.option_strings[0]} {_value(action)}".strip()


def _own(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.option_strings[0] not in SHARED


def _entries(parser: argparse.ArgumentParser, wanted) -> Iterator[Entry]:
    for action in parser._actions:
        if wanted(action) and action.help is not argparse.SUPPRESS:
            value = _value(action)
            names = [f"{name} {value}".strip() for name in action.option_strings[-1:]]
            names = [*action.option_strings[:-1], *names] or [value]
            text = (action.help or "") % (vars(action) | {"prog": parser.prog})
            yield Entry(", ".join(names), text, action.required)


def _value(action: argparse.Action) -> str:
    """Return how the value of an action is written."""
    if isinstance(action, argparse._SubParsersAction):
        return f"{action.metavar} ..."
    if action.nargs == 0:
        return ""
    name = action.metavar or (action.dest.upper().replace("-", "_"))
    if action.choices is not None and action.metavar is None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    forms = {"?": "[{}]", "*": "[{} ...]", "+": "{0} [{0} ...]", argparse.REMAINDER: "[{} ...]"}
    return forms.get(action.nargs, "{}").format(name)
