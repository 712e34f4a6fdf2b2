"""`itstrace completion SHELL`: a completion script, made from the verbs' own parsers."""

from __future__ import annotations

import argparse
from importlib import import_module

from replay.cli import VERBS
from replay.commands.common import LazyParser, build_parser


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="whose script")


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    whole = argparse.ArgumentParser(prog="itstrace")
    verbs = whole.add_subparsers(dest="verb")
    for verb, (module, text) in VERBS.items():
        parent = build_parser(verb, text)
        import_module(f"replay.commands.{module}").configure(parent)
        _declare(parent)
        verbs.add_parser(verb, help=text, parents=[parent], add_help=False)
    print(shtab.complete(whole, shell=options.shell))
    return 0


def _declare(parser: argparse.ArgumentParser) -> None:
    """Have the parsers below one declare their options."""
    for action in parser._actions:
        below = action.choices.values() if isinstance(action.choices, dict) else ()
        for each in below:
            if isinstance(each, LazyParser):
                each.declare()
